"""Whose the files beside an image's results are, what of an earlier result stays, and that one file has one row."""

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest

from cellseg_device import files, watch, worker
from cellseg_device.counting import Counting, Length
from cellseg_device.errors import NOT_OURS
from cellseg_device.ledger import DONE, FAILED
from cellseg_device.region import Region
from cellseg_device.scan import scan, source_at
from cellseg_device.wake import Alarm
from cellseg_device.worker import UNCHANGED


def source_of(path):
    return source_at(path, path.name)


def test_what_an_image_has_from_before_is_made_anew_beside_what_is_wanted(work, tmp_path, write_image):
    source = source_of(write_image(tmp_path / "a.png"))
    work.extras = ("overlay", "rois")
    work.process(source)
    out = work.output.folder
    first = {path.name: path.read_bytes() for path in out.glob("a.*")}
    (out / "a.rois.zip").unlink()  # as somebody may, who does not want it
    work.extras = ("geojson",)
    work.counting = Counting(min_diameter=Length(1000, "px"))
    work.process(source)
    second = {path.name: path.read_bytes() for path in out.glob("a.*")}
    assert {*second} == {"a.labels.tif", "a.cells.csv", "a.overlay.jpg", "a.geojson"}
    assert second["a.overlay.jpg"] != first["a.overlay.jpg"]  # no cell is left


def test_the_folder_is_not_kept_from_others_while_files_are_encoded(work, tmp_path, write_image, monkeypatch):
    encode, begun = worker.overlay.encode, []

    def encoded(picture):
        with files.turn(work.output.folder):
            begun.append(picture.shape)
        return encode(picture)

    monkeypatch.setattr(files, "_TURN_PATIENCE_S", 0.2)
    monkeypatch.setattr(worker.overlay, "encode", encoded)
    work.extras = ("overlay",)
    assert work.process(source_of(write_image(tmp_path / "a.png"))).status == DONE
    assert len(begun) == 1


def test_what_an_export_makes_meanwhile_is_of_the_new_labels(work, tmp_path, write_image, monkeypatch):
    source = source_of(write_image(tmp_path / "a.png"))
    work.process(source)
    out, turn = work.output.folder, files.turn

    def late(folder):
        monkeypatch.setattr(files, "turn", turn)
        (out / "a.geojson").write_bytes(b"of the former labels")
        work.output.ledger.add_files(work.output.ledger.get("a.png"), {"a.geojson": "its digest"})
        return turn(folder)

    monkeypatch.setattr(files, "turn", late)
    assert work.process(source).status == DONE
    data = (out / "a.geojson").read_bytes()
    assert work.output.ledger.get("a.png").digests()["a.geojson"] == hashlib.sha256(data).hexdigest()
    assert b"former" not in data


def test_files_of_somebody_else_are_left_alone(work, tmp_path, write_image):
    source = source_of(write_image(tmp_path / "a.png"))
    work.output.open()
    theirs = {name: work.output.folder / name for name in ("a.labels.tif", "a.geojson", "a.overlay.jpg")}
    for path in theirs.values():
        path.write_text("of somebody")
    refused = work.process(source)
    assert (refused.status, refused.reason) == (FAILED, NOT_OURS)
    assert work.output.ledger.known(work.settings) == []  # so it is tried again at the next start
    theirs.pop("a.labels.tif").unlink()
    work.extras = ("overlay",)
    assert work.process(source).reason == NOT_OURS
    work.extras = ()
    assert work.process(source).status == DONE
    work.extras = ("geojson",)
    assert work.process(source).reason == f"{NOT_OURS} (its earlier result stays)"
    work.extras = ()
    assert work.process(dataclasses.replace(source, size=source.size + 1)).status == DONE
    source.path.write_text("no image")
    assert work.process(source_of(source.path)).status == FAILED
    assert not (work.output.folder / "a.labels.tif").exists()
    assert {path.read_text() for path in theirs.values()} == {"of somebody"}


