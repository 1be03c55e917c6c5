"""A network that learns: one optimisation step, one look at a validation batch, and its state.

A batch that does not fit into memory is run in parts whose gradients add up, and a step whose loss or gradient is no
number is left out. Processes that train together each have a learner: all of them take the same step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlite.networks.blocks import draw_dropout_for_all
from nnlite.training.answer import LABELS, Answer, Drawn, Part
from nnlite.training.assemble import Batch
from nnlite.training.average import Average
from nnlite.training.compiled import compiled_if_faster
from nnlite.training.config import AUTOCAST, Precision, TrainConfig, full_range_precision
from nnlite.training.initial_weights import encoder_weights
from nnlite.training.loss import Loss, deep_supervision_loss
from nnlite.training.parts import Parts
from nnlite.training.ranks import ALONE, Ranks
from nnlite.training.skipped_steps import FALL_BACK_AFTER, SkippedSteps

logger = logging.getLogger(__name__)


class Learner:
    """Network, optimiser and precision of one training. ``step`` does not wait for the device."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        *,
        batch_dice: bool,
        device: torch.device,
        answer: Answer = LABELS,
        ranks: Ranks = ALONE,
    ):
        self.network, self.config, self.device = network, config, device
        self.forward = network  # or its compiled form, which shares its weights
        self.batch_dice, self.answer, self.loss = batch_dice, answer, Loss.named(config.loss)
        self.share_done = 0.0  # of the training: some losses change with it
        self.optimizer = build_optimizer(network, config)
        self.precision = config.precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.average = None if config.ema is None else Average(network, config.ema)
        self.frozen: tuple[str, ...] = ()
        self.ranks, self.skipped = ranks, SkippedSteps()
        self.parts = Parts(device, divisible=ranks.count == 1)

    @property
    def shown(self) -> nn.Module:
        """The network that is validated and kept: with the averaged weights, where they are averaged."""
        return self.network if self.average is None else self.average.network

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights in the place of those that were drawn; those of the encoder may be held for the first epochs."""
        self.network.load_state_dict(dict(weights), strict=False)
        if self.config.freeze_encoder:
            named = dict(self.network.named_parameters())
            self.frozen = tuple(name for name in encoder_weights(named) if name in weights)

    def hold_encoder(self, epoch: int) -> None:
        """Keep the frozen weights as they are in the first epochs, and let them learn from then on."""
        learns = epoch >= self.config.freeze_encoder
        for name in self.frozen:
            weight = self.network.get_parameter(name)
            weight.requires_grad_(learns)
            if learns and self.config.optimizer == "sgd":  # older states have none of a weight that was held
                self.optimizer.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))

    def step(self, batch: Batch, learning_rate: float, *, number: int = 0) -> Tensor:
        """One step of the optimiser, the epoch's ``number``; returns the loss of the batch before it.

        Where loss or gradient is no number the weights stay as they are, ``skipped`` takes note, and 0 is returned.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self.parts.run(batch, self._gradient)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        left_out = ~loss.isfinite()
        if self.scaler.is_enabled():  # it leaves out steps whose gradients overflow, and then scales them less
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            left_out |= ~norm.isfinite()
            step_unless(left_out, self.optimizer)
        if self.average is not None:
            self.average.follow(self.network)
        self.skipped.note(number, batch.cases, left_out)
        return loss.masked_fill(left_out, 0.0)

    def _gradient(self, parts: list[Batch]) -> Tensor:
        """Gradients of a batch, given in parts, anew; returns its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        samples, total = sum(len(part.images) for part in parts), torch.zeros((), device=self.device)
        for part in parts:
            with self._precision():
                outputs = self._outputs(self.forward, part)
            loss = self._loss(outputs, part) * (len(part.images) / samples)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.ranks.add_gradients(self.network)
        return total

    def _outputs(self, network: nn.Module, batch: Batch) -> Any:
        """What the network, compiled or not, says of a batch that it learns from, which may bring atlases along."""
        if self.ranks.count > 1:
            samples = len(batch.cases)  # those of other processes included
            draw_dropout_for_all(self.network, self.ranks.share(samples).first, samples)
        return network(batch.images) if batch.atlases is None else network(batch.images, batch.atlases)

    def _loss(self, outputs: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss of a batch, the samples of other processes included."""
        part = Part(fraction=batch.fraction, total=self.ranks.total)
        return deep_supervision_loss(
            outputs,
            batch.labels,
            self.answer,
            batch.drawn,
            batch_dice=self.batch_dice,
            part=part,
            loss=self.loss,
            maps=batch.maps,
            share_done=self.share_done,
        )

    def look_for_skipped(self, where: str) -> int:
        """How many steps were left out since the last look; float16 is given up where they repeat."""
        found = self.skipped.look(where)
        if self.precision == "fp16" and self.skipped.total >= FALL_BACK_AFTER:
            self._use_precision(full_range_precision(self.device))
            logger.warning(
                "%s: float16 has overflowed %d times; going on in %s", where, FALL_BACK_AFTER, self.precision
            )
            self.skipped.total = 0
        return found

    def _use_precision(self, precision: Precision) -> None:
        self.precision = precision
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def compile_if_faster(self, batch: Batch) -> None:
        """From now on take steps with the compiled network, if it works and is faster on a batch like this one."""

        def try_out(module: nn.Module) -> float:
            with self._precision():
                outputs = self._outputs(module, batch)
            loss = self._loss(outputs, batch)
            loss.backward()
            return float(loss.detach())  # waits for the device

        self.network.train()
        before = random_state(self.device)
        self.forward = compiled_if_faster(self.network, try_out)
        set_random_state(self.device, before)  # as if nothing had been tried: dropout draws from it
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of a validation batch, and the ``overlap_counts`` of the samples that are here.

        The network must be in evaluation mode.
        """
        return self.parts.run(batch, self._seen)

    def _seen(self, parts: list[Batch]) -> tuple[Tensor, Tensor]:
        """What ``look`` tells of a batch that is given in parts."""
        samples = sum(len(part.images) for part in parts)
        losses, counts = [], []
        for part in parts:
            with self._precision():
                logits = self.shown(part.images)
            losses.append(self._loss([logits], part) * (len(part.images) / samples))
            counts.append(overlap_counts(logits, part.labels, self.answer, part.drawn))
        return torch.stack(losses).sum(), torch.stack(counts).sum(dim=0)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs of this object."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "precision": self.precision,
            "parts": self.parts.number,
            "skipped": self.skipped.state(),
            "average": None if self.average is None else self.average.state(),
            "frozen": list(self.frozen),
            "random": random_state(self.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._use_precision(state["precision"])
        self.scaler.load_state_dict(state["scaler"])
        self.parts.number = state["parts"] if self.parts.divisible else 1
        self.skipped.restore(state["skipped"], self.device)
        if self.average is not None:
            self.average.restore(state["average"])
        self.frozen = tuple(state["frozen"])
        if state["random"].shape == random_state(self.device).shape:
            set_random_state(self.device, state["random"])
        else:  # a CPU draws by other rules than a GPU, and neither can go on with the other's
            logger.warning(
                "the state was saved on another kind of device; training goes on on %s, where sums are rounded "
                "otherwise and dropout is drawn anew",
                self.device.type,
            )

    def _precision(self) -> torch.autocast:
        dtype = AUTOCAST[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)


def random_state(device: torch.device) -> Tensor:
    """State of torch's own random numbers on a device, from which dropout draws."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Let torch's random numbers go on from there."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.cpu(), device)
    else:
        torch.set_rng_state(state.cpu())


