"""`corrections` packs what was checked, and `tune` learns from it."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.correcting.teaching import MOST_CROPS, crops
from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use
from cellseg_device.results import correction_file
from cellseg_device.results.formats.label_images import consecutive


def removed(out, stem, *cells):
    labels = tifffile.imread(out / f"{stem}.labels.tif")
    return np.where(np.isin(labels, cells), 0, labels).astype(np.uint16)


@pytest.fixture(scope="module")
def made(device, samples, tmp_path_factory):
    """Two small samples and a large field, two of them checked: of the large one, two cells are gone."""
    folder = tmp_path_factory.mktemp("corrections")
    shutil.copy(samples / "hoechst8.png", folder)
    shutil.copy(samples / "dapi16.png", folder / "unchecked.png")
    grey = cv2.imread(str(samples / "hoechst8.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "large.png"), np.tile(grey, (4, 3)))
    out = folder / "cellseg-results"
    assert device("watch", folder, "--once", "--pixel-size-um", "0.5").returncode == 0
    (folder / "by-hand").mkdir()
    tifffile.imwrite(folder / "by-hand" / "hoechst8.tif", removed(out, "hoechst8"))
    tifffile.imwrite(folder / "by-hand" / "large.tif", removed(out, "large", 1, 2))
    done = device("recount", out, *(folder / "by-hand").iterdir())
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "captures")
    return tmp_path / "captures"


def test_what_is_checked_is_packed(device_here, folder, tmp_path):
    out = folder / "cellseg-results"
    done = device_here("corrections", folder, "--out", tmp_path / "a.zip")
    assert (done.returncode, done.stderr) == (0, "")
    found = correction_file.read(tmp_path / "a.zip")
    assert found.card.name == "nuclei"
    whole, *parts = found.items
    assert (whole.name, whole.crop, whole.source, whole.pixel_size_um) == ("hoechst8", None, "hoechst8.png", 0.5)
    assert whole.corrected_at.endswith("Z")
    image = cv2.imread(str(folder / "hoechst8.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(found.image(whole).pixels, image)
    assert np.array_equal(found.labels(whole), removed(out, "hoechst8"))
    assert len(parts) >= 1
    corrected, machine = removed(out, "large", 1, 2), tifffile.imread(out / "large.labels.tif")
    for part in parts:
        row, column, height, width = part.crop
        assert max(height, width) <= 512
        assert part.name == f"large-r{row}-c{column}"
        place = np.s_[row : row + height, column : column + width]
        assert (machine[place] != corrected[place]).any()
        assert np.array_equal(found.labels(part), consecutive(corrected[place]))
    cells = sum(item.cells for item in found.items)
    assert done.stdout == f"{tmp_path / 'a.zip'}: {len(found.items)} crops of 2 images, {cells:,} cells\n"


def test_tune_takes_it(device, folder, tmp_path):
    assert device("corrections", folder, "--out", tmp_path / "a.zip").returncode == 0
    done = device("tune", tmp_path / "a.zip", "--out", tmp_path / "mine.tflite", "--json")
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["images"] == len(correction_file.read(tmp_path / "a.zip").items)


def test_an_existing_file_stays_unless_it_may_go(device_here, folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"mine")
    done = device_here("corrections", folder, "--out", tmp_path / "a.zip")
    assert done.returncode == 2
    assert "already exists: choose another --out, or overwrite it with --force" in done.stderr
    assert (tmp_path / "a.zip").read_bytes() == b"mine"
    assert device_here("corrections", folder, "--out", tmp_path / "a.zip", "--force").returncode == 0


def test_an_image_that_is_gone_is_left_out_with_the_reason(device_here, folder, tmp_path):
    (folder / "large.png").unlink()
    done = device_here("corrections", folder, "--out", tmp_path / "a.zip", "--json")
    assert done.returncode == 1
    about = json.loads(done.stdout)
    assert [item["name"] for item in about["items"]] == ["hoechst8"]
    assert "name its folder with --originals" in about["left_out"]["large.png"]
    (folder / "hoechst8.png").unlink()
    done = device_here("corrections", folder, "--out", tmp_path / "b.zip")
    assert done.returncode == 2
    assert "no checked image can be had, so nothing is written" in done.stderr
    assert not (tmp_path / "b.zip").exists()


def test_nothing_checked_and_another_model_are_said(device_here, folder, tmp_path):
    done = device_here("corrections", folder, "--model", "chamber", "--out", tmp_path / "a.zip")
    assert "no checked image was counted by chamber: choose one of nuclei" in done.stderr
    shutil.rmtree(folder / "cellseg-results" / "corrections")
    done = device_here("corrections", folder, "--out", tmp_path / "a.zip")
    assert "is checked: correct some on the page of 'serve', or with 'recount'" in done.stderr
    assert device_here("corrections", tmp_path).returncode == 2


def test_parts_are_those_that_differ_most():
    machine = np.zeros((1200, 2400), np.uint16)
    corrected = machine.copy()
    corrected[10:20, 10:20] = 1
    corrected[1100:1190, 2300:2390] = 2
    found = crops(machine, corrected)
    assert [(row, column) for row, column, _, _ in found] == [(0, 0), (800, 1920)]
    assert all(max(height, width) <= 512 for _, _, height, width in found)
    assert crops(corrected, corrected) == [found[0]]
    assert len(crops(machine, np.ones_like(machine))) == MOST_CROPS


def test_what_a_model_made_from_another_counted_teaches_that_one(device, folder, tmp_path, model_path):
    out = folder / "cellseg-results"
    data = model_path.read_bytes()
    provenance = {"adapted": {"start": {"name": "nuclei"}}}
    card = dataclasses.replace(cards.read_from(data), name="mine", provenance=provenance)
    in_use.use(out, cards.attach(data, card))
    (folder / "new.png").write_bytes(
        cv2.imencode(".png", cv2.imread(str(folder / "hoechst8.png"), 0)[::-1])[1].tobytes()
    )
    assert device("watch", folder, "--once", "--pixel-size-um", "0.5").returncode == 0
    (tmp_path / "new.tif").write_bytes((out / "new.labels.tif").read_bytes())
    assert device("recount", out, tmp_path / "new.tif").returncode == 0
    done = device("corrections", folder, "--out", tmp_path / "a.zip")
    assert (done.returncode, done.stderr) == (0, "")
    found = correction_file.read(tmp_path / "a.zip")
    assert found.card.name == "nuclei"
    assert {item.source for item in found.items} == {"hoechst8.png", "large.png", "new.png"}
