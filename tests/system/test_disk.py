"""Disks that are full or read-only, for real: small tmpfs mounts, which need root."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

FAST = ("--settle", "0.2", "--poll", "0.2")


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of 1 MB; yields (folder, remount with options)."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Take all room but a few kB."""
    with open(folder / "ballast", "wb", buffering=0) as file:
        block = b"x" * 4096
        try:
            while True:
                file.write(block)
        except OSError:
            pass


def test_a_watch_survives_a_full_disk(watching, disk, tmp_path, write_image, check_results):
    folder, _ = disk
    images = tmp_path / "images"
    images.mkdir()
    write_image(images / "a.png")
    watch = watching(images, "--out", folder / "out", *FAST)
    watch.until_done("a.png")
    fill(folder)
    for name in ("b.png", "c.png"):
        write_image(images / name)
    watch.until(lambda: "cannot be written" in watch.stderr)
    time.sleep(1.5)  # tried again at least once, without another line
    check_results(folder / "out", ["a.png"])
    (folder / "ballast").unlink()
    watch.until_done("b.png", "c.png")
    assert watch.stop() == 0
    check_results(folder / "out", ["a.png", "b.png", "c.png"])
    first, second = watch.complaints
    assert "No space left on device" in first or "full" in first
    assert second == f"warning: results can be written to {folder / 'out'} again"
    assert not (folder / "out" / "failed.csv").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("in memory")
@pytest.mark.parametrize("originals", ["--keep-originals", "--discard-originals"])
def test_a_camera_survives_a_full_disk(watching, device, disk, tmp_path, write_image, check_results, originals):
    folder, _ = disk
    out, frames = folder / "out", tmp_path / "frames"
    frames.mkdir()
    for index in range(100):
        write_image(frames / f"{index:03}.png", seed=index % 5)
    in_memory = set(Path("/dev/shm").glob("cellseg-*/*"))
    options = ["--source", frames, "--every", "100ms", originals]
    camera = watching(*options, "--out", out, command="camera")
    camera.until(lambda: camera.stdout.count("\n") >= 2)
    fill(folder)
    camera.until(lambda: "cannot be written" in camera.stderr)
    time.sleep(2.5)
    assert len(set(Path("/dev/shm").glob("cellseg-*/*")) - in_memory) <= 6
    (folder / "ballast").unlink()
    done = camera.stdout.count("\n")
    camera.until(lambda: camera.stdout.count("\n") >= done + 3)
    assert camera.stop() == 0
    check_results(out, [line.split("  ")[0] for line in camera.stdout.splitlines()])
    lines = [line for line in camera.complaints if "left out" not in line]
    assert len(lines) == 2
    assert "No space left on device" in lines[0] or "full" in lines[0]
    assert " can be written to " in lines[1]
    assert lines[1].endswith(" again")
    kept = sorted(path.name for path in (out / "captures").iterdir()) if originals == "--keep-originals" else []
    assert len(kept) == (camera.stdout.count("\n") if kept else 0)
    # What was taken just before the stop waits for the next start
    waiting = set(Path("/dev/shm").glob("cellseg-*/*")) - in_memory
    assert not {path.name for path in waiting} & {line.split("  ")[0] for line in camera.stdout.splitlines()}
    assert device("camera", *options, "--count", 1, "--out", out).returncode == 0
    assert set(Path("/dev/shm").glob("cellseg-*/*")) == in_memory


@pytest.fixture(scope="module")
def done(device, write_image, tmp_path_factory):
    """An image and its results, to be copied."""
    folder = tmp_path_factory.mktemp("done")
    image = write_image(folder / "a.png", count=4)
    out = folder / "elsewhere" / "out"  # whose names have the whole path, and so stay when it is copied
    assert device("run", image, "--out", out).returncode == 0
    return image, out


def fill_but(folder, blocks):
    """Take all room but about so many blocks."""
    fill(folder)
    os.truncate(folder / "ballast", max((folder / "ballast").stat().st_size - 4096 * blocks, 0))


def some_quick(quick, *others):
    """Values of a parameter, of which the others are slow."""
    return [*quick, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]


@pytest.mark.parametrize("room", some_quick([0, 3, 12], 1, 2, 4, 5, 6, 8))
def test_whatever_room_is_left_the_results_are_whole(device, done, disk, tmp_path, write_image, check_results, room):
    folder, _ = disk
    first, out = done[0], shutil.copytree(done[1], folder / "out")
    fill_but(folder, room)
    second = write_image(tmp_path / "b.png", seed=1)
    result = device("run", second, "--out", out)
    (folder / "ballast").unlink()
    if result.returncode:
        assert result.returncode in (1, 2)
        assert "Traceback" not in result.stderr
        assert "--out" in result.stderr or "make room" in result.stderr
    else:
        check_results(out, [str(first), str(second)])
    assert device("run", second, "--out", out).returncode == 0
    check_results(out, [str(first), str(second)])


@pytest.mark.parametrize("room", some_quick([0, 3], 1, 2, 4, 6))
def test_results_to_be_replaced_stay_whole_on_a_full_disk(device, done, disk, write_image, check_results, room):
    folder, _ = disk
    path, out = done[0], shutil.copytree(done[1], folder / "out")
    fill_but(folder, room)
    write_image(path, count=20, height=150, mtime=1_700_000_777)
    failed = device("run", path, "--out", out).returncode != 0
    check_results(out, [str(path)])
    (folder / "ballast").unlink()
    assert ("1 done, 0 failed;" in device("run", path, "--out", out).stdout) == failed
    check_results(out, [str(path)])


