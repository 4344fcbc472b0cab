"""Traced steps leave the bits that plain steps leave: weights, buffers, the optimizer's state, averages, losses.

EPOCHAL_TRACED=all python3 -m pytest tests/training/traced/test_bits.py        each model with each loss, optimizer and option: hours
EPOCHAL_TRACED=300 python3 -m pytest tests/training/traced/test_bits.py        so many of them
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.load import load
from epochal.errors import NotFiniteError
from epochal.models.build import MODELS, TUTORIALS, assemble, build_net, to_channels_last
from epochal.recipe import LossSettings, Recipe
from epochal.recipe.settings import DataSettings, ScheduleSettings
from epochal.tasks.base import TaskName
from epochal.training.optim import optimizer_names
from tests.small import small_recipe
from tests.training.traced.comparing import differences, trained, weights

TRACED = os.environ.get("EPOCHAL_TRACED", "")

# Of 30 steps, six epochs of four batches of 6 and one of 4. Each shape is met three times before it is recorded.
COUNT, BATCH, EPOCHS, BEFORE = 28, 6, 6, 3

OPTIMIZERS = sorted(optimizer_names().keys() - {"lbfgs", "sparseadam"})
SCHEDULES = get_args(ScheduleSettings.model_fields["name"].annotation)


class Block(nn.Module):
    """A network of the user's own, with what people write."""

    shift: Tensor

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
        self.head = nn.Linear(8, outputs)
        self.register_buffer("shift", torch.full((4, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x.float() / 255 * self.scale))
        for norm in self.norms:
            x = x + functional.gelu(norm(self.deep(x))) * 0.5 - self.shift
        x = functional.dropout(x, 0.2, self.training)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        outputs: Tensor = self.head(x)
        return outputs


class Words(nn.Module):
    """Whole numbers as input: embeddings, attention, a recurrent layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8, padding_idx=0, max_norm=1.0)
        self.positions = nn.Parameter(torch.zeros(4, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.recurrent = nn.GRU(8, 6, batch_first=True)
        self.last = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(self.embedding(x) + self.positions)
        x, _ = self.recurrent(x)
        outputs: Tensor = self.last(x[:, -1])
        return outputs


def in_place(outputs: int) -> nn.Module:
    """Layers that change what they are given, the inputs first."""
    return nn.Sequential(
        nn.SiLU(inplace=True), nn.Linear(4, 8), nn.Dropout(0.3, inplace=True), nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, outputs)
    )


def frozen(outputs: int) -> nn.Module:
    """Parts that stay as they are, and others that learn with their own share of the rate."""
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, outputs))
    net[0].requires_grad_(False)
    net[1].eval()
    net[3].lr_scale = 0.1  # type: ignore[assignment]
    net[6].no_weight_decay = ("bias",)  # type: ignore[assignment]
    return net


def tied(outputs: int) -> nn.Module:
    """One matrix used twice."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))
    net[4].weight = net[0].weight
    return net


OWN: dict[str, Callable[[int], nn.Module]] = {
    "block": lambda outputs: Block(3, outputs),
    "block, channels last": lambda outputs: _channels_last(Block(3, outputs)),
    "words": Words,
    "in place": in_place,
    "frozen": frozen,
    "tied": tied,
    "float64": lambda outputs: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, outputs)).double(),
    "dropout": lambda outputs: nn.Sequential(nn.Linear(4, 8), nn.Mish(), nn.Dropout(0.5), nn.AlphaDropout(0.1), nn.Linear(8, outputs)),
}


def _channels_last(net: nn.Module) -> nn.Module:
    to_channels_last(net)
    return net


# Small forms of the registered models.
SMALL: dict[str, dict[str, Any]] = {
    "airbench": {"width": 4},
    "conv": {"widths": (4, 6), "hidden": 8, "dropout": 0.3},
    "mlp": {"widths": (8, 6), "dropout": 0.2},
    "resnet": {"depth": 8, "width": 4},
    "vgg": {"widths": (4, 6), "dropout": 0.1},
    "vit": {"dim": 8, "layers": 2, "heads": 2},
}


def mean_of_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of the user's own."""
    right = outputs.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (1 - right).square().mean() + 0.01 * torch.logsumexp(outputs, 1).mean()


# By name: the kind of targets, the settings, the user's own function.
LOSSES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "cross-entropy": ("labels", {}, None),
    "smoothing": ("labels", {"smoothing": 0.1, "class_weights": "balanced"}, None),
    "nll": ("labels", {"name": "nll", "class_weights": "balanced"}, None),
    "bce": ("several", {}, None),
    "weighted bce": ("several", {"class_weights": "balanced"}, None),
    "mse": ("quantities", {}, None),
    "l1": ("quantities", {"name": "l1"}, None),
    "huber": ("quantities", {"name": "huber", "delta": 0.5}, None),
    "mse of float64": ("far", {}, None),
    "huber of float64": ("far", {"name": "huber"}, None),
    "own function": ("labels", {}, mean_of_squares),
    "own module": ("labels", {}, nn.MultiMarginLoss(margin=0.5)),
}

