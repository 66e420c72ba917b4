"""Tens of thousands of mutated images before a real watch: it lives, and every sound image among them is counted.

    python benchmarks/fuzz.py                   (20,000 files: prints the table, writes benchmarks/fuzz.json)
    python benchmarks/fuzz.py --work FOLDER     (keeps what is done there; the same again goes on after it)

Each file is a small image of one of the kinds that are decoded in their own ways, with one to three mutations: bits and
numbers changed, most often in the header, bytes cut, moved or from another file, tags of TIFF files and chunks of PNG
files exchanged; of PNG files most checksums are made right again, so that the decoder sees what is wrong. One file in
fifty is sound.
Each batch of 500 is a folder that ``cellseg-device watch --once`` does, with the bundled model. Then every file is in
``counts.csv`` or ``failed.csv``, and the sound ones have their counts.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.PngImagePlugin
import tifffile

from cellseg_device import Segmenter
from cellseg_device.pipeline.selftest import known_image
from cellseg_device.system import files, hardware
from cellseg_host.commands.console import print_table

JSON = Path(__file__).with_name("fuzz.json")
DEVICE = (sys.executable, "-m", "cellseg_device")
BATCH = 500
SOUND_EVERY = 50
HEIGHT, WIDTH = 40, 56
ODD = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    32,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    1 << 24,
    0x7FFFFFFF,
    1 << 31,
    (1 << 32) - 1,
)

CHUNKS = tuple(b"IHDR PLTE IDAT IEND tRNS acTL fcTL fdAT bKGD iCCP gAMA eXIf tEXt zTXt iTXt sBIT pHYs".split())

# What an outcome is, by how its reason begins; those of the second line must not be
KINDS = {
    "crashes the decoder": "crashed their decoder",
    "takes more than": "took too long",
    "needs more memory": "memory",
}
BUGS = ("makes the decoder fail", "makes cellseg fail", "cannot be read")


# Sound files


def opencv(suffix: str, pixels: npt.NDArray[np.generic], *options: int) -> bytes:
    """Return a file that OpenCV writes."""
    return bytes(cv2.imencode(suffix, pixels, options)[1])


def pillow(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    """Return a file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def tiff(pixels: npt.NDArray[np.generic], **options: object) -> bytes:
    """Return a file that tifffile writes."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)  # type: ignore[arg-type]
    return file.getvalue()


def text(size: int) -> PIL.PngImagePlugin.PngInfo:
    """Return so much text for a PNG, compressed."""
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Metadata", "metadata " * (size // 9), zip=True)
    return info


def with_stray_bytes(jpeg: bytes) -> bytes:
    """Return a JPEG with bytes between its first two segments that some webcams leave."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end] + bytes(3) + jpeg[end:]


def packed(grey: bytes) -> bytes:
    """Return an uncompressed TIFF of 8 bits as one of 4 bits and twice the width."""
    with tifffile.TiffFile(io.BytesIO(grey)) as tif:
        tags = tif.pages.first.tags
        places = {tags["ImageWidth"].valueoffset: 2 * tags["ImageWidth"].value, tags["BitsPerSample"].valueoffset: 4}
    changed = bytearray(grey)
    for place, value in places.items():
        struct.pack_into("<H", changed, place, value)
    return bytes(changed)


