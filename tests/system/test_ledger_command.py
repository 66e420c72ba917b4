"""`ledger verify` finds what is not as written; `ledger rebuild` makes a lost ledger anew."""

import json
import os
import shutil
import sqlite3

import pytest

COLUMNS = "image, size, mtime_ns, sha256, status, stem, model, model_sha256, settings, files, count, flags, focus"


def rows(out):
    with sqlite3.connect(out / "cellseg.sqlite") as connection:
        found = connection.execute(f"SELECT {COLUMNS} FROM images WHERE status = 'done' ORDER BY seq").fetchall()
    connection.close()
    return [(*row[:-1], f"{row[-1]:.6g}") for row in found]


def remove_ledger(out):
    for path in out.glob("cellseg.sqlite*"):
        path.unlink()


@pytest.fixture
def results(device, tmp_path, write_image):
    """A watched folder with a folder below, its results, and a file that is no image."""
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "a.png", seed=1)
    write_image(tmp_path / "sub" / "a.png", seed=2, mtime=1_700_000_000.123)
    write_image(tmp_path / "b,\n'ö.tif", seed=3)
    write_image(tmp_path / "empty.png", count=0)
    (tmp_path / "bad.png").write_text("no image")
    os.utime(tmp_path / "bad.png", (1_700_000_000, 1_700_000_000))
    assert device("watch", tmp_path, "--once", "--recursive", "--overlay").returncode == 1
    return tmp_path / "cellseg-results"


def test_what_was_just_written_is_verified(device, results):
    result = device("ledger", "verify", results)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "4 images, 12 files: all as written\n"
    assert result.stderr == ""
    assert device("summary", results).returncode == 0
    found = json.loads(device("ledger", "verify", results, "--json").stdout)
    assert found == {"images": 4, "files": 12, "problems": [], "unknown": 0, "strays": []}


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
        "a.labels.tif is not as it was written: remove it, then the next 'watch' makes it again from a.png",
        "sub-a.cells.csv is missing: the next 'watch' makes it again from sub/a.png",
        "counts.csv does not say what the ledger says: the next 'run' or 'watch' makes it anew",
        "failed.csv does not say what the ledger says: the next 'run' or 'watch' makes it anew",
    ]
    assert result.stdout == "4 images, 12 files: 4 problems; 1 result files belong to no image of the ledger\n"


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
    assert device("ledger", "verify", results).stdout == "4 images, 12 files: all as written\n"


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
    assert set(after) - set(before) == {str(results.parent / "new.png")}
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
    kept = "1 images in the ledger, 4 left out; the former counts.csv is kept as counts-1.csv\n"
    assert result.stdout == kept
    assert (results / "counts-1.csv").read_bytes() == table
    second = device("ledger", "rebuild", results)
    assert second.stdout == "1 images in the ledger, 4 left out; the former ledger is kept as cellseg-1.sqlite\n"
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


def test_rows_that_say_nothing_of_an_image_are_told_by_their_place(device, results):
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


def test_what_cannot_be_done_is_told_in_a_line(device, watching, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    watch = watching(tmp_path)
    watch.until_done("a.png")
    out = tmp_path / "cellseg-results"
    for arguments, words in (
        (["rebuild", out], "in use by another cellseg-device"),
        (["verify", tmp_path], "has no ledger: check the path, or make it anew with 'cellseg-device ledger rebuild'"),
        (["verify", tmp_path / "none"], "is no folder of results: check the path"),
        (["rebuild", tmp_path / "a.png"], "is no folder of results: check the path"),
    ):
        result = device("ledger", *arguments)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert words in line
    assert watch.stop() == 0
