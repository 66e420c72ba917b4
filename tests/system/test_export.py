"""``export`` as a user runs it: after a run, beside a watch, and where it cannot work."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools import mask as rle

from cellseg_device.results import image_files

FORMATS = ["overlay", "numbers", "rois", "geojson", "coco", "outlines"]
FAST = ("--settle", "0.1", "--poll", "0.2")

# Of NumPy 2, in pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_folder_that_was_watched_will_do(device, captures):
    assert device("watch", captures, "--once").returncode == 0
    out = captures / "cellseg-results"
    for command in (("export", captures, "--format", "rois"), ("summary", captures)):
        result = device(*command)
        assert (result.returncode, result.stderr) == (0, "")
    assert all((out / f"{stem}.rois.zip").exists() for stem in "abc")
    assert (out / "summary.csv").exists()
    verified = device("ledger", "verify", captures)
    assert verified.stdout == "3 images, 12 files: all as written\n"
    for path in out.glob("cellseg.sqlite*"):
        path.unlink()
    assert device("ledger", "rebuild", captures).stdout == "3 images in the ledger, 0 left out\n"
    assert {path.name for path in captures.iterdir()} == {"a.png", "b.png", "c.tif", "cellseg-results"}


def test_a_folder_of_results_is_not_looked_into(device, captures):
    """Even where somebody counted the pictures in it."""
    assert device("run", captures / "a.png", "--out", captures).returncode == 0
    assert device("run", captures / "b.png", "--out", captures / "cellseg-results").returncode == 0
    assert device("export", captures, "--format", "rois").returncode == 0
    assert (captures / "a.rois.zip").exists()
    assert not (captures / "cellseg-results" / "b.rois.zip").exists()


@pytest.fixture
def captures(tmp_path, write_image):
    folder = tmp_path / "captures"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.tif")):
        write_image(folder / name, seed=number, count=6 + number)
    return folder


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if not p.name.startswith((".cellseg", "cellseg.sqlite"))}


def check_coco(out: Path, stem: str) -> None:
    """Check that the masks of STEM.coco.json are the labels of STEM.labels.tif."""
    labels = tifffile.imread(out / f"{stem}.labels.tif")
    again = np.zeros_like(labels)
    for annotation in json.loads((out / f"{stem}.coco.json").read_bytes())["annotations"]:
        counted = annotation["segmentation"]
        again[rle.decode(rle.frPyObjects(counted, *counted["size"])) == 1] = annotation["id"]
    assert np.array_equal(again, labels)


@pytest.mark.parametrize("command", ["run", "watch"])
def test_exported_files_are_those_written_at_once(device, captures, tmp_path, command):
    sources = sorted(captures.iterdir()) if command == "run" else [captures, "--once"]
    for out, extras in (("at once", [f"--{name}" for name in FORMATS]), ("later", ["--no-overlay"])):
        assert device(command, *sources, "--out", tmp_path / out, *extras).returncode == 0
    arguments = ["--originals", captures] if command == "watch" else []
    result = device("export", tmp_path / "later", "--format", ",".join(FORMATS), *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == f"files made: 18, there before: 0; images: 3, failed: 0; {tmp_path / 'later'}\n"
    assert contents(tmp_path / "later") == contents(tmp_path / "at once")
    assert len(contents(tmp_path / "later")) == 1 + 3 * 8


def test_a_run_with_a_flag_makes_what_an_earlier_one_did_not_and_keeps_what_it_did(device, captures, tmp_path):
    def run(*flags):
        result = device("run", *sorted(captures.iterdir()), "--out", tmp_path / "out", "--json", *flags)
        assert result.returncode == 0
        outcomes = [json.loads(line) for line in result.stdout.splitlines()]
        (status,) = {outcome["status"] for outcome in outcomes}
        return status, sorted({name.split(".", 1)[1] for outcome in outcomes for name in outcome["made"]})

    assert run("--no-overlay") == ("done", [])
    labels = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.labels.tif"))]
    assert run() == ("unchanged", [])  # nobody asked for an overlay
    for flags, made in (
        (["--coco"], ["coco.json"]),
        (["--coco", "--rois"], ["rois.zip"]),
        (["--geojson", "--outlines", "--no-overlay"], ["geojson", "outlines.txt"]),
        (["--overlay", "--numbers"], ["numbers.jpg", "overlay.jpg"]),
    ):
        assert run(*flags) == ("unchanged", made)
        assert run(*flags) == ("unchanged", [])
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.labels.tif"))] == labels
    kinds = {name.split(".", 1)[1] for name in contents(tmp_path / "out") if name != "counts.csv"}
    assert kinds == {"labels.tif", "cells.csv", *(suffix[1:] for suffix in image_files.EXTRAS.values())}


def test_what_is_made_later_is_what_would_have_been_made_at_once(device, captures, tmp_path):
    images, flags = sorted(captures.iterdir()), [f"--{name}" for name in FORMATS]
    settings = ("--frame", "bottom,right", "--region", "rectangle:0,0,500,500", "--pixel-size-um", "0.5")
    assert device("run", *images, "--out", tmp_path / "at-once", *settings, *flags).returncode == 0
    assert device("run", *images, "--out", tmp_path / "later", *settings, "--no-overlay").returncode == 0
    done = device("run", *images, "--out", tmp_path / "later", *settings, *flags)
    assert done.stdout.count("counted before; made now: ") == 3
    assert contents(tmp_path / "later") == contents(tmp_path / "at-once")


def test_a_watch_makes_what_is_asked_for_of_images_that_were_counted_before(device, watching, captures, tmp_path):
    out = tmp_path / "out"
    assert device("watch", captures, "--once", "--out", out, "--no-overlay").returncode == 0
    assert device("watch", captures, "--once", "--out", out).returncode == 0
    assert not [*out.glob("*.jpg")]
    done = device("watch", captures, "--once", "--out", out, "--overlay")
    assert "a.png  " in done.stdout
    assert "counted before; made now: a.overlay.jpg" in done.stdout
    watch = watching(captures, "--out", out, "--rois")
    watch.until(lambda: len([*out.glob("*.rois.zip")]) == 3)
    assert device("ledger", "verify", out).returncode == 0


def test_a_result_that_is_damaged_is_counted_again_before_more_is_made_of_it(device, captures, tmp_path):
    image, out = captures / "a.png", tmp_path / "out"
    assert device("run", image, "--out", out).returncode == 0
    (out / "a.labels.tif").write_bytes(b"damaged")
    done = device("run", image, "--out", out, "--rois")
    assert "1 done, 0 failed" in done.stdout
    assert (out / "a.rois.zip").exists()
    assert device("ledger", "verify", out).returncode == 0


def test_originals_are_found_where_a_watch_puts_its_results(device, captures):
    assert device("watch", captures, "--once", "--no-overlay").returncode == 0
    assert device("export", captures / "cellseg-results", "--format", "overlay").returncode == 0
    assert len(list((captures / "cellseg-results").glob("*.overlay.jpg"))) == 3
    assert device("watch", captures, "--once", "--out", captures).returncode == 0
    assert device("export", captures, "--format", "overlay").returncode == 0


def test_originals_are_found_by_names_that_cannot_be_printed(device, captures, tmp_path):
    for name, other in (("a.png", b"a\n.png"), ("b.png", b"b\xfe.png")):
        (captures / name).rename(captures / os.fsdecode(other))
    for command in (["watch", captures, "--once"], ["run", *captures.glob("*.*")]):
        out = tmp_path / command[0]
        assert device(*command, "--out", out, "--no-overlay").returncode == 0
        result = device("export", out, "--format", "overlay", "--originals", captures)
        assert result.stdout.startswith("files made: 3,"), result.stderr


def test_originals_are_found_wherever_results_and_images_were_moved(device, captures, tmp_path):
    """Images outside of the folder that the results are in, which have whole paths for names, and those inside."""
    outside, inside = tmp_path / "kept" / "far" / "out", tmp_path / "out"
    for out in (outside, inside):
        assert device("run", captures, "--out", out, "--no-overlay").returncode == 0
        assert device("run", captures / "a.png", "--out", out.with_name("one"), "--no-overlay").returncode == 0
    pack = tmp_path / "moved" / "pack"
    pack.mkdir(parents=True)
    for folder in (captures, tmp_path / "kept", inside, inside.with_name("one")):
        folder.rename(pack / folder.name)
    assert device("export", pack / "kept" / "far" / "one", "--format", "overlay").returncode == 0
    images = (pack / "captures").rename(tmp_path / "images")
    for out, files in ((pack / "kept" / "far" / "one", 1), (pack / "kept" / "far" / "out", 3), (pack / "one", 1)):
        made = device("export", out, "--format", "numbers", "--originals", images)
        assert made.stdout.startswith(f"files made: {files},"), made.stderr
    (images / "a.png").write_bytes(b"another one")
    failed = device("export", pack / "kept" / "far" / "one", "--format", "numbers", "--force", "--originals", images)
    assert "is not there, and a picture needs it: name its folder with --originals" in failed.stderr


def test_a_file_of_somebody_else_in_the_way_is_named_by_every_command(device, captures):
    assert device("run", captures).returncode == 0
    out = captures / "cellseg-results"
    (out / "a.rois.zip").write_text("hi")
    for command in (
        ["run", captures, "--rois"],
        ["watch", captures, "--once", "--rois"],
        ["export", out, "--format", "rois"],
    ):
        done = device(*command)
        assert done.returncode == 1
        assert [line[:14] for line in done.stderr.splitlines() if "a.png" in line] == ["error: a.png: "]
        assert "cellseg did not make" in done.stderr
        assert (out / "a.rois.zip").read_text() == "hi"
    (out / "a.rois.zip").unlink()
    assert device("run", captures, "--rois").returncode == 0


def test_json_tells_of_every_image(device, captures, tmp_path):
    out = tmp_path / "out"
    device("watch", captures, "--once", "--out", out, "--rois")
    result = device("export", out, "--format", "rois,coco", "--json", "b.png", captures / "c.tif", "nix.png")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[0] == {"image": "b.png", "made": ["b.coco.json"], "kept": ["b.rois.zip"], "reason": None}
    assert [line["image"] for line in lines] == ["b.png", "c.tif", "nix.png"]
    assert "no result here" in lines[2]["reason"]
    assert "files made: 2, there before: 2; images: 3, failed: 1" in result.stderr


def test_it_works_beside_a_watch_which_makes_anew_what_no_longer_fits(
    device, watching, captures, tmp_path, write_image, check_results
):
    out = tmp_path / "out"
    watch = watching(captures, "--out", out, *FAST)
    watch.until_done("a.png", "b.png", "c.tif")
    assert device("export", out, "--format", "coco").returncode == 0
    for stem in "abc":
        check_coco(out, stem)
    write_image(captures / "b.png", seed=9, mtime=1_700_000_009)
    watch.until(lambda: watch.stdout.count("b.png") == 2)
    check_coco(out, "b")
    result = device("export", out, "--format", "coco")
    assert result.stdout.startswith("files made: 0, there before: 3;"), result.stderr
    assert watch.stop() == 0
    assert watch.complaints == []
    check_results(out, ["a.png", "c.tif", "b.png"])


@pytest.mark.slow
def test_exports_and_a_watch_in_a_race_never_leave_a_file_of_other_labels(
    watching, tmp_path, draw_blobs, write_image, environment
):
    captures, out = tmp_path / "captures", tmp_path / "out"
    captures.mkdir()
    fields = [draw_blobs(600, 800, seed, 250) for seed in range(2)]
    names = ("a.png", "b.png")
    for name in names:
        write_image(captures / name, fields[0])
    watch = watching(captures, "--out", out, "--settle", "0", "--poll", "0.05")
    watch.until_done(*names)
    command = [sys.executable, "-m", "cellseg_device", "export", out, "--format", "coco,geojson", "--force"]
    for burst in range(1, 19):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as export:
            time.sleep(burst * 0.03)  # so that the watch writes in any moment of an export
            for name in names:
                write_image(tmp_path / name, fields[burst % 2], mtime=1_700_000_000 + burst)
                (tmp_path / name).replace(captures / name)
            if burst % 6 == 0:
                export.kill()
        watch.until(lambda: watch.stdout.count("\n") >= 2 * (burst + 1))  # noqa: B023
        time.sleep(0.2)
        for path in out.glob("*.coco.json"):
            check_coco(out, path.name.split(".")[0])
        for path in out.glob("*.geojson"):
            cells = tifffile.imread(out / path.name.replace(".geojson", ".labels.tif")).max()
            assert len(json.loads(path.read_bytes())["features"]) == cells
    assert watch.stop() == 0
    assert watch.complaints == []


def test_what_cannot_be_made_is_said_and_the_rest_is_made(device, captures, tmp_path, write_image):
    out = tmp_path / "out"
    device("watch", captures, "--once", "--out", out, "--no-overlay")
    (captures / "a.png").unlink()
    write_image(captures / "b.png", seed=77)
    result = device("export", out, "--format", "overlay,outlines", "--originals", captures)
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert first == "error: a.png: is not there, and a picture needs it: name its folder with --originals"
    assert second == "error: b.png: has changed since it was counted, so there is no picture of it: count it again"
    assert {path.name for path in out.glob("*.overlay.jpg")} == {"c.overlay.jpg"}
    assert len(list(out.glob("*.outlines.txt"))) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{out}", "--format", "roi"], 2, "'roi' is not one of overlay, numbers, rois, geojson, coco, outlines"),
        (["{out}", "--format", ""], 2, "'' is not one of"),
        (["{out}"], 2, "missing option '--format'"),
        (["{tmp}/nowhere", "--format", "rois"], 2, "holds no results of cellseg-device: name the folder"),
        (["{tmp}", "--format", "rois"], 2, "holds no results of cellseg-device: name the folder"),
        (["{out}/counts.csv", "--format", "rois"], 2, "holds no results of cellseg-device: name the folder"),
        (["{out}", "--format", "overlay", "--originals", "{tmp}/nowhere"], 2, "no such folder"),
        (["{tmp}/broken", "--format", "rois"], 2, "is damaged"),
        (["{tmp}/half", "--format", "rois"], 1, "labels.tif is not as it was written: count the image again"),
    ],
)
def test_bad_input_is_said_in_a_line(device_here, tmp_path, results_of_one, arguments, code, message):
    out = tmp_path / "out"
    shutil.copytree(results_of_one, out)
    shutil.copytree(results_of_one, tmp_path / "half")
    labels = next((tmp_path / "half").glob("*.labels.tif"))
    labels.write_bytes(labels.read_bytes()[:-100])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cellseg.sqlite").write_bytes(b"no database " * 1000)
    result = device_here("export", *(argument.format(out=out, tmp=tmp_path) for argument in arguments))
    assert result.returncode == code, result.stderr
    assert message in result.stderr


@pytest.fixture(scope="module")
def results_of_one(tmp_path_factory, write_image, environment) -> Path:
    """A folder with the results of one image."""
    folder = tmp_path_factory.mktemp("one")
    image = write_image(folder / "a.png")
    command = [sys.executable, "-m", "cellseg_device", "run", image, "--out", folder / "out"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder / "out"


def test_a_folder_that_cannot_be_written_is_said(device, results_of_one, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(results_of_one, out)
    (out / ".cellseg.turn").unlink()
    (out / ".cellseg.turn").mkdir()
    result = device("export", out, "--format", "rois")
    assert result.returncode == 1
    assert "cannot be written (.cellseg.turn is not a file: move it away)" in result.stderr


def test_a_ledger_that_is_held_is_said(device, results_of_one, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(results_of_one, out)
    with sqlite3.connect(out / "cellseg.sqlite", isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        result = device("export", out, "--format", "rois")
    connection.close()
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert "database is locked" in result.stderr
