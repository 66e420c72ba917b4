"""The process that counts uploaded images, and removes them: it answers as `helper` says.

An image is decoded in the sandbox, and counted as the newest one of the results that the page shows: by the models in
use there, with the same settings. One that cannot be counted leaves nothing. What a killed counter left without a
result was not acknowledged, and goes.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from cellseg_device.cells.counting import Counting, parse_key
from cellseg_device.errors import CellsegError, InputError
from cellseg_device.image.sandbox import Decoder
from cellseg_device.image.source import SUFFIXES, source_at
from cellseg_device.pipeline.in_use import Loading
from cellseg_device.results.entry import DONE, FAILED, is_plain_name
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.stderr import say_warning
from cellseg_device.system import files
from cellseg_device.watching.session import worker_for
from cellseg_device.watching.worker import Worker
from cellseg_device.web import answering, upload_names
from cellseg_device.web.upload_names import FOLDER_NAME, IMAGES_NAME

PREFIX = "upload-"
_STALE_S = 3600.0  # after which nobody is sending any more what is not whole
_MOST_THREADS = 4
_REFUSED, _FAULT, _FULL = 422, 503, 507

Answer = dict[str, Any]


class Counter:
    """Counts and removes the images of a folder of uploads.

    Parameters
    ----------
    worker : Worker
        Its output is that folder.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._folder = worker.output.folder
        self._images = self._folder / IMAGES_NAME

    def answer(self, request: dict[str, Any]) -> Answer:
        """Return the name of the image that was counted or removed, or with a status why that was refused."""
        try:
            self._open()
            if request["what"] == "count":
                return self._count(Path(request["path"]), str(request["name"]))
            return self._remove(str(request["image"]))
        except CellsegError as error:
            return _refusal(_FAULT, error.message)
        except MemoryError:
            return _refusal(_FAULT, "this needs more memory than there is: send a smaller image")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return _refusal(_FULL, "there is no room on the disk for its results: make room, or remove uploads")
            return _refusal(_FAULT, f"the disk refuses ({error.strerror}): fix that, then try again")

    def _open(self) -> None:
        """Open the folder, and remove what a killed counter left without a result."""
        output = self._worker.output
        if output.is_open:
            return
        output.open()
        self._images.mkdir(exist_ok=True)
        if self._images.is_symlink():
            raise InputError(f"{IMAGES_NAME} is a link, which may lead anywhere: remove it")
        for path in self._images.iterdir():
            entry = output.ledger.get(path.name)
            if path.name.startswith(PREFIX) and (entry is None or entry.status == FAILED):
                self._forget(path.name)
            elif files.is_temporary(path.name) and path.stat().st_mtime < time.time() - _STALE_S:
                path.unlink(missing_ok=True)

    def _count(self, sent: Path, name: str) -> Answer:
        path = self._placed(sent, name)
        is_counted = False
        try:
            source = source_at(path, path.name)
            if source is None:
                raise InputError("the image is gone: send it again")
            outcome = self._worker.process(source)
            if outcome.status == FAILED:
                return _refusal(_REFUSED, f"this file {outcome.reason}")
            upload_names.write(self._folder, upload_names.read(self._folder) | {path.name: name})
            is_counted = True
        finally:
            if not is_counted:
                with suppress(OSError, CellsegError):
                    self._forget(path.name)
        self._refresh()
        return {"image": path.name}

    def _placed(self, sent: Path, name: str) -> Path:
        """Give what was sent a name that is free here: the time, and the ending that it had if images may have it."""
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else ".png"
        began = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        number = 1
        while list(self._images.glob(f"{began}-{number}.*")):
            number += 1
        path = self._images / f"{began}-{number}{suffix}"
        sent.rename(path)
        return path

    def _remove(self, image: str) -> Answer:
        if self._worker.output.ledger.get(image) is None:
            return _refusal(_REFUSED, "there is no such image any more: load the page again")
        self._forget(image)
        names = upload_names.read(self._folder)
        if names.pop(image, None) is not None:
            upload_names.write(self._folder, names)
        self._refresh()
        return {"image": image}

    def _forget(self, image: str) -> None:
        """Remove an image's results, then the image."""
        self._worker.output.open()
        self._worker.output.remove(image)
        if is_plain_name(image):
            (self._images / image).unlink(missing_ok=True)

    def _refresh(self) -> None:
        with suppress(OSError):  # they are written at the end, or at the next start
            self._worker.output.refresh_tables(now=True)


def settings_of_newest(out: Path) -> Counting:
    """Return the settings by which the newest image of a results folder was counted; the defaults without one."""
    with closing(Ledger(out / FILE_NAME, is_for_reading=True)) as ledger:
        settings = "{}"
        for entry in ledger.entries(DONE):
            settings = entry.settings or settings
    return parse_key(settings)


def _refusal(status: int, words: str) -> Answer:
    return {"status": status, "error": f"{words[:1].upper()}{words[1:]}."}


def main(out: Path) -> None:
    """Answer what standard input asks for.

    Parameters
    ----------
    out : Path
        The output folder that the uploads are kept in.
    """
    answering.begin(answering.BEHIND_COUNTING)
    threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    loading = Loading(out, None, None, threads, "cpu", say_warning)
    with (
        Decoder() as decoder,
        worker_for(
            out / FOLDER_NAME,
            loading.first,
            say_warning,
            decode=decoder.decode,
            counting=settings_of_newest(out),
            extras=("overlay",),
            reload=loading.again,
            awaited=loading.awaited,
        ) as worker,
    ):
        counter = Counter(worker)
        answering.serve(lambda request: (counter.answer(request), b""), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
