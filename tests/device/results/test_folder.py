"""The output folder and its ledger: what is on the disk after every possible interruption."""

import csv
import dataclasses
import errno
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.cells.counts import Counts
from cellseg_device.errors import TRIED_AGAIN, ImageError, OutputError
from cellseg_device.results import image_files, ledger, schema, tables
from cellseg_device.results.entry import DONE, FAILED, Entry
from cellseg_device.results.folder import Output
from cellseg_device.results.ledger import BEHIND, Ledger
from cellseg_device.results.table_files import TableFiles
from cellseg_device.system import csv_text, files

NOW = "2025-01-01T00:00:00Z"
COUNTS = Counts(
    count=12,
    count_in_frame=10,
    left_out=3,
    height_px=100,
    width_px=200,
    pixel_size_um=0.5,
    counted_area_px=15000,
    covered_fraction=0.25,
    median_diameter_px=17.123456789,
    median_diameter_um=8.56172839,
    density_per_mm2=2000.0,
    concentration_per_ml=20000.0,
    concentration_low_per_ml=9590.5,
    concentration_high_per_ml=36781.25,
    focus=0.333333333,
    edge_sharpness=0.6,
    saturated_fraction=0.0,
    uneven_light=0.125,
    at_border_fraction=0.25,
    diameter_ratio=1.00726,
    flags="out of focus; crowded",
    surround="dark, around circle:50,100,45",
    captured_at="",
    captured_from="",
    class_name="chamber",
    class_probability=0.875,
)


def done(image="a.png", stem="a", mtime_ns=1_700_000_000_123_456_789, **other):
    entry = Entry(image, 5, mtime_ns, "00", DONE, None, stem, "nuclei", "ff", NOW, 9.5, "{}", "{}", COUNTS)
    return dataclasses.replace(entry, **other)


def put_results(folder, *stems):
    for stem in stems:
        for suffix in image_files.ALWAYS:
            (folder / (stem + suffix)).touch()


def failed(image="bad.png", reason="is empty"):
    return Entry(image, 0, 1, None, FAILED, reason, None, "nuclei", "ff", NOW, 1.0)


@pytest.fixture
def out(tmp_path):
    warnings = []
    out = Output(tmp_path / "out", warnings.append)
    out.open()
    yield out
    out.close()
    assert warnings == []


def rows(folder, name="counts.csv"):
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def names(folder, name="counts.csv"):
    return [row["image"] for row in rows(folder, name)]


def reopen(out):
    out.close()
    out.open()


def test_a_row_says_what_is_known_and_nothing_else(out):
    out.record(done())
    empty = ("pixel_size_um", "median_diameter_um", "density_per_mm2")
    unknown = dataclasses.replace(COUNTS, **dict.fromkeys(empty))
    out.record(done("b.png", "b", counts=unknown))
    first, second = rows(out.folder)
    assert first == {
        "image": "a.png",
        "count": "12",
        "count_in_frame": "10",
        "flags": "out of focus; crowded",
        "concentration_per_ml": "20000",
        "concentration_low_per_ml": "9590.5",
        "concentration_high_per_ml": "36781.2",
        "density_per_mm2": "2000",
        "median_diameter_px": "17.1235",
        "median_diameter_um": "8.56173",
        "covered_fraction": "0.25",
        "left_out": "3",
        "height_px": "100",
        "width_px": "200",
        "pixel_size_um": "0.5",
        "counted_area_px": "15000",
        "surround": "dark, around circle:50,100,45",
        "focus": "0.333333",
        "edge_sharpness": "0.6",
        "saturated_fraction": "0",
        "uneven_light": "0.125",
        "at_border_fraction": "0.25",
        "diameter_ratio": "1.00726",
        "captured_at": "2023-11-14T22:13:20Z",
        "captured_from": "file",
        "class": "chamber",
        "class_probability": "0.875",
        "modified_at": "2023-11-14T22:13:20Z",
        "model": "nuclei",
        "labels": "a.labels.tif",
    }
    assert [second[name] for name in ("pixel_size_um", "median_diameter_um", "density_per_mm2")] == [
        "",
        "",
        "",
    ]
    assert out.ledger.get("a.png") == done()


