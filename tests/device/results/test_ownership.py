"""Whose the files beside an image's results are, what of an earlier result stays, and that one file has one row."""

import csv
import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.region import Region
from cellseg_device.errors import NOT_OURS
from cellseg_device.image.source import source_at
from cellseg_device.pipeline.models import Models
from cellseg_device.results import places, save
from cellseg_device.results.entry import DONE, FAILED
from cellseg_device.results.folder import Output
from cellseg_device.system import files
from cellseg_device.units import Length
from cellseg_device.watching import watch
from cellseg_device.watching.outcome import UNCHANGED
from cellseg_device.watching.scan import scan
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker


def source_of(path):
    return source_at(path, path.name)


def test_what_an_image_has_from_before_is_made_anew_beside_what_is_wanted(worker_with, output, tmp_path, write_image):
    source = source_of(write_image(tmp_path / "a.png"))
    worker_with(extras=("overlay", "rois")).process(source)
    out = output.folder
    first = {path.name: path.read_bytes() for path in out.glob("a.*")}
    (out / "a.rois.zip").unlink()  # as somebody may, who does not want it
    worker_with(extras=("geojson",), counting=Counting(min_diameter=Length(1000, "px"))).process(source)
    second = {path.name: path.read_bytes() for path in out.glob("a.*")}
    assert {*second} == {"a.labels.tif", "a.cells.csv", "a.overlay.jpg", "a.geojson"}
    assert second["a.overlay.jpg"] != first["a.overlay.jpg"]  # no cell is left


def test_the_folder_is_not_kept_from_others_while_files_are_encoded(
    worker_with, output, tmp_path, write_image, monkeypatch
):
    form, begun = save.formats.FORMATS["geojson"], []

    def encoded(content):
        with files.write_lock(output.folder):
            begun.append(content.image)
        return form.encode(content)

    monkeypatch.setattr(files, "_LOCK_TIMEOUT_S", 0.2)
    monkeypatch.setitem(save.formats.FORMATS, "geojson", dataclasses.replace(form, encode=encoded))
    work = worker_with(extras=("geojson",))
    assert work.process(source_of(write_image(tmp_path / "a.png"))).status == DONE
    assert len(begun) == 1


def test_what_an_export_makes_meanwhile_is_of_the_new_labels(work, tmp_path, write_image, monkeypatch):
    source = source_of(write_image(tmp_path / "a.png"))
    work.process(source)
    out, turn = work.output.folder, files.write_lock

    def late(folder):
        monkeypatch.setattr(files, "write_lock", turn)
        (out / "a.geojson").write_bytes(b"of the former labels")
        work.output.ledger.add_files(work.output.ledger.get("a.png"), {"a.geojson": "its digest"})
        return turn(folder)

    monkeypatch.setattr(files, "write_lock", late)
    assert work.process(source).status == DONE
    data = (out / "a.geojson").read_bytes()
    assert work.output.ledger.get("a.png").digests()["a.geojson"] == hashlib.sha256(data).hexdigest()
    assert b"former" not in data


def test_files_of_somebody_else_are_left_alone(work, worker_with, tmp_path, write_image):
    source = source_of(write_image(tmp_path / "a.png"))
    work.output.open()
    theirs = {name: work.output.folder / name for name in ("a.labels.tif", "a.geojson", "a.overlay.jpg")}
    for path in theirs.values():
        path.write_text("of somebody")
    refused = work.process(source)
    assert (refused.status, refused.reason) == (FAILED, NOT_OURS)
    assert work.output.ledger.known(work.settings) == []  # so it is tried again at the next start
    theirs.pop("a.labels.tif").unlink()
    assert worker_with(extras=("overlay",)).process(source).reason == NOT_OURS
    assert work.process(source).status == DONE
    assert worker_with(extras=("geojson",)).process(source).reason == f"{NOT_OURS} (its earlier result stays)"
    assert work.process(dataclasses.replace(source, size=source.size + 1)).status == DONE
    source.path.write_text("no image")
    assert work.process(source_of(source.path)).status == FAILED
    assert not (work.output.folder / "a.labels.tif").exists()
    assert {path.read_text() for path in theirs.values()} == {"of somebody"}


