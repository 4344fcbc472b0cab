"""What a shell is told as people type: names without importing what they name, and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from epochal.cli.table import read_names, read_table
from epochal.language import translated

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

# The shell sets it when it asks.
VARIABLE = "_EPOCHAL_COMPLETE"


def items(names: Mapping[str, str], begun: str) -> list[CompletionItem]:
    """Return what begins as a word does, with what it is for."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=translated(about)) for name, about in names.items() if name.startswith(begun)]


def names_of(kind: str, *, files: bool = False) -> Complete:
    """Return a completion by the names of "datasets", "models" or "recipes"; with `files`, also by files and folders."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        found = items(read_names()[kind], begun)
        if not files:
            return found
        from click.shell_completion import CompletionItem

        # Shells complete files by themselves, but not beside words.
        return [*found, *items(dict.fromkeys(_beside(begun), ""), begun)] if found else [CompletionItem(begun, type="file")]

    return complete


def setting(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete NAME=VALUE by the names of settings."""
    return items({f"{row.name}=": row.description for row in read_table()}, begun)


def choices(kind: str) -> Complete:
    """Return a completion by the words in what a value looks like: "auto" and "fp32" of "auto|fp32|INT"."""
    words = [word for word in kind.split("|") if word and not word.isupper()]

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        return items(dict.fromkeys(words, ""), begun)

    return complete


def _beside(begun: str) -> list[str]:
    """Return the files and folders here whose names begin as a word does."""
    return sorted(f"{path.name}{'/' * path.is_dir()}" for path in Path().iterdir() if path.name.startswith(begun) and path.name[0] != ".")


def speak_in_completions() -> None:
    """Let shells show what options are for in the chosen language, if one asks."""
    if VARIABLE not in os.environ:
        return
    from click import shell_completion

    from epochal.cli.help import of_option

    for kind in (shell_completion.FishComplete, shell_completion.ZshComplete):

        class Translated(kind):  # type: ignore[misc, valid-type]
            """Completes as click does."""

            def format_completion(self, item: CompletionItem) -> str:
                """Return an item as the shell expects it, on one line."""
                item.help = of_option(item.help) if item.help else item.help
                text: str = super().format_completion(item)
                return text

        shell_completion.add_completion_class(Translated)
