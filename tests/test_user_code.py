"""Of an error in the user's own code, its line is told; what is ours or a library's is not theirs."""

from __future__ import annotations

import json
from pathlib import Path

import torch

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
