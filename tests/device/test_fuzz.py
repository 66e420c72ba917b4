"""Mutated image files: each is an image or is refused with a reason, and no exception but ours is raised.

``CELLSEG_FUZZ_FILES=20000 pytest tests/device/test_fuzz.py -s`` decodes that many.
"""

import collections
import io
import os
import random
import struct
import time
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile

from cellseg_device.decoder import Decoder
from cellseg_device.errors import ImageError

FILES = int(os.environ.get("CELLSEG_FUZZ_FILES", "2500"))
ODD = [
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
]


def opencv(suffix, pixels, *options):
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def pillow(pixels, kind, **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def seeds(grey):
    """Sound files by name, one of each kind that is decoded on a road of its own."""
    deep = grey.astype(np.uint16) * 200
    rgb = np.dstack([grey, grey[::-1], 255 - grey])
    rgba = np.dstack([rgb, grey])
    image = PIL.Image.fromarray(rgb)
    thumbnail = image.getexif()
    thumbnail[0x010E] = "a field of view" * 20
    return {
        "grey.png": opencv(".png", grey),
        "rgb.png": opencv(".png", rgb),
        "rgba.png": opencv(".png", rgba),
        "deep.png": opencv(".png", deep),
        "deep-rgb.png": opencv(".png", np.dstack([deep] * 3)),
        "palette.png": pillow(image.quantize(16), "PNG", transparency=0),
        "bits.png": pillow(image.convert("1"), "PNG"),
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
        "ome.tif": tiff(deep, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}),
        "imagej.tif": tiff(deep, imagej=True, resolution=(2, 2), metadata={"unit": "um"}),
        "white.tif": tiff(grey, photometric="miniswhite"),
        "lzw.tif": opencv(".tif", rgb),
        "lzw-deep.tif": opencv(".tif", deep),
        "lzw-pillow.tif": pillow(image, "TIFF", compression="tiff_lzw"),
        "packbits.tif": pillow(image, "TIFF", compression="packbits"),
        "jpeg.tif": pillow(image, "TIFF", compression="jpeg"),
        "fax.tif": pillow(image.convert("1"), "TIFF", compression="group4"),
        "bits.tif": pillow(image.convert("1"), "TIFF"),
        "palette.tif": pillow(image.quantize(16), "TIFF"),
    }


def mutated(data, others, rng):
    """One to three mutations of a file's bytes."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice([flip_bits, cut, overwrite, odd_number, odd_number, odd_tag, odd_tag, splice, move])(
            data, others, rng
        )
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        mend_checksums(data)
    return bytes(data)


def place(data, rng):
    """A position, often in the header."""
    return rng.randrange(min(len(data), rng.choice([64, 256, len(data)]))) if data else 0


def flip_bits(data, others, rng):
    for _ in range(rng.choice([1, 2, 5, 20]) if data else 0):
        data[place(data, rng)] ^= 1 << rng.randrange(8)


def cut(data, others, rng):
    del data[place(data, rng) :]


def overwrite(data, others, rng):
    start = place(data, rng)
    data[start : start + rng.choice([1, 4, 16])] = rng.randbytes(rng.choice([1, 4, 16]))


def odd_number(data, others, rng):
    """A number that is likely to overflow something."""
    start, form = place(data, rng), rng.choice(["<H", ">H", "<I", ">I", "<Q"])
    data[start : start + struct.calcsize(form)] = struct.pack(form, rng.choice(ODD) % (1 << 8 * struct.calcsize(form)))


def odd_tag(data, others, rng):
    """In a TIFF: another tag, type, count or value in its first directory; else an odd number."""
    order = "<" if data[:2] == b"II" else ">"
    if data[:4] not in (b"II*\0", b"MM\0*") or len(data) < 8:
        return odd_number(data, others, rng)
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return None
    (count,) = struct.unpack_from(order + "H", data, start)
    entry = start + 2 + 12 * rng.randrange(max(min(count, 40), 1))
    form, offset = rng.choice([("H", 0), ("H", 2), ("I", 4), ("I", 8), ("H", 8)])
    if entry + 12 <= len(data):
        values = {("H", 0): range(254, 350), ("H", 2): range(20)}.get((form, offset), ODD)
        struct.pack_into(order + form, data, entry + offset, rng.choice(values) % (1 << 8 * struct.calcsize(form)))
    return None


def splice(data, others, rng):
    other = rng.choice(others)
    start = place(other, rng)
    data[place(data, rng) :] = other[start : start + rng.choice([16, 256, len(other)])]


def move(data, others, rng):
    """Some bytes twice, or elsewhere."""
    start, length = place(data, rng), rng.choice([1, 8, 64, 512])
    piece = data[start : start + length]
    if rng.random() < 0.5:
        del data[start : start + length]
    at = place(data, rng)
    data[at:at] = piece


def mend_checksums(data):
    """So that the decoder comes to see what is wrong in a PNG's chunks."""
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            return
        data[end - 4 : end] = zlib.crc32(data[position + 4 : end - 4]).to_bytes(4, "big")
        position = end


@pytest.fixture
def decoder():
    made = Decoder(limit_s=20)
    yield made
    made.close()


def test_the_seeds_are_images(decoder, tmp_path, draw_blobs):
    for name, data in seeds(draw_blobs(40, 56)).items():
        path = tmp_path / name
        path.write_bytes(data)
        if name in ("cmyk.jpg",):
            with pytest.raises(ImageError, match="CMYK"):
                decoder.decode(path)
        else:
            assert decoder.decode(path)[1].shape == (40, 56)


@pytest.mark.slow
def test_a_mutated_file_is_an_image_or_refused_with_a_reason(decoder, tmp_path, draw_blobs):
    rng = random.Random(FILES)
    sound = seeds(draw_blobs(40, 56))
    others = list(sound.values())
    outcomes, slowest = collections.Counter(), 0.0
    for number in range(FILES):
        name = rng.choice(list(sound))
        path = tmp_path / f"file.{name.rsplit('.', 1)[1]}"
        path.write_bytes(mutated(sound[name], others, rng))
        start = time.monotonic()
        outcome = decoded(decoder, path)
        slowest = max(slowest, time.monotonic() - start)
        outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith(("bug", "crash")):
            print(f"{outcome}\n{name}, file {number}: {path.read_bytes().hex()}")
    print(f"{FILES} files: {dict(outcomes)}; the slowest took {slowest:.2f} s")
    assert not outcomes["bug"]
    assert outcomes["image"] > FILES / 50
    assert outcomes["refused"] > FILES / 4


def decoded(decoder, path):
    """What became of a file, in a word and a reason."""
    try:
        pixels = decoder.decode(path)[1].pixels
    except ImageError as error:
        if "makes the decoder fail" in error.message or not error.message.isprintable():
            return f"bug: {error.message!r}"
        return f"{'crash' if 'crashes the decoder' in error.message else 'refused'}: {error.message}"
    except MemoryError:
        return "memory"
    fits = pixels.dtype in (np.uint8, np.uint16) and (pixels.ndim == 2 or pixels.shape[2] == 3)
    return "image" if fits and 1 <= min(pixels.shape[:2]) <= max(pixels.shape) <= 12_000 else f"bug: {pixels.shape}"
