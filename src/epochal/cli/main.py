"""The command `epochal`: one file per verb, imported only when it is used."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from epochal.cli.complete import items, speak_in_completions
from epochal.cli.output import say, say_error
from epochal.distributed import is_launched, leads
from epochal.distributed.launch import exit_code, is_first_to_say
from epochal.distributed.watchdog import LOST_CODE
from epochal.errors import ElsewhereError, EpochalError, LostError, NotFiniteError, OutputError, reason_of
from epochal.language import speak
from epochal.terminal import failure, tolerate_output_errors

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# For --help; each verb is the function `command` of its module, whose imports may be heavy.
VERBS = {
    "check": "Find problems in data before training: broken files, copies, leakage, imbalance.",
    "train": "Train a model on labelled data, test it, and save everything in a run folder.",
    "tune": "Search for better settings, and say what they are worth on test data.",
    "lr": "Find a learning rate: make steps with growing rates, and see where the loss falls.",
    "pack": "Write data to a folder or an object store, to train from any machine.",
    "resume": "Continue an interrupted run, or make a finished one longer.",
    "reproduce": "Repeat the training of a run, and compare every epoch.",
    "evaluate": "Measure a trained model on its own test data, or on other data.",
    "compare": "Compare runs on the same test data: is one better by more than chance?",
    "watch": "Show a run in the browser while it trains, and its report at the end.",
    "report": "Write the report of a run again: one HTML page that needs nothing else.",
    "predict": "Predict what is in pictures, with probabilities.",
    "export": "Write a trained model as one file for other programs, compared with it first.",
    "eject": "Write a run as one plain PyTorch program, to read and to change.",
    "serve": "Serve trained models over HTTP, with a page to try them.",
    "bench": "Measure how fast training is, and why, for each device and batch size.",
    "summary": "Show the layers of a model with shapes, parameters and FLOPs.",
    "cache": "Show or clear the examples that are cached on disk.",
    "doctor": "Show what this machine has, what is slow or broken, and which extras are missing.",
    "datasets": "List the named data sets, and what else can be read.",
    "models": "List the models.",
    "recipes": "List the recipes (named settings), or show one.",
    "completion": "Print the script by which bash, zsh or fish completes commands.",
}

INTERRUPTED = 130


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"epochal.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-"):
            from epochal.errors import suggest

            raise click.UsageError(" ".join((f"There is no command '{args[0]}'.", suggest(args[0], VERBS))), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # click would end a line of each of several processes for it.
            raise click.Abort from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # Without importing the verbs, as click would.
        found = items(VERBS, incomplete)
        return found or click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epochal", message="%(prog)s %(version)s")
def cli() -> None:
    """From labelled data to a model you can trust and ship.

    Start with `epochal train`: it needs no data and takes seconds.
    """


# Libraries whose warnings are about how this code uses them, which a user can do nothing about.
_LIBRARIES = ("epochal", "matplotlib", "numpy", "PIL", "safetensors", "torch")


def _keep_quiet() -> None:
    """Hide warnings about our code and from within libraries, and what these log; show those about the user's code."""
    # After all other filters: -W and PYTHONWARNINGS take precedence.
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_LIBRARIES)})(\.|$)", append=True)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _choose_language() -> None:
    click.Context.formatter_class = click.HelpFormatter
    if speak(sys.stdout.encoding):
        from epochal.cli.help import Formatter

        click.Context.formatter_class = Formatter


def main() -> None:
    """Run the command; every expected error becomes one message and an exit code."""
    tolerate_output_errors()
    if not leads():
        # The first of several processes speaks for all; errors are told by each.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  until the end
    _keep_quiet()
    _choose_language()
    speak_in_completions()
    # As Ctrl-C does, so that everything is cleaned up.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if hasattr(signal, "SIGUSR1"):
        # A request for a checkpoint during training; at other times there is nothing to do.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    code = _run()
    if reason := failure():
        say_error(OutputError(f"Cannot write to standard output: {reason}.", "Its output is lost; the work itself was done."))
        code = code or 1
    # Nothing is left to clean up. A launcher that has lost another process may send the signal just now.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(exit_code(code or 0) if is_launched() else code)


def _run() -> int | None:
    """Run the command, report an error, and return the exit code."""
    try:
        code: int | None = cli.main(prog_name="epochal", standalone_mode=False)
        return code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int | None) else 1
    except click.ClickException as error:
        if not leads():
            return error.exit_code
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue(), err=True, nl=False)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if leads():
            say("\nInterrupted.", err=True)
        return INTERRUPTED
    except EpochalError as error:
        # What is not finite is so in all processes.
        is_known = isinstance(error, ElsewhereError) or (isinstance(error, NotFiniteError) and not leads())
        if not is_known and is_first_to_say(str(error)):
            say_error(error)
        if isinstance(error, LostError):
            return LOST_CODE
    except Exception as error:
        from epochal.user_code import in_words, place_of

        if place_of(error):
            # The user's own network may fail at a later example.
            say_error(EpochalError(f"Your own code fails: {in_words(error)}.", "Fix it there."))
        elif isinstance(error, OSError) and error.filename is not None:
            # A path that cannot be examined: too long, or in a folder without permission.
            say_error(EpochalError(f"{error.filename}: {reason_of(error)}.", "Check the path."))
        else:
            # A bug of ours: show the traceback.
            raise
    return 1
