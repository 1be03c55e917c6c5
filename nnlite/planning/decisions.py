"""What a network was made by: whether networks of two plans are of one kind, whatever else the plans hold.

Numbers in, numbers out. Folds are trained one by one, for days, and a plan may be made again in between.
"""

from __future__ import annotations

from dataclasses import replace

from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.network import NetworkChoice
from nnlite.planning.planner import Plan

NOT_USED = IntensityProperties(mean=0, median=0, std=0, min=0, max=0, percentile_00_5=0, percentile_99_5=0)


def decisions(plan: Plan, name: str) -> Plan:
    """The part of a plan that the networks of a configuration are made by; where it is equal, they are folds of a kind.

    Such may be averaged and cross-validated together: they get the same images, are built and trained alike, and answer
    the same. What counts is the configuration and those that it starts from (the masks of a cascade's first stage are
    its images), and of the plan as a whole what images are made of (channels, windows, grid, order of axes, intensities
    that normalise), what answers mean (labels, atlas), and the dataset.

    What does not count:

    - other configurations: no image passes through them
    - reasons, which are words, and measurements: they change with each probe and with each nnlite
    - device, memory, preset and network as they were asked for, the number of cases, median shapes: whatever came of
      them stands in the configuration
    - whether stages are computed twice: the gradients are the same
    - whether images have sizes: it follows from them, and plans from before it was told have them all so
    - intensities of channels that are normalised by each image's own: they change with any label that is corrected

    These are set to values that stand for nothing. A field that is not named here counts: what is new had better keep
    folds apart that belong together than the other way round.
    """
    stages = {name: plan.configuration(name)}
    while (before := next(reversed(stages.values())).previous_stage) is not None:
        stages[before] = plan.configuration(before)
    by_dataset = {
        channel for one in stages.values() for channel, scheme in enumerate(one.normalization) if scheme == "ct"
    }
    return replace(
        plan,
        device="cpu",
        memory_gib=None,
        planner="plain",
        preset="nnlite",
        network=NetworkChoice(),
        training_cases=0,
        intensities=tuple(
            known if channel in by_dataset else NOT_USED for channel, known in enumerate(plan.intensities)
        ),
        configurations={stage: _as_decided(one) for stage, one in stages.items()},
        reasons={},
        sized_images=True,
    )


def _as_decided(configuration: Configuration) -> Configuration:
    """What is decided of a configuration, without how that came about, and written in one way only."""
    return replace(
        configuration,
        median_shape=(1.0,) * configuration.topology.ndim,
        topology=replace(configuration.topology, checkpointing=False),
        mirror_axes=configuration.mirrored_axes,
        measured=None,
        correction=1.0,
        reasons={},
    )
