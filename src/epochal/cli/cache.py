"""epochal cache"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from epochal.cli.options import as_json
from epochal.cli.output import say, say_json


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the examples, unpacked archives and models of the Hugging Face hub that are cached on disk, so that files are read only once.

    EPOCHAL_CACHE sets another folder for them, EPOCHAL_CACHE_SIZE their size in GB; the least recently used are removed first.
    """
    if context.invoked_subcommand is not None:
        return
    from epochal.data.storage.archives import unpacked_archives, unpacked_folder
    from epochal.data.storage.cache import open_cache
    from epochal.data.storage.hub import PREFIX, hub_folder, hub_models
    from epochal.shown import counted

    cache = open_cache()
    entries, size = cache.entries(), cache.size()
    for entry in entries:
        shape = "×".join(f"{side:,}" for side in entry.shape)
        used = datetime.fromtimestamp(entry.used, UTC).astimezone()
        say(f"{entry.name}: {shape}, {entry.size / 1e9:.2f} GB, used {used:%Y-%m-%d %H:%M}")
    say(f"{size / 1e9:.2f} GB of {cache.limit / 1e9:.1f} GB in {cache.folder}")
    archives, unpacked = unpacked_archives()
    if archives:
        say(f"{counted(archives, 'unpacked archive')}, {unpacked / 1e9:.2f} GB in {unpacked_folder()}")
    models = hub_models()
    for name, taken in models.items():
        say(f"{PREFIX}{name}, {taken / 1e9:.2f} GB in {hub_folder()}")
    if as_json:
        packs = [entry._asdict() for entry in entries]
        say_json(
            {
                "folder": str(cache.folder),
                "size": size,
                "limit": cache.limit,
                "packs": packs,
                "archives": archives,
                "unpacked": unpacked,
                "models": models,
            }
        )


@command.command(short_help="Remove what is kept.")
@click.option("--hub", "with_hub", is_flag=True, help="Also remove the models of the Hugging Face hub, which are then downloaded again.")
@as_json
def clear(with_hub: bool, as_json: bool) -> None:
    """Remove examples and unpacked archives, except what is being written at the moment. They are created again when they are needed."""
    from epochal.data.storage.archives import remove_unpacked, unpacked_archives
    from epochal.data.storage.cache import open_cache
    from epochal.data.storage.hub import hub_models, remove_hub_models
    from epochal.shown import counted

    packs, size = open_cache().clear()
    say(f"removed {packs} {'set' if packs == 1 else 'sets'} of examples, {size / 1e9:.2f} GB")
    archives, unpacked = unpacked_archives()
    remove_unpacked()
    if archives:
        say(f"removed {counted(archives, 'unpacked archive')}, {unpacked / 1e9:.2f} GB")
    models = hub_models() if with_hub else {}
    if models:
        remove_hub_models()
        say(f"removed {counted(len(models), 'hub model')}, {sum(models.values()) / 1e9:.2f} GB")
    if as_json:
        say_json({"packs": packs, "size": size, "archives": archives, "unpacked": unpacked, "models": models})
