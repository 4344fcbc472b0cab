import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import assemble, build_net
from epochal.models.summary import FlopCounter, Layer, summarize
from epochal.recipe import DataSettings


def spec(shape: tuple[int, ...] = (1, 28, 28), dtype: str = "uint8") -> DataSpec:
    return DataSpec.model_validate(
        {
            "name": "small",
            "task": {"name": "single-label", "outputs": tuple("0123456789")},
            "input": {"kind": "picture" if len(shape) == 3 else "numbers", "shape": shape, "dtype": dtype},
            "counts": {"train": 10},
            "fingerprint": "f",
        }
    )


class Nested(nn.Module):
    """A convolution, the same linear layer twice, a function with a weight of its own, and a part that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.same = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.zeros(10, 4))
        self.unused = nn.Linear(2, 2)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.norm(x)).mean((2, 3))
        return functional.linear(self.same(self.same(x)), self.weight)


def test_a_tutorial_network_has_its_known_numbers() -> None:
    found = summarize(build_net("tutorial-mlp", spec(), {}), spec(dtype="float32"))
    assert found.layers == (
        Layer("0", "Flatten", (784,), 0, 0),
        Layer("1", "Linear", (128,), 784 * 128 + 128, 2 * 784 * 128),
        Layer("2", "ReLU", (128,), 0, 0),
        Layer("3", "Linear", (10,), 1290, 2 * 1280),
    )
    assert found.parameters == found.trainable == 101_770
    assert found.flops == 2 * (784 * 128 + 1280)
    assert found.weight_bytes == 4 * 101_770


def test_a_whole_model_takes_raw_pixels() -> None:
    data = spec()
    found = summarize(assemble(build_net("vgg", data, {}), data, DataSettings(), rescale=True), data)
    assert found.layers[0].name == "preprocess"
    assert found.layers[1] == Layer("net.0.0", "Conv2d", (32, 28, 28), 288, 2 * 9 * 32 * 28 * 28)
    assert found.parameters == sum(layer.parameters for layer in found.layers)


def test_layers_used_twice_functions_and_unused_parts() -> None:
    model = Nested()
    model.unused.requires_grad_(False)
    found = summarize(model, spec((1, 5, 5), "float32"))
    assert [(layer.name, layer.parameters) for layer in found.layers] == [
        ("norm", 2),
        ("features.0", 40),
        ("features.1", 0),
        ("same", 20),
        ("same", 0),
    ]
    assert found.parameters == 2 + 40 + 20 + 40 + 6
    assert found.trainable == found.parameters - 6
    assert found.flops == 2 * 9 * 4 * 25 + 2 * 16 + 2 * 16 + 2 * 40
    assert found.weight_bytes == 4 * found.parameters + 4 * 2 + 8, "running statistics and their counter too"


def test_flops_are_those_of_pytorch_whether_it_prepares_for_its_compiler_or_not() -> None:
    class Wrapped(FlopCounter):
        """As it would be without the private method that keeps PyTorch from wrapping it."""

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return True

    net, x = Nested().eval(), torch.zeros(2, 1, 8, 8)
    ours, wrapped, theirs = FlopCounter(), Wrapped(), FlopCounterMode(display=False)
    for counter in (ours, wrapped, theirs):
        with counter, torch.no_grad():
            net(x)
    assert ours.total == wrapped.total == theirs.get_total_flops() > 0


def test_attention_counts() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.out(self.attention(x, x, x)[0].mean(1))
            return outputs

    was_enabled = torch.backends.mha.get_fastpath_enabled()
    found = summarize(Attends(), spec((6, 8), "float32"))
    projections, products = 4 * 2 * 6 * 8 * 8, 2 * 2 * 6 * 6 * 8
    assert found.flops == projections + products + 2 * 80
    assert torch.backends.mha.get_fastpath_enabled() == was_enabled


def test_a_layer_of_several_outputs_shows_the_first() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(5, 3)
            self.read = nn.GRU(3, 10, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.read(self.words(x))[0]
            return outputs[:, -1]

    found = summarize(Reads(), spec((7,), "int64"))
    assert [layer.shape for layer in found.layers] == [(7, 3), (7, 10)]


def test_the_model_is_left_as_it_was() -> None:
    model = Nested()
    model.train()
    model.norm.eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    summarize(model, spec((1, 5, 5), "float32"))
    assert model.training
    assert model.same.training
    assert not model.norm.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_the_table() -> None:
    lines = str(summarize(Nested(), spec((1, 5, 5), "float32"))).splitlines()
    assert lines == [
        "layer             type         output  parameters  FLOPs",
        "────────────────────────────────────────────────────────",
        "norm              BatchNorm2d  1×5×5            2      0",
        "features.0        Conv2d       4×5×5           40  1,800",
        "features.1        ReLU         4×5×5            0      0",
        "same              Linear       4               20     32",
        "same              Linear       4                0     32",
        "(between layers)                               46     80",
        "────────────────────────────────────────────────────────",
        "total                                         108  1,944",
        "108 parameters are trained; the weights take 448 bytes; FLOPs are for one example.",
    ]


def test_json() -> None:
    found = summarize(nn.Linear(3, 10), spec((3,), "float32")).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "layers": [{"name": "Linear", "type": "Linear", "shape": [10], "parameters": 40, "flops": 60}],
        "parameters": 40,
        "trainable": 40,
        "flops": 60,
        "weight_bytes": 160,
    }


def test_a_model_that_does_not_fit_is_reported_and_left_as_it_was() -> None:
    model = Nested()
    with pytest.raises(ModelError, match="cannot take inputs of shape 3×5×5"):
        summarize(model, spec((3, 5, 5), "float32"))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()
