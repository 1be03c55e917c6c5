"""What a plan is asked to be, and the decision once the dataset is known: planned anew, or taken from another plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnlite.data.labels import Labels
from nnlite.data.records import read_record
from nnlite.errors import PlanError, UsageError
from nnlite.pipeline.instance_request import LABELS_DECIDE, InstanceRequest
from nnlite.pipeline.machine import device_name, gpu_memory_gib, has_gpu
from nnlite.planning.cost import require_within_memory
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.hu_channels import HuRange, hu_channels, parse_masks, parse_windows
from nnlite.planning.network import NOTHING_ASKED, OF_NNUNET, NetworkChoice, NetworkOptions, Residual
from nnlite.planning.nnunet import Planner
from nnlite.planning.normalization import normalization_scheme
from nnlite.planning.override import SIZE, Override, override, parse_override
from nnlite.planning.planner import Device, Plan, Preset, make_plan
from nnlite.planning.prior import PriorUse, plan_prior
from nnlite.planning.topology import KERNEL
from nnlite.planning.transfer import transfer
from nnlite.planning.variants import as_variant

if TYPE_CHECKING:
    from nnlite.interop.nnunet_transfer import NnunetPlans

PLANNERS: dict[Residual | None, Planner] = {None: "plain", "M": "residual-M", "L": "residual-L", "XL": "residual-XL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """How to plan: for which device and network, or after which other plan; and what was decided by hand."""

    device: Device
    memory_gib: float | None
    planner: Planner
    preset: Preset
    network: NetworkChoice
    other: Plan | None
    overrides: tuple[Override, ...]
    nnunet: NnunetPlans | None = None
    hu_ranges: tuple[HuRange, ...] = ()
    prior: PriorUse | None = None
    instances: InstanceRequest = LABELS_DECIDE

    @property
    def leaves_size_open(self) -> bool:
        """Whether patch and batch may follow a measurement: nothing else has decided them."""
        by_hand = any(change.key in SIZE for change in self.overrides)
        return self.preset == "nnlite" and self.device == "cuda" and not self.follows and not by_hand

    @property
    def follows(self) -> bool:
        """Whether another plan, nnlite's or nnU-Net's, brings the device and all decisions."""
        return self.other is not None or self.nnunet is not None

    def require_channels(self, channels: Sequence[str]) -> None:
        """PlanError if something is asked for that cannot be made of these channels."""
        hu_channels(self.hu_ranges, [name for name in channels if normalization_scheme(name) == "ct"], channels)
        if not self.follows:
            self.network.of_channels(channels)

    def decide(
        self,
        fingerprint: Fingerprint,
        *,
        dataset: str,
        channels: Sequence[str],
        labels: Labels,
        corrections: Mapping[int, float] | None = None,
    ) -> Plan:
        """The plan for a dataset; PlanError if there can be none, or none within the memory.

        ``corrections`` are those of ``make_plan``. A plan made with them is left for a measurement to judge; one that
        follows another is judged by the prediction, corrected as the other's steps were measured.
        """
        labels, why = self.instances.decide(labels, None if self.other is None else self.other.labels)
        if self.nnunet is not None:
            from nnlite.interop.nnunet_transfer import transfer_nnunet

            plan = transfer_nnunet(self.nnunet, fingerprint, dataset=dataset, channels=channels, labels=labels)
        elif self.other is not None:
            plan = transfer(self.other, fingerprint, dataset=dataset, channels=channels, labels=labels)
        else:
            plan = make_plan(
                fingerprint,
                dataset=dataset,
                channels=channels,
                labels=labels,
                device=self.device,
                memory_gib=self.memory_gib,
                planner=self.planner,
                preset=self.preset,
                network=self.network,
                corrections=corrections,
                hu_ranges=self.hu_ranges,
                prior=None if self.prior is None else plan_prior(self.prior, fingerprint),
            )
        if why:
            plan = replace(plan, reasons={**plan.reasons, "instances": why})
        plan = override(plan, self.overrides, relative_size=fingerprint.median_relative_size_after_crop)
        if not corrections:  # plain predictions would refuse what turned out to need less
            require_within_memory(plan)
        return plan


def plan_request(
    *,
    device: str = "auto",
    memory_gib: float | None = None,
    preset: Preset | None = None,
    residual: Residual | None = None,
    network: NetworkOptions = NOTHING_ASKED,
    from_plan: Path | None = None,
    from_nnunet: Path | None = None,
    overrides: Sequence[str] = (),
    hu_windows: str | None = None,
    hu_masks: str | None = None,
    prior: PriorUse | None = None,
    instances: InstanceRequest = LABELS_DECIDE,
) -> PlanRequest:
    """A request whose parts fit together; UsageError where they do not, before any case is read."""
    by_hand = tuple(map(parse_override, overrides))
    hu_ranges = (*parse_windows(hu_windows or ""), *parse_masks(hu_masks or ""))
    if (hu_ranges or prior) and (from_plan is not None or from_nnunet is not None or preset == "nnunet"):
        option = "--preset nnunet" if preset == "nnunet" else "--from" if from_nnunet is None else "--from-nnunet"
        raise UsageError(f"{option} decides what a network sees; leave out --hu-windows, --hu-masks and --prior")
    if from_plan is not None and from_nnunet is not None:
        raise UsageError("--from and --from-nnunet both name the plan to follow; give one of them")
    if from_plan is not None or from_nnunet is not None:
        option = "--from" if from_nnunet is None else "--from-nnunet"
        if (device, memory_gib, preset, residual, network) != ("auto", None, None, None, NOTHING_ASKED):
            raise UsageError(
                f"{option} takes device, memory and network from the other plan; leave out --device, --gpu-memory, "
                "--preset, --residual, --architecture, --kernel, --checkpointing, --fusion and --stem"
            )
    if from_nnunet is not None:
        from nnlite.interop.nnunet_transfer import read_nnunet_plans  # loads torch, which other plans do without

        return PlanRequest(
            device="cuda",
            memory_gib=None,
            planner="plain",
            preset="nnunet",
            network=NetworkChoice(),
            other=None,
            overrides=by_hand,
            instances=instances,
            nnunet=read_nnunet_plans(from_nnunet),
        )
    if from_plan is not None:
        other = as_variant(read_plan_file(from_plan), None)
        return PlanRequest(
            device=other.device,
            memory_gib=other.memory_gib,
            planner=other.planner,
            preset=other.preset,
            network=other.network,
            other=other,
            overrides=by_hand,
            instances=instances,
        )
    chosen = preset or "nnlite"
    asked = network.choice(residual)
    if chosen == "nnunet" and not asked.is_of_nnunet:
        raise UsageError(
            f"--preset nnunet plans exactly what nnU-Net would: --architecture {' or '.join(OF_NNUNET)}, kernels of "
            f"{KERNEL} voxels, no checkpointing, one encoder and a plain stem; leave out --preset"
        )
    target, memory_gib = _target(device, memory_gib, chosen)
    return PlanRequest(
        device=target,
        memory_gib=memory_gib,
        planner=PLANNERS[residual or ("M" if asked.architecture == "resenc" else None)],
        preset=chosen,
        network=asked,
        other=None,
        overrides=by_hand,
        hu_ranges=hu_ranges,
        prior=prior,
        instances=instances,
    )


def read_plan_file(path: Path) -> Plan:
    """The plan in a file, or in the plan.json of a folder."""
    return read_record(path / "plan.json" if path.is_dir() else path, Plan, error=PlanError)


def _target(device: str, memory_gib: float | None, preset: Preset) -> tuple[Device, float | None]:
    """Device to plan for and its memory; None leaves the memory to the planner."""
    if preset == "nnunet" and device == "cpu":
        raise UsageError("--preset nnunet has plans for GPUs only; leave it out to plan with --device cpu")
    if memory_gib is not None and device == "cpu":
        raise UsageError("--gpu-memory plans for a GPU, and --device is cpu: leave one of them out")
    if device in ("auto", "cuda") and (preset == "nnunet" or memory_gib is not None):
        return "cuda", memory_gib  # for a GPU of that size, be it in this machine or in another
    if device == "cuda" and not has_gpu():
        raise UsageError("torch sees no CUDA GPU here; to plan for one elsewhere, add --gpu-memory GB, its size")
    if device_name(device) == "cpu":
        return "cpu", None
    return "cuda", gpu_memory_gib()
