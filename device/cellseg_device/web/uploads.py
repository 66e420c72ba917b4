"""What the page can ask for of images that a browser sends: to count one, their list, and to remove one.

They lie in ``OUT/uploads``, a results folder of its own which no watch takes images from. Their names there are ours;
those that they had are in ``names.csv``, and are shown as texts alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from cellseg_device.results import ledger
from cellseg_device.system import files
from cellseg_device.web import upload_names
from cellseg_device.web.album import Album, named
from cellseg_device.web.gallery import View
from cellseg_device.web.helper import Helper, HelperError
from cellseg_device.web.now import shown
from cellseg_device.web.receiving import to_file
from cellseg_device.web.upload_names import FOLDER_NAME, IMAGES_NAME

UPLOAD_PATH, MOST_IMAGE_BYTES = "/api/upload", 512 << 20
_KEPT_FREE_BYTES = 100_000_000  # a full disk stops more than this page
_MOST_LISTED = 500
_MOST_NAME = 200  # characters
_ENDED = "The process that counts has ended, perhaps for lack of memory: try again, or send a smaller image."
_FULL = "There is no room on the disk for this image: make room, or remove uploads."


class Uploads:
    """Passes on to the counter what the page asks for, and shows what it counted.

    Parameters
    ----------
    out : Path
        The output folder that they are kept in, and whose models count them.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER_NAME
        self._album = Album(self._folder, self._folder / IMAGES_NAME)
        self._counter = Helper("cellseg_device.web.counter", [str(out.absolute())], has_more_to_do=True)
        self._turn = asyncio.Lock()

    @property
    def routes(self) -> list[BaseRoute]:
        """What can be asked for."""
        return [
            Route(UPLOAD_PATH, self._count, methods=["POST"]),
            Route("/api/uploads", self._list),
            Route("/api/uploads/remove", self._remove, methods=["POST"]),
            *self._album.routes(f"/{FOLDER_NAME}"),
        ]

    async def close(self) -> None:
        """End what runs."""
        await self._counter.close()
        await self._album.pictures.close()

    async def _list(self, _request: Request) -> Response:
        """Answer with the images, the newest first."""
        return JSONResponse(await run_in_threadpool(self._listed))

    def _listed(self) -> dict[str, Any]:
        if ledger.is_new(self._folder / ledger.FILE_NAME):
            return {"number": 0, "rows": []}
        _version, rows = self._album.gallery.sorted(View("name", is_descending=True))
        counted = [row for row in rows if row.count is not None]
        known = upload_names.read(self._folder)
        return {
            "number": len(counted),
            "rows": [shown(row) | {"name": known.get(row.image, row.image)} for row in counted[:_MOST_LISTED]],
        }

    async def _count(self, request: Request) -> Response:
        """Have the image counted whose file is the body, which is written to the disk as it comes."""
        name = _shown(request.query_params.get("name", ""))
        if self._turn.locked():
            raise HTTPException(503, "Another image is being uploaded: wait until it is counted.")
        async with self._turn:
            try:
                path = await run_in_threadpool(self._place, int(request.headers.get("content-length", "0")))
                try:
                    await to_file(request, path)
                    return await self._answer({"what": "count", "path": str(path), "name": name})
                finally:
                    with contextlib.suppress(OSError):
                        path.unlink()
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise HTTPException(507, _FULL) from None
                raise HTTPException(503, f"The disk refuses the image ({error.strerror}): fix that first.") from None

    def _place(self, size: int) -> Path:
        """Return a new file for what comes; what a killed server has left, the counter removes."""
        images = self._folder / IMAGES_NAME
        for folder in (self._folder, images):
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise HTTPException(503, f"{folder.name} is a link, which may lead anywhere: remove it.")
        if shutil.disk_usage(self._folder).free < size + _KEPT_FREE_BYTES:
            raise HTTPException(507, _FULL)
        path = images.absolute() / files.temporary_name()
        os.close(files.new_file(path))
        return path

    async def _remove(self, request: Request) -> Response:
        """Have an image and its results removed."""
        return await self._answer({"what": "remove", "image": named(request)})

    async def _answer(self, asked: dict[str, Any]) -> Response:
        try:
            head, _ = await self._counter.ask(asked)
        except HelperError:
            return PlainTextResponse(_ENDED, 503)
        if "error" in head:
            return PlainTextResponse(str(head["error"]), head["status"])
        return JSONResponse({"image": head["image"]})


def _shown(name: str) -> str:
    """Return the name of an image in one line."""
    return "".join(letter for letter in name if letter.isprintable())[:_MOST_NAME].strip() or "without a name"
