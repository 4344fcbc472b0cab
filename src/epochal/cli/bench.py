"""epochal bench"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from epochal.cli.complete import names_of
from epochal.cli.options import (
    Positive,
    RecipeCommand,
    as_json,
    assignments_option,
    data_dir,
    numbered,
    parse,
    recipe_from,
    recipe_option,
    settings,
)
from epochal.cli.output import print_table, say, say_json
from epochal.errors import RecipeError
from epochal.language import translated

if TYPE_CHECKING:
    from rich.table import Table

    from epochal.tuning.profile import Profile

# These vary between measurements and have their own options.
_VARIED = ("device", "batch_size")


@click.command(cls=RecipeCommand, params=[setting for setting in settings() if setting.name not in _VARIED])
@click.argument("data", default="digits", shell_complete=names_of("datasets", files=True))
@click.option("--devices", metavar="NAME,...", help="Devices to measure on: cpu, cuda, cuda:1, mps. [all available]")
@click.option("--batch-sizes", metavar="INT,...", help="Batch sizes to measure with. [64,128,256,512]")
@click.option("--seconds", type=Positive(float), default=2.0, show_default=True, help="About how long to measure each pair.")
@recipe_option
@assignments_option
@click.option("--out", type=click.Path(path_type=Path), help="The folder for the result; it must not exist yet. [runs/DATA-bench-NUMBER]")
@data_dir
@as_json
def command(
    data: str,
    devices: str | None,
    batch_sizes: str | None,
    seconds: float,
    recipe_name: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    data_dir: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how fast training on DATA is, and why, for each device and batch size.

    Prints examples per second, the time of an epoch, the share of each phase of a step, the peak memory (tensors on a GPU, the
    whole program on the CPU), and how many times as long a step takes as its floor, the matrix products and convolutions alone.
    The trained weights are discarded.
    """
    from epochal.recipe import Recipe, load_recipe

    recipe = recipe_from(load_recipe(recipe_name) if recipe_name else Recipe(), options, assignments)
    for setting in _VARIED:
        if recipe.origin(setting) == "command line":
            option = f"--{setting.replace('_', '-')}s"
            raise RecipeError(f"--set {setting} has no effect on what is measured.", f"Use {option}.")
    sizes = [] if batch_sizes is None else [_size(word) for word in batch_sizes.split(",")]
    names = [] if devices is None else devices.split(",")
    # PyTorch is imported only now, once the settings are known to be valid.
    from epochal.bench import bench

    place = out or numbered(data, "-bench")
    done = bench(data, recipe, devices=names, batch_sizes=sizes, seconds=seconds, out=place, data_dir=data_dir, log=say)
    print_table(_table(done.profiles))
    for words in done.others:
        say(f"not measured: {words}")
    assert done.folder is not None
    say(f"  numbers   {done.folder / 'bench.json'}\n  picture   {done.folder / 'speed.png'}")
    if as_json:
        say_json(done.result)


def _size(word: str) -> int:
    size = parse(word.strip(), int)
    if not isinstance(size, int):
        raise RecipeError(f"--batch-sizes: '{word}' is not an integer.", "Write for example --batch-sizes 64,128")
    return size


def _table(profiles: tuple[Profile, ...]) -> Table:
    from rich.table import Table

    from epochal.models.summary import byte_words

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    columns = ("device", "batch", "examples/s", "epoch", *profiles[0].shares, "memory", "floor")
    for column in columns:
        table.add_column(translated(column), justify="left" if column == "device" else "right", no_wrap=True)
    for one in profiles:
        shares = (f"{100 * share:.0f} %" for share in one.shares.values())
        memory = "" if one.peak_bytes is None else byte_words(one.peak_bytes)
        floor = "" if one.times_floor is None else f"× {one.times_floor:.1f}"
        table.add_row(
            one.device, str(one.batch_size), f"{one.examples_per_second:,.0f}", f"{one.seconds_per_epoch:.3g} s", *shares, memory, floor
        )
    return table
