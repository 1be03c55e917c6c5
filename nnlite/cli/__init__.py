"""The command line: arguments in, one pipeline call per verb, what was decided and where it lies out.

The pipeline, and torch with it, is imported inside each command, so that ``nnlite --help`` answers at once.
"""

from __future__ import annotations

from nnlite.cli import (
    compare,
    convert,
    dataset,
    demo,
    export,
    import_nnunet,
    plan,
    predict,
    report,
    select,
    status,
    train,
)
from nnlite.cli.application import app

for command in (  # in the order in which they are used, which is the order of the help page
    convert.convert,
    dataset.check,
    plan.plan,
    dataset.preprocess,
    train.train,
    status.status,
    compare.compare,
    select.select,
    report.report,
    export.export,
    predict.predict,
    predict.evaluate,
    import_nnunet.import_nnunet,
    demo.demo,
):
    app.command()(command)


def main() -> None:
    """The command ``nnlite``."""
    app(prog_name="nnlite")
