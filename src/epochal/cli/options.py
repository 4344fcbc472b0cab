"""Command-line options made from the recipe's fields, so that the two cannot disagree."""

from __future__ import annotations

import gc
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click

from epochal.cli.complete import choices, names_of, setting
from epochal.cli.output import say
from epochal.cli.table import read_table
from epochal.distributed import is_launched
from epochal.errors import MissingError, RecipeError
from epochal.language import translated

if TYPE_CHECKING:
    from epochal.cli.complete import Complete
    from epochal.recipe import Recipe

Command = TypeVar("Command", bound=Callable[..., Any])

# Without the underscores that Python and TOML allow in numbers: typed on a command line they are mistakes.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|nan)")

data_dir = click.option(
    "--data-dir", type=click.Path(), envvar="EPOCHAL_DATA", help="Where named data sets are, or are downloaded to. [env: EPOCHAL_DATA]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, as the last line.")
recipe_option = click.option(
    "--recipe",
    "recipe_name",
    help="Settings to start from: a name from `epochal recipes`, or a TOML file.",
    shell_complete=names_of("recipes", files=True),
)
assignments_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting by its full name; may be repeated.",
    shell_complete=setting,
)
own_model = click.option("--model", help="The code of your own network, as FILE.py:NAME, if RUN was trained with one.")
windows = click.option(
    "--windows", type=click.IntRange(1), help="Cut longer sounds into up to so many windows, and average what is predicted from each."
)


def _in_processes(context: click.Context, _: click.Parameter, count: int | None) -> None:
    """Run the command in so many processes instead, unless this is one of them."""
    if count is None or context.resilient_parsing:
        return
    if is_launched():
        if os.environ["WORLD_SIZE"] != str(count):
            raise click.UsageError(f"--processes {count}, but a launcher has started {os.environ['WORLD_SIZE']}: leave --processes out.")
    elif count > 1:
        with importing():
            from epochal.distributed.launch import launch

            context.exit(launch(count, sys.argv[1:]))


processes = click.option(
    "--processes",
    type=click.IntRange(1),
    callback=_in_processes,
    expose_value=False,
    metavar="N",
    help="Work in N processes on this machine, as torchrun does: about one for each GPU, or for some cores.",
)

# File systems allow names of 255 bytes; the run's number and the suffix of temporary names need some of them.
_LONGEST_NAME = 200


