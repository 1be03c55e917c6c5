"""Which voxels make a batch: draw a case, a place, a pose and flips, and read only what that patch needs.

How a patch is moved (``augmentation/spatial.py``) is drawn before anything is read, so that samples that keep their
pose cost one patch of reading, and the others the box that their turned patch covers. Turning, deforming and flipping
is left to ``assemble.py``, on the device that trains. Proportions follow nnU-Net (Isensee et al., Nature Methods 2021),
but for batches of one sample (docs/decisions/batches-of-one.md).

The loader is a batchgenerators data loader: transforms of a user's own, written for batchgenerators, are run on every
patch through its ``Compose`` before it goes to the device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.transforms.abstract_transforms import Compose

from nnlite.data.faults import named_in_errors
from nnlite.errors import UsageError
from nnlite.planning.mirroring import Exchange, exchange
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.mirrored_borders import read_mirrored
from nnlite.preprocessing.open_cases import OpenCases
from nnlite.preprocessing.places import places
from nnlite.preprocessing.store import StoredCase
from nnlite.training.augmentation.spatial import (
    STILL,
    Motion,
    Placing,
    before_turn,
    draw_motion,
    region_size,
    turned,
)

RANDOM_SHARE = 0.67  # of each batch lies anywhere; the rest on a labelled voxel, so that rare labels are seen at all
BATCHGENERATORS = threading.Lock()  # its transforms draw from numpy's global random numbers: one thread at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is drawn of a sample before anything is read: a box of a case (first voxel and voxels per axis), and more.

    ``start`` and ``size`` have three axes, also in 2D. ``motion`` is what becomes of the box; ``seed`` is for the
    transforms of a user's own, None where there are none.
    """

    case_id: str
    start: tuple[int, ...]
    size: tuple[int, ...]
    motion: Motion
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One sample as it was read.

    ``image`` (channels, *region) float32, ``label`` (*region) label indices, ``previous`` the same for the input of a
    cascade; they may be views of a case's own arrays, so nothing is written to them. ``pose`` is None where the region
    is the patch itself; otherwise it maps voxel offsets from the centre of the patch to offsets from the centre of the
    region: an (ndim, ndim) matrix, axes ordered like the array. ``displacements`` (ndim, *grid) in voxels of the region
    come on top of it, None for none. ``flips`` are the spatial axes along which the patch is still to be mirrored;
    labels that this exchanges already are. ``drawn`` (channels,) bool is that of the case.
    """

    case_id: str
    image: np.ndarray
    label: np.ndarray
    previous: np.ndarray | None = None
    pose: np.ndarray | None = None
    displacements: np.ndarray | None = None
    flips: tuple[int, ...] = ()
    drawn: np.ndarray | None = None


def read_region(volume: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A box of the trailing axes of ``volume``: a view where it lies inside, else a copy with 0 for what is outside.

    >>> read_region(np.arange(1, 5), (-1,), (3,))
    array([0, 1, 2])
    """
    leading = volume.ndim - len(size)
    box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
    if all(b.start >= 0 and b.stop <= n for b, n in zip(box, volume.shape[leading:], strict=True)):
        return volume[(slice(None),) * leading + box]
    region = np.zeros(volume.shape[:leading] + tuple(size), dtype=volume.dtype)
    source, target = [slice(None)] * leading, [slice(None)] * leading
    for first, length, available in zip(start, size, volume.shape[leading:], strict=True):
        low, high = max(first, 0), min(first + length, available)
        if low >= high:
            return region
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    region[tuple(target)] = volume[tuple(source)]
    return region


