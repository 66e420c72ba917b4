"""The output folder and its ledger: what is on the disk after every possible interruption."""

import csv
import dataclasses
import errno
import os
import sqlite3

import pytest

from cellseg_device import files, ledger, output, results
from cellseg_device.counting import Counts
from cellseg_device.errors import TRIED_AGAIN, ImageError, OutputError
from cellseg_device.ledger import DONE, FAILED, Entry, Ledger
from cellseg_device.output import Output

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
)


def done(image="a.png", stem="a", mtime_ns=1_700_000_000_123_456_789, **other):
    entry = Entry(image, 5, mtime_ns, "00", DONE, None, stem, "nuclei", "ff", NOW, 9.5, "{}", "{}", COUNTS)
    return dataclasses.replace(entry, **other)


def put_results(folder, *stems):
    for stem in stems:
        for suffix in results.ALWAYS:
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
        "focus": "0.333333",
        "edge_sharpness": "0.6",
        "saturated_fraction": "0",
        "uneven_light": "0.125",
        "at_border_fraction": "0.25",
        "diameter_ratio": "1.00726",
        "captured_at": "2023-11-14T22:13:20Z",
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
    assert names(out.folder) == ["c.png", "b.png", "a.png"]


def test_failures_have_a_table_of_their_own_while_there_are_any(out):
    assert not (out.folder / "failed.csv").exists()
    out.record(failed(reason='is "odd",\nvery'))
    out.record(failed("worse.png"))
    assert rows(out.folder, "failed.csv")[0]["reason"] == 'is "odd",\nvery'
    assert names(out.folder, "failed.csv") == ["bad.png", "worse.png"]
    out.record(done("bad.png", "bad"))
    out.record(done("worse.png", "worse"))
    assert names(out.folder) == ["bad.png", "worse.png"]
    assert not (out.folder / "failed.csv").exists()


def test_an_image_that_fails_after_it_was_done_loses_its_files(out):
    out.record(done())
    for suffix in (".labels.tif", ".cells.csv", ".overlay.jpg"):
        (out.folder / f"a{suffix}").touch()
    out.record(failed("a.png"))
    assert names(out.folder) == []
    assert not list(out.folder.glob("a.*"))


def test_stems_that_collide_take_the_full_name(out):
    for image, stem in (("/x/a.png", "a"), ("a.tif", "a.tif"), ("A.jpg", "A.jpg"), ("n", "n")):
        assert out.stem_for(image) == stem
        out.record(done(image, stem))
        assert out.stem_for(image) == stem
    with pytest.raises(ImageError, match=r"overwrite those of a.tif: use another --out"):
        out.stem_for("/y/a.tif")
    with pytest.raises(ImageError, match="rename it"):
        out.stem_for("n" * 250 + ".png")


def test_stems_of_images_in_folders_begin_with_the_folder(out):
    for image, stem in (
        ("sub/a.png", "sub-a"),
        ("other/a.png", "other-a"),
        ("sub-a.png", "sub-a.png"),
        ("a.png", "a"),
        ("sub/a.tif", "sub-a.tif"),
        (f"{'x' * 200}/{'y' * 200}/b.png", "b"),
    ):
        assert out.stem_for(image) == stem
        out.record(done(image, stem))
        assert out.stem_for(image) == stem


def test_room_is_kept_free(tmp_path):
    Output(tmp_path, print).check_room()
    Output(tmp_path, print, 1).check_room()
    with pytest.raises(OSError, match=r"less than 1.15e\+09 GB is free") as caught:
        Output(tmp_path, print, 2**60).check_room()
    assert caught.value.errno == errno.ENOSPC


def test_tables_are_made_anew_only_if_they_are_not_as_left(out, monkeypatch):
    out.record(done("a.png", "a"))
    out.close()
    made = []
    write_table = Output._write_table
    monkeypatch.setattr(Output, "_write_table", lambda *a: (made.append(a[1]), write_table(*a)))
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
        else:
            with pytest.raises(Stop):
                out.record(entry)
    reopen(out)
    was_recorded = point == "after the commit"
    assert (out.known.get(entry.image) == (entry.size, entry.mtime_ns)) == was_recorded
    if not was_recorded:
        assert names(out.folder) == ["a.png", "b.png"]
        out.record(entry)
    assert names(out.folder) == (["b.png", "a.png"] if replaces else ["a.png", "b.png", "c.png"])
    reopen(out)
    assert names(out.folder) == (["b.png", "a.png"] if replaces else ["a.png", "b.png", "c.png"])


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
    (out.folder / "counts.csv").write_text("mine")
    out.record(done("c.png", "c"))
    assert names(out.folder) == ["a.png", "b.png", "c.png"]


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
        connection.executescript(ledger._FIRST_SCHEMA + "PRAGMA user_version = 1;")
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
    assert out.ledger.count_made_otherwise("ff", "{}") == 0
    assert out.known == {"a.png": (5, 7)}
    out.record(done("b.png", "b"))
    assert out.ledger.get("b.png") == done("b.png", "b")
    out.close()


def test_a_failure_with_other_settings_is_not_known(out):
    out.record(dataclasses.replace(failed(), settings="{}"))
    reopen(out)
    assert "bad.png" in out.known
    out.close()
    out.settings = '{"depth_mm": 0.1}'
    out.open()
    assert out.known == {}


@pytest.mark.parametrize("reason", TRIED_AGAIN)
def test_a_failure_that_may_pass_is_known_until_the_next_start(out, reason):
    out.record(dataclasses.replace(failed(reason=reason), settings="{}"))
    assert "bad.png" in out.known
    reopen(out)
    assert out.known == {}
    assert names(out.folder, "failed.csv") == ["bad.png"]


@pytest.mark.parametrize("suffix", results.ALWAYS)
def test_an_image_whose_results_are_gone_is_not_known(out, suffix):
    put_results(out.folder, "a", "b")
    for stem in "ab":
        out.record(done(f"{stem}.png", stem))
    (out.folder / f"a{suffix}").unlink()
    reopen(out)
    assert [*out.known] == ["b.png"]


def test_a_newer_ledger_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / ledger.FILE_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {ledger.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(OutputError, match=r"newer cellseg-device .*: update"):
        Ledger(tmp_path / ledger.FILE_NAME)


def test_another_programs_database_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / ledger.FILE_NAME) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(OutputError, match="another program's database"):
        Ledger(tmp_path / ledger.FILE_NAME)


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
    assert output.utc(10**22) == ""
    assert output.utc(-1) == "1969-12-31T23:59:59Z"
