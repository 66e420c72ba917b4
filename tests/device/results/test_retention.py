"""What goes after a while, and all that never does."""

import dataclasses
import errno
import hashlib
import os
import time

import pytest

from cellseg_device.image.source import source_at
from cellseg_device.pipeline.models import Models
from cellseg_device.results.folder import Output
from cellseg_device.results.retention import Retention
from cellseg_device.results.tables import utc
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.watch import Batch
from cellseg_device.watching.worker import Worker

CAPTURE = "20260101T101112.123Z-000001.png"
DAY_S = 86400.0


@pytest.fixture
def output(tmp_path, model, write_image, warnings):
    """Results of a capture and of two images, recorded long ago, the second of them without an overlay."""
    out = tmp_path / "out"
    (out / "captures").mkdir(parents=True)
    output = Output(out, warnings.append)
    worker = Worker(Models(model), output, extras=["overlay"])
    assert worker.process(source_at(write_image(out / "captures" / CAPTURE, seed=1), CAPTURE)).status == "done"
    assert worker.process(source_at(write_image(tmp_path / "a.png", seed=2), "a.png")).status == "done"
    worker.close()
    worker = Worker(Models(model), output)
    assert worker.process(source_at(write_image(tmp_path / "b.png", seed=3), "b.png")).status == "done"
    for image in (CAPTURE, "a.png", "b.png"):
        output.record(dataclasses.replace(output.ledger.get(image), recorded_at="2026-01-01T00:00:00Z"))
    worker.close()
    yield output
    output.close()


def names(output):
    return {str(path.relative_to(output.folder)) for path in output.folder.rglob("*") if path.is_file()}


def test_old_overlays_and_captures_go_and_all_else_stays(output, warnings):
    before = names(output)
    assert Retention(output, 30 * DAY_S).tidy() == 3
    stem = CAPTURE.removesuffix(".png")
    assert before - names(output) == {"a.overlay.jpg", f"{stem}.overlay.jpg", f"captures/{CAPTURE}"}
    assert set(output.ledger.get("a.png").digests()) == {"a.labels.tif", "a.cells.csv"}
    assert Retention(output, 30 * DAY_S).tidy() == 0
    assert warnings == []


def test_what_would_go_at_once_is_not_made_of_an_earlier_result(output, model):
    """Else each start of a watch with an overlay in its settings would make those that have gone."""
    path = output.folder.parent / "b.png"
    for days, made in ((30, ("b.geojson",)), (3650, ("b.overlay.jpg", "b.numbers.jpg"))):
        asked = ["overlay", "numbers", "geojson"]
        worker = Worker(Models(model), output, extras=asked, asked=asked, retention=Retention(output, days * DAY_S))
        source = source_at(path, "b.png")
        assert worker.with_extras(worker.former(source, strict=False), source).made == made
        worker.close()
    assert Retention(output, 30 * DAY_S).tidy() == 5
    assert not list(output.folder.glob("*.jpg"))


def test_what_is_young_enough_stays(output):
    before = names(output)
    assert Retention(output, 3650 * DAY_S).tidy() == 0
    assert names(output) == before


def test_files_of_others_stay(output):
    kept = output.folder / "a.overlay.jpg"
    kept.write_bytes(kept.read_bytes() + b"drawn over")
    capture = output.folder / "captures" / CAPTURE
    ours = capture.read_bytes()
    capture.write_bytes(ours[:-1])
    others = {"b.overlay.jpg", "mine.overlay.jpg", "captures/a.png", "captures/20260101T101112.123Z-000002.png"}
    for name in others:
        (output.folder / name).write_bytes(ours)
    # A name that the ledger knows, in a folder that is not where captures of that name lie
    (output.folder / "captures" / "b.png").write_bytes((output.folder.parent / "b.png").read_bytes())
    before = names(output)
    assert Retention(output, DAY_S).tidy() == 1
    assert before - names(output) == {f"{CAPTURE.removesuffix('.png')}.overlay.jpg"}


