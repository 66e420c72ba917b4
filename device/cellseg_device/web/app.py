"""What the page can be asked for: its own files, lists and facts as JSON, pictures, downloads and events."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cellseg_device.cells.counts import DEFAULT_FRAME
from cellseg_device.errors import CellsegError
from cellseg_device.results.entry import CELLS, DONE, Entry
from cellseg_device.results.tables import COUNTS_NAME
from cellseg_device.system import files
from cellseg_device.web import checkup, correcting
from cellseg_device.web.correcting import MOST_EDIT_BYTES, Corrector
from cellseg_device.web.downloads import DownloadError, Downloads
from cellseg_device.web.events import Events
from cellseg_device.web.gallery import ORDERS, SHOWN, Gallery, View, row_of
from cellseg_device.web.now import now, shown
from cellseg_device.web.pictures import (
    CORRECTED,
    CORRECTED_CELLS,
    LABELS,
    PICTURE,
    THUMBNAIL,
    BusyError,
    Picture,
    PictureError,
    Pictures,
)
from cellseg_device.web.teach import Teaching
from cellseg_device.web.thumbnails import Thumbnails

_STATIC = Path(__file__).parent / "static"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_ROWS = 200  # of the list in one answer
_MOST_TEXT = 200
_BLOCK_BYTES = 1 << 16
_A_WHILE = "private, max-age=86400"  # an address with the stamp of a result never means another one


class Page:
    """The page of a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.
    """

    def __init__(self, out: Path, originals: Path | None = None) -> None:
        self._out = out
        self._gallery = Gallery(out)
        self._pictures, self._thumbnails = Pictures(out, originals), Thumbnails(out)
        self._downloads, self._corrector = Downloads(out), Corrector(out, originals)
        self._checkup, self._teaching = checkup.Checkup(out), Teaching(out, originals)
        self._originals = originals
        self.events = Events(self._gallery.version)
        self.app = Starlette(
            routes=[
                Route("/", self._static),
                Route("/static/{name}", self._static),
                Route("/api/now", self._now),
                Route("/api/images", self._images),
                Route("/api/image", self._image),
                Route("/api/cells", self._cells),
                Route("/api/events", self._events),
                Route("/api/checkup", self._check, methods=["POST"]),
                *[Route(f"/{what}", self._picture, name=what) for what in (PICTURE, LABELS)],
                *[Route(f"/{what}", self._corrected, name=what) for what in (CORRECTED, CORRECTED_CELLS)],
                Route("/api/correct", self._correct, methods=["POST"]),
                Route(f"/{THUMBNAIL}", self._thumbnail),
                Route("/download/counts.csv", self._counts_table),
                Route("/download/cells.csv", self._cells_table),
                Route("/download/images.xlsx", self._book),
                Route("/download/results.zip", self._archive, methods=["POST"]),
                Route("/download/corrections.zip", self._corrections),
                *self._teaching.routes,
            ],
            exception_handlers={
                CellsegError: _explained,
                OSError: _unreadable,
                PictureError: _no_picture,
                BusyError: _busy,
                DownloadError: _no_download,
            },
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self._pictures.close()
        await self._corrector.close()
        await self._teaching.close()

    async def _static(self, request: Request) -> Response:
        """Answer with one of the page's own files."""
        name = request.path_params.get("name", "index.html")
        if not re.fullmatch(r"[a-z]+\.[a-z]+", name) or not (_STATIC / name).is_file():
            raise HTTPException(404)
        return FileResponse(_STATIC / name, media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    async def _now(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(lambda: now(self._out, self._gallery.listed())))

    async def _images(self, request: Request) -> Response:
        """Answer with a part of the list."""
        view = _view(request.query_params)
        first = _whole(request, "first", 0, 10**9)
        number = _whole(request, "number", 100, _MOST_ROWS)
        version, rows = await run_in_threadpool(self._gallery.sorted, view)
        part = [shown(row) for row in rows[first : first + number]]
        return JSONResponse({"version": version, "number": len(rows), "first": first, "rows": part})

    async def _image(self, request: Request) -> Response:
        """Answer with what is known of an image, and its neighbours in the list."""
        name, view = _name(request), _view(request.query_params)
        entry = await self._entry(name)
        _version, rows = await run_in_threadpool(self._gallery.sorted, view)
        at = next((at for at, row in enumerate(rows) if row.image == name), None)
        before = rows[at - 1].image if at else None
        after = rows[at + 1].image if at is not None and at + 1 < len(rows) else None
        place = {"before": before, "after": after, "at": at, "of": len(rows)}
        correction = await run_in_threadpool(correcting.facts, self._out, entry)
        return JSONResponse(_facts(entry) | place | {"correction": correction})

    async def _cells(self, request: Request) -> Response:
        """Answer with an image's table of cells."""
        entry = await self._entry(_name(request))
        if entry.status != DONE:
            raise HTTPException(404, "It has no cells: it could not be counted.")
        return _streamed(self._out / f"{entry.stem}{CELLS}", "text/csv")

    async def _events(self, _request: Request) -> Response:
        if self.events.is_full:
            raise HTTPException(503, "Too many browsers listen.")
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    async def _check(self, _request: Request) -> Response:
        return JSONResponse({"findings": await self._checkup.findings()})

    async def _picture(self, request: Request) -> Response:
        """Answer with an image, or its labels."""
        entry = await self._entry(_name(request))
        return _drawn(await self._pictures.get(request.url.path.strip("/"), entry.image))

    async def _corrected(self, request: Request) -> Response:
        """Answer with an image's corrected labels, or the table of their cells, as they are now."""
        entry = await self._entry(_name(request))
        picture = await self._pictures.get(request.url.path.strip("/"), entry.image)
        return Response(picture.data, media_type=picture.kind, headers={"X-Cellseg-Note": quote(picture.note)})

    async def _correct(self, request: Request) -> Response:
        """Have an edit made, and answer with what it came to, and the labels in its box as a PNG."""
        if int(request.headers.get("content-length", MOST_EDIT_BYTES + 1)) > MOST_EDIT_BYTES:
            raise HTTPException(413, "That is too much for one edit.")
        asked = correcting.request_of(await request.body(), _name(request))
        if asked is None:
            raise HTTPException(400, "That is not an edit.")
        head, data = await self._corrector.make(asked)
        if "error" in head:
            return PlainTextResponse(_sentence(head["error"]), head["status"])
        return Response(data, media_type="image/png", headers={"X-Cellseg-Correction": quote(json.dumps(head))})

    async def _thumbnail(self, request: Request) -> Response:
        """Answer with a small picture, which is kept where it shows the original."""
        name = _name(request)
        row = (await run_in_threadpool(self._gallery.listed)).rows.get(name)
        if row is None or row.count is None:
            raise HTTPException(404)
        kept = await run_in_threadpool(self._thumbnails.get, name, row.stamp)
        if kept is not None:
            return _drawn(Picture("image/jpeg", kept, ""))
        if await request.is_disconnected():  # somebody scrolls fast
            return Response(status_code=204)
        picture = await self._pictures.get(THUMBNAIL, name)
        if not picture.note:
            await run_in_threadpool(self._thumbnails.put, name, row.stamp, picture.data)
        return _drawn(picture)

    async def _counts_table(self, _request: Request) -> Response:
        return _streamed(self._out / COUNTS_NAME, "text/csv", COUNTS_NAME)

    async def _cells_table(self, _request: Request) -> Response:
        return await self._download("cells", "text/csv", "cells.csv")

    async def _book(self, _request: Request) -> Response:
        kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        return await self._download("book", kind, "images.xlsx")

    async def _corrections(self, _request: Request) -> Response:
        """Answer with what was checked, for a model to learn from."""
        given = b"" if self._originals is None else os.fsencode(self._originals.absolute())
        return await self._download("corrections", "application/zip", "corrections.zip", given)

    async def _archive(self, request: Request) -> Response:
        """Answer with the results of the images that a form names, or else of all in the list that it describes."""
        form = {name: texts[0] for name, texts in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
        try:
            names = json.loads(form.get("images", "[]"))
        except ValueError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise HTTPException(400, "These are no names of images.")
        known = (await run_in_threadpool(self._gallery.listed)).rows
        unknown = [name for name in names if name not in known]
        if unknown:
            raise HTTPException(404, f"There is no image {unknown[0]} any more: load the list again.")
        if not names:
            _version, rows = await run_in_threadpool(self._gallery.sorted, _view(form))
            names = [row.image for row in rows]
        return await self._download("results", "application/zip", "results.zip", json.dumps(names).encode())

    async def _download(self, kind: str, media_type: str, name: str, given: bytes = b"") -> Response:
        return StreamingResponse(
            await self._downloads.begun(kind, given), media_type=media_type, headers=_as_file(name)
        )

    async def _entry(self, name: str) -> Entry:
        entry = await run_in_threadpool(self._gallery.entry, name)
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


def _view(asked: Mapping[str, str]) -> View:
    """Return which images are wanted, and in which order."""
    view = View(
        asked.get("order", "name"), asked.get("descending") == "1", asked.get("show", "all"), asked.get("text", "")
    )
    if view.order not in ORDERS or view.shown not in SHOWN or len(view.text) > _MOST_TEXT:
        raise HTTPException(400, "There is no such list.")
    return view


def _name(request: Request) -> str:
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

    return StreamingResponse(blocks(), media_type=kind, headers=_as_file(name) if name else None)


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


async def _explained(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CellsegError)
    return PlainTextResponse(error.message, 503)


async def _unreadable(_request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return PlainTextResponse(f"The results cannot be read ({error.strerror}): check the disk.", 503)


async def _no_picture(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 404)


async def _busy(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("Too many pictures are asked for: wait a moment.", 503, {"Retry-After": "5"})


async def _no_download(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 503)
