"""`run`, `watch --once` and `info`, as a user types them."""

import json
import os
import re
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tifffile


def test_run_writes_whole_results(device, tmp_path, write_image, check_results):
    names = ["IMG_2.png", "IMG_10.png"]
    paths = [write_image(tmp_path / name, seed=seed) for seed, name in enumerate(names)]
    result = device("run", *sorted(paths), "--out", tmp_path / "out", "--overlay")
    assert result.returncode == 0
    first, second, summary = result.stdout.splitlines()
    assert first.startswith("IMG_2.png  ")
    assert re.fullmatch(r"\d+ cells?(, \d+ in the counting frame)?", second.split("  ")[1])
    assert second.endswith(" ms")
    assert summary.startswith("2 images: 2 done, 0 failed; ")
    assert result.stderr.splitlines() == []
    check_results(tmp_path / "out", names)
    assert cv2.imread(str(tmp_path / "out" / "IMG_2.overlay.jpg")).shape[1] == 4 * 128


def test_the_results_go_beside_the_user_by_default(device, tmp_path, write_image, check_results):
    write_image(tmp_path / "a.png")
    assert device("run", "a.png", cwd=tmp_path).returncode == 0
    check_results(tmp_path / "cellseg-results", ["a.png"])


def test_watch_needs_nothing_but_the_folder(device, tmp_path, write_image, check_results):
    for name in ("b.png", "a.tif", "c.jpg"):
        write_image(tmp_path / name)
    result = device("watch", tmp_path, "--once")
    assert result.returncode == 0
    about, results, model = result.stderr.splitlines()
    assert about == f"images in {tmp_path}: 3 images, 0 done, 3 to do"
    assert results == f"results: {tmp_path / 'cellseg-results'}"
    assert model.startswith("model: nuclei or chamber, by the gate kind (bundled), on ")
    check_results(tmp_path / "cellseg-results", ["a.tif", "b.png", "c.jpg"])
    again = device("watch", tmp_path, "--once")
    assert again.returncode == 0
    assert again.stdout.startswith("3 images: 0 done, 0 failed, 3 done before; ")


def test_json_lines_and_nothing_else(device, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    result = device("watch", tmp_path, "--once", "--json")
    assert result.returncode == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["image"], first["status"], first["labels"]) == ("a.png", "done", "a.labels.tif")
    assert first["cells"] >= first["cells_in_frame"] > 0 < first["ms"]
    assert (second["status"], second["cells"], second["cells_in_frame"]) == ("failed", None, None)
    assert "not a PNG" in second["reason"]
    status = [json.loads(line)["status"] for line in device("watch", tmp_path, "--once", "--json").stdout.splitlines()]
    assert status == ["unchanged", "failed"]


def test_overlays_are_made_unless_somebody_says_not_to(device, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    (no := tmp_path / "no.toml").write_text("overlay = false\n")
    (yes := tmp_path / "yes.toml").write_text("overlay = true\n")

    def has_overlay(out, *flags):
        assert device("run", path, "--out", tmp_path / out, *flags).returncode == 0
        return (tmp_path / out / "a.overlay.jpg").exists()

    assert has_overlay("1")
    assert has_overlay("1", "--no-overlay", "--rois", "--frame", "none")  # what is counted again keeps what it had
    assert not has_overlay("2", "--no-overlay")
    assert not has_overlay("2")  # nobody asked for one
    assert has_overlay("2", "--config", yes)
    assert not has_overlay("3", "--config", no)
    assert has_overlay("3", "--config", no, "--overlay")


def test_a_rerun_gives_identical_bytes(device, tmp_path, write_image):
    pixels = np.dstack([cv2.imread(str(write_image(tmp_path / "a.png")))])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, resolution=(40000, 40000), resolutionunit="CENTIMETER", photometric="rgb")
    found = []
    for out in ("one", "two"):
        assert device("run", path, "--out", tmp_path / out, "--overlay").returncode == 0
        found.append({p.name: p.read_bytes() for p in (tmp_path / out).iterdir() if p.suffix != ".sqlite"})
        time.sleep(1.1)  # a time in a file would show
    assert found[0] == found[1]
    assert b",0.25," in found[0]["counts.csv"]


def test_run_skips_what_is_done_and_does_what_is_not(device, tmp_path, write_image, check_results):
    path, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    for arguments, done in (([], 1), ([], 0), (["--frame", "none"], 1), (["--frame", "none"], 0), ([], 1)):
        assert f"{done} done" in device("run", path, "--out", out, *arguments).stdout
    (out / "a.cells.csv").unlink()
    assert "1 done" in device("run", path, "--out", out).stdout
    write_image(path, seed=5, mtime=1_700_000_999)
    assert "1 done" in device("run", path, "--out", out).stdout
    check_results(out, ["a.png"])


