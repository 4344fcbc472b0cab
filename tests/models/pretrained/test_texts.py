"""MiniLM and WordLlama as they were published."""

import pytest
import torch
from torch import nn

from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import MODELS, build_net
from epochal.models.pretrained.bert import Bert
from epochal.models.pretrained.weights import Weights
from epochal.tasks.single_label import SingleLabel

TEXTS = [
    "A good film, a good one!",
    "Naïve CAFÉ: 3.14 $5 don't",
    "这部电影很好看。",
    "",
    "unaffordability of antidisestablishmentarianism " * 8,
]

# Numbers 0, 76, 152, ... of each: by the package transformers 5 (`BertModel`), the mean over the pieces, brought to length 1.
MINILM = [
    [-0.105001, -0.033493, -0.056786, 0.012847, -0.02521, -0.003014],
    [0.004736, 0.083402, 0.00984, -0.063088, 0.068567, 0.001626],
    [0.02711, 0.012198, 0.040006, -0.044454, -0.04989, 0.041788],
    [-0.118838, 0.055154, -0.02826, -0.017555, -0.034, 0.158746],
    [0.042321, 0.045439, -0.082811, -0.055265, -0.056454, 0.119755],
]

# Numbers 0, 51, 102, ...: the mean of the vectors in the file, over the pieces that the package tokenizers finds.
WORDLLAMA = [
    [0.079612, -0.182281, 0.289305, 0.173378, -0.08582, 0.026911],
    [-0.003375, 0.010816, -0.007085, -0.014716, 0.157249, -0.065726],
    [-0.188282, 0.019307, -0.158758, -0.22577, -0.015597, -0.363692],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.205134, -0.299699, 0.144317, 0.183677, 0.143879, -0.17509],
]


@pytest.mark.parametrize(
    ("name", "tokens", "width", "expected"), [("minilm", "wordpiece", 384, MINILM), ("wordllama", "bpe", 256, WORDLLAMA)]
)
def test_features_are_those_of_the_reference(name: str, tokens: str, width: int, expected: list[list[float]]) -> None:
    weights = MODELS[name].weights
    assert isinstance(weights, Weights)
    try:
        rule = TextRule.measure(TEXTS, tokens).rule  # type: ignore[arg-type]
    except ModelError as error:
        pytest.skip(str(error))
    spec = DataSpec(name="texts", input=rule, task=SingleLabel(outputs=("a", "b")), counts={"train": 5}, fingerprint="")
    trunk = build_net(name, spec, {}).get_submodule("trunk").eval()
    weights.load_into(trunk)
    assert sum(parameter.numel() for parameter in trunk.parameters()) == weights.parameters
    assert weights.path().stat().st_size == weights.size
    with torch.inference_mode():
        features = trunk(rule.preprocess()(rule.encode(TEXTS)))
    assert features.shape == (len(TEXTS), width)
    torch.testing.assert_close(features[:, :: width // 5], torch.tensor(expected), rtol=0, atol=1e-5)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    trunk = Bert(rows=50, places=30, width=8, layers=2, heads=2, inner=16).eval()
    pieces = torch.randint(1, 50, (4, 12))
    with torch.inference_mode():
        torch.testing.assert_close(trunk(nn.functional.pad(pieces, (0, 18))), trunk(pieces), rtol=0, atol=1e-6)
