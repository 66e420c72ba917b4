"""The work on a correction: what is on the disk after each step, whoever else works there, and whatever fails."""

from __future__ import annotations

import csv
import errno
import json
import os

import numpy as np
import pytest
import tifffile

from cellseg_device.correcting import edits
from cellseg_device.correcting.work import ConflictError, begin_anew
from cellseg_device.errors import InputError
from cellseg_device.results import audit, corrected_labels, correction_journal, corrections
from cellseg_device.results.corrections import AS_BEGUN, BEGUN, CHECKED, LEFT_OUT, RECOUNTED, STALE
from cellseg_device.system import files


def centre(labels, cell):
    """A pixel of a cell."""
    rows, cols = np.nonzero(labels == cell)
    middle = len(rows) // 2
    return float(rows[middle]), float(cols[middle])


def remove(work, cell, **options):
    point = centre(work.labels, cell)
    return work.edit("remove", lambda labels: edits.remove(labels, point), given={"point": point}, **options)


def row(counted):
    return corrections.get(counted.out, counted.entry)


def test_an_edit_is_on_the_disk_and_nothing_of_the_machine_has_changed(counted, device):
    before, machine = counted.files(), counted.machine()
    work = counted.work()
    assert (work.revision, work.state, work.can_undo) == (0, "", False)
    remove(work, 2, by="  Ann\nLee\x1b\ud800 ")
    expected = np.where(machine == 2, 0, machine)
    assert np.array_equal(corrected_labels.current(counted.out, "a"), expected)
    assert np.array_equal(counted.work().labels, expected)
    lines = [json.loads(line) for line in (counted.out / "corrections/a.edits.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["begin", "remove"]
    assert lines[0]["image_sha256"] == counted.entry.sha256
    assert lines[1]["by"] == "Ann Lee"
    assert lines[1]["at"].endswith("Z")
    assert {path.name for path in (counted.out / "corrections").iterdir()} == {
        *("a.labels.tif", "a.edits.jsonl", "corrections.csv", ".cellseg.turn"),
    }
    assert counted.files() == before
    assert audit.verify(counted.out, lambda _: None).problems == ()
    assert device("ledger", "verify", counted.out).returncode == 0


def test_checked_labels_are_counted_and_measured_as_the_machine_does(counted):
    work = counted.work()
    remove(work, 2, by="Ann")
    work.mark(CHECKED, by="Bob")
    machine, found = counted.entry.counts, row(counted)
    assert (found.count, found.corrected_count) == (machine.count, machine.count - 1)
    assert (found.state, found.by, found.revision) == (CHECKED, "Bob", 3)
    assert found.checked_at.endswith("Z")
    assert corrections.counts_of(counted.entry, found) == (found.corrected_count, found.corrected_in_frame)
    labels = tifffile.imread(counted.out / "corrections/a.labels.tif")
    assert np.array_equal(labels, np.where(counted.machine() == 2, 0, counted.machine()))
    with open(counted.out / "corrections/a.cells.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    with open(counted.out / "a.cells.csv", newline="") as file:
        assert cells == [cell for cell in csv.DictReader(file) if cell["label"] != "2"]
    # A further edit takes that back, until it is checked again
    remove(work, 1)
    assert (row(counted).state, corrections.counts_of(counted.entry, row(counted))) == (BEGUN, None)
    work.mark(LEFT_OUT)
    assert (row(counted).state, row(counted).corrected_count) == (LEFT_OUT, machine.count - 2)
    assert corrections.counts_of(counted.entry, row(counted)) is None
    work.mark(BEGUN)
    assert (row(counted).state, row(counted).checked_at) == (BEGUN, "")


def test_an_image_that_is_right_is_checked_without_an_edit(counted):
    counted.work().mark(CHECKED)
    assert np.array_equal(corrected_labels.current(counted.out, "a"), counted.machine())
    assert corrections.counts_of(counted.entry, row(counted)) == (
        counted.entry.counts.count,
        counted.entry.counts.count_in_frame,
    )


def test_all_edits_are_undone_and_made_again_also_by_who_comes_later(counted):
    work, states = counted.work(), [counted.machine()]
    for cell in (1, 2, 3):
        remove(work, cell)
        states.append(work.labels.copy())
    for state in states[-2::-1]:
        work.undo()
        assert np.array_equal(work.labels, state)
        work = counted.work()
        assert np.array_equal(work.labels, state)
    with pytest.raises(InputError, match="nothing to undo"):
        work.undo()
    for state in states[1:3]:
        work.redo()
        assert np.array_equal(work.labels, state)
    work.save()
    assert counted.work().can_redo
    remove(work, 3)  # what was undone is gone
    assert not counted.work().can_redo
    with pytest.raises(InputError, match="nothing to redo"):
        work.redo()
    assert np.array_equal(corrected_labels.current(counted.out, "a"), states[3])


def test_the_label_image_may_be_of_any_revision(counted):
    work = counted.work()
    remove(work, 1)
    work.save()
    remove(work, 2)
    work.undo()
    work.undo()  # of what the label image has
    assert np.array_equal(corrected_labels.current(counted.out, "a"), counted.machine())
    work.save()
    assert row(counted).revision == work.revision
    assert np.array_equal(tifffile.imread(counted.out / "corrections/a.labels.tif"), counted.machine())


def test_who_comes_with_an_old_revision_gets_a_conflict(counted):
    mine, theirs = counted.work(), counted.work()
    remove(mine, 1)
    before = theirs.labels.copy()
    for step in (lambda: remove(theirs, 2), lambda: theirs.mark(CHECKED), lambda: remove(theirs, 2, revision=0)):
        with pytest.raises(ConflictError, match="corrected elsewhere meanwhile: load it again"):
            step()
    assert np.array_equal(theirs.labels, before)
    with pytest.raises(ConflictError):
        remove(mine, 2, revision=0)
    theirs.save()  # does nothing
    assert np.array_equal(corrected_labels.current(counted.out, "a"), mine.labels)


def test_what_was_being_written_when_the_power_failed_is_dropped(counted):
    work = counted.work()
    remove(work, 1)
    path = counted.out / "corrections/a.edits.jsonl"
    whole = path.read_bytes()
    for torn in (b"{", b'{"what":"remove"', whole.splitlines()[-1]):
        path.write_bytes(whole + torn)
        again = counted.work()
        assert np.array_equal(again.labels, work.labels)
        remove(again, 2)
        again.undo()
        path.write_bytes(whole)
    # Nothing but a part of the first line: there is no correction
    path.write_bytes(b'{"what":"beg')
    (counted.out / "corrections/corrections.csv").unlink()
    assert counted.work().revision == 0
    remove(counted.work(), 1)
    assert counted.work().revision == 2


def test_an_image_that_is_counted_again_keeps_its_correction(counted, device):
    work = counted.work()
    remove(work, 1)
    work.mark(CHECKED)
    assert corrections.standing(counted.entry, row(counted)) == AS_BEGUN
    device("watch", counted.folder, "--once", "--redo", "--no-overlay", "--gate", "none", "--min-diameter", "12px")
    assert corrections.standing(counted.entry, row(counted)) == RECOUNTED
    assert np.array_equal(counted.work().labels, work.labels)
    assert corrections.counts_of(counted.entry, row(counted)) is not None


def test_the_correction_of_an_image_that_was_replaced_is_not_applied(counted, device, write_image):
    remove(counted.work(), 1)
    counted.work().mark(CHECKED)
    former = {path.name: path.read_bytes() for path in (counted.out / "corrections").glob("a.*")}
    write_image(counted.folder / "a.png", seed=5)
    device("watch", counted.folder, "--once", "--no-overlay", "--gate", "none")
    assert corrections.standing(counted.entry, row(counted)) == STALE
    assert corrections.counts_of(counted.entry, row(counted)) is None
    with pytest.raises(InputError, match="the image was replaced since its correction began: begin that anew"):
        counted.work()
    kept = begin_anew(counted.out, counted.entry)
    assert kept == ["a.former-1.edits.jsonl", "a.former-1.labels.tif", "a.former-1.cells.csv"]
    assert {name.replace(".former-1", ""): (counted.out / "corrections" / name).read_bytes() for name in kept} == former
    assert row(counted) is None
    remove(counted.work(), 1)
    assert corrections.standing(counted.entry, row(counted)) == AS_BEGUN


def test_a_full_disk_changes_nothing_and_is_told(counted, monkeypatch):
    work = counted.work()
    remove(work, 1)
    labels, content = work.labels.copy(), (counted.out / "corrections/a.edits.jsonl").read_bytes()

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(files, "append", full)
        for step in (lambda: remove(work, 2), work.undo):
            with pytest.raises(OSError, match="No space left"):
                step()
            assert np.array_equal(work.labels, labels)
    assert (counted.out / "corrections/a.edits.jsonl").read_bytes() == content
    remove(work, 2)
    assert np.array_equal(counted.work().labels, work.labels)


@pytest.mark.parametrize("name", ["corrections", "corrections/a.edits.jsonl", "corrections/a.labels.tif"])
def test_links_are_not_followed(counted, tmp_path, name):
    target = tmp_path / "elsewhere"
    if name == "corrections":
        target.mkdir()
    else:
        (counted.out / "corrections").mkdir()
        target.write_bytes(b"")
    (counted.out / name).symlink_to(target)
    with pytest.raises((OSError, InputError)):
        remove(counted.work(), 1)
    assert target.is_dir() or target.read_bytes() == b""
    assert not target.is_dir() or not list(target.iterdir())


def test_files_of_others_are_left_alone(counted):
    (counted.out / "corrections").mkdir()
    other = counted.out / "corrections/a.labels.tif"
    other.write_bytes(b"mine")
    with pytest.raises(OSError, match=r"a\.labels\.tif, which cellseg did not make, is in the way"):
        remove(counted.work(), 1)
    assert other.read_bytes() == b"mine"
    other.unlink()
    table = counted.out / "corrections/corrections.csv"
    table.write_bytes(b"name,value\n")
    with pytest.raises(InputError, match="lacks columns of corrections"):
        remove(counted.work(), 1)
    assert table.read_bytes() == b"name,value\n"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [b"[]"],
        lambda lines: lines[1:],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines, b'{"what":"undo"}', b'{"what":"undo"}'],
        lambda lines: [*lines, b"{no json}"],
        lambda lines: [*lines, b'{"what":"remove","box":[0,0,1,1]}'],
        lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]],
    ],
)
def test_a_damaged_journal_is_one_error_in_words(counted, spoil):
    remove(counted.work(), 1)
    path = counted.out / "corrections/a.edits.jsonl"
    path.write_bytes(b"\n".join(spoil(path.read_bytes().splitlines())) + b"\n")
    with pytest.raises(InputError, match=r"a\.edits\.jsonl: .*(restore|update)"):
        corrected_labels.current(counted.out, "a")


