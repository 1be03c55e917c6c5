"""The arguments that commands share, and how their text is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from nnlite.errors import UsageError
from nnlite.planning.variants import CONFIGURATIONS, parted

ARCHITECTURES = ("unet", "resenc", "vnet", "unet++", "attention-unet", "unet-2015")
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}


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


def parse_warm_up(text: str) -> float:
    """Epochs in "5", or in "10%" the share of the training, which is below 1.

    >>> parse_warm_up("5"), parse_warm_up("10%")
    (5.0, 0.1)
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text)
    if match is None or (match[2] and not 0 < float(match[2]) < 100):
        raise UsageError(f'"{text}" is no length of a warm-up; write epochs, as 5, or a part of the training, as 10%')
    return float(match[1]) if match[1] else float(match[2]) / 100


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


def parse_fold(name: str) -> str:
    """A fold's name as it is: fold0, fold1, .. or all. How many there are, the dataset tells.

    >>> parse_fold("fold3")
    'fold3'
    """
    if not re.fullmatch(r"fold\d+|all", name):
        raise UsageError(f'there is no fold "{name}"; FOLD is one of fold0, fold1, fold2, .. or all')
    return name


def parse_folds(name: str) -> str:
    """A fold's name, or "folds" for all that have a number."""
    return name if name == "folds" else parse_fold(name)


def parse_configuration(name: str) -> str:
    """A configuration's name, or that of a variant, as it is.

    >>> parse_configuration("3d@focal")
    '3d@focal'
    """
    kind, _ = parted(name)
    one_of(CONFIGURATIONS, what="configuration", where="CONFIG")(kind)
    return name


parse_device = one_of(("auto", "cpu", "cuda"), what="device", where="--device")
parse_preset = one_of(("nnlite", "nnunet"), what="preset", where="--preset")
parse_prior = one_of(("channel", "product"), what="way to use an atlas", where="--prior")
parse_output_format = one_of(("nifti", "dicom-seg", "rtstruct"), what="format of masks", where="--output-format")
parse_optimizer = one_of(("sgd", "adamw"), what="optimiser", where="--optimizer")
parse_schedule = one_of(
    ("polynomial", "cosine", "step", "plateau", "constant"), what="schedule of the learning rate", where="--schedule"
)
parse_fusion = one_of(("early", "separate"), what="fusion", where="--fusion")
parse_stem = one_of(("plain", "multi-scale"), what="stem", where="--stem")
parse_architecture = one_of(ARCHITECTURES, what="architecture", where="--architecture")
parse_augmentation = one_of(
    ("nnunet", "ct", "mr", "microscopy", "none"), what="preset of augmentation", where="--augmentation"
)
parse_instances = one_of(("border", "rim", "distance", "none"), what="way to tell instances apart", where="--instances")
parse_residual = one_of(("M", "L", "XL"), what="residual encoder", where="--residual")


def _log_more(wanted: bool) -> None:
    if wanted:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("nnlite").setLevel(logging.INFO)  # not of the libraries: they have much to say


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
Cluster = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Spread the work over a dask cluster: tcp://HOST:PORT, a scheduler's JSON file, local, or none.",
    ),
]
ConfigurationName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", parser=parse_configuration, help=f"{', '.join(CONFIGURATIONS)}, or a variant as 3d@NAME."
    ),
]
DEFAULT_WORK = Path("nnlite_work")
ResampleChannelsTo = Annotated[
    str | None,
    typer.Option(
        metavar="CHANNEL", help="Bring channels that lie on other grids to that of this one. \\[default: refuse them]"
    ),
]
