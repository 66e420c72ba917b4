"""Images decoded and predicted ahead of their turn, so that no core waits while another image is finished."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cellseg_device.cells.counting import Counting
from cellseg_device.errors import LACKS_MEMORY, ImageError
from cellseg_device.image.sandbox import Decode
from cellseg_device.image.source import Source
from cellseg_device.pipeline import needs
from cellseg_device.pipeline.models import Choice, Models
from cellseg_device.pipeline.predict import Prediction, predict, without_cells
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.system import memory
from cellseg_device.watching.faults import ReadError, as_image_faults


@dataclass(frozen=True)
class Begun:
    """A decoded image whose prediction is being made.

    Attributes
    ----------
    sha256 : str
        Of the image file.
    needed_bytes : int
        That the steps after decoding need, beside the image itself.
    choice : Choice
    prediction : Future of Prediction
    """

    sha256: str
    needed_bytes: int
    choice: Choice
    prediction: Future[Prediction]


@dataclass(frozen=True)
class _Ahead:
    """What was done for an image before its turn: it was begun, or refused with a reason, or neither."""

    source: Source
    models: Models
    begun: Begun | None = None
    refusal: str | None = None


class Prefetcher:
    """Decodes images here and has the network run over them in a thread of its own, one image ahead.

    The next image is begun only if there is the memory for both.

    Parameters
    ----------
    counting : Counting
    decode : callable
        Reads and decodes a file: `sandbox.decode_here`, or the `decode` of a `sandbox.Decoder`.
    extras : collection of str
        What is made of every image beside its labels and table.
    """

    def __init__(self, counting: Counting, decode: Decode, extras: Collection[str] = ()) -> None:
        self._counting = counting
        self._extras = extras
        self._decode = decode
        self._thread = ThreadPoolExecutor(1, "cellseg-network")
        self._ahead: _Ahead | None = None

    def take(self, source: Source, models: Models, stopwatch: Stopwatch, *, following: Source | None = None) -> Begun:
        """Return an image that has been begun, and begin the one that follows it.

        Parameters
        ----------
        source : Source
            It is decoded now, unless that was done ahead with these models and the file has not changed since.
        models : Models
        stopwatch : Stopwatch
            Receives the time of each step that is not done ahead.
        following : Source or None
            It is decoded while the network runs over `source`; the network then goes on to it.

        Raises
        ------
        ImageError
            If the file of `source` is not an image that can be used; of `following`, in its own turn.
        ReadError
            If it cannot be read now.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.source == source and ahead.refusal is not None:
            raise ImageError(ahead.refusal)  # not decoded again: the first time may have taken a minute
        if ahead is not None and ahead.begun is not None and ahead.source == source and ahead.models is models:
            begun = ahead.begun
        else:
            begun = self._begin_alone(source, models, stopwatch)
        if following is not None:
            self._ahead = self._begin_ahead(following, models, begun.needed_bytes)
        return begun

    def close(self) -> None:
        """End the thread, after the image that the network has in hand."""
        self._ahead = None
        self._thread.shutdown(cancel_futures=True)

    def _begin_alone(self, source: Source, models: Models, stopwatch: Stopwatch) -> Begun:
        """Begin an image; where the memory is short, after returning what this process keeps for the next image."""
        try:
            return self._begin(source, models, stopwatch)
        except ImageError as error:
            if not error.message.startswith(LACKS_MEMORY) or not memory.return_all():
                raise
        return self._begin(source, models, stopwatch)

    def _begin(self, source: Source, models: Models, stopwatch: Stopwatch, reserved_bytes: int = 0) -> Begun:
        budget = needs.budget(self._extras, reserved_bytes=reserved_bytes)
        with as_image_faults():
            try:
                with stopwatch.step("decode"):
                    sha256, image = self._decode(source.path, budget)
            except OSError as error:
                raise ReadError(error.errno, error.strerror) from error
        with stopwatch.step("normalise"):
            image = self._counting.applied(image)
        with stopwatch.step("gate"), as_image_faults():
            choice = models.choose(image)
        diameter_px = self._counting.diameter_px(image)
        room = needs.room_for(
            image,
            choice.model,
            budget,
            diameter_px=diameter_px,
            extras=self._extras,
            leaves_out=self._counting.leaves_out,
        )
        if choice.is_segmented:
            prediction = self._thread.submit(
                predict, image, choice.model, stopwatch, diameter_px=diameter_px, whole_px=room.whole_px
            )
        else:
            prediction = self._thread.submit(without_cells, image, choice.model)
        return Begun(sha256, room.needed_bytes - image.pixels.nbytes, choice, prediction)

    def _begin_ahead(self, source: Source, models: Models, reserved_bytes: int) -> _Ahead:
        try:
            return _Ahead(source, models, begun=self._begin(source, models, Stopwatch(), reserved_bytes))
        except ImageError as error:
            # Alone, it may have the memory that it lacks now. The message is kept, not the error, whose frames hold
            # images.
            return _Ahead(source, models, refusal=None if error.message.startswith(LACKS_MEMORY) else error.message)
        except OSError:
            return _Ahead(source, models)  # a fault that may be gone by its turn
