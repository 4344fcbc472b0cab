"""Why a request is not answered, in words that say nothing of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epochal.errors import EpochalError
from epochal.language import preferred, translated

# Clients can bring many different or long texts about, which would take long to translate: these stay English.
_MOST, _LONGEST = 50, 300

# What stands for the name of a file.
_NAME = "\0"


class RefusedError(EpochalError):
    """A request is refused: `status` and `code` for programs, `problem` and `fix` for people."""

    def __init__(self, status: int, code: str, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.status = status
        self.code = code

    def to_json(self) -> dict[str, object]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.problem, "fix": self.fix}}


def bad(problem: str, fix: str = "") -> RefusedError:
    """Return the error for a request that is not well formed."""
    return RefusedError(400, "bad_request", problem, fix)


def too_large(problem: str, fix: str) -> RefusedError:
    """Return the error for a request beyond a limit."""
    return RefusedError(413, "too_large", problem, fix)


def busy() -> RefusedError:
    """Return the error for a request beyond what the server can compute in time."""
    return RefusedError(503, "busy", "There are more requests than the server can answer now.", "Send it again in a second.")


def spoken(answer: dict[str, Any], accepted: str) -> dict[str, Any]:
    """Return an answer in which what is for people is in their language, by the value of an Accept-Language header."""
    if not accepted or preferred(accepted) == "en":
        return answer
    predictions = answer.get("predictions", [])
    errors = [(one["name"], one["error"]) for one in predictions if "error" in one]
    errors += [("", answer["error"])] if "error" in answer else []
    texts = [*answer.get("notes", ()), *(text for name, error in errors for text in (_unnamed(error["message"], name), error["fix"]))]
    chinese = {text: translated(text, "zh") for text in list(dict.fromkeys(texts))[:_MOST] if len(text) <= _LONGEST}

    def said(error: Mapping[str, str], name: str = "") -> dict[str, str]:
        problem = _unnamed(error["message"], name)
        return {**error, "message": chinese.get(problem, problem).replace(_NAME, name), "fix": chinese.get(error["fix"], error["fix"])}

    found = dict(answer)
    if predictions:
        found["predictions"] = [{**one, "error": said(one["error"], one["name"])} if "error" in one else one for one in predictions]
    if "error" in answer:
        found["error"] = said(answer["error"])
    if "notes" in answer:
        found["notes"] = [chinese.get(note, note) for note in answer["notes"]]
    return found


def _unnamed(problem: str, name: str) -> str:
    """Return what is wrong without the name of the file: it is the same text for many."""
    return _NAME + problem[len(name) :] if name and problem.startswith(name) else problem
