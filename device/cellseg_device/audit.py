"""Whether an output folder still is what its ledger says: every result file by its digest, and the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cellseg_device import files, results
from cellseg_device import ledger as ledgers
from cellseg_device.errors import InputError, OutputError
from cellseg_device.ledger import DONE, FAILED, Entry, Ledger
from cellseg_device.output import COUNTS_NAME, FAILED_NAME, result_names, table_bytes
from cellseg_device.retention import CAPTURE, CAPTURES_NAME

_PATIENCE_S = 1.0  # a running watch may have written an image's files and not yet its row


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes
    ----------
    images, files : int
        How many images with results the ledger names, and how many files of them were compared.
    problems : tuple of str
        One line for each file that is missing or changed, and for a table that says something else.
    unknown : int
        Images of which an older version did not note the digests.
    strays : tuple of str
        Names of files that look like results and belong to no image of the ledger.
    """

    images: int
    files: int
    problems: tuple[str, ...]
    unknown: int
    strays: tuple[str, ...]


def verify(folder: Path, step: Callable[[int], object]) -> Audit:
    """Compare all results with the ledger; beside a running watch, too.

    Parameters
    ----------
    folder : Path
    step : callable
        Called after each image with the number of all.

    Raises
    ------
    InputError
        If there is no ledger.
    OutputError
        If the ledger is damaged or newer, or the disk cannot be read.
    """
    path = folder / ledgers.FILE_NAME
    if ledgers.is_new(path):
        raise InputError(
            f"{folder} has no ledger: check the path, or make it anew with 'cellseg-device ledger rebuild'"
        )
    try:
        ledger = Ledger(path, is_for_reading=True)
        try:
            return _verified(folder, ledger, step)
        finally:
            ledger.close()
    except OSError as error:
        raise OutputError(f"{folder} cannot be read ({error.strerror}): mend the disk, then try again") from None


def _verified(folder: Path, ledger: Ledger, step: Callable[[int], object]) -> Audit:
    entries = list(ledger.entries(DONE))
    doubtful = []
    for entry in entries:
        if list(_faults(folder, entry)):
            doubtful.append(entry)
        step(len(entries))
    tables = list(_table_faults(folder, ledger))
    if doubtful or tables:
        time.sleep(_PATIENCE_S)
        tables = list(_table_faults(folder, ledger))
    problems: list[str] = []
    for entry in doubtful:
        now = ledger.get(entry.image)
        if now is not None and now.counts is not None:
            problems += _faults(folder, now)
    named = {name for entry in ledger.entries(DONE) for name in result_names(entry)} | {*results.SUMMARY_NAMES}
    strays = [path.name for path in folder.iterdir() if results.is_result_name(path.name) and path.name not in named]
    return Audit(
        images=len(entries),
        files=sum(len(entry.digests()) for entry in entries),
        problems=(*problems, *tables),
        unknown=sum(not entry.digests() for entry in entries),
        strays=tuple(sorted(strays)),
    )


def _faults(folder: Path, entry: Entry) -> Iterator[str]:
    for name, digest in entry.digests().items():
        try:
            same = files.sha256(folder / name) == digest
        except FileNotFoundError:
            yield f"{name} is missing: {_remedy(folder, name, entry)}"
            continue
        if not same:
            yield f"{name} is not as it was written: remove it, then {_remedy(folder, name, entry)}"


def _remedy(folder: Path, name: str, entry: Entry) -> str:
    if not name.endswith(results.ALWAYS):
        return "'cellseg-device export' makes it again"
    if CAPTURE.fullmatch(entry.image):
        if not (folder / CAPTURES_NAME / entry.image).exists():
            return "nothing makes it again, since the camera's image was not kept"
        return f"the next 'camera' makes it again from {CAPTURES_NAME}/{entry.image}"
    command = "run" if Path(entry.image).is_absolute() else "watch"
    return f"the next '{command}' makes it again from {entry.image}"


def _table_faults(folder: Path, ledger: Ledger) -> Iterator[str]:
    for table, status in ((COUNTS_NAME, DONE), (FAILED_NAME, FAILED)):
        entries = list(ledger.entries(status))
        try:
            found = (folder / table).read_bytes()
        except FileNotFoundError:
            found = b""
        if found != (table_bytes(table, entries) if entries or table == COUNTS_NAME else b""):
            yield f"{table} does not say what the ledger says: the next 'run' or 'watch' makes it anew"
