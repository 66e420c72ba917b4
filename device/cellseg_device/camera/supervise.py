"""Opening a camera again that fails or hangs, a limited number of times."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TypeVar

from cellseg_device.camera.source import Camera, CameraFault, Opener, Pixels, Settings, Warn
from cellseg_device.errors import CameraError
from cellseg_device.system.delays import Delays
from cellseg_device.watching.wake import StopSignal

_T = TypeVar("_T")

_GRACE_S = 2.0  # added to the time after which a camera should give up by itself
_CLOSING_S = 5.0
_LOCKING_FRAMES = 10  # a camera may need this many to find the values to lock


@dataclass(frozen=True)
class Limits:
    """How long a camera may take, and how often it may fail.

    Attributes
    ----------
    timeout_s : float
        How long opening the camera, or taking an image, may take, without warm-up and exposure.
    retries : int
        How often in a row it is opened again.
    """

    timeout_s: float = 10.0
    retries: int = 8


class Supervised:
    """A camera that is opened again after faults, with the same locked settings.

    Everything it does runs in a thread of its own, which is abandoned if it hangs.

    Parameters
    ----------
    opener : Opener
        Called at once.
    settings : Settings
    limits : Limits
    warn : callable
        Receives a line when the camera fails, and one when images come again.
    stop : StopSignal
        Ends the waiting for a camera: one that hangs then is no fault.

    Attributes
    ----------
    description : str
        Of the camera; empty if it was stopped while opening it.
    is_hung : bool
        Whether a thread was abandoned: then the process cannot end normally.

    Raises
    ------
    CameraError
        If it cannot be opened; this is not tried again, since the given settings may be the reason.
    InputError
        If it can never be opened.
    """

    def __init__(self, opener: Opener, settings: Settings, limits: Limits, warn: Warn, stop: StopSignal) -> None:
        self._opener, self._settings, self._limits = opener, settings, limits
        self._warn, self._stop = warn, stop
        self._camera: Camera | None = None
        self.is_hung = False
        self.description = ""
        try:
            camera = self._opened()
        except CameraFault as fault:
            if stop.stopping:
                return
            raise CameraError(f"the camera {fault}") from None
        self._settings = camera.settings  # locked from now on
        self.description = camera.description

    @property
    def settings(self) -> Settings:
        """The given and the locked settings, with which it is opened again."""
        return self._settings

    def capture(self) -> Pixels | None:
        """Return one image, opening the camera again as often as needed; None if stopped while waiting.

        Raises
        ------
        CameraError
            If it failed too often in a row.
        EndOfImages
            If a video file or a folder is at its end.
        """
        faults, delays = 0, Delays()
        while True:
            try:
                camera = self._camera or self._opened()
                pixels = self._within(self._limits.timeout_s, camera.capture)
            except CameraFault as fault:
                self.close()
                if self._stop.stopping:
                    return None
                if faults == self._limits.retries:
                    times = "1 time" if faults == 1 else f"{faults} times"
                    raise CameraError(f"the camera {fault}; it was opened again {times} in vain") from None
                if not faults:
                    self._warn(f"the camera {fault}; opening it again")
                self._stop.sleep(delays.next_s())
                if self._stop.stopping:
                    return None
                faults += 1
            else:
                if faults:
                    self._warn("the camera is back")
                return pixels

    def close(self) -> None:
        """Free the camera; does nothing if it is closed."""
        camera, self._camera = self._camera, None
        if camera is not None:
            with contextlib.suppress(CameraFault):
                self._within(_CLOSING_S, camera.close)

    def _opened(self) -> Camera:
        seconds = self._limits.timeout_s + self._settings.warm_up_s + _LOCKING_FRAMES * (self._settings.exposure_s or 0)
        self._camera = self._within(seconds, lambda: self._opener(self._settings), lambda camera: camera.close())
        return self._camera

    def _within(self, seconds: float, work: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Return the result of `work` in a thread; after this time abandon the thread, which then undoes a late result.

        Raises
        ------
        CameraFault
            If the time is over, or it is soon after a stop.
        """
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
            except BaseException as error:  # noqa: BLE001 - raised again by `future.result`
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(error)

        threading.Thread(target=run, name="cellseg-camera", daemon=True).start()
        self._wait(future, seconds)
        if not future.cancel():
            return future.result()
        self.is_hung = True
        raise CameraFault(f"hangs (no answer for {seconds:.0f} s)")

    def _wait(self, future: Future[_T], seconds: float) -> None:
        """Wait until this is done, at most so long; after a stop as long as an image that is on its way takes."""
        future.add_done_callback(lambda _: self._stop.wake())
        end, is_stopped = time.monotonic() + seconds, False
        while not future.done() and (left_s := end - time.monotonic()) > 0:
            if self._stop.stopping and not is_stopped:
                is_stopped, left_s = True, min(left_s, _GRACE_S + (self._settings.exposure_s or 0))
                end = time.monotonic() + left_s
            self._stop.wait(left_s)
