"""The findings of a check: one for each kind of problem, with the examples concerned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from epochal.shown import counted

# An error prevents training, or makes the score dishonest; a warning is likely to cost accuracy; a note is good to know.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Case:
    """Examples that belong together in a finding, by name, with a description; `leave_out` are those for the quarantine list."""

    examples: tuple[str, ...]
    words: str = ""
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One kind of problem: how bad it is, its kind in one word, a description, a fix, and the examples."""

    severity: Severity
    kind: str
    words: str
    fix: str
    cases: tuple[Case, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        cases = [{"examples": list(case.examples), "words": case.words, "leave_out": list(case.leave_out)} for case in self.cases]
        return {"severity": self.severity, "kind": self.kind, "words": self.words, "fix": self.fix, "cases": cases}


# A class with fewer training examples is hardly learned, and its score means little.
_TINY = 10

# Beyond this ratio of the largest class to the smallest, small ones hardly matter.
_IMBALANCED = 10


def about_classes(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> Iterator[Finding]:
    """Yield findings about the number of examples of each class: `counts` by split."""
    trained = counts["train"]
    there = [(number, name) for number, name in zip(trained, names, strict=True) if number]
    if not there:
        return
    (least, smallest), (most, largest) = min(there), max(there)
    tiny = [Case((), f'class "{name}" has {counted(number, "example")}') for number, name in sorted(there) if number < _TINY]
    if tiny:
        more = f", and {counted(len(tiny) - 1, 'more class', 'more classes')} fewer than {_TINY}" if len(tiny) > 1 else ""
        yield Finding("warning", "tiny class", f"{tiny[0].words}{more}", "Add more examples, or merge classes.", tuple(tiny))
    if most >= _IMBALANCED * least:
        words = f'class "{largest}" has {most / least:,.0f} times as many examples as "{smallest}" ({most:,} and {least:,})'
        yield Finding("warning", "imbalance", words, "--class-weights balanced gives every class the same weight.")
    for split, numbers in counts.items():
        lacking = [name for number, name in zip(numbers, names, strict=True) if not number]
        if lacking and split != "train":
            few = ", ".join(f'"{name}"' for name in lacking[:3]) + ", ..." * (len(lacking) > 3)
            words = f"{split} has no examples of {counted(len(lacking), 'class', 'classes')}: {few}"
            yield Finding("warning", "missing class", words, f"Add some: classes that {split} lacks are not measured.")


def about_notes(notes: Sequence[str]) -> Iterator[Finding]:
    """Yield the notes that were made while the data were read."""
    for note in notes:
        yield Finding("note", "reading", note, "Nothing needs to be done, unless you meant other data.")
