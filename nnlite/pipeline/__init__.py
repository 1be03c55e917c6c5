"""The recipes: check, plan, preprocess, train, predict, evaluate. The same verbs as on the command line.

This is where the stages are joined: training and inference know nothing of each other, and neither knows where files
lie. Recipes never print; they return frozen dataclasses, report progress through a callback and raise ``NnliteError``.
"""

from nnlite.pipeline.evaluate_masks import evaluate
from nnlite.pipeline.plan_dataset import PlanResult, check, plan
from nnlite.pipeline.predict_images import PredictResult, predict
from nnlite.pipeline.prepare_cases import preprocess
from nnlite.pipeline.train_folds import TrainResult, train

__all__ = ["PlanResult", "PredictResult", "TrainResult", "check", "evaluate", "plan", "predict", "preprocess", "train"]
