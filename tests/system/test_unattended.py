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
import psutil
import pytest

from cellseg_device.cells.counts import Counts
from cellseg_device.image.sandbox import decode_here
from cellseg_device.model import card
from cellseg_device.pipeline.models import Models
from cellseg_device.results import image_files
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.folder import Output
from cellseg_device.watching import watch
from cellseg_device.watching.scan import scan
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker

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
    assert watch.complaints == []
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
    assert (watch.stdout, watch.complaints) == ("", [])
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
from cellseg_device.watching import wake
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
        (line,) = (line for line in process.stderr.read().splitlines() if line.startswith("warning: "))
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
    refused, replaced = watch.complaints
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
    """The outcomes of a watch by this process, until there are so many, with this decoder; and its output folder."""
    output = Output(tmp_path / "out", print)

    def outcomes(folder, number, decode):
        stop, found = StopSignal(), []
        worker = Worker(Models(model), output, decode=decode)
        for outcome in watch.watch(folder, worker, watch.Timing(0.1, 0.05), stop):
            found.append(outcome)
            if len(found) == number:
                stop.stop()
        worker.close()
        return found

    yield output, outcomes
    output.close()


def test_a_file_overwritten_while_it_is_read_is_counted_as_it_is_in_the_end(work, tmp_path, write_image, table):
    output, outcomes = work
    folder = tmp_path / "images"
    folder.mkdir()
    path = write_image(folder / "a.png", count=2)

    def decode(path, budget):
        found = decode_here(path, budget)
        if path.stat().st_mtime == 1_700_000_000:
            write_image(path, count=30, height=200, mtime=1_700_000_009)
        return found

    assert [outcome.image for outcome in outcomes(folder, 2, decode)] == ["a.png", "a.png"]
    (row,) = table(output.folder / "counts.csv")
    assert row["height_px"] == "200"
    assert output.ledger.get("a.png").mtime_ns == path.stat().st_mtime_ns


def test_a_clock_that_jumps_costs_and_repeats_nothing(work, tmp_path, write_image, monkeypatch, table):
    output, outcomes = work
    folder = tmp_path / "images"
    folder.mkdir()
    plain, jumps = time.time, [0.0, 3e8, -9e8, 1e9, -1e6]
    number = [0]

    def jumping():
        return plain() + jumps[number[0] % len(jumps)]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: round(jumping() * 1e9))

    def decode(path, budget):
        number[0] += 1
        return decode_here(path, budget)

    times = [1_700_000_000, None, 4_000_000_000, 1, None, 1_600_000_000]
    for index, mtime in enumerate(times):
        write_image(folder / f"{index}.png", seed=index, mtime=mtime)
    assert sorted(outcome.image for outcome in outcomes(folder, 6, decode)) == [f"{index}.png" for index in range(6)]
    assert len(table(output.folder / "counts.csv")) == 6
    assert scan(folder, output.folder, known=output.known) == []


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
    for path in (tmp_path / "made").iterdir():
        path.rename(tmp_path / "images" / path.name)
    watch.until(lambda: watch.stdout.count("\n") >= number, 60 + number / 20)
    assert watch.stop() == 0
    assert watch.complaints == []
    rows = [row["image"] for row in table(tmp_path / "out" / "counts.csv")]
    assert sorted(rows) == [f"{index:06}.png" for index in range(number)]


# What no start can do without: see the files of the folder and of its results, and read the ledger
LOOKS = """
import os, sqlite3, sys, time
for folder in sys.argv[1:]:
    for entry in os.scandir(folder):
        entry.stat()
sqlite3.connect(f"file:{folder}/cellseg.sqlite?mode=ro", uri=True).execute("SELECT * FROM images").fetchall()
print(time.process_time())
"""


@pytest.mark.slow
def test_many_done_before_do_not_hold_up_the_start(watching, tmp_path, write_image):
    """The time of the processor that they add until the first result, over that of just looking at them."""
    folders = [done_before(tmp_path / str(number), number) for number in (10, 20_000)]

    def first_result(images, out):
        write_image(images / "new.png", mtime=None)
        watch = watching(images, "--out", out, "--settle", "0", "--poll", "1h")
        watch.until_done("new.png")
        process = psutil.Process(watch.process.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        assert watch.stop() == 0
        assert watch.stdout.count("\n") == 1
        return sum(each.user + each.system for each in times)

    def looking(images, out):
        done = subprocess.run([sys.executable, "-c", LOOKS, images, out], capture_output=True, text=True, check=True)
        return float(done.stdout)

    rounds = [[measure(*paths) for measure in (first_result, looking) for paths in folders] for _ in range(3)]
    few, many, looks_at_few, looks_at_many = np.min(rounds, axis=0)
    ratio = (many - few) / (looks_at_many - looks_at_few)
    print(f"20,000 done before cost {many - few:.2f} s of the processor, {ratio:.1f} times as much as looking at them")
    assert ratio < 3


def done_before(folder, number):
    """Make a folder of so many images and one of their results, both without content: the two paths."""
    images, out = folder / "images", folder / "out"
    images.mkdir(parents=True)
    for index in range(number):
        (images / f"{index:06}.png").touch()
    output = Output(out, print)
    output.open()
    counts = Counts(**{name: "" if stored.sql.startswith("TEXT") else 0 for name, stored in Counts.storage().items()})
    rest = {"reason": None, "model": "nuclei", "model_sha256": "1" * 64, "recorded_at": "2026-01-01T00:00:00Z"}
    with output.ledger.transaction():
        for source in scan(images, out):
            stem = source.path.stem
            files = f'{{"{stem}.labels.tif": "{"2" * 64}", "{stem}.cells.csv": "{"3" * 64}"}}'
            facts = {"size": 0, "mtime_ns": source.mtime_ns, "sha256": "0" * 64, "status": DONE, "stem": stem}
            entry = Entry(source.image, **facts, **rest, total_ms=1, settings="{}", files=files, counts=counts)
            output.ledger.put(entry)
            for suffix in image_files.ALWAYS:
                (out / (stem + suffix)).touch()
    output.close()
    output.open()  # makes the tables, as it does once after a kill
    output.close()
    return images, out
