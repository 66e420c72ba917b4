"""What a camera shows between its images, while somebody looks: a small picture with its focus score, and an image now.

Nothing is taken, encoded or written unless a page asks for it (`live_folder`).
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable

import cv2

from cellseg_device.camera.aid import small
from cellseg_device.camera.live_folder import ASKED, ASKED_S, FRAME, SNAP, SNAP_S, TAKEN, LiveFolder
from cellseg_device.camera.source import Pixels
from cellseg_device.camera.supervise import Supervised
from cellseg_device.image import focus
from cellseg_device.watching.wake import StopSignal

_WIDTH_PX, _QUALITY = 1024, 80
_EVERY_S = 0.2  # from picture to picture
_LOOK_S = 0.5  # from look to look whether somebody asks
_NUMBER = re.compile(rb"[0-9a-f]{32}")


class Live:
    """Shows what a camera sees to whoever asks.

    Parameters
    ----------
    folder : LiveFolder
    camera : Supervised
    is_played : bool
        Whether it is a video or a folder of images, of which a picture would use up an image: only those that are taken
        anyway are shown.
    """

    def __init__(self, folder: LiveFolder, camera: Supervised, *, is_played: bool) -> None:
        self._folder, self._camera, self._is_played = folder, camera, is_played
        self._number, self._has_shown = 0, False
        self._took_s = 0.0  # the last picture

    def wait(self, left_s: Callable[[], float], stop: StopSignal) -> bytes | None:
        """Wait until no time is left, or it is stopped; meanwhile show what the camera sees.

        Returns
        -------
        bytes or None
            The number by which an image is asked for, which ends the waiting.

        Raises
        ------
        CameraError
            If the camera fails for good.
        """
        while (number := self._asked_for()) is None and not stop.stopping and (left := left_s()) > 0:
            if not self._is_asked():
                self.end()
                stop.sleep(min(_LOOK_S, left))
                continue
            due = time.monotonic() + _EVERY_S
            if not self._is_played and left > 2 * self._took_s:  # else the next image would be late
                begin = time.monotonic()
                pixels = self._camera.capture()
                if pixels is None:
                    return None
                self._write(pixels)
                self._took_s = time.monotonic() - begin
            stop.sleep(min(due - time.monotonic(), left_s()))
        return number

    def _asked_for(self) -> bytes | None:
        """Return the number by which an image is asked for; None if none is."""
        age_s = self._folder.age_s(SNAP)
        if age_s is None:
            return None
        number = self._folder.read(SNAP)
        if age_s > SNAP_S or number is None or not _NUMBER.fullmatch(number):
            self._folder.remove(SNAP)
            return None
        return number

    def took(self, pixels: Pixels, image: str, number: bytes | None) -> None:
        """Show an image that was taken, and tell who asked for it by this number what it is called."""
        if number is not None:
            with contextlib.suppress(OSError):
                self._folder.write(TAKEN, json.dumps({"number": number.decode(), "image": image}).encode())
            self._folder.remove(SNAP)
        if self._is_asked():
            self._write(pixels)

    def end(self) -> None:
        """Remove what was shown."""
        if self._has_shown:
            self._folder.remove(FRAME)
            self._has_shown = False

    def _is_asked(self) -> bool:
        age_s = self._folder.age_s(ASKED)
        return age_s is not None and age_s < ASKED_S

    def _write(self, pixels: Pixels) -> None:
        """Write a picture; one that the disk refuses is worth no fault."""
        self._number += 1
        settings = self._camera.settings
        head = {
            "number": self._number,
            "focus": focus.score(pixels),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "camera": self._camera.description,
            "exposure_s": settings.exposure_s,
            "gain": settings.gain,
            "awb": settings.awb,
            "is_played": self._is_played,
        }
        encoded = cv2.imencode(".jpg", small(pixels, _WIDTH_PX), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1]
        with contextlib.suppress(OSError):
            self._folder.write(FRAME, json.dumps(head).encode() + b"\n" + encoded.tobytes())
            self._has_shown = True