def pages(grey: npt.NDArray[np.uint8], **options: object) -> bytes:
    """Return a TIFF of an image and two smaller copies of it."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(grey, photometric="minisblack", metadata=None, **options)  # type: ignore[arg-type]
        for step in (2, 4):
            writer.write(grey[::step, ::step].copy(), photometric="minisblack", subfiletype=1, metadata=None)
    return file.getvalue()


def seeds(grey: npt.NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of this image by name: one of each kind that is decoded in its own way, or refused by its header."""
    deep = grey.astype(np.uint16) * 200
    rgb = np.dstack([grey, grey[::-1], 255 - grey])
    rgba = np.dstack([rgb, grey])
    image = PIL.Image.fromarray(rgb)
    bits, palette = image.convert("1"), image.quantize(16)
    thumbnail = image.getexif()
    thumbnail[0x010E] = "a field of view" * 20
    table = (np.stack([np.arange(256)] * 3) * 257).astype(np.uint16)
    lsm = struct.pack("<IIiiiiiiiiddd", 50350412, 72, *grey.shape[::-1], 1, 1, 1, 1, 0, 0, 5e-7, 5e-7, 1e-6)
    um = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    return {
        "grey.png": opencv(".png", grey),
        "rgb.png": opencv(".png", rgb),
        "rgba.png": opencv(".png", rgba),
        "deep.png": opencv(".png", deep),
        "deep-rgb.png": opencv(".png", np.dstack([deep] * 3)),
        "palette.png": pillow(palette, "PNG", transparency=0),
        "bits.png": pillow(bits, "PNG"),
        "text.png": pillow(image, "PNG", dpi=(300, 300), icc_profile=b"profile" * 30),
        "grey.jpg": opencv(".jpg", grey),
        "rgb.jpg": opencv(".jpg", rgb),
        "progressive.jpg": pillow(image, "JPEG", progressive=True, exif=thumbnail),
        "restart.jpg": opencv(".jpg", rgb, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "cmyk.jpg": pillow(image.convert("CMYK"), "JPEG"),
        "plain.tif": tiff(grey),
        "deep.tif": tiff(deep),
        "motorola.tif": tiff(deep, byteorder=">"),
        "rgb.tif": tiff(rgb, photometric="rgb"),
        "planes.tif": tiff(np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate"),
        "deflate.tif": tiff(deep, compression="zlib", predictor=True),
        "strips.tif": tiff(rgb, photometric="rgb", compression="zlib", rowsperstrip=8),
        "tiles.tif": tiff(deep, tile=(16, 16), compression="zlib"),
        "tiles-plain.tif": tiff(rgb, tile=(16, 32), photometric="rgb"),
        "big.tif": tiff(deep, bigtiff=True),
        "big-tiles.tif": tiff(deep, bigtiff=True, tile=(16, 16), compression="zlib"),
        "float.tif": tiff(deep.astype(np.float32)),
        "ome.tif": tiff(deep, ome=True, metadata=um),
        "imagej.tif": tiff(deep, imagej=True, resolution=(2, 2), metadata={"unit": "um"}),
        "white.tif": tiff(grey, photometric="miniswhite"),
        "lzw.tif": opencv(".tif", rgb),
        "lzw-deep.tif": opencv(".tif", deep),
        "lzw-pillow.tif": pillow(image, "TIFF", compression="tiff_lzw"),
        "old-deflate.tif": pillow(image, "TIFF", compression="tiff_deflate"),
        "packbits.tif": pillow(image, "TIFF", compression="packbits"),
        "jpeg.tif": pillow(image, "TIFF", compression="jpeg"),
        "lzma.tif": pillow(image, "TIFF", compression="lzma"),
        "zstd.tif": pillow(image, "TIFF", compression="zstd"),
        "group3.tif": pillow(bits, "TIFF", compression="group3"),
        "group4.tif": pillow(bits, "TIFF", compression="group4"),
        "ccitt.tif": pillow(bits, "TIFF", compression="tiff_ccitt"),
        "bits.tif": pillow(bits, "TIFF"),
        "palette.tif": pillow(palette, "TIFF"),
        "stray.jpg": with_stray_bytes(opencv(".jpg", rgb)),
        "much-text.png": pillow(image, "PNG", pnginfo=text(1_200_000)),
        "table.tif": tiff(grey, photometric="palette", colormap=table, metadata=None, description="ImageJ=1.54f\n"),
        "packed.tif": packed(tiff(np.ascontiguousarray(grey[:, ::2]), metadata=None)),
        "signed.tif": tiff(deep.astype(np.int32) - 100),
        "micro-manager.tif": tiff(grey, metadata=None, extratags=[(51123, 2, 0, '{"PixelSizeUm": 0.5}', True)]),
        "zeiss.tif": pages(grey, extratags=[(34412, 1, 0, lsm, True)]),
        "pyramid.tif": pages(grey),
    }


# Mutations


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return a file's bytes with one to three mutations."""
    changed = bytearray(data)
    splicing = partial(splice, others=others)
    mutations = (flip_bits, cut, overwrite, odd_number, odd_number, odd_part, odd_part, splicing, move)
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice(mutations)(changed, rng)
    if changed.startswith(b"\x89PNG") and rng.random() < 0.7:
        correct_checksums(changed)
    return bytes(changed)


def place(data: bytes | bytearray, rng: random.Random) -> int:
    """Return a position, often in the header."""
    return rng.randrange(min(len(data), rng.choice([64, 256, len(data)]))) if data else 0


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Change some bits."""
    for _ in range(rng.choice([1, 2, 5, 20]) if data else 0):
        data[place(data, rng)] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """End the file early."""
    del data[place(data, rng) :]


def overwrite(data: bytearray, rng: random.Random) -> None:
    """Put in random bytes."""
    start = place(data, rng)
    data[start : start + rng.choice([1, 4, 16])] = rng.randbytes(rng.choice([1, 4, 16]))


def odd_number(data: bytearray, rng: random.Random) -> None:
    """Put in a number that is likely to overflow something."""
    start, form = place(data, rng), rng.choice(["<H", ">H", "<I", ">I", "<Q"])
    data[start : start + struct.calcsize(form)] = struct.pack(form, rng.choice(ODD) % (1 << 8 * struct.calcsize(form)))


def odd_part(data: bytearray, rng: random.Random) -> None:
    """Change a tag of a TIFF or a chunk of a PNG; put an odd number into another file."""
    if data[:4] in (b"II*\0", b"MM\0*") and len(data) >= 8:
        odd_tag(data, rng)
    elif data.startswith(b"\x89PNG"):
        odd_chunk(data, rng)
    else:
        odd_number(data, rng)


def odd_chunk(data: bytearray, rng: random.Random) -> None:
    """Change, rename, repeat or remove a chunk of a PNG, or put in one of any kind, as of an animation."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        chunks.append((at, at + 12 + int.from_bytes(data[at : at + 4], "big")))
        at = chunks[-1][1]
    if not chunks:
        return
    begin, end = rng.choice(chunks)
    match rng.randrange(5):
        case 0 if begin + 8 < min(end, len(data)) - 4:
            data[rng.randrange(begin + 8, min(end, len(data)) - 4)] = rng.choice(
                [0, 1, 2, 3, 4, 6, 8, 16, 127, 128, 255]
            )
        case 1:
            data[begin + 4 : begin + 8] = rng.choice(CHUNKS)
        case 2:
            there, _ = rng.choice(chunks)
            data[there:there] = data[begin:end]
        case 3:
            del data[begin:end]
        case _:
            frame = struct.pack(">5I", 0, *rng.choices((0, 1, 3, HEIGHT, WIDTH, 1 << 30), k=4)) + bytes(6)
            content = rng.choice([rng.randbytes(rng.choice([0, 1, 4, 8, 26])), struct.pack(">2I", 3, 0), frame])
            data[begin:begin] = struct.pack(">I", len(content)) + rng.choice(CHUNKS) + content + bytes(4)


def odd_tag(data: bytearray, rng: random.Random) -> None:
    """Put another tag, type, count or value into the first directory of a TIFF."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, start)
    entry = start + 2 + 12 * rng.randrange(max(min(count, 40), 1))
    form, offset = rng.choice([("H", 0), ("H", 2), ("I", 4), ("I", 8), ("H", 8)])
    if entry + 12 <= len(data):
        values = {("H", 0): range(254, 350), ("H", 2): range(20)}.get((form, offset), ODD)
        struct.pack_into(order + form, data, entry + offset, rng.choice(values) % (1 << 8 * struct.calcsize(form)))


def splice(data: bytearray, rng: random.Random, others: list[bytes]) -> None:
    """Go on with a part of another file."""
    other = rng.choice(others)
    start = place(other, rng)
    data[place(data, rng) :] = other[start : start + rng.choice([16, 256, len(other)])]


def move(data: bytearray, rng: random.Random) -> None:
    """Put some bytes there twice, or elsewhere."""
    start, length = place(data, rng), rng.choice([1, 8, 64, 512])
    piece = data[start : start + length]
    if rng.random() < 0.5:
        del data[start : start + length]
    at = place(data, rng)
    data[at:at] = piece


def correct_checksums(data: bytearray) -> None:
    """Make the checksums of a PNG right, so that the decoder comes to see what is wrong in its chunks."""
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return
        data[end - 4 : end] = zlib.crc32(data[position + 4 : end - 4]).to_bytes(4, "big")
        position = end


# Batches


@dataclass(frozen=True)
class Batch:
    """What a watch made of a folder.

    Attributes
    ----------
    files, sound : int
        How many there were, and how many of them were not mutated.
    counted_right : int
        Sound ones with the count that they have alone.
    outcomes : dict of str to int
        Of the mutated: how many were counted, refused, crashed their decoder and so on.
    reasons : dict of str to int
        The beginnings of the reasons, with N for each number.
    bugs : list of str
        Names, reasons and bytes of the files that went wrong in a way that is a fault of ours.
    exit_code : int
    """

    files: int
    sound: int
    counted_right: int
    outcomes: dict[str, int]
    reasons: dict[str, int]
    bugs: list[str]
    exit_code: int


def fields() -> list[npt.NDArray[np.uint8]]:
    """Return small images of nuclei."""
    grey = known_image().pixels
    return [
        np.ascontiguousarray(grey[top : top + HEIGHT, left : left + WIDTH]) for top in (20, 120) for left in (0, 150)
    ]


def rows(table: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none if there is no table."""
    if not table.exists():
        return []
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def do_batch(folder: Path, number: int, size: int, counts: list[int]) -> Batch:
    """Make a batch of files, have it watched, and look at what became of each.

    Parameters
    ----------
    folder : Path
        Empty.
    number : int
        Of the batch: its files follow from it.
    size : int
        How many files.
    counts : list of int
        Of cells in `fields`.
    """
    rng = random.Random(number)
    images = fields()
    kinds = [seeds(image) for image in images]
    others = [data for kind in kinds for data in kind.values()]
    written: dict[str, bytes] = {}
    expected: dict[str, int] = {}
    for index in range(size):
        which = rng.randrange(len(images))
        if index % SOUND_EVERY == SOUND_EVERY - 1:
            name, data = f"{index:05}-sound.png", kinds[which]["grey.png"]
            expected[name] = counts[which]
        else:
            kind = rng.choice(list(kinds[which]))
            name, data = f"{index:05}-{kind}", mutated(kinds[which][kind], others, rng)
        written[name] = data
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [*DEVICE, "watch", str(folder), "--once", "--settle", "0"], capture_output=True, text=True, check=False
    )
    out = folder / "cellseg-results"
    counted = {row["image"]: int(row["count"]) for row in rows(out / "counts.csv")}
    failed = {row["image"]: row["reason"] for row in rows(out / "failed.csv")}
    mutants = written.keys() - expected.keys()
    outcomes = Counter(outcome(failed[name]) for name in mutants & failed.keys())
    outcomes["counted"] = len(mutants & counted.keys())
    bugs = [f"{name}: {reason}: {written[name].hex()}" for name, reason in failed.items() if reason.startswith(BUGS)]
    bugs += [f"{name}: neither counted nor failed" for name in sorted(written.keys() - counted.keys() - failed.keys())]
    bugs += [] if done.returncode in (0, 1) else [f"exit code {done.returncode}: {done.stderr[-2000:]}"]
    right = sum(counted.get(name) == count for name, count in expected.items())
    reasons = Counter(re.sub(r"\d+", "N", reason.partition(":")[0].partition(" (")[0]) for reason in failed.values())
    return Batch(size, len(expected), right, dict(outcomes), dict(reasons), bugs, done.returncode)


def outcome(reason: str) -> str:
    """Return what a reason comes to."""
    return next((kind for begin, kind in KINDS.items() if reason.startswith(begin)), "refused")


def total(batches: list[Batch]) -> dict[str, object]:
    """Return the sums over all batches."""
    outcomes, reasons = Counter[str](), Counter[str]()
    for batch in batches:
        outcomes.update(batch.outcomes)
        reasons.update(batch.reasons)
    return {
        "files": sum(batch.files for batch in batches),
        "sound": sum(batch.sound for batch in batches),
        "counted_right": sum(batch.counted_right for batch in batches),
        "outcomes": dict(outcomes.most_common()),
        "reasons": dict(reasons.most_common(30)),
        "bugs": [bug for batch in batches for bug in batch.bugs],
        "watches": len(batches),
        "watches_that_ended_well": sum(batch.exit_code in (0, 1) for batch in batches),
    }


@click.command()
@click.option("--files", "number", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Keep what is done here.  [default: a temporary folder]")
@click.option("--json", "path", type=click.Path(path_type=Path), default=JSON, help="Where to write the result.")
def main(number: int, work: Path | None, path: Path) -> None:
    """Have a watch count mutated images, and see that it lives."""
    sizes = [min(BATCH, number - begin) for begin in range(0, number, BATCH)]
    segmenter = Segmenter()
    counts = [segmenter(image).counts.count for image in fields()]
    with tempfile.TemporaryDirectory() as temporary:
        work = work or Path(temporary)
        work.mkdir(exist_ok=True)
        batches = []
        with click.progressbar(sizes, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            for index, size in enumerate(bar):
                kept = work / f"{index:04}-{size}.json"
                if not kept.exists():
                    with tempfile.TemporaryDirectory(dir=temporary) as folder:
                        batch = do_batch(Path(folder), index, size, counts)
                    files.write(kept, json.dumps(asdict(batch)).encode())
                batches.append(Batch(**json.loads(kept.read_text())))
    found = total(batches)
    table = [(what, f"{count:,}") for what, count in found["outcomes"].items()]  # type: ignore[attr-defined]
    print_table(f"{number:,} files", ("mutated", "files"), table)
    print(
        f"sound: {found['counted_right']:,} of {found['sound']:,} counted right; faults of ours: {len(found['bugs'])}"
    )  # type: ignore[arg-type]
    told = {"command": f"python benchmarks/fuzz.py --files {number}", "hardware": hardware.describe()}
    files.write(path, json.dumps({**told, **found}, indent=1, ensure_ascii=False).encode() + b"\n")
    sys.exit(found["bugs"] != [] or found["counted_right"] != found["sound"])


if __name__ == "__main__":
    main()
