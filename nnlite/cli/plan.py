"""``nnlite plan``: decide spacing, patch, batch and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nnlite.cli import screen
from nnlite.cli.arguments import (
    ARCHITECTURES,
    DEFAULT_WORK,
    Device,
    ResampleChannelsTo,
    Verbose,
    Work,
    parse_architecture,
    parse_fusion,
    parse_instances,
    parse_preset,
    parse_prior,
    parse_residual,
    parse_stem,
)
from nnlite.errors import UsageError

if TYPE_CHECKING:
    from nnlite.pipeline import PlanResult
    from nnlite.pipeline.instance_request import InstanceChoice
    from nnlite.planning.network import Fusion, Residual
    from nnlite.planning.planner import Plan, Preset
    from nnlite.planning.prior import PriorUse
    from nnlite.planning.topology import Architecture, Stem, Topology

NOT_IN_A_FINGERPRINT = {
    "--splits": "has no cases to hold out",
    "--resample-channels-to": "has no images",
    "--prior": "does not tell whether images are aligned",
    "--instances": "has no label maps",
    "--border-width": "has no label maps",
    "--as": "has no trainings to tell apart",
    "--from-nnunet": "is planned as nnU-Net would with --preset nnunet",
}


def plan(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder of the dataset, or its list of cases.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GB", min=1.0, help="Plan for a GPU of this size. \\[default: this one]"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", parser=parse_preset, help="nnunet: exactly as nnU-Net plans. \\[default: nnlite]"),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(metavar="M|L|XL", parser=parse_residual, help="A deep residual encoder instead of the plain one."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(metavar="NAME", parser=parse_architecture, help=f"{', '.join(ARCHITECTURES)}. \\[default: unet]"),
    ] = None,
    kernel: Annotated[
        int | None, typer.Option(metavar="N", help="Voxels that a convolution looks at: 3, 5 or 7. \\[default: 3]")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute stages twice: for larger patches on a GPU.")
    ] = False,
    fusion: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", parser=parse_fusion, help="separate: each channel has an encoder. \\[default: early]"
        ),
    ] = None,
    stem: Annotated[
        str | None,
        typer.Option(metavar="NAME", parser=parse_stem, help="multi-scale: begin with kernels of 3, 5 and 7 at once."),
    ] = None,
    from_plan: Annotated[
        Path | None, typer.Option("--from", metavar="OTHER_PLAN", help="Take all decisions from another plan.json.")
    ] = None,
    from_nnunet: Annotated[
        Path | None,
        typer.Option("--from-nnunet", metavar="PLANS_JSON", help="Train nnU-Net's own plan: its plans.json."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONFIG.KEY=VALUE", help="Decide by hand, as 3d.patch_size=96,96,96."),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option("--splits", metavar="FILE", help="Your own folds, as in nnU-Net's splits_final.json."),
    ] = None,
    resample_channels_to: ResampleChannelsTo = None,
    hu_windows: Annotated[
        str | None,
        typer.Option(metavar="NAME,LOW:HIGH", help="Windows that CT brings as further channels, as lung,-160:240."),
    ] = None,
    hu_masks: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH", help="Masks that CT brings as further channels, as 200: for 200 HU and more."),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="channel|product", parser=parse_prior, help="Use an atlas of the labels of aligned images."
        ),
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(
            metavar="border|rim|distance|none", parser=parse_instances, help="How to tell single objects apart."
        ),
    ] = None,
    border_width: Annotated[
        int | None,
        typer.Option("--border-width", metavar="PIXELS", help="Of --instances border or rim. \\[default: 3, 1]"),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Plan a variant beside the plan there is: train it as 3d@NAME."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each decision with its numbers.")] = False,
    fingerprint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plan without a dataset from nnlite's or nnU-Net's fingerprint."),
    ] = None,
    labels: Annotated[
        int | None, typer.Option(metavar="N", help="With --fingerprint: number of labels, background included.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="With --fingerprint: the channels, as CT or T1,T2.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --fingerprint: the dataset. \\[default: the file's folder]")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Measure a training step where the planned device is here.")
    ] = True,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Check a dataset, then decide spacing, patch, batch and network, each with its reason."""
    if (dataset is None) == (fingerprint is None):
        raise UsageError("plan a DATASET, or a finished fingerprint with --fingerprint FILE: one of the two")
    if fingerprint is None and (labels, channels, name) != (None, None, None):
        raise UsageError("--labels, --channels and --name belong to --fingerprint; a DATASET names its own")
    if fingerprint is not None:
        _refuse_of_a_dataset(
            {
                "--splits": splits,
                "--resample-channels-to": resample_channels_to,
                "--prior": prior,
                "--instances": instances,
                "--border-width": border_width,
                "--as": variant,
                "--from-nnunet": from_nnunet,
            }
        )
    if fingerprint is not None and (labels is None or channels is None):
        raise UsageError(
            "--fingerprint needs --labels N (background included) and --channels NAME,NAME: it names neither"
        )
    from nnlite import pipeline
    from nnlite.planning.network import NetworkOptions

    options: dict[str, Any] = {
        "work": work,
        "device": device,
        "memory_gib": gpu_memory,
        "preset": cast("Preset | None", preset),
        "residual": cast("Residual | None", residual),
        "network": NetworkOptions(
            architecture=cast("Architecture | None", architecture),
            kernel=kernel,
            checkpointing=checkpointing,
            fusion=cast("Fusion | None", fusion),
            stem=cast("Stem | None", stem),
        ),
        "from_plan": from_plan,
        "overrides": overrides or (),
        "hu_windows": hu_windows,
        "hu_masks": hu_masks,
    }
    if fingerprint is not None and labels is not None and channels is not None:
        names = [channel.strip() for channel in channels.split(",")]
        result = pipeline.plan_fingerprint(fingerprint, labels=labels, channels=names, name=name, **options)
    else:
        assert dataset is not None
        with screen.progress_bars() as progress:
            result = pipeline.plan(
                dataset,
                from_nnunet=from_nnunet,
                splits=splits,
                resample_channels_to=resample_channels_to,
                prior=cast("PriorUse | None", prior),
                instances=cast("InstanceChoice | None", instances),
                border_px=border_width,
                variant=variant,
                probe=probe,
                progress=progress,
                **options,
            )
    _show_plan(result)
    if explain:
        _show_reasons(result.plan)


