"""A camera that fails or hangs is opened anew, a limited number of times."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TypeVar

from cellseg_device.camera.source import Camera, CameraFault, Opener, Pixels, Settings, Warn
from cellseg_device.errors import CameraError
from cellseg_device.wake import Alarm

_T = TypeVar("_T")

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_GRACE_S = 2.0  # beyond the time after which a camera should give up by itself
_CLOSING_S = 5.0
_LOCKING_FRAMES = 10  # that a camera may take to find out what it locks


@dataclass(frozen=True)
class Limits:
    """How much is borne.

    Attributes
    ----------
    timeout_s : float
        How long opening the camera, or an image, may take; warm-up and exposure come on top.
    retries : int
        How often in a row it is opened anew.
    """

    timeout_s: float = 10.0
    retries: int = 8


class Supervised:
    """A camera that comes back after faults, locked as it was.

    Everything it does runs in a thread of its own, which is left behind where it hangs.

    Parameters
    ----------
    opener : Opener
        Called at once.
    settings : Settings
    limits : Limits
    warn : callable
        Told of a fault once, and once when images come again.
    alarm : Alarm
        Ends the waiting for a camera.

    Raises
    ------
    CameraError
        If it cannot be opened; this is not tried again, since it may be what was asked for.
    InputError
        If it never can be.
    """

    def __init__(self, opener: Opener, settings: Settings, limits: Limits, warn: Warn, alarm: Alarm) -> None:
        self._opener, self._settings, self._limits = opener, settings, limits
        self._warn, self._alarm = warn, alarm
        self._camera: Camera | None = None
        self.is_hung = False  # a thread was left behind: the process cannot end in the ordinary way
        try:
            camera = self._opened()
        except CameraFault as fault:
            raise CameraError(f"the camera {fault}") from None
        self._settings = camera.settings  # found once, for good
        self.description = camera.description

    @property
    def settings(self) -> Settings:
        """As asked for and found: what it is opened with again."""
        return self._settings

    def capture(self) -> Pixels | None:
        """Take one image, however often the camera has to be opened for it; None if stopped while waiting.

        Raises
        ------
        CameraError
            If it failed too often in a row.
        EndOfImages
            As the camera says.
        """
        faults = 0
        while True:
            try:
                camera = self._camera or self._opened()
                pixels = self._within(self._limits.timeout_s, camera.capture)
            except CameraFault as fault:
                self._let_go()
                if faults == self._limits.retries:
                    times = "1 time" if faults == 1 else f"{faults} times"
                    raise CameraError(f"the camera {fault}; it was opened again {times} in vain") from None
                if not faults:
                    self._warn(f"the camera {fault}; opening it again")
                self._alarm.sleep(min(_FIRST_DELAY_S * 2**faults, _LONGEST_DELAY_S))
                if self._alarm.stopping:
                    return None
                faults += 1
            else:
                if faults:
                    self._warn("the camera is back")
                return pixels

    def close(self) -> None:
        """Let go of the camera; does nothing when it is closed."""
        self._let_go()

    def _opened(self) -> Camera:
        seconds = self._limits.timeout_s + self._settings.warm_up_s + _LOCKING_FRAMES * (self._settings.exposure_s or 0)
        self._camera = self._within(seconds, lambda: self._opener(self._settings), lambda camera: camera.close())
        return self._camera

    def _let_go(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(CameraFault):
                self._within(_CLOSING_S, camera.close)

    def _within(self, seconds: float, work: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Have a thread do something; after this time leave it alone, to undo what it did too late."""
        seconds += _GRACE_S + (self._settings.exposure_s or 0)
        future: Future[_T] = Future()

        def run() -> None:
            try:
                result = work()
                try:
                    future.set_result(result)
                except InvalidStateError:
                    if undo is not None:
                        undo(result)
            except BaseException as error:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(error)

        threading.Thread(target=run, name="cellseg-camera", daemon=True).start()
        try:
            return future.result(seconds)
        except TimeoutError:
            if not future.cancel():
                return future.result()
        self.is_hung = True
        raise CameraFault(f"hangs (no answer for {seconds:.0f} s)")
