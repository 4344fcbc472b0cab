"""The vocabulary of a BERT network: the file vocab.txt, with a piece of a word on each line."""

from __future__ import annotations

from pathlib import Path

from epochal.data.inputs.text.pieces import WordPiece, packed
from epochal.data.storage.hub import PREFIX, Repository
from epochal.errors import DataError, RecipeError, reason_of
from epochal.io.safe_read import open_file

NAME = "vocab.txt"

# The most bytes of one.
_MOST = 4_000_000


def read_vocabulary(named: str, tokens: str | None) -> str:
    """Return a vocabulary, packed: that of a file, or of a model of the hub. Raises `DataError`."""
    if tokens != "wordpiece":
        raise RecipeError(f"The setting data.vocabulary = {named} is for tokens = wordpiece.", "Set that too, or leave it out.")
    path = Path(named)
    if named.startswith(PREFIX):
        repository = Repository.of(named)
        path = Repository(repository.name, repository.commit(lambda _: None)).file(NAME)
    try:
        with open_file(path) as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise ValueError(f"it has more than {_MOST:,} bytes")
        pieces = [line.removesuffix("\r") for line in content.decode().removesuffix("\n").split("\n")]
        WordPiece(pieces)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no vocabulary of pieces of words: {reason_of(error)}.", "Give the vocab.txt of a BERT network."
        ) from error
    if cased := next((piece for piece in pieces if piece != piece.lower() and not piece.startswith("[")), ""):
        raise DataError(f"{path} has '{cased}': its network tells upper from lower case, which is not supported.", "Use an uncased one.")
    return packed("\n".join(pieces).encode())
