"""The command line: arguments in, one pipeline call per verb, what was decided and where it lies out.

The pipeline, and torch with it, is imported inside each command, so that ``nnlite --help`` answers at once. Every error
a user can cause ends as one message on stderr and exit status 2; Ctrl-C ends calmly with 130 and says how to go on.
"""

from __future__ import annotations

import errno
import logging
import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from nnlite import cli_output as show
from nnlite.errors import NnliteError, UsageError

if TYPE_CHECKING:
    from nnlite.pipeline.plan_request import Residual
    from nnlite.planning.gpu import Preset

WRONG_INPUT = 2  # exit status of everything a user can repair, as for a misspelt option
INTERRUPTED = 130  # what shells report for Ctrl-C
ARGUMENTS = "nnlite.arguments"  # where the arguments wait for the message that tells how to go on

CONFIGURATIONS = ("2d", "3d", "3d-lowres", "3d-cascade")
FOLDS = ("fold0", "fold1", "fold2", "fold3", "fold4", "all")
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}


class CalmGroup(TyperGroup):
    """Turns what can go wrong on a user's machine into one message and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember the arguments as they were typed."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; only errors of nnlite itself keep their traceback."""
        try:
            return super().invoke(ctx)
        except NnliteError as error:
            _give_up(str(error))
        except KeyboardInterrupt:
            show.warn(f"\ninterrupted; finished work is kept. To go on: {_continuation(ctx.meta[ARGUMENTS])}")
            raise typer.Exit(INTERRUPTED) from None
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            _give_up(
                f"not enough memory ({str(error).splitlines()[0] if str(error) else 'the system gave none'}); "
                "close other programs, or plan for less with: nnlite plan DATASET --gpu-memory GB"
            )
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            where = f"{error.filename}: " if error.filename else ""
            _give_up(f"{where}{error.strerror}; repair this and run the same command again, finished work is kept")


def _give_up(message: str) -> NoReturn:
    show.error(message)
    raise typer.Exit(WRONG_INPUT) from None


def _out_of_memory(error: Exception) -> bool:
    """Whether numpy, the CPU or the GPU ran out of memory; torch has its own names for it and is not imported here."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    )


def _continuation(arguments: tuple[str, ...]) -> str:
    resume = ["--resume"] if arguments[:1] == ("train",) and "--resume" not in arguments else []
    return shlex.join(["nnlite", *arguments, *resume])


def parse_duration(text: str) -> float:
    """Seconds in "90s", "15m", "2h" or "1h30m".

    >>> parse_duration("1h30m")
    5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    seconds = sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds == 0:
        raise UsageError(f'"{text}" is not a duration; write for example 90s, 15m, 2h or 1h30m')
    return seconds


def one_of(names: Sequence[str], *, what: str, where: str) -> Callable[[str], str]:
    """A parser that gives back a name as it is if it is one of ``names``; else UsageError names them all.

    >>> one_of(("auto", "cpu"), what="device", where="--device")("cpu")
    'cpu'
    """

    def parse(name: str) -> str:
        if name not in names:
            raise UsageError(f'there is no {what} "{name}"; {where} is one of {", ".join(names)}')
        return name

    return parse


parse_configuration = one_of(CONFIGURATIONS, what="configuration", where="CONFIG")
parse_fold = one_of(FOLDS, what="fold", where="FOLD")
parse_device = one_of(("auto", "cpu", "cuda"), what="device", where="--device")
parse_preset = one_of(("nnlite", "nnunet"), what="preset", where="--preset")
parse_residual = one_of(("M", "L", "XL"), what="residual encoder", where="--residual")


def _log_more(wanted: bool) -> None:
    if wanted:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("nnlite").setLevel(logging.INFO)  # not of the libraries: they have much to say


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show.line(f"nnlite {version('nnlite')}")
        raise typer.Exit


app = typer.Typer(
    cls=CalmGroup,
    name="nnlite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DatasetPath = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the dataset, or its list of cases.")]
Work = Annotated[
    Path,
    typer.Option("--work", metavar="DIR", envvar="NNLITE_WORK", help="Workspace: where nnlite keeps what it makes."),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", parser=parse_device, help="Where networks run.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_log_more, help="Tell more about what is being done.")
]
ConfigurationName = Annotated[
    str,
    typer.Argument(metavar="CONFIG", parser=parse_configuration, help=f"One of {', '.join(CONFIGURATIONS)}."),
]
DEFAULT_WORK = Path("nnlite_work")


