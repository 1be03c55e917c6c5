"""The recipes, the verbs: convert, check, plan, preprocess, train, status, compare, select, report, export, predict, ..

This is where the stages are joined: training and inference know nothing of each other, and neither knows where files
lie. Recipes never print; they return frozen dataclasses, report progress through a callback and raise ``NnliteError``.
Each is loaded when it is first asked for: checking a dataset does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnlite.pipeline.augmentation_page import ShownAugmentation, show_augmentation
    from nnlite.pipeline.cluster import cluster_for
    from nnlite.pipeline.cluster_folds import train_on_cluster
    from nnlite.pipeline.compare_runs import ComparedRun, RunComparison, compare
    from nnlite.pipeline.convert_dataset import ConvertResult, convert
    from nnlite.pipeline.evaluate_masks import evaluate, evaluate_instances
    from nnlite.pipeline.export_model import ExportResult, export
    from nnlite.pipeline.fix_dataset import FixResult, fix
    from nnlite.pipeline.import_model import ImportResult, import_nnunet
    from nnlite.pipeline.plan_dataset import PlanResult, check, plan
    from nnlite.pipeline.plan_from_fingerprint import plan_fingerprint
    from nnlite.pipeline.predict_images import PredictResult, predict
    from nnlite.pipeline.prepare_cases import preprocess
    from nnlite.pipeline.report_dataset import ReportResult, report
    from nnlite.pipeline.run_status import DatasetStatus, FoldStatus, status
    from nnlite.pipeline.select_model import SelectResult, select
    from nnlite.pipeline.train_folds import TrainResult, fold_names, train
    from nnlite.pipeline.train_together import follow, processes

__all__ = [
    "ComparedRun",
    "ConvertResult",
    "DatasetStatus",
    "ExportResult",
    "FixResult",
    "FoldStatus",
    "ImportResult",
    "PlanResult",
    "PredictResult",
    "ReportResult",
    "RunComparison",
    "SelectResult",
    "ShownAugmentation",
    "TrainResult",
    "check",
    "cluster_for",
    "compare",
    "convert",
    "evaluate",
    "evaluate_instances",
    "export",
    "fix",
    "fold_names",
    "follow",
    "import_nnunet",
    "plan",
    "plan_fingerprint",
    "predict",
    "preprocess",
    "processes",
    "report",
    "select",
    "show_augmentation",
    "status",
    "train",
    "train_on_cluster",
]

_HOMES = {
    "cluster_for": "cluster",
    "ComparedRun": "compare_runs",
    "RunComparison": "compare_runs",
    "compare": "compare_runs",
    "ConvertResult": "convert_dataset",
    "convert": "convert_dataset",
    "evaluate": "evaluate_masks",
    "evaluate_instances": "evaluate_masks",
    "ExportResult": "export_model",
    "export": "export_model",
    "FixResult": "fix_dataset",
    "fix": "fix_dataset",
    "ImportResult": "import_model",
    "import_nnunet": "import_model",
    "PlanResult": "plan_dataset",
    "check": "plan_dataset",
    "plan": "plan_dataset",
    "plan_fingerprint": "plan_from_fingerprint",
    "PredictResult": "predict_images",
    "predict": "predict_images",
    "preprocess": "prepare_cases",
    "ReportResult": "report_dataset",
    "report": "report_dataset",
    "SelectResult": "select_model",
    "select": "select_model",
    "ShownAugmentation": "augmentation_page",
    "show_augmentation": "augmentation_page",
    "DatasetStatus": "run_status",
    "FoldStatus": "run_status",
    "status": "run_status",
    "TrainResult": "train_folds",
    "fold_names": "train_folds",
    "train": "train_folds",
    "train_on_cluster": "cluster_folds",
    "follow": "train_together",
    "processes": "train_together",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