def test_a_watch_starts_on_a_full_disk_and_waits(watching, disk, tmp_path, write_image, check_results):
    folder, _ = disk
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png")
    fill(folder)
    watch = watching(tmp_path / "images", "--out", folder / "out", *FAST)
    watch.until(lambda: "cannot be written" in watch.stderr)
    (folder / "ballast").unlink()
    watch.until_done("a.png")
    assert watch.stop() == 0
    check_results(folder / "out", ["a.png"])


@pytest.mark.parametrize("command", ["run", "watch", "once"])
def test_a_read_only_output_is_refused_at_the_start(device, disk, tmp_path, write_image, command):
    folder, remount = disk
    path = write_image(folder / "a.png")
    remount("ro")
    arguments = {
        "run": ["run", path, "--out", folder / "out"],
        "watch": ["watch", folder],
        "once": ["watch", folder, "--once"],
    }[command]
    result = device(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "cannot take results (Read-only file system): choose another folder with --out" in line
    assert result.stdout == ""


def test_a_read_only_output_with_results_is_refused(device, disk, write_image):
    folder, remount = disk
    path = write_image(folder / "a.png")
    assert device("run", path, "--out", folder / "out").returncode == 0
    remount("ro")
    result = device("run", path, "--out", folder / "out")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "Read-only" in line


def test_a_disk_that_turns_read_only_is_waited_for(watching, disk, write_image, check_results, tmp_path):
    folder, remount = disk
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png")
    watch = watching(tmp_path / "images", "--out", folder / "out", *FAST)
    watch.until_done("a.png")
    # As a card does after an error: what is open for writing is cut off, too
    subprocess.run(["mount", "-o", "remount,size=1m,nr_inodes=1", folder], check=False, capture_output=True)
    fill(folder)
    write_image(tmp_path / "images" / "b.png")
    watch.until(lambda: "cannot be written" in watch.stderr)
    (folder / "ballast").unlink()
    remount("size=2m,nr_inodes=100")
    watch.until_done("b.png")
    assert watch.stop() == 0
    check_results(folder / "out", ["a.png", "b.png"])


def test_a_folder_of_results_that_is_taken_away_is_waited_for(watching, write_image, check_results, tmp_path):
    (tmp_path / "images").mkdir()
    out = tmp_path / "out"
    write_image(tmp_path / "images" / "a.png")
    watch = watching(tmp_path / "images", "--out", out, *FAST)
    watch.until_done("a.png")
    out.rename(tmp_path / "away")
    write_image(tmp_path / "images" / "b.png")
    watch.until(lambda: "cannot be written" in watch.stderr)
    assert not out.exists()
    (tmp_path / "away").rename(out)
    watch.until_done("b.png")
    assert watch.stop() == 0
    check_results(out, ["a.png", "b.png"])


def test_work_rests_while_less_is_free_than_asked_and_goes_on_by_itself(
    watching, disk, tmp_path, write_image, check_results
):
    folder, _ = disk
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png")
    watch = watching(tmp_path / "images", "--out", folder / "out", "--keep-free", "600kB", *FAST)
    watch.until_done("a.png")
    (folder / "ballast").write_bytes(b"x" * 400_000)
    free = shutil.disk_usage(folder).free
    assert 300_000 < free < 600_000
    write_image(tmp_path / "images" / "b.png")
    watch.until(lambda: "0.0006 GB is free" in watch.stderr)
    time.sleep(1.5)
    assert shutil.disk_usage(folder).free == free  # nothing was written
    (folder / "ballast").unlink()
    watch.until_done("b.png")
    assert watch.stop() == 0
    first, second = watch.complaints
    assert first.startswith(f"warning: results cannot be written to {folder / 'out'} (less than 0.0006 GB is free)")
    assert second == f"warning: results can be written to {folder / 'out'} again"
    check_results(folder / "out", ["a.png", "b.png"])


def test_once_says_which_images_were_not_done_for_lack_of_room(device, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    result = device("watch", tmp_path, "--once", "--keep-free", "1000TB", "--quiet")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == (
        "error: a.png: its results cannot be written (less than 1e+06 GB is free): make room or fix the disk, "
        "then try again"
    )


def test_results_on_a_read_only_disk_are_verified(device, disk, tmp_path, write_image):
    folder, remount = disk
    write_image(folder / "a.png")
    assert device("watch", folder, "--once").returncode == 0
    remount("ro")
    before = sorted((folder / "cellseg-results").iterdir())
    result = device("ledger", "verify", folder / "cellseg-results")
    assert result.stdout == "1 image, 3 files: all as written\n", result.stderr
    assert sorted((folder / "cellseg-results").iterdir()) == before


def test_what_a_killed_watch_committed_is_verified_on_a_read_only_disk(device, disk, watching, write_image):
    folder, remount = disk
    out = folder / "cellseg-results"
    write_image(folder / "a.png")
    watch = watching(folder, *FAST)
    watch.until_done("a.png")
    watch.process.kill()
    watch.process.wait()
    assert (out / "cellseg.sqlite-wal").stat().st_size
    remount("ro")
    result = device("ledger", "verify", out)
    assert result.stdout == "1 image, 3 files: all as written\n", result.stderr
