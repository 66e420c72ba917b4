"""What a user installs works on its own: in clean environments, away from this working tree."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("packaging")]


def call(*command: object, cwd: Path, **options) -> str:
    """Run a command away from our packages, fail with all it said."""
    clean = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "PYTHONWARNINGS")
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment(folder: Path) -> Path:
    """A new virtual environment; the path of its programs."""
    venv.create(folder, with_pip=True)
    return folder / "bin"


def environment_of(folder: Path, wheel: Path, *others: Path) -> Path:
    """A new virtual environment of wheels of ours and what the first one says that it needs; the path of its programs.

    What it needs is linked from the environment of the tests: nothing is fetched, and nothing else is there.
    """
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    call(*pip, "install", "--quiet", "--no-deps", "--no-compile", wheel, *others, cwd=folder)
    todo, found = [Requirement(wheel.name.split("-")[0])], set()
    while todo:
        requirement = todo.pop()
        own = next(metadata.distributions(name=requirement.name, path=[str(packages)]), None)
        distribution = own or metadata.distribution(requirement.name)
        if (distribution.name, *requirement.extras) in found:
            continue
        found.add((distribution.name, *requirement.extras))
        for needed in map(Requirement, distribution.requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
        for name in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"} if not own else ():
            if not (packages / name).exists():
                (packages / name).symlink_to(distribution.locate_file(name))
    return folder / "bin"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree without anything that was built in it."""
    copy = tmp_path_factory.mktemp("tree") / "cellseg"
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", ".demo", "runs", "build", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    return copy


@pytest.fixture(scope="module")
def wheels(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheels of both packages."""
    out = tmp_path_factory.mktemp("wheels")
    for source in (tree / "device", tree):
        call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source, cwd=out)
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


def test_make_demo_counts_the_samples_without_tensorflow(tree):
    said = call("make", "demo", f"PYTHON={sys.executable}", cwd=tree)
    assert "5 done, 0 failed" in said
    with (tree / ".demo" / "results" / "counts.csv").open() as file:
        counts = {row["image"]: int(row["count"]) for row in csv.DictReader(file)}
    assert set(counts) == {"dapi16.png", "empty.png", "hoechst8.png", "smear.png", "tissue.png"}
    assert counts["dapi16.png"] > 50
    assert len(list((tree / ".demo" / "results").glob("*.overlay.jpg"))) == 5
    installed = call(tree / ".venv-demo/bin/python", "-m", "pip", "list", cwd=tree)
    for name in ("tensorflow", "scipy", "scikit-image", "pandas", "matplotlib"):
        assert f"\n{name} " not in installed


def test_the_device_wheel_is_whole_and_runs(wheels, tmp_path):
    with zipfile.ZipFile(wheels["cellseg_device"]) as wheel:
        assert wheel.read("cellseg_device/data/nuclei.tflite") == (ROOT / "models/nuclei.tflite").read_bytes()
        names = wheel.namelist()
    assert {"cellseg_device/data/field.png", "cellseg_device/py.typed"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    programs = environment_of(tmp_path / "venv", wheels["cellseg_device"])
    said = call(programs / "cellseg-device", "run", ROOT / "models/samples/tissue.png", cwd=tmp_path)
    assert "1 image: 1 done, 0 failed" in said
    assert (tmp_path / "cellseg-results" / "tissue.labels.tif").exists()


def test_the_host_wheel_runs_in_an_environment_of_its_own(wheels, tmp_path):
    programs = environment_of(tmp_path / "venv", wheels["cellseg_host"], wheels["cellseg_device"])
    call(
        programs / "python",
        "-c",
        "import importlib.util as i, sys; sys.exit(bool(i.find_spec('skimage')))",
        cwd=tmp_path,
    )
    host = programs / "cellseg-host"
    call(host, "synth", "fields", "-n", "4", "--size", "96x96", "--cells", "6", "--split", "train", cwd=tmp_path)
    call(
        host, "synth", "fields", "-n", "1", "--size", "96x96", "--seed", "9", "--split", "val", "--force", cwd=tmp_path
    )
    numbers = ["--epochs", "1", "--steps", "20", "--batch", "4", "--side", "64"]
    assert "best: epoch 1" in call(host, "train", "fields", "--out", "run", *numbers, cwd=tmp_path)
    call(host, "quantize", "run", "--int8", "--data", "fields", "--out", "m.tflite", cwd=tmp_path)
    assert "AP@0.5" in call(host, "evaluate", "m.tflite", "fields", "--split", "val", cwd=tmp_path)
    call(host, "compare", "m.tflite", "--data", "fields", "--split", "val", "--runs", "3", cwd=tmp_path)
    assert "</html>" in (tmp_path / "report" / "index.html").read_text()  # its templates are in the wheel


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="not applicable: tflite-runtime has wheels up to Python 3.11"
)
def test_the_device_runs_on_tflite_runtime_and_says_that_it_computes_otherwise(wheels, tmp_path):
    """What a 32-bit Raspberry Pi gets: the older runtime, with NumPy 1 and OpenCV 4."""
    programs = clean_environment(tmp_path / "venv")
    older = ["numpy<2", "opencv-python-headless<5", "tflite-runtime", "click", "pillow", "tifffile", "watchdog"]
    call(programs / "pip", "install", "--quiet", *older, cwd=tmp_path)
    call(programs / "pip", "install", "--quiet", "--no-deps", wheels["cellseg_device"], cwd=tmp_path)
    command = [programs / "cellseg-device", "run", ROOT / "models/samples/dapi16.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 done, 0 failed" in done.stdout
    assert "does not compute exactly" in done.stderr
