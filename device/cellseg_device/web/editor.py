"""The process that corrects: it keeps the image in hand with its labels and maps, and answers as `helper` says.

The journal has each edit before it is answered. The label image is written when an image is marked, when another one
comes, when nothing was asked for some seconds, and at the end; what a kill leaves unwritten, the journal has.
"""

from __future__ import annotations

import json
import select
import sys
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from cellseg_device.cells.counting import parse_key
from cellseg_device.correcting import maps as correcting_maps
from cellseg_device.correcting import requests
from cellseg_device.correcting.maps import Maps
from cellseg_device.correcting.work import ConflictError, Work, begin_anew
from cellseg_device.errors import CellsegError, ImageError, InputError, ModelError
from cellseg_device.results import export
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.stderr import say_error
from cellseg_device.web import answering, label_png
from cellseg_device.web.answering import Answer

ANEW = "begin anew"
_SAVED_AFTER_S = 3.0
_CONFLICT, _REFUSED, _FAULT = 409, 422, 503


class _Hand:
    """An image in hand: its correction, and its maps once they are needed."""

    def __init__(self, out: Path, entry: Entry, originals: Originals) -> None:
        labels = export.stored(out, entry).labels
        subject = export.subject(entry, labels, originals)
        self.entry, self._out = entry, out
        self.work = Work(out, entry, subject.image, parse_key(entry.settings or "{}"))

    @cached_property
    def maps(self) -> Maps:
        """What the network shows."""
        return correcting_maps.predicted(self.work.image, self.work.counting, self.entry, self._out)


class Editor:
    """Edits the images of a results folder, one at a time.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Originals
        The images.
    """

    def __init__(self, out: Path, originals: Originals) -> None:
        self._out, self._originals = out, originals
        self._hand: _Hand | None = None

    def answer(self, request: dict[str, Any]) -> Answer:
        """Return the answer to a request, as of `correcting.requests` with the name of an image, or to `ANEW`."""
        try:
            return self._made(request)
        except ConflictError as error:
            return _refusal(_CONFLICT, error)
        except (ImageError, InputError, ModelError) as error:
            return _refusal(_REFUSED, error)
        except CellsegError as error:
            return _refusal(_FAULT, error)
        except MemoryError:
            return {"status": _FAULT, "error": "this image needs more memory than there is"}, b""
        except OSError as error:
            words = (
                f"nothing was changed, since the disk refuses ({error.strerror}): make room or fix it, then try again"
            )
            return {"status": _FAULT, "error": words}, b""

    def save(self) -> None:
        """Write what only the journal has; what the disk refuses is tried again later."""
        if self._hand is not None:
            try:
                self._hand.work.save()
            except (OSError, CellsegError) as error:
                say_error(f"corrected labels cannot be written now ({error}): the journal has them")

    def _made(self, request: dict[str, Any]) -> Answer:
        entry = self._entry(str(request.get("image")))
        if request.get("what") == ANEW:
            begin_anew(self._out, entry)
            self._hand = None
            return _state(self._taken(entry).work), b""
        hand = self._taken(entry)
        work = hand.work
        changed, note = requests.make(work, request, lambda: hand.maps)
        if changed is None:
            return _state(work, note=note), b""
        field = None if work.image.field is None else work.image.field[changed.place]
        return _state(work, note=note, box=changed.box), label_png.encoded(work.labels[changed.place], field)

    def _entry(self, image: str) -> Entry:
        with closing(Ledger(self._out / FILE_NAME, is_for_reading=True)) as ledger:
            entry = ledger.get(image)
        if entry is None or entry.status != DONE:
            raise InputError("this image has no result any more: load the list again")
        return entry

    def _taken(self, entry: Entry) -> _Hand:
        """Return an image, as it is on the disk now."""
        if self._hand is None or self._hand.entry != entry or not self._hand.work.is_current():
            self.save()
            self._hand = None
            self._hand = _Hand(self._out, entry, self._originals)
        return self._hand


def _state(work: Work, *, note: str = "", box: tuple[int, int, int, int] | None = None) -> dict[str, Any]:
    """Return what a correction is now, as it goes to the browser."""
    return {
        "status": 200,
        "revision": work.revision,
        "state": work.state,
        "corrected": work.tally.count,
        "corrected_in_frame": work.tally.in_frame,
        "left_out": work.tally.left_out,
        "can_undo": work.can_undo,
        "can_redo": work.can_redo,
        "box": box,
        "note": note,
    }


def _refusal(status: int, error: CellsegError) -> Answer:
    return {"status": status, "error": error.message}, b""


def serve(editor: Editor, asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while True:
        if not select.select([asked], [], [], _SAVED_AFTER_S)[0]:  # the next one comes only after an answer
            editor.save()
            select.select([asked], [], [])
        line = asked.readline()
        if not line:
            editor.save()
            return
        answering.put(answers, *editor.answer(json.loads(line)))


def main(out: Path, folder: Path | None) -> None:
    """Answer what standard input asks for; parameters as of `answering.originals_of`."""
    answering.begin(1)  # counting goes first, though somebody waits for this
    with answering.originals_of(out, folder) as originals:
        serve(Editor(out, originals), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
