"""One measurement of label_errors.py: labels changed by seed, one ordinary run, and two folds for cleanlab.

python3 -m benchmarks.label_errors_run NAME SEED --data-dir FOLDER [--pictures PICTURES]      prints one JSON object

"precision" and "cleanlab" are the percentage of changed labels among as many from the top of the list as were changed; "issues" is how many
cleanlab takes to be wrong. Seconds are those of training; cleanlab's own count too. "logging" is the percentage of training that it takes
to follow each example's label.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import epochal
import torch
from epochal.data.feed import feed
from epochal.inference import infer
from epochal.training.label_history import LabelHistory
from torch import Tensor

# What is loaded and how it is trained, the share of labels that are changed, and whether each becomes the next class.
CASES: dict[str, tuple[str, float, bool]] = {
    "MNIST, 5 %": ("mnist", 0.05, False),
    "MNIST, 5 % to the next": ("mnist", 0.05, True),
    "MNIST, 1 %": ("mnist", 0.01, False),
    "CIFAR-10, 5 %": ("cifar10", 0.05, False),
    "SST-2, 5 %": ("sst2", 0.05, False),
    "adult, 5 %": ("adult", 0.05, False),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"epochs": 5},
    "cifar10": {"epochs": 10, "batch_size": 128},
    "sst2": {},
    "adult": {},
}
# Of CIFAR-10's training pictures, so many are taken.
_PICTURES = 10_000


class _Timed(LabelHistory):
    """A history of labels that counts its own seconds."""

    seconds = 0.0

    def add(self, outputs: Tensor, places: Tensor) -> None:
        began = time.perf_counter()
        super().add(outputs, places)
        _Timed.seconds += time.perf_counter() - began


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("seed", type=int)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--count", type=int, help="of training examples")
    given = parser.parse_args()
    name, rate, to_next = CASES[given.case]
    data = _loaded(name, given.data_dir, given.pictures, given.count or (_PICTURES if name == "cifar10" else None))
    changed, wrong = _changed(data, rate, to_next, given.seed)
    ours, seconds, logging = _ours(changed, given.seed, SETTINGS[name])
    theirs, their_seconds, issues = _cleanlab(changed, given.seed, SETTINGS[name])
    result = {
        "changed": int(wrong.sum()),
        "examples": len(wrong),
        "precision": _precision(ours, wrong),
        "seconds": seconds,
        "logging": logging,
        "cleanlab": _precision(theirs, wrong),
        "cleanlab_seconds": their_seconds,
        "issues": issues,
    }
    print("\n" + json.dumps(result), flush=True)


def _loaded(name: str, folder: Path, pictures: Path | None, count: int | None) -> epochal.Data:
    if name == "sst2":
        data = epochal.load(folder / "text/sst2/train.tsv", target=1, text="0").split(test=0)
    elif name == "adult":
        data = epochal.load(folder / "tables/adult-train.csv", target="income").split(test=0)
    else:
        data = epochal.load("mnist" if name == "mnist" else pictures, data_dir=folder, pretrained=False).split()
    if count is None:
        return data
    some = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return replace(data, train=data.train.take(some), described=None)


def _changed(data: epochal.Data, rate: float, to_next: bool, seed: int) -> tuple[epochal.Data, Tensor]:
    """Return the data with changed training labels, and which they are (bool [n])."""
    generator, count, classes = torch.Generator().manual_seed(seed), len(data.train), len(data.outputs)
    places = torch.randperm(count, generator=generator)[: round(rate * count)]
    shift = torch.ones(len(places), dtype=torch.long) if to_next else torch.randint(1, classes, (len(places),), generator=generator)
    targets = data.train.targets.clone()
    targets[places] = (targets[places] + shift) % classes
    return replace(data, train=replace(data.train, targets=targets), described=None), targets != data.train.targets


def _train(data: epochal.Data, seed: int, settings: dict[str, Any]) -> epochal.Run:
    return epochal.train(data, seed=seed, device="cpu", threads=torch.get_num_threads(), quiet=True, **{"data.test": 0.0, **settings})


def _ours(data: epochal.Data, seed: int, settings: dict[str, Any]) -> tuple[Tensor, float, float]:
    from epochal.training import build

    build.LabelHistory = _Timed  # type: ignore[misc]
    run = _train(data, seed, settings)
    build.LabelHistory = LabelHistory  # type: ignore[misc]
    seconds = run.fit.finished.seconds
    return run.fit.labels[:, 0], seconds, 100 * _Timed.seconds / seconds


def _cleanlab(data: epochal.Data, seed: int, settings: dict[str, Any]) -> tuple[Tensor, float, int]:
    """Return cleanlab's score of each label, from probabilities of models that were not trained on it."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed + 1))
    halves = [half.sort().values for half in order.tensor_split(2)]
    probabilities, seconds = torch.empty(len(data.train), len(data.outputs)), 0.0
    for seen, unseen in (halves, halves[::-1]):
        run = _train(replace(data, train=data.train.take(seen), described=None), seed, settings)
        seconds += run.fit.finished.seconds
        others = feed(data.train.take(unseen), 1000, torch.device("cpu"))
        probabilities[unseen] = infer(run.bundle.model, others, torch.device("cpu")).float().softmax(1)
    began = time.perf_counter()
    labels, found = data.train.targets.numpy(), probabilities.numpy()
    scores = get_label_quality_scores(labels, found)
    issues = int(find_label_issues(labels, found).sum())
    return torch.from_numpy(scores), seconds + time.perf_counter() - began, issues


def _precision(scores: Tensor, wrong: Tensor) -> float:
    return 100 * float(wrong[scores.argsort(stable=True)[: int(wrong.sum())]].float().mean())


if __name__ == "__main__":
    main()
