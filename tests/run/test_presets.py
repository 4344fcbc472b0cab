"""Tables, texts and sounds get the settings that suit them, wherever the user gave nothing."""

from pathlib import Path

import pytest

import epochal
from epochal.recipe import load_recipe
from epochal.run.dry_run import dry_run


def _table(tmp_path: Path, rows: int = 60) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("size,colour,kind\n" + "".join(f"{row / 7},{'red' if row % 3 else 'blue'},{'ab'[row % 2]}\n" for row in range(rows)))
    return path


def test_a_table_has_the_preset_of_tables(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",)}))
    preset = load_recipe("table")
    given = [name for name in preset.origins() if preset.origin(name) != "default" and name != "batch_size"]
    assert {name: recipe.flat()[name] for name in given} == {name: preset.flat()[name] for name in given}
    assert recipe.origin("ema") == "recipe table"


@pytest.mark.parametrize(("rows", "batch", "epochs"), [(60, 16, 100), (1500, 64, 100), (9000, 256, 100), (400_000, 1024, 71)])
def test_batches_and_epochs_suit_the_number_of_rows(tmp_path: Path, rows: int, batch: int, epochs: int) -> None:
    said: list[str] = []
    recipe, _ = dry_run(_table(tmp_path, rows), epochal.Recipe().updated({"data.target": ("kind",)}), log=said.append)
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)
    notes = [line for line in said if "since there are" in line]
    wanted = [
        f"note: {what}"
        for what in (
            "batches of 1,024, since there are 280,000 rows (--batch-size)",
            "at most 71 epochs, since there are 280,000 rows (--epochs)",
        )
    ]
    assert notes == wanted * (rows > 9000)


def test_what_the_user_gave_stays(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",), "epochs": 3, "optimizer.name": "sgd"}))
    assert (recipe.epochs, recipe.optimizer.name) == (3, "sgd")
    assert recipe.ema == load_recipe("table").ema


def test_without_validation_data_nothing_waits_for_their_score(tmp_path: Path) -> None:
    recipe, _ = dry_run(_table(tmp_path), epochal.Recipe().updated({"data.target": ("kind",), "data.valid": 0.0}))
    assert recipe.patience is None


@pytest.mark.parametrize(("count", "epochs"), [(20, 100), (400, 20), (2000, 10)])
def test_few_texts_are_seen_more_often(count: int, epochs: int) -> None:
    texts = [f"{word} film number {number}" for number in range(count // 2) for word in ("good", "bad")]
    said: list[str] = []
    recipe, _ = dry_run((texts, ["yes", "no"] * (count // 2)), epochal.Recipe(), log=said.append)
    assert recipe.epochs == epochs
    assert recipe.optimizer.lr == load_recipe("text").optimizer.lr
    notes = [line for line in said if "since there are only" in line]
    assert [note.split(" texts")[0].rsplit(" ", 1)[0] for note in notes] == [f"note: {epochs} epochs, since there are only"] * (
        count < 2000
    )


def test_pictures_keep_the_plain_defaults() -> None:
    recipe, _ = dry_run("digits", epochal.Recipe())
    assert recipe.epochs == epochal.Recipe().epochs
