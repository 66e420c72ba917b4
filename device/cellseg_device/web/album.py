"""The images of a results folder as the page asks for them: lists, facts, pictures and tables."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from cellseg_device.cells.counts import DEFAULT_FRAME
from cellseg_device.results.entry import CELLS, DONE, Entry
from cellseg_device.results.entry import LABELS as LABELS_FILE
from cellseg_device.results.tables import COUNTS_NAME
from cellseg_device.system import files
from cellseg_device.web import correcting
from cellseg_device.web.gallery import ORDERS, SHOWN, Gallery, View, row_of
from cellseg_device.web.now import shown
from cellseg_device.web.pictures import LABELS, PICTURE, THUMBNAIL, Picture, Pictures
from cellseg_device.web.thumbnails import Thumbnails

_MOST_ROWS = 200  # of the list in one answer
_MOST_TEXT = 200
_BLOCK_BYTES = 1 << 16
_A_WHILE = "private, max-age=86400"  # an address with the stamp of a result never means another one


class Album:
    """The images of a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.

    Attributes
    ----------
    gallery : Gallery
    pictures : Pictures
    """

    def __init__(self, out: Path, originals: Path | None = None) -> None:
        self._out = out
        self.gallery, self.pictures = Gallery(out), Pictures(out, originals)
        self._thumbnails = Thumbnails(out)

    def routes(self, under: str = "") -> list[BaseRoute]:
        """Return what can be asked for, at addresses that begin with `under`."""
        return [
            Route(f"{under}/api/images", self._images),
            Route(f"{under}/api/image", self._image),
            Route(f"{under}/api/cells", self._cells),
            *[Route(f"{under}/{what}", self._picture, name=what) for what in (PICTURE, LABELS)],
            Route(f"{under}/{THUMBNAIL}", self._thumbnail),
            Route(f"{under}/download/counts.csv", self._counts_table),
            Route(f"{under}/download/labels.tif", self._label_image),
        ]

    async def _images(self, request: Request) -> Response:
        """Answer with a part of the list."""
        view = view_of(request.query_params)
        first = _whole(request, "first", 0, 10**9)
        number = _whole(request, "number", 100, _MOST_ROWS)
        version, rows = await run_in_threadpool(self.gallery.sorted, view)
        part = [shown(row) for row in rows[first : first + number]]
        return JSONResponse({"version": version, "number": len(rows), "first": first, "rows": part})

    async def _image(self, request: Request) -> Response:
        """Answer with what is known of an image, and its neighbours in the list."""
        name, view = named(request), view_of(request.query_params)
        entry = await self.entry(name)
        _version, rows = await run_in_threadpool(self.gallery.sorted, view)
        at = next((at for at, row in enumerate(rows) if row.image == name), None)
        before = rows[at - 1].image if at else None
        after = rows[at + 1].image if at is not None and at + 1 < len(rows) else None
        place = {"before": before, "after": after, "at": at, "of": len(rows)}
        correction = await run_in_threadpool(correcting.facts, self._out, entry)
        return JSONResponse(_facts(entry) | place | {"correction": correction})

    async def _cells(self, request: Request) -> Response:
        """Answer with an image's table of cells."""
        entry = await self.entry(named(request))
        if entry.status != DONE:
            raise HTTPException(404, "It has no cells: it could not be counted.")
        return _streamed(self._out / f"{entry.stem}{CELLS}", "text/csv")

    async def _picture(self, request: Request) -> Response:
        """Answer with an image, or its labels."""
        entry = await self.entry(named(request))
        return _drawn(await self.pictures.get(request.url.path.rpartition("/")[2], entry.image))

    async def _thumbnail(self, request: Request) -> Response:
        """Answer with a small picture, which is kept where it shows the original."""
        name = named(request)
        row = (await run_in_threadpool(self.gallery.listed)).rows.get(name)
        if row is None or row.count is None:
            raise HTTPException(404)
        kept = await run_in_threadpool(self._thumbnails.get, name, row.stamp)
        if kept is not None:
            return _drawn(Picture("image/jpeg", kept, ""))
        if await request.is_disconnected():  # somebody scrolls fast
            return Response(status_code=204)
        picture = await self.pictures.get(THUMBNAIL, name)
        if not picture.note:
            await run_in_threadpool(self._thumbnails.put, name, row.stamp, picture.data)
        return _drawn(picture)

    async def _counts_table(self, _request: Request) -> Response:
        return _streamed(self._out / COUNTS_NAME, "text/csv", COUNTS_NAME)

    async def _label_image(self, request: Request) -> Response:
        """Answer with an image's label image as a file."""
        entry = await self.entry(named(request))
        if entry.status != DONE:
            raise HTTPException(404, "It has no labels: it could not be counted.")
        name = f"{entry.stem}{LABELS_FILE}"
        return _streamed(self._out / name, "image/tiff", name)

    async def entry(self, name: str) -> Entry:
        """Return what the ledger has of an image; raise HTTPException if it has nothing."""
        entry = await run_in_threadpool(self.gallery.entry, name)
        if entry is None:
            raise HTTPException(404, "There is no such image any more: load the list again.")
        return entry


