"""epochal serve"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from epochal.cli.options import importing, needing_server, own_model
from epochal.cli.output import say

if TYPE_CHECKING:
    from epochal.predictor import Runtime


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN ...]", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to answer at; any but this machine's own needs --token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes a free one.")
@click.option("--token", envvar="EPOCHAL_TOKEN", default="", help="What clients must know: a secret. [env: EPOCHAL_TOKEN]")
@click.option("--name", "names", multiple=True, help="A host name that clients may use for this server; may be repeated.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads that compute a batch. [all cores but one]")
@click.option(
    "--runtime",
    type=click.Choice(("auto", "eager", "compiled", "onnx")),
    default="auto",
    show_default=True,
    help="What computes: PyTorch as it is, its compiler, or ONNX Runtime; auto measures for some seconds which is faster, if a batch "
    "takes long.",
)
@click.option("--device", default="auto", show_default=True, help="Where it computes: cpu, cuda, mps.")
@own_model
def command(
    runs: tuple[str, ...],
    host: str,
    port: int,
    token: str,
    names: tuple[str, ...],
    threads: int | None,
    runtime: Runtime,
    device: str,
    model: str | None,
) -> None:
    """Serve the trained model of RUN over HTTP, with a page to try it; several RUNs, or NAME=RUN, by their names.

    Only this machine can use it, unless --host and --token say otherwise. Ctrl-C ends it once all requests are answered.
    """
    # Decoding and HTTP need the cores, too: PyTorch's idle threads sleep instead of polling for work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with importing():
        import torch

        from epochal.bundle import needs_code
        from epochal.data.inputs.picture.decoding import cores

        with needing_server():
            from epochal.serve.server import serve
        from epochal.serve.model import check_names, named, open_model

    torch.set_num_threads(threads or max(1, cores() - 1))
    paths = [named(run) for run in runs]
    # Of several runs, --model is for those of the user's own network; if there is none, it is refused.
    own = [path for _, path in paths if model and needs_code(path)] or [path for _, path in paths]
    models = [
        open_model(path, name, own=model if path in own else None, runtime=runtime, device=device, log=lambda note: say(note, err=True))
        for name, path in paths
    ]
    check_names(models)
    known = ", ".join(served.name for served in models)
    serve(
        models,
        host,
        port,
        token=token,
        names=names,
        started=lambda url: say(f"serving {known} at {url} (Ctrl-C ends it)"),
    )
    say("stopped")