# The others are on by themselves.
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "clipped": {"clip_norm": 0.1},
    "averaged": {"ema": 0.9},
    "two parts": {"accumulate": 2},
    "three parts, clipped": {"accumulate": 3, "clip_norm": 0.5, "batch_size": 12},
    "bf16": {"precision": "bf16"},
    "mixup": {"augment.mixup": 0.4},
    "cutmix": {"augment.cutmix": 1.0},
    "augmented": {"augment.flip": True, "augment.shift": 1, "augment.rotate": 20.0, "augment.brightness": 0.2, "augment.erase": 0.3},
    "balanced": {"data.sampling": "balanced"},
    "warmup": {"schedule": {"name": "cosine", "warmup": 2.0}},
    "seed": {"seed": 11},
    "two threads": {"threads": 2},
    "all together": {"clip_norm": 0.2, "ema": 0.8, "accumulate": 2, "precision": "bf16"},
}


class Case(NamedTuple):
    model: str
    loss: str = "cross-entropy"
    optimizer: str = "adamw"
    option: str = "nothing"
    schedule: str = "one-cycle"
    optimizer_settings: tuple[tuple[str, Any], ...] = ()
    step: str = "traced"

    def __str__(self) -> str:
        return ", ".join(str(one) for one in self)

    @property
    def is_picture(self) -> bool:
        return self.model.startswith("block") or (self.model in MODELS and MODELS[self.model].kind == "picture")

    @property
    def gives_logs(self) -> bool:
        return self.model in ("tutorial-cnn", "tutorial-small-cnn")

    @property
    def is_possible(self) -> bool:
        """Whether the parts of this case go together."""
        targets, settings, _ = LOSSES[self.loss]
        changes = OPTIONS[self.option]
        is_mixed = any(name.startswith("augment.") for name in changes)
        return (
            (self.loss == "nll") == self.gives_logs
            and (targets == "labels" or self.model not in TUTORIALS)
            and (self.is_picture or not is_mixed)
            and not (is_mixed and self.loss.startswith("own"))
            and not ({"augment.mixup", "augment.cutmix"} & changes.keys() and targets not in ("labels", "several"))
            and not ("data.sampling" in changes and (targets != "labels" or "class_weights" in settings or self.loss.startswith("own")))
            # PyTorch's loss does not take both types.
            and not (self.model == "float64" and self.loss in ("mse", "l1", "huber", "smoothing", "weighted bce"))
            and not (self.model == "linear" and self.optimizer == "muon")
            and not (self.model == "float64" and changes.get("precision"))
            # A single example is too little for batch normalization.
            and not ("three" in self.option and self.model == "frozen")
        )


def inputs_of(case: Case) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    if case.is_picture:
        shape = {"tutorial-cifar": (3, 32, 32)}.get(case.model, (1, 28, 28) if case.model in TUTORIALS else (3, 12, 12))
        return torch.randint(0, 256, (COUNT + 6, *shape), generator=noise, dtype=torch.uint8)
    if case.model == "words":
        return torch.randint(0, 10, (COUNT + 6, 4), generator=noise)
    x = torch.randn(COUNT + 6, 4, generator=noise)
    # Times that float32 would round together.
    return (x.double() * 0.01 + 1.7e9) if case.model == "float64" else x


def targets_of(case: Case, outputs: int) -> Tensor:
    noise = torch.Generator().manual_seed(1)
    match LOSSES[case.loss][0]:
        case "labels":
            return torch.arange(COUNT + 6) % outputs
        case "several":
            # Each column has both.
            return ((torch.arange(COUNT + 6)[:, None] + torch.arange(outputs)) % 3 == 0).long()
        case "quantities":
            return torch.randn(COUNT + 6, outputs, generator=noise)
    return 1e5 + torch.randn(COUNT + 6, outputs, generator=noise, dtype=torch.float64)


def outputs_of(case: Case) -> int:
    return 10 if case.model in TUTORIALS else 3


def prepared(case: Case) -> tuple[Callable[[], nn.Module], Any, Recipe]:
    """Return what makes the network, data and recipe of a case."""
    x, y = inputs_of(case), targets_of(case, outputs_of(case))
    kinds: dict[str, TaskName] = {"labels": "single-label", "several": "multi-label"}
    kind = kinds.get(LOSSES[case.loss][0], "regression")
    data = load({"train": (x[:COUNT], y[:COUNT]), "valid": (x[COUNT:], y[COUNT:])}, task=kind)

    def make() -> nn.Module:
        torch.manual_seed(3)
        if case.model in OWN:
            return OWN[case.model](outputs_of(case))
        net = build_net(case.model, data.spec, SMALL.get(case.model, {}))
        return assemble(net, data.spec, DataSettings(), rescale=kind == "regression")

    changes = {
        "epochs": EPOCHS, "batch_size": BATCH, "keep": "last", "optimizer": {"name": case.optimizer, **dict(case.optimizer_settings)},
        "schedule": {"name": case.schedule}, "loss": LOSSES[case.loss][1],
    }  # fmt: skip
    if LOSSES[case.loss][2] is not None:
        del changes["loss"]
    return make, data, small_recipe(**changes).updated(OPTIONS[case.option])


