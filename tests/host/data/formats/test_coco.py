"""COCO files: those that cellseg-device exports, and those with masks of pycocotools, the library of the format."""

import json
import random

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_masks

from cellseg_device.cells.measure import measure
from cellseg_device.errors import CellsegError, InputError
from cellseg_device.results import image_files
from cellseg_device.results.formats import FORMATS, Content
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import coco
from cellseg_host.data.formats.source import Options

SHAPE = (20, 30)


def document(*segmentations, name="a.png", shape=SHAPE, **more):
    annotations = [
        {"id": number, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 2, 2], "segmentation": s, **more}
        for number, s in enumerate(segmentations, 1)
    ]
    image = {"id": 7, "file_name": name, "height": shape[0], "width": shape[1]}
    return {"images": [image], "categories": [{"id": 1, "name": "cell"}], "annotations": annotations}


def compressed(labels):
    """Masks of all cells as pycocotools writes them."""
    for number in range(1, int(labels.max(initial=0)) + 1):
        found = coco_masks.encode(np.asfortranarray(labels == number, np.uint8))
        yield {"size": found["size"], "counts": found["counts"].decode()}


def read(folder, content, shape=SHAPE):
    (folder / "coco.json").write_text(json.dumps(content))
    source, *_ = coco.find(folder)
    return source.read_labels(shape)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)))
@settings(max_examples=100, deadline=None)
def test_masks_come_back_as_they_were_written(tmp_path_factory, drawn):
    labels = np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape).astype(np.uint16) + (drawn.min() > 0)
    folder = tmp_path_factory.mktemp("coco")
    cells = image_files.cells_csv(measure(labels, labels, 0.5))
    ours = json.loads(FORMATS["coco"].encode(Content("a.png", labels, cells)))
    theirs = document(*compressed(labels), shape=labels.shape)
    for content in (ours, theirs):
        found = read(folder, content, labels.shape)
        assert np.array_equal(found.labels, labels)
        assert found.notes == ()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools 2.0.11
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 19)), min_size=3, max_size=8))
@settings(max_examples=100, deadline=None)
def test_polygons_differ_from_pycocotools_at_their_edges_alone(tmp_path_factory, corners):
    hull = cv2.convexHull(np.array(corners, np.int32)).reshape(-1, 2)
    if len(hull) < 3:
        return
    ring = hull.ravel().tolist()
    found = read(tmp_path_factory.getbasetemp(), document([ring])).labels > 0
    (rle,) = coco_masks.frPyObjects([ring], *SHAPE)
    theirs = coco_masks.decode(rle) > 0
    rim = cv2.polylines(np.zeros(SHAPE, np.uint8), [hull.astype(np.int32)], True, 1, 3) > 0
    assert not ((found != theirs) & ~rim).any()


def test_a_ring_in_a_ring_is_a_hole_and_one_beside_it_a_part(tmp_path):
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    hole = [5, 5, 8, 5, 8, 8, 5, 8]
    away = [20, 2, 24, 2, 24, 6, 20, 6]
    found = read(tmp_path, document([square, hole, away])).labels
    assert found.max() == 1
    assert (found[3, 3], found[6, 6], found[3, 21]) == (1, 0, 1)
    assert np.count_nonzero(found) == 100 - 9 + 16


def test_a_mask_keeps_its_hole_and_overlaps_go_to_the_later_one(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:10, 2:10] = 1
    labels[4:6, 4:6] = 0
    (ring,) = compressed(labels)
    found = read(tmp_path, document(ring, [[8, 2, 14, 2, 14, 6, 8, 6]], [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]))
    assert found.labels[5, 5] == 0
    assert found.labels[3, 8] == 2
    assert found.notes == (
        "cells overlap in 8 px, which went to the later ones",
        "1 without a pixel of their own were left out",
    )


