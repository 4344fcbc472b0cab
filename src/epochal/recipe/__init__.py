"""Every setting of an experiment: its type, unit, default and one-line description, in one frozen value.

A `Recipe` is built in layers, later ones winning: defaults, a preset or TOML file, what the data determine, the user's
own settings. Each value remembers which layer it came from. A value that the user gave is never changed; one that cannot work
stops the run before its first step.

    Recipe()                                            all defaults
    load_recipe("mnist")                                a preset, or the path of a TOML file
    recipe.updated({"lr": 0.01, "epochs": 5})           with short names, where a setting has one
"""

from epochal.recipe.files import as_recipe, load_recipe, presets, restore_recipe, save_recipe, tutorials
from epochal.recipe.recipe import DEFAULT, Recipe, full_name, type_of
from epochal.recipe.settings import (
    RUNTIME_SETTINGS,
    AugmentSettings,
    DataSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    fields,
    short_names,
)

__all__ = [
    "DEFAULT",
    "RUNTIME_SETTINGS",
    "AugmentSettings",
    "DataSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "Recipe",
    "ScheduleSettings",
    "Settings",
    "as_recipe",
    "fields",
    "full_name",
    "load_recipe",
    "presets",
    "restore_recipe",
    "save_recipe",
    "short_names",
    "tutorials",
    "type_of",
]
