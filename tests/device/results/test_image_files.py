import csv
import dataclasses
import io
import math
import os
import time

import cv2
import numpy as np
import ome_types
import PIL.Image
import pytest
import tifffile

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.measure import Cells
from cellseg_device.errors import ImageError
from cellseg_device.image import decode
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline.segment import count_labels
from cellseg_device.results import image_files
from cellseg_device.results.image_files import Provenance

OVERLAY = image_files.PICTURES[image_files.OVERLAY]
PROVENANCE = Provenance("ä & <b>.png", "0f" * 32, 12345, "nuclei", "a1" * 32, '{"frame": ["top"]}')


def segmentation(labels, pixel_size_um=None, colour=False):
    grey = (labels > 0).astype(np.uint8) * 150 + 20
    pixels = np.dstack([grey, grey // 2, grey // 3]) if colour else grey
    return count_labels(Image(pixels, pixel_size_um), labels, 1 / 17, Counting())


def written(tmp_path, result, *overlay):
    image_files.write(tmp_path, "a", result, PROVENANCE, *overlay)
    return {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}


@pytest.mark.parametrize("size", [None, 0.325])
def test_labels_read_back_with_their_pixel_size(tmp_path, size, draw_labels):
    labels = draw_labels()
    written(tmp_path, segmentation(labels, size))
    path = tmp_path / "a.labels.tif"
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert np.array_equal(tif.asarray(), labels)
        assert tif.series[0].axes == "YX"
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        unit, (numerator, denominator) = (
            tif.pages.first.resolutionunit,
            tif.pages.first.tags["XResolution"].value,
        )
    assert (pixels["SizeX"], pixels["SizeY"], pixels["Type"]) == (80, 60, "uint16")
    assert pixels.get("PhysicalSizeX") == size
    assert pixels.get("PhysicalSizeYUnit") == (None if size is None else "µm")
    if size is None:
        assert unit == tifffile.RESUNIT.NONE
    else:
        assert unit == tifffile.RESUNIT.CENTIMETER
        assert 1e4 * denominator / numerator == pytest.approx(size)
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)
    assert decode.decode(path.read_bytes()).pixel_size_um == size


@pytest.mark.parametrize("size", [None, 0.325, 1e-3, 12.5])
@pytest.mark.parametrize("name", ["a.png", 'ä & <b> "c".png'])
def test_the_ome_xml_is_valid_and_says_the_pixel_size(tmp_path, draw_labels, size, name):
    labels = draw_labels()
    with open(tmp_path / "a.labels.tif", "wb") as file:
        image_files.write_labels(file, labels, size, dataclasses.replace(PROVENANCE, image=name))
    with tifffile.TiffFile(tmp_path / "a.labels.tif") as tif:
        ome = ome_types.from_xml(tif.ome_metadata, validate=True)  # by the schema that comes with ome_types
    (picture,) = ome.images
    assert (picture.pixels.size_y, picture.pixels.size_x, picture.pixels.type.value) == (*labels.shape, "uint16")
    assert (picture.pixels.physical_size_x, picture.pixels.physical_size_y) == (size, size)
    assert picture.pixels.physical_size_x_unit.value == "µm"
    (facts,) = ome.structured_annotations.map_annotations
    assert facts.id == picture.annotation_refs[0].id
    assert facts.value["image"] == name


@pytest.mark.parametrize("size", [0.325, 1e-3, 12.5])
def test_labels_open_in_pillow_and_as_imagej_reads_them(tmp_path, draw_labels, size):
    labels = draw_labels()
    written(tmp_path, segmentation(labels, size))
    with PIL.Image.open(tmp_path / "a.labels.tif") as picture:
        assert np.array_equal(np.asarray(picture), labels)
        # Where the description is not its own, ImageJ takes these tags; centimetres it turns into µm.
        assert picture.tag_v2[296] == 3
        assert 1e4 / float(picture.tag_v2[282]) == pytest.approx(size, rel=1e-6)
        assert picture.tag_v2[282] == picture.tag_v2[283]
        assert picture.tag_v2[259] == 8  # deflate


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2)])
def test_labels_of_any_shape_read_back(tmp_path, shape):
    labels = np.ones(shape, np.uint16)
    written(tmp_path, segmentation(labels))
    assert np.array_equal(tifffile.imread(tmp_path / "a.labels.tif"), labels)


def test_the_same_labels_give_the_same_bytes(tmp_path, draw_labels):
    result = segmentation(draw_labels(), 0.5)
    first = written(tmp_path, result, {OVERLAY: lambda: b"jpeg"})
    time.sleep(1.1)  # a time in the file would show
    assert written(tmp_path, result, {OVERLAY: lambda: b"jpeg"}) == first


def test_a_label_image_says_what_it_was_made_from(tmp_path, draw_labels):
    written(tmp_path, segmentation(draw_labels(), 0.5))
    assert image_files.read_provenance(tmp_path / "a.labels.tif") == PROVENANCE


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no tiff"])
def test_a_file_that_is_no_label_image_of_ours_says_nothing(tmp_path, content):
    (tmp_path / "a.labels.tif").write_bytes(content)
    with pytest.raises(ImageError):
        image_files.read_provenance(tmp_path / "a.labels.tif")
    tifffile.imwrite(tmp_path / "b.labels.tif", np.zeros((5, 5), np.uint16), ome=True)
    with pytest.raises(ImageError, match="older version"):
        image_files.read_provenance(tmp_path / "b.labels.tif")


