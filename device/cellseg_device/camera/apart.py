"""A source in another process, so that one that crashes or hangs OpenCV or FFmpeg costs an image and not the command.

What a stranger's stream or video holds is decoded there as well. `Apart` is this side, `serve` the other.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import socket
import time
from typing import Any

import cv2

from cellseg_device.camera.source import Camera, CameraFault, EndOfImages, Pixels, Place, Settings, Warn
from cellseg_device.errors import InputError
from cellseg_device.image import shared_pixels
from cellseg_device.image.opencv import shown
from cellseg_device.image.sandbox import Decoder
from cellseg_device.system import lockdown

_MESSAGE_BYTES = 1 << 16
_GRACE_S = 1.0  # less than `supervise` adds, whose thread would be abandoned
_LOCKING_FRAMES = 10  # as in `supervise`
_MOST_CHARACTERS = 400
_MOST_MESSAGES = 20  # warnings, and an answer
_FAILED = "made the process that reads it fail"
_CRASHED = "crashed the process that reads it"


class Apart:
    """A USB camera, stream or video that another process opens.

    Parameters
    ----------
    decoder : Decoder
        Has the process started.
    place : Place
    settings : Settings
    warn : callable
        Receives a line for the user.
    """

    def __init__(self, decoder: Decoder, place: Place, settings: Settings, warn: Warn) -> None:
        self._warn = warn
        self._within_s = place.timeout_s + _GRACE_S + (settings.exposure_s or 0)
        opening_s = self._within_s + settings.warm_up_s + _LOCKING_FRAMES * (settings.exposure_s or 0)
        try:
            self._connection = decoder.start("cellseg_device.camera.apart:serve")
        except OSError as error:
            raise CameraFault(f"cannot be opened ({error.strerror})") from None
        try:
            opening = {"place": dataclasses.asdict(place), "settings": dataclasses.asdict(settings)}
            answer, _ = self._ask(opening, opening_s)
            self.settings = _settings(answer.get("settings"))
        except ValueError:
            self.close()
            raise CameraFault(_CRASHED) from None
        except BaseException:
            self.close()
            raise
        self.description = shown(answer.get("description"), _MOST_CHARACTERS)

    def capture(self) -> Pixels:
        """Return one image."""
        answer, descriptor = self._ask({}, self._within_s)
        if descriptor is None:
            raise CameraFault("gave no image")
        try:
            return shared_pixels.received(answer, descriptor)
        except ValueError:
            raise CameraFault("gave no image") from None
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """End the other process."""
        self._connection.close()

    def _ask(self, request: dict[str, Any], within_s: float) -> tuple[dict[str, Any], int | None]:
        """Return an answer, and the descriptor that comes with it; raise the exception that it stands for."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        end = time.monotonic() + within_s
        try:
            self._connection.send(json.dumps({"within_s": within_s, **request}).encode())
            for _ in range(_MOST_MESSAGES):
                if not poll.poll(max(end - time.monotonic(), 0) * 1e3):
                    raise CameraFault(f"hangs (no answer for {within_s:.0f} s)")
                message, descriptors, _, _ = socket.recv_fds(self._connection, _MESSAGE_BYTES, 1)
                answer = json.loads(message)  # no message if it has died
                if not isinstance(answer, dict):
                    break
                if answer.get("kind") != "warning":
                    return _checked(answer), descriptors[0] if descriptors else None
                self._warn(shown(answer.get("line"), _MOST_CHARACTERS))
        except (ConnectionError, ValueError, RecursionError):
            pass
        raise CameraFault(_CRASHED)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    message = shown(answer.get("message"), _MOST_CHARACTERS)
    match answer.get("kind"):
        case "fault":
            raise CameraFault(message)
        case "input":
            raise InputError(message)
        case "end":
            raise EndOfImages
    return answer


def _settings(values: Any) -> Settings:
    """Return settings that went through JSON, which has no tuples; raise ValueError if they are none."""
    try:
        pairs: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        settings = Settings(**pairs)
    except (AttributeError, TypeError):
        raise ValueError("no settings") from None
    for value in dataclasses.astuple(settings):
        if not all(
            part is None or isinstance(part, int | float) for part in (value if type(value) is tuple else (value,))
        ):
            raise ValueError("no settings")
    return settings


def serve(connection: socket.socket) -> None:
    """Open a source, and send an image for each request, until the other end of the socket closes."""
    from cellseg_device.camera import opencv

    camera: Camera | None = None

    def warn(line: str) -> None:
        connection.send(json.dumps({"kind": "warning", "line": line}).encode())

    while message := connection.recv(_MESSAGE_BYTES):
        request = json.loads(message)
        # Without a handler it ends this process, even in the middle of a driver
        signal.setitimer(signal.ITIMER_REAL, request["within_s"] + _GRACE_S)
        answer: dict[str, Any]
        descriptors: list[int] = []
        try:
            if camera is None:
                if request["place"]["kind"] != "usb":  # a device has to be written to
                    lockdown.only_read()
                camera = opencv.opened(Place(**request["place"]), _settings(request["settings"]), warn)
                found = dataclasses.asdict(camera.settings)
                answer = {"kind": "opened", "description": camera.description, "settings": found}
            else:
                described, descriptor = shared_pixels.share(camera.capture())
                answer = {"kind": "pixels", **described}
                descriptors.append(descriptor)
        except CameraFault as fault:
            answer = {"kind": "fault", "message": str(fault)}
        except InputError as error:
            answer = {"kind": "input", "message": error.message}
        except EndOfImages:
            answer = {"kind": "end"}
        except cv2.error:  # whose message names places in its source
            answer = {"kind": "fault", "message": f"{_FAILED} (OpenCV)"}
        except Exception as error:  # noqa: BLE001 - for what came
            answer = {"kind": "fault", "message": f"{_FAILED} ({type(error).__name__}: {error})"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        socket.send_fds(connection, [json.dumps(answer).encode()], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
