"""Epochal: from labelled data to a model you can trust and ship.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epochal.bundle import Bundle
    from epochal.checks.check import Check, check
    from epochal.data.load import Data, load
    from epochal.data.spec import DataSpec
    from epochal.errors import EpochalError
    from epochal.evaluation.evaluate import Evaluation, evaluate
    from epochal.models.summary import summarize
    from epochal.recipe import Recipe, load_recipe
    from epochal.run.compare import compare
    from epochal.run.complete import Run
    from epochal.run.eject import eject
    from epochal.run.export import export
    from epochal.run.pack import pack
    from epochal.run.rates import RateTest, find_rate
    from epochal.run.reproduce import reproduce
    from epochal.run.resume import resume
    from epochal.run.train import train
    from epochal.search.found import Search
    from epochal.search.search import tune
    from epochal.tasks.base import Prediction
    from epochal.training.loop import TrainingHistory, fit
    from epochal.training.records import EpochDone, Finished, Progress, Rewound, Started
    from epochal.training.sharing import ThreadChange
    from epochal.watch.mlflow import MLflow
    from epochal.watch.tensorboard import TensorBoard

_HOMES = {
    "Bundle": "bundle",
    "Check": "checks.check",
    "Data": "data.load",
    "DataSpec": "data.spec",
    "EpochDone": "training.records",
    "EpochalError": "errors",
    "Evaluation": "evaluation.evaluate",
    "Finished": "training.records",
    "TrainingHistory": "training.loop",
    "MLflow": "watch.mlflow",
    "Prediction": "tasks.base",
    "Progress": "training.records",
    "RateTest": "run.rates",
    "Recipe": "recipe",
    "Rewound": "training.records",
    "Run": "run.complete",
    "Search": "search.found",
    "Started": "training.records",
    "TensorBoard": "watch.tensorboard",
    "ThreadChange": "training.sharing",
    "check": "checks.check",
    "compare": "run.compare",
    "eject": "run.eject",
    "evaluate": "evaluation.evaluate",
    "export": "run.export",
    "find_rate": "run.rates",
    "fit": "training.loop",
    "load": "data.load",
    "load_recipe": "recipe",
    "pack": "run.pack",
    "reproduce": "run.reproduce",
    "resume": "run.resume",
    "summarize": "models.summary",
    "train": "run.train",
    "tune": "search.search",
}

__all__ = [
    "Bundle",
    "Check",
    "Data",
    "DataSpec",
    "EpochDone",
    "EpochalError",
    "Evaluation",
    "Finished",
    "MLflow",
    "Prediction",
    "Progress",
    "RateTest",
    "Recipe",
    "Rewound",
    "Run",
    "Search",
    "Started",
    "TensorBoard",
    "ThreadChange",
    "TrainingHistory",
    "check",
    "compare",
    "eject",
    "evaluate",
    "export",
    "find_rate",
    "fit",
    "load",
    "load_recipe",
    "pack",
    "reproduce",
    "resume",
    "summarize",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'epochal' has no attribute {name!r}")
    return getattr(import_module(f"epochal.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
