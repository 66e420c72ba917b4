"""Files that would take gigabytes or hours are refused at once, for what is wrong with them."""

import os
import resource
import socket
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.errors import ImageError
from cellseg_device.image import decode as decoding
from cellseg_device.image import source
from cellseg_device.image.decode import decode

SIDE = 64
SHORT, LONG, TEXT, BYTE = 3, 4, 2, 1
FORMS = {SHORT: "H", LONG: "I", TEXT: "B", BYTE: "B"}


def tiff(data, compression=8, **more):
    """A grey TIFF of 64 × 64 px in one strip, with other or further tags, written as ``t278=(LONG, [64])``."""
    tags = {256: (LONG, [SIDE]), 257: (LONG, [SIDE]), 258: (SHORT, [8]), 259: (SHORT, [compression])}
    tags |= {262: (SHORT, [1]), 273: (LONG, [8]), 278: (LONG, [SIDE]), 279: (LONG, [len(data)])}
    tags |= {int(name[1:]): value for name, value in more.items()}
    start = 8 + len(data)
    entries, values, place = b"", b"", start + 2 + 12 * len(tags) + 4
    for code, (kind, numbers) in sorted(tags.items()):
        packed = bytes(numbers) if kind in (TEXT, BYTE) else struct.pack(f"<{len(numbers)}{FORMS[kind]}", *numbers)
        entries += struct.pack("<HHI", code, kind, len(numbers))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place + len(values))
        values += packed if len(packed) > 4 else b""
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values


def deflated(megabytes):
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


GOOD = zlib.compress(bytes(SIDE * SIDE))
BOMB = deflated(256)
TILE = {"t322": (LONG, [30_000]), "t323": (LONG, [30_000]), "t324": (LONG, [8]), "t325": (LONG, [99])}
CHAIN = 200_000