def test_a_link_is_not_followed(output, tmp_path):
    overlay = output.folder / "a.overlay.jpg"
    overlay.rename(tmp_path / "elsewhere.jpg")
    overlay.symlink_to(tmp_path / "elsewhere.jpg")
    Retention(output, DAY_S).tidy()
    assert overlay.is_symlink()
    assert (tmp_path / "elsewhere.jpg").exists()


def test_without_a_ledger_nothing_goes(output, warnings):
    output.close()
    for path in output.folder.glob("cellseg.sqlite*"):
        path.unlink()
    retention = Retention(output, DAY_S)
    assert retention.tidy() == 0  # not open
    output.open()
    before = names(output)
    assert retention.tidy() == 0
    assert names(output) == before


def test_what_was_taken_before_the_clock_was_set_is_not_old_at_once(output, monkeypatch):
    """As on a Raspberry Pi, which starts where it was switched off and learns the time from the network."""
    now_ns = time.time_ns()
    monkeypatch.setattr("cellseg_device.results.retention.time.time_ns", lambda: now_ns)
    for image in (CAPTURE, "a.png"):
        output.record(dataclasses.replace(output.ledger.get(image), recorded_at=utc(now_ns)))
    retention = Retention(output, DAY_S)
    now_ns += round(60 * DAY_S * 1e9)
    assert retention.tidy() == 0
    monotonic_ns = time.monotonic_ns() + round(DAY_S * 1e9)  # then they have been kept for long enough
    monkeypatch.setattr("cellseg_device.results.retention.time.monotonic_ns", lambda: monotonic_ns)
    monkeypatch.setattr("cellseg_device.results.retention.time.monotonic", lambda: monotonic_ns * 1e-9)
    assert retention.tidy() == 3


def test_it_looks_once_an_hour(output, monkeypatch):
    clock = [1e6]
    monkeypatch.setattr("cellseg_device.results.retention.time.monotonic", lambda: clock[0])
    retention = Retention(output, DAY_S)
    assert retention.tidy() == 3
    overlay = b"another"
    (output.folder / "a.overlay.jpg").write_bytes(overlay)
    entry = output.ledger.get("a.png")
    files = f'{{"a.overlay.jpg": "{hashlib.sha256(overlay).hexdigest()}"}}'
    output.record(dataclasses.replace(entry, files=files))
    clock[0] += 3500
    assert retention.tidy() == 0
    clock[0] += 200
    assert retention.tidy() == 1


def test_a_fault_of_the_disk_is_reported_and_the_work_goes_on(output, monkeypatch, warnings):
    def unlink(*arguments, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", unlink)
    assert Retention(output, DAY_S).tidy() == 0
    assert warnings == ["old overlays and captures cannot be removed (Read-only file system): trying later"]


def test_a_watch_that_waits_for_room_makes_some(output, model, tmp_path, write_image, monkeypatch):
    def check_room():
        if (output.folder / "a.overlay.jpg").exists():
            raise OSError(errno.ENOSPC, "less than 1 GB is free")

    monkeypatch.setattr(output, "check_room", check_room)
    monkeypatch.setattr(StopSignal, "sleep", lambda _self, _seconds: None)
    source = source_at(write_image(tmp_path / "c.png", seed=4), "c.png")
    worker = Worker(Models(model), output, retention=Retention(output, 30 * DAY_S))
    batch = Batch(worker, StopSignal())
    assert list(batch.work([source])) == []
    assert [outcome.status for outcome in batch.work([source])] == ["done"]
    worker.close()


def test_a_folder_with_the_name_of_an_overlay_holds_up_nothing(output, warnings):
    overlay = output.folder / f"{CAPTURE.removesuffix('.png')}.overlay.jpg"
    overlay.unlink()
    overlay.mkdir()
    assert Retention(output, 30 * DAY_S).tidy() == 2
    assert overlay.is_dir()
    assert warnings == []
