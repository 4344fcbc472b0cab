"""Runs are compared by the outputs that they saved: on the same test examples, or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

import epochal
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.spec import DataSpec
from epochal.errors import BundleError, DataError, EpochalError
from epochal.evaluation.comparison import compare_shares
from epochal.evaluation.folds import compare_folds, fold_interval
from epochal.io.checksums import with_checksum
from epochal.io.files import write_bytes, write_json
from epochal.recipe import Recipe, save_recipe
from epochal.run.compare import compare
from epochal.run.evaluate import evaluate_run
from epochal.tasks import TASKS

COUNT = 60
_GENERATOR = torch.Generator().manual_seed(0)
TARGETS = torch.arange(COUNT) % 3
SIGNAL = 2 * torch.nn.functional.one_hot(TARGETS, 3) + torch.randn(COUNT, 3, generator=_GENERATOR)


def outputs(noise: float, seed: int) -> Tensor:
    return SIGNAL + noise * torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(seed))


def keep(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    spec: dict[str, Any] | None = None,
    part: str = "train",
    name: str = "test",
    **settings: Any,
) -> Path:
    """Write the folder of a finished run that gave these outputs, as training does."""
    changed = {"task": "single-label", "outputs": ("a", "b", "c"), "fingerprint": "0" * 64, **(spec or {})}
    described = DataSpec(
        name="data",
        input=NumbersRule(shape=(2,), dtype="float32", mean=(0.0,), std=(1.0,)),
        task=TASKS[changed["task"]].model_validate({"name": changed["task"], "outputs": changed["outputs"]}),
        counts={"train": 6},
        fingerprint=changed["fingerprint"],
    )
    whole = {"targets": TARGETS, "positions": torch.arange(COUNT) * 2, "known": torch.zeros(COUNT, dtype=torch.bool), **tensors}
    content, weights = save({name: tensor.contiguous() for name, tensor in whole.items()}), bytes(folder.name, "utf-8")
    for inner in ("model", "predictions"):
        (folder / inner).mkdir(parents=True)
    save_recipe(folder / "recipe.toml", Recipe().updated({"model": "mlp", **settings}))
    write_json(
        folder / "data.json",
        with_checksum(
            {"spec": described.model_dump(mode="json"), "split": {key: {"from": part} for key in ("train", "test")}, "source": "x"}
        ),
    )
    write_json(folder / "environment.json", with_checksum({"own": {}, "code": {}}))
    write_bytes(folder / "model" / "model.safetensors", weights)
    write_bytes(folder / "predictions" / f"{name}.safetensors", content)
    sums = {"weights": hashlib.sha256(weights).hexdigest(), name: hashlib.sha256(content).hexdigest()}
    write_json(folder / "result.json", with_checksum({"predictions": sums, "data": described.model_dump(mode="json")}))
    return folder


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return keep(tmp_path / "first", {"outputs": outputs(0.1, 1)})


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return keep(tmp_path / "second", {"outputs": outputs(2.0, 2)}, lr=0.1)


def test_two_runs(first: Path, second: Path) -> None:
    found = compare(first, second)
    (pair,) = found.pairs
    right = [one.argmax(1) == TARGETS for one in (outputs(0.1, 1), outputs(2.0, 2))]
    assert pair.difference == compare_shares(right[0], right[1])
    assert pair.p == pair.difference.p < 0.05
    assert found.verdict(pair).startswith(f"{first} is better than {second} by ")
    alone = (right[0] & ~right[1]).nonzero()[:, 0].tolist()
    assert pair.first_only == tuple(f"train[{2 * place}]" for place in alone[:10])
    assert pair.difference.first_only == len(alone)
    assert [setting.differs for setting in found.settings] == [{"optimizer.lr": str(Recipe().optimizer.lr)}, {"optimizer.lr": "0.1"}]
    assert found.title == "accuracy of 2 runs on the same 60 test examples of data"
    assert str(second) in repr(found)
    values = json.loads(json.dumps(found.to_json()))
    assert values["pairs"][0]["verdict"] == found.verdict(pair)
    assert values["pairs"][0]["difference"]["detectable"] == pair.difference.detectable


def test_a_difference_that_is_not_shown_says_what_would_have_been(first: Path, tmp_path: Path) -> None:
    found = compare(first, keep(tmp_path / "like", {"outputs": outputs(0.2, 3)}))
    (pair,) = found.pairs
    assert not pair.is_shown
    least = f"{100 * pair.difference.detectable:.1f}"
    assert found.verdict(pair) == f"No difference shown between {first} and {tmp_path / 'like'}; one of {least} points or more would " + (
        "have been, four times of five."
    )
    # No accuracies are more than 100 points apart.
    far = replace(pair, difference=replace(pair.difference, detectable=1.2))
    assert found.verdict(far).endswith(": these examples could not show any.")
    copy = keep(tmp_path / "copy", {"outputs": outputs(0.1, 1)})
    found = compare(first, copy, score="log-loss")
    assert found.verdict(found.pairs[0]) == f"{first} and {copy} give the same outputs for every example."


def test_lower_losses_are_better(first: Path, second: Path) -> None:
    found = compare(second, first, score="log-loss")
    assert found.runs[0].score > found.runs[1].score
    assert found.verdict(found.pairs[0]).startswith(f"{first} is better than {second} by ")


def test_of_several_each_is_compared_with_the_first(first: Path, second: Path, tmp_path: Path) -> None:
    third = keep(tmp_path / "third", {"outputs": outputs(2.0, 5)}, lr=0.2)
    found = compare(first, second, third)
    assert [(pair.first, pair.second) for pair in found.pairs] == [(str(first), str(second)), (str(first), str(third))]
    smaller, larger = sorted(found.pairs, key=lambda pair: pair.difference.p)
    assert smaller.p == min(1.0, 2 * smaller.difference.p)
    assert larger.p == max(smaller.p, larger.difference.p)
    assert found.pairs[0].difference.detectable > compare(first, second).pairs[0].difference.detectable
    assert found.notes[0] == "each is compared with the first; p is corrected for 2 comparisons (Holm), intervals are not"


def test_seeds_of_a_setting_are_told_apart(tmp_path: Path) -> None:
    runs = [
        keep(tmp_path / f"{lr}-{seed}", {"outputs": outputs(lr, seed)}, lr=lr, seed=seed, split_seed=0)
        for lr in (0.1, 2)
        for seed in (1, 2)
    ]
    found = compare(*runs)
    assert found.over_seeds
    assert [setting.seeds for setting in found.settings] == [(1, 2), (1, 2)]
    scores = [run.score for run in found.runs[2:]]
    assert found.settings[1].score == pytest.approx(sum(scores) / 2)
    assert found.settings[1].spread == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    (pair,) = found.pairs
    assert pair.second == f"{runs[2]} ×2"
    assert pair.difference.value == pytest.approx(found.settings[1].score - found.settings[0].score)
    both = [[outputs(lr, seed).argmax(1) == TARGETS for seed in (1, 2)] for lr in (0.1, 2)]
    assert pair.difference.first_only == int((both[0][0] & both[0][1] & ~both[1][0] & ~both[1][1]).sum())
    # Of one setting alone, the models are compared.
    alone = compare(*runs[:2])
    assert not alone.over_seeds
    assert alone.settings[0].spread is not None
    assert alone.notes == ()
    assert "another seed" in compare(runs[0], runs[2]).notes[0]


def test_what_a_run_was_trained_on_is_left_out_of_all(first: Path, tmp_path: Path) -> None:
    known = torch.arange(COUNT) < 10
    found = compare(keep(tmp_path / "knows", {"outputs": outputs(0.1, 4), "known": known}), first)
    assert (found.count, found.left_out) == (50, 10)
    assert found.runs[1].score == float((outputs(0.1, 1).argmax(1) == TARGETS)[10:].double().mean())
    assert found.notes[0] == "10 test examples are left out: a run was trained on the same"
    with pytest.raises(DataError, match=r"Each of the test examples \(60\), or an equal one, is among those that one of these runs was"):
        compare(keep(tmp_path / "all", {"outputs": outputs(0.1, 4), "known": known | True}), first)


def test_texts_that_are_repeated_in_training_are_told_as_such(tmp_path: Path) -> None:
    texts = [f"{'good' if place % 2 else 'bad'} film number {place % 6}" for place in range(60)]
    (tmp_path / "texts.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{text.split()[0]}\n" for text in texts))
    settings: dict[str, Any] = {"text": "text", "target": "label", "epochs": 1, "quiet": True, "split_seed": 0}
    runs = [epochal.train(tmp_path / "texts.tsv", **settings, seed=seed, out=tmp_path / str(seed)) for seed in (0, 1)]
    with pytest.raises(DataError, match=r"Each of the test examples \(12\), or an equal one, is among") as raised:
        compare(*runs)
    assert "`epochal check DATA` lists examples that occur several times" in raised.value.fix


def test_uneven_classes_count_alike_in_balanced_accuracy(tmp_path: Path) -> None:
    targets = (torch.arange(COUNT) >= 48).long() + (torch.arange(COUNT) >= 54).long()
    right = [torch.nn.functional.one_hot(targets, 3).float() for _ in range(2)]
    # Of 48, 6 and 6 examples of three classes, the first run has 12 of the first wrong, and the second all of the third.
    right[0][:12] = right[0][:12].roll(1, 1)
    right[1][54:] = right[1][54:].roll(1, 1)
    runs = [keep(tmp_path / str(place), {"outputs": one, "targets": targets}) for place, one in enumerate(right)]
    by_example, by_class = (compare(*runs, score=score).pairs[0] for score in ("accuracy", "balanced-accuracy"))
    assert by_example.difference.value == pytest.approx(0.1)
    assert by_class.difference.value == pytest.approx((0.25 - 1) / 3)
    assert by_class.difference.interval[0] < -0.2 < by_class.difference.interval[1]
    assert (by_class.difference.first_only, by_class.difference.second_only) == (6, 12)
    assert by_class.first_only == tuple(f"train[{2 * place}]" for place in range(54, 60))
    found = compare(*runs, score="balanced-accuracy")
    assert [run.score for run in found.runs] == pytest.approx([11 / 12, 2 / 3])
    assert found.words(found.runs[0]).endswith(" %")
    assert "weighted by their class" in found.method


def _folds(folder: Path, tensors: dict[str, Tensor], folds: int = 3, **settings: Any) -> Path:
    """Write the folder of a finished run without test data that gave these outputs out of fold."""
    fold = torch.arange(COUNT) * folds // COUNT
    return keep(folder, {"fold": fold, **tensors}, name="folds", folds=folds, **settings)


def test_answers_out_of_fold_are_paired(tmp_path: Path) -> None:
    both = outputs(0.1, 1), outputs(2.0, 2)
    runs = [_folds(tmp_path / str(place), {"outputs": one}, seed=place, lr=0.1 + place) for place, one in enumerate(both)]
    found, fold = compare(*runs), torch.arange(COUNT) * 3 // COUNT
    right = [(one.argmax(1) == TARGETS).double() for one in both]
    assert found.pairs[0].difference == replace(
        compare_folds(right[0], right[1], fold, 3, shares=True),
        first_only=int((right[0] > right[1]).sum()),
        second_only=int((right[0] < right[1]).sum()),
    )
    assert found.runs[0].interval == fold_interval(right[0], fold, 3, shares=True)
    assert found.title == "accuracy of 2 runs on the same 60 examples of data, out of 3 folds"
    assert found.notes[0].startswith("each example was answered by models that were trained without it: this compares ways of training")
    assert "Nadeau and Bengio" in found.method
    assert found.settings[1].differs["optimizer.lr"] == "1.1"
    # In another order, and with other numbers of the folds, they are the same.
    keys, order = torch.randperm(COUNT, generator=_GENERATOR), torch.randperm(COUNT, generator=_GENERATOR)
    one = _folds(tmp_path / "one", {"outputs": both[0], "keys": keys})
    mixed = {"outputs": both[1][order], "targets": TARGETS[order], "keys": keys[order], "fold": (2 - fold)[order]}
    other = _folds(tmp_path / "mixed", mixed, spec={"fingerprint": "1" * 64})
    assert compare(one, other).pairs[0].difference == found.pairs[0].difference


@pytest.mark.parametrize(
    ("folds", "tensors", "settings", "problem"),
    [
        (3, {"fold": torch.arange(COUNT) % 3}, {"split_seed": 7}, "3 folds by split seed 0, and 3 folds by split seed 7."),
        (2, {}, {}, "3 folds by split seed 0, and 2 folds by split seed 0."),
        (6, {}, {}, "3 folds by split seed 0, and 6 folds by split seed 0."),
    ],
)
def test_other_folds_are_refused(tmp_path: Path, folds: int, tensors: dict[str, Tensor], settings: dict[str, Any], problem: str) -> None:
    first = _folds(tmp_path / "first", {"outputs": outputs(0.1, 1)})
    other = _folds(tmp_path / "other", {"outputs": outputs(0.1, 1), **tensors}, folds, **settings)
    with pytest.raises(DataError) as raised:
        compare(first, other)
    assert raised.value.problem.endswith(f"had other folds of the same examples: {problem}")
    assert raised.value.fix.endswith("other again on the same data, with --folds 3 --split-seed 0.")


def test_answers_out_of_fold_and_to_test_data_are_not_paired(first: Path, tmp_path: Path) -> None:
    folds = _folds(tmp_path / "folds", {"outputs": outputs(0.1, 1)})
    with pytest.raises(DataError, match="folds was trained without test data") as raised:
        compare(first, folds)
    assert raised.value.fix.endswith("or train all that are compared with --folds.")


def test_classes_in_another_order_are_matched_by_name(first: Path, second: Path, tmp_path: Path) -> None:
    order = torch.tensor([2, 0, 1])  # the first class is now the one that was the third
    tensors = {"outputs": outputs(2.0, 2)[:, order], "targets": order.argsort()[TARGETS]}
    turned = keep(tmp_path / "turned", tensors, spec={"outputs": ("c", "a", "b")})
    assert compare(first, turned).pairs[0].difference == compare(first, second).pairs[0].difference


def test_the_same_examples_in_other_data_are_matched_by_content(first: Path, second: Path, tmp_path: Path) -> None:
    keys, order = torch.randperm(COUNT, generator=_GENERATOR), torch.randperm(COUNT, generator=_GENERATOR)
    names = torch.frombuffer(bytearray("\0".join(f"{place} é.png" for place in range(COUNT)).encode()), dtype=torch.uint8)
    one = keep(tmp_path / "one", {"outputs": outputs(0.1, 1), "keys": keys, "names": names})
    cleaned = {"outputs": outputs(2.0, 2)[order], "targets": TARGETS[order], "keys": keys[order]}
    other = keep(tmp_path / "other", cleaned, spec={"fingerprint": "1" * 64})
    pair = compare(one, other).pairs[0]
    assert pair.difference == compare(first, second).pairs[0].difference
    assert all(name.endswith(" é.png") for name in pair.first_only)
    relabelled = keep(tmp_path / "relabelled", {**cleaned, "targets": (TARGETS[order] + 1) % 3}, spec={"fingerprint": "1" * 64})
    with pytest.raises(DataError, match=r"60 test examples have other targets in .*relabelled than in .*one; the first is 0 é\.png\."):
        compare(one, relabelled)


def test_a_table_may_be_learned_from_by_other_columns(tmp_path: Path) -> None:
    rows = [f"{place % 11},{place % 7},{place % 5},{place % 3}\n" for place in range(60)]
    (tmp_path / "table.csv").write_text("a,b,c,target\n" + "".join(rows))
    runs = []
    for name, ignored in (("all", ()), ("less", ("a",))):
        data = tmp_path / "table.csv"
        runs.append(tmp_path / name)
        epochal.train(data, target="target", ignore=ignored, epochs=1, model="linear", quiet=True, out=runs[-1])
    found = compare(*runs)
    assert found.notes[0].startswith(f"runs learn from other columns of {tmp_path / 'table.csv'}: its rows are taken to be the same")
    assert found.settings[1].differs["data.ignore"] == "('a',)"


def test_examples_in_groups_count_together(tmp_path: Path) -> None:
    groups = torch.arange(COUNT) // 5
    runs = [keep(tmp_path / str(seed), {"outputs": outputs(1.0, seed), "groups": groups}) for seed in (1, 2)]
    found = compare(*runs, keep(tmp_path / "plain", {"outputs": outputs(1.0, 3)}))
    assert found.groups == compare(tmp_path / "plain", *runs).groups == 12
    assert found.notes[0] == "examples of one group count together: 12 groups"
    assert found.pairs[0].difference.first_only is not None


@pytest.mark.parametrize(
    ("tensors", "options", "problem", "fix"),
    [
        ({}, {"spec": {"fingerprint": "1" * 64}}, "were tested on other data: data (fingerprint ", "Train both on the same data"),
        ({"positions": torch.arange(COUNT)}, {"seed": 7}, "their split seeds are 0 and 7.", "other again with --split-seed 0."),
        ({}, {"part": "test"}, "were tested on other examples of data", "--split-seed 0"),
        ({"targets": TARGETS.flip(0)}, {}, "40 test examples have other targets", "the same targets in the test part"),
        (
            {},
            {"spec": {"outputs": ("a", "b", "d")}},
            "answer other questions: single-label (a, b, c), and single-label (a, b, d).",
            "Compare",
        ),
        ({}, {"spec": {"task": "multi-label"}}, "single-label (a, b, c), and multi-label (a, b, c)", "Compare runs of the same task"),
    ],
)
def test_other_examples_are_refused(
    first: Path, tmp_path: Path, tensors: dict[str, Tensor], options: dict[str, Any], problem: str, fix: str
) -> None:
    other = keep(tmp_path / "other", {"outputs": outputs(0.1, 1), **tensors}, **options)
    with pytest.raises(DataError) as raised:
        compare(first, other)
    assert problem in raised.value.problem
    assert fix in raised.value.fix


def test_fewer_examples_are_refused(first: Path, tmp_path: Path) -> None:
    few = {"outputs": outputs(0.1, 1), "targets": TARGETS, "positions": torch.arange(COUNT), "known": torch.zeros(COUNT).bool()}
    other = keep(tmp_path / "few", {name: tensor[:40] for name, tensor in few.items()}, test=0.1)
    with pytest.raises(DataError, match=r"was tested on 60 examples of data, and .*few on 40") as raised:
        compare(first, other)
    assert raised.value.fix.endswith("few again with --test 0.2 --split-seed 0.")


def _refused(runs: Sequence[Path]) -> EpochalError:
    with pytest.raises((BundleError, DataError)) as raised:
        compare(*runs)
    return raised.value


def test_what_is_no_finished_run_is_refused(first: Path, second: Path, tmp_path: Path) -> None:
    assert "There is nothing to compare with." in str(_refused([first]))
    assert "first is given twice.\nGive each run once." in str(_refused([second, first, first / ".." / "first"]))
    assert f"There is no {tmp_path / 'none'}." in str(_refused([first, tmp_path / "none"]))
    assert f"{tmp_path} is not a run: it has no recipe.toml." in str(_refused([first, tmp_path]))
    (first / "model" / "bundle.json").write_text("{}")
    assert f"Give the run itself: {first}" in str(_refused([second, first / "model"]))
    shutil.copytree(first / "model", tmp_path / "model")
    assert "is a model without its run" in str(_refused([second, tmp_path / "model"]))
    content = (second / "predictions" / "test.safetensors").read_bytes()
    (second / "predictions" / "test.safetensors").write_bytes(content[:-1] + b"!")
    assert "Restore it as it was, or train again." in str(_refused([first, second]))
    (second / "predictions" / "test.safetensors").unlink()
    assert f"{second} was trained without test data." in str(_refused([first, second]))
    (second / "result.json").unlink()
    assert f"{second} is not finished.\nFinish it first: epochal resume {second}" in str(_refused([first, second]))


def test_numbers_are_those_of_evaluate(tmp_path: Path) -> None:
    x = torch.randn(200, 4, generator=_GENERATOR)
    labels = (x[:, 0] + torch.randn(200, generator=_GENERATOR) > 0).long()
    runs = [
        epochal.train((x, labels), model="linear", epochs=1, seed=seed, split_seed=1, quiet=True, out=tmp_path / str(seed))
        for seed in (1, 2)
    ]
    found, by_f1, by_loss = (epochal.compare(*runs, score=score) for score in (None, "macro-f1", "log-loss"))
    for place, run in enumerate(runs):
        assert run.folder is not None
        evaluated, assessed = evaluate_run(run.folder), run.result["assessment"]["scores"]["macro F1"]
        assert (found.runs[place].score, found.runs[place].interval) == (evaluated.accuracy, evaluated.interval)
        assert (by_f1.runs[place].score, list(by_f1.runs[place].interval or ())) == (assessed["value"], list(assessed["interval"]))
        assert by_loss.runs[place].score == pytest.approx(evaluated.loss)
    with pytest.raises(DataError, match="A run without a folder cannot be compared"):
        epochal.compare(runs[0], replace(runs[1], folder=None))
    run = epochal.train((x, x[:, :1] + x[:, 1:2] ** 2), epochs=1, model="linear", quiet=True, out=tmp_path / "quantities")
    shutil.copytree(tmp_path / "quantities", tmp_path / "copy")
    by_error, by_square = (epochal.compare(run, tmp_path / "copy", score=score) for score in (None, "rmse"))
    assert run.test is not None
    assert run.test.mse is not None
    assert [one.score for one in by_error.runs] == [run.test.mae] * 2
    assert by_square.runs[0].score == pytest.approx(run.test.mse**0.5)
