"""One tree of errors, whose messages say what is wrong and what to do."""

from __future__ import annotations

import inspect

import pytest

from epochal import errors
from epochal.errors import DataError, DownloadError, EpochalError, suggest


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    found = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert errors.__doc__ is not None
    for name, kind in found.items():
        assert issubclass(kind, EpochalError)
        assert kind.__doc__
        assert name in errors.__doc__
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error")}
    assert drawn == set(found)
    assert issubclass(DownloadError, DataError)


def test_message_has_problem_and_fix() -> None:
    error = EpochalError("The door is shut.", "Open it.")
    assert str(error) == "The door is shut.\nOpen it."
    assert (error.problem, error.fix) == ("The door is shut.", "Open it.")
    assert str(EpochalError("The door is shut.")) == "The door is shut."


@pytest.mark.parametrize(
    ("word", "reported"),
    [
        ("mnits", "Did you mean 'mnist'?"),
        ("MNIST", "Did you mean 'mnist'?"),
        ("zzzzz", "Known: cifar10, mnist."),
    ],
)
def test_suggest(word: str, reported: str) -> None:
    assert suggest(word, ["mnist", "cifar10"]) == reported


def test_suggest_finds_names_in_capitals() -> None:
    assert suggest("net", ["Net", "Other"]) == "Did you mean 'Net'?"
    assert suggest("MYNET", ["MyNet", "Other"]) == "Did you mean 'MyNet'?"


def test_suggest_knows_nothing() -> None:
    assert suggest("net", []) == "There is none to choose from."
