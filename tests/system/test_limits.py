"""What the device command may cost: memory, start-up, and the largest image there is."""

import contextlib
import json
import os
import re
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

# Files of a control group, in each version: its limits (version 1 has one more, with swap), and how many were killed
LIMITS = {"cgroup": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), "cgroup2": ("memory.max",)}
KILLS = {"cgroup": "memory.oom_control", "cgroup2": "memory.events"}

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak through /proc")


@pytest.fixture
def measured(environment, model_path):
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
                before = time.process_time()
                together = max(together, proportional_mb(process.pid))
                time.sleep(max(0.01, 4 * (time.process_time() - before)))  # looking costs more, the more it holds
            reader.join()
        assert process.returncode == 0
        *lines, took = output[0].splitlines()
        return lines, json.loads(took) | {"together_mb": together}

    return run


def memory_mounts():
    """Where control groups of memory are mounted, and of which version."""
    mounts = Path("/proc/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            yield kind, Path(folder)


@pytest.fixture
def limited(environment):
    """Run ``cellseg-device`` with these arguments in a control group of so much memory; also how many were killed."""
    for kind, mount in memory_mounts():
        group = mount / f"cellseg-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / LIMITS[kind][0]).exists():
            break
        group.rmdir()
    else:
        pytest.skip("not applicable: no control group of memory can be made here")

    def run(limit, *arguments):
        for name in (*LIMITS[kind], *LIMITS[kind]):  # twice, since neither may pass the other on its way
            with contextlib.suppress(OSError):
                (group / name).write_text(str(limit))
        assert int((group / LIMITS[kind][0]).read_text()) <= limit
        command = [
            "sh",
            "-c",
            f'echo $$ > {group}/cgroup.procs && exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "cellseg_device",
        ]
        done = subprocess.run(
            [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        return done, int(re.search(r"^oom_kill (\d+)$", (group / KILLS[kind]).read_text(), re.MULTILINE)[1])

    yield run
    end = time.monotonic() + 10
    while time.monotonic() < end:  # until the last of its processes is gone
        with contextlib.suppress(OSError):
            group.rmdir()
            break
        time.sleep(0.05)


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
    from cellseg_device.watching.bench import known_field

    return cv2.imdecode(np.frombuffer(known_field(height, width), np.uint8), cv2.IMREAD_COLOR)


@needs_proc
@pytest.mark.parametrize(
    "name",
    [
        "field.jpg",
        "16-bit.tif",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("field.png", "field.tif", "16-bit.png")),
    ],
)
def test_a_twelve_megapixel_colour_image_takes_less_than_350_mb(measured, tmp_path, name):
    path = tmp_path / name
    pixels = nuclei(3040, 4056)
    if name.startswith("16"):
        pixels = pixels.astype(np.uint16) * 100
    if name.endswith("tif"):
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        cv2.imwrite(str(path), pixels)
    lines, took = measured("run", path, "--out", tmp_path / "out", "--overlay")
    assert took["code"] == 0
    assert int(re.search(r"([\d,]+) cells", lines[0])[1].replace(",", "")) > 1000
    print(f"{name}: {took['peak_mb']:.0f} MB, with the process that decodes {took['together_mb']:.0f} MB")
    assert took["peak_mb"] < 350
    assert 100 < took["together_mb"] < 350


@needs_proc
def test_nothing_heavy_is_imported_and_little_memory_taken(measured, tmp_path, write_image):
    paths = [write_image(tmp_path / name) for name in ("a.png", "b.tif", "c.jpg")]
    _, took = measured("run", *paths, "--out", tmp_path / "out", "--overlay")
    assert took["code"] == 0
    assert not FORBIDDEN & {name.split(".")[0] for name in took["modules"]}
    assert took["peak_mb"] < 150


def test_a_small_image_takes_hardly_more_of_the_processor_than_importing_the_libraries(cpu_s, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    libraries = [sys.executable, "-c", "import cv2, numpy, tifffile, PIL.Image, ai_edge_litert.interpreter"]
    run = [sys.executable, "-m", "cellseg_device", "run", path, "--out"]
    rounds = [(cpu_s([*run, tmp_path / str(number)]), cpu_s(libraries)) for number in range(5)]
    least, imports = map(min, zip(*rounds, strict=True))
    print(f"a small image takes {least / imports:.2f} times as much as the imports")
    assert least / imports < 4


FREE = r"needs more memory than there is \(([\d,]+) MB, and (\d+) MB are free\): crop or split it"


@pytest.mark.slow
def test_an_image_that_does_not_fit_costs_a_watch_nothing_else(limited, device, table, tmp_path):
    """What would stop it for ever: zeros, 140 kB on the disk, that would have it killed at every start."""
    folder, out, plain = tmp_path / "images", tmp_path / "out", tmp_path / "plain"
    folder.mkdir()
    field = nuclei(1040, 1392)
    ordinary = {"a.png": field, "d.png": field[::-1], "e.png": nuclei(3000, 4000)[..., 0], "g.png": field[:, ::-1]}
    zeros = np.zeros((12_000, 12_000), np.uint8)
    for name, pixels in {**ordinary, "b.png": zeros, "c.png": cv2.merge([zeros] * 3), "f.png": zeros}.items():
        assert cv2.imwrite(str(folder / name), pixels)
    done, killed = limited(600 << 20, "watch", folder, "--out", out, "--once")
    assert (done.returncode, killed) == (1, 0), done.stderr
    failed = {row["image"]: re.fullmatch(FREE, row["reason"]) for row in table(out / "failed.csv")}
    assert failed.keys() == {"b.png", "c.png", "f.png"}
    for found in failed.values():
        needed, free = (int(number.replace(",", "")) for number in found.groups())
        assert 600 < needed < 1200
        assert 300 < free < 600
    paths = [folder / name for name in ordinary]
    assert device("run", *paths, "--out", plain).returncode == 0
    for row, expected in zip(table(out / "counts.csv"), table(plain / "counts.csv"), strict=True):
        assert Path(expected["image"]).name == row["image"]
        assert int(row["count"]) == int(expected["count"]) > 400
        assert (out / row["labels"]).read_bytes() == (plain / expected["labels"]).read_bytes()
    # They are tried again with more
    for name in ("c.png", "f.png"):
        (folder / name).unlink()
    done, killed = limited(1500 << 20, "watch", folder, "--out", out, "--once")
    assert (done.returncode, killed) == (0, 0), done.stderr
    assert [row["image"] for row in table(out / "counts.csv")] == [*ordinary, "b.png"]


def test_a_decoder_is_refused_memory_in_a_group_that_is_full_before_it_is_killed(limited, tmp_path, write_image):
    """As the region's mask, which is decoded without a budget."""
    mask = tmp_path / "mask.png"
    assert cv2.imwrite(str(mask), np.zeros((12_000, 12_000), np.uint8))
    image = write_image(tmp_path / "a.png")
    done, killed = limited(250 << 20, "run", image, "--region", mask, "--out", tmp_path / "out")
    assert (done.returncode, killed) == (2, 0)
    assert f"{mask} needs more memory than there is" in done.stderr


@needs_proc
@pytest.mark.slow
def test_the_largest_image_is_done(measured, tmp_path):
    pixels = np.full((12_000, 12_000), 12, np.uint8)
    cells = nuclei(4000, 10_000)[..., 0]  # not everywhere: more than 65,535 are refused
    pixels[4000:8000, 1000:11_000] = cells
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, pixels)
    lines, took = measured("run", path, "--out", tmp_path / "out", "--json")
    assert took["code"] == 0
    assert json.loads(lines[0])["cells"] > 5000
    with tifffile.TiffFile(tmp_path / "out" / "large.labels.tif") as labels:
        assert labels.pages.first.shape == (12_000, 12_000)
    assert took["peak_mb"] < 1100
    print(f"{took['peak_mb']:.0f} MB, {json.loads(lines[0])['ms'] / 1e3:.1f} s")


@pytest.mark.slow
def test_more_cells_than_labels_are_a_failed_image(device, tmp_path):
    path = tmp_path / "crowd.tif"
    dot = np.zeros((10, 10), np.uint8)
    cv2.circle(dot, (5, 5), 3, 160, -1)
    tifffile.imwrite(path, cv2.GaussianBlur(np.tile(dot, (260, 260)), (0, 0), 0.8) + 20)
    # The gate takes a lattice of dots for a chamber, whose model finds none of them
    result = device("run", path, "--out", tmp_path / "out", "--gate", "none")
    assert result.returncode == 1
    assert re.search(r"has \d+ cells, over the limit of 65535 for one image: crop or split it", result.stderr)
    assert "Traceback" not in result.stderr
