"""Tens of thousands of mutated label files before a real import: each is imported, or refused in one line.

    python benchmarks/fuzz_imports.py                 (20,000 files of each kind: prints the table, writes the JSON)
    python benchmarks/fuzz_imports.py --files 300

Each time, one file of a small sound source gets one to three mutations of ``fuzz.py``, and the source is imported. What
ends otherwise than with an error for the user, or says it in more than one line, is a fault of ours.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))
import fuzz

from cellseg_device.cells.measure import measure
from cellseg_device.errors import CellsegError
from cellseg_device.image.pixels import Image
from cellseg_device.results import correction_file, image_files
from cellseg_device.results.formats import FORMATS as EXPORTS
from cellseg_device.results.formats import Content
from cellseg_device.system import files, hardware
from cellseg_host.commands.console import print_table
from cellseg_host.data import importers
from cellseg_host.data.faults import Rejection
from cellseg_host.data.formats.source import Options

JSON = Path(__file__).with_suffix(".json")
OPTIONS = {"rle": Options(runs="absolute", keep=("Modality",)), "dicom": Options(keep=("Modality", "PatientAge"))}
MOST_KEPT_BUGS = 20


@dataclass(frozen=True)
class Seed:
    """A sound source.

    Attributes
    ----------
    layout : str
        One of the formats of ``data import``.
    source : str
        What is imported: a file in the folder, or ``"."``.
    content : dict of str to bytes
        Files by their paths; the first is mutated.
    """

    layout: str
    source: str
    content: dict[str, bytes]


def seeds() -> dict[str, Seed]:
    """Return a sound source for each kind of file, by the name of the kind."""
    image, labels = fuzz.fields()[0], np.zeros((fuzz.HEIGHT, fuzz.WIDTH), np.uint16)
    for number, column in enumerate((4, 20, 36), 1):
        labels[8:24, column : column + 12] = number
    labels[12:16, 8:12] = 0
    png = fuzz.opencv(".png", image)
    content = Content("a.png", labels, image_files.cells_csv(measure(labels, image, None)))
    exported = {name: EXPORTS[name].encode(content) for name in ("rois", "geojson", "coco")}
    polygons = [{"image_id": 1, "segmentation": [[2, 2, 30, 2, 30, 30]], "id": 1}]
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": polygons}
    drawing = np.zeros((*labels.shape, 4), np.uint8)
    cv2.circle(drawing, (25, 20), 12, (0, 0, 255, 255), 2)
    return {
        "labels": Seed("labels", ".", {"labels/a.png": fuzz.opencv(".png", labels), "images/a.png": png}),
        "labels, TIFF": Seed("labels", ".", {"labels/a.tif": fuzz.tiff(labels), "images/a.png": png}),
        "cellseg, corrections.zip": Seed("cellseg", "c.zip", {"c.zip": corrections(image, labels)}),
        "imagej-roi": Seed("imagej-roi", ".", {"a.zip": exported["rois"], "a.png": png}),
        "qupath": Seed("qupath", ".", {"a.geojson": exported["geojson"], "a.png": png}),
        "cellpose, seg.npy": Seed("cellpose", ".", {"a_seg.npy": seg(labels), "a.png": png}),
        "coco, masks": Seed("coco", "c.json", {"c.json": exported["coco"], "a.png": png}),
        "coco, polygons": Seed("coco", "c.json", {"c.json": json.dumps(coco).encode(), "a.png": png}),
        "rle": Seed("rle", ".", {"m.csv": b"ImageId,EncodedPixels\na,3 4 50 6\na,90 7\n", "a.png": png}),
        "dicom": Seed("dicom", ".", {"a.dcm": dicom(image)}),
        "dicom, JPEG": Seed("dicom", ".", {"a.dcm": dicom(image, compression="JPEG")}),
        "dicom, run lengths": Seed("dicom", ".", {"a.dcm": dicom(image, compression="RLE")}),
        "outlines": Seed("outlines", ".", {"outlines/a.png": fuzz.opencv(".png", drawing), "images/a.png": png}),
    }


def corrections(image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint16]) -> bytes:
    """Return a file of corrections."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.zip"
        correction_file.write(path, [correction_file.Correction("a", Image(image), labels)])
        return path.read_bytes()