@app.callback()
def nnlite(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Self-configuring segmentation of medical images: plan, train, predict, evaluate."""


@app.command()
def check(dataset: DatasetPath, work: Work = DEFAULT_WORK, verbose: Verbose = False) -> None:
    """Read every case of a dataset and list all its faults at once."""
    from nnlite import pipeline

    with show.progress_bars() as progress:
        report = pipeline.check(dataset, work=work, progress=progress)
    show.check_report(report)
    report.raise_if_faulty()


@app.command()
def plan(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder of the dataset, or its list of cases.")
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option("--gpu-memory", metavar="GB", min=1.0, help="Memory to plan for. [default: this GPU's, else 8]"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", parser=parse_preset, help="nnunet: exactly as nnU-Net plans. [default: nnlite]"),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(metavar="M|L|XL", parser=parse_residual, help="A deep residual encoder instead of the plain one."),
    ] = None,
    from_plan: Annotated[
        Path | None, typer.Option("--from", metavar="OTHER_PLAN", help="Take all decisions from another plan.json.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONFIG.KEY=VALUE", help="Decide by hand, as 3d.patch_size=96,96,96."),
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
        str | None, typer.Option(metavar="NAME", help="With --fingerprint: the dataset. [default: the file's folder]")
    ] = None,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Check a dataset, then decide spacing, patch, batch and network, each with its reason."""
    if (dataset is None) == (fingerprint is None):
        raise UsageError("plan a DATASET, or a finished fingerprint with --fingerprint FILE: one of the two")
    if fingerprint is None and (labels, channels, name) != (None, None, None):
        raise UsageError("--labels, --channels and --name belong to --fingerprint; a DATASET names its own")
    if fingerprint is not None and (labels is None or channels is None):
        raise UsageError(
            "--fingerprint needs --labels N (background included) and --channels NAME,NAME: it names neither"
        )
    from nnlite import pipeline

    options: dict[str, Any] = {
        "work": work,
        "device": device,
        "memory_gib": gpu_memory,
        "preset": cast("Preset | None", preset),
        "residual": cast("Residual | None", residual),
        "from_plan": from_plan,
        "overrides": overrides or (),
    }
    if fingerprint is not None and labels is not None and channels is not None:
        names = [channel.strip() for channel in channels.split(",")]
        result = pipeline.plan_fingerprint(fingerprint, labels=labels, channels=names, name=name, **options)
    else:
        assert dataset is not None
        with show.progress_bars() as progress:
            result = pipeline.plan(dataset, progress=progress, **options)
    show.plan(result)
    if explain:
        show.reasons(result.plan)


@app.command()
def preprocess(
    dataset: DatasetPath,
    configurations: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG", parser=parse_configuration, help="Default: all that were planned."),
    ] = None,
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Make the cases ready for training (train does it when it is missing)."""
    from nnlite import pipeline

    with show.progress_bars() as progress:
        folders = pipeline.preprocess(dataset, configurations or (), work=work, progress=progress)
    for name, folder in folders.items():
        show.line(f"{name}: cases ready -> {folder}")


@app.command()
def train(
    dataset: DatasetPath,
    configuration: ConfigurationName,
    folds: Annotated[list[str], typer.Argument(metavar="FOLD", parser=parse_fold, help="fold0 .. fold4, or all.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Training steps per epoch.")] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=parse_duration, help="Fit the training to 90s, 15m, 2h ... per fold."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same random numbers.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")] = False,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Train one configuration on one or more folds; predict and score the held-out cases of each."""
    if epochs is not None and time_budget is not None:
        raise UsageError("--epochs and --time-budget both set the length of the training; give one of them")
    from nnlite import pipeline

    for fold in folds:
        with show.progress_bars() as progress:
            results = pipeline.train(
                dataset,
                configuration,
                (fold,),
                work=work,
                epochs=epochs,
                iterations=iterations,
                time_budget_s=time_budget,
                seed=seed,
                resume=resume,
                device=device,
                progress=progress,
                on_epoch=partial(progress.epoch, f"{configuration} {fold}"),
            )
        show.training(results)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A dataset with trained runs, or a run's folder.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Images, or folders of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for the masks.")],
    folds: Annotated[
        str | None, typer.Option(metavar="FOLD,FOLD", help="Average these folds. [default: all that are trained]")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", parser=parse_configuration, help="Which trained configuration to use."),
    ] = None,
    mirroring: Annotated[
        bool, typer.Option("--mirroring/--no-mirroring", help="Average over mirrored images: slower, a little better.")
    ] = True,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Keep each label's probability, too.")] = False,
    device: Device = "auto",
    work: Work = DEFAULT_WORK,
    verbose: Verbose = False,
) -> None:
    """Segment raw images; each mask has the geometry and the format of its image."""
    names = tuple(parse_fold(name) for name in folds.split(",")) if folds else ()
    from nnlite import pipeline

    with show.progress_bars() as progress:
        result = pipeline.predict(
            model,
            inputs,
            output,
            work=work,
            configuration=config,
            folds=names,
            mirroring=mirroring,
            device=device,
            probabilities=probabilities,
            progress=progress,
        )
    show.prediction(result, output)


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True masks: a file or a folder.")],
    prediction: Annotated[Path, typer.Argument(metavar="PREDICTION", help="Predicted masks of the same names.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="Folder for the scores as CSV and JSON.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Compare masks with the truth: Dice, IoU, sensitivity, precision and volumes."""
    from nnlite import pipeline

    with show.progress_bars() as progress:
        scores = pipeline.evaluate(truth, prediction, output=output, progress=progress)
    show.scores(scores, output)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for everything the demo makes.")] = Path(
        "nnlite_demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Draws other phantoms, and another network.")] = 0,
) -> None:
    """Draw phantoms, then plan, train, predict and evaluate on them: the whole way in minutes, without data."""
    from nnlite import demo as recipe
    from nnlite.data.phantom import write_phantom

    demonstration = recipe.Demo(folder=out, seed=seed)
    demonstration.claim()
    with show.progress_bars() as progress:
        write_phantom(demonstration.dataset, cases=recipe.TRAINING_CASES, seed=seed, progress=progress)
        write_phantom(demonstration.test, cases=recipe.TEST_CASES, seed=seed, prefix="test", progress=progress)
    show.line(f"{recipe.TRAINING_CASES} phantom abdomens to train on -> {demonstration.dataset}")
    show.line(f"{recipe.TEST_CASES} more to test with -> {demonstration.test}")
    for arguments in demonstration.commands():
        show.command_line(["nnlite", *arguments])
        status = app(arguments, standalone_mode=False)
        if status:
            raise typer.Exit(status)
    show.demo(demonstration)


def main() -> None:
    """The command ``nnlite``."""
    app(prog_name="nnlite")
