"""Shared by all tests: small images drawn in code, and the model that comes with the package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

LONG_AGO = 1_700_000_000  # seconds since 1970
ROOT = Path(__file__).resolve().parents[1]

# A skip with a reason that begins so is right everywhere; any other one is a failure where CELLSEG_CI is set
NOT_APPLICABLE = "not applicable: "

# A shell ignores Ctrl-C in what it starts in the background, and so would every command that is tested
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _failed_if_skipped_in_ci(report):
    """Turn the report of a skip into a failure, in CI: there everything that tests need is installed."""
    if os.environ.get("CELLSEG_CI") and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(NOT_APPLICABLE):
            report.outcome, report.longrepr = "failed", f"skipped, which CI counts as a failure: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _failed_if_skipped_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _failed_if_skipped_in_ci((yield))


def pytest_collection_modifyitems(items):
    """Put slow tests first, so that of several processes none is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _draw_blobs(height: int = 96, width: int = 128, seed: int = 0, count: int = 8) -> np.ndarray:
    """Bright blurred discs on a dark, slightly noisy background, uint8 grey."""
    rng = np.random.default_rng(seed)
    field = np.zeros((height, width), np.float32)
    for _ in range(count):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        axes = int(rng.integers(6, 11)), int(rng.integers(6, 11))
        cv2.ellipse(field, centre, axes, float(rng.integers(180)), 0, 360, float(rng.integers(120, 220)), -1)
    field = cv2.GaussianBlur(field, (0, 0), 1.2) + 12 + rng.normal(0, 2, field.shape)
    return np.clip(field, 0, 255).astype(np.uint8)


def _draw_labels(height: int = 60, width: int = 80, step: int = 20) -> np.ndarray:
    """Touching and lone squares, numbered row by row from 1, uint16."""
    labels = np.zeros((height, width), np.uint16)
    number = 0
    for row in range(5, height - 8, step):
        for col in range(5, width - 8, step):
            number += 1
            labels[row : row + 10, col : col + 10 + 10 * (number % 2)] = number
    return labels


def _write_image(path: Path, pixels: np.ndarray | None = None, mtime: float | None = LONG_AGO, **blobs) -> Path:
    """Write an image file, whole at once for a running watch; its time is long ago unless `mtime` is None."""
    is_encoded, data = cv2.imencode(path.suffix, _draw_blobs(**blobs) if pixels is None else pixels)
    assert is_encoded
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data.tobytes())
    if mtime is not None:
        os.utime(part, (mtime, mtime))
    return part.replace(path)


def _winding(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """How often closed paths along the grid of pixels wind around each pixel's centre, int of `shape`.

    An edge that goes down has all that is to its right on its left, so it counts there as 1; one that goes up as -1.
    """
    height, width = shape
    change = np.zeros((height + 1, width + 1), int)  # to be summed up along rows and columns
    for ring in rings:
        ring = np.asarray(ring)
        (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
        assert ((x == next_x) | (y == next_y)).all(), "along the grid"
        assert (ring == ring.astype(int)).all()
        assert (ring.min(), x.max() <= width, y.max() <= height) >= (0, True, True)
        np.add.at(change, (y.astype(int), x.astype(int)), x == next_x)
        np.add.at(change, (next_y.astype(int), next_x.astype(int)), -(x == next_x).astype(int))
    return change.cumsum(0).cumsum(1)[:height, :width]


def _count_calls(function: Callable[..., object], *arguments: object) -> int:
    """How many functions, of Python or of C, a call of this one calls, with all that these call."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    function(*arguments)  # a first call may import
    sys.setprofile(count)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return number


@pytest.fixture(scope="session")
def count_calls():
    """`_count_calls`."""
    return _count_calls


@pytest.fixture(scope="session")
def winding():
    """`_winding`: what a polygon fills are the pixels where it is odd (or, by another rule, not zero)."""
    return _winding


@pytest.fixture(scope="session")
def draw_blobs():
    """`_draw_blobs`."""
    return _draw_blobs


@pytest.fixture(scope="session")
def draw_labels():
    """`_draw_labels`."""
    return _draw_labels


@pytest.fixture(scope="session")
def write_image():
    """`_write_image`."""
    return _write_image


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample images."""
    return ROOT / "models" / "samples"


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The bundled model."""
    from cellseg_device.model.interpreter import bundled_path

    return bundled_path()


@pytest.fixture(scope="session")
def model(model_path: Path):
    """The bundled model, loaded."""
    from cellseg_device.model.interpreter import Model

    return Model(model_path)


@pytest.fixture
def let_in() -> Callable[[Path], None]:
    """Open a path, and the way to it from the temporary folder, to every user, however deep pytest puts it."""

    def open_way(path: Path) -> None:
        for part in (path, *path.parents):
            if part == Path(tempfile.gettempdir()):
                break
            part.chmod(0o755)

    return open_way


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Variables for a command of ours: it finds the packages of this working tree."""
    path = os.pathsep.join([str(ROOT / "device"), str(ROOT / "host"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


@pytest.fixture(scope="session")
def device(environment: dict[str, str], model_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``cellseg-device`` with these arguments to its end."""

    def run(*arguments: object, timeout: float = 120, **options) -> subprocess.CompletedProcess[str]:
        options = {"env": environment, "capture_output": True, "stdin": subprocess.DEVNULL} | options
        command = [sys.executable, "-m", "cellseg_device", *map(str, arguments)]
        return subprocess.run(command, text=True, timeout=timeout, check=False, **options)

    return run
