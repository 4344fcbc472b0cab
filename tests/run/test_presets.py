"""Tables, texts and sounds get the settings that suit them, wherever the user gave nothing."""

from pathlib import Path

import epochal
from epochal.recipe import load_recipe
from epochal.run.train import dry_run


def _table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("size,colour,kind\n" + "".join(f"{row / 7},{'red' if row % 3 else 'blue'},{'ab'[row % 2]}\n" for row in range(60)))
    return path


def test_a_table_has_the_preset_of_tables(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",)}))
    preset = load_recipe("table")
    given = [name for name in preset.origins() if preset.origin(name) != "default"]
    assert {name: recipe.flat()[name] for name in given} == {name: preset.flat()[name] for name in given}
    assert recipe.origin("ema") == "recipe table"


def test_what_the_user_gave_stays(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",), "epochs": 3, "optimizer.name": "sgd"}))
    assert (recipe.epochs, recipe.optimizer.name) == (3, "sgd")
    assert recipe.batch_size == load_recipe("table").batch_size


def test_without_validation_data_nothing_waits_for_their_score(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",), "data.valid": 0.0}))
    assert recipe.patience is None


def test_texts_too() -> None:
    texts = [f"{word} film number {number}" for number in range(20) for word in ("good", "bad")]
    recipe, _ = dry_run((texts, ["yes", "no"] * 20), epochal.Recipe())
    assert recipe.epochs == load_recipe("text").epochs


def test_pictures_keep_the_plain_defaults() -> None:
    recipe, _ = dry_run("digits", epochal.Recipe())
    assert recipe.epochs == epochal.Recipe().epochs
