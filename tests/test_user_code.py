"""Errors in the user's own code are reported with their line; errors of ours or of a library are not called theirs."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import epochal
from epochal.user_code import in_words, is_user_code, place_of


def _caught(function: object) -> BaseException:
    try:
        function()  # type: ignore[operator]
    except (RuntimeError, ValueError, LookupError) as error:
        return error
    raise AssertionError("nothing was raised")


def _nothing() -> None:
    raise KeyError


def test_the_last_line_in_the_users_file() -> None:
    line = f"test_user_code.py, line {_nothing.__code__.co_firstlineno + 1}"
    assert place_of(_caught(_nothing)) == f" ({line})"
    assert in_words(_caught(_nothing)) == f"KeyError ({line})"
    # PyTorch's and Python's own frames below it are not counted.
    here = _caught(lambda: torch.zeros(2) @ torch.zeros(3))
    assert in_words(here).startswith("inconsistent tensor size, expected tensor [2] and src [3] to have the same number of elements")
    assert in_words(_caught(lambda: json.loads("[")))[-len("(test_user_code.py, line 00)") :].startswith("(test_user_code.py, line ")
    assert place_of(KeyError()) == ""


def test_whose_file_it_is() -> None:
    assert is_user_code(__file__)
    assert is_user_code("<ipython-input-3>")
    for file in (epochal.__file__, torch.__file__, json.__file__, "<frozen importlib>", "/usr/lib/python3/dist-packages/one.py"):
        assert file
        assert not is_user_code(file)
    assert not is_user_code(str(Path(epochal.__file__).parent / "training" / "loop.py"))


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, :1])  # type: ignore[no-any-return]


DATA = (torch.randn(12, 2), torch.arange(12) % 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: epochal.load("no such data"),
        lambda: epochal.load(DATA).split(0.9, 0.9),
        lambda: epochal.fit(nn.Linear(2, 3), DATA, {"epochs": 1, "flip": True}),
        lambda: epochal.train(DATA, epochs="many"),
        lambda: epochal.resume("nowhere"),
        lambda: epochal.reproduce("nowhere"),
        lambda: epochal.check("no such data"),
        lambda: epochal.Bundle.load("nowhere"),
        lambda: epochal.train(DATA, epochs=1, quiet=True).predict("no such picture.png"),
    ],
)
def test_errors_come_without_the_way_through_our_code(call: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(epochal.EpochalError) as raised:
        call()
    shown = traceback.format_exception(raised.value)
    frames = traceback.extract_tb(raised.value.__traceback__)
    # The line of the test that calls, the user's line, and the border of the public interface.
    assert [Path(frame.filename).name for frame in frames] == ["test_user_code.py", "test_user_code.py", "user_code.py"]
    assert raised.value.__cause__ is None
    assert "The above exception" not in "".join(shown)
    assert len(shown) == 1 + len(frames) + 1


def test_what_the_user_wrote_stays_the_cause() -> None:
    for call in (lambda: epochal.fit(Failing(), DATA), lambda: epochal.train(DATA, model=Failing(), quiet=True)):
        with pytest.raises(epochal.EpochalError) as raised:
            call()
        cause = raised.value.__cause__
        assert isinstance(cause, RuntimeError)
        frames = traceback.extract_tb(cause.__traceback__)
        assert (Path(frames[0].filename).name, frames[0].line) == (
            "test_user_code.py",
            "return self.layer(x[:, :1])  # type: ignore[no-any-return]",
        )


def test_public_functions_keep_their_signature() -> None:
    assert [*inspect.signature(epochal.fit).parameters][:3] == ["model", "data", "recipe"]
    assert epochal.fit.__name__ == "fit"
    assert epochal.fit.__doc__
