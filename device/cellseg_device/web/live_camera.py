"""What the page can ask a camera for: what it sees now, and an image. It answers through the folder that both share."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from cellseg_device.camera.live_folder import ASKED, FRAME, SNAP, SNAP_S, TAKEN, LiveFolder
from cellseg_device.results.lock import is_held
from cellseg_device.system import files

_LONGEST_S = 2.5  # for a picture, before the page is told that there is none
_LOOK_S = 0.05
_OLD_S = 60.0  # a picture that is older is of a camera that is gone
_Head = dict[str, Any]


class LiveCamera:
    """Asks the camera of a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._folder = out, LiveFolder(out)
        self._snapping = asyncio.Lock()

    @property
    def routes(self) -> list[BaseRoute]:
        """What can be asked for: by POST, since no other site's page may have pictures taken."""
        return [
            Route("/api/camera/frame", self._frame, methods=["POST"]),
            Route("/api/camera/snap", self._snap, methods=["POST"]),
        ]

    async def _frame(self, request: Request) -> Response:
        """Answer with a picture other than the last one that the page had, or why there is none."""
        last = request.query_params.get("after", "")
        await run_in_threadpool(self._ask)
        end = time.monotonic() + _LONGEST_S
        while True:
            head, picture = await run_in_threadpool(self._newest)
            if head is not None and str(head["number"]) != last:
                headers = {"X-Cellseg-Frame": quote(json.dumps(head))}
                return Response(picture, media_type="image/jpeg", headers=headers)
            if time.monotonic() > end or await request.is_disconnected():
                return JSONResponse(await run_in_threadpool(self._why_not, has_had_one=head is not None))
            await asyncio.sleep(_LOOK_S)

    def _ask(self) -> None:
        """Have the camera show what it sees for some seconds."""
        folder = self._folder.path
        try:
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise HTTPException(503, f"{folder.name} is a link, which may lead anywhere: remove it.")
            descriptor = files.open_regular(folder / ASKED, os.O_WRONLY | os.O_CREAT)
            try:
                os.utime(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            words = f"The camera cannot be asked ({error.strerror}: {folder}): run the page as the user who owns that."
            raise HTTPException(503, words) from None

    def _newest(self) -> tuple[_Head | None, bytes]:
        """Return what is known of the newest picture, and the picture; None and nothing without one."""
        age_s = self._folder.age_s(FRAME)
        data = self._folder.read(FRAME) if age_s is not None and age_s < _OLD_S else None
        if data is None:
            return None, b""
        line, _, picture = data.partition(b"\n")
        try:
            head = json.loads(line)
        except ValueError:
            return None, b""
        return (head, picture) if isinstance(head, dict) and "number" in head else (None, b"")

    def _why_not(self, *, has_had_one: bool) -> _Head:
        """Return why there is no new picture: the camera is busy, or there is none."""
        if has_had_one:
            return {"state": "busy", "words": "The camera is busy: it counts an image."}
        if is_held(self._out):
            words = (
                "What counts here shows no picture. A camera does, between two images, if it runs as the same user as "
                "this page; a watch has none."
            )
            return {"state": "none", "words": words}
        words = "No camera is running for these results. Start one on the computer beside the microscope:"
        out = str(self._out.absolute())
        return {"state": "none", "words": words, "command": f"cellseg-device camera --out {shlex.quote(out)}"}

    async def _snap(self, _request: Request) -> Response:
        """Have the camera take an image, and answer with its name."""
        async with self._snapping:
            await run_in_threadpool(self._ask)
            number = secrets.token_hex(16)
            await run_in_threadpool(self._folder.write, SNAP, number.encode())
            end = time.monotonic() + SNAP_S
            try:
                while time.monotonic() < end:
                    image = await run_in_threadpool(self._taken, number)
                    if image is not None:
                        return JSONResponse({"image": image})
                    await asyncio.sleep(_LOOK_S)
            finally:
                self._folder.remove(SNAP)
        raise HTTPException(503, f"No camera took an image within {SNAP_S:.0f} s: it is busy, or none is running.")

    def _taken(self, number: str) -> str | None:
        try:
            found = json.loads(self._folder.read(TAKEN) or b"null")
        except ValueError:
            return None
        return str(found["image"]) if isinstance(found, dict) and found.get("number") == number else None
