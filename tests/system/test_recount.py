"""`recount`: labels that were corrected in other programs count, and nothing of the machine's changes."""

import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.results import corrected_labels

SAMPLES = ("hoechst8.png", "dapi16.png")


def contents(out):
    """All files of a results folder but those of the corrections, by name."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.relative_to(out).parts[0] != "corrections"
    }


@pytest.fixture(scope="module")
def made(device, samples, tmp_path_factory):
    """Two samples, counted, one of them also in a folder, with ROIs and GeoJSON."""
    folder = tmp_path_factory.mktemp("recount")
    (folder / "plate").mkdir()
    for name in SAMPLES:
        shutil.copy(samples / name, folder)
    shutil.copy(samples / "hoechst8.png", folder / "plate" / "dapi16.png")
    done = device("watch", folder, "--once", "--recursive", "--rois", "--geojson")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "captures")
    return tmp_path / "captures"


@pytest.fixture
def out(folder):
    return folder / "cellseg-results"


def machine(out, stem="hoechst8"):
    return tifffile.imread(out / f"{stem}.labels.tif")


def corrected(out, stem="hoechst8"):
    """The machine's labels without the first two cells, and with a square that is new."""
    labels = machine(out, stem)
    new = np.where(labels <= 2, 0, labels)
    free = cv2.boxFilter((new == 0).astype(np.float32), -1, (15, 15), borderType=cv2.BORDER_CONSTANT) > 0.999
    row, col = np.argwhere(free)[0]
    new[row - 5 : row + 6, col - 5 : col + 6] = labels.max() + 1
    return new


def rows(out, table):
    return {row["image"]: row for row in table(out / "corrections" / "corrections.csv")}


def test_a_label_image_counts_and_nothing_else_changes(device, out, tmp_path, table):
    before, count = contents(out), int(machine(out).max())
    new = corrected(out)
    tifffile.imwrite(tmp_path / "hoechst8.labels.tif", new)
    done = device("recount", out, tmp_path / "hoechst8.labels.tif", "--by", "Ada")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"hoechst8.png  {count} → {count - 1}  1 new, 2 gone",
        f"1 image recounted, 0 refused; {out}",
    ]
    assert contents(out) == before
    assert np.array_equal(corrected_labels.current(out, "hoechst8"), new)
    row = rows(out, table)["hoechst8.png"]
    assert (row["count"], row["corrected_count"], row["state"], row["by"]) == (
        str(count),
        str(count - 1),
        "checked",
        "Ada",
    )
    assert len(table(out / "corrections" / "hoechst8.cells.csv")) == count - 1
    assert device("ledger", "verify", out).returncode == 0
    again = device("recount", out, tmp_path / "hoechst8.labels.tif")
    assert f"as before (compared with the correction before, {count - 1})" in again.stdout


@pytest.mark.parametrize("name", ["hoechst8.rois.zip", "hoechst8.geojson"])
def test_what_was_exported_comes_back_as_it_was(device, out, tmp_path, name):
    shutil.copy(out / name, tmp_path)
    done = device("recount", out, tmp_path / name, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["reason"], found["notes"]) == (0, None, [])
    assert found["corrected_count"] == found["count"] == int(machine(out).max())
    assert (found["added"], found["removed"], found["changed"]) == (0, 0, 0)
    assert np.array_equal(corrected_labels.current(out, "hoechst8"), machine(out))


@pytest.mark.parametrize("name", ["hoechst8_cp_masks.png", "hoechst8.png", "hoechst8.labels.png"])
def test_the_names_that_programs_give_are_known(device_here, out, tmp_path, name):
    assert cv2.imwrite(str(tmp_path / name), corrected(out))
    assert device_here("recount", out, tmp_path / name).returncode == 0


