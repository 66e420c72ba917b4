"""Optional formats of images that were done before, made of what is stored: the same bytes as if made at once.

It works beside a watch: an image's files are read, and the new ones written only if those are still the same; if the
image was done again meanwhile, the new ones are made anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device import files, overlay, results, scan
from cellseg_device import image as images
from cellseg_device.card import Card
from cellseg_device.errors import ImageError
from cellseg_device.formats import FORMATS, Content
from cellseg_device.ledger import DONE, Entry, Ledger

# A watch is given this long to finish with an image that it has in hand.
_PATIENCE_S, _PAUSE_S = 3.0, 0.2

_State = list[tuple[int, int, int] | None]


@dataclass(frozen=True)
class Originals:
    """Where the images are, and how they are drawn: for overlays.

    Attributes
    ----------
    folders : tuple of Path
        Where images are looked for whose names in the ledger have no folder.
    card : Card
    model_sha256 : str
        Digest of the model file that the card is from.
    """

    folders: tuple[Path, ...]
    card: Card
    model_sha256: str


@dataclass(frozen=True)
class Exported:
    """What became of one image.

    Attributes
    ----------
    image : str
    made, kept : tuple of str
        Names of files: those made now, and those that were there.
    reason : str or None
        Why some could not be made.
    """

    image: str
    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    reason: str | None = None


class _OtherFilesError(ImageError):
    """The stored files are not those that the ledger knows."""


def export(
    folder: Path, ledger: Ledger, entry: Entry, names: tuple[str, ...], force: bool, originals: Originals | None
) -> Exported:
    """Make formats of one image.

    Parameters
    ----------
    folder : Path
        The output folder.
    ledger : Ledger
        Its ledger.
    entry : Entry
        Of an image that was done.
    names : tuple of str
        Of `results.EXTRAS`.
    force : bool
        Whether to make also those that are there.
    originals : Originals or None
        Needed for overlays.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        is_last = time.monotonic() > deadline
        exported = _attempt(folder, ledger, entry, names, force, originals, not is_last)
        if exported is not None:
            return exported
        if is_last:
            return Exported(entry.image, reason="is being done again and again: try later")
        time.sleep(_PAUSE_S)
        newest = ledger.get(entry.image)
        if newest is None or newest.status != DONE:
            return Exported(entry.image, reason="was done again meanwhile and failed: see failed.csv")
        entry = newest


def chosen(ledger: Ledger, arguments: tuple[Path, ...]) -> Iterator[Entry | Exported]:
    """Look up images by name: all that were done, or those named, or else why there is none of that name.

    Parameters
    ----------
    ledger : Ledger
    arguments : tuple of Path
        Names as in ``counts.csv``, or paths of images. Empty for all.
    """
    entries = list(ledger.entries(DONE))
    if not arguments:
        yield from entries
    for argument in arguments:
        absolute = os.path.abspath(argument)  # noqa: PTH100 (a link keeps its own name)
        named = [e for e in entries if absolute == e.image or f"{os.sep}{argument}".endswith(f"{os.sep}{e.image}")]
        if named:
            yield from named
        else:
            yield Exported(str(argument), reason="has no result here: the names are those in counts.csv")


def _attempt(
    folder: Path,
    ledger: Ledger,
    entry: Entry,
    names: tuple[str, ...],
    force: bool,
    originals: Originals | None,
    is_patient: bool,
) -> Exported | None:
    """Make what is missing; None if the stored files change meanwhile, or may not yet be in the ledger."""
    state = _state(folder, entry)
    path_of = {name: folder / f"{entry.stem}{results.EXTRAS[name]}" for name in names}
    missing = [name for name, path in path_of.items() if force or not path.exists()]
    kept = tuple(path.name for name, path in path_of.items() if name not in missing)
    if not missing:
        return Exported(entry.image, kept=kept)
    reason = None
    contents = {}
    try:
        content = _content(folder, entry)
        for name in missing:
            if name in FORMATS:
                contents[path_of[name].name] = FORMATS[name].encode(content)
        if "overlay" in missing:
            assert originals is not None, "overlays need the images"
            contents[path_of["overlay"].name] = _overlay(entry, content.labels, originals)
    except _OtherFilesError as error:
        if is_patient and _is_recent(state):
            return None
        reason = error.message
    except ImageError as error:
        reason = error.message
    except MemoryError:
        reason = "needs more memory than there is: export it on a larger computer"
    except OSError as error:
        reason = f"cannot be read ({error.strerror}): try again"
    try:
        with files.turn(folder):
            if _state(folder, entry) != state:
                return None
            digests = files.write_all(folder, {name: files.holding(data) for name, data in contents.items()})
            ledger.add_files(entry, digests)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}): make room or mend it, then try again"
        contents = {}
    return Exported(entry.image, tuple(contents), kept, reason)


def _state(folder: Path, entry: Entry) -> _State:
    """Tell the stored files of an image from any that take their names later."""
    state: _State = []
    for suffix in (results.LABELS, results.CELLS):
        try:
            info = (folder / f"{entry.stem}{suffix}").stat()
            state.append((info.st_ino, info.st_mtime_ns, info.st_size))
        except OSError:
            state.append(None)
    return state


def _is_recent(state: _State) -> bool:
    """Whether a watch may be about to put these files into the ledger."""
    return any(seen is not None and abs(time.time() - seen[1] * 1e-9) < _PATIENCE_S for seen in state)


def _content(folder: Path, entry: Entry) -> Content:
    """Read what is stored of an image; raises ImageError where it is not what was written."""
    import tifffile

    known = json.loads(entry.files or "{}")
    data = {}
    for suffix in (results.LABELS, results.CELLS):
        name = f"{entry.stem}{suffix}"
        try:
            data[suffix] = (folder / name).read_bytes()
        except FileNotFoundError:
            raise ImageError(f"{name} is missing: do the image again") from None
        if known.get(name, digest := hashlib.sha256(data[suffix]).hexdigest()) != digest:
            raise _OtherFilesError(f"{name} is not as it was written: do the image again")
    try:
        labels = tifffile.imread(io.BytesIO(data[results.LABELS]))
        if labels.dtype != np.uint16 or labels.ndim != 2:
            raise ValueError("not one page of uint16")
        return Content(entry.image, np.ascontiguousarray(labels), data[results.CELLS].decode())
    except MemoryError:
        raise
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise ImageError(f"{entry.stem}{results.LABELS} is damaged ({error}): do the image again") from None


def _overlay(entry: Entry, labels: npt.NDArray[np.uint16], originals: Originals) -> bytes:
    """Draw the labels on the image they are from; raises ImageError where that is not to be had."""
    if entry.model_sha256 != originals.model_sha256:
        raise ImageError(f"was done with another model ({entry.model}): for its overlay give that one with --model")
    places = [scan.original(folder, entry.image, scan.names_as_printed) for folder in originals.folders]
    there = [path for path in places if path.is_file()]
    for path in there:
        data = images.read(path)
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            card = originals.card
            picture = overlay.draw(images.decode(data), labels, card.low_percentile, card.high_percentile)
            return overlay.encode(picture)
    if there:
        raise ImageError("has changed since it was done, so there is no overlay: do it again")
    raise ImageError("is not there for an overlay: name its folder with --originals")
