"""kill -9 at random moments, and a restart: nothing lost, nothing half-written, nothing counted twice."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import tifffile

IMAGES = 40
KILLS = 50


def contents(out):
    """All result files by name; of the ledger, what does not depend on the time."""
    found = {path.name: path.read_bytes() for path in out.iterdir() if "sqlite" not in path.name}
    with sqlite3.connect(out / "cellseg.sqlite") as connection:
        columns = "image, size, mtime_ns, sha256, status, stem, count, count_in_frame, density_per_mm2"
        ledger = connection.execute(f"SELECT {columns} FROM images ORDER BY seq").fetchall()
    connection.close()
    return found, ledger


def rows(out):
    """Number of lines of the counts, whole or not."""
    path = out / "counts.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def check_whole(out):
    """Whatever has its final name right after a kill is whole."""
    for path in out.glob("*.labels.tif"):
        assert tifffile.imread(path).shape == (160, 200)
    for path in out.glob("*.cells.csv"):
        assert path.read_bytes().endswith(b"\n")
    for path in out.glob("*.jpg"):
        assert path.read_bytes().endswith(b"\xff\xd9")


@pytest.mark.slow
def test_fifty_kills_leave_what_an_uninterrupted_run_leaves(
    device, environment, model_path, tmp_path, write_image, check_results
):
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
            assert device("watch", images, "--once", "--overlay", "--out", out).returncode == 0
            assert contents(out) == contents(whole)
            shutil.rmtree(out)
    assert in_work > KILLS / 3
    assert device("watch", images, "--once", "--overlay", "--out", out).returncode == 0
    check_results(out, [f"{index:02}.png" for index in range(IMAGES)])
    assert contents(out) == contents(whole)
