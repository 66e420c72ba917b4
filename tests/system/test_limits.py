"""What the device command may cost: memory, start-up, and the largest image there is."""

import contextlib
import json
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import tifffile

# Runs the command, then tells what it took. The peak is that of this process alone: what wait4 tells of a child
# includes its parent's size at the start.
RUN_AND_TELL = """
import json, re, sys
from pathlib import Path
from cellseg_device.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"code": code, "peak_mb": int(peak[1]) * 1024 / 1e6, "modules": sorted(sys.modules)}))
"""
FORBIDDEN = {"tensorflow", "scipy", "skimage", "pandas", "matplotlib", "tf_keras", "keras", "cellseg_host"}

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak through /proc")


@pytest.fixture
def told(environment, model_path):
    """Run a command and return its lines, and what it took."""

    def run(*arguments):
        command = [sys.executable, "-c", RUN_AND_TELL, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        together = 0.0
        with subprocess.Popen(command, env=environment, **pipes) as process:
            output = []
            reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
            reader.start()
            while process.poll() is None:
                together = max(together, proportional_mb(process.pid))
                time.sleep(0.01)
            reader.join()
        assert process.returncode == 0
        *lines, took = output[0].splitlines()
        return lines, json.loads(took) | {"together_mb": together}

    return run


def proportional_mb(pid):
    """Memory of a process and all below it; what they share is counted once."""
    kilobytes = 0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(OSError):
                pss = re.search(r"Pss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text())
                kilobytes += int(pss[1]) if pss else 0
    return kilobytes * 1024 / 1e6


def nuclei(height, width):
    from cellseg_device.bench import known_field

    return cv2.imdecode(np.frombuffer(known_field(height, width), np.uint8), cv2.IMREAD_COLOR)


@needs_proc
@pytest.mark.parametrize("name", ["field.jpg", "field.png", "field.tif", "16-bit.png", "16-bit.tif"])
def test_a_twelve_megapixel_colour_image_takes_less_than_400_mb(told, tmp_path, name):
    path = tmp_path / name
    pixels = nuclei(3040, 4056)
    if name.startswith("16"):
        pixels = pixels.astype(np.uint16) * 100
    if name.endswith("tif"):
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        cv2.imwrite(str(path), pixels)
    lines, took = told("run", path, "--out", tmp_path / "out", "--overlay")
    assert took["code"] == 0
    assert int(re.search(r"([\d,]+) cells", lines[0])[1].replace(",", "")) > 1000
    print(f"{name}: {took['peak_mb']:.0f} MB, with the process that decodes {took['together_mb']:.0f} MB")
    assert took["peak_mb"] < 400
    assert 100 < took["together_mb"] < 400


@needs_proc
def test_nothing_heavy_is_imported_and_little_memory_taken(told, tmp_path, write_image):
    paths = [write_image(tmp_path / name) for name in ("a.png", "b.tif", "c.jpg")]
    _, took = told("run", *paths, "--out", tmp_path / "out", "--overlay")
    assert took["code"] == 0
    assert not FORBIDDEN & {name.split(".")[0] for name in took["modules"]}
    assert took["peak_mb"] < 150


def test_a_small_image_takes_less_than_a_second_of_the_processor(device, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    seconds = []
    for number in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert device("run", path, "--out", tmp_path / str(number)).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.0


@needs_proc
@pytest.mark.slow
def test_the_largest_image_is_done(told, tmp_path):
    pixels = np.full((12_000, 12_000), 12, np.uint8)
    cells = nuclei(4000, 10_000)[..., 0]  # not everywhere: more than 65,535 are refused
    pixels[4000:8000, 1000:11_000] = cells
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, pixels)
    lines, took = told("run", path, "--out", tmp_path / "out", "--json")
    assert took["code"] == 0
    assert json.loads(lines[0])["cells"] > 5000
    with tifffile.TiffFile(tmp_path / "out" / "large.labels.tif") as labels:
        assert labels.pages.first.shape == (12_000, 12_000)
    assert took["peak_mb"] < 2000
    print(f"{took['peak_mb']:.0f} MB, {json.loads(lines[0])['ms'] / 1e3:.1f} s")


@pytest.mark.slow
def test_more_cells_than_labels_are_a_failed_image(device, tmp_path, table):
    path = tmp_path / "crowd.tif"
    tifffile.imwrite(path, nuclei(12_000, 12_000)[..., 0])
    result = device("run", path, "--out", tmp_path / "out", timeout=500)
    assert result.returncode == 1
    assert re.search(r"has \d+ cells, over the limit of 65535 for one image: crop or split it", result.stderr)
    assert "Traceback" not in result.stderr
