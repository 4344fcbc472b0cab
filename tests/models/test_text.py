"""Networks for texts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import build_net
from epochal.tasks.single_label import SingleLabel
from epochal.training.traced.purity import check_pure

TEXTS = ["a good film", "a bad film", "good", "bad bad bad film, and not a good one", "", "很好看的电影", "不好看"]
NAMES = ["bag", "gru", "lstm", "transformer"]


def spec(tokens: str, length: int) -> DataSpec:
    rule = TextRule(shape=(2, length) if tokens == "ngrams" else (length,), tokens=tokens, bits=10)
    task = SingleLabel(outputs=("bad", "good"), counts={"train": (1, 1)})
    return DataSpec(name="texts", input=rule.learn(rule.encode(TEXTS)), task=task, counts={"train": 2}, fingerprint="")


def net(name: str, length: int) -> tuple[nn.Module, DataSpec]:
    described = spec("ngrams" if name == "bag" else "words", length)
    torch.manual_seed(0)
    return build_net(name, described, {}).eval(), described


def outputs(built: nn.Module, described: DataSpec, texts: list[str]) -> Tensor:
    rule = described.input
    assert isinstance(rule, TextRule)
    with torch.no_grad():
        found: Tensor = built(rule.preprocess()(rule.encode(texts)))
    return found


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab 好看film,", max_size=40), min_size=1, max_size=6), more=st.integers(1, 60))
def test_padding_never_changes_an_output(name: str, texts: list[str], more: int) -> None:
    built, described = net(name, 150)
    longer, wider = net(name, 150 + more)
    state = built.state_dict()
    if "positions" in state:
        state["positions"] = functional.pad(state["positions"], (0, 0, 0, more), value=3.0)
    longer.load_state_dict(state)
    torch.testing.assert_close(outputs(longer, wider, texts), outputs(built, described, texts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_has_the_same_outputs_alone_and_among_others(name: str) -> None:
    built, described = net(name, 150)
    together = outputs(built, described, TEXTS)
    assert together.isfinite().all()
    for place, text in enumerate(TEXTS):
        torch.testing.assert_close(outputs(built, described, [text])[0], together[place], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_steps_can_be_traced(name: str) -> None:
    built, described = net(name, 20)
    assert list(check_pure(nn.Sequential(described.input.preprocess(), built), None))


@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_order_matters(name: str) -> None:
    built, described = net(name, 20)
    one, other = outputs(built, described, ["a bad film", "film bad a"])
    assert not torch.allclose(one, other)


def test_both_directions_are_read() -> None:
    described = spec("words", 20)
    assert len(build_net("gru", described, {"bidirectional": False}).get_submodule("directions")) == 1  # type: ignore[arg-type]
    assert len(build_net("lstm", described, {}).get_submodule("directions")) == 2  # type: ignore[arg-type]


def test_each_has_its_tokens() -> None:
    with pytest.raises(ModelError, match='The model gru works with tokens = words; these data are ngrams.\nLoad them with tokens="words"'):
        build_net("gru", spec("ngrams", 20), {})
    with pytest.raises(ModelError, match="The model transformer cannot be built with model.heads = 3: a width of 64 cannot be divided"):
        build_net("transformer", spec("words", 20), {"heads": 3})


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_numbers_of_words_are_no_quantities(name: str) -> None:
    with pytest.raises(ModelError, match=f"The model {name} is for quantities; .*\nUse bag or gru or lstm or .*transformer"):
        build_net(name, spec("words", 20), {})
