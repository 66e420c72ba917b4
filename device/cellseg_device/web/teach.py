"""What the page can ask for to teach a model: what is checked, what to correct next, models to upload, try and use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from cellseg_device.system import files
from cellseg_device.web.adapting import MODELS, Adapting
from cellseg_device.web.helper import Helper, HelperError, results_arguments
from cellseg_device.web.receiving import to_file

UPLOAD_PATH, MOST_MODEL_BYTES = "/api/models", 64 << 20  # the largest network of the host takes 30 MB as int8
_ENDED = "The process that runs models has ended: try again."
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Teaching:
    """Passes on to the teacher what the page asks for.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.
    """

    def __init__(self, out: Path, originals: Path | None) -> None:
        self._out = out
        self._teacher = Helper("cellseg_device.web.teacher", results_arguments(out, originals))
        self._adapting = Adapting(out, originals, self._taken)
        self._upload = asyncio.Lock()

    @property
    def routes(self) -> list[BaseRoute]:
        """What can be asked for."""
        return [
            Route("/api/teach", self._facts),
            Route("/api/suggested", self._suggested),
            Route("/part", self._part),
            Route(UPLOAD_PATH, self._keep, methods=["POST"]),
            Route("/api/try", self._try, methods=["POST"]),
            Route("/api/use", self._use, methods=["POST"]),
            Route("/api/back", self._back, methods=["POST"]),
            Route("/api/adapt", self._adapt, methods=["GET", "POST"]),
            Route("/api/adapt/stop", self._stop, methods=["POST"]),
        ]

    async def close(self) -> None:
        """End what runs."""
        await self._adapting.stop()
        await self._teacher.close()

    async def _facts(self, _request: Request) -> Response:
        return await self._answer({"what": "facts"}, can_adapt=self._adapting.is_possible())

    async def _suggested(self, _request: Request) -> Response:
        return await self._answer({"what": "suggested"})

    async def _part(self, request: Request) -> Response:
        """Answer with a picture of a part of an image."""
        try:
            row, column = (int(request.query_params[name]) for name in ("row", "column"))
        except (KeyError, ValueError):
            raise HTTPException(400, "No part is named.") from None
        asked = {"what": "part", "image": _named(request, "image"), "row": row, "column": column}
        return await self._answer(asked)

    async def _keep(self, request: Request) -> Response:
        """Keep a model whose file is the body, which is written to the disk as it comes."""
        if self._upload.locked():
            raise HTTPException(503, "Another model is being uploaded: wait until it is done.")
        async with self._upload:
            path = await run_in_threadpool(self._place)
            try:
                await to_file(request, path)
                return await self._answer({"what": "keep", "path": str(path)})
            except OSError as error:
                raise HTTPException(
                    503, f"The model cannot be kept ({error.strerror}): make room or fix the disk."
                ) from None
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _place(self) -> Path:
        """Return a new file for what comes; what a killed server has left is removed."""
        folder = self._out / MODELS
        folder.mkdir(exist_ok=True)
        if folder.is_symlink():
            raise HTTPException(503, f"{MODELS} is a link, which may lead anywhere: remove it.")
        with files.write_lock(folder):
            files.remove_leftovers(folder)
        path = folder.absolute() / files.temporary_name()
        os.close(files.new_file(path))
        return path

    async def _try(self, request: Request) -> Response:
        """Answer with which images a model is to be tried on, or what it makes of one."""
        return await self._answer(
            {"what": "try", "model": _digest(request), "image": request.query_params.get("image")}
        )

    async def _use(self, request: Request) -> Response:
        return await self._answer({"what": "use", "model": _digest(request)})

    async def _back(self, _request: Request) -> Response:
        return await self._answer({"what": "back"})

    async def _adapt(self, request: Request) -> Response:
        """Begin to teach a model here if that is asked for, and answer with how far it has come."""
        if request.method == "POST":
            if not self._adapting.is_possible():
                raise HTTPException(404, "cellseg-host is not installed on this computer.")
            if not self._adapting.begin():
                raise HTTPException(409, "A model is being taught already.")
        return JSONResponse(self._adapting.state)

    async def _stop(self, _request: Request) -> Response:
        await self._adapting.stop()
        return JSONResponse(self._adapting.state)

    async def _taken(self, path: Path) -> dict[str, Any]:
        """Keep a model that was made here."""
        try:
            head, _ = await self._teacher.ask({"what": "keep", "path": str(path)})
        except HelperError:
            raise ValueError(_ENDED) from None
        if "error" in head:
            raise ValueError(head["error"])
        found: dict[str, Any] = head["model"]
        return found

    async def _answer(self, asked: dict[str, Any], **more: Any) -> Response:
        try:
            head, data = await self._teacher.ask(asked)
        except HelperError:
            return PlainTextResponse(_ENDED, 503)
        del head["bytes"]
        if "error" in head:
            message = str(head["error"])
            return PlainTextResponse(f"{message[:1].upper()}{message[1:]}.", 422)
        if not data:
            return JSONResponse(head | more)
        return Response(data, media_type="image/jpeg", headers={"X-Cellseg-Tried": quote(json.dumps(head))})


def _named(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise HTTPException(400, f"No {name} is named.")
    return value


def _digest(request: Request) -> str:
    value = _named(request, "model")
    if not _DIGEST.fullmatch(value):
        raise HTTPException(400, "That is no model.")
    return value
