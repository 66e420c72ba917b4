"""Every bad input of the issue: one clear line, the right exit code, and the others done all the same."""

import os
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.system.natural_order import natural_key


def png_header(width, height):
    """A PNG that says it is that large, of a few bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end


def make_bad(folder, image):
    """Make one bad input of every kind; returns name to a part of the reason."""
    data = image.read_bytes()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("This is no image\n")
    (folder / "truncated.png").write_bytes(data[: len(data) // 2])
    (folder / "broken.png").write_bytes(data[:60] + bytes(100) + data[160:])
    (folder / "folder.tif").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("no-such-file.png")
    (folder / "huge.png").write_bytes(png_header(50_000, 50_000))
    for name, value in (("nan.tif", np.nan), ("inf.tif", np.inf)):
        tifffile.imwrite(folder / name, np.full((20, 20), value, np.float32))
    tifffile.imwrite(
        folder / "channels.tif", np.zeros((20, 20, 7), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    tifffile.imwrite(folder / "pages.tif", np.zeros((3, 20, 20), np.uint8), photometric="minisblack")
    cv2.imwrite(str(folder / "whole.tif"), np.zeros((200, 200), np.uint8))
    whole = (folder / "whole.tif").read_bytes()
    (folder / "whole.tif").unlink()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (folder / ("n" * 247 + ".png")).write_bytes(data)
    return {
        "empty.png": "is empty (0 bytes)",
        "text.png": "is not a PNG",
        "truncated.png": "truncated",
        "broken.png": "damaged",
        "folder.tif": "is a folder",
        "fifo.png": "is not a regular file",
        "loop.png": "cannot be opened",
        "nowhere.png": "no such file",
        "huge.png": "over the limit of 12000",
        "nan.tif": "NaN",
        "inf.tif": "infinite",
        "channels.tif": "7 channels",
        "pages.tif": "3 pages",
        "truncated.tif": "TIFF",
        "n" * 247 + ".png": "too long a name",
    }


def test_bad_files_fail_with_a_reason_and_the_others_are_done(device, tmp_path, write_image, check_results, table):
    reasons = make_bad(tmp_path, write_image(tmp_path / "good.png"))
    write_image(tmp_path / "zz.png")
    for attempt in ("first", "again"):
        result = device("watch", tmp_path, "--once", "--settle", "0.1", "--quiet")
        assert result.returncode == 1, attempt
        lines = result.stderr.splitlines()
        assert sorted(line.split(": ")[1] for line in lines) == sorted(reasons)
        for line in lines:
            _, name, reason = line.split(": ", 2)
            assert reasons[name] in reason
    out = tmp_path / "cellseg-results"
    check_results(out, ["good.png", "zz.png"])
    assert {row["image"]: row["reason"] for row in table(out / "failed.csv")} == {
        line.split(": ", 2)[1]: line.split(": ", 2)[2] for line in lines
    }


def test_run_names_the_bad_files_in_its_way(device, tmp_path, write_image):
    good = write_image(tmp_path / "good.png")
    result = device("run", tmp_path / "none.png", good, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr == f"error: {tmp_path / 'none.png'}: no such file: check the path\n"
    assert "1 done, 1 failed" in result.stdout


def test_images_of_every_kind_and_size_are_done(device, tmp_path, draw_blobs, check_results):
    grey = draw_blobs(40, 50)
    rgb = np.dstack([grey, grey, grey])
    cv2.imwrite(str(tmp_path / "1x1.png"), grey[:1, :1])
    cv2.imwrite(str(tmp_path / "1x300.png"), np.zeros((1, 300), np.uint8))
    cv2.imwrite(str(tmp_path / "grey16.png"), grey.astype(np.uint16) * 250)
    cv2.imwrite(str(tmp_path / "rgba.png"), np.dstack([rgb, grey]))
    cv2.imwrite(str(tmp_path / "rgb.jpg"), rgb)
    tifffile.imwrite(tmp_path / "rgb16.tif", rgb.astype(np.uint16) * 200, photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", grey.astype(np.float32))
    names = sorted((path.name for path in tmp_path.iterdir()), key=natural_key)
    result = device("watch", tmp_path, "--once", "--settle", "0", "--overlay")
    assert result.returncode == 0, result.stderr
    check_results(tmp_path / "cellseg-results", names)


@pytest.mark.parametrize("arguments", [["watch", "nowhere"], ["watch", "a.png"], ["watch", "nowhere", "--once"]])
def test_no_folder_to_watch(device, tmp_path, write_image, arguments):
    write_image(tmp_path / "a.png")
    result = device(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "folder" in line
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_folder(device, tmp_path):
    for command in (["watch", tmp_path, "--once"], ["run", tmp_path]):
        result = device(*command)
        assert result.returncode == 0
        assert result.stdout == f"no images in {tmp_path}: nothing to do\n"


@pytest.mark.parametrize("arguments", [["run"], ["run", "a.png", "--threads", "0"], ["watch"], ["nonsense"]])
def test_wrong_usage(device, arguments):
    result = device(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_models_that_cannot_be_used(device, tmp_path, write_image, model_path):
    from cellseg_device.model import card

    path = write_image(tmp_path / "a.png")
    (tmp_path / "text.tflite").write_text("no model, and longer than a header")
    (tmp_path / "bare.tflite").write_bytes(card.strip(model_path.read_bytes()))
    for name, what in (("none", "cannot be read"), ("text", "is not a .tflite"), ("bare", "has no card")):
        for command in (["run", path, "--out", tmp_path / "out", "--model"], ["info"]):
            result = device(*command, tmp_path / f"{name}.tflite")
            assert result.returncode == 2
            (line,) = result.stderr.splitlines()
            assert what in line
            assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_damaged_ledger_stops_the_command_and_nothing_is_lost(device, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    out = tmp_path / "out"
    device("run", path, "--out", out)
    counts = (out / "counts.csv").read_bytes()
    (out / "cellseg.sqlite").write_bytes(b"damaged " * 1000)
    result = device("run", path, "--out", out)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "move it away" in line
    assert (out / "counts.csv").read_bytes() == counts
    shutil.move(out / "cellseg.sqlite", tmp_path)
    result = device("run", path, "--out", out)
    assert result.returncode == 0
    assert "kept as counts-1.csv" in result.stderr
    assert (out / "counts-1.csv").read_bytes() == counts == (out / "counts.csv").read_bytes()


def test_the_output_folder_is_a_file(device, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    result = device("run", path, "--out", path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "choose another folder with --out" in line