def test_the_named_channel_of_merged_stains_is_counted(device, tmp_path, draw_blobs, write_image, table):
    nuclei = draw_blobs()
    merged = write_image(tmp_path / "merged.png", np.dstack([nuclei, nuclei[::-1], nuclei[:, ::-1]]))
    grey = write_image(tmp_path / "grey.png", nuclei)
    out = tmp_path / "out"
    assert device("run", merged, grey, "--out", out).returncode == 0
    done = device("run", merged, grey, "--out", out, "--channel", "blue")
    assert done.returncode == 1  # another setting, so both are done again
    assert "is grey and has no blue channel: leave --channel out" in done.stdout + done.stderr
    row, *_ = (row for row in table(out / "counts.csv") if row["image"].endswith("merged.png"))
    alone = device("run", grey, "--out", tmp_path / "alone", "--json")
    assert int(row["count"]) == json.loads(alone.stdout)["cells"] > 3
    assert {"intensity_mean_red", "intensity_mean_blue"} <= table(out / "merged.cells.csv")[0].keys()


def test_names_that_collide(device, tmp_path, write_image, check_results):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    paths = [write_image(tmp_path / name) for name in ("x/a.png", "x/a.tif", "y/a.png", "y/a.tif")]
    assert device("run", *paths, "--out", tmp_path / "out").returncode == 0
    check_results(tmp_path / "out", ["x/a.png", "x/a.tif", "y/a.png", "y/a.tif"])
    stems = {path.name.removesuffix(".labels.tif") for path in (tmp_path / "out").glob("*.labels.tif")}
    assert stems == {"a", "x-a", "y-a", "y-a.tif"}


def test_an_image_that_was_mended_leaves_the_failures(device, tmp_path, write_image, check_results):
    (tmp_path / "a.png").write_bytes(b"no image")
    os.utime(tmp_path / "a.png", (1, 1))
    assert device("watch", tmp_path, "--once").returncode == 1
    assert (tmp_path / "cellseg-results" / "failed.csv").exists()
    write_image(tmp_path / "a.png")
    assert device("watch", tmp_path, "--once").returncode == 0
    assert not (tmp_path / "cellseg-results" / "failed.csv").exists()
    check_results(tmp_path / "cellseg-results", ["a.png"])


def test_info_as_text_and_as_json(device, model_path):
    text = device("info")
    assert text.returncode == 0
    assert "operators" in text.stdout
    description = json.loads(device("info", model_path, "--json").stdout)
    assert description["file_bytes"] == model_path.stat().st_size
    assert description["card"]["outputs"]
    assert description["peak_rss_mb"] > 10
    assert description["input"][0]["shape"][-1] == 3


def test_help_names_every_command_and_shows_examples(device):
    text = device("--help").stdout
    assert all(f"\n  {command} " in text for command in ("run", "watch", "info"))
    for command in ("run", "watch", "info"):
        assert f"\n  Examples:\n    cellseg-device {command}" in device(command, "--help").stdout
    assert device("--version").stdout.startswith("cellseg-device, version ")


def test_the_output_may_be_cut_off(environment, model_path, tmp_path, write_image):
    paths = [str(write_image(tmp_path / f"{i}.png", seed=i)) for i in range(100)]
    command = [sys.executable, "-u", "-m", "cellseg_device", "run", *paths, "--out", str(tmp_path / "out")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read().splitlines() == []
    assert process.returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(environment, model_path, tmp_path, write_image, check_results, closed):
    path = write_image(tmp_path / "a.png")
    script = f'"{sys.executable}" -m cellseg_device run "{path}" --out "{tmp_path}/out" {closed}'
    assert subprocess.run(["sh", "-c", script], env=environment, timeout=200, check=False).returncode == 0
    check_results(tmp_path / "out", ["a.png"])


@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["info"], ["info", "--json"], ["config"], ["--help"], ["--version"], ["run", "--help"]],
    ids=" ".join,
)
def test_a_full_disk_under_the_answer_is_reported_in_a_line(device, tmp_path, arguments):
    with open("/dev/full", "w") as full:
        done = device(*arguments, cwd=tmp_path, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == "error: standard output cannot be written (No space left on device): send it elsewhere\n"
    assert done.returncode == 2


def test_a_full_disk_under_the_log_does_not_stop_the_work(device, tmp_path, write_image):
    paths = [write_image(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    with open("/dev/full", "w") as full:
        done = device(
            "run", *paths, "--out", tmp_path / "out", capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 0
    assert done.stderr.count("standard output cannot be written") == 1
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "out").glob("*.labels.tif"))) == 3