def test_what_fits_no_image_is_refused_and_the_others_are_done(device, out, folder, tmp_path):
    (folder / "dapi16.png").write_bytes((folder / "hoechst8.png").read_bytes())  # replaced since
    small = tmp_path / "small"
    small.mkdir()
    new = corrected(out)
    tifffile.imwrite(tmp_path / "hoechst8.tif", new)
    tifffile.imwrite(tmp_path / "nobody.tif", new)
    tifffile.imwrite(tmp_path / "dapi16.tif", machine(out, "dapi16"))
    tifffile.imwrite(small / "hoechst8.tif", new[:-1])
    (tmp_path / "hoechst8.geojson").write_text("{")
    given = [tmp_path / name for name in ("nobody.tif", "dapi16.tif", "hoechst8.tif", "hoechst8.geojson", "none.tif")]
    done = device("recount", out, *given, small / "hoechst8.tif")
    assert done.returncode == 1
    reasons = dict(line.removeprefix("error: ").split(": ", 1) for line in done.stderr.splitlines())
    assert reasons[str(tmp_path / "nobody.tif")].startswith(
        "is named after no image that was counted: give it the name"
    )
    assert reasons[str(tmp_path / "none.tif")].startswith("is named after no image")
    assert reasons[str(tmp_path / "dapi16.tif")] == "could be of dapi16.png, plate/dapi16.png: say which with --image"
    assert reasons[str(tmp_path / "hoechst8.geojson")].startswith("is of hoechst8.png, as ")
    assert "1 image recounted, 5 refused" in done.stdout
    wrong = device("recount", out, small / "hoechst8.tif")
    assert "save labels of the image's size" in wrong.stderr
    stale = device("recount", out, tmp_path / "dapi16.tif", "--image", "dapi16.png")
    assert stale.returncode == 1
    assert "has changed since it was counted" in stale.stderr


def test_an_image_can_be_named(device_here, out, tmp_path, table):
    stem = next(row["labels"] for row in table(out / "counts.csv") if row["image"] == "plate/dapi16.png")
    assert cv2.imwrite(str(tmp_path / "mine.png"), corrected(out, stem.removesuffix(".labels.tif")))
    done = device_here("recount", out, tmp_path / "mine.png", "--image", "plate/dapi16.png")
    assert done.returncode == 0, done.stderr
    assert [*rows(out, table)] == ["plate/dapi16.png"]
    wrong = device_here("recount", out, tmp_path / "mine.png", "--image", "nobody.png")
    assert "there is no image nobody.png in counts.csv" in wrong.stderr
    several = device_here("recount", out, tmp_path / "mine.png", tmp_path / "mine.png", "--image", "dapi16.png")
    assert several.returncode == 2


def test_without_the_original_it_says_where_to_look(device_here, out, folder, tmp_path):
    tifffile.imwrite(tmp_path / "hoechst8.tif", corrected(out))
    (folder / "elsewhere").mkdir()
    (folder / "hoechst8.png").rename(folder / "elsewhere" / "hoechst8.png")
    done = device_here("recount", out, tmp_path / "hoechst8.tif")
    assert "name its folder with --originals" in done.stderr
    assert not (out / "corrections").exists()
    done = device_here("recount", out, tmp_path / "hoechst8.tif", "--originals", folder / "elsewhere")
    assert done.returncode == 0, done.stderr


def test_selections_outside_of_the_image_or_of_no_area_are_refused(device_here, out, tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.roi", b"Iout" + bytes(100))
    (tmp_path / "hoechst8.zip").write_bytes(data.getvalue())
    done = device_here("recount", out, tmp_path / "hoechst8.zip")
    assert done.returncode == 1
    assert "a.roi has no corners" in done.stderr


def test_a_folder_without_results_is_refused(device_here, tmp_path):
    done = device_here("recount", tmp_path, tmp_path / "a.tif")
    assert done.returncode == 2
    assert "holds no results of cellseg-device" in done.stderr


def test_masks_and_cells_in_pieces_are_said(device_here, out, tmp_path):
    labels = machine(out)
    assert cv2.imwrite(str(tmp_path / "hoechst8.png"), (labels > 0).astype(np.uint8) * 255)
    done = device_here("recount", out, tmp_path / "hoechst8.png")
    assert done.returncode == 1
    assert "the labels are masks, with one number for all cells of an image" in done.stderr
    apart = np.where(labels == 3, labels.max(), labels)
    assert cv2.imwrite(str(tmp_path / "hoechst8.png"), apart)
    done = device_here("recount", out, tmp_path / "hoechst8.png")
    assert done.returncode == 0
    assert "1 cell is in several pieces in the labels of hoechst8.png" in done.stderr
