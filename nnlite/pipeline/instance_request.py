"""What a plan is asked to do about instances, and the decision once the labels are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import UsageError

InstanceChoice = Literal["border", "rim", "distance", "none"]
BORDER_PX = 3  # of each of two objects with up to two pixels between them
RIM_PX = 1  # wider ones leave nothing of small nuclei to begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRequest:
    """``choice`` is how instances come apart, None to leave it to the dataset; ``border_px`` the width of the border.

    Where the dataset does not say what its instances are, they are the connected parts of its label.
    """

    choice: InstanceChoice | None = None
    border_px: int | None = None

    def __post_init__(self) -> None:
        if self.border_px is not None and self.border_px < 1:
            raise UsageError(
                f"--border-width {self.border_px}: at least 1 pixel; without a border, --instances distance"
            )
        if self.border_px is not None and self.choice in ("distance", "none"):
            raise UsageError(f"--border-width belongs to --instances border and rim, and --instances is {self.choice}")

    def decide(self, labels: Labels, other: Labels | None) -> tuple[Labels, str | None]:
        """The labels with what is decided about their instances, and the reason; None where nobody speaks of any.

        ``other`` are the labels of a plan to follow: what it decided holds where nothing else is asked for, and a width
        alone is that of its border or rim.
        """
        followed = None if other is None else other.instances
        if self == LABELS_DECIDE and other is not None:
            return _as_followed(labels, followed)
        if self.choice == "none" or (labels.instances is None and self == LABELS_DECIDE):
            if labels.numbered:
                raise UsageError('--instances none: the dataset\'s "instances" are "numbered", there is no other label')
            reason = None if labels.instances is None else "--instances none: the parts of the mask are not told apart"
            return replace(labels, instances=None), reason
        told = "--instances" if labels.instances is None else '"instances" in nnlite.json'
        known = Instances(numbered=labels.numbered)
        choice = self.choice or ("rim" if followed is not None and followed.rim else "border")
        if choice == "distance":
            reason = "the plain mask is split where it is narrow; no border is learned"
            return _labels_with(labels, known), f"{told}: {reason}"
        if choice == "rim":
            width = self.border_px or RIM_PX
            reason = f"objects come apart by a border class, the outer {width} pixels of each of them"
            return _labels_with(labels, replace(known, border_px=width, rim=True)), f"{told}: {reason}"
        width = self.border_px or BORDER_PX
        reason = f"objects that nearly touch come apart by a border class, what is within {width} pixels of another one"
        return _labels_with(labels, replace(known, border_px=width)), f"{told}: {reason}"


LABELS_DECIDE = InstanceRequest()
"""A border class where the dataset says that its labels have instances."""


def _as_followed(labels: Labels, followed: Instances | None) -> tuple[Labels, str | None]:
    """What a plan decided, for label maps of this dataset's kind."""
    why = "as in the plan that this one follows"
    if followed is None and not labels.numbered:
        return replace(labels, instances=None), None if labels.instances is None else why
    kept = followed or Instances()  # numbers cannot be read without; the mask alone is learned, as in the plan
    return _labels_with(labels, replace(kept, numbered=labels.numbered)), why


def _labels_with(labels: Labels, instances: Instances) -> Labels:
    try:
        return replace(labels, instances=instances)
    except ValueError as error:
        raise UsageError(f"--instances: {error}") from error
