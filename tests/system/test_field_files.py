"""`run` and `watch` with files as people have them: sound, but not what a textbook shows."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
import tifffile


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "captures").mkdir()
    return tmp_path / "captures"


@pytest.fixture
def field(draw_blobs):
    return draw_blobs(240, 320, count=20)


def cells_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_one_picture_in_many_files_gives_one_count(device, folder, field, table):
    """Each file holds the same grey values, in another way."""
    colours = np.clip(np.arange(256)[None] * 3 - np.array([[0], [255], [510]]), 0, 255).astype(np.uint16) * 257
    tables = {"hot": colours, "inverted": (255 - np.stack([np.arange(256)] * 3)).astype(np.uint16) * 257}
    tifffile.imwrite(folder / "plain.tif", field, metadata=None)
    for name, colormap in tables.items():
        options = {"photometric": "palette", "colormap": colormap, "description": "ImageJ=1.54f\n", "metadata": None}
        tifffile.imwrite(folder / f"table-{name}.tif", field, **options)
    with tifffile.TiffWriter(folder / "pyramid.tif") as file:
        file.write(field, photometric="minisblack", metadata=None)
        for step in (2, 4):
            file.write(field[::step, ::step].copy(), photometric="minisblack", subfiletype=1, metadata=None)
    tifffile.imwrite(folder / "wide.tif", field.astype(np.int32), metadata=None)
    sizes = json.dumps({"PixelSizeUm": 0.325})
    tifffile.imwrite(folder / "sized.tif", field, metadata=None, extratags=[(51123, 2, 0, sizes, True)])
    tifffile.imwrite(folder / "big.btf", field, metadata=None, bigtiff=True)
    done = device("watch", folder, "--once", "--out", folder / "out", "--no-overlay")
    assert done.returncode == 0, done.stderr
    rows = {row["image"]: row for row in table(folder / "out" / "counts.csv")}
    assert len(rows) == 7
    assert len({row["count"] for row in rows.values()}) == 1
    assert int(rows["plain.tif"]["count"]) > 10
    assert {name for name, row in rows.items() if row["pixel_size_um"]} == {"sized.tif"}
    assert rows["sized.tif"]["pixel_size_um"] == "0.325"
    plain = cells_of(folder / "out" / "plain.cells.csv")
    for name in rows:
        if name != "sized.tif":  # which has columns in µm as well
            assert cells_of(folder / "out" / f"{name.partition('.')[0]}.cells.csv") == plain


def test_a_dead_pixel_and_a_webcam_s_stray_bytes_change_no_count(device, folder, field, table):
    spoilt = field / np.float32(255)
    tifffile.imwrite(folder / "float.tif", spoilt, metadata=None)
    for name, value in (("hot", 1e6), ("no-data", -3.4e38)):
        spoilt[5, 5] = value
        tifffile.imwrite(folder / f"{name}.tif", spoilt, metadata=None)
    jpeg = cv2.imencode(".jpg", field, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    (folder / "plain.jpg").write_bytes(jpeg)
    (folder / "webcam.jfif").write_bytes(jpeg[:end] + bytes(3) + jpeg[end:])
    done = device("run", *sorted(folder.iterdir()), "--out", folder / "out", "--no-overlay")
    assert done.returncode == 0, done.stderr
    rows = {row["image"].rpartition("/")[2]: row for row in table(folder / "out" / "counts.csv")}
    assert {rows[name]["count"] for name in ("hot.tif", "no-data.tif")} == {rows["float.tif"]["count"]}
    assert rows["webcam.jfif"]["count"] == rows["plain.jpg"]["count"]
    assert {row["flags"] for row in rows.values()} == {rows["float.tif"]["flags"]}


def test_what_is_not_read_is_refused_for_what_it_is(device, folder, field, table):
    stack = io.BytesIO()
    tifffile.imwrite(stack, np.stack([field, field]), photometric="minisblack", metadata=None)
    files = {
        "stack.tif": stack.getvalue(),
        "renamed.png": cv2.imencode(".bmp", field)[1].tobytes(),
        "unfinished.tif": b"II*\0\0\0\0\0",
        "zeiss.lsm": b"ZISRAWFILE" + bytes(100),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = device("watch", folder, "--once", "--out", folder / "out")
    assert done.returncode == 1
    assert {row["image"]: row["reason"] for row in table(folder / "out" / "failed.csv")} == {
        "stack.tif": "holds 2 pages of one size: save each as a file of its own "
        "(Fiji: File › Save As › Image Sequence)",
        "renamed.png": "is a BMP image: save it as PNG or TIFF",
        "unfinished.tif": "is a TIFF that holds no page, as one that was not finished: save or capture it again",
        "zeiss.lsm": "is a Zeiss CZI file: export it as TIFF from the microscope's software, or from Fiji",
    }


def test_a_dark_surround_of_an_eyepiece_is_left_out_and_said(device, folder, field, table):
    """Stained cells on a bright field, and the same through an eyepiece: one count, and what was left out."""
    bright = np.dstack([230 - field // 2, 225 - field, 228 - field // 3]).astype(np.uint8)
    rows, cols = np.mgrid[:240, :320]
    surround = np.random.default_rng(0).integers(0, 8, bright.shape).astype(np.uint8)
    inside = (np.hypot(rows - 119.5, cols - 159.5) < 110)[..., None]
    cv2.imwrite(str(folder / "eyepiece.png"), np.where(inside, bright, surround)[..., ::-1])
    cv2.imwrite(str(folder / "field.png"), bright[..., ::-1])

    found = device("run", folder / "eyepiece.png", "--out", folder / "out")
    assert found.stdout.splitlines()[0].startswith("eyepiece.png  ")
    assert ", dark surround left out  " in found.stdout.splitlines()[0]
    (row,) = table(folder / "out" / "counts.csv")
    shade, region = row["surround"].split(", around ")
    assert shade == "dark"
    labels = tifffile.imread(folder / "out" / "eyepiece.labels.tif")
    assert not labels[~inside[..., 0]].any()
    assert int(row["counted_area_px"]) == pytest.approx(np.pi * 110**2, rel=0.05)

    # The region that is named gives the same of the field without a surround
    given = device("run", folder / "field.png", "--region", region, "--out", folder / "given")
    assert given.returncode == 0, given.stderr
    (same,) = table(folder / "given" / "counts.csv")
    assert (same["count"], same["surround"]) == (row["count"], "")
    assert np.array_equal(tifffile.imread(folder / "given" / "field.labels.tif"), labels)