@pytest.mark.parametrize(
    ("segmentation", "more", "words"),
    [
        ([], {}, "annotation 1 has a box and no outline: correct it in the program it was drawn in"),
        (None, {"bbox": []}, "has no outline"),
        ([[1, 2, 3, 4]], {}, "not three or more pairs of numbers"),
        ([[1, 2, 3, 4, 5, None]], {}, "not three or more pairs of numbers"),
        ([[1, 2, 3, 4, 5, 1e9]], {}, "no place in an image"),
        ([[50, 2, 53, 4, 55, 9]], {}, "lies outside the image of 30×20 px"),
        ({"size": [20, 30], "counts": [1, 2]}, {}, "do not fill the image"),
        ({"size": [20, 31], "counts": [620]}, {}, "a mask of another size"),
        ({"size": [20, 30], "counts": [-1, 601]}, {}, "not whole numbers from 0"),
        ({"size": [20, 30], "counts": "\n"}, {}, "run lengths that are damaged"),
        ({"size": [20, 30], "counts": "o"}, {}, "run lengths that are cut off"),
        ({"size": [20, 30], "counts": [0, 600]}, {"iscrowd": 1}, "is a crowd, several cells under one outline"),
    ],
)
def test_an_annotation_that_is_no_cell_rejects_its_image(tmp_path, segmentation, more, words):
    with pytest.raises(InputError, match=words) as found:
        read(tmp_path, document(segmentation, **more))
    assert found.value.message.isprintable()


def test_a_size_other_than_the_image_s_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is 30×20 px in coco\.json, the image 80×60 px"):
        read(tmp_path, document(), (60, 80))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not valid JSON"),
        ("[]", "is not valid JSON"),
        ("{}", "has no lists of images and annotations: export it again as COCO"),
        ('{"images": [], "annotations": []}', "lists no image"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "two images have the same id"),
        ('{"images": [{"id": 1, "file_name": 3}], "annotations": []}', "an image has the file_name 3"),
        ('{"images": [3], "annotations": []}', "has no lists of images"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=words):
        coco.find(tmp_path)


def test_none_or_several_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no JSON file: name the one with the annotations"):
        coco.find(tmp_path)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 JSON files \(a\.json, b\.json\)"):
        coco.find(tmp_path)


def test_images_are_found_by_their_names_below_the_folder(tmp_path, field, capsys):
    """Label Studio names paths of its server, Labelme those of its own folder, Windows with backslashes."""
    image, labels = field
    names = {"images/a.png": "/data/upload/1/a.png", "day/b.png": r"day\b.png", "c.d.png": "JPEGImages/c.d.png"}
    twice = {"x/e.png": "x/e.png", "y/e.png": "y/e.png"}
    for name in (*names, *twice, "unnamed.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), image)
    listed = [*names.values(), *twice.values(), "../lone.png"]
    content = document(shape=labels.shape)
    content["images"] = [{"id": number, "file_name": name} for number, name in enumerate(listed)]
    masks = [*compressed(labels)]
    content["annotations"] = [
        {"image_id": number, "segmentation": mask} for number in (0, 1, 2, 3, 4, 99) for mask in masks
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(content))
    result = CliRunner().invoke(main, ["data", "import", "--format", "coco", str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines() == [
        f"note: 1 image is in {tmp_path}, but not in instances.json",
        "left out: lone and 1 more: has no image",
    ]
    dataset = load(tmp_path / "out")
    assert [entry.id for entry in dataset.entries] == ["a", "b", "c.d", "x-e.png", "y-e.png"]
    assert all(np.array_equal(dataset.labels(entry), labels) for entry in dataset.entries)


def test_images_may_lie_elsewhere_and_an_image_without_annotations_is_empty(tmp_path, field):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), field[0])
    (tmp_path / "coco.json").write_text(json.dumps(document(shape=(60, 80))))
    (source,) = coco.find(tmp_path / "coco.json", Options(images=tmp_path / "images"))
    assert source.images == (tmp_path / "images" / "a.png",)
    assert source.set == "coco"
    assert not source.read_labels((60, 80)).labels.any()


def test_of_mutated_files_each_is_read_or_refused_in_one_line(tmp_path, field, fuzz, capfd):
    _, labels = field
    path, rng, faults = tmp_path / "coco.json", random.Random(0), []
    polygon = [[2, 2, 12, 2, 12, 12, 2, 12], [5, 5, 8, 5, 8, 8, 5, 8]]
    sound = json.dumps(document(*compressed(labels), polygon, shape=labels.shape)).encode()
    for _ in range(300):
        path.write_bytes(fuzz.mutated(sound, [sound], rng))
        try:
            for source in coco.find(tmp_path):
                assert source.read_labels(labels.shape).labels.shape in (labels.shape, (0, 0))
        except CellsegError as error:
            faults.append(error.message)
    assert 0 < len(faults) < 300
    assert [fault for fault in faults if not fault.isprintable()] == []
    assert capfd.readouterr() == ("", "")
