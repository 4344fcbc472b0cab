"""The command as people use it: in a process of its own, and, where speed matters, through click's runner."""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from epochal.cli.main import cli
from epochal.cli.options import importing, parse
from epochal.cli.table import made_from_fields, read_table
from epochal.recipe import Recipe, type_of
from epochal.run.folder import read_json

# So long a run would first measure what is "auto".
ENDLESS = ["train", "--epochs", "100000", "--device", "cpu", "--threads", "1"]


def epochal(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "EPOCHAL_DATA"}
    command = [sys.executable, "-m", "epochal", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "photos"
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("bright", 180)):
        (root / name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(random.integers(level, level + 40, (12, 12, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    run = photos.parent / "run"
    done = CliRunner().invoke(cli, ["train", str(photos), "--epochs", "12", "--threads", "1", "--out", str(run)])
    assert done.exit_code == 0, done.output
    return run


def test_the_table_of_options_is_what_the_recipe_says() -> None:
    assert read_table() == made_from_fields(), "Write it again: python -m epochal.cli.table"


def test_garbage_is_looked_for_again_once_all_is_imported() -> None:
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_train_help_has_every_setting_once() -> None:
    text = CliRunner().invoke(cli, ["train", "--help"]).output
    for row in read_table():
        assert len(re.findall(rf"(?<![\w-]){row.option}(?![\w-])", text)) == 1, row
    assert "cpu, cuda" in text
    assert "--batch-size INT|auto" in text
    assert "--class-weights equal|balanced" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("true", True),
        ("none", None),
        ("[1, 2]", [1, 2]),
        ("cuda:1", "cuda:1"),
        ('"3"', "3"),
        ("a.py:Net", "a.py:Net"),
        ("{amsgrad = true}", {"amsgrad": True}),
    ],
)
def test_values_are_read_as_people_mean_them(text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("data.exclude", "none", "none"),
        ("exclude", "123", "123"),
        ("data.exclude", '"a b"', "a b"),
        ("device", "none", "none"),
        ("model", "1e3", "1e3"),
        ("epochs", "1e1", 10),
        ("epochs", "1e400", float("inf")),
        ("epochs", "1.5", 1.5),
        ("epochs", "1_0", "1_0"),
        ("epochs", "none", "none"),
        ("max_steps", "none", None),
        ("lr", "1_0.5", "1_0.5"),
        ("lr", "2", 2),
        ("batch_size", "auto", "auto"),
        ("batch_size", "64", 64),
        ("precision", "true", "true"),
        ("nesterov", "true", True),
        ("size", "[8, 9]", [8, 9]),
        ("size", "none", None),
        ("policy", "none", None),
        ("class_weights", "[1, 2.5]", [1, 2.5]),
        ("class_weights", "balanced", "balanced"),
        ("optimizer.options", "{eps = 1}", {"eps": 1}),
        ("model.widths", "[8]", [8]),
        ("model.mirror", "true", True),
        ("model.depth", "2", 2),
    ],
)
def test_values_are_read_by_the_type_of_their_setting(setting: str, text: str, value: object) -> None:
    found = parse(text, type_of(setting))
    assert (found, type(found)) == (value, type(value))


def test_a_list_to_leave_out_may_have_any_name(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("none", "123"):
        (tmp_path / name).write_text("nowhere.png\n")
        code, _, err = call("train", photos, "--exclude", name)
        assert code == 1
        assert f"{name}, line 1: there is no example 'nowhere.png'" in err
    code, _, err = call("train", photos, "--epochs", "1_0")
    assert code == 1
    assert "The setting epochs = '1_0' (command line) cannot be used: it should be a valid integer." in err


def test_the_main_job(tmp_path: Path) -> None:
    done = epochal("train", "--epochs", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *lines, last = done.stdout.splitlines()
    result = json.loads(last)
    assert result == read_json(tmp_path / "runs" / "digits-1" / "result.json")
    assert set(result) >= {"run", "recipe", "data", "model", "test", "seconds"}
    assert result["test"]["accuracy"] > 0.9
    text = "\n".join(lines)
    assert "digits: 1×8×8 uint8, 10 classes; 1,258 train, 180 valid, 359 test" in text
    assert "95 % interval" in text
    assert "next      epochal predict runs/digits-1 picture.png" in text
    for picture in re.findall(r"\S+\.png", text):
        assert picture == "picture.png" or (tmp_path / picture).is_file()


def test_the_next_run_gets_the_next_number(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in (1, 2):
        code, out, _ = call("train", "--epochs", "1", "--max-steps", "1")
        assert code == 0
        assert f"runs/digits-{number}" in out


def test_what_to_type_next_names_an_address_as_it_is(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place = f"file://{tmp_path}/packed"
    assert call("pack", photos, "--to", place)[0] == 0
    out = call("train", place, "--epochs", "1", "--max-steps", "1")[1]
    assert f"epochal check {place} " in out
    assert "next      epochal predict runs/packed-1 picture.png" in out


def test_a_folder_with_the_longest_name_can_be_trained_on(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name in ("n" * 255, "猫" * 85):
        shutil.copytree(photos, tmp_path / name)
        assert call("train", name, "--epochs", "1", "--max-steps", "1")[0] == 0
        (run,) = (tmp_path / "runs").iterdir()
        assert run.name in (f"{'n' * 200}-1", f"{'猫' * 66}-1")
        assert call("evaluate", run)[0] == 0
        shutil.rmtree(run)


def test_predict_prints_class_probability_and_runner_up(call, trained: Path, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    dark, bright = photos / "dark" / "0.png", photos / "bright" / "3.png"
    code, out, _ = call("predict", trained, dark, bright)
    assert code == 0
    lines = out.splitlines()
    assert re.fullmatch(rf"{dark} +dark \(\d+\.\d %\), then bright \(\d+\.\d %\)", lines[0])
    assert re.fullmatch(rf"{bright} +bright \(\d+\.\d %\), then dark \(\d+\.\d %\)", lines[1])
    code, out, _ = call("predict", trained, dark, bright, "--json", "--csv", "answers.csv", "--picture", "titled")
    assert code == 0
    assert "dark (" not in out
    assert "wrote answers.csv: 2 rows\n" in out
    rows = json.loads(out.splitlines()[-1])
    assert [row["label"] for row in rows] == ["dark", "bright"]
    assert rows[0]["runner_up"]["label"] == "bright"
    assert rows[0]["values"]["dark"] == rows[0]["probability"]
    header, first, _ = (tmp_path / "answers.csv").read_text().splitlines()
    assert header == "file,label,probability,runner_up,runner_up_probability,bright,dark"
    assert first.startswith(f"{dark},dark,0.")
    assert sorted(path.name for path in (tmp_path / "titled").glob("[!.]*")) == ["0001-0.png", "0001-0.svg", "0002-3.png", "0002-3.svg"]


def test_predict_answers_what_it_can(call, trained: Path, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    dark = photos / "dark" / "0.png"
    (tmp_path / "broken.png").write_bytes(dark.read_bytes()[:60])
    code, out, err = call("predict", trained, "broken.png", dark, "missing.png", "--json")
    assert code == 1
    assert [row.get("label", row.get("error")) for row in json.loads(out.splitlines()[-1])] == [
        "broken.png is truncated.",
        "dark",
        "missing.png does not exist.",
    ]
    assert "2 of 3 could not be read" in err
    assert "error: broken.png is truncated." in err
    assert "error: missing.png does not exist." in err
    code, out, err = call("predict", trained, "broken.png", "missing.png")
    assert (code, out) == (1, "")
    assert "error: broken.png is truncated." in err
    code, out, err = call("predict", trained, "broken.png", dark, "--strict")
    assert (code, out) == (1, "")


def test_predict_takes_folders_and_patterns(call, trained: Path, photos: Path) -> None:  # type: ignore[no-untyped-def]
    assert len(call("predict", trained, photos)[1].splitlines()) == 20
    assert len(call("predict", trained, f"{photos}/dark/*.png")[1].splitlines()) == 10


@pytest.mark.usefixtures("drawn")
def test_inputs_in_one_file_are_numbered_and_drawn_one_by_one(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from sklearn.datasets import load_digits

    assert call("train", "--epochs", "2", "--out", "run")[0] == 0
    np.save("some.npy", np.round(load_digits().images[:2] * 255 / 16).astype(np.uint8))
    code, out, err = call("predict", "run", "some.npy", "--picture", "titled")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["some.npy[0]", "some.npy[1]"]
    first, second = ((tmp_path / "titled" / f"000{number}-some.png").read_bytes() for number in (1, 2))
    assert first != second


def test_class_names_are_not_markup(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.savez("data.npz", x=np.random.default_rng(0).normal(size=(40, 2)), y=np.array(["[/b]", "[bold]x["] * 20))
    assert call("train", "data.npz", "--epochs", "1", "--out", "run")[0] == 0
    code, out, _ = call("evaluate", "run")
    assert code == 0
    assert "[/b]" in out
    assert "[bold]x[" in out


def test_evaluate_prints_a_row_for_each_class(call, trained: Path, photos: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = call("evaluate", trained, photos)
    assert code == 0
    assert "n = 4, without 16 known from training" in out
    code, out, _ = call("evaluate", trained, photos, "--include-training", "--json")
    assert code == 0
    assert "n = 20, 16 of them known from training" in out
    assert re.search(r"bright +\d\.\d{3} +\d\.\d{3} +\d\.\d{3} +10", out)
    assert json.loads(out.splitlines()[-1])["count"] == 20
    kept = json.loads((trained / "result.json").read_text())["test"]
    assert json.loads(call("evaluate", trained, "--json")[1].splitlines()[-1]) == kept


def test_unreadable_files_end_evaluation_or_are_counted(call, trained: Path, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(photos, tmp_path / "some")
    (tmp_path / "some" / "dark" / "3.png").write_bytes(b"no picture")
    code, _, err = call("evaluate", trained, "some")
    assert code == 1
    assert "dark/3.png is not a picture" in err
    assert "Fix, replace or remove them; or measure without them: --unreadable count." in err
    code, _, err = call("train", "some", "--out", "run")
    assert code == 1
    assert "To leave out all that are like this: epochal check DATA --quarantine LIST, then --exclude LIST." in err
    code, out, _ = call("evaluate", trained, "some", "--include-training", "--unreadable", "count", "--json")
    assert code == 0
    assert "dark/3.png is not a picture" in out
    assert "n = 19, without 1 file that cannot be read" in out
    found = json.loads(out.splitlines()[-1])
    assert found["count"] == 19
    assert found["unreadable"] == ["dark/3.png"]


def test_a_class_of_which_nothing_can_be_read(call, trained: Path, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(photos, tmp_path / "some")
    for path in (tmp_path / "some" / "dark").iterdir():
        path.write_bytes(b"")
    code, out, err = call("evaluate", trained, "some", "--include-training", "--unreadable", "count")
    assert (code, err) == (0, "")
    assert "n = 10, without 10 files that cannot be read" in out
    code, _, err = call("evaluate", trained, "--unreadable", "count")
    assert code == 1
    assert "itself must be complete.\nName other data, or leave --unreadable out." in err


def test_of_a_folder_with_splits_only_unreadable_test_files_count(call, trained: Path, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for split in ("train", "test"):
        shutil.copytree(photos, tmp_path / "some" / split)
        (tmp_path / "some" / split / "bright" / "1.png").write_bytes(b"")
    (tmp_path / "some" / "test" / "bright" / "2.png").write_bytes(b"")
    code, out, _ = call("evaluate", trained, "some", "--include-training", "--unreadable", "count", "--json")
    assert code == 0
    assert "n = 18, without 2 files that cannot be read" in out
    assert json.loads(out.splitlines()[-1])["unreadable"] == ["test/bright/1.png", "test/bright/2.png"]


def test_summary_of_a_run_and_of_what_would_be_trained(call, trained: Path) -> None:  # type: ignore[no-untyped-def]
    assert "Conv2d" in call("summary", trained)[1]
    code, out, _ = call("summary", "digits", "--model", "linear", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["parameters"] == 650


def test_lists(call) -> None:  # type: ignore[no-untyped-def]
    assert "fashion-mnist" in call("datasets")[1]
    assert "resnet" in call("models")[1]
    assert "tutorial-mlp" in call("recipes")[1]
    shown = call("recipes", "tutorial-mlp")[1]
    assert 'name = "tutorial-mlp" # recipe tutorial-mlp' in shown


def test_a_shown_recipe_can_be_used(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine.toml").write_text(call("recipes", "tutorial-line")[1])
    x = np.random.default_rng(0).random((100, 1))
    np.savez(tmp_path / "line.npz", x=x, y=2 * x + 3)
    code, out, err = call("train", "line.npz", "--recipe", "mine.toml", "--epochs", "3", "--out", "line")
    assert code == 0, err
    assert "There was no test data." in out
    assert "inputs.npy" in out


def test_watchers_of_others(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = call("train", "--epochs", "1", "--out", "run", "--tensorboard", "board")
    assert code == 0, err
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))
    code, _, err = call("resume", "run", "--epochs", "2", "--tensorboard", "second", "--mlflow", "tracked")
    assert code == 0, err
    assert list((tmp_path / "second").rglob("events.out.tfevents.*"))
    (loss,) = (tmp_path / "tracked").rglob("metrics/train/loss")
    assert [line.split()[-1] for line in loss.read_text().splitlines()] == ["2"]


def test_bench_prints_a_row_for_each_pair(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in (1, 2):
        code, out, err = call("bench", "--model", "linear", "--devices", "cpu", "--batch-sizes", "64,128", "--seconds", "0.01", "--json")
        assert code == 0, err
        assert re.search(r"^cpu +128 +[\d,]+ +[\d.]+ s( +\d+ %){4} .*× [\d.]+$", out, re.MULTILINE)
        assert f"picture   runs/digits-bench-{number}/speed.png" in out
        result = json.loads(out.splitlines()[-1])
        assert result == json.loads((tmp_path / "runs" / f"digits-bench-{number}" / "bench.json").read_text())
        assert [one["batch_size"] for one in result["profiles"]] == [64, 128]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnits"], "There is no file or folder 'mnits' and no data set of that name.\nDid you mean 'mnist'?"),
        (["train", "--recipe", "tutorial-mpl"], "Did you mean 'tutorial-mlp'?"),
        (["train", "--model", "conf"], "Did you mean 'conv'?"),
        (["train", "--set", "optimizer.rl=1"], "Unknown setting 'optimizer.rl'.\nDid you mean 'optimizer.lr'?"),
        (["train", "--set", "lr"], "--set lr has no value."),
        (["train", "--set", "seeds=5"], "Unknown setting 'seeds'.\nDid you mean 'repeats'?"),
        (["train", "--epochs", "many"], "The setting epochs = 'many' (command line) cannot be used"),
        (["train", "--lr", "-1"], "should be greater than 0"),
        (["train", "--fit", "crap"], "should be 'auto', 'pad', 'crop' or 'squash'"),
        (["train", "--size", "32"], "The setting data.size = 32 does not work with digits"),
        (["train", "--device", "tpu"], "device 'tpu'"),
        (["bench", "--devices", "tpu"], "device 'tpu'"),
        (["bench", "--batch-sizes", "64,x"], "--batch-sizes: 'x' is not an integer."),
        (["bench", "--batch-sizes", "6_4"], "--batch-sizes: '6_4' is not an integer."),
        (["bench", "--batch-sizes", "0"], "A batch of 0 cannot be measured"),
        (["bench", "--set", "batch_size=8"], "--set batch_size has no effect on what is measured.\nUse --batch-sizes."),
        (["bench", "--out", "empty"], "empty exists already."),
        (["train", "--precision", "fp16", "--device", "cpu"], "does not work on cpu"),
        (["train", "empty"], "empty is empty."),
        (["train", "--data-dir", "nowhere", "mnist"], "There is no folder nowhere"),
        (["train", "--out", "empty"], "empty exists already."),
        (["train", "--model", "mine.py:Net"], "There is no file mine.py."),
        (["train", "--recipe", "mine.toml"], "Cannot read the recipe mine.toml"),
        (["train", "one"], "has only one class folder"),
        (["train", "broken"], "bad.png is"),
        (["train", "nan.npz"], "The input train[1] has a NaN or infinite value at [0]."),
        (["train", "small.npz", "--model", "wrong.py:Net"], "The model cannot take inputs of shape 2"),
        (["train", "small.npz", "--model", "fails.py:Net"], "fails.py cannot be run: line 2: ZeroDivisionError"),
        (["predict", "nowhere", "a.png"], "There is no nowhere."),
        (["predict", "empty", "a.png"], "empty has no model in it."),
        (["evaluate", "nowhere"], "There is no nowhere."),
        (["summary", "nowhere"], "There is no file or folder 'nowhere'"),
        (["recipes", "tutorial"], "Unknown recipe 'tutorial'."),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(call, tmp_path: Path, arguments: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    picture = Image.new("L", (8, 8))
    for folder in ("one/cat", "broken/cat", "broken/dog"):
        (tmp_path / folder).mkdir(parents=True)
        picture.save(tmp_path / folder / "good.png")
    (tmp_path / "broken" / "dog" / "bad.png").write_bytes(b"not a picture")
    labels = np.arange(20) % 2
    np.savez(tmp_path / "small.npz", x=np.zeros((20, 2)), y=labels)
    np.savez(tmp_path / "nan.npz", x=np.where(np.arange(40).reshape(20, 2) == 2, np.nan, 0.0), y=labels)
    (tmp_path / "wrong.py").write_text("from torch import nn\ndef Net(): return nn.Linear(3, 2)\n")
    (tmp_path / "fails.py").write_text("x = 1\ny = x / 0\n")
    before = sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in str(path))
    code, out, err = call(*arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in out + err
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--seconds", "1_0"], "'1_0' is not a number above 0."),
        (["bench", "--seconds", "inf"], "'inf' is not a number above 0."),
        *((["resume", "run", "--epochs", word], f"'{word}' is not a whole number above 0.") for word in ("1_0", "0", "2.5", "many")),
    ],
)
def test_numbers_are_those_that_people_write(call, arguments: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = call(*arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("arguments", [["tarin"], ["train", "--epoch", "3"], ["predict"], ["predict", "run"]])
def test_wrong_usage_is_reported_with_exit_code_2(call, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    code, _, err = call(*arguments)
    assert code == 2
    assert "Usage: epochal" in err


def test_a_mistyped_command_is_guessed(call) -> None:  # type: ignore[no-untyped-def]
    assert "There is no command 'tarin'. Did you mean 'train'?" in call("tarin")[2]


def test_control_c_ends_at_once_and_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "epochal", *ENDLESS],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("2/100000"):
            break
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert time.monotonic() - started < 20
    assert process.returncode == 130
    assert err.strip() == "Interrupted."
    assert out.splitlines()[-1] == "To continue from the last checkpoint: epochal resume runs/digits-1"
    assert len(list((tmp_path / "runs" / "digits-1" / "checkpoints").iterdir())) in (1, 2)


def test_a_dry_run_shows_every_setting_and_keeps_nothing(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = call("train", photos, "--dry-run", "--lr", "0.01", "--set", "augment.flip=true", "--json")
    assert (code, err) == (0, "")
    assert "photos: 3×12×12 uint8, 2 classes" in out
    assert "one step runs: loss " in out
    assert "Conv2d" in out
    assert "lr = 0.01 # command line" in out
    assert "flip = true # command line" in out
    assert "epochs = 10 # default" in out
    shown = json.loads(out.splitlines()[-1])
    assert shown["recipe"]["optimizer"]["lr"] == 0.01
    assert shown["origins"].keys() == Recipe().flat().keys()
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_a_run_would(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = call("train", photos, "--dry-run", "--precision", "fp16", "--device", "cpu")
    assert code == 1
    assert "does not work on cpu" in err
    assert list(tmp_path.iterdir()) == []


def test_resume_and_reproduce(call, photos: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert call("train", photos, "--epochs", "2", "--out", "run", "--threads", "1")[0] == 0
    assert "run has finished" in call("resume", "run")[1]
    code, out, _ = call("reproduce", "run")
    assert (code, out.splitlines()[-1]) == (0, "The same to the bit: 2 epochs, and the weights.")
    code, out, _ = call("resume", "run", "--epochs", "4", "--json")
    assert code == 0
    assert "continuing after step" in out
    assert json.loads(out.splitlines()[-1])["epochs"] == 4
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join([lines[0].replace('"lr": ', '"lr": 1'), *lines[1:]]) + "\n")
    code, out, _ = call("reproduce", "run", "--json")
    assert code == 1
    assert "Not the same: epoch 1: " in out
    assert json.loads(out.splitlines()[-1])["divergence"].startswith("epoch 1: ")
    assert call("resume", "nothing")[0] == call("reproduce", "nothing")[0] == 1


def test_a_signal_at_the_very_end_leaves_no_traceback(tmp_path: Path) -> None:
    code = (
        "import atexit, os, signal; from epochal.cli.main import main;atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "recipes"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "mnist" in done.stdout
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_sigterm_ends_as_the_system_expects_and_can_be_gone_on_with(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "epochal", *ENDLESS], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith("2/100000"):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert list((tmp_path / "runs" / "digits-1" / "checkpoints").iterdir())


def test_a_network_of_the_user_that_fails_late_is_reported_in_one_message(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "late.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 10)); self.calls = 0\n"
        "    def forward(self, x):\n"
        "        self.calls += self.training\n"
        "        if self.calls > 5: raise KeyError('late')\n"
        "        return super().forward(x)\n"
    )
    code, _, err = call("train", "digits", "--model", "late.py:Net", "--epochs", "1")
    assert code == 1
    assert err.startswith("error: Your own code fails: KeyError: 'late' (late.py, line 6).\n")