def seg(labels: npt.NDArray[np.uint16]) -> bytes:
    """Return what Cellpose's window saves."""
    file = io.BytesIO()
    saved = {"masks": labels, "filename": "a.png", "flows": [np.zeros(labels.shape, np.float32)], "est_diam": 12.0}
    np.save(file, saved)  # type: ignore[arg-type]
    return file.getvalue()


def dicom(image: npt.NDArray[np.uint8], *, compression: str = "") -> bytes:
    """Return a DICOM file."""
    from pydicom import uid
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))  # type: ignore[arg-type]
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Modality, data.PatientAge, data.PixelSpacing = "CR", "051Y", [0.1, 0.1]
    data.WindowCenter, data.WindowWidth, data.RescaleSlope, data.RescaleIntercept = 100, 200, 1, 0
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME1", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelData = image.tobytes()
    if compression == "JPEG":
        meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        data.PixelData = encapsulate([fuzz.opencv(".jpg", image)])
    if compression == "RLE":
        data.compress(uid.RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def outcome(seed: Seed, folder: Path, out: Path) -> str:
    """Return what an import of a source came to: ``imported``, ``refused``, or a fault of ours in words."""
    try:
        found = importers.find([folder / seed.source], {"": seed.layout}, {}, OPTIONS.get(seed.layout, Options()))
        done = list(importers.import_sources(found, out))
    except CellsegError as error:
        return "refused" if error.message.isprintable() else f"not one line: {error.message!r}"
    except Exception:  # noqa: BLE001 - that is what is looked for
        return traceback.format_exc()
    reasons = [d.reason for d in done if isinstance(d, Rejection)]
    if odd := [reason for reason in reasons if not reason.isprintable()]:
        return f"not one line: {odd[0]!r}"
    return "refused" if reasons else "imported"


def feed(name: str, seed: Seed, number: int, track: Callable[[], None]) -> dict[str, object]:
    """Import a source so many times, each time with other mutations, and return the numbers of outcomes."""
    rng = random.Random(name)
    counts, bugs = {"imported": 0, "refused": 0}, []
    mutated_name, *_ = seed.content
    others = list(seed.content.values())
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "source", Path(temporary) / "out"
        for path, data in seed.content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        if outcome(seed, folder, out) != "imported":
            bugs.append("the sound source is not imported")
        for _ in range(number):
            data = fuzz.mutated(others[0], others, rng)
            (folder / mutated_name).write_bytes(data)
            found = outcome(seed, folder, out)
            if found in counts:
                counts[found] += 1
            else:
                bugs.append(f"{found} ({data.hex()[:2000]})")
            track()
    return {**counts, "faults": len(bugs), "bugs": bugs[:MOST_KEPT_BUGS]}


@click.command()
@click.option("--files", "number", type=click.IntRange(1), default=20_000, show_default=True, help="Of each kind.")
@click.option("--json", "path", type=click.Path(path_type=Path), default=JSON, help="Where to write the result.")
def main(number: int, path: Path) -> None:
    """Import mutated label files, and see that each is imported or refused in one line."""
    kinds = seeds()
    with click.progressbar(length=number * len(kinds), file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        found = {name: feed(name, seed, number, lambda: bar.update(1)) for name, seed in kinds.items()}
    columns = ("imported", "refused", "faults")
    rows = [[name, *(f"{result[column]:,}" for column in columns)] for name, result in found.items()]
    print_table(f"{number:,} mutated files of each kind", ("kind", *columns), rows)
    told = {"command": f"python benchmarks/fuzz_imports.py --files {number}", "hardware": hardware.describe()}
    files.write(path, json.dumps({**told, "kinds": found}, indent=1, ensure_ascii=False).encode() + b"\n")
    sys.exit(any(result["faults"] for result in found.values()))


if __name__ == "__main__":
    main()