def chosen() -> Iterator[Case]:
    """Each value of each factor once, and pairs that meet in a step."""
    for name in (name for name, entry in MODELS.items() if entry.kind in (None, "picture") and entry.weights is None):
        yield Case(name, "nll" if name in ("tutorial-cnn", "tutorial-small-cnn") else "smoothing", optimizer="sgd")
    for name in OWN:
        yield Case(name, option="averaged")
        yield Case(name, "huber of float64", option="two parts", step="auto")
    for name in LOSSES:
        if name != "nll":
            yield Case("mlp", name, option="three parts, clipped")
    yield Case("tutorial-small-cnn", "nll", option="two parts")
    for name in OPTIMIZERS:
        yield Case("mlp", "smoothing", optimizer=name, option="two parts")
    for name in OPTIONS:
        yield Case("vgg" if "augment" in str(OPTIONS[name]) else "block" if name in ("bf16", "all together") else "dropout", option=name)
    for name in SCHEDULES:
        yield Case("mlp", schedule=name, optimizer="sgd", optimizer_settings=(("lr", 0.05), ("momentum", 0.9), ("nesterov", True)))
    for fused in (True, False):
        for name in ("sgd", "adam", "adamw", "adagrad"):
            yield Case("mlp", optimizer=name, optimizer_settings=(("options", {"fused": fused}),), step="auto")
    yield Case("resnet", "smoothing", option="mixup")
    yield Case("airbench", "weighted bce", option="cutmix", optimizer="muon")
    yield Case("frozen", optimizer="muon", option="all together")
    yield Case("linear", "mse of float64", option="bf16", optimizer="sgd")


def cases() -> list[Case]:
    if not TRACED:
        return list({str(case): case for case in chosen()}.values())
    # The recorded operations of a pre-trained trunk are found not to give the same bits, so that it is always trained by plain steps.
    traced = (name for name, entry in MODELS.items() if entry.weights is None)
    product = itertools.product((*traced, *OWN), LOSSES, OPTIMIZERS, OPTIONS)
    possible = [case for case in itertools.starmap(Case, product) if case.is_possible]
    return possible if TRACED == "all" else random.Random(0).sample(possible, int(TRACED))


@pytest.mark.parametrize("case", cases(), ids=str)
def test_bits_are_those_of_plain_steps(case: Case) -> None:
    make, data, recipe = prepared(case)
    own = {"loss": LOSSES[case.loss][2]} if LOSSES[case.loss][2] is not None else {}
    try:
        plain, told, model = trained(make, data, recipe, "plain", **own)
    except NotFiniteError as error:
        # Not every optimizer copes with every loss.
        with pytest.raises(NotFiniteError, match=re.escape(str(error))):
            trained(make, data, recipe, case.step, **own)
        assert TRACED
        return
    traced, told_too, model_too = trained(make, data, recipe, case.step, **own)
    assert differences(plain.state, traced.state) == []
    assert differences(weights(model), weights(model_too)) == []
    assert plain.state["loss_sum"].isfinite()
    assert [done.train_loss for done in told.epochs] == [done.train_loss for done in told_too.epochs]

    # All but the first of each shape were traced.
    sizes = Counter(len(part) for batch in torch.empty(COUNT).split(recipe.examples_per_step) for part in batch.chunk(recipe.accumulate))
    assert traced.traced == sum(count * EPOCHS - BEFORE for count in sizes.values()), told_too.finished.untraced
    assert traced.plain == BEFORE * len(sizes)
    assert (plain.traced, plain.plain) == (0, traced.traced + traced.plain)


def test_each_value_is_tried() -> None:
    """So that what is registered tomorrow is tried too."""
    tried = list(chosen())
    assert all(case.is_possible for case in tried)
    # Networks for other kinds of inputs are in test_kinds.py.
    assert {case.model for case in tried} == {
        *(name for name, entry in MODELS.items() if entry.kind in ("picture", None) and entry.weights is None),
        *OWN,
    }
    assert {case.loss for case in tried} == LOSSES.keys()
    assert {case.optimizer for case in tried} == set(OPTIMIZERS)
    assert {case.option for case in tried} == OPTIONS.keys()
    assert {case.schedule for case in tried} == set(SCHEDULES)
    names = {settings.get("name") for _, settings, _ in LOSSES.values()}
    assert {*get_args(LossSettings.model_fields["name"].annotation)} - names == {"auto", "cross-entropy", "bce", "mse"}
