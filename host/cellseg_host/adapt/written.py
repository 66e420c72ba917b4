"""What is written of an adapted model: the model, and beside it the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellseg_device.errors import InputError, OutputError
from cellseg_device.system import files
from cellseg_host.data.whole_folder import check_place

if TYPE_CHECKING:
    from cellseg_host.adapt.adapt import Adapted

_PAGE = ".html"
_MARK = b"<title>Adapted model"
_FLATBUFFER = b"TFL3"  # from the fifth byte on
REFUSED = "page.html"  # in the work folder: the page about a model that was not written


def check_out(out: Path) -> None:
    """Raise for a place where the model, or the page beside it, cannot be written, before any work.

    Raises
    ------
    InputError
        If its name is not that of a model, or model or page would replace a file that is not one.
    OutputError
        If it cannot be made.
    """
    if out.suffix != ".tflite":
        raise InputError(f"--out {out}: is not the name of a model: end it with .tflite")
    check_place(out.parent)
    if not files.may_replace(out, lambda start: start[4:8] == _FLATBUFFER):
        raise InputError(f"{out}: is a file that is not a model, and would be replaced: choose another --out")
    page = out.with_suffix(_PAGE)
    if not files.may_replace(page, lambda start: _MARK in start):
        raise InputError(f"{page}: would be replaced by the page about the model: choose another --out")


def write(found: Adapted, out: Path, work: Path) -> Path:
    """Write model and page, both or none, or only the page, into the work folder; return the page's path.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    from cellseg_host.adapt import page

    text = page.render(found).encode()
    path = work / REFUSED if found.data is None else out.with_suffix(_PAGE)
    contents = {path.name: text} | ({} if found.data is None else {out.name: found.data})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_all(path.parent, {name: files.holding(data) for name, data in contents.items()})
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written to ({error.strerror}): choose another --out") from None
    return path