def test_cells_csv_round_trip(tmp_path, draw_labels):
    result = segmentation(draw_labels(), 0.5, colour=True)
    rows = list(csv.DictReader(io.StringIO(written(tmp_path, result)["a.cells.csv"].decode())))
    assert [*rows[0]] == [*result.cells.columns]
    assert len(rows) == len(result.cells)
    for name, values in result.cells.columns.items():
        assert np.allclose([float(row[name]) for row in rows], values, rtol=1e-5, atol=1e-9)
    assert rows[3]["label"] == "4"
    assert rows[0]["area_px"] == "200"


def test_nan_is_an_empty_cell():
    text = image_files.cells_csv(Cells({"label": np.array([1, 2]), "circularity": np.array([math.nan, 0.5])}))
    assert text == "label,circularity\n1,\n2,0.5\n"


def test_an_image_without_cells_has_a_table_without_rows(tmp_path):
    result = segmentation(np.zeros((5, 7), np.uint16), 0.5)
    assert written(tmp_path, result)["a.cells.csv"].decode().count("\n") == 1
    counts = result.counts
    assert (counts.count, counts.covered_fraction, counts.median_diameter_um) == (0, 0, None)
    assert counts.density_per_mm2 == 0


def test_counts_follow_from_the_labels():
    labels = np.zeros((100, 200), np.uint16)
    labels[0:10, 50:60] = 1  # touches the top: not in the frame
    labels[40:50, 50:60] = 2
    labels[90:100, 100:110] = 3  # touches the bottom: in the frame
    counts = segmentation(labels, 2.0).counts
    assert (counts.count, counts.count_in_frame) == (3, 2)
    assert counts.covered_fraction == pytest.approx(0.015)
    assert counts.median_diameter_um == pytest.approx(2 * math.sqrt(400 / math.pi))
    assert counts.density_per_mm2 == pytest.approx(2 / (0.2 * 0.4))
    unknown = segmentation(labels).counts
    assert (unknown.pixel_size_um, unknown.median_diameter_um, unknown.density_per_mm2) == (None, None, None)


@pytest.mark.parametrize("suffix", image_files.SUFFIXES)
def test_a_file_that_cellseg_did_not_make_keeps_its_name(tmp_path, suffix):
    extras, path = dict.fromkeys(image_files.EXTRAS.values(), lambda: b"data"), tmp_path / f"a{suffix}"
    image_files.check_free(tmp_path, "a", extras, [])
    path.write_bytes(b"of somebody")
    with pytest.raises(ImageError, match="names are taken by files that cellseg did not make"):
        image_files.check_free(tmp_path, "a", extras, [])
    image_files.check_free(tmp_path, "a", extras, [path.name])
    if suffix not in image_files.ALWAYS:
        image_files.check_free(tmp_path, "a", {}, [])
        path.write_bytes(b"data")
        image_files.check_free(tmp_path, "a", extras, [])


def test_results_that_the_ledger_does_not_know_are_known_by_the_label_image_or_the_table(tmp_path, draw_labels):
    assert not image_files.are_ours(tmp_path, "a")
    written(tmp_path, segmentation(draw_labels()))
    for lost in image_files.ALWAYS:
        assert image_files.are_ours(tmp_path, "a")
        (tmp_path / f"a{lost}").unlink()
    for suffix in image_files.ALWAYS:
        (tmp_path / f"a{suffix}").write_bytes(b"label,of somebody")
    assert not image_files.are_ours(tmp_path, "a")


@pytest.mark.parametrize("kind", ["loop", "pipe", "folder", "unreadable"])
@pytest.mark.parametrize("suffix", [image_files.LABELS, image_files.CELLS, OVERLAY])
def test_whatever_has_the_name_of_a_result_holds_nothing_up(tmp_path, suffix, kind, monkeypatch):
    path = tmp_path / f"a{suffix}"
    if kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:  # as root one may read everything
        path.touch()
        monkeypatch.setattr("pathlib.Path.read_bytes", denied)
        monkeypatch.setattr("builtins.open", denied)
        monkeypatch.setattr("tifffile.TiffFile", denied)
    assert not image_files.are_ours(tmp_path, "a")
    with pytest.raises(ImageError, match="did not make"):
        image_files.check_free(tmp_path, "a", {OVERLAY: lambda: b"data"}, [])


def denied(*arguments, **keywords):
    raise PermissionError(13, "Permission denied")


def test_no_function_is_called_for_each_cell_that_is_formatted(count_calls):
    def cells(number):
        return Cells(
            {"label": np.arange(number)} | {f"c{i}": np.random.default_rng(i).random(number) for i in range(14)}
        )

    assert count_calls(image_files.cells_csv, cells(5000)) == count_calls(image_files.cells_csv, cells(50))
