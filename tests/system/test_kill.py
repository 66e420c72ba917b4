"""kill -9 at random moments, and a restart: nothing lost, nothing half-written, nothing counted twice."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
import tifffile

IMAGES = 40
KILLS = 50


def contents(out):
    """All result files by name; of the ledger and the tables, what does not depend on the time and the order."""
    found = {path.name: path.read_bytes() for path in out.iterdir() if "sqlite" not in path.name}
    found["counts.csv"] = b"\n".join(sorted(found["counts.csv"].splitlines()))
    with sqlite3.connect(out / "cellseg.sqlite") as connection:
        columns = "image, size, mtime_ns, sha256, status, stem, count, count_in_frame, density_per_mm2"
        ledger = connection.execute(f"SELECT {columns} FROM images ORDER BY image").fetchall()
    connection.close()
    return found, ledger


def rows(out):
    """Number of lines of the tables, whole or not."""
    tables = [out / name for name in ("counts.csv", "failed.csv")]
    return sum(path.read_bytes().count(b"\n") - 1 for path in tables if path.exists())


def check_whole(out):
    """Whatever has its final name right after a kill is whole."""
    for path in out.glob("*.labels.tif"):
        assert tifffile.imread(path).shape == (160, 200)
    for path in out.glob("*.cells.csv"):
        assert path.read_bytes().endswith(b"\n")
    for path in out.glob("*.jpg"):
        assert path.read_bytes().endswith(b"\xff\xd9")


@pytest.mark.slow
def test_fifty_kills_leave_what_an_uninterrupted_run_leaves(device, environment, model_path, tmp_path, write_image):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for index in range(IMAGES):
        write_image(images / f"{index:02}.png", seed=index, height=160, width=200, count=15)
    whole = tmp_path / "whole"
    assert device("watch", images, "--once", "--overlay", "--out", whole).returncode == 0
    start = time.monotonic()
    fresh = tmp_path / "fresh"
    assert device("watch", images / "..", "--once", "--overlay", "--out", fresh).returncode == 0
    start_up = time.monotonic() - start

    def finish():
        """Do what is left; what was in hand at two kills is passed over, and has to be asked for."""
        done = device("watch", images, "--once", "--overlay", "--out", out)
        killers = [
            line.removeprefix("error: ").split(":")[0]
            for line in done.stderr.splitlines()
            if "had cellseg killed twice" in line
        ]
        assert done.returncode == bool(killers), done.stderr
        if killers:
            assert device("run", *(images / name for name in killers), "--overlay", "--out", out).returncode == 0
        assert contents(out) == contents(whole)
        return len(killers)

    random.seed(20)
    command = [sys.executable, "-m", "cellseg_device", "watch", str(images), "--overlay", "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    in_work = 0
    for _ in range(KILLS):
        before = rows(out)
        with subprocess.Popen(command, env=environment, **pipes) as process:
            # Most kills hit the work, within the next few images; some hit the start.
            if random.random() < 0.8:
                process.stdout.readline()
                time.sleep(random.uniform(0, 0.02))
            else:
                time.sleep(random.uniform(0, start_up))
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        in_work += before < rows(out) < IMAGES
        check_whole(out)
        if rows(out) >= IMAGES - 2:  # nearly all done: finish, compare, and begin again
            finish()
            shutil.rmtree(out)
    assert in_work > KILLS / 3
    finish()
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
def test_an_image_that_has_the_watch_killed_twice_holds_up_no_other(device, watching, tmp_path, write_image, table):
    """A real kill, at the moment at which an image is in hand: it takes some seconds to count."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    rng = np.random.default_rng(1)
    write_image(images / "b.png", rng.integers(0, 255, (6000, 6000), np.uint8))
    for seed, name in enumerate("acd"):
        write_image(images / f"{name}.png", seed=seed)
    for kills in range(2):
        watch = watching(images, "--out", out)
        watch.until(lambda kills=kills: "b.png" in in_hand(out, kills))
        watch.process.send_signal(signal.SIGKILL)
        watch.process.wait()
    watch = watching(images, "--out", out)
    watch.until_done("c.png", "d.png")
    assert watch.stop() == 0
    (row,) = table(out / "failed.csv")
    assert row["image"] == "b.png"
    assert row["reason"].startswith("had cellseg killed twice, by a lack of memory or a power cut: crop or split it")
    asked = device("run", images / "b.png", "--out", out)
    assert asked.returncode == 0, asked.stderr
    assert [row["image"] for row in table(out / "counts.csv")] == ["a.png", "c.png", "d.png", "b.png"]


def in_hand(out, kills):
    """The images that the ledger notes as in hand, of those that had so many processes killed."""
    try:
        with closing(sqlite3.connect(f"file:{out}/cellseg.sqlite?mode=ro", uri=True)) as connection:
            return [
                row[0] for row in connection.execute("SELECT image FROM in_hand WHERE is_begun AND kills = ?", (kills,))
            ]
    except sqlite3.OperationalError:  # there is no ledger yet
        return []
