"""What the page can be asked for: its own files, lists and facts as JSON, pictures, downloads and events."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cellseg_device.errors import CellsegError
from cellseg_device.web import checkup, correcting
from cellseg_device.web.album import Album, as_file, named, view_of
from cellseg_device.web.correcting import MOST_EDIT_BYTES, Corrector
from cellseg_device.web.downloads import DownloadError, Downloads
from cellseg_device.web.events import Events
from cellseg_device.web.live_camera import LiveCamera
from cellseg_device.web.now import now
from cellseg_device.web.pictures import CORRECTED, CORRECTED_CELLS, BusyError, PictureError
from cellseg_device.web.teach import Teaching
from cellseg_device.web.uploads import Uploads

_STATIC = Path(__file__).parent / "static"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


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
        self._album, self._uploads = Album(out, originals), Uploads(out)
        self._gallery, self._pictures = self._album.gallery, self._album.pictures
        self._downloads, self._corrector = Downloads(out), Corrector(out, originals)
        self._checkup, self._teaching = checkup.Checkup(out), Teaching(out, originals)
        self._originals = originals
        self.events = Events(self._gallery.version)
        self.app = Starlette(
            routes=[
                Route("/", self._static),
                Route("/static/{name}", self._static),
                Route("/api/now", self._now),
                Route("/api/events", self._events),
                Route("/api/checkup", self._check, methods=["POST"]),
                *[Route(f"/{what}", self._corrected, name=what) for what in (CORRECTED, CORRECTED_CELLS)],
                Route("/api/correct", self._correct, methods=["POST"]),
                Route("/download/cells.csv", self._cells_table),
                Route("/download/images.xlsx", self._book),
                Route("/download/results.zip", self._archive, methods=["POST"]),
                Route("/download/corrections.zip", self._corrections),
                *self._album.routes(),
                *self._teaching.routes,
                *self._uploads.routes,
                *LiveCamera(out).routes,
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
        await self._uploads.close()
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

    async def _events(self, _request: Request) -> Response:
        if self.events.is_full:
            raise HTTPException(503, "Too many browsers listen.")
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    async def _check(self, _request: Request) -> Response:
        return JSONResponse({"findings": await self._checkup.findings()})

    async def _corrected(self, request: Request) -> Response:
        """Answer with an image's corrected labels, or the table of their cells, as they are now."""
        entry = await self._album.entry(named(request))
        picture = await self._pictures.get(request.url.path.strip("/"), entry.image)
        return Response(picture.data, media_type=picture.kind, headers={"X-Cellseg-Note": quote(picture.note)})

    async def _correct(self, request: Request) -> Response:
        """Have an edit made, and answer with what it came to, and the labels in its box as a PNG."""
        if int(request.headers.get("content-length", MOST_EDIT_BYTES + 1)) > MOST_EDIT_BYTES:
            raise HTTPException(413, "That is too much for one edit.")
        asked = correcting.request_of(await request.body(), named(request))
        if asked is None:
            raise HTTPException(400, "That is not an edit.")
        head, data = await self._corrector.make(asked)
        if "error" in head:
            return PlainTextResponse(_sentence(head["error"]), head["status"])
        return Response(data, media_type="image/png", headers={"X-Cellseg-Correction": quote(json.dumps(head))})

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
            _version, rows = await run_in_threadpool(self._gallery.sorted, view_of(form))
            names = [row.image for row in rows]
        return await self._download("results", "application/zip", "results.zip", json.dumps(names).encode())

    async def _download(self, kind: str, media_type: str, name: str, given: bytes = b"") -> Response:
        return StreamingResponse(await self._downloads.begun(kind, given), media_type=media_type, headers=as_file(name))


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


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
