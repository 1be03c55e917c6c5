"""The application ``nnlite``: what all commands share, and what happens when something goes wrong.

Every error a user can cause ends as one message on stderr and exit status 2; Ctrl-C ends calmly with 130, SIGTERM with
143, and both say how to go on.
"""

from __future__ import annotations

import errno
import shlex
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from nnlite.cli import screen
from nnlite.cli.signals import INTERRUPTED, TERMINATED, Terminated, terminable
from nnlite.errors import NnliteError

WRONG_INPUT = 2  # exit status of everything a user can repair, as for a misspelt option
ARGUMENTS = "nnlite.arguments"  # where the arguments wait for the message that tells how to go on


class CalmGroup(TyperGroup):
    """Turns what can go wrong on a user's machine into one message and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember the arguments as they were typed."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; only errors of nnlite itself keep their traceback."""
        try:
            with terminable():
                return super().invoke(ctx)
        except NnliteError as error:
            _give_up("\n".join([str(error), *getattr(error, "__notes__", ())]))
        except KeyboardInterrupt as interruption:
            again = shlex.join(["nnlite", *ctx.meta[ARGUMENTS]])
            screen.warn(f"\n{str(interruption) or 'interrupted'}; finished work is kept. To go on: {again}")
            raise typer.Exit(TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED) from None
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
    screen.error(message)
    raise typer.Exit(WRONG_INPUT) from None


def _out_of_memory(error: Exception) -> bool:
    """Whether numpy, the CPU or the GPU ran out of memory; torch has its own names for it and is not imported here."""
    return (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        screen.line(f"nnlite {version('nnlite')}")
        raise typer.Exit


app = typer.Typer(
    cls=CalmGroup,
    name="nnlite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def nnlite(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Self-configuring segmentation of medical images: plan, train, predict, evaluate."""
