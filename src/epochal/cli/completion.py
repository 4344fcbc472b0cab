"""epochal completion"""

from __future__ import annotations

import click

from epochal.cli.complete import VARIABLE


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which a shell completes commands, options, names and files as you type.

    bash: epochal completion bash > ~/.local/share/bash-completion/completions/epochal

    zsh: epochal completion zsh > ~/.zfunc/_epochal, with fpath+=~/.zfunc before compinit in ~/.zshrc

    fish: epochal completion fish > ~/.config/fish/completions/epochal.fish
    """
    from click.shell_completion import get_completion_class

    from epochal.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # Click's script for fish shows what a word is for up to its first comma.
    click.echo(kind(cli, {}, "epochal", VARIABLE).source().replace('string split "," ', 'string split --max 1 "," '))