class Positive(click.ParamType):  # type: ignore[type-arg]  # older versions of click have no argument for it
    """A number above 0, as people write numbers: without the underscores that Python allows."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """Parse the text, or fail with a usage error."""
        number = value if isinstance(value, int | float) else parse(value, self.kind)
        if isinstance(number, str) or not 0 < number < float("inf") or (self.kind is int and not isinstance(number, int)):
            wanted = "is not a whole number above 0" if self.kind is int else "is not a number above 0"
            self.fail(f"{value!r} {wanted}.", param, ctx)
        return number


class Setting(click.Option):
    """An option for one setting; it knows its section of the help."""

    def __init__(self, *names: str, section: str, **attributes: Any) -> None:
        super().__init__(list(names), **attributes)
        self.section = section


class RecipeCommand(click.Command):
    """A command whose help lists the settings by section, and which knows what other libraries call them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; for an unknown option that another library has, name the one that stands for it here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from epochal.recipe.elsewhere import ELSEWHERE

            setting = ELSEWHERE.get(error.option_name[2:].replace("-", "_"), "")
            meant = f"--set {setting}=VALUE" if "." in setting else "--" + setting.replace("_", "-")
            if any(meant.split()[0] in parameter.opts for parameter in self.params):
                raise click.UsageError(f"{error.message} Did you mean '{meant}'?", ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, then the settings of each group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(parameter.section if isinstance(parameter, Setting) else "Options", []).append(record)
        for section, records in sorted(sections.items(), key=lambda item: item[0] != "Options"):
            with formatter.section(section):
                formatter.write_dl(records)


def settings(*, only_runtime: bool = False) -> Iterator[Setting]:
    """Yield an option for each setting of the recipe; or only for `RUNTIME_SETTINGS`, without defaults: a run has its own."""
    for name, option, kind, default, is_runtime, description in read_table():
        if only_runtime and not is_runtime:
            continue
        group = name.rpartition(".")[0]
        shown = description if only_runtime or not default else f"{description} [{default}]"
        section = f"{group.capitalize()} settings" if group else "Training settings"
        # Click wants Python identifiers; `changes` turns the underscores back into dots.
        variable = name.replace(".", "__")
        if kind == "BOOL":
            yield Setting(f"{option}/--no-{option[2:]}", variable, section=section, default=None, help=shown)
        else:
            yield Setting(option, variable, section=section, metavar=kind, help=shown, shell_complete=_completion(option, kind))


def _completion(option: str, kind: str) -> Complete:
    return names_of("models", files=True) if option == "--model" else choices(kind)


def recipe_from(recipe: Recipe, options: dict[str, Any], assignments: tuple[str, ...]) -> Recipe:
    """Return `recipe` with the user's own settings on top: options from `settings`, and NAME=VALUE assignments."""
    from epochal.recipe import type_of

    given = changes(options)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise RecipeError(f"--set {assignment} has no value.", "Write --set NAME=VALUE, for example --set optimizer.lr=0.05")
        given[name.strip()] = parse(value.strip(), type_of(name.strip()))
    return recipe.updated(given, "command line")


def pair(text: str) -> tuple[str, str]:
    """Return the name and the kind in NAME=KIND, as --column takes them."""
    name, equals, kind = text.rpartition("=")
    if not equals:
        raise RecipeError(f"--column {text} has no kind.", "Write --column NAME=KIND, for example --column zip=category")
    return name.strip(), kind.strip()


def changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given as options, by their dotted names."""
    from epochal.recipe import type_of

    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    return {name: value if isinstance(value, bool) else parse(value, type_of(name)) for name, value in given.items()}


def parse(text: str, annotation: Any = Any) -> Any:
    """Parse a value by the type of its setting: text as it is, numbers, "none" where the setting is optional, otherwise as TOML.

    Anything else is returned as text, which the recipe then rejects.
    """
    kinds = set(kinds_of(annotation))
    is_open = Any in kinds
    if str in kinds and text[:1] not in ("'", '"'):
        return text
    if text.lower() == "none" and (is_open or NoneType in kinds):
        return None
    if (is_open or kinds & {int, float}) and _NUMBER.fullmatch(text):
        return _number(text, is_whole=int in kinds)
    if not is_open and kinds <= {int, float, NoneType, Literal}:
        return text
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _number(text: str, *, is_whole: bool) -> int | float:
    """Parse a number; where an integer is expected, 1e3 is one."""
    try:
        return int(text)
    except ValueError:  # Also raised for integers of thousands of digits.
        number = float(text)
        return int(number) if is_whole and number.is_integer() and abs(number) < 2**53 else number


def kinds_of(annotation: Any) -> Iterator[Any]:
    """Yield the types that a setting may have; lists, tables and `Literal` without what they contain."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for inner in get_args(annotation):
            yield from kinds_of(inner)
    elif origin is Annotated:
        yield from kinds_of(get_args(annotation)[0])
    else:
        yield origin or annotation


def numbered(data: str, kind: str = "") -> Iterator[Path]:
    """Yield runs/DATA`kind`-1, runs/DATA`kind`-2, ... without end."""
    last = Path(data).resolve().name if Path(data).exists() else data.rstrip("/").rpartition("/")[2] if "://" in data else data
    name = re.sub(r"[^\w.-]+", "-", last).strip("-.") or "run"
    short = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return (Path("runs", f"{short}{kind}-{number}") for number in itertools.count(1))


@contextmanager
def needing_server() -> Iterator[None]:
    """Say how to install what a server needs, if the block cannot import it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(f"The server needs the package {error.name}.", 'Install it: pip install "epochal[serve]"') from error


@contextmanager
def importing() -> Iterator[None]:
    """Switch garbage collection off while the block imports PyTorch: there is no garbage, and collecting takes a tenth of the time.

    Whatever is loaded by then is also left out of later collections.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def print_list(rows: dict[str, str]) -> None:
    """Print names with their one-line descriptions."""
    width = max(map(len, rows))
    for name, description in rows.items():
        say(f"{name:<{width}}  {translated(description)}")
