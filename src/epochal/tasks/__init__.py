"""What the targets mean: one label, several labels or quantities. Everything that depends on it is a method of the task."""

from __future__ import annotations

from epochal.tasks.base import Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

# By name, as in descriptions and in the setting data.task.
TASKS: dict[str, type[Task]] = {"single-label": SingleLabel, "multi-label": MultiLabel, "regression": Regression}