def test_rows_stand_in_the_order_of_processing(out):
    for name in ("c", "a", "b"):
        out.record(done(f"{name}.png", name))
    out.record(done("a.png", "a", size=6))
    out.refresh_tables(now=True)
    assert names(out.folder) == ["c.png", "b.png", "a.png"]


def test_failures_have_a_table_of_their_own_while_there_are_any(out):
    assert not (out.folder / "failed.csv").exists()
    out.record(failed(reason='is "odd",\nvery'))
    out.record(failed("worse.png"))
    out.refresh_tables(now=True)
    assert rows(out.folder, "failed.csv")[0]["reason"] == 'is "odd",\nvery'
    assert names(out.folder, "failed.csv") == ["bad.png", "worse.png"]
    out.record(done("bad.png", "bad"))
    out.record(done("worse.png", "worse"))
    out.refresh_tables(now=True)
    assert names(out.folder) == ["bad.png", "worse.png"]
    assert not (out.folder / "failed.csv").exists()


def test_an_image_that_fails_after_it_was_done_loses_its_files(out):
    out.record(done())
    for suffix in (".labels.tif", ".cells.csv", ".overlay.jpg"):
        (out.folder / f"a{suffix}").touch()
    out.record(failed("a.png"))
    out.refresh_tables(now=True)
    assert names(out.folder) == []
    assert not list(out.folder.glob("a.*"))


def check_stems(out, expected):
    for image, stem in expected:
        assert out.stem_for(image) == stem
        out.record(done(image, stem))
        assert out.stem_for(image) == stem


def test_stems_that_collide_take_the_full_name_and_then_a_number(out):
    check_stems(out, [("a.png", "a"), ("a.tif", "a.tif"), ("A.jpg", "A.jpg"), ("n", "n"), ("N", "N-2")])
    with pytest.raises(ImageError, match="rename it"):
        out.stem_for("n" * 250 + ".png")


def test_stems_of_images_on_several_disks_take_as_many_folders_as_they_need(out):
    images = [f"/media/{card}/DCIM/1.png" for card in ("one", "two", "three")]
    check_stems(out, zip(images, ("1", "DCIM-1", "three-DCIM-1"), strict=True))


def test_stems_of_images_in_folders_begin_with_the_folder(tmp_path):
    out = Output(tmp_path / "out", print, watched=tmp_path)
    out.open()
    check_stems(
        out,
        [
            ("sub/a.png", "sub-a"),
            ("other/a.png", "other-a"),
            ("sub-a.png", "sub-a.png"),
            ("a.png", "a"),
            ("sub/a.tif", "sub-a.tif"),
            (f"{'x' * 200}/{'y' * 200}/b.png", "b"),
        ],
    )
    out.close()


def test_stems_of_images_named_one_by_one_have_the_folder_only_where_they_need_it(out):
    check_stems(out, [("day/a.png", "a"), ("night/a.png", "night-a"), ("a.png", "a.png"), ("/x/b.png", "b")])
    check_stems(out, [("day/a.tif", "day-a"), ("night/a.tif", "night-a.tif"), ("a.tif", "a.tif")])


def test_room_is_kept_free(tmp_path):
    Output(tmp_path, print).check_room()
    Output(tmp_path, print, keep_free_bytes=1).check_room()
    with pytest.raises(OSError, match=r"less than 1.15e\+09 GB is free") as caught:
        Output(tmp_path, print, keep_free_bytes=2**60).check_room()
    assert caught.value.errno == errno.ENOSPC


def test_tables_are_made_anew_only_if_they_are_not_as_left(out, monkeypatch):
    out.record(done("a.png", "a"))
    out.close()
    made = []
    write = TableFiles._write
    monkeypatch.setattr(TableFiles, "_write", lambda *a: (made.append(a[1]), write(*a)))
    out.open()
    assert made == []
    out.close()
    path = out.folder / "counts.csv"
    whole, info = path.read_bytes(), path.stat()
    path.write_bytes(whole.replace(b"a.png", b"b.png"))
    out.open()
    assert made == ["counts.csv"]
    assert path.read_bytes() == whole
    out.close()
    path.write_bytes(whole.replace(b"a.png", b"b.png"))
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))
    out.open()
    assert path.read_bytes() == whole


