"""What the targets mean: one label, several labels or quantities. A task is an object that knows all that depends on it."""

from __future__ import annotations

from epochal.tasks.base import Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

# By the name that a description and the setting data.task have for it.
TASKS: dict[str, type[Task]] = {"single-label": SingleLabel, "multi-label": MultiLabel, "regression": Regression}
