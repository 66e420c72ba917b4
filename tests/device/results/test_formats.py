"""Every optional format, read by its own reader, gives the label image back, pixel for pixel."""

import csv
import io
import json
import math
import time
import uuid
import zipfile

import cv2
import numpy as np
import pytest
import roifile
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as rle
from pycocotools.coco import COCO

from cellseg_device.cells.measure import measure
from cellseg_device.commands.common import EXTRAS
from cellseg_device.pipeline import segment
from cellseg_device.results import image_files
from cellseg_device.results.formats import FORMATS, Content

# Of NumPy 2, in pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def content(labels, image="field.png", pixel_size_um=0.5):
    cells = measure(labels, np.arange(labels.size).reshape(labels.shape).astype(np.uint16), pixel_size_um)
    return Content(image, labels, image_files.cells_csv(cells))


def rois_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]


def renumbered(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16) + (labels.min() > 0)


def drawn(text):
    return np.array([[int(c) if c != "." else 0 for c in row] for row in text.split()], np.uint16)


# Each reads a file back to a list of (label, mask), in its order


def masks_of_rois(data, shape, winding, folder):
    for roi in rois_of(data):
        rings = roi.coordinates(multi=True)
        corners = np.concatenate(rings)
        assert [roi.left, roi.top] == corners.min(0).tolist()
        assert [roi.right, roi.bottom] == corners.max(0).tolist()
        if roi.composite:
            assert roi.roitype == roifile.ROI_TYPE.RECT
        else:
            assert roi.roitype == roifile.ROI_TYPE.TRACED
            assert roi.integer_coordinates.min() == 0
            assert not roi.subpixelresolution
        yield int(roi.name), winding(rings, shape) % 2 == 1


def masks_of_geojson(data, shape, winding, folder):
    for feature in json.loads(data)["features"]:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert geometry.is_valid
        coordinates = feature["geometry"]["coordinates"]
        polygons = coordinates if geometry.geom_type == "MultiPolygon" else [coordinates]
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        turns = sum(winding(polygon, shape) for polygon in polygons)
        assert set(np.unique(turns)) <= {0, -1}
        assert geometry.area == -turns.sum()
        yield int(feature["properties"]["name"]), turns != 0


def masks_of_coco(data, shape, winding, folder):
    (folder / "a.coco.json").write_bytes(data)
    coco = COCO(folder / "a.coco.json")
    (image,) = coco.dataset["images"]
    assert (image["height"], image["width"]) == shape
    (category,) = coco.loadCats(coco.getCatIds())
    assert category["name"] == "cell"
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]], iscrowd=False)):
        assert all(count > 0 for count in annotation["segmentation"]["counts"][1:])
        encoded = coco.annToRLE(annotation)
        assert annotation["area"] == rle.area(encoded)
        assert annotation["bbox"] == rle.toBbox(encoded).tolist()
        yield annotation["id"], rle.decode(encoded) == 1


def masks_of_outlines(data, shape, winding, folder):
    for number, line in enumerate(data.decode().splitlines(), start=1):
        numbers = [*map(int, line.rstrip().split(","))]  # as Cellpose's macro for ImageJ does
        path = np.stack([numbers[::2], numbers[1::2]], axis=1)
        odd = winding([path], shape) % 2 == 1
        assert np.array_equal(winding([path], shape) != 0, odd)
        yield number, odd


READERS = {
    "rois": masks_of_rois,
    "geojson": masks_of_geojson,
    "coco": masks_of_coco,
    "outlines": masks_of_outlines,
}


@pytest.fixture(scope="session")
def check(winding, tmp_path_factory):
    """Check that each format of a label image is the label image again."""
    folder = tmp_path_factory.mktemp("formats")

    def check(labels, names=tuple(READERS)):
        stored = content(labels)
        for name in names:
            data = FORMATS[name].encode(stored)
            again = np.zeros_like(labels)
            order = []
            for label, mask in READERS[name](data, labels.shape, winding, folder):
                order.append(label)
                assert not again[mask].any(), name
                again[mask] = label
            assert order == [*range(1, int(labels.max()) + 1)], name
            assert np.array_equal(again, labels), name

    return check


def test_each_format_has_a_reader_here_and_a_flag():
    assert [*READERS] == [*FORMATS]
    assert [*EXTRAS] == [*image_files.PICTURES, *FORMATS]
    assert {name: what.split(":")[0] for name, what in EXTRAS.items()} == {
        name: f"STEM{suffix}" for name, suffix in image_files.EXTRAS.items()
    }


SHAPES = {
    "no cell": "... ...",
    "1 × 1 without a cell": ".",
    "1 × 1": "1",
    "row": "11.22",
    "column": "1 . 2 2",
    "whole image": "111 111",
    "whole columns": "112 112 112",
    "hole": "..... .111. .1.1. .111. .....",
    "nested": "1111111 1.....1 1.222.1 1.2.2.1 1.222.1 1.....1 1111111",
    "nested in itself": "1111111 1.....1 1.111.1 1.1.1.1 1.111.1 1.....1 1111111",
    "parts": "11..1 ..2.. .1.11",
    "parts one below the other": "111 ... 1.1 ... 111",
    "diagonal": "1... .1.. ..1. ...1",
    "both diagonals of two": "1212 2121 1212",
    "hole open at a corner": "1111 1.11 11.1 111.",
    "touching": "112233 112233 445566",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_shapes_come_back(check, text):
    check(drawn(text))


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 3)))
def test_any_labels_come_back(check, labels):
    check(renumbered(np.where(labels == 3, 0, labels)))


