"""A network that knows where labels usually are: it looks an atlas up at the place of each voxel.

The atlas is part of the network's state, so it travels wherever the weights do, and each fold has that of its own
training cases. In training each sample may bring another, without its own case. As ``channel`` its frequencies are
further channels of the input. As ``product`` they are multiplied with the probabilities, which adds their logarithms to
the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlite.data.labels import Labels
from nnlite.networks.unet_2015 import centre
from nnlite.planning.prior import Prior
from nnlite.preprocessing.places import PLACE_CHANNELS

LEAST_FREQUENCY = 1e-3  # of a structure or of background: nothing is impossible


class WithAtlas(nn.Module):
    """A network behind an atlas (structures, z, y, x) of frequencies.

    Its input is (batch, image channels, then three places, then others, *size); see ``places.py``. A network without
    padding answers for all but a ``margin`` of what it sees. Where the border of instances is learned, it is as
    frequent at a place as the label that it is a part of.
    """

    atlas: Tensor

    def __init__(
        self,
        network: nn.Module,
        prior: Prior,
        labels: Labels,
        *,
        image_channels: int,
        margin: Sequence[int] = (),
    ):
        super().__init__()
        self.network, self.use = network, prior.use
        self.image_channels, self.regions, self.margin = image_channels, bool(labels.painted), tuple(margin)
        self.with_border = labels.border_index is not None
        self.register_buffer("atlas", torch.zeros(len(labels.structures), *prior.atlas_shape))

    def take(self, atlas: np.ndarray) -> None:
        """Use this atlas (structures, z, y, x) of frequencies from now on."""
        self.atlas.copy_(torch.from_numpy(atlas))

    def forward(self, batch: Tensor, atlases: Tensor | None = None) -> Tensor | list[Tensor]:
        """What the network answers to the image, the atlas and the other channels, or its answers times the atlas.

        ``atlases`` (batch, structures, z, y, x) take the place of the network's own, one for each sample.
        """
        begin, end = self.image_channels, self.image_channels + PLACE_CHANNELS
        image, places, others = batch[:, :begin], batch[:, begin:end], batch[:, end:]
        if self.use == "channel":
            return self.network(torch.cat((image, self.frequencies(places, atlases).to(image.dtype), others), dim=1))
        outputs = self.network(torch.cat((image, others), dim=1))
        prior = self._log_prior(self.frequencies(self._answered(places), atlases))
        if isinstance(outputs, Tensor):
            return outputs + prior
        return [logits + _at_size(prior, logits) for logits in outputs]

    def frequencies(self, places: Tensor, atlases: Tensor | None = None) -> Tensor:
        """Frequencies (batch, structures, *size) at places (batch, 3, *size); ``atlases`` as in ``forward``."""
        flat = places.ndim == 4
        where = (places.unsqueeze(2) if flat else places).float().movedim(1, -1).flip(-1)  # x first, as torch has it
        if atlases is None:
            atlases = self.atlas.expand(len(places), *self.atlas.shape)
        # places run from 1 to 2, torch's from -1 to 1
        found = functional.grid_sample(atlases.float(), 2 * where - 3, padding_mode="border", align_corners=False)
        return found.squeeze(2) if flat else found

    def _answered(self, places: Tensor) -> Tensor:
        """Those of the places that the network has an answer for."""
        sizes = zip(places.shape[2:], self.margin, strict=True) if self.margin else ()
        return centre(places, [size - 2 * margin for size, margin in sizes])

    def _log_prior(self, frequencies: Tensor) -> Tensor:
        """What is added to the logits of labels that exclude each other, background first, or of regions."""
        inside = frequencies.clamp(LEAST_FREQUENCY, 1 - LEAST_FREQUENCY)
        if self.regions:
            return inside.logit()
        outside = (1 - frequencies.sum(dim=1, keepdim=True)).clamp_min(LEAST_FREQUENCY)
        border = (inside,) if self.with_border else ()  # instances are those of a single structure
        return torch.cat((outside, inside, *border), dim=1).log()


def _at_size(prior: Tensor, logits: Tensor) -> Tensor:
    """The prior as deep supervision sees it at a coarser level."""
    if prior.shape[2:] == logits.shape[2:]:
        return prior
    return functional.interpolate(prior, list(logits.shape[2:]), mode="area")
