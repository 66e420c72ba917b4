"""``summary`` as a user runs it: after a run, beside a watch, on a copy, and where something is missing."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_device.cells import concentration
from cellseg_device.results.tables import COUNTS_COLUMNS

FILES = {"summary.csv", "summary-counts.png", "summary-sizes.png"}
LONG = {"summary-cells.csv", "summary.xlsx"}
CHAMBER = ("--pixel-size-um", "0.5", "--depth-mm", "0.1", "--dilution", "2")


@pytest.fixture(scope="module")
def of_samples(device, samples, tmp_path_factory):
    """Results of the samples; to be copied."""
    out = tmp_path_factory.mktemp("samples") / "out"
    assert device("run", *sorted(samples.glob("*.png")), "--out", out, *CHAMBER).returncode == 0
    return out


@pytest.fixture
def results(of_samples, tmp_path):
    """A copy of the results of the samples."""
    return shutil.copytree(of_samples, tmp_path / "out")


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
    assert float(row["sd_in_frame_per_image"]) == pytest.approx(counts.std(ddof=1), rel=1e-5)
    sizes = [float(cell["equivalent_diameter_area_px"]) for cell in cells]
    assert float(row["median_diameter_px"]) == pytest.approx(np.median(sizes), rel=1e-5)
    assert float(row["median_diameter_um"]) == pytest.approx(np.median(sizes) / 2, rel=1e-5)
    area = sum(int(r["counted_area_px"]) for r in rows)
    assert float(row["density_per_mm2"]) == pytest.approx(counts.sum() / area * 4e6, rel=1e-5)
    whole = concentration.concentration(int(counts.sum()), concentration.volume_ml(area, 0.5, 0.1), 2)
    for name in ("per_ml", "low_per_ml", "high_per_ml"):  # `empty` is one of the samples: its volume counts as well
        assert float(row[f"concentration_{name}"]) == pytest.approx(getattr(whole, name), rel=1e-5)
    assert result.stdout.splitlines()[2].split()[:4] == ["(all)", "5", row["flagged"], str(len(cells))]
    assert all(has_ink(results / name) for name in FILES if name.endswith(".png"))


def test_groups_in_json_and_csv(device, results, table, tmp_path):
    result = device(
        "summary", results, "--group", "^(?P<kind>[a-z]+)(8|16)", "--json", "--out", tmp_path / "new" / "to"
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert [group["group"] for group in document["groups"]] == ["dapi", "hoechst", ""]
    assert [group["images"] for group in document["groups"]] == [1, 1, 3]
    assert sum(group["cells"] for group in document["groups"]) == document["total"]["cells"] > 0
    assert document["left_out"] == []
    assert {path.name for path in (tmp_path / "new" / "to").iterdir()} == FILES
    assert not FILES & {path.name for path in results.iterdir()}
    rows = table(tmp_path / "new" / "to" / "summary.csv")
    assert [row["group"] for row in rows] == ["dapi", "hoechst", "(no group)", "(all)"]
    for row, group in zip(rows, [*document["groups"], document["total"]], strict=True):
        assert set(row) == set(group)
        assert float(row["density_per_mm2"]) == pytest.approx(group["density_per_mm2"], rel=1e-5)


def test_images_in_a_folder_are_grouped_by_their_names(device_here, tmp_path, write_image):
    """As in docs/counting.md: the names in the table begin with the folder that was given to `run`."""
    (tmp_path / "captures").mkdir()
    names = ("A1_1.png", "A1_2.png", "B12_1.png")
    for number, name in enumerate(names):
        write_image(tmp_path / "captures" / name, seed=number)
    assert device_here("run", *(f"captures/{name}" for name in names), cwd=tmp_path).returncode == 0
    result = device_here("summary", "cellseg-results", "--group", "^([A-H][0-9]+)_", "--json", cwd=tmp_path)
    groups = json.loads(result.stdout)["groups"]
    assert [(group["group"], group["images"]) for group in groups] == [("A1", 2), ("B12", 1)]


def test_the_name_of_a_group_is_no_formula(device, table, tmp_path, write_image):
    for number, name in enumerate(("=1_a.png", "=1_b.png", "-2_a.png")):
        write_image(tmp_path / name, seed=number)
    assert device("watch", tmp_path, "--once").returncode == 0
    result = device("summary", tmp_path / "cellseg-results", "--group", "^(.*)_", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert {group["group"]: group["images"] for group in document["groups"]} == {"-2": 1, "=1": 2}
    assert document["total"]["median_diameter_px"] > 0  # the cells were found
    rows = table(tmp_path / "cellseg-results" / "summary.csv")
    assert {row["group"] for row in rows} == {"'-2", "'=1", "(all)"}


def test_names_from_a_foreign_table_are_printed_without_control_characters(device, results):
    counts = results / "counts.csv"
    text = counts.read_text()
    for name, foreign in (
        ("dapi16.png", "\x1b]0;x\x07\x9b2J_1.png"),
        ("smear.png", "a\x85b_1.png"),
        ("tissue.labels", "\x1b[2J.labels"),
    ):
        text = text.replace(name, foreign)
    counts.write_text(text, encoding="utf-8")
    result = device("summary", results, "--group", "^([^_]*)_", "--cells")
    assert result.returncode == 1
    assert result.stderr == "\\x1b[2J.cells.csv is missing: the sizes of its cells are left out\n"
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[2:6]] == [
        "\\x1b]0;x\\x07\\x9b2J", "a\\x85b", "(no group)", "(all)",
    ]  # fmt: skip
    for text in (result.stdout, (results / "summary.csv").read_text("utf-8-sig")):
        assert all(character.isprintable() or character == "\n" for character in text)


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


def test_what_is_missing_is_reported(device, results):
    (results / "smear.cells.csv").unlink()
    (results / "tissue.cells.csv").write_text("label\n")
    counts = results / "counts.csv"
    counts.write_text(counts.read_text() + "x.png,1")
    result = device("summary", results, "--json")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"counts.csv line 7 has 2 values instead of {len(COUNTS_COLUMNS)}: left out",
        "smear.cells.csv is missing: the sizes of its cells are left out",
        "tissue.cells.csv is damaged: the sizes of its cells are left out",
    ]
    document = json.loads(result.stdout)
    assert document["left_out"] == result.stderr.splitlines()
    assert document["total"]["images"] == 5
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
    for arguments in ((), ("--group", "."), ("--cells", "--xlsx"), ("--cells", "--xlsx", "--group", ".")):
        result = device("summary", results, *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines()[2].split() == ["(all)", "0", "0", "0", "0"]
        cells = results / "summary-cells.csv"  # which the next one replaces
        assert cells.exists() == ("--cells" in arguments)
    assert cells.read_text(encoding="utf-8-sig").startswith("image,label,centroid_row_px,")
    assert device("summary", results).returncode == 0
    assert not cells.exists()
    assert has_ink(results / "summary-sizes.png")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "error: nowhere holds no counts.csv: name the folder that 'run', 'watch' or 'camera' wrote into"),
        (["out/counts.csv"], "error: out/counts.csv holds no counts.csv: name the folder that 'run', 'watch' or"),
        (["out", "--group", "("], "error: --group '(' is not a regular expression ("),
        (["out", "--out", "out/counts.csv"], "error: out/counts.csv is not a folder: choose another --out"),
        (
            ["out", "--out", "out/counts.csv/x"],
            "error: out/counts.csv/x cannot be written to (Not a directory): choose",
        ),
        (["out", "--out", "/proc/x"], "error: /proc/x cannot be written to ("),
    ],
)
def test_what_cannot_work_is_explained(device_here, tmp_path, arguments, line):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "counts.csv").write_text("image,count,count_in_frame,height_px,width_px,labels\n")
    result = device_here("summary", *arguments, cwd=tmp_path)
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
    assert device("summary", out, "--out", captures).returncode == 0
    write_image(captures / "b.png", seed=1)
    watch.until_done("a.png", "b.png")
    assert device("summary", out, "--out", captures).returncode == 0
    assert watch.stop() == 0
    assert [row["image"] for row in table(out / "counts.csv")] == ["a.png", "b.png"]
    assert {path.name for path in captures.iterdir()} > FILES
    assert "summary" not in watch.stdout + watch.stderr
    assert table(captures / "summary.csv")[0]["images"] == "2"


def test_all_cells_and_a_workbook(device, results, table):
    result = device("summary", results, "--cells", "--xlsx", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert {Path(path).name for path in json.loads(result.stdout)["files"]} == FILES | LONG
    cells = table(results / "summary-cells.csv")
    for row in table(results / "counts.csv"):
        own = [cell["label"] for cell in cells if cell["image"] == row["image"]]
        assert own == [str(label) for label in range(1, int(row["count"]) + 1)]
    with zipfile.ZipFile(results / "summary.xlsx") as book:
        rows = book.read("xl/worksheets/sheet3.xml").count(b"<row ")
    assert rows == len(cells) + 1
    assert device("ledger", "verify", results).stdout.endswith("all as written\n")


@pytest.mark.parametrize("name", sorted(FILES | LONG))
def test_a_file_of_somebody_else_with_the_name_of_a_summary_is_refused(device, results, name):
    (results / name).write_bytes(b"of somebody")
    options = () if name in FILES else ("--cells", "--xlsx")
    result = device("summary", results, *options)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {results / name} is not of a summary: move it away, or choose another folder with --out\n"
    )
    assert (results / name).read_bytes() == b"of somebody"
    assert [path.name for path in results.iterdir() if path.name in FILES | LONG] == [name]
    if options:  # what is not asked for is in nobody's way
        assert device("summary", results).returncode == 0
        assert (results / name).read_bytes() == b"of somebody"
    (results / name).unlink()
    (results / name).symlink_to("nowhere")
    assert device("summary", results, *options).returncode == 2
    assert (results / name).is_symlink()
    (results / name).unlink()
    for _ in range(2):  # its own are replaced
        assert device("summary", results, *options).returncode == 0


def test_an_image_that_was_renamed_is_pooled_once(device, tmp_path, write_image):
    """As in a folder of wells, where somebody gives the fields two digits after the first count."""
    for number in (1, 2):
        write_image(tmp_path / f"A01_f{number}.png", seed=number)
    assert device("watch", tmp_path, "--once").returncode == 0
    (tmp_path / "A01_f2.png").rename(tmp_path / "A01_f02.png")
    assert device("watch", tmp_path, "--once").returncode == 0
    result = device("summary", tmp_path / "cellseg-results", "--group", "^([A-H][0-9]+)_", "--json")
    (group,) = json.loads(result.stdout)["groups"]
    assert (group["group"], group["images"]) == ("A01", 2)


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