def chain_of_pages():
    """A page that is followed by very many empty ones."""
    data = bytearray(tiff(GOOD))
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    begin = len(data)
    struct.pack_into("<I", data, first + 2 + 12 * tags, begin)
    return bytes(data) + b"".join(struct.pack("<HI", 0, begin + 6 * (n + 1)) for n in range(CHAIN)) + bytes(6)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(BOMB), "its data inflates to more than its header says"),
        (tiff(BOMB, t278=(LONG, [2**32 - 1])), "its data inflates to more than its header says"),
        (tiff(BOMB, t317=(SHORT, [2])), "its data inflates to more than its header says"),
        (tiff(bytes([129, 0]) * 1_000_000, 32773), "its data inflates to more than its header says"),
        (tiff(bytes(99), **TILE), "its tiles are 30000×30000 pixels"),
        (tiff(bytes(99), 5, **TILE), "its tiles are 30000×30000 pixels"),
        (tiff(GOOD, t273=(LONG, [8] * 1_000_000)), "1000000 strips or tiles for 64 rows"),
        (tiff(GOOD, t258=(SHORT, [8] * 1_000_000)), "1000000 values of tag 258"),
        (tiff(GOOD, t278=(LONG, [8])), "strips or tiles are missing"),
        (chain_of_pages(), "holds more than 1000 pages"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tiff_that_is_a_bomb_is_refused_for_what_it_is(data, words):
    assert decode(tiff(GOOD)).shape == (SIDE, SIDE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=words):
        decode(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB


def test_later_pages_that_tifffile_reads_are_within_bounds_too():
    info = struct.pack("<IIiiiiiiiiddd", 50350412, 72, SIDE, SIDE, 1, 1, 1, 1, 0, 0, 1e-7, 1e-7, 1e-6)
    data = bytearray(tiff(GOOD, t34412=(BYTE, info)))
    page = tiff(GOOD, t256=(LONG, [8]), t257=(LONG, [8]), t258=(SHORT, [8] * 1_000_000))
    shift = len(data)
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    (start,) = struct.unpack_from("<I", page, 4)
    struct.pack_into("<I", data, first + 2 + 12 * tags, shift + start)
    second = bytearray(page)
    (number,) = struct.unpack_from("<H", page, start)
    for entry in range(start + 2, start + 2 + 12 * number, 12):
        code, kind, count, place = struct.unpack_from("<HHII", page, entry)
        if code == 273 or count * struct.calcsize(FORMS[kind]) > 4:
            struct.pack_into("<I", second, entry + 8, place + shift)
    with pytest.raises(ImageError, match="1000000 values of tag 258"):
        decode(bytes(data + second))


def test_one_value_named_by_many_tags_is_read_by_none():
    text = {f"t{50_000 + n}": (TEXT, b"x" * 8) for n in range(1000)}
    data = bytearray(tiff(GOOD, t40000=(TEXT, bytes(1 << 20)), **text))
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    entries = range(first + 2, first + 2 + 12 * tags, 12)
    (large,) = [entry for entry in entries if struct.unpack_from("<H", data, entry) == (40_000,)]
    for entry in entries:
        if struct.unpack_from("<H", data, entry)[0] >= 50_000:
            data[entry + 4 : entry + 12] = data[large + 4 : large + 12]
    with pytest.raises(ImageError, match="its tags have more values than the file has bytes"):
        decode(bytes(data))


def test_pages_that_follow_each_other_in_a_circle_are_counted_once():
    data = bytearray(tiff(GOOD))
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * tags, first)
    assert decode(bytes(data)).shape == (SIDE, SIDE)


def test_strips_in_reversed_bits_of_a_fax_are_inflated_as_well():
    reverse = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    pixels = np.arange(SIDE * SIDE, dtype=np.uint32).reshape(SIDE, SIDE).astype(np.uint8)
    data = zlib.compress(pixels.tobytes()).translate(reverse)
    assert np.array_equal(decode(tiff(data, t266=(SHORT, [2]))).pixels, pixels)


def test_a_strip_that_was_left_out_because_it_is_empty_is_black():
    half = zlib.compress(bytes([9]) * (SIDE * SIDE // 2))
    strips = {"t273": (LONG, [8, 0]), "t279": (LONG, [len(half), 0]), "t278": (LONG, [SIDE // 2])}
    pixels = decode(tiff(half, **strips)).pixels
    assert pixels[: SIDE // 2].min() == 9
    assert pixels[SIDE // 2 :].max() == 0


# Large files


def sparse(path, start, size=1_900_000_000):
    """A file that begins so, and is mostly a hole."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (tiff(GOOD), "is 1,900 MB, far more than 64×64 pixels need: save each plane as a file of its own"),
        (cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes(), "far more than 64×64 pixels need: save it"),
        (cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[1].tobytes(), "far more than 64×64 pixels need: save it"),
        (b"text", "is not a PNG, JPEG or TIFF image"),
        (chain_of_pages(), "holds more than 1000 pages"),
        (b"II*\0\xff\xff\xff\x7f", "is a truncated TIFF"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "is a truncated TIFF"),
        (b"II*\0\x10\0\0\0", "has a size of 0×0 pixels"),
    ],
    ids=["tif", "png", "jpg", "text", "pages", "no directory", "far directory", "empty directory"],
)
def test_a_file_that_is_mostly_a_hole_is_not_read(tmp_path, start, words, monkeypatch):
    path = sparse(tmp_path / "hole.tif", start)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=words):
        source.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB


@pytest.mark.parametrize("name", ["large.tif", "large.png", "large.jpg"])
def test_a_large_file_of_a_large_image_is_read_whole(tmp_path, name, monkeypatch, write_image):
    monkeypatch.setattr(decoding, "_MOST_BESIDE_BYTES", 1000)
    path = write_image(tmp_path / name)
    assert source.read(path) == path.read_bytes()
    tifffile.imwrite(tmp_path / "big.tif", np.zeros((200, 300, 3), np.uint16), photometric="rgb", bigtiff=True)
    assert len(source.read(tmp_path / "big.tif")) > 360_000


# What is at a path


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, write_image, monkeypatch):
    """An attacker puts it there after a look at the file."""
    path = write_image(tmp_path / "a.png")
    plain = os.open

    def swapped(*arguments, **options):
        path.unlink()
        os.mkfifo(path)
        return plain(*arguments, **options)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(ImageError, match="is not a regular file"):
        source.read(path)


def test_what_is_no_file_is_named(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("socket.png")
        for name in ("pipe.png", "socket.png", "/dev/null"):
            with pytest.raises(ImageError, match="is not a regular file"):
                source.read(tmp_path / name)


LEASE = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, lambda *_: (time.sleep(0.3), fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)))
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
time.sleep(20)
"""


def test_a_lease_of_another_program_is_waited_for(tmp_path, write_image):
    """Samba takes one on a file that a microscope's computer has open."""
    path = write_image(tmp_path / "a.png")
    with subprocess.Popen([sys.executable, "-c", LEASE, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "leased\n"
        assert source.read(path) == path.read_bytes()
        holder.kill()


def test_a_file_that_grows_after_it_was_opened_is_read_whole(tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    with source.opened(path) as file:
        path.write_bytes(path.read_bytes() * 2)
        assert source.contents(file) == path.read_bytes()


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(("kind", "at"), [(b"teXt", 33), (b"IDAT", -12)], ids=["before the pixels", "behind them"])
def test_a_png_in_pieces_without_end_is_refused(kind, at):
    data = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    with pytest.raises(ImageError, match="is a PNG in more than 131,072 chunks: save it again"):
        decode(data[:at] + chunk(kind) * (1 << 17) + data[at:])


def test_a_png_in_very_many_pieces_is_read():
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    pieces = b"".join([chunk(b"IDAT", content[at : at + 2]) for at in range(0, len(content), 2)])
    start = cv2.imencode(".png", pixels)[1].tobytes()[:33]
    assert (decode(start + pieces + chunk(b"IEND")).pixels == pixels).all()
