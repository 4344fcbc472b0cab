"""Findings about groups of examples, such as those of a person: one must not be in two splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from epochal.checks.findings import Case, Finding
from epochal.shown import counted

_FIX = (
    "The score says how well known groups are recognized, not new ones. Put each into one split; or remove the splits, and --group keeps "
    "them together."
)
_NAMED = 3


def about_groups(groups: Mapping[str, Sequence[str]], name: Callable[[str, int], str], by: str) -> Iterator[Finding]:
    """Yield the groups that are in more than one split: `groups` are those of the examples of each, and `name` names an example."""
    first: dict[str, dict[str, int]] = {}
    for split, named in groups.items():
        for place, group in enumerate(named):
            first.setdefault(group, {}).setdefault(split, place)
    shared = {group: places for group, places in first.items() if len(places) > 1}
    if shared:
        where = [split for split in groups if any(split in places for places in shared.values())]
        listed = ", ".join([*shared][:_NAMED]) + ", ..." * (len(shared) > _NAMED)
        cases = tuple(Case(tuple(name(split, place) for split, place in places.items()), group) for group, places in shared.items())
        both = f"both {where[0]} and {where[1]}" if len(where) == 2 else "more than one of train, valid and test"
        words = f"{counted(len(shared), 'group')}{by and f' by {by}'} {'is' if len(shared) == 1 else 'are'} in {both}: {listed}"
        yield Finding("error", "shared group", words, _FIX, cases)