@pytest.mark.parametrize(
    "counting",
    [Counting(channel="red"), Counting(diameter=Length(9, "um")), Counting(region=Region("circle", (-9, 0, 1)))],
)
def test_settings_that_do_not_fit_leave_an_earlier_result_alone(work, worker_with, tmp_path, write_image, counting):
    source = source_of(write_image(tmp_path / "a.png"))
    done = work.process(source)
    before = {path.name: path.read_bytes() for path in work.output.folder.glob("[ac]*.*[fv]")}
    work = worker_with(counting=counting)
    outcome = work.process(source)
    assert outcome.status == FAILED
    assert outcome.reason.endswith("(its earlier result stays)")
    assert {path.name: path.read_bytes() for path in work.output.folder.glob("[ac]*.*[fv]")} == before
    assert work.output.ledger.get("a.png").counts.count == done.cells
    (work.output.folder / "a.labels.tif").unlink()
    assert work.process(source).status == FAILED
    assert work.output.ledger.get("a.png").status == FAILED


def test_one_file_has_one_row_whoever_names_it(work, worker_with, tmp_path, write_image):
    """`run` is given the path of an image, `watch` its folder."""
    first, second = (write_image(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.png")))
    work.output.open()
    assert [o.status for o in watch.run([first], work, StopSignal())] == [DONE]
    outcomes = list(watch.once(tmp_path, work, watch.Timing(), StopSignal()))
    assert [(Path(o.image).name, o.status) for o in outcomes] == [("a.png", UNCHANGED), ("b.png", DONE)]
    overlays = worker_with(extras=("overlay",), asked=("overlay",))
    made = [(o.image, o.status, o.made) for o in watch.run([second], overlays, StopSignal())]
    assert made == [("b.png", UNCHANGED, ("b.overlay.jpg",))]
    assert [entry.image for entry in work.output.ledger.entries(DONE)] == ["a.png", "b.png"]
    work.output.close()
    watching = Output(work.output.folder, print, watched=tmp_path)
    watching.open()
    assert scan(tmp_path, watching.folder, known=watching.known) == []
    watching.close()
    write_image(first, seed=5, mtime=1_700_000_005)
    write_image(second, seed=6, mtime=1_700_000_006)
    assert [o.status for o in watch.once(tmp_path, work, watch.Timing(), StopSignal())] == [DONE, DONE]
    write_image(second, seed=7, mtime=1_700_000_007)
    assert [o.status for o in watch.run([second], work, StopSignal())] == [DONE]  # where the results usually lie
    assert {entry.image for entry in work.output.ledger.entries(DONE)} == {"a.png", "b.png"}
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "b.png"  # of the same name, size and time
    elsewhere.write_bytes(second.read_bytes()[:-1] + b"?")
    os.utime(elsewhere, ns=(0, second.stat().st_mtime_ns))
    assert [o.image for o in watch.run([elsewhere], work, StopSignal())] == ["other/b.png"]


def test_one_file_has_one_row_wherever_the_results_lie_and_whatever_way_leads_to_it(
    worker_with, output, tmp_path, write_image
):
    """`watch` by a link to a folder that is not beside the results, `run` by the folder itself; the file changes."""
    (tmp_path / "day" / "well").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "day")
    path = write_image(tmp_path / "day" / "well" / "a.png")
    work = worker_with()
    listed = {"timing": watch.Timing(), "stop": StopSignal(), "recursive": True}
    assert [o.image for o in watch.once(tmp_path / "link", work, **listed)] == ["well/a.png"]
    write_image(path, seed=3, mtime=1_700_000_003)
    assert [(o.image, o.status) for o in watch.run([path], work, StopSignal())] == [("well/a.png", DONE)]
    other = write_image(tmp_path / "day" / "b.png", seed=4)
    assert [o.image for o in watch.run([other], work, StopSignal())] == ["day/b.png"]
    write_image(other, seed=5, mtime=1_700_000_005)
    outcomes = list(watch.once(tmp_path / "link", work, **listed))
    assert [(o.image, o.status) for o in outcomes] == [("well/a.png", UNCHANGED), ("day/b.png", DONE)]
    output.close()
    watching = Output(output.folder, print, watched=tmp_path / "link")
    watching.open()
    assert scan(tmp_path / "link", watching.folder, recursive=True, known=watching.known) == []
    watching.close()


def test_a_file_that_was_moved_keeps_its_row(work, tmp_path, write_image):
    (tmp_path / "day").mkdir()
    path = write_image(tmp_path / "day" / "a.png")
    work.process(source_at(path, "day/a.png"))
    moved = tmp_path / "archive" / "day" / "a.png"
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    assert [(o.image, o.status) for o in watch.run([moved], work, StopSignal())] == [("day/a.png", UNCHANGED)]
    renamed = moved.rename(moved.with_name("b.png"))
    assert [(o.image, o.status) for o in watch.run([renamed], work, StopSignal())] == [("archive/day/b.png", DONE)]


@pytest.mark.parametrize("leads", ["", "x/../", "link/"])
def test_run_names_an_image_by_its_path_from_where_the_results_lie(
    worker_with, output, tmp_path, write_image, monkeypatch, leads
):
    (tmp_path / "day" / "x").mkdir(parents=True)
    (tmp_path / "day" / "link").symlink_to(tmp_path / "day")
    path = write_image(tmp_path / "day" / "a.png")
    monkeypatch.chdir(tmp_path / "day")
    work = worker_with()
    assert [(o.image, o.status) for o in watch.run([Path(f"{leads}a.png")], work, StopSignal())] == [
        ("day/a.png", DONE)
    ]
    assert work.output.ledger.get("day/a.png").stem == "a"
    monkeypatch.chdir("/")
    assert [(o.image, o.status) for o in watch.run([path], work, StopSignal())] == [("day/a.png", UNCHANGED)]


def test_what_lies_beside_the_folder_with_the_results_keeps_its_whole_path(model, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    (tmp_path / "disk").mkdir()
    output = Output(tmp_path / "disk" / "out", print)
    worker = Worker(Models(model), output)
    assert [o.image for o in watch.run([path], worker, StopSignal())] == [str(path)]
    assert places.name_of(Path("/data/a.png"), Path("/results")) == "/data/a.png"
    worker.close()
    output.close()


def test_names_stay_when_images_and_results_are_moved_together(model, tmp_path, write_image):
    (tmp_path / "project" / "day").mkdir(parents=True)
    write_image(tmp_path / "project" / "day" / "a.png")
    outcomes = []
    for folder in ("project", "archive"):
        output = Output(tmp_path / folder / "out", print)
        worker = Worker(Models(model), output)
        outcomes += watch.run([tmp_path / folder / "day" / "a.png"], worker, StopSignal())
        outcomes += watch.once(tmp_path / folder / "day", worker, watch.Timing(), StopSignal())
        worker.close()
        output.close()
        if folder == "project":
            (tmp_path / folder).rename(tmp_path / "archive")
    assert [o.image for o in outcomes] == ["day/a.png"] * 4
    assert [o.status for o in outcomes] == [DONE, *[UNCHANGED] * 3]


def watched_once(model, folder, out):
    output = Output(out, print, watched=folder)
    worker = Worker(Models(model), output)
    outcomes = once(folder, worker)
    worker.close()
    output.close()
    return outcomes


def test_images_of_one_name_on_cards_that_come_and_go_are_as_many(model, output, tmp_path, write_image, images_of):
    cards = [tmp_path / "media" / name for name in ("one", "two", "three")]
    for number, card in enumerate(cards):
        card.mkdir(parents=True)
        write_image(card / "1.png", seed=number, mtime=1_700_000_000 + number)
        assert [status for _, status in watched_once(model, card, output.folder)] == [DONE]
        card.rename(tmp_path / card.name)
    output.open()
    assert images_of() == [*(str(card / "1.png") for card in sorted(cards[1:])), "1.png"]
    output.close()
    for card, name in zip(cards, ("1.png", *(str(card / "1.png") for card in cards[1:])), strict=True):
        (tmp_path / card.name).rename(card)
        assert watched_once(model, card, output.folder) == [(name, UNCHANGED)]
        card.rename(tmp_path / card.name)


def test_of_a_watched_folder_that_was_moved_what_is_the_same_keeps_its_name(
    model, output, tmp_path, write_image, images_of
):
    before, after = tmp_path / "day", tmp_path / "archive"
    before.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        write_image(before / name, seed=seed)
    watched_once(model, before, output.folder)
    write_image(before / "a.png", seed=7, mtime=1_700_000_007)  # in its place
    assert dict(watched_once(model, before, output.folder)) == {"a.png": DONE, "b.png": UNCHANGED, "c.png": UNCHANGED}
    before.rename(after)
    os.utime(after / "b.png", (1_700_000_008, 1_700_000_008))  # as by a copy
    write_image(after / "c.png", seed=9, mtime=1_700_000_009)
    done = dict(watched_once(model, after, output.folder))
    assert done == {"a.png": UNCHANGED, "b.png": DONE, str(after / "c.png"): DONE}
    output.open()
    assert images_of() == [str(after / "c.png"), "a.png", "b.png", "c.png"]


@pytest.mark.parametrize("watched_first", [False, True])
def test_images_of_one_name_in_two_folders_are_two(model, tmp_path, write_image, watched_first):
    """`run` of an image beside the results, and a `watch` of another folder, would name two images alike."""
    (tmp_path / "day").mkdir()
    beside, within = write_image(tmp_path / "a.png", seed=1), write_image(tmp_path / "day" / "a.png", seed=2)

    def done(watched):
        output = Output(tmp_path / "out", print, watched=tmp_path / "day" if watched else None)
        worker = Worker(Models(model), output)
        if watched:
            output.open()
            assert (scan(tmp_path / "day", output.folder, known=output.known) == []) == bool(found)
            outcomes = list(watch.once(tmp_path / "day", worker, watch.Timing(), StopSignal()))
        else:
            outcomes = list(watch.run([beside], worker, StopSignal()))
        worker.close()
        output.close()
        return [(o.image, o.status, o.labels) for o in outcomes]

    found = []
    first, second = done(watched_first), done(not watched_first)
    others = [str(beside) if watched_first else str(within)]
    assert [image for image, _, _ in first + second] == ["a.png", *others]
    assert [status for _, status, _ in first + second] == [DONE, DONE]
    second_stem = f"{Path(others[0]).parent.name}-a"
    assert [labels for _, _, labels in first + second] == ["a.labels.tif", f"{second_stem}.labels.tif"]
    found = first + second
    again = done(watched_first) + done(not watched_first)
    assert again == [(image, UNCHANGED, labels) for image, _, labels in found]


def test_a_copy_beside_the_results_is_not_taken_for_an_image_of_the_watched_folder(model, tmp_path, write_image):
    (tmp_path / "day").mkdir()
    beside = write_image(tmp_path / "a.png")
    output = Output(tmp_path / "out", print)
    worker = Worker(Models(model), output)
    list(watch.run([beside], worker, StopSignal()))
    worker.close()
    output.close()
    write_image(tmp_path / "day" / "a.png")  # of the same size, time and bytes
    output = Output(tmp_path / "out", print, watched=tmp_path / "day")
    output.open()
    assert [source.image for source in scan(tmp_path / "day", output.folder, known=output.known)] == ["a.png"]
    output.close()


@pytest.fixture
def images_of(output):
    """The images that the ledger and the table of counts have, in order."""

    def images():
        with open(output.folder / "counts.csv", newline="") as file:
            in_table = [row["image"] for row in csv.DictReader(file)]
        assert sorted(in_table) == sorted(entry.image for entry in output.ledger.entries(DONE))
        return sorted(in_table)

    return images


def once(folder, work):
    outcomes = [(o.image, o.status) for o in watch.once(folder, work, watch.Timing(0, 0.01), StopSignal())]
    work.output.refresh_tables(now=True)
    return outcomes


def test_an_image_that_was_renamed_after_it_was_counted_is_counted_once(
    worker_with, output, tmp_path, write_image, images_of
):
    first, second = (write_image(tmp_path / f"A01_f{n}.png", seed=n) for n in (1, 2))
    once(tmp_path, worker_with(extras=("geojson",)))
    second.rename(tmp_path / "A01_f02.png")
    assert once(tmp_path, worker_with()) == [("A01_f1.png", UNCHANGED), ("A01_f02.png", DONE)]
    assert images_of() == ["A01_f02.png", "A01_f1.png"]
    names = {path.name for path in output.folder.glob("A01*")}
    suffixes = (".labels.tif", ".cells.csv", ".geojson")  # what it had before is made again
    assert names == {f"A01_{field}{suffix}" for field in ("f1", "f02") for suffix in suffixes}
    first.rename(tmp_path / "b.png")
    (tmp_path / "A01_f02.png").rename(first)
    assert [status for _, status in once(tmp_path, worker_with())] == [DONE, DONE]
    assert images_of() == ["A01_f1.png", "b.png"]


def test_images_that_are_merely_gone_stay_counted_and_two_of_the_same_bytes_are_two(
    work, tmp_path, write_image, images_of
):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, seed=1)
    write_image(tmp_path / "c.png", seed=2)
    once(tmp_path, work)
    assert images_of() == ["a.png", "b.png", "c.png"]
    (tmp_path / "c.png").unlink()  # as an archive takes it
    write_image(tmp_path / "d.png", seed=3)
    once(tmp_path, work)
    assert images_of() == ["a.png", "b.png", "c.png", "d.png"]
    write_image(tmp_path / "e.png", seed=1)  # a third copy
    once(tmp_path, work)
    assert images_of() == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_a_name_that_is_printed_otherwise_is_not_taken_for_gone(work, tmp_path, write_image, images_of):
    odd = tmp_path / "odd\nname.png"
    write_image(tmp_path / "a.png").rename(odd)
    once(tmp_path, work)
    write_image(tmp_path / "b.png")
    once(tmp_path, work)
    assert images_of() == ["b.png", "odd\\nname.png"]


def test_captures_of_the_same_bytes_are_two_though_they_are_removed_when_they_are_counted(
    work, tmp_path, write_image, images_of
):
    names = ["20260101T101112.123Z-000001.png", "20260101T101113.123Z-000002.png"]
    for name in names:
        path = write_image(tmp_path / name)
        assert work.process(source_of(path)).status == DONE
        path.unlink()
    work.output.refresh_tables(now=True)
    assert images_of() == names


def test_a_failure_does_not_take_the_place_of_a_result(work, worker_with, tmp_path, write_image, images_of):
    path = write_image(tmp_path / "a.png")
    once(tmp_path, work)
    path.rename(tmp_path / "b.png")
    assert once(tmp_path, worker_with(counting=Counting(channel="red"))) == [("b.png", FAILED)]
    assert images_of() == ["a.png"]
    assert [entry.image for entry in work.output.ledger.entries(FAILED)] == ["b.png"]


def test_rows_of_a_version_that_did_not_know_where_files_lie_are_known_by_their_names(work, tmp_path, write_image):
    paths = [write_image(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.png"))]
    for path in paths:
        work.process(source_of(path))
    ledger = work.output.ledger
    with ledger.transaction():
        for entry, image in zip(list(ledger.entries(DONE)), ("a.png", str(paths[1])), strict=True):
            ledger.remove(entry.image)
            ledger.put(dataclasses.replace(entry, image=image, place=None))
    for seed, path in enumerate(paths, 5):
        write_image(path, seed=seed, mtime=1_700_000_009)
    assert [o.image for o in watch.run([paths[0]], work, StopSignal())] == ["a.png"]
    assert work.process(source_of(paths[1])).image == str(paths[1])
    assert [entry.place for entry in ledger.entries(DONE)] == ["../a.png", "../b.png"]


def test_rows_of_a_version_that_named_images_by_their_whole_path_keep_their_names(work, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    work.process(source_of(path))
    ledger = work.output.ledger
    with ledger.transaction():
        (entry,) = ledger.entries(DONE)
        ledger.remove(entry.image)
        ledger.put(dataclasses.replace(entry, image=str(path)))
    expected = [(str(path), UNCHANGED)]
    assert [(o.image, o.status) for o in watch.run([path], work, StopSignal())] == expected
    assert [(o.image, o.status) for o in watch.once(tmp_path, work, watch.Timing(), StopSignal())] == expected
    write_image(path, seed=5, mtime=1_700_000_009)
    assert [(o.image, o.status) for o in watch.run([path], work, StopSignal())] == [(str(path), DONE)]
    assert [entry.image for entry in ledger.entries(DONE)] == [str(path)]


def test_a_name_is_found_by_indexes_alone(output):
    output.open()
    plans = []
    connection = output.ledger._connection
    connection.set_trace_callback(plans.append)
    output.ledger.places_of("../a.png", ("/x/a.png", "a.png"))
    list(output.ledger.entries_of(1, 2))
    output.ledger.places_of_bytes("00")
    connection.set_trace_callback(None)
    for query in plans:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert any("USING INDEX" in step for step in steps), query
        assert not any(step.startswith("SCAN") for step in steps), steps


def test_a_file_that_was_only_touched_is_the_same_for_settings_that_do_not_fit(
    work, worker_with, tmp_path, write_image
):
    path = write_image(tmp_path / "a.png")
    work.process(source_of(path))
    os.utime(path)
    touched = source_of(path)
    assert worker_with(counting=Counting(channel="red")).process(touched).reason.endswith("(its earlier result stays)")
    assert work.output.known["a.png"] == (touched.size, touched.mtime_ns)  # or a watch would try for ever


def test_extras_of_a_lost_ledger_are_made_anew_with_the_labels(work, worker_with, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    worker_with(extras=("geojson", "overlay")).process(source_of(path))
    out = work.output.folder
    before = {name: (out / name).read_bytes() for name in ("a.geojson", "a.overlay.jpg")}
    work.output.close()
    for file in out.glob("cellseg.sqlite*"):
        file.unlink()
    write_image(path, seed=9, mtime=1_700_000_009)
    assert work.process(source_of(path)).status == DONE
    assert all((out / name).read_bytes() != data for name, data in before.items())
    assert work.output.ledger.get("a.png").digests().keys() >= before.keys()


def test_extras_that_a_killed_process_left_are_known_for_ours(worker_with, tmp_path, write_image, monkeypatch):
    path = write_image(tmp_path / "a.png")
    work = worker_with(extras=("geojson",))
    worker_with().process(source_of(path))

    def killed(entry, *, former):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(work.output, "record", killed)
        with pytest.raises(SystemExit):
            work.process(source_of(path))
    assert (work.output.folder / "a.geojson").exists()
    write_image(path, seed=9, mtime=1_700_000_009)
    assert work.process(source_of(path)).status == DONE
    data = (work.output.folder / "a.geojson").read_bytes()
    assert work.output.ledger.get("a.png").digests()["a.geojson"] == hashlib.sha256(data).hexdigest()


@pytest.fixture
def in_doubt(work, tmp_path, write_image, monkeypatch):
    """Kill the work on an image as its files have their names and its row is not there yet."""

    def killed(entry, *, former):
        raise SystemExit

    def kill(name, seed):
        path = write_image(tmp_path / name, seed=seed, mtime=1_700_000_000 + seed)
        with monkeypatch.context() as patch:
            patch.setattr(work.output, "record", killed)
            with pytest.raises(SystemExit):
                work.process(source_of(path))
        work.output.close()
        return path

    return kill


def test_what_is_announced_for_one_image_is_not_removed_once_it_is_anothers(work, in_doubt, tmp_path, write_image):
    in_doubt("a.png", 1).rename(tmp_path / "a.PNG")
    assert work.process(source_of(tmp_path / "a.PNG")).status == DONE
    out = work.output.folder
    before = {name: (out / name).read_bytes() for name in ("a.labels.tif", "a.cells.csv")}
    (tmp_path / "a.png").write_text("no image")
    assert work.process(source_of(tmp_path / "a.png")).status == FAILED
    assert {name: (out / name).read_bytes() for name in before} == before


def test_a_result_in_doubt_does_not_excuse_a_failure(work, worker_with, in_doubt, tmp_path):
    assert work.process(source_of(in_doubt("a.png", 1))).status == DONE
    path = in_doubt("a.png", 2)
    outcome = worker_with(counting=Counting(channel="red")).process(source_of(path))
    assert outcome.status == FAILED
    assert "its earlier result stays" not in outcome.reason
    assert not list(work.output.folder.glob("a.*"))


def test_doubt_ends_when_the_files_are_as_they_were_and_when_there_is_nothing_to_doubt(
    work, in_doubt, tmp_path, images_of, write_image
):
    output = work.output
    assert work.process(source_of(write_image(tmp_path / "a.png", seed=1))).status == DONE
    output.ledger.announce("a.png", ["a.labels.tif", "a.cells.csv"])  # and then it is killed
    (tmp_path / "a.png").unlink()  # as an archive takes it
    output.close()
    output.open()
    assert output.ledger.in_doubt() == []
    assert images_of() == ["a.png"]
    gone = in_doubt("b.png", 2)
    gone.unlink()
    output.close()
    watching = Output(output.folder, print, watched=tmp_path)
    watching.open()
    assert watching.ledger.in_doubt() == []
    watching.close()
    output.open()
    output.ledger.announce("a.png", ["a.labels.tif", "a.cells.csv", "a.geojson"])
    (output.folder / "a.geojson").write_text("of the next labels")
    output.close()
    output.open()
    assert output.ledger.in_doubt() == ["a.png"]


def test_what_cannot_be_looked_at_is_not_gone(work, tmp_path, write_image, images_of, monkeypatch):
    write_image(tmp_path / "a.png")
    once(tmp_path, work)
    plain = os.lstat

    def lstat(path, **options):
        if str(path).endswith("a.png"):
            raise OSError(5, "Input/output error")
        return plain(path, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(os.path, "lexists", lambda path: not str(path).endswith("a.png") and Path(path).exists())
    write_image(tmp_path / "b.png")
    assert work.process(source_of(tmp_path / "b.png")).status == DONE
    work.output.refresh_tables(now=True)
    assert images_of() == ["a.png", "b.png"]


def test_nothing_is_gone_because_the_results_were_moved(model, tmp_path, write_image):
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png")
    for out in ("out", "elsewhere/out"):
        output = Output(tmp_path / out, print, watched=tmp_path / "images")
        worker = Worker(Models(model), output)
        once(tmp_path / "images", worker)
        worker.close()
        output.close()
        if out == "out":
            (tmp_path / "elsewhere").mkdir()
            output.folder.rename(tmp_path / "elsewhere" / "out")
            write_image(tmp_path / "images" / "b.png")
    output.open()
    assert [entry.image for entry in output.ledger.entries(DONE)] == ["a.png", "b.png"]
    output.close()


def test_an_image_keeps_its_stem(work, tmp_path, write_image):
    for seed, name in enumerate(("a.png", "a.tif")):
        work.process(source_of(write_image(tmp_path / name, seed=seed)))
    assert work.output.ledger.get("a.tif").stem == "a.tif"
    (tmp_path / "a.png").rename(tmp_path / "z.png")
    work.process(source_of(tmp_path / "z.png"))
    write_image(tmp_path / "a.tif", seed=5, mtime=1_700_000_005)
    assert work.process(source_of(tmp_path / "a.tif")).labels == "a.tif.labels.tif"
    assert {path.name.split(".labels")[0] for path in work.output.folder.glob("*.labels.tif")} == {"a.tif", "z"}