def test_no_text_in_a_table_is_a_formula(out):
    out.record(done("=1+1.png", "=1+1", model="@model", counts=dataclasses.replace(COUNTS, flags="-a;+b")))
    out.record(failed("+bad.png", reason="-1 is wrong"))
    out.refresh_tables(now=True)
    (counted,), (bad,) = rows(out.folder), rows(out.folder, "failed.csv")
    shown = [counted[name] for name in ("image", "flags", "model", "labels")]
    assert shown == ["'=1+1.png", "'-a;'+b", "'@model", "'=1+1.labels.tif"]
    assert (bad["image"], bad["reason"]) == ("'+bad.png", "'-1 is wrong")
    with open(out.folder / "counts.csv", newline="") as file:
        (read,) = csv_text.Rows(file)
    assert read == counted | {"image": "=1+1.png", "flags": "-a;+b", "model": "@model", "labels": "=1+1.labels.tif"}


def test_a_table_that_an_earlier_version_left_is_written_again(out, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(tables, "COLUMNS", {name: columns[:-1] for name, columns in tables.COLUMNS.items()})
        earlier.setattr(csv_text, "escaped", str)
        out.record(done("=a.png", "=a"))
        out.record(failed("=b.png"))
        put_results(out.folder, "=a")
        out.close()
    assert names(out.folder) == ["=a.png"]
    out.open()
    assert names(out.folder) == ["'=a.png"]
    assert names(out.folder, "failed.csv") == ["'=b.png"]


class Stop(BaseException):
    """As kill -9: nothing of ours catches it, and what follows does not happen."""


def stop(*arguments, **keywords):
    raise Stop


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("point", ["before the row", "half a row", "after the row", "after the commit"])
def test_after_an_interruption_every_image_is_counted_once(out, monkeypatch, replaces, point):
    put_results(out.folder, "a", "b", "c")
    out.record(done("a.png", "a"))
    out.record(done("b.png", "b"))
    entry = done("a.png", "a", size=77) if replaces else done("c.png", "c")
    with monkeypatch.context() as patch:
        append, write = files.append, files.write
        if point == "before the row":
            patch.setattr(files, "append", stop)
            patch.setattr(files, "write", stop)
        elif point == "half a row":
            patch.setattr(files, "append", lambda path, data: (append(path, data[:-5]), stop()))
            patch.setattr(files, "write", stop)
        elif point == "after the row":
            patch.setattr(files, "append", lambda path, data: (append(path, data), stop()))
            patch.setattr(files, "write", lambda path, data: (write(path, data), stop()))
        if point == "after the commit":
            out.record(entry)
            out.release()
        elif replaces:
            out.record(entry)  # committed, while the table is written later
            with pytest.raises(Stop):
                out.refresh_tables(now=True)
            out.release()
        else:
            with pytest.raises(Stop):
                out.record(entry)
    reopen(out)
    was_recorded = replaces or point == "after the commit"
    assert (out.known.get(entry.image) == (entry.size, entry.mtime_ns)) == was_recorded
    if not was_recorded:
        assert names(out.folder) == ["a.png", "b.png"]
        out.record(entry)
    assert names(out.folder) == (["b.png", "a.png"] if replaces else ["a.png", "b.png", "c.png"])
    reopen(out)
    assert names(out.folder) == (["b.png", "a.png"] if replaces else ["a.png", "b.png", "c.png"])


def test_a_table_with_a_row_to_replace_is_behind_until_it_is_written(out):
    out.record(done("a.png", "a"))
    out.record(done("b.png", "b"))
    assert out.refresh_in_s() == math.inf
    whole = (out.folder / "counts.csv").read_bytes()
    out.record(done("a.png", "a", mtime_ns=0))
    out.record(done("c.png", "c"))  # not appended: the table is written anew anyway
    assert (out.folder / "counts.csv").read_bytes() == whole
    assert out.ledger.tables() == {"counts.csv": BEHIND}
    assert out.refresh_in_s() == 0
    out.refresh_tables()
    assert names(out.folder) == ["b.png", "a.png", "c.png"]
    assert rows(out.folder)[1]["captured_at"] == "1970-01-01T00:00:00Z"
    assert BEHIND not in out.ledger.tables().values()
    assert out.refresh_in_s() == math.inf


def test_no_table_names_an_image_twice_at_any_time(out):
    """An image that fails and is done again, while the table with its first row is behind."""
    out.record(done())
    for entry in (failed("a.png"), done(), failed("a.png"), done()):
        out.record(entry)
        listed = names(out.folder)
        listed += names(out.folder, "failed.csv") if (out.folder / "failed.csv").exists() else []
        assert listed == ["a.png"]
    out.close()
    assert names(out.folder) == ["a.png"]
    assert not (out.folder / "failed.csv").exists()


def test_the_more_rows_the_rarer_tables_are_written(out, monkeypatch):
    clock, cpu = [1e6], [1e3]
    monkeypatch.setattr(tables.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(tables.time, "process_time", lambda: cpu[0])
    write, written = TableFiles._write, []

    def slowly(self, table):
        clock[0] += 0.6
        cpu[0] += 0.4  # as with 20,000 rows
        written.append(clock[0])
        write(self, table)

    monkeypatch.setattr(TableFiles, "_write", slowly)
    out.record(done())
    for number in range(1000):
        out.record(done(size=number))
        out.refresh_tables()
        clock[0] += 0.05
        cpu[0] += 0.03
    assert len(written) == 4  # at once, then every 8 s of the processor: in all 30 s of it
    out.record(done())
    clock[0] += 60  # or after a minute, whatever the processor did
    out.refresh_tables()
    assert len(written) == 5
    out.record(done(size=7))
    out.refresh_tables(is_idle=True)
    assert out.refresh_in_s() == pytest.approx(3)  # 5 times as long as it took
    assert len(written) == 5
    clock[0] += 3
    out.refresh_tables(is_idle=True)
    assert len(written) == 6
    assert out.refresh_in_s() == math.inf
    assert names(out.folder) == ["a.png"]


def test_tables_that_cannot_be_written_are_written_later(out, monkeypatch):
    out.record(done())
    out.record(done(mtime_ns=0))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(OSError, match="No space"):
            out.refresh_tables()
        assert out.refresh_in_s() == 0
        with pytest.raises(OutputError, match=r"counts.csv cannot be brought up to date \(No space .*: make room"):
            out.close()
    assert not out.is_open
    assert rows(out.folder)[0]["captured_at"] == "2023-11-14T22:13:20Z"
    out.open()
    assert rows(out.folder)[0]["captured_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text + "z.png,1,1,1,1,,0,,,,,nuclei,z.labels.tif\n",
        lambda text: text[:-20],
        lambda text: text.splitlines(keepends=True)[0],
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: "",
    ],
    ids=["unknown row", "half line", "missing rows", "row twice", "empty"],
)
def test_counts_are_brought_in_line_with_the_ledger(out, damage):
    out.record(done("a.png", "a"))
    out.record(done("b.png", "b"))
    path = out.folder / "counts.csv"
    whole = path.read_text()
    path.write_text(damage(whole))
    reopen(out)
    assert path.read_text() == whole


def test_counts_edited_or_removed_while_open_are_written_whole(out):
    out.record(done("a.png", "a"))
    (out.folder / "counts.csv").unlink()
    out.record(done("b.png", "b"))
    (out.folder / "counts.csv").write_text("image;count;model;labels\na.png;7;nuclei;a.labels.tif\n")  # by Excel
    out.record(done("c.png", "c"))
    out.refresh_tables(now=True)
    assert names(out.folder) == ["a.png", "b.png", "c.png"]


def test_a_file_of_somebody_else_that_takes_the_place_of_a_table_meanwhile_stays(out):
    out.record(done("a.png", "a"))
    (out.folder / "counts.csv").write_text("mine")
    out.record(done("b.png", "b"))
    with pytest.raises(OSError, match=r"counts\.csv is of another program: move it away"):
        out.refresh_tables(now=True)
    assert (out.folder / "counts.csv").read_text() == "mine"
    (out.folder / "counts.csv").rename(out.folder / "mine.csv")
    out.refresh_tables(now=True)
    assert names(out.folder) == ["a.png", "b.png"]


def test_counts_that_are_right_are_not_written_again(out):
    out.record(done())
    before = (out.folder / "counts.csv").stat()
    reopen(out)
    assert (out.folder / "counts.csv").stat().st_ino == before.st_ino


def test_after_a_fault_the_folder_closes_and_opens_as_it_was(out, monkeypatch):
    put_results(out.folder, "a")
    out.record(done("a.png", "a"))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "append", full)
        with pytest.raises(OSError, match="No space"):
            out.record(done("b.png", "b"))
    assert not out.is_open
    out.open()
    assert [*out.known] == ["a.png"]
    out.record(done("b.png", "b"))
    assert names(out.folder) == ["a.png", "b.png"]


