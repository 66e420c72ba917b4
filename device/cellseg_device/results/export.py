"""Further files for images that were counted before, made from the stored ones: the same bytes as if made at once.

Only cells that were left out of the count are stored nowhere, so that pictures made later lack them.

It works beside a watch: after reading an image's files, it writes the new ones only if those have not changed; if the
image was counted again meanwhile, it starts again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import region
from cellseg_device.cells.counting import parse_key
from cellseg_device.errors import ImageError
from cellseg_device.image.pixels import Image
from cellseg_device.image.sandbox import Decode
from cellseg_device.image.source import names_as_printed, original
from cellseg_device.pipeline import needs
from cellseg_device.results import image_files, overlay
from cellseg_device.results.entry import DONE, UNKNOWN, Entry
from cellseg_device.results.folder import result_names
from cellseg_device.results.formats import FORMATS, Content
from cellseg_device.results.ledger import Ledger
from cellseg_device.results.places import place_of
from cellseg_device.system import files

# How long a watch may take to finish its current image
_TIMEOUT_S, _PAUSE_S = 3.0, 0.2

_State = list[tuple[int, int, int] | None]


@dataclass(frozen=True)
class Originals:
    """What pictures need: the images.

    Attributes
    ----------
    find : callable
        Returns, for an image's entry in the ledger, the paths where its file may be.
    decode : callable
        Reads and decodes a file: the `decode` of a `sandbox.Decoder`.
    """

    find: Callable[[Entry], Sequence[Path]]
    decode: Decode

    @classmethod
    def under(cls, folders: Sequence[Path], out: Path, decode: Decode) -> Originals:
        """Return the originals in these folders, or where they lay as seen from the output folder."""

        def find(entry: Entry) -> list[Path]:
            named = [original(folder, entry.image, names_as_printed) for folder in folders]
            placed = [] if entry.place is None else [original(out, entry.place, names_as_printed)]
            return named + placed + [path for folder in folders for path in _moved(folder, entry)]

        return cls(find, decode)


def _moved(folder: Path, entry: Entry) -> list[Path]:
    """Return the files of an image's size in a folder whose paths there are the end of its name."""
    _, *parts = Path(entry.image).parts
    ends = [str(Path(*parts[start:])) for start in range(len(parts))]
    paths = [original(folder, end, names_as_printed) for end in ends]
    return [path for path in paths if path.is_file() and path.stat().st_size == entry.size]


@dataclass(frozen=True)
class Exported:
    """The outcome for one image.

    Attributes
    ----------
    image : str
    made, kept : tuple of str
        Names of files: those made now, and those that existed.
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
    folder: Path,
    ledger: Ledger,
    entry: Entry,
    names: tuple[str, ...],
    *,
    force: bool = False,
    originals: Originals | None = None,
) -> Exported:
    """Make formats for one image, and return which.

    Parameters
    ----------
    folder : Path
        The output folder.
    ledger : Ledger
        Its ledger.
    entry : Entry
        The entry of an image that was counted.
    names : tuple of str
        Names out of `image_files.EXTRAS`.
    force : bool
        Whether to replace files that exist.
    originals : Originals or None
        Needed for pictures.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        is_last = time.monotonic() > deadline
        exported = _attempt(folder, ledger, entry, names, force=force, originals=originals, is_last=is_last)
        if exported is not None:
            return exported
        if is_last:
            return Exported(entry.image, reason="is being counted again and again: try later")
        time.sleep(_PAUSE_S)
        newest = ledger.get(entry.image)
        if newest is None or newest.status != DONE:
            return Exported(entry.image, reason="was counted again meanwhile and failed: see failed.csv")
        entry = newest


