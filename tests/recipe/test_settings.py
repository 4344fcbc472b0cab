"""Every setting is documented, and what people type for it never changes."""

from __future__ import annotations

import pytest
from pydantic import Field

from epochal.cli.table import made_from_fields
from epochal.errors import RecipeError
from epochal.recipe import Recipe, fields, short_names
from epochal.recipe.elsewhere import ELSEWHERE
from epochal.recipe.settings import AllSettings, Positive, Settings, Short

# What people type. Add to it freely; a change or removal breaks their commands and programs.
_OPTIONS = """
--epochs --batch-size --seed --device --threads --precision --compile --step --max-steps --max-seconds --checkpoint-every --on-nan
--patience --metrics --monitor --keep --accumulate --clip-norm --ema --eval-batch-size --workers --thresholds --folds --repeats
--task --valid --test --split-seed --valid-data --test-data --target --ignore --text --tokens --vocabulary --file --split-column --group
--size --fit --rate --data-seconds --windows --memory --exclude --labels
--sampling --mean --std
--scale-targets
--shift --flip --rotate --scale --shear --brightness --contrast --saturation --hue --policy --policy-magnitude --erase
--time-shift --time-mask --frequency-mask --noise --word-dropout --mixup --cutmix --copies
--tune --model --loss --smoothing --class-weights --delta
--optimizer --lr --momentum --nesterov --weight-decay
--schedule --warmup --every --at --factor --schedule-patience --rise --batch-norm --find-unused-parameters
"""
OPTIONS = _OPTIONS.split()


def test_options_are_those_that_people_know() -> None:
    assert [row.option for row in made_from_fields()] == OPTIONS


def test_short_names_are_the_options_and_one_more() -> None:
    full = {name: name for name, _ in fields() if "." not in name} | short_names()
    # Written --set optimizer.options={...}
    known = {option.removeprefix("--").replace("-", "_") for option in OPTIONS} - {"schedule_patience", "data_seconds"} | {
        "options",
        "columns",
    }
    assert set(full) == known


def test_a_setting_whose_last_word_is_taken_renames_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class BackboneSettings(Settings):
        lr: Positive = Field(0.1, description="learning rate of the backbone")

    class Grown(AllSettings):
        backbone: BackboneSettings = BackboneSettings()

    monkeypatch.setattr("epochal.recipe.settings.AllSettings", Grown)
    assert [row.option for row in made_from_fields()] == [*OPTIONS, "--backbone-lr"]
    assert Recipe().updated({"lr": 0.5}).optimizer.lr == 0.5


def test_two_settings_cannot_have_one_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({*short_names(), *(name for name, _ in fields())}) == len(short_names()) + len(dict(fields()))

    class BackboneSettings(Settings):
        lr: Short[Positive] = Field(0.1, description="learning rate of the backbone")

    class Grown(AllSettings):
        backbone: BackboneSettings = BackboneSettings()

    monkeypatch.setattr("epochal.recipe.settings.AllSettings", Grown)
    with pytest.raises(AssertionError, match=r"optimizer\.lr and backbone\.lr have the same short name"):
        short_names()


def _refused(name: str) -> str:
    with pytest.raises(RecipeError) as raised:
        Recipe().updated({name: 1})
    return str(raised.value)


def test_every_setting_is_documented_and_defaults_are_valid() -> None:
    names = [name for name, _ in fields()]
    assert len(names) == len(set(names))
    for name, field in fields():
        assert field.description, name
        value = Recipe().flat().get(name, {})
        assert Recipe().updated({name: value}).flat() == Recipe().flat()


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("lr", "optimizer.lr"),
        ("momentum", "optimizer.momentum"),
        ("valid", "data.valid"),
        ("smoothing", "loss.smoothing"),
        ("patience", "patience"),
        ("schedule.patience", "schedule.patience"),
        ("loss", "loss.name"),
        ("schedule", "schedule.name"),
        ("shift", "augment.shift"),
    ],
)
def test_short_names(given: str, full: str) -> None:
    value = {"loss.name": "nll", "schedule.name": "step"}.get(full, 0.5 if "." in full and "patience" not in full else 7)
    value = 3 if full == "augment.shift" else value
    recipe = Recipe().updated({given: value})
    assert recipe.flat()[full] == value
    assert recipe.origin(full) == "given"


def test_ambiguous_name() -> None:
    assert _refused("name") == (
        "The setting 'name' could be any of model.name, loss.name, optimizer.name, schedule.name.\nWrite out its full name."
    )


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ("epoch", "Unknown setting 'epoch'.\nDid you mean 'epochs'?"),
        ("optimizer.momentun", "Unknown setting 'optimizer.momentun'.\nDid you mean 'optimizer.momentum'?"),
        ("smothing", "Unknown setting 'smothing'.\nDid you mean 'smoothing'?"),
        ("learning_rate", "Unknown setting 'learning_rate'.\nDid you mean 'lr'?"),
    ],
)
def test_unknown_name(given: str, reported: str) -> None:
    assert _refused(given) == reported


def test_unknown_name_without_a_likely_one() -> None:
    reported = _refused("qqqqqqq")
    assert reported == "Unknown setting 'qqqqqqq'.\n`epochal recipes mnist` shows all of them, and `epochal train --help` explains them."


def test_what_other_libraries_say_is_no_setting_here_but_stands_for_one() -> None:
    known = {*dict(fields()), *short_names()}
    assert not {*ELSEWHERE} & known
    assert {setting for setting in ELSEWHERE.values() if not setting.startswith("model.")} <= known
