"""`watch` while things happen to the folder."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

FAST = ("--settle", "0.2", "--poll", "0.2")


def test_images_are_done_as_they_come(watching, tmp_path, write_image, check_results):
    write_image(tmp_path / "there.png")
    watch = watching(tmp_path, *FAST)
    watch.until_done("there.png")
    write_image(tmp_path / "made.png", mtime=None)
    watch.until_done("made.png")
    (tmp_path / "hidden").mkdir()
    write_image(tmp_path / "hidden" / "moved.tif", mtime=None).rename(tmp_path / "moved.tif")
    watch.until_done("moved.tif")
    assert watch.stop() == 0
    check_results(tmp_path / "cellseg-results", ["there.png", "made.png", "moved.tif"])
    assert watch.complaints == []


def test_events_wake_it_long_before_the_next_look(watching, tmp_path, write_image):
    write_image(tmp_path / "first.png")
    watch = watching(tmp_path, "--poll", "1h", "--settle", "0.1")
    watch.until_done("first.png")
    time.sleep(0.5)
    write_image(tmp_path / "a.png", mtime=None)
    watch.until_done("a.png")


def test_a_slow_writer_is_waited_for(watching, tmp_path, write_image, check_results):
    data = write_image(tmp_path / "source.bin.png").read_bytes()
    (tmp_path / "source.bin.png").unlink()
    watch = watching(tmp_path, "--settle", "1.5", "--poll", "0.1")
    with open(tmp_path / "slow.png", "wb", buffering=0) as file:
        for start in range(0, len(data), len(data) // 8 + 1):
            file.write(data[start : start + len(data) // 8 + 1])
            time.sleep(0.2)
            assert watch.stdout == ""
    watch.until_done("slow.png")
    assert watch.stop() == 0
    assert watch.complaints == []
    check_results(tmp_path / "cellseg-results", ["slow.png"])


def test_a_writer_slower_than_the_settling_is_right_in_the_end(watching, tmp_path, write_image, check_results):
    data = write_image(tmp_path / "source.bin.png").read_bytes()
    (tmp_path / "source.bin.png").unlink()
    watch = watching(tmp_path, *FAST)
    (tmp_path / "slow.png").write_bytes(data[:1000])
    watch.until(lambda: "slow.png: " in watch.stderr)
    (tmp_path / "slow.png").write_bytes(data)
    watch.until_done("slow.png")
    assert watch.stop() == 0
    check_results(tmp_path / "cellseg-results", ["slow.png"])
    assert not (tmp_path / "cellseg-results" / "failed.csv").exists()


def test_bad_files_do_not_stop_it(watching, tmp_path, write_image, table, check_results):
    (tmp_path / "a.png").touch()
    os.utime(tmp_path / "a.png", (1, 1))
    (tmp_path / "b.tif").mkdir()
    os.mkfifo(tmp_path / "c.png")
    (tmp_path / "d.png").symlink_to("d.png")
    write_image(tmp_path / "e.png")
    watch = watching(tmp_path, *FAST)
    watch.until_done("e.png")
    watch.until(lambda: len(watch.complaints) >= 4)
    time.sleep(0.6)  # several looks: none is tried again
    assert watch.stop() == 0
    assert sorted(line[:12] for line in watch.complaints) == [
        f"error: {name}" for name in ("a.png", "b.tif", "c.png", "d.png")
    ]
    out = tmp_path / "cellseg-results"
    check_results(out, ["e.png"])
    assert sorted(row["image"] for row in table(out / "failed.csv")) == ["a.png", "b.tif", "c.png", "d.png"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_a_restart_does_nothing_again(watching, tmp_path, write_image, check_results, number):
    for index in range(5):
        write_image(tmp_path / f"{index}.png", seed=index)
    watch = watching(tmp_path, *FAST)
    watch.until(lambda: watch.stdout)
    assert watch.stop(number) == 0
    out = tmp_path / "cellseg-results"
    check_results(out, [f"{index}.png" for index in range(len(watch.stdout.splitlines()))])
    second = watching(tmp_path, *FAST)
    second.until(lambda: (out / "cellseg.sqlite-wal").exists())
    second.until_done(*[f"{index}.png" for index in range(len(watch.stdout.splitlines()), 5)])
    assert second.stop(number) == 0
    check_results(out, [f"{index}.png" for index in range(5)])
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    third = watching(tmp_path, *FAST)
    third.until(lambda: (out / "cellseg.sqlite-wal").exists())
    time.sleep(0.6)
    assert third.stop(number) == 0
    assert third.stdout == ""
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert {k: v for k, v in after.items() if "sqlite" not in k} == {
        k: v for k, v in before.items() if "sqlite" not in k
    }


def test_an_image_that_changes_is_counted_anew(watching, tmp_path, write_image, check_results, table):
    write_image(tmp_path / "a.png", count=4)
    write_image(tmp_path / "b.png")
    watch = watching(tmp_path, *FAST)
    watch.until_done("a.png", "b.png")
    first = {row["image"]: row for row in table(tmp_path / "cellseg-results" / "counts.csv")}
    write_image(tmp_path / "a.png", height=120, width=200, seed=9, mtime=1_700_000_555)
    watch.until(lambda: watch.stdout.count("a.png") == 2)
    assert watch.stop() == 0
    out = tmp_path / "cellseg-results"
    check_results(out, ["b.png", "a.png"])
    second = {row["image"]: row for row in table(out / "counts.csv")}
    assert second["b.png"] == first["b.png"]
    assert second["a.png"]["width_px"] == "200"


def test_the_folder_may_go_and_come_back(watching, tmp_path, write_image, check_results):
    folder, out = tmp_path / "captures", tmp_path / "out"
    folder.mkdir()
    write_image(folder / "a.png")
    watch = watching(folder, "--out", out, *FAST)
    watch.until_done("a.png")
    shutil.rmtree(folder)
    watch.until(lambda: "is gone" in watch.stderr)
    time.sleep(0.5)
    folder.mkdir()
    write_image(folder / "b.png", seed=1)
    watch.until_done("b.png")
    assert watch.stop() == 0
    assert watch.complaints == [
        f"warning: {folder} is gone (No such file or directory): trying again until it works",
        f"warning: {folder} is back",
    ]
    check_results(out, ["a.png", "b.png"])


def test_results_may_go_among_the_images(watching, tmp_path, write_image, check_results):
    write_image(tmp_path / "a.png")
    watch = watching(tmp_path, "--out", tmp_path, "--overlay", *FAST)
    watch.until_done("a.png")
    time.sleep(1)
    assert watch.stop() == 0
    check_results(tmp_path, ["a.png"])
    assert watch.stdout.count("\n") == 1


def test_a_second_process_is_refused(watching, device, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    out = tmp_path / "out"
    watch = watching(tmp_path, "--out", out, *FAST)
    watch.until_done("a.png")
    for command in (["run", path, "--out", out], ["watch", tmp_path, "--out", out]):
        result = device(*command)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert line == f"error: {out} is in use by another cellseg-device: stop that one, or use another --out"
    assert watch.stop() == 0
    assert device("run", path, "--out", out).returncode == 0


def test_results_of_another_model_are_kept_and_reported(device, tmp_path, write_image, model_path):
    from cellseg_device.model import card

    data = model_path.read_bytes()
    changed = dataclasses.replace(card.read_from(data), name="other")
    other = tmp_path / "other.tflite"
    other.write_bytes(card.attach(data, changed))
    write_image(tmp_path / "a.png")
    device("watch", tmp_path, "--once")
    result = device("watch", tmp_path, "--once", "--model", other)
    assert result.returncode == 0
    assert "1 done before" in result.stdout
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("warning: "))
    assert "counts made with another model or other settings stay as they are (1 in " in line


@pytest.mark.slow
def test_once_does_not_wait_for_ever_for_a_file_that_grows(environment, model_path, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    command = [sys.executable, "-m", "cellseg_device", "watch", str(tmp_path), "--once", "--settle", "1"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process, open(tmp_path / "grows.png", "wb", buffering=0) as file:
        while process.poll() is None:
            file.write(b"x")
            time.sleep(0.2)
        assert process.returncode == 1
        assert "grows.png: is still being written" in process.stderr.read()
        assert "a.png  " in process.stdout.read()
