"""Why a request is not answered, in words that say nothing of this machine."""

from __future__ import annotations

from epochal.errors import EpochalError


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