def test_a_label_image_of_another_correction_is_not_joined(counted):
    remove(counted.work(), 1)
    path = counted.out / "corrections/a.labels.tif"
    path.write_bytes((counted.out / "a.labels.tif").read_bytes())
    with pytest.raises(InputError, match="is not a corrected label image"):
        counted.work()
    path.unlink()
    with pytest.raises(InputError, match=r"a\.labels\.tif: is missing"):
        counted.work()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--frame", "none"),
        ("--frame", "bottom,right"),
        ("--min-diameter", "12px"),
        ("--region", "rectangle:10,10,70,90"),
        ("--region", "circle:48,64,40", "--max-diameter", "18px"),
    ],
)
def test_cells_count_by_the_images_own_settings(count, options):
    counted = count(*options, height=96, width=128, seed=4, count=14)
    work, machine = counted.work(), counted.entry.counts
    assert (work.tally.count, work.tally.in_frame) == (machine.count, machine.count_in_frame)
    selection = corrected_labels.counted(work.labels, work.image, work.counting)
    assert np.array_equal(selection.labels, work.labels)
    cell = int(np.argmax(np.bincount(work.labels[1:-1, 1:-1].ravel())[1:])) + 1
    remove(work, cell)
    selection = corrected_labels.counted(work.labels, work.image, work.counting)
    assert work.tally.count == machine.count - 1 == len(selection.cells)
    assert selection.cells.columns["label"].tolist() == [n for n in range(1, machine.count + 1) if n != cell]
    rows, cols = np.nonzero(work.labels == 0)
    remaining = set(np.unique(work.labels)) - {0}
    edges = {"top": work.labels[0], "bottom": work.labels[-1], "left": work.labels[:, 0], "right": work.labels[:, -1]}
    touching = set().union(*(set(edges[edge].tolist()) for edge in work.counting.frame)) - {0}
    assert work.tally.in_frame == len(remaining - touching)
    if "--min-diameter" in options:  # a cell that is too small is shown and does not count
        work.edit("brush", lambda labels: edits.brush(labels, [(rows[0], cols[0])], 1.0, 0))
        assert (work.tally.count, work.tally.left_out) == (machine.count - 1, 1)


