"""From common formats to the canonical dataset; images that do not fit are reported, never silently dropped."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import NO_MEMORY, CellsegError, InputError, OutputError
from cellseg_device.stderr import say
from cellseg_device.suggestions import unknown
from cellseg_host.data.dataset import (
    SPLITS,
    Entry,
    diameters_px,
    kind_of,
    save_png,
    write_manifest,
    write_table,
)
from cellseg_host.data.faults import Note, Rejection, kinds
from cellseg_host.data.formats import FORMATS
from cellseg_host.data.formats.source import Options, Source, set_name

# Reasons that are given where every image is rejected
_REASONS = 5


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    entries: tuple[Entry, ...]
    rejections: tuple[Rejection, ...]
    notes: tuple[Note, ...] = ()


def find(
    folders: Sequence[Path],
    formats: Mapping[str, str],
    sample_kinds: Mapping[str, str],
    options: Options = Options(),  # noqa: B008 - frozen
) -> list[Source]:
    """Return the images of several folders, each a set, as those of one dataset.

    Parameters
    ----------
    folders : sequence of Path
        Of some formats, files.
    formats : mapping of str to str
        One of `FORMATS` by the name of the folder; under ``""`` that of all others.
    sample_kinds : mapping of str to str
        The kind of sample by the name of the set; under ``""`` that of all others. Those that are in neither are of the
        kind that their source says, or that follows from their modality.
    options : Options

    Raises
    ------
    InputError
        If a folder is not of its format, a set is named that is none of them, an image is in one set twice, or an
        option is given that none of the formats uses.
    """
    names = [set_name(folder) for folder in folders]
    _check_known("--format", formats, names)
    _check_used(options, formats.values())
    found = []
    for folder, name in zip(folders, names, strict=True):
        if not (layout := formats.get(name) or formats.get("")):
            raise InputError(f"--format: none is given for {name}: add --format {name}=FORMAT")
        if folder.is_file() and not FORMATS[layout].takes_file:
            raise InputError(f"{folder}: is a file: name the folder that it is in for --format {layout}")
        found += FORMATS[layout].find(folder, options)
    _check_known("--kind", sample_kinds, {source.set for source in found})
    return _with_own_ids(
        [dataclasses.replace(s, kind=sample_kinds.get(s.set) or sample_kinds.get("") or s.kind) for s in found]
    )


def _check_used(options: Options, layouts: Collection[str]) -> None:
    used = {name for layout in layouts for name in FORMATS[layout].options}
    for option in dataclasses.fields(Options):
        if getattr(options, option.name) != option.default and option.name not in used:
            where = ", ".join(name for name, form in FORMATS.items() if option.name in form.options)
            raise InputError(f"--{option.name}: is of no use here: leave it out, or choose a --format out of {where}")


def _check_known(flag: str, given: Mapping[str, str], names: Collection[str]) -> None:
    for name in given:
        if name and name not in names:
            raise InputError(f"{flag}: there is {unknown('set', name, sorted(names))}")


def _with_own_ids(sources: list[Source]) -> list[Source]:
    """Return the images with ids that differ: those that are in several sets begin with the set's name.

    Their split is still that of their own name, so that it does not depend on what else is imported.
    """
    times = Counter(source.id for source in sources)
    shared = [identity for identity, count in times.items() if count > 1]
    if not shared:
        return sources
    named = [
        dataclasses.replace(s, id=f"{s.set}-{s.id}", split=s.split or split_of(s.id)) if times[s.id] > 1 else s
        for s in sources
    ]
    identity, count = Counter(source.id for source in named).most_common(1)[0]
    if count > 1:
        raise InputError(f"{identity}: is in the data more than once: rename one of the folders, or of the images")
    ids = "1 id is" if len(shared) == 1 else f"{len(shared)} ids are"
    say(f"note: {ids} in several sets (as {shared[0]}): the images are called SET-ID")
    return named


def import_sources(sources: Iterable[Source], root: Path) -> Iterator[Entry | Rejection | Note]:
    """Write each source into the dataset at `root`, yielding its entry and notes on it, or why it was rejected.

    Raises
    ------
    OutputError
        If it cannot be written; the folder is then not a dataset.
    """
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from None
    for source in sources:
        try:
            entry, notes = _import_one(source, root)
        except OutputError:
            raise
        except CellsegError as error:
            yield Rejection(source.id, source.set, error.message)
        except MemoryError:
            yield Rejection(source.id, source.set, NO_MEMORY)
        else:
            yield entry
            yield from (Note(source.id, source.set, note) for note in notes)


def finish(root: Path, done: Sequence[Entry | Rejection | Note]) -> Imported:
    """Write the manifest and the lists of rejections and, if there are any, notes, which completes the dataset.

    Raises
    ------
    InputError
        If every image was rejected.
    OutputError
        If it cannot be written.
    """
    entries = tuple(d for d in done if isinstance(d, Entry))
    rejections = tuple(d for d in done if isinstance(d, Rejection))
    notes = tuple(d for d in done if isinstance(d, Note))
    if not entries:
        raise InputError(_all_rejected(rejections))
    try:
        write_table(root / "rejected.csv", [("id", "set", "reason"), *map(dataclasses.astuple, rejections)])
        if notes:
            write_table(root / "notes.csv", [("id", "set", "note"), *map(dataclasses.astuple, notes)])
        write_manifest(root, entries)
    except OSError as error:
        raise _unwritable(error) from None
    return Imported(entries, rejections, notes)


def _all_rejected(rejections: Sequence[Rejection]) -> str:
    """Return a message with each kind of reason once, the most frequent first."""
    return f"no image can be imported: {'; '.join(kind.text() for kind in kinds(rejections)[:_REASONS])}"


def _unwritable(error: OSError) -> OutputError:
    return OutputError(f"the dataset cannot be written ({error.strerror}): make room, then import again")


def split_of(identity: str) -> str:
    """Return train, val or test (80, 10, 10 %) from a hash of the id: an image is always in the same split."""
    bucket = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % 10
    return {8: "val", 9: "test"}.get(bucket, "train")


def guess_modality(pixels: npt.NDArray[np.uint8 | np.uint16]) -> str:
    """Return fluorescence (grey on dark), brightfield (grey on bright) or histology (colour), from the pixels alone."""
    if pixels.ndim == 3:
        return "histology"
    low, middle, high = np.percentile(pixels, [0.5, 50, 99.5])
    return "fluorescence" if middle - low <= high - middle else "brightfield"


def _import_one(source: Source, root: Path) -> tuple[Entry, tuple[str, ...]]:
    if len(source.images) != 1:
        names = ", ".join(path.name for path in source.images)
        raise InputError(f"has {len(source.images)} images of this name ({names})" if names else "has no image")
    if source.split not in (None, *SPLITS):
        raise InputError(f"is in the split {source.split!r}, which is not one of {', '.join(SPLITS)}")
    image = source.read_image(source.images[0])
    pixels = image.pixels
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    drawn = source.read_labels(image.shape) if source.read_labels else None
    labels = drawn.labels if drawn else None
    kept = {**source.kept, **source.read_kept(source.images[0])}
    try:
        save_png(root / "images" / f"{source.id}.png", pixels)
        if labels is not None:
            save_png(root / "labels" / f"{source.id}.png", labels)
    except OSError as error:
        raise _unwritable(error) from None
    diameters = diameters_px(labels) if labels is not None else np.empty(0)
    modality = source.modality or guess_modality(pixels)
    entry = Entry(
        source.id,
        source.set,
        source.split or split_of(source.id),
        modality,
        source.kind or kind_of(modality),
        *image.shape,
        cells=None if labels is None else len(diameters),
        median_diameter_px=round(float(np.median(diameters)), 1) if len(diameters) else 0.0,
        pixel_size_um=image.pixel_size_um,
        kept=kept,
    )
    return entry, drawn.notes if drawn else ()
