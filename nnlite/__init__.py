"""Self-configuring segmentation of medical images: plan, train, predict, evaluate.

The verbs of the command line are functions here; each is loaded when it is first used.

    import nnlite
    nnlite.plan(Path("hippocampus"), device="cpu")
    nnlite.train(Path("hippocampus"), "3d", ["fold0"], time_budget_s=900)
    nnlite.predict(Path("hippocampus"), [Path("new_scans")], Path("masks"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnlite.pipeline import (
        check,
        compare,
        convert,
        evaluate,
        export,
        import_nnunet,
        plan,
        predict,
        preprocess,
        report,
        select,
        show_augmentation,
        status,
        train,
    )

__all__ = [
    "check",
    "compare",
    "convert",
    "evaluate",
    "export",
    "import_nnunet",
    "plan",
    "predict",
    "preprocess",
    "report",
    "select",
    "show_augmentation",
    "status",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnlite import pipeline

    return getattr(pipeline, name)
