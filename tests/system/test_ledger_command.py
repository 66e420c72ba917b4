"""`ledger verify` finds what is not as written; `ledger rebuild` makes a lost ledger anew."""

import csv
import json
import os
import shutil
import sqlite3

import cv2
import pytest
import tifffile

from cellseg_device.cells.counts import Counts
from cellseg_device.system.csv_text import unescaped

COLUMNS = (
    "image, size, mtime_ns, sha256, status, stem, model, model_sha256, gate_sha256, settings, files, count, flags, "
)
COLUMNS += "class_name, class_probability, captured_at, captured_from, focus"


def rows(out):
    with sqlite3.connect(out / "cellseg.sqlite") as connection:
        found = connection.execute(f"SELECT {COLUMNS} FROM images WHERE status = 'done' ORDER BY seq").fetchall()
    connection.close()
    return [(*row[:-1], f"{row[-1]:.6g}") for row in found]


def remove_ledger(out):
    for path in out.glob("cellseg.sqlite*"):
        path.unlink()


@pytest.fixture(scope="module")
def watched(device, tmp_path_factory, write_image):
    """A watched folder with a folder below, its results, and a file that is no image; to be copied."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "sub").mkdir()
    write_image(folder / "a.png", seed=1)
    write_image(folder / "sub" / "a.png", seed=2, mtime=1_700_000_000.123)
    write_image(folder / "b,\n'ö.tif", seed=3)
    write_image(folder / "empty.png", count=0)
    (folder / "bad.png").write_text("no image")
    os.utime(folder / "bad.png", (1_700_000_000, 1_700_000_000))
    assert device("watch", folder, "--once", "--recursive", "--overlay").returncode == 1
    return folder


@pytest.fixture
def results(watched, tmp_path):
    """The results of the watched folder, in a copy of it."""
    shutil.copytree(watched, tmp_path, dirs_exist_ok=True)
    return tmp_path / "cellseg-results"


def test_what_was_just_written_is_verified(device, results):
    result = device("ledger", "verify", results)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "4 images, 12 files: all as written\n"
    assert result.stderr == ""
    assert device("summary", results).returncode == 0
    found = json.loads(device("ledger", "verify", results, "--json").stdout)
    assert found == {"images": 4, "files": 12, "problems": [], "unknown": 0, "strays": [], "behind": []}


def test_every_kind_of_change_is_found(device, results):
    labels = results / "a.labels.tif"
    data = bytearray(labels.read_bytes())
    data[len(data) // 2] ^= 1
    labels.write_bytes(data)
    (results / "sub-a.cells.csv").unlink()
    (results / "failed.csv").write_text("nothing\n")
    (results / "stray.labels.tif").touch()
    counts = results / "counts.csv"
    counts.write_text(counts.read_text() + "another,row\n")
    result = device("ledger", "verify", results)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "a.labels.tif is not as it was written: remove it, then the next 'run' or 'watch' makes it again from a.png",
        "sub-a.cells.csv is missing: the next 'run' or 'watch' makes it again from sub/a.png",
        "counts.csv differs from the ledger: the next 'run' or 'watch' writes it again",
        "failed.csv differs from the ledger: the next 'run' or 'watch' writes it again",
    ]
    assert result.stdout == "4 images, 12 files: 4 problems; 1 result file belongs to no image of the ledger\n"


def test_what_it_says_to_do_mends_it(device, results):
    (results / "a.labels.tif").unlink()
    (results / "sub-a.overlay.jpg").unlink()
    result = device("ledger", "verify", results)
    assert "'watch' makes it again from a.png" in result.stderr
    assert "sub-a.overlay.jpg is missing: 'cellseg-device export' makes it again" in result.stderr
    again = device("watch", results.parent, "--once", "--recursive", "--overlay")
    assert "1 done, 1 failed, 3 done before" in again.stdout
    export = device("export", results, "--format", "overlay", "--originals", results.parent)
    assert export.returncode == 0, export.stderr
    verified = device("ledger", "verify", results)
    assert (verified.stdout, verified.stderr) == ("4 images, 12 files: all as written\n", "")


def test_it_can_be_verified_beside_a_running_watch(device, watching, tmp_path, write_image):
    images = tmp_path / "images"
    images.mkdir()
    watch = watching(images, "--settle", "0", "--poll", "0.1")
    for number in range(25):
        write_image(images / f"{number % 5}.png", seed=number, mtime=1_700_000_000 + number)
        if number % 5 == 4:
            watch.until_done(f"{number % 5}.png")
            result = device("ledger", "verify", images / "cellseg-results")
            assert result.returncode == 0, result.stderr
    assert watch.stop() == 0


def test_a_lost_ledger_is_made_anew_as_it_was(device, results):
    before, tables = rows(results), (results / "counts.csv").read_bytes()
    remove_ledger(results)
    result = device("ledger", "rebuild", results)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "4 images in the ledger, 0 left out\n"
    assert rows(results) == before
    assert (results / "counts.csv").read_bytes() == tables
    assert device("ledger", "verify", results).returncode == 0
    again = device("watch", results.parent, "--once", "--recursive", "--overlay")
    assert "0 done, 1 failed, 4 done before" in again.stdout


def test_images_with_names_that_cannot_be_printed_are_not_counted_again(device, tmp_path, write_image):
    (tmp_path / "day").mkdir()
    for number, name in enumerate((b"day/\na.png", b"day/b.png", rb"c\xfe.png", b"d\xfe\r.png", b"plain.png")):
        path = write_image(tmp_path / "new.png", seed=number, mtime=1_700_000_000.123456)
        path.rename(tmp_path / os.fsdecode(name))
    (tmp_path / "day").rename(tmp_path / os.fsdecode(b"day\xff\t1"))
    assert device("watch", tmp_path, "--once", "--recursive").returncode == 0
    out = tmp_path / "cellseg-results"
    before = rows(out)
    remove_ledger(out)
    result = device("ledger", "rebuild", out)
    assert result.stdout == "5 images in the ledger, 0 left out\n"
    assert rows(out) == before
    assert "0 done, 0 failed, 5 done before" in device("watch", tmp_path, "--once", "--recursive").stdout


FORMULAS = {  # names of images that a spreadsheet would compute, and one that it would not, as they stand in a table
    "=1+1.png": "'=1+1.png",
    "'=2.png": "''=2.png",
    "''@3.png": "'''@3.png",
    "+a;-b.png": "'+a;'-b.png",
    "'c.png": "'c.png",
    "-d/=e.png": "'-d/=e.png",
}


@pytest.fixture
def formulas(device, tmp_path, write_image):
    (tmp_path / "-d").mkdir()
    for number, name in enumerate(FORMULAS):
        write_image(tmp_path / name, seed=number)
    assert device("watch", tmp_path, "--once", "--recursive").returncode == 0
    return tmp_path / "cellseg-results"


@pytest.mark.parametrize("version", ["this", "earlier", "both"])
def test_names_that_are_formulas_come_back_from_a_table_of_any_version(device, formulas, table, version):
    counts, before = formulas / "counts.csv", rows(formulas)
    assert {row["image"] for row in table(counts)} == {*FORMULAS.values()}
    assert device("ledger", "verify", formulas).returncode == 0
    remove_ledger(formulas)
    with open(counts, newline="", encoding="utf-8") as file:
        header, *cells = csv.reader(file)
    if version != "this":  # of both, the earlier one was set aside when the ledger was lost before
        with open(formulas / ("counts-1.csv" if version == "both" else counts), "w", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *([unescaped(c) for c in row] for row in cells)])
    result = device("ledger", "rebuild", formulas)
    assert result.stdout == f"{len(FORMULAS)} images in the ledger, 0 left out\n"
    assert rows(formulas) == before
    again = device("watch", formulas.parent, "--once", "--recursive")
    assert f"0 done, 0 failed, {len(FORMULAS)} done before" in again.stdout
    assert {row["image"] for row in table(counts)} == {*FORMULAS.values()}


def test_a_ledger_lost_unnoticed_is_made_anew_from_the_table_kept_aside(device, results, write_image):
    before = {row[0]: row for row in rows(results)}
    remove_ledger(results)
    write_image(results.parent / "new.png", seed=9)
    late = device("run", results.parent / "new.png", "--out", results)
    assert "counts.csv is kept as counts-1.csv" in late.stderr
    result = device("ledger", "rebuild", results, "--json")
    assert json.loads(result.stdout) == {
        "images": 5,
        "left_out": [],
        "aside": "cellseg-1.sqlite",
        "counts_aside": None,
    }
    after = {row[0]: row for row in rows(results)}
    assert {image: after[image] for image in before} == before
    assert set(after) - set(before) == {"new.png"}
    assert device("ledger", "verify", results).returncode == 0


def test_a_damaged_ledger_is_kept_aside(device, results):
    before = rows(results)
    (results / "cellseg.sqlite").write_bytes(b"damaged" * 1000)
    refused = device("ledger", "verify", results)
    assert refused.returncode == 2
    assert "is damaged" in refused.stderr or "is another program's" in refused.stderr
    result = device("ledger", "rebuild", results)
    assert result.stdout == "4 images in the ledger, 0 left out; the former ledger is kept as cellseg-1.sqlite\n"
    assert rows(results) == before
    assert (results / "cellseg-1.sqlite").read_bytes() == b"damaged" * 1000


def test_what_the_files_do_not_bear_out_is_left_out_and_counted_again(device, results):
    remove_ledger(results)
    (results / "a.labels.tif").unlink()
    cells = results / "sub-a.cells.csv"
    cells.write_text(cells.read_text() + "1\n")
    shutil.copyfile(results / "empty.labels.tif", results / "b,\n'ö.labels.tif".replace("\n", r"\n"))
    counts = results / "counts.csv"
    counts.write_text(counts.read_text() + "empty2.png," + counts.read_text().splitlines()[-1].split(",", 1)[1] + "\n")
    table = counts.read_bytes()
    result = device("ledger", "rebuild", results)
    assert result.returncode == 1, result.stderr
    lines = result.stderr.splitlines()
    assert "left out a.png: a.labels.tif is missing" in lines
    assert "left out sub/a.png: sub-a.cells.csv is not the table of these cells" in lines
    assert len(lines) == 4, lines
    kept = "1 image in the ledger, 4 left out; the former counts.csv is kept as counts-1.csv\n"
    assert result.stdout == kept
    assert (results / "counts-1.csv").read_bytes() == table
    second = device("ledger", "rebuild", results)
    assert second.stdout == "1 image in the ledger, 4 left out; the former ledger is kept as cellseg-1.sqlite\n"
    assert not (results / "counts-2.csv").exists()
    again = device("watch", results.parent, "--once", "--recursive", "--overlay")
    assert "3 done, 1 failed, 1 done before" in again.stdout
    assert device("ledger", "verify", results).returncode == 0


def test_a_table_saved_by_a_spreadsheet_is_read(device, results):
    before = rows(results)
    remove_ledger(results)
    counts = results / "counts.csv"
    counts.write_bytes(b"\xef\xbb\xbf" + counts.read_bytes().replace(b"\n", b"\r\n"))
    result = device("ledger", "rebuild", results)
    assert result.stdout == "4 images in the ledger, 0 left out\n"
    assert rows(results) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(",", ";"), "counts.csv has no column image: it was saved with other separators"),
        (lambda text: "", "counts.csv has no column image"),
        (lambda text: text + "x" * 200_000 + "\n", "counts.csv is damaged (field larger than field limit"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_and_kept(device, results, change, words):
    remove_ledger(results)
    counts = results / "counts.csv"
    counts.write_text(change(counts.read_text()))
    table = counts.read_bytes()
    result = device("ledger", "rebuild", results)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert counts.read_bytes() == table
    assert not list(results.glob("cellseg*.sqlite"))


def test_rows_that_say_nothing_of_an_image_are_named_by_their_place(device, results):
    remove_ledger(results)
    counts = results / "counts.csv"
    lines = counts.read_text().splitlines()
    number = lines[0].split(",").index("left_out")
    damaged = next(line for line in lines if line.startswith("a.png,")).split(",")
    damaged[number] = "9" * 30
    text = [line for line in lines if not line.startswith("a.png,")]
    counts.write_text("\n".join([*text, ",".join(damaged), ",1", ",2"]) + "\n")
    result = device("ledger", "rebuild", results)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "left out a.png: its row in the counts is damaged (left_out)",
        "left out counts.csv line 6: its row in the counts is damaged",
        "left out counts.csv line 7: its row in the counts is damaged",
    ]


def test_without_the_originals_times_are_to_the_second(device, results, tmp_path):
    before = rows(results)
    remove_ledger(results)
    (tmp_path / "elsewhere").mkdir()
    assert device("ledger", "rebuild", results, "--originals", tmp_path / "elsewhere").returncode == 0
    assert [row[2] // 10**9 for row in rows(results)] == [row[2] // 10**9 for row in before]


@pytest.fixture
def dated(device, tmp_path, write_image):
    """The results of an image that says when it was taken, and of one that does not."""
    path = write_image(tmp_path / "a.png", seed=1)
    tifffile.imwrite(tmp_path / "b.tif", cv2.imread(str(path), -1), metadata=None, datetime="2021:03:04 05:06:07")
    os.utime(tmp_path / "b.tif", (1_700_000_001.25,) * 2)
    assert device("watch", tmp_path, "--once").returncode == 0
    return tmp_path / "cellseg-results"


def times(row):
    return [row.get(name) for name in ("captured_at", "captured_from", "modified_at")]


def test_what_says_when_an_image_was_taken_comes_back(device, dated, table):
    before, counts = rows(dated), (dated / "counts.csv").read_bytes()
    first, second = table(dated / "counts.csv")
    assert times(first) == ["2023-11-14T22:13:20Z", "file", "2023-11-14T22:13:20Z"]
    assert times(second) == ["2021-03-04T05:06:07", "TIFF", "2023-11-14T22:13:21Z"]
    remove_ledger(dated)
    assert device("ledger", "rebuild", dated).returncode == 0
    assert rows(dated) == before
    assert (dated / "counts.csv").read_bytes() == counts
    assert "0 done, 0 failed, 2 done before" in device("watch", dated.parent, "--once").stdout


@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_table_of_a_version_without_the_source_of_the_time(device, dated, table, has_ledger):
    """There, captured_at is the time of the file."""
    if has_ledger:  # its version knew no gate
        assert "2 done" in device("watch", dated.parent, "--once", "--redo", "--gate", "none").stdout
    before = [row[:-3] for row in rows(dated)]
    counts = dated / "counts.csv"
    old = [{**row, "captured_at": row["modified_at"]} for row in table(counts)]
    names = [name for name in old[0] if name not in ("captured_from", "modified_at")]
    with open(counts, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(old)
    if has_ledger:  # of the version before
        with sqlite3.connect(dated / "cellseg.sqlite") as connection:
            for name in ["gate_sha256", *(name for name, stored in Counts.storage().items() if stored.since > 5)]:
                connection.execute(f"ALTER TABLE images DROP COLUMN {name}")
            connection.execute("PRAGMA user_version = 5")
        connection.close()
    else:
        remove_ledger(dated)
        assert device("ledger", "rebuild", dated).returncode == 0
    assert "0 done, 0 failed, 2 done before" in device("watch", dated.parent, "--once").stdout
    assert [row[:-3] for row in rows(dated)] == before
    made_up = [times(row) for row in table(counts)]
    assert made_up == [[f"2023-11-14T22:13:2{n}Z", "file", f"2023-11-14T22:13:2{n}Z"] for n in (0, 1)]
    device("run", dated.parent / "b.tif", "--out", dated, "--min-diameter", "1px")  # counted again, it has its own time
    assert times(table(counts)[-1])[:2] == ["2021-03-04T05:06:07", "TIFF"]


def test_originals_that_cannot_be_looked_at_do_not_stop_a_rebuild(device, results, tmp_path):
    (tmp_path / "sub").rename(tmp_path / "moved")
    (tmp_path / "sub").symlink_to(tmp_path / ("long" * 100))
    remove_ledger(results)
    result = device("ledger", "rebuild", results)
    assert (result.returncode, result.stdout) == (0, "4 images in the ledger, 0 left out\n"), result.stderr


def test_what_cannot_be_done_is_reported_in_a_line(device, watching, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    watch = watching(tmp_path)
    watch.until_done("a.png")
    out = tmp_path / "cellseg-results"
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (["rebuild", out], "in use by another cellseg-device"),
        (
            ["verify", tmp_path / "empty"],
            "has no ledger: check the path, or make one with 'cellseg-device ledger",
        ),
        (["verify", tmp_path / "none"], "is not a folder of results: check the path"),
        (["rebuild", tmp_path / "a.png"], "is not a folder of results: check the path"),
    ):
        result = device("ledger", *arguments)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert words in line
    assert watch.stop() == 0