def _facts(entry: Entry) -> dict[str, Any]:
    """Return what is known of an image, as it goes to the browser."""
    counts = entry.counts if entry.status == DONE else None
    settings = json.loads(entry.settings or "{}")
    row = row_of(0, entry)
    return shown(row) | {
        "model": entry.model,
        "frame": settings.get("frame", DEFAULT_FRAME),
        "region": _region(settings.get("region"), counts.surround if counts else ""),
        "counts": dataclasses.asdict(counts) if counts else None,
    }


def _region(given: dict[str, Any] | None, surround: str) -> str:
    """Return in words where cells were looked for; empty for everywhere."""
    if given is None:
        return f"what is not {surround.partition(',')[0]} surround" if surround else ""
    numbers = ", ".join(f"{number:g}" for number in given["numbers"])
    name = Path(given["path"]).name if given["path"] else ""
    return "" if given["kind"] == "whole" else f"{given['kind']} {numbers}{name}".strip()


def view_of(asked: Mapping[str, str]) -> View:
    """Return which images are wanted, and in which order."""
    view = View(
        asked.get("order", "name"), asked.get("descending") == "1", asked.get("show", "all"), asked.get("text", "")
    )
    if view.order not in ORDERS or view.shown not in SHOWN or len(view.text) > _MOST_TEXT:
        raise HTTPException(400, "There is no such list.")
    return view


def named(request: Request) -> str:
    """Return the image that a request names; raise HTTPException if it names none."""
    name = request.query_params.get("image")
    if not name:
        raise HTTPException(400, "No image is named.")
    return name


def _whole(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        raise HTTPException(400, f"{name} is no number.")
    return min(int(text), most)


def _drawn(picture: Picture) -> Response:
    """Return a picture; one without its original is asked for again, since that may come back."""
    headers = {"Cache-Control": "no-store" if picture.note else _A_WHILE, "X-Cellseg-Note": quote(picture.note)}
    return Response(picture.data, media_type=picture.kind, headers=headers)


def _streamed(path: Path, kind: str, name: str | None = None) -> Response:
    """Return a file a part at a time; never one that a link leads out to, nor a pipe."""
    try:
        file = open(files.open_regular(path, 0), "rb")  # noqa: SIM115 - closed by `_blocks`
    except FileNotFoundError:
        raise HTTPException(404, f"{path.name} is missing.") from None

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    return StreamingResponse(blocks(), media_type=kind, headers=as_file(name) if name else None)


def as_file(name: str) -> dict[str, str]:
    """Return the header by which a browser keeps what comes as a file."""
    is_plain = re.fullmatch(r"[\w.-]+", name, re.ASCII)
    given = f'filename="{name}"' if is_plain else f"filename*=UTF-8''{quote(name)}"
    return {"Content-Disposition": f"attachment; {given}"}