def step_unless(left_out: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """A step of a fused optimiser unless a truth value, which may still be on its way from the device, says no.

    Fused optimisers ask for it themselves, under the names by which torch's ``GradScaler`` tells them.
    """
    optimizer.grad_scale, optimizer.found_inf = None, left_out.float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum as in nnU-Net, or AdamW (Loshchilov and Hutter, ICLR 2019).

    Fused, that is in one pass over the weights: on two CPU cores four times as fast as one tensor after the other, and
    on a GPU a step in float16 then never waits to learn whether its gradients are finite. Momentum begins at 0, which
    is what the formula says of the first step: fused, SGD would otherwise find whatever lies in memory where that step
    was left out, and it wants the momentum of all weights or of none.
    """
    weights, rate, decay = network.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        momentum = config.momentum
        sgd = torch.optim.SGD(weights, lr=rate, momentum=momentum, nesterov=True, weight_decay=decay, fused=True)
        for weight in network.parameters():
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    return torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=True)


def overlap_counts(logits: Tensor, target: Tensor, answer: Answer = LABELS, drawn: Drawn = None) -> Tensor:
    """True positives, predicted voxels and target voxels of each structure, as (3, structures) int64.

    ``logits`` (batch, channels, *size), ``target`` (batch, *size) label indices. Background is no structure. What is
    not ``drawn`` in a sample is not counted there.

    >>> overlap_counts(torch.tensor([[[3.0, 0.0, 0.0], [0.0, 3.0, 3.0]]]), torch.tensor([[0, 0, 1]]))
    tensor([[1],
            [2],
            [1]])
    """
    channels, known = logits.shape[1], answer.known(target)
    if answer.regions is not None:
        predicted, wanted = logits > 0, answer.wanted(target, channels)
        if known is not None:
            predicted, wanted = predicted & known[:, None], wanted & known[:, None]
        if drawn is not None:
            judged = drawn.view(*drawn.shape, *(1,) * (logits.ndim - 2))
            predicted, wanted = predicted & judged, wanted & judged
        axes = (0, *range(2, logits.ndim))
        return torch.stack([mask.sum(axes) for mask in (predicted & wanted, predicted, wanted)])
    rows = channels + (answer.ignore is not None)  # the last one for what is ignored
    pairs = torch.zeros(rows * channels, dtype=torch.int64, device=target.device)
    said = logits.argmax(dim=1)
    if drawn is not None:  # a label that is not drawn may be right: as little to be counted as background
        said = said * drawn.gather(1, said.flatten(1)).view_as(said)
    cells = (target * channels + said).flatten()
    # not bincount: it waits for a GPU to learn how many cells there are
    pairs = pairs.scatter_add_(0, cells, torch.ones_like(cells)).view(rows, channels)[:channels]
    return torch.stack((pairs.diagonal(), pairs.sum(dim=0), pairs.sum(dim=1)))[:, 1:]


def pseudo_dice(counts: Tensor) -> tuple[float | None, ...]:
    """Dice per structure from summed ``overlap_counts``; None where it is in neither.

    >>> pseudo_dice(torch.tensor([[2, 0], [4, 0], [4, 0]]))
    (0.5, None)
    """
    hits, predicted, target = counts.double().tolist()
    return tuple(2 * h / (p + t) if p + t else None for h, p, t in zip(hits, predicted, target, strict=True))