@pytest.mark.parametrize("seed", range(3))
def test_blobs_come_back(check, seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 150), np.int32)
    for number in range(1, 30):
        centre = int(rng.integers(-3, 153)), int(rng.integers(-3, 123))
        axes = int(rng.integers(0, 15)), int(rng.integers(0, 9))
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, number, int(rng.choice([-1, 1])))
    check(renumbered(labels))


@pytest.mark.parametrize("name", ["dapi16", "hoechst8", "smear", "tissue", "empty"])
def test_real_segmentations_come_back(check, model, samples, name):
    check(segment.segment((samples / f"{name}.png").read_bytes(), model).labels)


def test_an_image_of_the_largest_side_comes_back(check):
    labels = np.zeros((3, 12_000), np.uint16)
    labels[1, 1:11_999] = 1
    labels[0:3, 11_999] = 2
    check(labels)
    check(np.ascontiguousarray(labels.T))


@pytest.mark.slow
def test_a_cell_of_very_many_corners_comes_back(check):
    labels = np.zeros((181, 400), np.uint16)
    labels[:, ::2] = 1
    labels[::2, :] = 1  # 18,000 holes
    labels[90] = 1
    check(labels, ("rois", "outlines", "coco"))
    for combs in (1, 2, 4):  # of 12,000 corners each in one ring: over 32,767 are too many for a traced selection
        labels = np.zeros((3 * combs, 6000), np.uint16)
        labels[0::3] = labels[1::3, ::2] = labels[:, 0] = 1
        check(labels)
        (roi,) = rois_of(FORMATS["rois"].encode(content(labels)))
        assert roi.composite == (combs == 4)


@pytest.mark.slow
def test_65535_cells_come_back():
    stored = content(np.arange(2**16, dtype=np.uint16).reshape(256, 256))
    row, col = np.divmod(np.arange(1, 2**16), 256)
    squares = np.stack([col, row], axis=1)[:, None] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    encoded = {name: form.encode(stored) for name, form in FORMATS.items()}

    rois = rois_of(encoded["rois"])
    assert [int(roi.name) for roi in rois] == [*range(1, 2**16)]
    assert np.array_equal([roi.coordinates() for roi in rois], squares)
    features = json.loads(encoded["geojson"])["features"]
    assert np.array_equal([f["geometry"]["coordinates"][0][:4] for f in features], squares)
    counts = [a["segmentation"]["counts"] for a in json.loads(encoded["coco"])["annotations"]]
    assert [c[:2] for c in counts] == [[first, 1] for first in (col * 256 + row).tolist()]
    lines = [[*map(int, line.split(","))] for line in encoded["outlines"].decode().splitlines()]
    assert np.array_equal(lines, squares.reshape(-1, 8))


def test_the_same_labels_give_the_same_bytes(draw_labels):
    first = {name: form.encode(content(draw_labels())) for name, form in FORMATS.items()}
    time.sleep(2.1)  # a time in a file, in steps of two seconds in a zip archive, would show
    assert {name: form.encode(content(draw_labels())) for name, form in FORMATS.items()} == first


def test_rois_are_named_so_that_they_sort(draw_labels):
    archive = zipfile.ZipFile(io.BytesIO(FORMATS["rois"].encode(content(draw_labels()))))
    names = archive.namelist()
    assert names[:2] == ["00001.roi", "00002.roi"]
    assert names == sorted(names)
    assert archive.testzip() is None
    assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_geojson_is_what_qupath_imports(draw_labels):
    stored = content(draw_labels())
    found = json.loads(FORMATS["geojson"].encode(stored))
    assert found["type"] == "FeatureCollection"
    table = list(csv.DictReader(io.StringIO(stored.cells_csv)))
    for feature, row in zip(found["features"], table, strict=True):
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["name"] == row.pop("label")
        assert feature["properties"]["measurements"] == {name: float(value) for name, value in row.items()}
        assert str(uuid.UUID(feature["id"])) == feature["id"]


def test_objects_are_known_again_by_image_and_label(draw_labels):
    def ids(image):
        return [f["id"] for f in json.loads(FORMATS["geojson"].encode(content(draw_labels(), image)))["features"]]

    first = ids("/captures/a.png")
    assert len({*first}) == len(first)
    assert ids("/elsewhere/a.png") == ids("a.png") == first
    assert not {*ids("b.png")} & {*first}


def test_what_is_not_known_of_a_cell_is_left_out():
    labels = drawn("1.222 ..222")  # one pixel has no circularity
    first, second = json.loads(FORMATS["geojson"].encode(content(labels)))["features"]
    assert "circularity" not in first["properties"]["measurements"]
    assert math.isfinite(second["properties"]["measurements"]["circularity"])


@pytest.mark.parametrize(
    ("image", "name"), [("/captures/a b.png", "a b.png"), ("plate 1/ä.tif", "plate 1/ä.tif"), ("a.png", "a.png")]
)
def test_coco_names_the_image(draw_labels, image, name):
    found = json.loads(FORMATS["coco"].encode(content(draw_labels(), image)))
    assert found["images"][0]["file_name"] == name


def test_a_line_of_outlines_is_a_plain_polygon_where_the_cell_is_one():
    lines = FORMATS["outlines"].encode(content(drawn("..... .111. .1.1. .111. .....")))
    assert lines == b"1,1,4,1,4,4,1,4,1,1,2,1,2,2,2,3,3,3,3,2,2,2,2,1,1,1\n"
    assert FORMATS["outlines"].encode(content(drawn(".11"))) == b"1,0,3,0,3,1,1,1\n"
