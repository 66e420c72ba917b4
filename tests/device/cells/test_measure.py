"""Every column against scikit-image, whose names and definitions they have."""

import csv
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import regionprops_table

from cellseg_device.cells import bands
from cellseg_device.cells.measure import count_in_frame, measure
from cellseg_device.results import image_files

# Ours, and theirs
NAMES = {
    "label": "label",
    "centroid_row_px": "centroid-0",
    "centroid_col_px": "centroid-1",
    "area_px": "area",
    "equivalent_diameter_area_px": "equivalent_diameter_area",
    "axis_major_length_px": "axis_major_length",
    "axis_minor_length_px": "axis_minor_length",
    "perimeter_px": "perimeter",
}


def blobs(seed, height=90, width=120, cells=25):
    """Ellipses that touch, cover each other and leave the image; numbered without gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for number in range(1, cells + 1):
        centre = int(rng.integers(-3, width + 3)), int(rng.integers(-3, height + 3))
        axes = int(rng.integers(0, 15)), int(rng.integers(0, 9))
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, number, -1)
    return renumbered(labels)


def renumbered(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16) + (labels.min() > 0)


def compare(labels, pixels):
    labels = labels.astype(np.uint16)
    found = measure(labels, pixels).columns
    intensity = [name for name in found if name.startswith("intensity")]
    properties = ["label", "centroid", "area", "equivalent_diameter_area", "axis_major_length", "axis_minor_length"]
    expected = regionprops_table(
        labels, pixels, properties=(*properties, "orientation", "perimeter", "intensity_mean", "bbox")
    )
    # A root of a variance of zero is the root of its rounding: 1e-13 becomes 1e-6
    for ours, theirs in NAMES.items():
        tolerance = 1e-5 if "axis" in ours else 1e-9
        assert np.allclose(found[ours], expected[theirs], rtol=1e-9, atol=tolerance), ours
    assert len(intensity) == (1 if pixels.ndim == 2 else 3)
    for number, name in enumerate(intensity):
        theirs = "intensity_mean" if pixels.ndim == 2 else f"intensity_mean-{number}"
        assert np.allclose(found[name], expected[theirs], rtol=1e-12), name
    # An angle of a round cell says nothing, and −π/2 is π/2
    long = found["axis_major_length_px"] > found["axis_minor_length_px"] + 1e-3
    turn = (found["orientation_rad"] - expected["orientation"])[long]
    assert np.allclose(np.sin(turn), 0, atol=1e-7)
    assert (np.abs(found["orientation_rad"]) <= np.pi / 2 + 1e-12).all()
    with np.errstate(divide="ignore"):
        circularity = 4 * np.pi * expected["area"] / expected["perimeter"] ** 2
    circularity[expected["perimeter"] == 0] = np.nan
    assert np.allclose(found["circularity"], circularity, equal_nan=True)
    height, width = labels.shape
    touches = (expected["bbox-0"] == 0) | (expected["bbox-1"] == 0)
    touches |= (expected["bbox-2"] == height) | (expected["bbox-3"] == width)
    assert np.array_equal(found["touches_border"], touches)


@pytest.mark.parametrize("seed", range(8))
def test_cells_of_any_shape_measure_as_in_scikit_image(seed):
    labels = blobs(seed)
    compare(labels, np.random.default_rng(seed).integers(0, 256, labels.shape).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_intensities_of_colours(dtype):
    labels = blobs(3)
    limit = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(0).integers(limit // 2, limit, (*labels.shape, 3)).astype(dtype)
    compare(labels, pixels)
    found = measure(labels, pixels).columns
    inside = pixels[labels == 2]
    for number, colour in enumerate(("red", "green", "blue")):
        assert found[f"intensity_mean_{colour}"][1] == pytest.approx(inside[:, number].mean())


def drawn(text):
    return np.array([[int(c) if c != "." else 0 for c in row] for row in text.split()], np.uint16)


EDGES = {
    "single pixel": "..... ..1.. .....",
    "single pixel image": "1",
    "row": "....... .11111. .......",
    "column": "... .1. .1. .1. ...",
    "row from border to border": "11111",
    "diagonal": "1... .1.. ..1. ...1",
    "whole image": "1111 1111 1111",
    "all borders": "1111 1..1 1111",
    "square": "...... .1111. .1111. .1111. .1111. ......",
    "ring": "....... .11111. .1...1. .1.2.1. .1...1. .11111. .......",
    "in two parts": "11... ...22 11...",
    "touching": "112233 112233 445566",
}


@pytest.mark.parametrize("text", EDGES.values(), ids=EDGES)
def test_edge_cases_measure_as_in_scikit_image(text):
    labels = drawn(text)
    compare(labels, (np.arange(labels.size).reshape(labels.shape) * 5).astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=st.integers(0, 4)))
def test_any_labels_measure_as_in_scikit_image(labels):
    labels = renumbered(np.where(labels == 4, 0, labels))
    if labels.any():
        compare(labels, np.full(labels.shape, 7, np.uint8))


def of_scikit_image(labels, pixels, pixel_size_um):
    """Every column of ours, made of theirs."""
    names = [name.split("-")[0] for name in NAMES.values()]
    names = [*dict.fromkeys(names), "orientation", "intensity_mean", "bbox"]
    plain = regionprops_table(labels, pixels, properties=names)
    expected = {ours: plain[theirs] for ours, theirs in NAMES.items()}
    expected["orientation_rad"] = plain["orientation"]
    with np.errstate(divide="ignore"):
        expected["circularity"] = 4 * np.pi * plain["area"] / plain["perimeter"] ** 2
    expected["circularity"][plain["perimeter"] == 0] = np.nan
    if pixels.ndim == 2:
        expected["intensity_mean"] = plain["intensity_mean"]
    else:
        for number, colour in enumerate(("red", "green", "blue")):
            expected[f"intensity_mean_{colour}"] = plain[f"intensity_mean-{number}"]
    top, left, bottom, right = (plain[f"bbox-{number}"] for number in range(4))
    touches = (top == 0) | (left == 0) | (bottom == labels.shape[0]) | (right == labels.shape[1])
    expected["touches_border"] = touches.astype(int)
    sized = regionprops_table(labels, properties=names[: len(names) - 3], spacing=(pixel_size_um,) * 2)
    for ours, theirs in NAMES.items():
        if ours.endswith("_px"):
            expected[ours.removesuffix("_px") + ("_um2" if ours == "area_px" else "_um")] = sized[theirs]
    return expected


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize("field", ["dapi16", "hoechst8", "smear", "tissue", *range(4)])
def test_every_column_as_written_agrees_with_scikit_image_to_a_thousandth(samples, field, colour):
    if isinstance(field, int):
        labels = blobs(field, 300, 400, 120)
        pixels = np.random.default_rng(field).integers(1, 2**16, labels.shape).astype(np.uint16)
    else:
        labels = cv2.imread(str(samples / "truth" / f"{field}.png"), cv2.IMREAD_UNCHANGED)
        pixels = cv2.imread(str(samples / f"{field}.png"), cv2.IMREAD_UNCHANGED)
        pixels = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    if colour:
        pixels = np.dstack([pixels, pixels // 2, pixels // 3])
    text = image_files.cells_csv(measure(labels, pixels, 0.325))
    rows = list(csv.DictReader(io.StringIO(text)))
    expected = of_scikit_image(labels, pixels, 0.325)
    assert {*rows[0]} == {*expected}
    round_cell = expected["axis_major_length_px"] <= expected["axis_minor_length_px"] + 1e-3
    for name, values in expected.items():
        found = np.array([float(row[name] or "nan") for row in rows])
        if name == "orientation_rad":  # −π/2 is π/2, and the angle of a round cell says nothing
            found, values = np.exp(2j * found)[~round_cell], np.exp(2j * values)[~round_cell]
        assert np.allclose(found, values, rtol=1e-3, atol=1e-5, equal_nan=True), name


def test_a_large_cell_far_from_the_origin_loses_no_digits():
    labels = np.zeros((3000, 11_000), np.uint16)
    cv2.ellipse(labels, (10_900, 2900), (40, 20), 30, 0, 360, 1, -1)
    small = np.ascontiguousarray(labels[2800:, 10_800:])
    far, near = (measure(part, (part > 0).astype(np.uint16)).columns for part in (labels, small))
    for name in ("area_px", "axis_major_length_px", "axis_minor_length_px", "orientation_rad", "perimeter_px"):
        assert far[name] == pytest.approx(near[name], rel=1e-7), name
    assert far["centroid_row_px"] - 2800 == pytest.approx(near["centroid_row_px"])


@pytest.mark.parametrize("band_px", [1, 40, 170, 10_000])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_table_is_the_same_by_bands_of_any_size(monkeypatch, channels, band_px):
    rng = np.random.default_rng(4)
    labels = np.kron(rng.integers(0, 6, (6, 10)), np.ones((5, 4), int)).astype(np.uint16)
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16)
    pixels = rng.integers(0, 65_536, (*labels.shape, *channels)).astype(np.uint16)
    whole = measure(labels, pixels).columns
    monkeypatch.setattr(bands, "BAND_PX", band_px)
    for name, values in measure(labels, pixels).columns.items():
        assert np.array_equal(values, whole[name]), name


@pytest.mark.parametrize("pixels", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint16)], ids=["grey", "rgb"])
@pytest.mark.parametrize("size", [None, 0.5])
def test_no_cell_gives_the_same_columns_without_rows(pixels, size):
    cells = measure(np.zeros((4, 5), np.uint16), pixels, size)
    assert len(cells) == 0
    assert [*cells.columns] == [*measure(np.ones((4, 5), np.uint16), pixels, size).columns]
    assert {values.shape for values in cells.columns.values()} == {(0,)}


def test_columns_in_micrometres_follow_from_those_in_pixels():
    labels = blobs(1)
    pixels = np.ones(labels.shape, np.uint8)
    plain, sized = measure(labels, pixels).columns, measure(labels, pixels, 0.25).columns
    assert not [name for name in plain if "um" in name]
    lengths = [name.removesuffix("_px") for name in plain if name.endswith("_px") and name != "area_px"]
    assert {*sized} - {*plain} == {f"{name}_um" for name in lengths} | {"area_um2"}
    for name in lengths:
        assert np.array_equal(sized[f"{name}_um"], plain[f"{name}_px"] * 0.25)
    assert np.array_equal(sized["area_um2"], plain["area_px"] / 16)
    assert all(np.array_equal(sized[name], plain[name], equal_nan=True) for name in plain)


def test_the_frame_leaves_out_what_touches_its_top_or_left():
    labels = drawn("1..22 ..... 3...4 8.5.. 66.77")
    assert count_in_frame(labels) == 3  # 4, 5 and 7; not 3, 6 and 8, which touch the left
    assert count_in_frame(np.zeros((3, 3), np.uint16)) == 0
    assert count_in_frame(np.ones((1, 1), np.uint16)) == 0


def test_over_fields_that_share_their_edges_every_cell_is_counted_once():
    side, fields = 12, 3
    length = fields * (side - 1) + 1
    for row in range(1, length - 5):
        for col in range(1, length - 5):
            whole = np.zeros((length, length), np.uint16)
            whole[row : row + 5, col : col + 5] = 1
            starts = range(0, length - 1, side - 1)
            parts = [whole[top : top + side, left : left + side] for top in starts for left in starts]
            assert sum(count_in_frame(np.ascontiguousarray(part)) for part in parts) == 1
