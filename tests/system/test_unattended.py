"""`watch` left alone: folders below, network drives, new models, clocks, crowds of files, a second watch."""

import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from cellseg_device import card, results, watch
from cellseg_device.counting import Counts
from cellseg_device.decoder import decode_here
from cellseg_device.ledger import DONE, Entry
from cellseg_device.output import Output
from cellseg_device.scan import scan
from cellseg_device.wake import Alarm
from cellseg_device.worker import Worker

FAST = ("--settle", "0.2", "--poll", "0.2")


def test_folders_below_are_watched(watching, tmp_path, write_image, check_results, table):
    (tmp_path / "day 1" / "well").mkdir(parents=True)
    write_image(tmp_path / "a.png", seed=1)
    write_image(tmp_path / "day 1" / "a.png", seed=2)
    write_image(tmp_path / "day 1" / "well" / "a.png", seed=3)
    (tmp_path / "day 1" / "again").symlink_to(tmp_path)
    watch = watching(tmp_path, "--recursive", "--settle", "0.2", "--poll", "30")
    watch.until_done("a.png", "day 1/a.png", "day 1/well/a.png")
    (tmp_path / "day 2").mkdir()
    write_image(tmp_path / "day 2" / "a.png", seed=4, mtime=None)
    watch.until_done("day 2/a.png")
    (tmp_path / ".aside" / "day 3").mkdir(parents=True)
    write_image(tmp_path / ".aside" / "day 3" / "b.png", seed=5)
    (tmp_path / ".aside" / "day 3").rename(tmp_path / "day 3")
    watch.until_done("day 3/b.png")
    assert watch.stop() == 0
    assert watch.stderr == ""
    out = tmp_path / "cellseg-results"
    check_results(out, ["a.png", "day 1/a.png", "day 1/well/a.png", "day 2/a.png", "day 3/b.png"])
    assert {row["labels"] for row in table(out / "counts.csv")} == {
        "a.labels.tif",
        "day 1-a.labels.tif",
        "day 1-well-a.labels.tif",
        "day 2-a.labels.tif",
        "day 3-b.labels.tif",
    }


def test_old_overlays_go_from_an_idle_watch(device, watching, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    out = tmp_path / "cellseg-results"
    assert device("watch", tmp_path, "--once", "--overlay").returncode == 0
    with sqlite3.connect(out / "cellseg.sqlite") as connection:
        connection.execute("UPDATE images SET recorded_at = '2026-01-01T00:00:00Z'")
    connection.close()
    watch = watching(tmp_path, "--retain", "1d", "--poll", "0.2")
    watch.until(lambda: not (out / "a.overlay.jpg").exists())
    assert watch.stop() == 0
    assert (watch.stdout, watch.stderr) == ("", "")
    assert (out / "a.labels.tif").exists()


def test_once_goes_into_folders_below_and_does_nothing_twice(device, tmp_path, write_image, check_results):
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "sub" / "a.png")
    write_image(tmp_path / "a.png", seed=1)
    first = device("watch", tmp_path, "--once", "--recursive", "--overlay")
    assert "2 done, 0 failed;" in first.stdout
    second = device("watch", tmp_path, "--once", "--recursive", "--overlay")
    assert "0 done, 0 failed, 2 done before" in second.stdout
    check_results(tmp_path / "cellseg-results", ["a.png", "sub/a.png"])


# The command on a folder that claims to lie on a network drive
ON_NETWORK = """
import sys
from cellseg_device import wake
from cellseg_device.cli import main
wake.file_system = lambda folder: "cifs"
main(sys.argv[1:])
"""


