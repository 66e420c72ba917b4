"""The Python API counts what the command line counts, and says what is wrong with an array."""

import csv
import subprocess
import sys

import cv2
import gates
import numpy as np
import pytest

import cellseg_device
from cellseg_device.errors import ImageError, InputError, ModelError
from cellseg_device.image.decode import decode

SAMPLES = ("dapi16", "empty", "hoechst8", "smear", "tissue")


@pytest.fixture(scope="module")
def segmenter():
    return cellseg_device.Segmenter()


@pytest.fixture(scope="module")
def counted(samples, environment, tmp_path_factory):
    """The folder in which ``cellseg-device run`` has written the results of all samples."""
    out = tmp_path_factory.mktemp("counted")
    images = [samples / f"{name}.png" for name in SAMPLES]
    command = [sys.executable, "-m", "cellseg_device", "run", *images, "--out", out, "--accelerator", "cpu"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    return out


@pytest.mark.parametrize("name", SAMPLES)
def test_labels_and_table_of_a_path_and_of_its_array_are_those_of_the_command(segmenter, counted, samples, name):
    path = samples / f"{name}.png"
    labels = cv2.imread(str(counted / f"{name}.labels.tif"), cv2.IMREAD_UNCHANGED)
    with open(counted / f"{name}.cells.csv", newline="") as file:
        columns, *rows = csv.reader(file)
    for image in (path, str(path), decode(path.read_bytes()).pixels):
        result = segmenter(image)
        assert result.labels.dtype == np.uint16
        assert np.array_equal(result.labels, labels)
        assert list(result.cells.columns) == columns
        assert result.counts.count == len(result.cells) == len(rows) == labels.max()
        areas = result.cells.columns["area_px"].tolist()
        assert areas == [int(row[columns.index("area_px")]) for row in rows]


def test_an_image_is_counted_as_counting_says(segmenter, samples):
    counting = cellseg_device.Counting(pixel_size_um=0.5, min_diameter=cellseg_device.Length(10, "um"))
    every, some = (segmenter(samples / "hoechst8.png", counting=given) for given in (None, counting))
    assert some.counts.count == some.labels.max() < every.counts.count
    assert some.counts.left_out == every.counts.count - some.counts.count
    assert some.cells.columns["equivalent_diameter_area_um"].min() >= 10


def test_an_array_may_be_of_any_layout_and_is_left_as_it_is(segmenter, draw_blobs):
    grey = draw_blobs()
    expected = segmenter(grey).labels
    assert expected.max() > 0
    wide = grey.astype(np.uint16) * 257
    read_only = grey.copy()
    read_only.flags.writeable = False
    colour = cv2.merge([grey] * 3)
    for same in (np.asfortranarray(grey), np.repeat(grey, 2, axis=1)[:, ::2], read_only, colour):
        before = same.copy()
        assert np.array_equal(segmenter(same).labels, expected)
        assert np.array_equal(same, before)
    assert np.array_equal(segmenter(wide.astype(">u2")).labels, segmenter(wide).labels)


def test_floats_are_mapped_onto_16_bits_as_those_of_a_file_are(segmenter, draw_blobs):
    grey = draw_blobs().astype(np.float32)
    scaled = (grey - grey.min()) / (grey.max() - grey.min())
    expected = segmenter(np.rint(scaled.astype(np.float64) * 65535).astype(np.uint16)).labels
    for floats in (scaled, scaled.astype(np.float64), scaled * 8 - 3):
        assert np.array_equal(segmenter(floats).labels, expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 6, 3), np.uint8), r"the array has the shape \(4, 5, 6, 3\): give \(height, width\)"),
        (np.zeros((20, 20, 4), np.uint8), r"the array has the shape \(20, 20, 4\): .* RGB"),
        (np.zeros((20, 20), np.int32), r"the array is of type int32: convert it to uint8, uint16 or float32"),
        (np.zeros((20, 20), bool), r"the array is of type bool: convert"),
        (np.zeros((0, 20), np.uint8), r"the array has a size of 20×0 pixels"),
        (np.zeros((1, 12_001), np.uint8), r"the array is 12001×1 pixels, over the limit"),
        (np.full((20, 20), np.nan), r"the array has 400 NaN or infinite pixel values"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_what_to_do(segmenter, array, message):
    with pytest.raises(ImageError, match=message):
        segmenter(array)


def test_a_file_that_is_no_image_is_named(segmenter, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    with pytest.raises(ImageError, match=r"notes\.png: is not a PNG, JPEG or TIFF image: convert it"):
        segmenter(path)
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        segmenter(tmp_path / "gone.png")


def test_settings_that_do_not_fit_the_image_are_named(segmenter):
    counting = cellseg_device.Counting(channel="blue")
    with pytest.raises(ImageError, match="the array is grey and has no blue channel"):
        segmenter(np.zeros((32, 32), np.uint8), counting=counting)


def test_a_model_is_refused_as_by_the_command(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        cellseg_device.Segmenter(tmp_path / "missing.tflite")


def test_an_unknown_accelerator_is_refused():
    with pytest.raises(InputError, match="there is no accelerator 'gpu': choose auto, cpu or edgetpu"):
        cellseg_device.Segmenter(accelerator="gpu")


def test_the_card_is_that_of_the_model(segmenter, model):
    assert segmenter.card == model.card


def test_a_warning_of_the_model_is_a_python_warning(monkeypatch):
    monkeypatch.setattr("cellseg_device.pipeline.selftest.check", lambda model: "counts may differ")
    with pytest.warns(UserWarning, match="counts may differ"):
        cellseg_device.Segmenter(accelerator="cpu")


def test_importing_the_package_loads_nothing_heavy(environment):
    program = """
import sys
import cellseg_device
heavy = {"numpy", "cv2", "click", "ai_edge_litert", "tflite_runtime"} & set(sys.modules)
assert not heavy, heavy
assert all(getattr(cellseg_device, name).__name__ == name for name in cellseg_device.__all__)
assert not hasattr(cellseg_device, "segmentor")
"""
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def test_a_gate_chooses_the_model_for_each_image(tmp_path, model_path, draw_blobs):
    gates.write_model(tmp_path / "chamber.tflite", model_path)
    segmenter = cellseg_device.Segmenter(gate=gates.write_gate(tmp_path / "tint.tflite"))
    dark = draw_blobs()
    plain = cellseg_device.Segmenter(gate="none")
    found, alone = segmenter(dark), plain(dark)
    assert np.array_equal(found.labels, alone.labels)
    assert (found.counts.class_name, alone.counts.class_name) == ("fluorescence", "")
    assert segmenter(255 - dark).counts.class_name == "chamber"
    empty = segmenter(gates.tinted(90, 120, 220))
    assert (empty.counts.count, empty.labels.any(), len(empty.cells)) == (0, False, 0)
    assert empty.counts.flags.startswith("no cells looked for")
