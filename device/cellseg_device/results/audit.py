"""Whether an output folder still is what its ledger says: every result file by its digest, and the tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError, OutputError
from cellseg_device.results import image_files
from cellseg_device.results import ledger as ledgers
from cellseg_device.results.capture_names import FOLDER_NAME, is_kept_capture
from cellseg_device.results.entry import DONE, UNKNOWN, Entry
from cellseg_device.results.folder import result_names
from cellseg_device.results.ledger import Ledger
from cellseg_device.results.tables import COLUMNS, COUNTS_NAME, STATUS, table_bytes
from cellseg_device.system import files

_PATIENCE_S = 1.0  # for a running watch, which may have written an image's files and not yet its row


@dataclass(frozen=True)
class Audit:
    """What a comparison with the ledger found.

    Attributes
    ----------
    images, files : int
        How many images with results the ledger names, and how many files of them were compared.
    problems : tuple of str
        One line for each file that is missing or changed, and for each table that differs from the ledger.
    unknown : int
        How many images were done by an older version, which did not note digests.
    strays : tuple of str
        Names of files that look like results and belong to no image of the ledger.
    behind : tuple of str
        Names of tables that lack the latest results, or are of an earlier version: a running watch writes them again
        every now and then, and the next start at once.
    """

    images: int
    files: int
    problems: tuple[str, ...]
    unknown: int
    strays: tuple[str, ...]
    behind: tuple[str, ...]


def verify(folder: Path, step: Callable[[int], object]) -> Audit:
    """Compare all results with the ledger; a watch may run meanwhile.

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
        raise InputError(f"{folder} has no ledger: check the path, or make one with 'cellseg-device ledger rebuild'")
    try:
        ledger = Ledger(path, is_for_reading=True)
        try:
            return _verified(folder, ledger, step)
        finally:
            ledger.close()
    except OSError as error:
        raise OutputError(f"{folder} cannot be read ({error.strerror}): fix the disk, then try again") from None


def _verified(folder: Path, ledger: Ledger, step: Callable[[int], object]) -> Audit:
    entries = list(ledger.entries(DONE))
    doubtful = []
    for entry in entries:
        if list(_faults(folder, entry)):
            doubtful.append(entry)
        step(len(entries))
    tables, in_doubt = list(_table_faults(folder, ledger)), ledger.in_doubt()
    if doubtful or tables or in_doubt:
        time.sleep(_PATIENCE_S)
        tables, in_doubt = list(_table_faults(folder, ledger)), sorted({*in_doubt} & {*ledger.in_doubt()})
    problems = [
        f"{image} was being counted when cellseg was stopped: if it is still there, the next 'run' or 'watch' "
        "counts it again"
        for image in in_doubt
    ]
    for entry in doubtful:
        now = ledger.get(entry.image)
        if now is not None and now.counts is not None:
            problems += _faults(folder, now)
    named = {name for entry in ledger.entries(DONE) for name in result_names(entry)} | {*image_files.SUMMARY_NAMES}
    named |= {name for image in in_doubt for name in ledger.announced(image)}
    strays = [
        path.name for path in folder.iterdir() if image_files.is_result_name(path.name) and path.name not in named
    ]
    return Audit(
        images=len(entries),
        files=sum(len(entry.digests()) for entry in entries),
        problems=(*problems, *tables),
        unknown=sum(not entry.digests() for entry in entries),
        strays=tuple(sorted(strays)),
        behind=_behind(ledger),
    )


def _faults(folder: Path, entry: Entry) -> Iterator[str]:
    for name, digest in entry.digests().items():
        if digest == UNKNOWN:
            if os.path.lexists(folder / name):
                yield f"{name} was being written when cellseg was stopped: {_remedy(folder, name, entry)}"
            continue
        try:
            same = files.sha256(folder / name) == digest
        except FileNotFoundError:
            yield f"{name} is missing: {_remedy(folder, name, entry)}"
            continue
        if not same:
            yield f"{name} is not as it was written: remove it, then {_remedy(folder, name, entry)}"


def _remedy(folder: Path, name: str, entry: Entry) -> str:
    if not name.endswith(image_files.ALWAYS):
        return "'cellseg-device export' makes it again"
    if is_kept_capture(entry.image):
        if not (folder / FOLDER_NAME / entry.image).exists():
            return "nothing makes it again, since the camera's image was not kept"
        return f"the next 'camera' makes it again from {FOLDER_NAME}/{entry.image}"
    return f"the next 'run' or 'watch' makes it again from {entry.image}"


def _behind(ledger: Ledger) -> tuple[str, ...]:
    """Return the tables that the next start writes again although nobody has changed them."""
    left = ledger.tables()
    if not left and next(ledger.entries(DONE), None) is not None:
        return (COUNTS_NAME,)  # of the versions that did not note how they left it
    return tuple(sorted(table for table, (columns, *_) in left.items() if columns != COLUMNS.get(table)))


def _table_faults(folder: Path, ledger: Ledger) -> Iterator[str]:
    behind = _behind(ledger)
    for table, status in STATUS.items():
        if table in behind:
            continue
        entries = list(ledger.entries(status))
        try:
            with open(folder / table, "rb", opener=files.regular) as file:
                found = file.read()
        except FileNotFoundError:
            found = b""
        if found != (table_bytes(table, entries) if entries or table == COUNTS_NAME else b""):
            yield f"{table} differs from the ledger: the next 'run' or 'watch' writes it again"