@pytest.mark.parametrize(
    "counting",
    [Counting(channel="red"), Counting(diameter=Length(9, "um")), Counting(region=Region("circle", (-9, 0, 1)))],
)
def test_settings_that_do_not_fit_leave_an_earlier_result_alone(work, tmp_path, write_image, counting):
    source = source_of(write_image(tmp_path / "a.png"))
    done = work.process(source)
    before = {path.name: path.read_bytes() for path in work.output.folder.glob("[ac]*.*[fv]")}
    work.counting = counting
    outcome = work.process(source)
    assert outcome.status == FAILED
    assert outcome.reason.endswith("(its earlier result stays)")
    assert {path.name: path.read_bytes() for path in work.output.folder.glob("[ac]*.*[fv]")} == before
    assert work.output.ledger.get("a.png").counts.count == done.cells
    (work.output.folder / "a.labels.tif").unlink()
    assert work.process(source).status == FAILED
    assert work.output.ledger.get("a.png").status == FAILED


def test_one_file_has_one_row_whoever_names_it(work, tmp_path, write_image):
    """`run` names an image by its path, `watch` by its place in the folder."""
    first, second = (write_image(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.png")))
    work.output.open()
    assert [o.status for o in watch.run([first], work, Alarm())] == [DONE]
    outcomes = list(watch.once(tmp_path, work, watch.Timing(), Alarm()))
    assert [(Path(o.image).name, o.status) for o in outcomes] == [("a.png", UNCHANGED), ("b.png", DONE)]
    work.extras = ("overlay",)
    assert [(o.image, o.status) for o in watch.run([second], work, Alarm())] == [("b.png", DONE)]
    assert [entry.image for entry in work.output.ledger.entries(DONE)] == [str(first), "b.png"]
    work.output.close()
    work.output.watched = tmp_path
    work.output.open()
    assert scan(tmp_path, work.output.folder, known=work.output.known) == []
    write_image(first, seed=5, mtime=1_700_000_005)
    write_image(second, seed=6, mtime=1_700_000_006)
    assert [o.status for o in watch.once(tmp_path, work, watch.Timing(), Alarm())] == [DONE, DONE]
    write_image(second, seed=7, mtime=1_700_000_007)
    assert [o.status for o in watch.run([second], work, Alarm())] == [DONE]  # where the results usually lie
    assert {entry.image for entry in work.output.ledger.entries(DONE)} == {str(first), "b.png"}
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "b.png"  # of the same name, size and time
    elsewhere.write_bytes(second.read_bytes()[:-1] + b"?")
    os.utime(elsewhere, ns=(0, second.stat().st_mtime_ns))
    assert [o.image for o in watch.run([elsewhere], work, Alarm())] == [str(elsewhere)]


def test_a_file_that_was_only_touched_is_the_same_for_settings_that_do_not_fit(work, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    work.process(source_of(path))
    os.utime(path)
    work.counting = Counting(channel="red")
    touched = source_of(path)
    assert work.process(touched).reason.endswith("(its earlier result stays)")
    assert work.output.known["a.png"] == (touched.size, touched.mtime_ns)  # or a watch would try for ever


def test_extras_of_a_lost_ledger_are_made_anew_with_the_labels(work, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    work.extras = ("geojson", "overlay")
    work.process(source_of(path))
    out = work.output.folder
    before = {name: (out / name).read_bytes() for name in ("a.geojson", "a.overlay.jpg")}
    work.output.close()
    for file in out.glob("cellseg.sqlite*"):
        file.unlink()
    work.extras = ()
    write_image(path, seed=9, mtime=1_700_000_009)
    assert work.process(source_of(path)).status == DONE
    assert all((out / name).read_bytes() != data for name, data in before.items())
    assert work.output.ledger.get("a.png").digests().keys() >= before.keys()


def test_extras_that_a_killed_process_left_are_known_for_ours(work, tmp_path, write_image, monkeypatch):
    path = write_image(tmp_path / "a.png")
    work.process(source_of(path))
    work.extras = ("geojson",)

    def killed(entry):
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
