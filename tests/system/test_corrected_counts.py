"""Counts that a person corrected, in what sums results up and in files made of them."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import tifffile

from cellseg_device.results import corrections


@pytest.fixture(scope="module")
def made(device, samples, tmp_path_factory):
    """Two samples, counted, of one of which two cells were removed by hand."""
    folder = tmp_path_factory.mktemp("corrected")
    for name in ("hoechst8.png", "dapi16.png"):
        shutil.copy(samples / name, folder)
    out = folder / "cellseg-results"
    assert device("watch", folder, "--once", "--pixel-size-um", "0.5", "--depth-mm", "0.1").returncode == 0
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    tifffile.imwrite(folder / "hoechst8.labels.tif", np.where(labels < 3, 0, labels))
    assert device("recount", out, folder / "hoechst8.labels.tif", "--by", "Ada").returncode == 0
    (folder / "hoechst8.labels.tif").unlink()
    return folder


@pytest.fixture
def out(made, tmp_path):
    shutil.copytree(made, tmp_path / "captures")
    return tmp_path / "captures" / "cellseg-results"


def counts(out, table):
    return {row["image"]: int(row["count"]) for row in table(out / "counts.csv")}


def test_a_summary_has_the_corrected_counts_and_says_so(device_here, out, table, tmp_path):
    machine = counts(out, table)
    done = device_here("summary", out, "--cells", "--xlsx", "--group", "^(.)")
    assert done.returncode == 0, done.stderr
    assert "checked: 1 image counted as a person corrected them (--as-counted for the machine's counts)" in done.stdout
    groups = {row["group"]: row for row in table(out / "summary.csv")}
    assert int(groups["h"]["cells"]) == machine["hoechst8.png"] - 2
    assert int(groups["d"]["cells"]) == machine["dapi16.png"]
    assert [groups[name]["checked"] for name in ("h", "d", "(all)")] == ["1", "0", "1"]
    cells = [row for row in table(out / "summary-cells.csv") if row["image"] == "hoechst8.png"]
    assert [int(row["label"]) for row in cells] == [*range(3, machine["hoechst8.png"] + 1)]
    with zipfile.ZipFile(out / "summary.xlsx") as book:
        assert b"corrected_count_in_frame" in book.read("xl/worksheets/sheet2.xml")


def test_concentrations_follow_the_corrected_counts(device_here, out, table):
    row = corrections.read(out)["hoechst8.png"]
    numbers = {}
    for flags in ((), ("--as-counted",)):
        found = json.loads(device_here("summary", out, "--group", "^(.)", "--json", *flags).stdout)
        numbers[flags] = next(group for group in found["groups"] if group["group"] == "h")
    corrected, machine = numbers[()], numbers["--as-counted",]
    assert (corrected["cells_in_frame"], machine["cells_in_frame"]) == (row.corrected_in_frame, row.count_in_frame)
    share = row.corrected_in_frame / row.count_in_frame
    for name in ("concentration_per_ml", "density_per_mm2"):
        assert corrected[name] == pytest.approx(machine[name] * share)
    assert (corrected["checked"], machine["checked"]) == (1, 0)


def test_as_counted_is_as_if_nothing_had_been_corrected(device_here, out, table, tmp_path):
    done = device_here("summary", out, "--as-counted", "--out", tmp_path / "a")
    assert "checked" not in done.stdout
    shutil.rmtree(out / "corrections")
    assert device_here("summary", out, "--out", tmp_path / "b").stdout.replace("/b/", "/a/") == done.stdout
    for name in ("summary.csv", "summary-counts.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_correction_of_an_image_that_was_replaced_is_left_out_and_that_is_said(device, out, table, samples):
    machine = counts(out, table)
    shutil.copy(samples / "dapi16.png", out.parent / "hoechst8.png")
    assert device("watch", out.parent, "--once", "--pixel-size-um", "0.5", "--depth-mm", "0.1").returncode == 0
    done = device("summary", out, "--json")
    found = json.loads(done.stdout)
    assert found["notes"] == ["1 correction left out, since the image is another one now: correct it again"]
    assert found["total"]["cells"] == 2 * machine["dapi16.png"]
    assert found["total"]["checked"] == 0


def test_without_the_ledger_the_machines_counts_are_used_and_that_is_said(device_here, out, table):
    (out / "cellseg.sqlite").unlink()
    done = device_here("summary", out, "--json")
    found = json.loads(done.stdout)
    assert found["total"]["cells"] == sum(counts(out, table).values())
    assert found["notes"][0].startswith("corrected counts are left out, since they cannot be compared with the ledger")


def test_export_makes_files_of_the_corrected_labels_beside_them(device_here, out, tmp_path):
    from cellseg_device.results.formats import outline_files

    done = device_here("export", out, "--format", "rois,geojson,coco,outlines", "--json")
    assert done.returncode == 0, done.stderr
    found = {line["image"]: line["made"] for line in map(json.loads, done.stdout.splitlines())}
    formats = (".rois.zip", ".geojson", ".coco.json", ".outlines.txt")
    assert found["dapi16.png"] == [f"dapi16{suffix}" for suffix in formats]
    assert found["hoechst8.png"] == [f"{place}hoechst8{suffix}" for place in ("", "corrections/") for suffix in formats]
    corrected = tifffile.imread(out / "corrections" / "hoechst8.labels.tif")
    for suffix in formats[:2]:
        read = outline_files.read(out / "corrections" / f"hoechst8{suffix}", corrected.shape).labels
        assert np.array_equal(read, np.where(corrected, corrected - 2, 0))
    names = [
        feature["properties"] for feature in json.loads((out / "corrections/hoechst8.geojson").read_text())["features"]
    ]
    assert names[0]["name"] == "3"
    assert names[0]["measurements"]["area_px"] == np.count_nonzero(corrected == 3)
    assert device_here("ledger", "verify", out).returncode == 0
    again = device_here("export", out, "hoechst8.png", "--format", "geojson", "--json")
    assert json.loads(again.stdout)["kept"] == ["hoechst8.geojson", "corrections/hoechst8.geojson"]


def test_files_of_corrected_labels_follow_them_and_those_of_others_stay(device_here, out, tmp_path):
    device_here("export", out, "hoechst8.png", "--format", "geojson")
    labels = tifffile.imread(out / "corrections" / "hoechst8.labels.tif")
    tifffile.imwrite(tmp_path / "hoechst8.tif", np.where(labels == 3, 0, labels))
    assert device_here("recount", out, tmp_path / "hoechst8.tif").returncode == 0
    done = device_here("export", out, "hoechst8.png", "--format", "geojson,rois", "--json")
    assert "corrections/hoechst8.geojson" in json.loads(done.stdout)["made"]
    path = out / "corrections" / "hoechst8.geojson"
    path.write_text("mine")
    done = device_here("export", out, "hoechst8.png", "--format", "geojson", "--force")
    assert done.returncode == 1
    assert "corrections/hoechst8.geojson, which cellseg did not make, is in the way: move it away" in done.stderr
    assert path.read_text() == "mine"