def chosen(ledger: Ledger, arguments: tuple[Path, ...]) -> Iterator[Entry | Exported]:
    """Yield the entries of all images that were counted, or of those named; for an unknown name, why there is none.

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
        place, absolute = place_of(argument, ledger.path.parent), os.path.abspath(argument)  # noqa: PTH100
        named = [e for e in entries if place == e.place or absolute == e.image] or [
            e for e in entries if f"{os.sep}{argument}".endswith(f"{os.sep}{e.image}")
        ]
        if named:
            yield from named
        else:
            yield Exported(str(argument), reason="has no result here: the names are those in counts.csv")


def _attempt(
    folder: Path,
    ledger: Ledger,
    entry: Entry,
    names: tuple[str, ...],
    *,
    force: bool,
    originals: Originals | None,
    is_last: bool,
) -> Exported | None:
    """Make and return what is missing; None if the stored files change meanwhile, or may not be in the ledger yet."""
    state = _state(folder, entry)
    path_of = {name: folder / f"{entry.stem}{image_files.EXTRAS[name]}" for name in names}
    # A process that was killed may have left a file without noting its digest; what is not noted at all is not ours
    ours = {name for name in result_names(entry) if entry.digests().get(name) != UNKNOWN}
    missing = [name for name, path in path_of.items() if force or path.name not in ours or not os.path.lexists(path)]
    kept = tuple(path.name for name, path in path_of.items() if name not in missing)
    if not missing:
        return Exported(entry.image, kept=kept)
    reason = None
    contents: dict[str, bytes] = {}
    try:
        content = stored(folder, entry)
        contents |= {path_of[name].name: FORMATS[name].encode(content) for name in missing if name in FORMATS}
        pictures = [name for name in image_files.PICTURES if name in missing]
        if pictures:
            assert originals is not None, "pictures need the images"
            drawn = subject(entry, content.labels, originals)
            for name in pictures:
                contents[path_of[name].name] = overlay.make(drawn, is_numbered=name == image_files.NUMBERS)
    except ImageError as error:
        if isinstance(error, _OtherFilesError) and not is_last and _is_recent(state):
            return None
        reason = error.message
    except MemoryError:
        reason = "needs more memory than there is: export it on a larger computer"
    except OSError as error:
        reason = f"cannot be read ({error.strerror}): try again"
    try:
        with files.write_lock(folder):
            if _state(folder, entry) != state or ledger.announced(entry.image):  # its files are, and its row is not yet
                return None
            contents, reason = _without_foreign(folder, ledger, entry, contents, reason)
            if contents:
                digests = files.write_all(
                    folder,
                    {name: files.holding(data) for name, data in contents.items()},
                    before_renames=lambda: ledger.announce_files(entry.image, contents),
                )
                ledger.add_files(entry, digests)
    except OSError as error:
        reason = f"cannot be written ({error.strerror}): make room or fix the disk, then try again"
        contents = {}
    return Exported(entry.image, tuple(contents), kept, reason)


def _without_foreign(
    folder: Path, ledger: Ledger, entry: Entry, contents: dict[str, bytes], reason: str | None
) -> tuple[dict[str, bytes], str | None]:
    """Leave out what would cost somebody else's file; returns the rest, and the reason why something is not made."""
    now = ledger.get(entry.image)
    noted = result_names(now) if now is not None else []
    foreign = [
        name for name, data in contents.items() if image_files.is_foreign(folder / name, partial(bytes, data), noted)
    ]
    if foreign:
        reason = f"{' and '.join(foreign)}, which cellseg did not make, is in the way: move it away, then try again"
    return {name: data for name, data in contents.items() if name not in foreign}, reason


def _state(folder: Path, entry: Entry) -> _State:
    """Return what identifies the stored files of an image, as opposed to later ones of the same names."""
    state: _State = []
    for suffix in (image_files.LABELS, image_files.CELLS):
        try:
            info = (folder / f"{entry.stem}{suffix}").stat()
            state.append((info.st_ino, info.st_mtime_ns, info.st_size))
        except OSError:
            state.append(None)
    return state


def _is_recent(state: _State) -> bool:
    """Return whether these files are so new that a watch may not have put them into the ledger yet."""
    return any(file is not None and abs(time.time() - file[1] * 1e-9) < _TIMEOUT_S for file in state)


def stored(folder: Path, entry: Entry) -> Content:
    """Return what is stored of an image; raise ImageError if it is not as it was written."""
    import tifffile

    known = json.loads(entry.files or "{}")
    data = {}
    for suffix in (image_files.LABELS, image_files.CELLS):
        name = f"{entry.stem}{suffix}"
        try:
            with open(folder / name, "rb", opener=files.regular) as file:
                data[suffix] = file.read()
        except FileNotFoundError:
            raise ImageError(f"{name} is missing: count the image again") from None
        if known.get(name, digest := hashlib.sha256(data[suffix]).hexdigest()) != digest:
            raise _OtherFilesError(f"{name} is not as it was written: count the image again")
    try:
        labels = tifffile.imread(io.BytesIO(data[image_files.LABELS]))
        if labels.dtype != np.uint16 or labels.ndim != 2:
            raise ValueError("not one page of uint16")
        return Content(entry.image, np.ascontiguousarray(labels), data[image_files.CELLS].decode())
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - tifffile raises many kinds on damaged files
        raise ImageError(f"{entry.stem}{image_files.LABELS} is damaged ({error}): count the image again") from None


def subject(entry: Entry, labels: npt.NDArray[np.uint16], originals: Originals) -> overlay.Subject:
    """Return what the pictures of an image are made of; raise ImageError if it is missing or has changed."""
    assert entry.counts is not None, "it was counted"
    counting = parse_key(entry.settings or "{}")
    image = _image(entry, originals)
    if image.shape != labels.shape:
        raise ImageError("has another size than its labels: count it again")
    counting = dataclasses.replace(counting, region=region.recalled(counting.region))
    return overlay.Subject(counting.applied(image), labels, entry.counts, counting.frame)


def _image(entry: Entry, originals: Originals) -> Image:
    there = [path for path in originals.find(entry) if path.is_file()]
    fault = None
    for path in there:
        try:
            sha256, image = originals.decode(path, needs.budget())
        except ImageError as error:
            fault = error
            continue
        if sha256 == entry.sha256:
            return image
    if fault is not None:
        raise fault
    if there:
        raise ImageError("has changed since it was counted, so there is no picture of it: count it again")
    raise ImageError("is not there, and a picture needs it: name its folder with --originals")
