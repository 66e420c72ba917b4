"""Label images as other programs save them."""

import struct

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.errors import InputError
from cellseg_device.results.formats.label_images import consecutive, read_labels

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_whole_numbers_of_any_type_are_labels(tmp_path, draw_labels, kind, options):
    labels = draw_labels()
    tifffile.imwrite(tmp_path / "a.tif", (labels * 2).astype(kind), metadata=None, **options)
    found = read_labels(tmp_path / "a.tif")
    assert found.dtype == np.uint16
    assert np.array_equal(found, labels)


def test_numbers_may_be_larger_than_what_labels_are_stored_in(tmp_path, draw_labels):
    labels = draw_labels()
    for kind, most in ((np.uint32, 2**32 - 1), (np.int64, 2**63 - 1), (np.float64, 1e15)):
        numbers = np.where(labels, labels.astype(kind) + kind(70_000), 0).astype(kind)
        numbers[labels == labels.max()] = kind(most)
        tifffile.imwrite(tmp_path / "a.tif", numbers, metadata=None)
        assert np.array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_numbers_are_those_of_the_file_whichever_way_they_are_shown(tmp_path, draw_labels):
    """ImageJ gives labels a lookup table that shows them in colours, or with the background in white."""
    labels = draw_labels().astype(np.uint8)
    table = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="palette", colormap=table)
    tifffile.imwrite(tmp_path / "b.tif", labels, photometric="miniswhite")
    for name in ("a.tif", "b.tif"):
        assert np.array_equal(read_labels(tmp_path / name), labels)


def test_a_compression_that_only_opencv_knows_is_read(tmp_path, draw_labels):
    labels = draw_labels()
    assert cv2.imwrite(str(tmp_path / "a.tif"), labels)  # LZW
    assert np.array_equal(read_labels(tmp_path / "a.tif"), labels)


def spoilt(labels, kind, value):
    labels = labels.astype(kind)
    labels[3, 4] = value
    return labels


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("a.jpg", lambda labels: labels.astype(np.uint8), "JPEG does not keep the cells' numbers"),
        ("a.tif", lambda labels: np.stack([labels] * 2), "holds 2 pages: save one label image for each image"),
        ("a.tif", lambda labels: b"II*\0damaged", r"label image cannot be read \("),
        ("a.png", lambda labels: b"damaged", "label image cannot be read: save it again"),
        ("a.png", lambda labels: np.stack([labels] * 3, axis=-1), "labels have 3 channels: save them as one channel"),
        (
            "a.tif",
            lambda labels: spoilt(labels, np.float32, 0.5),
            "must be whole numbers, but it has 0.5 at row 3, ",
        ),
        ("a.tif", lambda labels: spoilt(labels, np.float32, np.nan), "must be whole numbers, but it has nan at row 3"),
        ("a.tif", lambda labels: spoilt(labels, np.int64, -1), r"has negative numbers \(-1\): give the background 0"),
        ("a.tif", lambda labels: np.arange(300 * 300).reshape(300, 300), "holds 89,999 cells, over 65,535"),
        ("a.png", lambda labels: None, "no such file"),
    ],
)
def test_what_cannot_be_labels_is_refused_with_the_reason(tmp_path, draw_labels, name, pixels, words):
    path, made = tmp_path / name, pixels(draw_labels())
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None and path.suffix == ".tif":
        tifffile.imwrite(path, made, metadata=None, photometric="minisblack")
    elif made is not None:
        assert cv2.imwrite(str(path), made)
    with pytest.raises(InputError, match=words) as raised:
        read_labels(path)
    assert raised.value.message.startswith(f"{path}: ")


def test_numbers_become_consecutive_in_their_order():
    labels = np.uint16([[0, 7, 7], [65535, 0, 3]])
    for kind in (np.uint16, np.int64, np.float64):
        assert consecutive(labels.astype(kind)).tolist() == [[0, 2, 2], [3, 0, 1]]
        assert consecutive(np.zeros((2, 0), kind)).shape == (2, 0)
        assert consecutive(np.array([[5]], kind)).tolist() == [[1]]


def test_a_header_that_claims_far_too_many_pixels_is_refused_before_they_are_read(tmp_path):
    """A file of a few bytes would take gigabytes."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((9, 9), np.uint16), metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages.first.tags
        for name in ("ImageLength", "RowsPerStrip"):
            form = {3: "<H", 4: "<I"}[int(tags[name].dtype)]
            struct.pack_into(form, data, tags[name].valueoffset, 60_000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: labels are 9×60000 pixels, over the limit of 12000×12000: crop or"):
        read_labels(path)
