"""Cells that were drawn elsewhere: label images, ROIs of ImageJ and GeoJSON of QuPath become label images."""

import importlib.util
import io
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.cells.measure import measure
from cellseg_device.errors import InputError
from cellseg_device.results import image_files
from cellseg_device.results.formats import FORMATS, Content, outline_files

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz.py"
SHAPE = (20, 30)
SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9], [2, 3]]


def renumbered(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16) + (labels.min() > 0)


def exported(labels, name):
    cells = measure(labels, labels, 0.5)
    return FORMATS[name].encode(Content("a.png", labels, image_files.cells_csv(cells)))


def polygon(*rings, **more):
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [*rings]}, "properties": {}, **more}


def collection(*features):
    return {"type": "FeatureCollection", "features": [*features]}


def zipped(**rois):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, roi in rois.items():
            archive.writestr(f"{name}.roi", roi if isinstance(roi, bytes) else roi.tobytes())
    return data.getvalue()


def read(tmp_path, name, content, shape=SHAPE):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return outline_files.read(path, shape)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 4)))
@settings(max_examples=150, deadline=None)
def test_what_is_exported_is_read_as_the_same_labels(tmp_path_factory, drawn):
    labels, folder = renumbered(drawn), tmp_path_factory.getbasetemp()
    for name, file in (("rois", "a.rois.zip"), ("geojson", "a.geojson")):
        found = read(folder, file, exported(labels, name), labels.shape)
        assert np.array_equal(found.labels, labels), name
        assert found.notes == ()


def test_labels_are_read_as_they_were_written(tmp_path, draw_labels):
    labels = draw_labels()
    tifffile.imwrite(tmp_path / "a.labels.tif", labels)
    assert cv2.imwrite(str(tmp_path / "a.png"), labels)
    for name in ("a.labels.tif", "a.png"):
        assert np.array_equal(outline_files.read(tmp_path / name, labels.shape).labels, labels)


def test_labels_of_another_size_are_refused(tmp_path, draw_labels):
    tifffile.imwrite(tmp_path / "a.tif", draw_labels(40, 60))
    with pytest.raises(InputError, match=r"a\.tif: has 60×40 pixels, the image 30×20: save labels of the image's size"):
        outline_files.read(tmp_path / "a.tif", SHAPE)


def test_colours_are_refused_with_how_many_channels_there_are(tmp_path, draw_labels):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([draw_labels()] * 3), planarconfig="separate", photometric="rgb")
    with pytest.raises(InputError, match="labels have 3 channels"):
        outline_files.read(tmp_path / "a.tif", (60, 80))


def test_geojson_as_qupath_writes_it(tmp_path):
    """A list of features before 0.5, a collection later; cells have a nucleus, brushed annotations several polygons."""
    hole = [[4, 5], [6, 5], [6, 7], [4, 7], [4, 5]]
    away = [[20, 3], [22, 3], [22, 5], [20, 5], [20, 3]]
    several = {"type": "MultiPolygon", "coordinates": [[SQUARE, hole], [away]]}
    features = (
        {
            "type": "Feature",
            "id": "PathDetectionObject",
            "geometry": several,
            "properties": {"objectType": "annotation"},
        },
        polygon(
            [[10.5, 10], [19, 10], [19, 19], [10.5, 19], [10.5, 10]],
            nucleusGeometry={"type": "Polygon", "coordinates": [[[12, 12], [16, 12], [16, 15], [12, 15], [12, 12]]]},
        ),
    )
    for content in (
        list(features),
        collection(*features),
        b"\xef\xbb\xbf" + json.dumps(collection(*features)).encode(),
    ):
        found = read(tmp_path, "a.geojson", content)
        assert np.bincount(found.labels.reshape(-1)).tolist()[1:] == [36 - 4 + 4, 12]
        assert found.labels[13, 14] == 2
        assert found.notes == ()
    assert np.count_nonzero(read(tmp_path, "a.json", features[1]).labels) == 12
    assert not read(tmp_path, "a.geojson", []).labels.any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"type": "FeatureCollection", "features": 1e9999}', "is JSON, but no FeatureCollection"),
        (b"\xff\xfe{}", "is not valid JSON"),
        ({"a": 1}, "is JSON, but no FeatureCollection: export the objects again as GeoJSON"),
        (collection(3), "object 1 is not a feature"),
        (collection({"type": "Feature"}), "object 1 has no geometry"),
        (collection(polygon(SQUARE), polygon()), "object 2 has no corners"),
        (collection(polygon([[1, 2], [3, 4]])), "fewer than three corners"),
        (collection(polygon([[1, 2], [3, None], [5, 5]])), "a corner that is not two numbers"),
        (collection(polygon([[1, 2], [3, float("nan")], [5, 5]])), "a corner that is not two numbers"),
        (collection(polygon([[1, 2], [3, True], [5, 5]])), "a corner that is not two numbers"),
        (collection(polygon([[1, 2], [3, 1e9], [5, 5]])), "more than a million pixels away"),
        (collection(polygon([[31, 2], [33, 2], [33, 5]])), "lies outside the image of 30×20 pixels"),
        (
            collection({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}),
            "object 1 is a Point, which has no area: draw its outline, or delete it",
        ),
        (collection({"type": "Feature", "geometry": {"type": "Circle"}}), "unknown type Circle"),
        (collection({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [7]}}), "fewer than three"),
        (collection({"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": 7}}), "wrong coordinates"),
    ],
)
def test_geojson_that_cannot_be_cells_is_refused_with_the_reason(tmp_path, content, words):
    with pytest.raises(InputError, match=words) as raised:
        read(tmp_path, "a.geojson", content)
    assert raised.value.message.startswith(f"{tmp_path / 'a.geojson'}: ")
    assert raised.value.message.isprintable()