def draw_start(
    rng: np.random.Generator, shape: Sequence[int], patch_size: Sequence[int], centre: Sequence[int] | None
) -> tuple[int, ...]:
    """First voxel of a patch: around ``centre`` where one is given, else anywhere.

    The patch stays inside the image; where the image is smaller than the patch, the image lies in its middle.
    """
    start = []
    for axis, (size, window) in enumerate(zip(shape, patch_size, strict=True)):
        if size <= window:
            start.append(-((window - size) // 2))
        elif centre is None:
            start.append(int(rng.integers(0, size - window + 1)))
        else:
            start.append(min(max(int(centre[axis]) - window // 2, 0), size - window))
    return tuple(start)


class PatchLoader(SlimDataLoaderBase):
    """An endless batchgenerators data loader over preprocessed cases; each batch is a list of ``Patch``.

    A network without padding sees ``margin`` voxels more on either side of a patch, where it gives no answer: regions
    are larger by as much, and mirrored where they reach beyond the case. Places are drawn for the patch without them.

    ``placing`` tells how patches are turned, deformed and flipped; without it every patch is as it lies in its case
    (validation). ``exchange`` tells which labels change places in a patch that is flipped. ``with_places`` adds to the
    channels of an image where in it each voxel lies, for networks with an atlas. ``draw`` makes a batch a function of
    the random numbers it is given, whatever was drawn before, so that several threads may draw at a time. ``reseed``
    does the same for the run of batches that ``next`` gives. ``in_memory`` keeps all cases in memory.

    ``transforms`` are batchgenerators transforms (or callables like them) that keep the size of what they are given:
    ``data`` (1, channels, *region) and ``seg`` (1, maps, *region), the maps being the label and, in a cascade, the
    low-resolution prediction. They see patches before their flips and their pose, one patch at a time.
    """

    def __init__(
        self,
        cases: Mapping[str, StoredCase],
        *,
        patch_size: Sequence[int],
        batch_size: int,
        placing: Placing | None = None,
        margin: Sequence[int] = (),
        exchange: Exchange | None = None,
        with_places: bool = False,
        transforms: Sequence[Callable[..., dict]] = (),
        in_memory: bool = False,
    ):
        super().__init__(OpenCases(cases, in_memory=in_memory), batch_size)
        self.in_memory = in_memory
        self.case_ids = sorted(cases)
        self.patch_size = tuple(patch_size)
        self.mirrored_borders = any(margin)
        self.seen_size = tuple(
            size + 2 * more for size, more in zip(patch_size, margin or (0,) * len(patch_size), strict=True)
        )
        self.flat = len(self.patch_size) == 2  # slices: patches one voxel deep whose first axis is dropped
        self.placing, self.exchange = placing, exchange
        self.restorations = {case_id: case.restoration for case_id, case in cases.items()} if with_places else {}
        self.compose = Compose(list(transforms))
        self.rng = np.random.default_rng()

    @classmethod
    def of(
        cls,
        plan: Plan,
        configuration: Configuration,
        cases: Mapping[str, StoredCase],
        *,
        placing: Placing | None = None,
        transforms: Sequence[Callable[..., dict]] = (),
        in_memory: bool = False,
    ) -> PatchLoader:
        """The loader of what the network of a configuration sees of these cases."""
        return cls(
            cases,
            patch_size=configuration.patch_size,
            batch_size=configuration.batch_size,
            placing=placing,
            margin=configuration.topology.margin,
            exchange=exchange(plan, configuration),
            with_places=plan.prior is not None,
            transforms=transforms,
            in_memory=in_memory,
        )

    def reseed(self, *seed: int) -> None:
        """Make all that follows a function of these numbers."""
        self.rng = np.random.default_rng(seed)

    def generate_train_batch(self) -> list[Patch]:
        """The next batch, as batchgenerators asks for it."""
        return self.draw(self.rng)

    def draw(self, rng: np.random.Generator) -> list[Patch]:
        """Draw one batch: random places first, places forced to hold foreground last."""
        return [self.read(place) for place in self.draw_places(rng)]

    def draw_places(self, rng: np.random.Generator, pool: Sequence[str] | None = None) -> list[Place]:
        """Draw one batch without reading its voxels: of a batch that is shared each process reads its part.

        ``pool`` are the cases that it is drawn from, by default all.
        """
        pool = self.case_ids if pool is None else pool
        return [self._draw(pool, rng, forced=forced) for forced in self._forced(rng)]

    def _forced(self, rng: np.random.Generator) -> list[bool]:
        """Which samples of a batch are forced to hold foreground: the last ones, or the only one now and then."""
        if self.batch_size == 1:
            return [rng.random() >= RANDOM_SHARE]
        return [index >= round(self.batch_size * RANDOM_SHARE) for index in range(self.batch_size)]

    def _draw(self, pool: Sequence[str], rng: np.random.Generator, *, forced: bool) -> Place:
        case_id = pool[int(rng.integers(len(pool)))]
        with named_in_errors(f"case {case_id}"):
            return self._draw_from(case_id, rng, forced=forced)

    def _draw_from(self, case_id: str, rng: np.random.Generator, *, forced: bool) -> Place:
        case = self._data[case_id]
        motion = STILL if self.placing is None else draw_motion(rng, self.seen_size, self.placing)
        centre = None
        if case.locations is not None:  # where only some voxels are labelled, every patch is to hold some of them
            centre = (case.locations.draw(rng) if forced else None) or case.locations.draw_annotated(rng)
        window = before_turn(self.patch_size, motion.turn)
        size = before_turn(region_size(self.seen_size, motion.pose, motion.displacements), motion.turn)
        if self.flat:
            window, size = (1, *window), (1, *size)
        start = draw_start(rng, case.image.shape[1:], window, centre)
        start = tuple(first - (more - less) // 2 for first, more, less in zip(start, size, window, strict=True))
        seed = int(rng.integers(2**32)) if self.compose.transforms else None
        return Place(case_id=case_id, start=start, size=size, motion=motion, seed=seed)

    def listed_channels(self, places: Sequence[Place]) -> int:
        """How many channels a network has, where a list says what is drawn in one of the cases; else 0."""
        lists = (self._data[place.case_id].drawn for place in places)
        return next((len(drawn) for drawn in lists if drawn is not None), 0)

    def read(self, place: Place) -> Patch:
        """Read the voxels of a place."""
        with named_in_errors(f"case {place.case_id}"):
            return self._read(place)

    def _read(self, place: Place) -> Patch:
        case = self._data[place.case_id]
        maps = [volume for volume in (case.label, case.previous) if volume is not None]
        read = read_mirrored if self.mirrored_borders else read_region
        image, *maps = (read(volume, place.start, place.size) for volume in (case.image, *maps))
        if self.flat:
            image, *maps = image[:, 0], *(volume[0] for volume in maps)
        motion = place.motion
        image, *maps = (turned(volume, motion.turn, len(self.patch_size)) for volume in (image, *maps))
        if place.seed is not None:
            image, maps = self._transformed(image, maps, seed=place.seed)
        if self.restorations:
            image = np.concatenate([image, self._places(place)])
        drawn = case.drawn
        if self.exchange is not None and self.exchange.axis in motion.flips:
            drawn = None if drawn is None else self.exchange.of_channels(drawn)
            tables = (self.exchange.indices, self.exchange.previous)
            maps = [np.array(table, dtype=volume.dtype)[volume] for table, volume in zip(tables, maps, strict=False)]
        label, previous = maps[0], maps[1] if len(maps) > 1 else None
        return Patch(
            case_id=place.case_id,
            image=image,
            label=label,
            previous=previous,
            pose=motion.pose,
            displacements=motion.displacements,
            flips=motion.flips,
            drawn=drawn,
        )

    def _places(self, place: Place) -> np.ndarray:
        """Where in the whole image the voxels of a place lie: (3, *region)."""
        mirrored, restoration = self.mirrored_borders, self.restorations[place.case_id]
        where = places(restoration, place.start, place.size, mirrored=mirrored)
        return turned(where[:, 0] if self.flat else where, place.motion.turn, len(self.patch_size))

    def _transformed(
        self, image: np.ndarray, maps: Sequence[np.ndarray], *, seed: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Run the user's own transforms on what was read."""
        seg = np.stack(maps)
        with BATCHGENERATORS:
            np.random.seed(seed)
            changed = self.compose(data=np.array(image[None]), seg=seg[None])  # transforms may write to what they get
        image_after, seg_after = (np.ascontiguousarray(changed[key][0]) for key in ("data", "seg"))
        if image_after.shape != image.shape or seg_after.shape != seg.shape:
            raise UsageError(
                f"the transforms turned an image of shape {image.shape} into {image_after.shape}, label maps of shape "
                f"{seg.shape} into {seg_after.shape}; here sizes must stay, leave out transforms that crop or resize"
            )
        # batchgenerators' own may return numbers of other types, its SpatialTransform float32 label maps
        labels = [after.astype(before.dtype, copy=False) for after, before in zip(seg_after, maps, strict=True)]
        return image_after.astype(image.dtype, copy=False), labels
