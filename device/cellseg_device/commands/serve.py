"""``cellseg-device serve``: the results in a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.common import PATH, results_argument
from cellseg_device.errors import InputError
from cellseg_device.stderr import say, say_warning

_NEEDED = ("starlette", "uvicorn")


@click.command(cls=Command, short_help="Show the results in a browser.")
@results_argument
@section(
    "Who gets here",
    click.option(
        "--listen",
        "text",
        metavar="ADDRESS[:PORT]",
        default="127.0.0.1:8377",
        show_default=True,
        help="Where to listen: 127.0.0.1 for this computer alone, 0.0.0.0 for the network; port 0 is any that is free.",
    ),
    click.option(
        "--token-file",
        type=PATH,
        help="Keep the token here, so that it is the same after a start anew; made with a new one if missing.  "
        "[default: a new token at every start; none for this computer alone]",
    ),
    click.option(
        "--name",
        "names",
        metavar="NAME",
        multiple=True,
        help="A further name by which browsers get here, as that of a proxy with TLS. Can be given several times.",
    ),
)
@section(
    "What is shown",
    click.option(
        "--originals",
        type=PATH,
        help="Folder of the images.  [default: RESULTS, or the one it is in]",
    ),
)
def serve(*, out: Path, text: str, token_file: Path | None, names: tuple[str, ...], originals: Path | None) -> None:
    """Show the results in the folder RESULTS in a browser: the newest count, all images, and each cell.

    RESULTS may also be the folder that was watched, if the results are in cellseg-results there. The page changes
    nothing that was counted: it writes corrections, in corrections, models that it puts into use, in models, images
    that a browser sends, with their counts, in uploads, small pictures, in .cellseg-thumbnails, and requests to a
    camera, in .cellseg-camera. Run it beside a watch or a camera; the page follows what they count. Ctrl-C stops it.

    By default only this computer itself gets to the page. With another --listen everybody in the network does who has
    the address with the token that is printed. It is http, which others in the network may read along: docs/page.md
    says how to put TLS in front.

    \b
    Examples:
      cellseg-device serve /captures
      cellseg-device serve /results --listen 0.0.0.0 --token-file ~/.cellseg-token
      cellseg-device serve /results --listen 127.0.0.1:9000 --name cells.example.org --token-file token
    """
    lacking = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise InputError(f"the page needs the package {lacking[0]}: pip install 'cellseg-device[web]'")
    from cellseg_device.results import ledger
    from cellseg_device.web import address, server, tokens

    wanted = address.parse(text)
    if not (out / ledger.FILE_NAME).is_file() or ledger.is_new(out / ledger.FILE_NAME):
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that 'run' or 'watch' wrote into")
    if originals is not None and not originals.is_dir():
        raise InputError(f"{originals} is not a folder: name the folder of the images with --originals")
    listening = address.bound(wanted)
    host, port = listening.getsockname()[:2]
    is_open = not address.is_loopback(host)
    token = tokens.from_file(token_file) if token_file is not None else tokens.new() if is_open else None
    if is_open:
        say_warning("this is http: whoever can read along in this network sees the results and the token")

    def on_ready() -> None:
        for url in address.urls(host, port, token, names):
            click.echo(url)
        say(f"showing {out} (Ctrl-C stops)")

    with listening:
        server.serve(out, listening, originals=originals, names=names, token=token, on_ready=on_ready)
