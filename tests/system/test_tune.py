"""``tune`` as a user runs it: from corrected images to a model that counts them better, or none."""

import dataclasses
import json
import zipfile

import cv2
import numpy as np
import pytest

from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.results.correction_file import Correction, cut, write


@pytest.fixture
def spoilt(model, tmp_path):
    """The bundled model with thresholds that miss cells, in a file."""
    separation = dataclasses.replace(model.card.separation, foreground=0.995, min_area_px=120)
    path = tmp_path / "spoilt.tflite"
    card = dataclasses.replace(model.card, name="spoilt", separation=separation, known_answer=None)
    path.write_bytes(cards.attach(model.path.read_bytes(), card))
    return path


@pytest.fixture
def crops(samples, model):
    """Four corrected crops of a field."""
    image = decode((samples / "hoechst8.png").read_bytes())
    truth = cv2.imread(str(samples / "truth" / "hoechst8.png"), cv2.IMREAD_UNCHANGED)
    places = [(row, col, 160, 160) for row in (0, 200) for col in (0, 320)]
    return [
        cut(image, truth, place, model.card, name=f"crop {number}", source="hoechst8.png")
        for number, place in enumerate(places, 1)
    ]


@pytest.fixture
def corrections(tmp_path, crops, model):
    path = tmp_path / "corrections.zip"
    write(path, crops, card=model.card, model_sha256=model.sha256)
    return path


def test_a_model_is_made_that_counts_better(device, corrections, spoilt, samples, tmp_path):
    before = spoilt.read_bytes()
    result = device("tune", corrections, "--model", spoilt)
    assert result.returncode == 0, result.stderr
    made = tmp_path / "spoilt-tuned.tflite"
    assert f"{made} is written: count with --model {made}" in result.stdout
    assert "4 images" in result.stdout
    assert "settings were tried" in result.stderr
    assert spoilt.read_bytes() == before
    told = cards.of_file(made).provenance["tuning"]
    assert told["after"]["ap50"] > told["before"]["ap50"]
    counts = {}
    for name, model in (("before", spoilt), ("after", made)):
        counted = device("run", samples / "hoechst8.png", "--model", model, "--out", tmp_path / name, "--json")
        counts[name] = json.loads(counted.stdout)["cells"]
    assert abs(counts["after"] - 90) < abs(counts["before"] - 90)


def test_programs_read_it_as_json(device, corrections, spoilt, tmp_path):
    made = tmp_path / "mine.tflite"
    result = device("tune", corrections, "--model", spoilt, "--out", made, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["is_better"] is True
    assert (told["out"], told["images"]) == (str(made), 4)
    assert told["before"]["thresholds"]["foreground"] == 0.995
    card = cards.of_file(made)
    assert card.name == "mine"
    assert told["after"]["thresholds"]["foreground"] == card.separation.foreground
    assert told["after"]["thresholds"]["rise"] == card.separation.prominence


def test_a_folder_will_do_and_the_bundled_model_is_the_default(device, crops, tmp_path, samples):
    """It is not better than on its own labels, so nothing is written, and that is said."""
    assert device("run", *samples.glob("[dh]*8.png"), samples / "dapi16.png", "--out", tmp_path / "out").returncode == 0
    for name in ("images", "labels"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    for stem in ("hoechst8", "dapi16"):
        (tmp_path / "mine/images" / f"{stem}.png").write_bytes((samples / f"{stem}.png").read_bytes())
        labels = (tmp_path / "out" / f"{stem}.labels.tif").read_bytes()
        (tmp_path / "mine/labels" / f"{stem}.labels.tif").write_bytes(labels)
    result = device("tune", tmp_path / "mine", cwd=tmp_path)
    assert result.returncode == 1
    assert "AP@0.5       1.000 → 1.000" in result.stdout
    assert "that is not better, so nothing is written: go on with nuclei" in result.stdout
    assert not (tmp_path / "nuclei-tuned.tflite").exists()
    told = json.loads(device("tune", tmp_path / "mine", "--json", cwd=tmp_path).stdout)
    assert (told["is_better"], told["out"]) == (False, None)


def test_files_that_exist_stay(device, corrections, spoilt, tmp_path):
    made = tmp_path / "mine.tflite"
    made.write_bytes(b"mine")
    result = device("tune", corrections, "--model", spoilt, "--out", made)
    assert result.returncode == 2
    assert result.stderr == (f"error: {made} already exists: choose another --out, or overwrite it with --force\n")
    assert made.read_bytes() == b"mine"
    result = device("tune", corrections, "--model", spoilt, "--out", spoilt, "--force")
    assert "is the model to start from, which stays" in result.stderr
    assert device("tune", corrections, "--model", spoilt, "--out", made, "--force").returncode == 0
    assert cards.of_file(made).name == "mine"


def refusal(device, *arguments):
    """What is said of a command that cannot work, in one line."""
    result = device("tune", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return line


def test_corrections_that_will_not_do_are_refused_in_one_line(device, crops, model, tmp_path):
    path = tmp_path / "corrections.zip"
    write(path, crops[:1])
    assert "one corrected image cannot show what is better on another" in refusal(device, path)
    write(path, [dataclasses.replace(crop, labels=np.zeros_like(crop.labels)) for crop in crops])
    assert "the corrected labels are empty" in refusal(device, path)
    write(path, crops, card=dataclasses.replace(model.card, name="other"))
    assert "made by the model other, which is not bundled: name it with --model" in refusal(device, path)
    write(path, crops[:2])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["labels/crop 2.png"] = cv2.imencode(".png", np.zeros((9, 9), np.uint16))[1].tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "crop 2: the labels are 9×9 pixels, the image 160×160" in refusal(device, path)


def test_masks_are_refused_and_cells_in_several_pieces_noted(device, crops, spoilt, tmp_path):
    path = tmp_path / "corrections.zip"
    write(path, [dataclasses.replace(crop, labels=(crop.labels > 0).astype(np.uint16)) for crop in crops])
    assert "the labels are masks, with one number for all cells of an image" in refusal(device, path)
    merged = np.where(crops[0].labels == 2, 1, crops[0].labels).astype(np.uint16)
    write(path, [dataclasses.replace(crops[0], labels=merged), crops[1]])
    result = device("tune", path, "--model", spoilt)
    assert result.returncode in (0, 1)
    assert "in several pieces in the labels of crop 1: give each cell a number of its own" in result.stderr


def test_places_that_cannot_be_written_are_refused_before_the_work(device, corrections, tmp_path):
    assert "does not end in .tflite" in refusal(device, corrections, "--out", tmp_path / "mine.zip")
    (tmp_path / "folder.tflite").mkdir()
    assert "folder.tflite cannot be written: choose another" in refusal(
        device, corrections, "--out", tmp_path / "folder.tflite", "--force"
    )
    assert "is not a folder: make it" in refusal(device, corrections, "--out", tmp_path / "none" / "mine.tflite")
    assert "only says what an image shows" in refusal(device, corrections, "--model", "models/kind.tflite")


def test_images_of_one_level_end_well(device, spoilt, tmp_path):
    path = tmp_path / "corrections.zip"
    labels = np.zeros((40, 40), np.uint16)
    labels[10:20, 10:20] = 1
    write(path, [Correction(name, Image(np.full((40, 40), 9, np.uint8)), labels) for name in "ab"])
    result = device("tune", path, "--model", spoilt)
    assert result.returncode == 1
    assert "nothing is written" in result.stdout