def test_ten_thousand_corrections_are_one_table(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    rows = {
        f"field =1_{n}.png": corrections.Correction(
            f"field =1_{n}.png", f"field_{n}", n, n + 1, n, n, CHECKED, "2026-01-01T00:00:00Z", "=Ann", "00", "11", 3
        )
        for n in range(10_000)
    }
    with corrections.writing(out) as folder:
        corrections.put(folder, rows)
    assert corrections.read(out) == rows


def test_a_journal_is_found_to_be_anothers_by_its_size(counted):
    work = counted.work()
    assert work.is_current()
    remove(work, 1)
    assert work.is_current()
    journal = correction_journal.read(counted.out / "corrections/a.edits.jsonl")
    assert (journal.revision, journal.done, journal.undone) == (2, (1,), ())
    remove(counted.work(), 2)
    assert not work.is_current()


def test_who_keeps_the_results_is_content_with_corrections(counted, device):
    work = counted.work()
    remove(work, 1, by="Ann")
    work.mark(CHECKED)
    kept = {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()}
    before = counted.files()
    for arguments in (
        ("ledger", "verify", counted.out),
        ("watch", counted.folder, "--once", "--recursive", "--no-overlay", "--gate", "none", "--retain", "1d"),
        ("watch", counted.out / "corrections", "--once", "--out", counted.folder / "others"),
        ("export", counted.out, "--format", "geojson"),
        ("ledger", "rebuild", counted.out),
        ("ledger", "verify", counted.out),
    ):
        done = device(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        there = {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()}
        assert there.items() >= kept.items()  # 'export' adds files of the corrected labels
    after = counted.files()
    assert {name: after[name] for name in before if name != "cellseg.sqlite"} == {
        name: data for name, data in before.items() if name != "cellseg.sqlite"
    }
    assert (
        not (counted.folder / "others" / "counts.csv").exists()
        or "a.labels" not in (counted.folder / "others" / "counts.csv").read_text()
    )
    assert corrections.standing(counted.entry, row(counted)) == AS_BEGUN
    assert corrections.counts_of(counted.entry, row(counted)) is not None


def test_who_looks_at_an_image_that_was_counted_again_changes_neither_its_count_nor_its_table(counted, device):
    work = counted.work()
    remove(work, 1)
    work.mark(CHECKED)
    former = {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()}
    device("watch", counted.folder, "--once", "--redo", "--no-overlay", "--gate", "none", "--min-diameter", "15px")
    counted.work().save()
    assert {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()} == former


def test_a_correction_of_the_image_as_it_is_now_is_not_set_aside(counted):
    remove(counted.work(), 1)
    former = {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()}
    with pytest.raises(ConflictError, match="corrected elsewhere meanwhile: load it again"):
        begin_anew(counted.out, counted.entry)
    assert {path.name: path.read_bytes() for path in (counted.out / "corrections").iterdir()} == former
