"""Compare: several runs on the same test examples, from the outputs that they saved; neither data nor networks are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from epochal.bundle import DESCRIPTION
from epochal.data.examples import address
from epochal.data.inputs.table.rule import TableRule
from epochal.data.spec import DataSpec
from epochal.errors import BundleError, DataError, reason_of
from epochal.evaluation.by_example import Answers, ByExample, Score, as_answers, same_order, score_for, take
from epochal.evaluation.compared import Comparison, Pair, RunScore, Setting, differing
from epochal.evaluation.comparison import SHOWN, Difference, compare_means, holm
from epochal.evaluation.folds import compare_folds, score_folds
from epochal.evaluation.seeds import compare_settings, mean_over_seeds
from epochal.recipe import RUNTIME_SETTINGS, Recipe
from epochal.run.complete import Run
from epochal.run.folder import DATA, ENVIRONMENT, RESULT, how_to_resume, read_json, read_recipe
from epochal.run.predictions import Answered, has_predictions, names_in, read_predictions
from epochal.run.repeats import finished_repeats
from epochal.shown import counted
from epochal.user_code import concise

_FIX = "Restore it as it was, or train again."

# Settings in which runs of one setting may differ: the seed, and what decides on speed alone.
_APART = ("seed", "device", "threads", "data.split_seed", "eval_batch_size", "folds", "repeats", *RUNTIME_SETTINGS)

# So many examples that one of two has right are named.
_NAMED = 10


@dataclass(frozen=True)
class _Kept:
    """What a finished run says of its test examples.

    `source` names its data, if they are not from a program; `part` is the split of it that examples are from, `tensors` are the saved ones
    (see `predictions.py`), and `files` the names of examples that have some. `setting` has all that decides on the result but for the seed.
    Without test data, all this is of the examples that are in folds.
    """

    name: str
    recipe: Recipe
    spec: DataSpec
    source: str | None
    part: str
    tensors: Mapping[str, Tensor]
    files: Sequence[str] | None
    setting: Mapping[str, Any]

    @property
    def count(self) -> int:
        return len(self.tensors["targets"])

    @property
    def fold(self) -> Tensor | None:
        """The fold of each example, int64 [n]; `None` for test examples."""
        return self.tensors.get("fold")

    @property
    def folds(self) -> int:
        """How many folds there are; 0 for test examples."""
        return 0 if self.fold is None else int(self.fold.max()) + 1

    def example(self, index: int) -> str:
        """Return the name of a test example: its file, or its place in the data."""
        return address(self.part, int(self.tensors["positions"][index])) if self.files is None else self.files[index]


@dataclass(frozen=True)
class _Measured:
    """A run with its answers, and what each of them adds to the score."""

    kept: _Kept
    answers: Answers
    found: ByExample


@concise
def compare(*runs: str | Path | Run, score: str | None = None) -> Comparison:
    """Compare runs on their test examples, which must be the same.

    Each is compared with the first, example by example, by `score`: accuracy (if nothing is given, for classes and labels),
    balanced-accuracy (the mean recall of classes), macro-f1 or log-loss; mae (for quantities) or rmse. Runs may be of any models, recipes
    and seeds; `data.split_seed` gives runs of several seeds the same test examples. Where at least two settings were trained, and with
    their seeds alone enough is known (two seeds each, or three of one), the settings are compared, and chance is in the seeds, too: all
    finished repeats of a run count with it. Examples that a run was trained on are left out.

    Runs without test data that were trained with folds are compared by their answers out of fold: examples and folds must be the same.

    Raises `DataError` if the test examples differ, and `BundleError` for what is not a finished run.
    """
    folders = [_folder(run) for run in runs]
    if len(folders) < 2:
        raise DataError("There is nothing to compare with.", "Give two runs or more; `epochal evaluate RUN` measures one.")
    for place, folder in enumerate(folders):
        if any(folder.resolve() == other.resolve() for other in folders[:place]):
            raise DataError(f"{folder} is given twice.", "Give each run once.")
    by_folds = any(not has_predictions(folder) for folder in folders) and all(has_predictions(folder, "folds") for folder in folders)
    found = [kept for folder in folders for kept in ([_read(folder, "folds")] if by_folds else _with_repeats(folder, folders))]
    first = found[0]
    chosen = score_for(score, first.spec.task)
    matched = [first, *(_matched(first, other) for other in found[1:])]
    known = torch.stack([kept.tensors["known"] for kept in matched]).any(0)
    index = (~known).nonzero()[:, 0]
    if not len(index):
        raise DataError(
            f"Each of the test examples ({first.count:,}), or an equal one, is among those that one of these runs was trained on.",
            "Train them without their test data. `epochal check DATA` lists examples that occur several times: leave all but one out.",
        )
    groups = next((kept.tensors["groups"] for kept in matched if "groups" in kept.tensors), None)
    measured = [_measure(kept, index, groups, chosen) for kept in matched]
    remarks = {
        f"runs learn from other columns of {first.source}: its rows are taken to be the same, since their places and targets are"
        for kept in matched
        if kept.spec.fingerprint != first.spec.fingerprint and _other_columns(first, kept)
    }
    return replace(_compared(measured, chosen, index), remarks=tuple(remarks))


def _folder(run: str | Path | Run) -> Path:
    if not isinstance(run, Run):
        return Path(run).expanduser()
    if run.folder is None:
        raise DataError("A run without a folder cannot be compared.", "Train it with out=... .")
    return run.folder


def _with_repeats(folder: Path, given: Sequence[Path]) -> list[_Kept]:
    """Return a run and its finished repeats, except those that are `given` by themselves."""
    run, apart = _read(folder), {one.resolve() for one in given}
    repeats = (_read(place) for place in finished_repeats(folder, run.recipe).values() if place.resolve() not in apart)
    # What follows from the seed, as a weight decay that cross-validation chose, makes no other setting of them.
    return [run, *(replace(one, setting=run.setting) for one in repeats)]


def _read(folder: Path, answered: Answered = "test") -> _Kept:
    """Return what a run has saved. Raises `BundleError` or `DataError` for what is no finished run with test data, or folds."""
    if not folder.exists():
        raise BundleError(f"There is no {folder}.", "Give the folder of a run.")
    if (folder / DESCRIPTION).exists():
        is_inside = (folder.resolve().parent / RESULT).exists()
        fix = f"Give the run itself: {folder.parent}" if is_inside else "Give the folder of a run: one with result.json."
        raise BundleError(f"{folder} is a model without its run: the answers to its test data are not in it.", fix)
    recipe = read_recipe(folder)
    if not (folder / RESULT).exists():
        raise BundleError(f"{folder} is not finished.", f"Finish it first: {how_to_resume(folder)}")
    if not has_predictions(folder, answered):
        fix = "Train it with test data: see --test and --test-data; or train all that are compared with --folds."
        raise DataError(f"{folder} was trained without test data.", fix)
    described = read_json(folder / DATA, source=str | None, split=dict)
    was = read_json(folder / ENVIRONMENT, own=dict, code=dict)
    tensors = read_predictions(folder, _FIX, answered)
    try:
        # With the thresholds, which were not known before training.
        spec = DataSpec.model_validate(read_json(folder / RESULT, data=dict)["data"])
        part, files = str(described["split"]["test" if answered == "test" else "train"]["from"]), names_in(tensors)
        if answered == "folds":
            tensors["known"] = torch.zeros(len(tensors["fold"]), dtype=torch.bool)
        lengths = {len(tensors[name]) for name in ("outputs", "targets", "positions", "known")}
        if lengths | ({len(files)} if files is not None else set()) != {len(tensors["outputs"])}:
            raise ValueError("its tensors are of several lengths")
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is damaged: {reason_of(error)}.", _FIX) from error
    setting = {name: value for name, value in recipe.flat().items() if name not in _APART}
    setting |= {"own functions": was["own"], "own code": was["code"], "data": spec.fingerprint[:8]}
    return _Kept(str(folder), recipe, spec, described["source"], part, tensors, files, setting)


def _matched(first: _Kept, other: _Kept) -> _Kept:
    """Return `other` with examples and outputs in the order of `first`. Raises `DataError` if they are not the same."""
    one, two = first.spec, other.spec
    if one.task.name != two.task.name or {*one.outputs} != {*two.outputs}:
        what = [f"{spec.task.name} ({_few(spec.outputs)})" for spec in (one, two)]
        raise DataError(
            f"{first.name} and {other.name} answer other questions: {what[0]}, and {what[1]}.", "Compare runs of the same task and classes."
        )
    outputs = same_order(other.tensors["outputs"], two.outputs, one.outputs)
    targets = other.tensors["targets"]
    if one.task.has_classes:
        targets = torch.tensor([one.outputs.index(name) for name in two.outputs])[targets]
    elif targets.ndim == 2:
        targets = same_order(targets, two.outputs, one.outputs)
    order = _order(first, other)
    by_example = {
        **{name: other.tensors[name] for name in ("known", "groups", "fold") if name in other.tensors},
        "outputs": outputs,
        "targets": targets,
    }
    by_name = dict(zip(two.outputs, two.task.thresholds, strict=bool(two.task.thresholds)))
    task = two.task.model_copy(update={"outputs": one.outputs, "thresholds": tuple(by_name[name] for name in one.outputs if by_name)})
    tensors = {name: tensor[order] for name, tensor in by_example.items()}
    changed = replace(other, tensors=tensors, spec=two.model_copy(update={"task": task}))
    unlike = (first.tensors["targets"].double() != changed.tensors["targets"].double()).reshape(first.count, -1).any(1).nonzero()[:, 0]
    if len(unlike):
        where = first.example(int(unlike[0]))
        raise DataError(
            f"{counted(len(unlike), 'test example')} {'has' if len(unlike) == 1 else 'have'} other targets in {other.name} than in "
            f"{first.name}; the first is {where}.",
            "Train both on data with the same targets in the test part.",
        )
    _check_folds(first, changed)
    return changed


def _check_folds(first: _Kept, other: _Kept) -> None:
    """Refuse answers out of other folds: no model of one run then has one of the other beside it, trained without the same examples."""
    if first.fold is None or other.fold is None:
        return
    if not len(torch.stack((first.fold, other.fold), 1).unique(dim=0)) == first.folds == other.folds:
        raise DataError(
            f"{first.name} and {other.name} had other folds of the same examples: {first.folds} folds by split seed "
            f"{first.recipe.split_seed}, and {other.folds} folds by split seed {other.recipe.split_seed}.",
            f"Train {other.name} again on the same data, with --folds {first.folds} --split-seed {first.recipe.split_seed}.",
        )


def _order(first: _Kept, other: _Kept) -> Tensor:
    """Return where in `other` the test examples of `first` are: int64 [n]. Raises `DataError` if they are not the same."""
    same_data = first.spec.fingerprint == other.spec.fingerprint
    same_places = first.part == other.part and torch.equal(first.tensors["positions"], other.tensors["positions"])
    if same_places and (same_data or _other_columns(first, other)):
        return torch.arange(first.count)
    keys = first.tensors.get("keys"), other.tensors.get("keys")
    if keys[0] is not None and keys[1] is not None and first.count == other.count:
        # By their content: the training data may be others, or have been cleaned.
        (one, place), (two, order) = (key.sort(stable=True) for key in (keys[0], keys[1]))
        if torch.equal(one, two):
            return order[place.argsort()]
    name = first.spec.name
    if not same_data:
        former, latter = (
            f"{kept.spec.name} (fingerprint {kept.spec.fingerprint[:8]}, tested on {kept.count:,})" for kept in (first, other)
        )
        raise DataError(
            f"{first.name} and {other.name} were tested on other data: {former}, and {latter}.",
            "Train both on the same data, or on data with the same test part.",
        )
    if first.count != other.count:
        raise DataError(
            f"{first.name} was tested on {counted(first.count, 'example')} of {name}, and {other.name} on {other.count:,}.",
            f"Train {other.name} again with --split-seed {first.recipe.split_seed}."
            if first.fold is not None
            else f"Train {other.name} again with --test {first.recipe.data.test:g} --split-seed {first.recipe.split_seed}.",
        )
    raise DataError(
        f"{first.name} and {other.name} were tested on other examples of {name}: their split seeds are {first.recipe.split_seed} and "
        f"{other.recipe.split_seed}.",
        f"Train {other.name} again with --split-seed {first.recipe.split_seed}.",
    )


def _other_columns(first: _Kept, other: _Kept) -> bool:
    """Whether both learn from other columns of one table, whose rows can then be told by their places and targets alone."""
    one, two = first.spec.input, other.spec.input
    is_table = isinstance(one, TableRule) and isinstance(two, TableRule) and one.names != two.names
    return is_table and first.source is not None and first.source == other.source


def _measure(kept: _Kept, index: Tensor, groups: Tensor | None, score: Score) -> _Measured:
    try:
        answers = take(as_answers(kept.spec.task, kept.tensors["outputs"], kept.tensors["targets"], groups), index)
        found = score.measure(answers) if kept.fold is None else score_folds(score, answers, kept.fold, kept.folds)
        return _Measured(kept, answers, found)
    except (ValueError, IndexError, RuntimeError) as error:
        raise BundleError(f"{kept.name} is damaged: {reason_of(error)}.", _FIX) from error


def _compared(measured: Sequence[_Measured], score: Score, index: Tensor) -> Comparison:
    """Compare what was measured on the examples at `index`."""
    first, groups = measured[0].kept, measured[0].answers.groups
    # Out of fold, models have several seeds each already.
    settings = _by_setting(measured) if first.fold is None else [[one] for one in measured]
    # What is known of seeds: with less, intervals would be wider than the scale, or wrong.
    over_seeds = len(settings) > 1 and len(measured) - len(settings) >= 2
    rivals = settings if over_seeds else [[one] for one in measured]
    pairs = _pairs(rivals, score, first, index)
    corrected = holm([pair.p for pair in pairs])
    unlike = differing([setting[0].kept.setting for setting in settings])
    return Comparison(
        first.spec.name,
        len(index),
        first.count - len(index),
        score.words,
        score.higher_is_better,
        in_percent=score.higher_is_better,
        over_seeds=over_seeds,
        folds=first.folds,
        groups=None if groups is None else len(groups.unique()),
        runs=tuple(
            RunScore(one.kept.name, one.kept.recipe.model.name, one.kept.recipe.seed, one.found.value, one.found.interval)
            for one in measured
        ),
        settings=tuple(_setting(setting, unlike, score) for setting in settings),
        pairs=tuple(replace(pair, p=p) for pair, p in zip(pairs, corrected, strict=True)),
        method=_method(score, first, groups, over_seeds=over_seeds),
    )


def _method(score: Score, first: _Kept, groups: Tensor | None, *, over_seeds: bool) -> str:
    """Return how `_difference` computes p and intervals."""
    if over_seeds:
        return "p and intervals of differences by an analysis of variance of examples and seeds"
    if first.fold is not None:
        return "p and intervals of differences by the t-test of Nadeau and Bengio for cross-validation; detectable with a power of 80 %"
    if score.paired is not None and groups is None:
        return score.paired.name
    return "p and intervals of differences by the paired t-test; detectable with a power of 80 %"


def _by_setting(measured: Sequence[_Measured]) -> list[list[_Measured]]:
    """Return runs by their settings; the seeds of one setting are all different."""
    found: list[list[_Measured]] = []
    for one in measured:
        for setting in found:
            if setting[0].kept.setting == one.kept.setting and one.kept.recipe.seed not in {other.kept.recipe.seed for other in setting}:
                setting.append(one)
                break
        else:
            found.append([one])
    return found


def _setting(models: Sequence[_Measured], unlike: Sequence[str], score: Score) -> Setting:
    scores = torch.tensor([one.found.value for one in models], dtype=torch.float64)
    values, groups = [one.found.values for one in models], models[0].answers.groups
    several = len(models) > 1
    return Setting(
        _name(models),
        tuple(one.kept.name for one in models),
        tuple(one.kept.recipe.seed for one in models),
        float(scores.mean()),
        mean_over_seeds(values, groups, shares=score.is_share).interval if several else models[0].found.interval,
        float(scores.std()) if several else None,
        {name: _in_words(models[0].kept.setting.get(name)) for name in unlike},
    )


def _pairs(rivals: Sequence[Sequence[_Measured]], score: Score, names: _Kept, index: Tensor) -> list[Pair]:
    """Return the difference of each from the first, with a p of its own; `names` has those of examples."""
    first, shown = rivals[0], SHOWN / (len(rivals) - 1)
    pairs = []
    for second in rivals[1:]:
        difference = _difference(first, second, score, shown)
        only: list[tuple[str, ...]] = [(), ()]
        if score.paired is not None:
            right, others = (torch.stack([one.answers.right for one in models]) for models in (first, second))
            alone = [one.all(0) & ~other.any(0) for one, other in ((right, others), (others, right))]
            difference = replace(difference, first_only=int(alone[0].sum()), second_only=int(alone[1].sum()))
            only = [tuple(names.example(int(index[place])) for place in one.nonzero()[:_NAMED, 0]) for one in alone]
        same = len(first) == len(second) == 1 and torch.equal(first[0].answers.outputs, second[0].answers.outputs)
        pairs.append(Pair(_name(first), _name(second), difference, difference.p, same, only[0], only[1]))
    return pairs


def _difference(first: Sequence[_Measured], second: Sequence[_Measured], score: Score, shown: float) -> Difference:
    groups, kept = first[0].answers.groups, first[0].kept
    one, other = ([model.found.values for model in models] for models in (first, second))
    if kept.fold is not None:
        return compare_folds(one[0], other[0], kept.fold, kept.folds, groups, shares=score.is_share, shown=shown)
    if len(one) > 1 or len(other) > 1:
        return compare_settings(one, other, groups, shares=score.is_share, shown=shown)
    if score.paired is not None and groups is None:
        return score.paired.compare(first[0].answers, second[0].answers, shown)
    return compare_means(one[0], other[0], groups, shown)


def _name(models: Sequence[_Measured]) -> str:
    name = models[0].kept.name
    return name if len(models) == 1 else f"{name} ×{len(models)}"


def _in_words(value: Any) -> str:
    return "–" if value in (None, {}, ()) else str(value)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