def test_a_network_drive_is_polled(environment, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    command = [sys.executable, "-c", ON_NETWORK, "watch", str(tmp_path), *FAST]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline().startswith("a.png")
        write_image(tmp_path / "b.png", mtime=None)
        assert process.stdout.readline().startswith("b.png")
        process.terminate()
        (line,) = process.stderr.read().splitlines()
    assert line == f"warning: {tmp_path} is a cifs drive, which gives no file events: looking into it regularly"


def test_a_model_that_is_replaced_is_taken_up_and_a_bad_one_is_not(
    watching, tmp_path, write_image, model_path, table, check_results
):
    images, model = tmp_path / "images", tmp_path / "mine.tflite"
    images.mkdir()
    shutil.copyfile(model_path, model)
    write_image(images / "a.png")
    watch = watching(images, "--model", model, *FAST)
    watch.until_done("a.png")
    data = model_path.read_bytes()
    model.write_bytes(data[: len(data) // 2])  # half a copy, in place
    os.utime(model, (1_700_000_000, 1_700_000_000))
    write_image(images / "b.png")
    watch.until_done("b.png")
    other = card.attach(data, dataclasses.replace(card.read_from(data), name="other"))
    model.write_bytes(other)
    os.utime(model, (1_700_000_001, 1_700_000_001))
    write_image(images / "c.png")
    watch.until_done("c.png")
    assert watch.stop() == 0
    refused, replaced = watch.stderr.splitlines()
    assert refused.endswith("counting goes on with the model as it was")
    assert f"{model} was replaced: counting goes on with it (other, " in replaced
    out = images / "cellseg-results"
    check_results(out, ["a.png", "b.png", "c.png"])
    assert [row["model"] for row in table(out / "counts.csv")] == ["nuclei", "nuclei", "other"]


def test_of_two_that_start_together_one_is_refused(watching, tmp_path, write_image, check_results):
    images = [f"{number:02}.png" for number in range(12)]
    for number, name in enumerate(images):
        write_image(tmp_path / name, seed=number)
    watches = [watching(tmp_path, *FAST) for _ in range(2)]
    end = time.monotonic() + 30
    while all(w.process.poll() is None for w in watches):
        assert time.monotonic() < end
        time.sleep(0.02)
    (refused,) = [w for w in watches if w.process.poll() is not None]
    (going,) = [w for w in watches if w is not refused]
    assert refused.process.returncode == 2
    assert "is in use by another cellseg-device: stop that one, or use another --out" in refused.stderr
    assert refused.stdout == ""
    going.until_done(*images)
    assert going.stop() == 0
    check_results(tmp_path / "cellseg-results", images)


@pytest.fixture
def work(model, tmp_path):
    """A worker of this process, and the outcomes of a watch of it until there are so many."""
    output = Output(tmp_path / "out", print)
    worker = Worker(model, output)

    def outcomes(folder, number):
        alarm, found = Alarm(), []
        for outcome in watch.watch(folder, worker, watch.Timing(0.1, 0.05), alarm):
            found.append(outcome)
            if len(found) == number:
                alarm.stop()
        return found

    yield worker, outcomes
    output.close()


def test_a_file_overwritten_while_it_is_read_is_counted_as_it_is_in_the_end(work, tmp_path, write_image, table):
    worker, outcomes = work
    folder = tmp_path / "images"
    folder.mkdir()
    path = write_image(folder / "a.png", count=2)

    def decode(path):
        found = decode_here(path)
        if path.stat().st_mtime == 1_700_000_000:
            write_image(path, count=30, height=200, mtime=1_700_000_009)
        return found

    worker._decode = decode
    assert [outcome.image for outcome in outcomes(folder, 2)] == ["a.png", "a.png"]
    (row,) = table(worker.output.folder / "counts.csv")
    assert row["height_px"] == "200"
    assert worker.output.ledger.get("a.png").mtime_ns == path.stat().st_mtime_ns


def test_a_clock_that_jumps_costs_and_repeats_nothing(work, tmp_path, write_image, monkeypatch, table):
    worker, outcomes = work
    folder = tmp_path / "images"
    folder.mkdir()
    plain, jumps = time.time, [0.0, 3e8, -9e8, 1e9, -1e6]
    number = [0]

    def jumping():
        return plain() + jumps[number[0] % len(jumps)]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: round(jumping() * 1e9))

    def decode(path):
        number[0] += 1
        return decode_here(path)

    worker._decode = decode
    times = [1_700_000_000, None, 4_000_000_000, 1, None, 1_600_000_000]
    for index, mtime in enumerate(times):
        write_image(folder / f"{index}.png", seed=index, mtime=mtime)
    assert sorted(outcome.image for outcome in outcomes(folder, 6)) == [f"{index}.png" for index in range(6)]
    assert len(table(worker.output.folder / "counts.csv")) == 6
    assert scan(folder, worker.output.folder, known=worker.output.known) == []


def tiny(folder, number):
    """Make so many images of 16 × 16 px at once."""
    data = cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes()
    folder.mkdir()
    for index in range(number):
        (folder / f"{index:06}.png").write_bytes(data)


@pytest.mark.slow
def test_a_thousand_files_at_once_are_done_once_each(watching, tmp_path, table):
    number = int(os.environ.get("CELLSEG_CROWD", "1000"))
    tiny(tmp_path / "made", number)
    (tmp_path / "images").mkdir()
    watch = watching(tmp_path / "images", "--out", tmp_path / "out", *FAST)
    time.sleep(1)
    start = time.monotonic()
    for path in (tmp_path / "made").iterdir():
        path.rename(tmp_path / "images" / path.name)
    watch.until(lambda: watch.stdout.count("\n") >= number, 60 + number / 20)
    print(f"{number} in {time.monotonic() - start:.1f} s")
    assert watch.stop() == 0
    assert watch.stderr == ""
    rows = [row["image"] for row in table(tmp_path / "out" / "counts.csv")]
    assert sorted(rows) == [f"{index:06}.png" for index in range(number)]


@pytest.mark.slow
def test_a_hundred_thousand_done_before_do_not_hold_up_the_start(watching, tmp_path, write_image):
    images, number = tmp_path / "images", 100_000
    images.mkdir()
    output = Output(tmp_path / "out", print)
    output.open()
    counts = Counts(**{field.name: 0 for field in dataclasses.fields(Counts) if field.name != "flags"}, flags="")
    rest = {"reason": None, "model": "nuclei", "model_sha256": "1" * 64, "recorded_at": "2026-01-01T00:00:00Z"}
    for index in range(number):
        path = images / f"{index:06}.png"
        path.touch()
    with output.ledger.transaction():
        for source in scan(images, output.folder):
            stem = source.path.stem
            files = f'{{"{stem}.labels.tif": "{"2" * 64}", "{stem}.cells.csv": "{"3" * 64}"}}'
            facts = {"size": 0, "mtime_ns": source.mtime_ns, "sha256": "0" * 64, "status": DONE, "stem": stem}
            entry = Entry(source.image, **facts, **rest, total_ms=1, settings="{}", files=files, counts=counts)
            output.ledger.put(entry)
            for suffix in results.ALWAYS:
                (output.folder / (stem + suffix)).touch()
    output.close()
    output.open()  # makes the tables, as it does once after a kill
    output.close()
    write_image(images / "new.png")
    seconds = []
    for attempt in range(3):
        os.utime(images / "new.png", (1_700_000_000 + attempt,) * 2)
        start = time.monotonic()
        watch = watching(images, "--out", tmp_path / "out", *FAST)
        watch.until_done("new.png")
        seconds.append(time.monotonic() - start)
        assert watch.stop() == 0
        assert watch.stdout.count("\n") == 1
    print(f"with {number} done before the first result came after {min(seconds):.2f} s")
    assert min(seconds) < 4
