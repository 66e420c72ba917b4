"""Images with ROIs of ImageJ or GeoJSON of QuPath."""

import json

import cv2
import numpy as np
import pytest
import roifile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.cells.measure import measure
from cellseg_device.errors import InputError
from cellseg_device.results import image_files
from cellseg_device.results.formats import FORMATS, Content
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import outline_pairs

FINDERS = {"rois": outline_pairs.find_rois, "geojson": outline_pairs.find_geojson}
SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9]]


def exported(labels, name):
    """What ``cellseg-device export --format NAME`` writes."""
    return FORMATS[name].encode(Content("a.png", labels, image_files.cells_csv(measure(labels, labels, 0.5))))


def run(*arguments):
    return CliRunner().invoke(main, ["data", "import", *map(str, arguments)])


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 4)))
@settings(max_examples=50, deadline=None)
def test_what_the_device_exports_comes_back_as_the_same_labels(tmp_path_factory, drawn):
    labels = np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape).astype(np.uint16) + (drawn.min() > 0)
    for name, find in FINDERS.items():
        folder = tmp_path_factory.mktemp(name)
        cv2.imwrite(str(folder / "a.png"), np.zeros(labels.shape, np.uint8))
        (folder / ("a.rois.zip" if name == "rois" else "a.geojson")).write_bytes(exported(labels, name))
        (source,) = find(folder)
        found = source.read_labels(labels.shape)
        assert np.array_equal(found.labels, labels)
        assert found.notes == ()


@pytest.mark.parametrize(("name", "file"), [("imagej-roi", "a.ZIP"), ("qupath", "a.GeoJSON")])
def test_images_with_outlines_become_a_dataset_and_what_lacks_a_partner_is_named(tmp_path, field, name, file):
    image, labels = field
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "labels").mkdir()
    for stem in ("a", "lone"):
        cv2.imwrite(str(source / "images" / f"{stem}.png"), image)
    data = exported(labels, "rois" if name == "imagej-roi" else "geojson")
    for stem in ("a", "stray"):
        (source / "labels" / file.replace("a", stem, 1)).write_bytes(data)
    result = run("--format", name, source, tmp_path / "out")
    assert result.exit_code == 1
    assert "left out: stray: has no image" in result.stderr
    assert "left out: lone: has no " in result.stderr
    (entry,) = load(tmp_path / "out").entries
    assert np.array_equal(load(tmp_path / "out").labels(entry), labels)


def test_files_are_named_with_the_image_s_ending_or_without_and_lie_elsewhere(tmp_path, field):
    image, labels = field
    (tmp_path / "images").mkdir()
    for name in ("a.b.tif", "c.png"):
        cv2.imwrite(str(tmp_path / "images" / name), image)
    for name in ("a.b.tif.geojson", "c.geojson"):
        (tmp_path / name).write_bytes(exported(labels, "geojson"))
    result = run("--format", "qupath", "--images", tmp_path / "images", tmp_path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [entry.id for entry in load(tmp_path / "out").entries] == ["a.b", "c"]


def test_overlaps_are_counted_and_the_later_one_wins(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    rings = [SQUARE, [[x + 3, y + 2] for x, y in SQUARE]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}} for ring in rings
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    out = tmp_path / "out"
    result = run("--format", "qupath", tmp_path, out)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == ["note: a: cells overlap in 12 px, which went to the later ones"]
    assert (out / "notes.csv").read_text().splitlines()[1].startswith("a,")
    (entry,) = load(out).entries
    assert np.bincount(load(out).labels(entry).ravel())[1:].tolist() == [24, 36]


def test_a_single_selection_of_imagej_and_two_files_of_one_image(tmp_path, field):
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    (tmp_path / "a.roi").write_bytes(roifile.ImagejRoi.frompoints(np.array(SQUARE)).tobytes())
    (source,) = outline_pairs.find_rois(tmp_path)
    assert np.count_nonzero(source.read_labels((60, 80)).labels) == 36
    (tmp_path / "a.zip").write_bytes(exported(field[1], "rois"))
    (source,) = outline_pairs.find_rois(tmp_path)
    with pytest.raises(InputError, match=r"has 2 ROI files of the same name \(a\.roi, a\.zip\)"):
        source.read_labels((60, 80))


def test_a_folder_without_images_or_outlines_is_refused(tmp_path, field):
    for find in FINDERS.values():
        with pytest.raises(InputError, match="holds no PNG, JPEG or TIFF image"):
            find(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), field[0])
    with pytest.raises(InputError, match=r"holds no GeoJSON file \(NAME\.geojson, NAME\.json\)"):
        outline_pairs.find_geojson(tmp_path)
