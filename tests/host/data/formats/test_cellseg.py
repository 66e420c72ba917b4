"""Results of the device become a dataset; what a person corrected comes before what the machine counted."""

import random
import shutil

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cellseg_device.errors import CellsegError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.results import correction_file
from cellseg_host.cli import main
from cellseg_host.data.dataset import load
from cellseg_host.data.formats import cellseg
from cellseg_host.data.formats.source import Options


@pytest.fixture(scope="module")
def made(device, write_image, tmp_path_factory):
    """Two images counted, one of them corrected and checked: a cell is gone."""
    folder = tmp_path_factory.mktemp("captures")
    for number, name in enumerate(("a.png", "b.png")):
        write_image(folder / name, seed=number)
    done = device("watch", folder, "--once", "--no-overlay", "--gate", "none", "--pixel-size-um", "0.5")
    assert done.returncode == 0, done.stderr
    labels = tifffile.imread(folder / "cellseg-results" / "a.labels.tif")
    (folder / "by-hand").mkdir()
    tifffile.imwrite(folder / "by-hand" / "a.tif", np.where(labels == 1, 0, labels).astype(np.uint16))
    done = device("recount", folder / "cellseg-results", folder / "by-hand" / "a.tif")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "by-hand")
    return folder


@pytest.fixture
def captures(made, tmp_path):
    shutil.copytree(made, tmp_path / "captures")
    return tmp_path / "captures"


def run(*arguments):
    return CliRunner().invoke(main, ["data", "import", "--format", "cellseg", *map(str, arguments)])


def machine(folder, stem):
    return tifffile.imread(folder / "cellseg-results" / f"{stem}.labels.tif")


@pytest.mark.parametrize("named", [".", "cellseg-results"])
def test_what_was_corrected_comes_first(captures, tmp_path, named):
    result = run(captures / named, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr == "note: b: labels are the machine's: nobody has checked them\n"
    dataset = load(tmp_path / "out")
    first, second = dataset.entries
    assert (first.id, first.cells) == ("a", machine(captures, "a").max() - 1)
    assert np.array_equal(dataset.labels(first) > 0, machine(captures, "a") > 1)
    assert np.array_equal(dataset.labels(second), machine(captures, "b"))
    assert np.array_equal(dataset.image(second).pixels, cv2.imread(str(captures / "b.png"), -1))


def test_originals_may_lie_elsewhere(captures, tmp_path):
    (tmp_path / "originals").mkdir()
    for name in ("a.png", "b.png"):
        shutil.move(captures / name, tmp_path / "originals")
    assert run(captures, tmp_path / "out").exit_code == 2
    assert not (tmp_path / "out").exists()
    result = run("--images", tmp_path / "originals", captures, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(load(tmp_path / "out").entries) == 2


def test_an_image_that_changed_since_or_lost_its_labels_is_left_out(captures, tmp_path, draw_blobs):
    cv2.imwrite(str(captures / "a.png"), draw_blobs(seed=7))
    result = run(captures, tmp_path / "out")
    assert result.exit_code == 1
    assert "left out: a: has changed since it was counted: count it again" in result.stderr
    (captures / "cellseg-results" / "b.labels.tif").unlink()
    result = run(captures, tmp_path / "second")
    assert result.exit_code == 2
    assert "b.labels.tif is missing: restore it" in result.stderr


def test_a_folder_that_is_no_result_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no counts\.csv: name the results folder"):
        cellseg.find(tmp_path)
    (tmp_path / "counts.csv").write_text("image,labels\na.png,../../etc/passwd\n")
    with pytest.raises(InputError, match="cannot be the name of labels"):
        cellseg.find(tmp_path)


def test_a_file_of_corrections_comes_back_as_it_was_written(tmp_path, draw_blobs, draw_labels):
    labels = draw_labels()
    images = {"a": draw_blobs(60, 80), "b c.d": np.dstack([draw_blobs(60, 80, seed=n) for n in range(3)])}
    correction_file.write(
        tmp_path / "corrections.zip",
        [correction_file.Correction(name, Image(pixels, 0.5), labels) for name, pixels in images.items()],
    )
    result = run(tmp_path / "corrections.zip", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    dataset = load(tmp_path / "out")
    assert {(e.id, e.set, e.pixel_size_um) for e in dataset.entries} == {(name, "corrections", 0.5) for name in images}
    for entry in dataset.entries:
        assert np.array_equal(dataset.image(entry).pixels, images[entry.id])
        assert np.array_equal(dataset.labels(entry), labels)


@pytest.mark.parametrize("name", ["counts.csv", "b.labels.tif", "corrections/corrections.csv", "corrections.zip"])
def test_of_mutated_files_each_is_read_or_refused_in_one_line(captures, tmp_path, fuzz, name, draw_blobs, draw_labels):
    out = captures / "cellseg-results"
    zipped = out / "corrections.zip"
    correction_file.write(zipped, [correction_file.Correction("a", Image(draw_blobs(60, 80)), draw_labels())])
    sound, rng = (out / name).read_bytes(), random.Random(0)
    others = [sound, zipped.read_bytes()]
    outcomes = []
    for _ in range(300):
        (out / name).write_bytes(fuzz.mutated(sound, others, rng))
        try:
            sources = cellseg.find(zipped if name == zipped.name else out, Options(images=captures))
            for source in sources:
                if source.images:
                    source.read_labels(source.read_image(source.images[0]).shape)
        except CellsegError as error:
            outcomes.append(error.message)
    assert outcomes
    assert [reason for reason in outcomes if not reason.isprintable()] == []