def selection(kind, points=(), **more):
    roi = roifile.ImagejRoi.frompoints(np.array(points)) if len(points) else roifile.ImagejRoi()
    roi.roitype = kind
    for name, value in more.items():
        setattr(roi, name, value)
    return roi


def test_selections_of_every_kind_with_an_area(tmp_path):
    kinds = roifile.ROI_TYPE
    square = [[2, 3], [8, 3], [8, 9], [2, 9]]
    frame = {"left": 12, "top": 2, "right": 22, "bottom": 12}
    rois = {
        "polygon": (selection(kinds.POLYGON, square), 36),
        "freehand": (selection(kinds.FREEHAND, np.array(square, float)), 36),
        "traced": (selection(kinds.TRACED, square), 36),
        "rectangle": (selection(kinds.RECT, **frame), 100),
    }
    for name, (roi, area) in rois.items():
        assert np.count_nonzero(read(tmp_path, f"{name}.roi", roi.tobytes()).labels) == area, name
    oval = read(tmp_path, "oval.roi", selection(kinds.OVAL, **frame).tobytes()).labels > 0
    row, col = np.indices(SHAPE) + 0.5
    assert np.array_equal(oval, (row - 7) ** 2 + (col - 17) ** 2 < 25)


def test_a_composite_selection_has_its_hole(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[3:12, 4:15] = 1
    labels[6:8, 7:9] = 0
    labels[16, 20] = 1
    found = read(tmp_path, "a.zip", exported(labels, "rois"))
    assert np.array_equal(found.labels, labels)


def test_overlaps_and_cells_without_pixels_are_said(tmp_path):
    later = [[5, 5], [11, 5], [11, 11], [5, 11], [5, 5]]
    found = read(
        tmp_path, "a.geojson", collection(polygon(SQUARE), polygon(later), polygon([[0, 0], [0.1, 0], [0, 0.1]]))
    )
    assert found.notes == (
        "cells overlap in 12 px, which went to the later ones",
        "1 without a pixel of their own were left out",
    )
    assert np.bincount(found.labels.reshape(-1)).tolist()[1:] == [24, 36]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.roi", b"", "is damaged"),
        ("a.roi", b"Iout" + bytes(80), "has no corners"),
        ("a.zip", b"PK\3\4", "is not a sound zip"),
        ("a.zip", zipped(a=b"nothing"), r"a.roi is damaged \("),
        (
            "a.zip",
            zipped(a=selection(roifile.ROI_TYPE.POINT, [[3, 3]])),
            "a.roi is a point selection, which has no area",
        ),
        ("a.zip", zipped(a=selection(roifile.ROI_TYPE.RECT, left=40, right=50, bottom=9)), "lies outside the image"),
        ("a.gif", b"GIF", "a.gif: is none of .tif, .tiff, .png, .zip"),
    ],
    # Not by the bytes, in which there are the time and an identity that differs from process to process
    ids=("empty", "no corners", "half a zip", "nothing in a zip", "a point", "outside", "another file"),
)
def test_what_is_no_selection_is_refused_with_the_reason(tmp_path, name, content, words):
    with pytest.raises(InputError, match=words) as raised:
        read(tmp_path, name, content)
    assert raised.value.message.startswith(f"{tmp_path / name}: ")


def test_a_zip_of_something_else_or_far_too_much_is_refused(tmp_path, monkeypatch):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bytes(100_000))
    with pytest.raises(InputError, match=r"is a zip without a \.roi"):
        read(tmp_path, "a.zip", data.getvalue())
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(20 << 20))
    with pytest.raises(InputError, match=r"a\.roi is too large"):
        read(tmp_path, "a.zip", data.getvalue())
    monkeypatch.setattr(outline_files, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match="is over 0 MB: simplify the outlines, or save a label image"):
        read(tmp_path, "a.geojson", b" " * 1001)


def test_a_pipe_and_a_missing_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.geojson")
    for name in ("a.geojson", "b.roi", "c.png"):
        with pytest.raises(InputError, match=name):
            outline_files.read(tmp_path / name, SHAPE)


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


@pytest.mark.parametrize("name", ["a.labels.tif", "a.png", "a.rois.zip", "a.roi", "a.geojson"])
def test_of_mutated_files_each_is_read_or_refused_in_one_line(fuzz, tmp_path, draw_labels, capfd, name):
    """300 each; the mutations are those of ``benchmarks/fuzz.py``."""
    labels = draw_labels()
    tifffile.imwrite(tmp_path / "a.labels.tif", labels, compression="zlib")
    assert cv2.imwrite(str(tmp_path / "a.png"), labels)
    (tmp_path / "a.rois.zip").write_bytes(exported(labels, "rois"))
    (tmp_path / "a.roi").write_bytes(selection(roifile.ROI_TYPE.FREEHAND, np.array(SQUARE, float)).tobytes())
    (tmp_path / "a.geojson").write_bytes(exported(labels, "geojson"))
    sound, rng = {path.name: path.read_bytes() for path in tmp_path.iterdir()}, random.Random(0)
    path, faults = tmp_path / f"mutated-{name}", []
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound[name], [*sound.values()], rng))
        try:
            found = outline_files.read(path, labels.shape)
        except InputError as error:
            faults.append(error.message)
        else:
            assert (found.labels.shape, found.labels.dtype) == (labels.shape, np.uint16)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.startswith(f"{path}: ") or not fault.isprintable()] == []
    assert capfd.readouterr() == ("", "")
