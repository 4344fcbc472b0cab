"""Findings in numbers in memory: those that are the same in all training examples."""

from __future__ import annotations

from collections.abc import Iterator

from epochal.checks.copies import Loaded
from epochal.checks.findings import Finding
from epochal.shown import counted


def number_findings(data: Loaded) -> Iterator[Finding]:
    """Yield findings in numbers."""
    train = data.inputs[0]
    constant = (train == train[0]).all(0).nonzero().flatten().tolist() if len(data.rule.shape) == 1 else []
    if constant:
        words = f"{counted(len(constant), 'constant input')}: {', '.join(f'number {place}' for place in constant[:5])}"
        yield Finding(
            "note", "constant", words, "Constants contain no information: leave them out, or check whether they were read correctly."
        )