def test_a_folder_that_was_lost_is_not_made_again(out):
    out.close()
    for path in out.folder.iterdir():
        path.unlink()
    out.folder.rmdir()
    with pytest.raises(FileNotFoundError):
        out.open()


def test_leftovers_are_removed_at_the_start(out):
    (out.folder / ".cellseg-99-0.tmp").touch()
    reopen(out)
    assert not (out.folder / ".cellseg-99-0.tmp").exists()


def test_a_second_process_is_refused(out):
    second = Output(out.folder, print)
    with pytest.raises(OutputError, match="in use by another cellseg-device"):
        second.open()
    out.close()
    second.open()
    second.close()


def test_a_new_ledger_keeps_former_counts_aside(tmp_path):
    warnings = []
    out = Output(tmp_path, warnings.append)
    for number in (1, 2):
        out.open()
        out.record(done())
        out.close()
        (tmp_path / ledger.FILE_NAME).unlink()
        out.open()
        out.close()
        assert names(tmp_path, f"counts-{number}.csv") == ["a.png"]
        assert f"kept as counts-{number}.csv" in warnings[-1]
        assert names(tmp_path) == []
        (tmp_path / "counts.csv").unlink()
        (tmp_path / ledger.FILE_NAME).unlink()


def test_a_damaged_ledger_is_named_and_left_alone(tmp_path):
    path = tmp_path / ledger.FILE_NAME
    path.write_bytes(b"no database at all " * 300)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"is damaged .*: move it away"):
        Output(tmp_path, print).open()
    assert path.read_bytes() == before


