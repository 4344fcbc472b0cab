"""One hash of all examples: data with the same fingerprint are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from epochal.data.examples import Examples
from epochal.data.inputs.values import access, in_memory
from epochal.data.spec import SPLITS

# Inputs that are not in memory are hashed so many bytes at a time.
_HASHED = 1 << 24


def fingerprint_of(splits: Mapping[str, Examples], digests: Mapping[str, bytes | None], outputs: tuple[str, ...]) -> str:
    """Return the SHA-256 of the names, inputs, targets and groups of all splits.

    Inputs made from files are represented by their `digests`; others that are read one by one are not included.
    """
    digest = hashlib.sha256(repr(outputs).encode())
    for name in SPLITS:
        if name not in splits:
            continue
        examples, made_from = splits[name], digests[name]
        digest.update(f"{name} {len(examples)}".encode())
        digest.update(examples.targets.contiguous().numpy().data)
        if (groups := examples.group_names()) is not None:
            digest.update("\0".join(groups).encode("utf-8", "surrogateescape"))  # Splits follow from them.
        if made_from is not None:
            digest.update(made_from)
        elif (inputs := in_memory(examples.inputs)) is not None:
            digest.update(f"{tuple(inputs.shape)} {inputs.dtype}".encode())
            digest.update(inputs.contiguous().numpy().data)
        elif access(examples.inputs) == "file":
            first = examples.input(0)
            digest.update(f"{(len(examples), *first.shape)} {first.dtype}".encode())
            for some in torch.arange(len(examples)).split(max(1, _HASHED // max(1, first.nbytes))):
                digest.update(examples.inputs[some].contiguous().numpy().data)
    return digest.hexdigest()