def _refuse_of_a_dataset(options: Mapping[str, Any]) -> None:
    """``UsageError`` for the first of these options that was given, which a fingerprint cannot follow."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} belongs to a DATASET; a fingerprint {NOT_IN_A_FINGERPRINT[option]}")


def _show_plan(result: PlanResult) -> None:
    """The planned configurations, what they cost, what to know about them, and where the plan lies."""
    planned = result.plan
    memory = f", {planned.memory_gib:g} GiB" if planned.memory_gib is not None else ""
    screen.line(f"{planned.dataset}: {planned.training_cases} cases, planned for {planned.device}{memory}")
    _show_networks(planned)
    _show_costs(planned, result.trainings)
    for note in result.notes:
        screen.line(note)
    screen.line(f"plan, with the reason for each decision -> {result.path}")


def _show_networks(planned: Plan) -> None:
    """What each configuration sees, and the network that looks at it."""
    from nnlite.planning.cost import parameters

    table = screen.table("config", "network", "spacing (mm)", "patch", "batch", "width", "stages", "parameters")
    for configuration in planned.configurations.values():
        topology = configuration.topology
        table.add_row(
            configuration.name,
            _network(topology),
            _times(configuration.spacing_mm, ".2f"),
            _times(configuration.patch_size),
            str(configuration.batch_size),
            f"{topology.features[0]} to {max(topology.features)}",
            str(topology.stages),
            f"{parameters(planned, configuration) / 1e6:.2f} M",
        )
    screen.console().print(table)


def _show_costs(planned: Plan, trainings: int) -> None:
    """What training each configuration takes: memory, time, disk. What was not measured is a dash."""
    from nnlite.planning.cost import costs

    table = screen.table("config", "GiB", "measured", "s/step", "epochs", "h/fold", "h, all folds", "disk GiB")
    every = costs(planned, trainings)
    for name, cost in every.items():
        configuration = planned.configurations[name]
        table.add_row(
            name,
            f"{cost.predicted_gib:.2f}",
            _number(cost.measured_gib, ".2f"),
            _number(cost.step_s, ".3f"),
            f"{configuration.epochs} x {configuration.iterations}",
            _number(cost.fold_h, ".1f"),
            _number(cost.folds_h, ".1f"),
            f"{cost.disk_gib:.2f}",
        )
    hours = [cost.folds_h for cost in every.values() if cost.folds_h is not None]
    if len(every) > 1:
        total_h = sum(hours) if len(hours) == len(every) else None
        disk_gib = sum(cost.disk_gib for cost in every.values())
        table.add_row("all", "", "", "", "", "", _number(total_h, ".1f"), f"{disk_gib:.2f}")
    screen.console().print(table)


def _show_reasons(planned: Plan) -> None:
    """Every decision with its numbers, configuration by configuration."""
    from nnlite.planning.cost import step_gib, step_multiplications

    for what, why in planned.reasons.items():
        screen.line(f"{what}: {why}")
    for name, configuration in planned.configurations.items():
        screen.line(f"\n{name}")
        for what, why in configuration.reasons.items():
            screen.line(f"  {what}: {why}")
        billions = step_multiplications(planned, configuration) / 1e9
        gib = step_gib(planned, configuration)
        screen.line(f"  a training step: {billions:.3g} billion multiplications, {gib:.2f} GiB of tensors predicted")
        if (taken := configuration.measured) is not None:
            screen.line(
                f"  measured on {taken.device} in {taken.precision}, torch {taken.torch_version}: "
                f"{taken.memory_gib:.2f} GiB, {taken.step_s:.3f} s per step"
            )


def _network(topology: Topology) -> str:
    further = {
        "checkpointed": topology.checkpointing,
        f"{len(topology.encoders)} encoders": topology.encoders,
        f"{topology.stem} stem": topology.stem != "plain",
    }
    return ", ".join([topology.architecture, *(what for what, there in further.items() if there)])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _times(values: Sequence[float], form: str = "") -> str:
    return "x".join(format(value, form) for value in values)