def test_a_ledger_damaged_in_the_middle_is_named(out):
    for number in range(300):
        with out.ledger.transaction():
            out.ledger.put(done(f"{number}.png", str(number)))
    out.close()
    path = out.folder / ledger.FILE_NAME
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(OutputError, match="damaged"):
        out.open()


def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path):
    with sqlite3.connect(tmp_path / ledger.FILE_NAME) as connection:
        connection.executescript(schema._FIRST_SCHEMA + "PRAGMA user_version = 1;")
        connection.execute(
            "INSERT INTO images (image, size, mtime_ns, status, stem, model, model_sha256, recorded_at, total_ms)"
            f" VALUES ('a.png', 5, 7, 'done', 'a', 'nuclei', 'ff', '{NOW}', 9.5)"
        )
    connection.close()
    path = tmp_path / ledger.FILE_NAME
    before = path.read_bytes()
    read = Ledger(path, is_for_reading=True)
    assert [entry.settings for entry in read.entries(DONE)] == [None]
    read.close()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    put_results(tmp_path, "a")
    out = Output(tmp_path, lambda line: None)
    out.open()
    former = out.ledger.get("a.png")
    assert (former.counts.count, former.counts.flags, former.settings) == (None, "", None)
    assert out.ledger.count_made_otherwise({"": "ff"}, None, "{}") == 0
    assert out.known == {"a.png": (5, 7)}
    out.record(done("b.png", "b"))
    assert out.ledger.get("b.png") == done("b.png", "b")
    out.close()


def test_a_failure_with_other_settings_is_not_known(out):
    out.record(dataclasses.replace(failed(), settings="{}"))
    reopen(out)
    assert "bad.png" in out.known
    out.close()
    with_depth = Output(out.folder, print, settings='{"depth_mm": 0.1}')
    with_depth.open()
    assert with_depth.known == {}
    with_depth.close()


