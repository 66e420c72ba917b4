"""The device package in an emulated Raspberry Pi's userland: installed from its wheel, the same labels to the byte.

The root and its QEMU are made by roots/arm64_root.py, once.
"""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).parent / "roots" / "arm64_root.py"
IMAGES = ("hoechst8.png", "smear.png", "tissue.tif")
RUN = ["run", *(f"/work/{name}" for name in IMAGES), "--out", "/work/out", "--threads", "1", "--json"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("arm64")]


class Pi:
    """The root, with a folder that is its /work."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        outer = [sys.executable, str(SCRIPT), "--run", str(self.work), *command]
        return subprocess.run(outer, capture_output=True, text=True, check=False, timeout=600)

    def device(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the installed cellseg-device."""
        return self.call("python3", "/work/installed/bin/cellseg-device", *arguments)


@pytest.fixture(scope="module")
def pi(tmp_path_factory) -> Pi:
    """The root with the wheel of this working tree installed, and the images."""
    built = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    if built.returncode == 3:
        pytest.skip(f"no arm64 root: {built.stderr.strip()}")
    assert built.returncode == 0, built.stderr
    work = tmp_path_factory.mktemp("work")
    pi = Pi(work)
    hello = pi.call("uname", "-m")
    if hello.returncode:
        pytest.skip(f"the arm64 root cannot be entered: {hello.stderr.strip()}")
    assert hello.stdout == "aarch64\n"
    install(work)
    return pi


def install(work: Path) -> None:
    """Build the wheel from a copy of the sources, and install it for the Pi's Python."""
    source = work / "source"
    left_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(REPOSITORY / "device", source, ignore=left_out)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", work, source], check=True)
    (wheel,) = work.glob("*.whl")
    target = ["--target", work / "installed", "--python-version", "3.11", "--only-binary=:all:", "--no-deps"]
    subprocess.run([*pip, "install", *target, "--platform=manylinux_2_28_aarch64", wheel], check=True)


@pytest.fixture(scope="module")
def images(pi) -> Path:
    """Three images of different kinds."""
    import cv2
    import tifffile

    samples = REPOSITORY / "models" / "samples"
    for name in ("hoechst8.png", "smear.png"):
        shutil.copy(samples / name, pi.work)
    pixels = cv2.cvtColor(cv2.imread(str(samples / "tissue.png")), cv2.COLOR_BGR2RGB)
    tifffile.imwrite(pi.work / "tissue.tif", pixels, photometric="rgb", resolution=(4000, 4000), resolutionunit=3)
    return pi.work


@pytest.fixture(scope="module")
def outputs(pi, images):
    """What the commands say, side by side: both cores are at work."""
    with ThreadPoolExecutor() as pool:
        doctor = pool.submit(pi.device, "doctor", "--json", "--out", "/work")
        run = pool.submit(pi.device, *RUN)
        return {"doctor": doctor.result(), "run": run.result()}


def test_the_labels_are_those_of_this_machine_byte_for_byte(outputs, pi, device):
    assert outputs["run"].returncode == 0, outputs["run"].stderr
    (line,) = outputs["run"].stderr.splitlines()  # no warning: the runtime gives the known answer
    assert line.startswith("3 images: 3 done")
    here = pi.work / "here"
    paths = [pi.work / name for name in IMAGES]
    done = device("run", *paths, "--out", here, "--json")
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in outputs["run"].stdout.splitlines()]
    assert [Path(outcome["image"]).name for outcome in outcomes] == [*IMAGES]
    assert all(outcome["cells"] > 10 for outcome in outcomes)
    for outcome in outcomes:
        assert (pi.work / "out" / outcome["labels"]).read_bytes() == (here / outcome["labels"]).read_bytes()
        cells = outcome["labels"].replace(".labels.tif", ".cells.csv")
        assert (pi.work / "out" / cells).read_bytes() == (here / cells).read_bytes()


def test_doctor_finds_nothing_wrong(outputs):
    assert outputs["doctor"].returncode == 0, outputs["doctor"].stdout + outputs["doctor"].stderr
    findings = {finding["name"]: finding for finding in json.loads(outputs["doctor"].stdout)["findings"]}
    assert "aarch64" in findings["python"]["text"]
    assert findings["processor"]["text"] == "NEON"
    assert findings["model"]["state"] == "ok"
    assert "every pixel as expected" in findings["model"]["text"]
