"""``summary`` as a user runs it: after a run, beside a watch, on a copy, and where something is missing."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from cellseg_device import concentration

FILES = {"summary.csv", "summary-counts.png", "summary-sizes.png"}
CHAMBER = ("--pixel-size-um", "0.5", "--depth-mm", "0.1", "--dilution", "2")


@pytest.fixture
def results(device, samples, tmp_path):
    """Results of the samples."""
    out = tmp_path / "out"
    assert device("run", *sorted(samples.glob("*.png")), "--out", out, *CHAMBER).returncode == 0
    return out


def state(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def has_ink(path) -> bool:
    picture = cv2.imread(str(path))
    return picture.shape == (700, 1200, 3) and 0.005 < (picture.min(axis=2) < 200).mean() < 0.5


def test_summary_of_the_samples(device, results, table):
    before = state(results)
    result = device("summary", results)
    assert (result.returncode, result.stderr) == (0, "")
    after = state(results)
    assert set(after) == set(before) | FILES
    assert {name: after[name] for name in before} == before
    rows = table(results / "counts.csv")
    (row,) = table(results / "summary.csv")
    counts = np.array([int(r["count_in_frame"]) for r in rows])
    cells = [c for r in rows for c in table(results / r["labels"].replace(".labels.tif", ".cells.csv"))]
    assert (row["group"], row["images"], row["cells"]) == ("(all)", "5", str(len(cells)))
    assert row["cells_in_frame"] == str(counts.sum())
    assert float(row["sd_per_image"]) == pytest.approx(counts.std(ddof=1), rel=1e-5)
    sizes = [float(cell["equivalent_diameter_area_px"]) for cell in cells]
    assert float(row["median_diameter_px"]) == pytest.approx(np.median(sizes), rel=1e-5)
    assert float(row["median_diameter_um"]) == pytest.approx(np.median(sizes) / 2, rel=1e-5)
    area = sum(int(r["counted_area_px"]) for r in rows)
    assert float(row["density_per_mm2"]) == pytest.approx(counts.sum() / area * 4e6, rel=1e-5)
    whole = concentration.concentration(int(counts.sum()), concentration.volume_ml(area, 0.5, 0.1), 2)
    for name in ("per_ml", "low_per_ml", "high_per_ml"):  # `empty` is one of the samples: its volume counts as well
        assert float(row[f"concentration_{name}"]) == pytest.approx(getattr(whole, name), rel=1e-5)
    assert result.stdout.splitlines()[1].split()[:4] == ["(all)", "5", row["flagged"], str(len(cells))]
    assert all(has_ink(results / name) for name in FILES if name.endswith(".png"))


def test_groups_in_json_and_csv(device, results, table, tmp_path):
    result = device("summary", results, "--group", "^(?P<kind>[a-z]+)(8|16)", "--json", "--to", tmp_path / "new" / "to")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [group["group"] for group in told["groups"]] == ["dapi", "hoechst", ""]
    assert [group["images"] for group in told["groups"]] == [1, 1, 3]
    assert sum(group["cells"] for group in told["groups"]) == told["total"]["cells"] > 0
    assert told["left_out"] == []
    assert {path.name for path in (tmp_path / "new" / "to").iterdir()} == FILES
    assert not FILES & {path.name for path in results.iterdir()}
    rows = table(tmp_path / "new" / "to" / "summary.csv")
    assert [row["group"] for row in rows] == ["dapi", "hoechst", "(no group)", "(all)"]
    for row, group in zip(rows, [*told["groups"], told["total"]], strict=True):
        assert set(row) == set(group)
        assert float(row["density_per_mm2"]) == pytest.approx(group["density_per_mm2"], rel=1e-5)


def test_tables_alone_are_enough(device, results, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in results.glob("*.csv"):
        shutil.copy(path, copy)
    assert device("summary", copy).stdout.replace(str(copy), "") == device("summary", results).stdout.replace(
        str(results), ""
    )
    assert {path.name for path in copy.iterdir()} == {path.name for path in results.glob("*.csv")} | FILES
    assert all((copy / name).read_bytes() == (results / name).read_bytes() for name in FILES)


def test_what_is_missing_is_told(device, results):
    (results / "smear.cells.csv").unlink()
    (results / "tissue.cells.csv").write_text("label\n")
    counts = results / "counts.csv"
    counts.write_text(counts.read_text() + "x.png,1")
    result = device("summary", results, "--json")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "counts.csv line 7 has 2 values instead of 25: left out",
        "smear.cells.csv is missing: the sizes of its cells are left out",
        "tissue.cells.csv is damaged: the sizes of its cells are left out",
    ]
    told = json.loads(result.stdout)
    assert told["left_out"] == result.stderr.splitlines()
    assert told["total"]["images"] == 5
    for path in results.glob("*.cells.csv"):
        path.unlink()
    result = device("summary", results)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "and 1 more (--json names all)"
    assert len(result.stderr.splitlines()) == 6
    assert "median" not in result.stdout


def test_no_images_yet(device, results):
    counts = results / "counts.csv"
    counts.write_text(counts.read_text().splitlines(keepends=True)[0])
    for arguments in ((), ("--group", ".")):
        result = device("summary", results, *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines()[1].split() == ["(all)", "0", "0", "0", "0"]
    assert has_ink(results / "summary-sizes.png")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "error: nowhere holds no counts.csv: name the folder that 'run', 'watch' or 'camera' wrote into"),
        (["out/counts.csv"], "error: out/counts.csv holds no counts.csv: name the folder that 'run', 'watch' or"),
        (["out", "--group", "("], "error: --group '(' is not a regular expression ("),
        (["out", "--to", "out/counts.csv"], "error: out/counts.csv is not a folder: choose another --to"),
        (["out", "--to", "out/counts.csv/x"], "error: out/counts.csv/x cannot be written to (Not a directory): name"),
        (["out", "--to", "/proc/x"], "error: /proc/x cannot be written to ("),
    ],
)
def test_what_cannot_work_is_explained(device, tmp_path, arguments, line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "counts.csv").write_text("image,count,count_in_frame,height_px,width_px,labels\n")
    result = device("summary", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("to", ["results", "captures"])
def test_beside_a_watch_its_charts_are_no_images(device, watching, write_image, table, tmp_path, to):
    captures = tmp_path / "captures"
    captures.mkdir()
    out = captures if to == "captures" else tmp_path / "out"
    write_image(captures / "a.png")
    watch = watching(captures, "--out", out, "--settle", "0.1", "--poll", "0.2")
    watch.until_done("a.png")
    assert device("summary", out, "--to", captures).returncode == 0
    write_image(captures / "b.png", seed=1)
    watch.until_done("a.png", "b.png")
    assert device("summary", out, "--to", captures).returncode == 0
    assert watch.stop() == 0
    assert [row["image"] for row in table(out / "counts.csv")] == ["a.png", "b.png"]
    assert {path.name for path in captures.iterdir()} > FILES
    assert "summary" not in watch.stdout + watch.stderr
    assert table(captures / "summary.csv")[0]["images"] == "2"


def test_while_a_watch_works_every_summary_is_whole(device, watching, write_image, table, tmp_path):
    captures, out = tmp_path / "captures", tmp_path / "out"
    captures.mkdir()
    for number in range(60):
        write_image(captures / f"{number:02}.png", seed=number)
    watch = watching(captures, "--out", out, "--settle", "0.1", "--poll", "0.2")
    watch.until_done("00.png")
    seen = []
    while not seen or seen[-1] < 60:
        result = device("summary", out, "--json")
        assert result.returncode == 0, result.stderr
        seen.append(json.loads(result.stdout)["total"]["images"])
    assert seen == sorted(seen)
    assert watch.stop() == 0


def test_help_is_quick_and_shows_examples(device, environment):
    result = device("summary", "--help")
    assert result.returncode == 0
    assert "cellseg-device summary /results --group" in result.stdout
    code = "import sys, cellseg_device.cli; print({'numpy', 'PIL', 'cv2'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"