@pytest.mark.parametrize("reason", TRIED_AGAIN)
def test_a_failure_that_may_pass_is_known_until_the_next_start(out, reason):
    out.record(dataclasses.replace(failed(reason=reason), settings="{}"))
    assert "bad.png" in out.known
    reopen(out)
    assert out.known == {}
    assert names(out.folder, "failed.csv") == ["bad.png"]


@pytest.mark.parametrize("suffix", image_files.ALWAYS)
def test_an_image_whose_results_are_gone_is_not_known(out, suffix):
    put_results(out.folder, "a", "b")
    for stem in "ab":
        out.record(done(f"{stem}.png", stem))
    (out.folder / f"a{suffix}").unlink()
    reopen(out)
    assert [*out.known] == ["b.png"]


def test_a_newer_ledger_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / ledger.FILE_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(OutputError, match=r"newer cellseg-device .*: update"):
        Ledger(tmp_path / ledger.FILE_NAME)


def test_another_programs_database_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / ledger.FILE_NAME) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(OutputError, match="another program's database"):
        Ledger(tmp_path / ledger.FILE_NAME)


COUNTS_IN_THE_LEDGER = (
    "count count_in_frame height_px width_px pixel_size_um covered_fraction median_diameter_px median_diameter_um "
    "density_per_mm2 settings files left_out counted_area_px concentration_per_ml concentration_low_per_ml "
    "concentration_high_per_ml focus edge_sharpness saturated_fraction uneven_light at_border_fraction diameter_ratio "
    "flags place captured_at captured_from surround gate_sha256 class_name class_probability"
)


def test_the_columns_of_the_ledger_are_in_the_order_in_which_they_came(out):
    columns = [row[1] for row in out.ledger._connection.execute("PRAGMA table_info(images)")]
    assert columns[columns.index("count") :] == COUNTS_IN_THE_LEDGER.split()


def test_a_new_field_of_the_counts_is_a_column_of_the_ledger_by_its_definition_alone(tmp_path):
    """A package whose `Counts` has one more field: today's ledger gets it, and so do the tables."""
    path = tmp_path / "out"
    out = Output(path, print)
    out.open()
    out.record(done())
    out.close()
    package = Path(image_files.__file__).parents[1]
    shutil.copytree(package, tmp_path / "cellseg_device")
    module = tmp_path / "cellseg_device" / "cells" / "counts.py"
    field = "    flags: str = _stored("
    line = f'    dead: int | None = _stored("INTEGER", column=25, since={schema.VERSION + 1})\n\n'
    text = module.read_text()
    end = text.index("\n\n", text.index(field)) + 1
    module.write_text(text[:end] + line + text[end:])
    check = f"""
from pathlib import Path
import dataclasses
from cellseg_device.results.folder import Output
out = Output(Path({str(path)!r}), print)
out.open()
entry = out.ledger.get("a.png")
assert entry.counts.dead is None and entry.counts.count == 12
out.record(dataclasses.replace(entry, counts=dataclasses.replace(entry.counts, dead=7)))
assert out.ledger.get("a.png").counts.dead == 7
out.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    header, row = (path / "counts.csv").read_text().splitlines()
    assert header.startswith("image,count,count_in_frame,dead,flags,")
    assert row.startswith("a.png,12,10,7,")


def test_every_value_comes_back_from_the_ledger(tmp_path):
    book = Ledger(tmp_path / ledger.FILE_NAME)
    entries = [done("ü.png"), failed()]
    with book.transaction():
        for entry in entries:
            book.put(entry)
    book.close()
    book = Ledger(tmp_path / ledger.FILE_NAME)
    assert [book.get(entry.image) for entry in entries] == entries
    assert list(book.entries(DONE)) == entries[:1]
    assert book.stem_owner("A") == "ü.png"
    book.close()


def test_times_that_no_calendar_has_are_empty():
    assert tables.utc(10**22) == ""
    assert tables.utc(-1) == "1969-12-31T23:59:59Z"
