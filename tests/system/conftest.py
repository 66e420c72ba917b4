"""Helpers for tests that run the commands as a user does."""

from __future__ import annotations

import contextlib
import csv
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from serving import HOSTILE, Served, served

SHIM = Path(__file__).resolve().parent / "virtual_camera" / "fakev4l.c"


class Watching:
    """A ``cellseg-device watch`` (or another command that runs on) in the background, its output in files."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str], command: str = "watch") -> None:
        self._stdout, self._stderr = folder / "stdout.txt", folder / "stderr.txt"
        with open(self._stdout, "w") as stdout, open(self._stderr, "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cellseg_device", command, *arguments],
                stdout=stdout,
                stderr=stderr,
                env=environment,
            )

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def complaints(self) -> list[str]:
        """The warnings and errors, without the lines about the work."""
        return [line for line in self.stderr.splitlines() if line.startswith(("warning: ", "error: "))]

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for a condition; fail with what was printed."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended: {self.stderr}"
            assert time.monotonic() < end, f"waited in vain\n{self.stdout}\n{self.stderr}"
            time.sleep(0.02)

    def until_done(self, *names: str) -> None:
        """Wait until there is a line for each of these images."""
        self.until(lambda: {line.split("  ")[0] for line in self.stdout.splitlines()} >= set(names))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def watching(environment, model_path, tmp_path_factory) -> Iterator[Callable[..., Watching]]:
    """Start a watch, or the named command, with these arguments."""
    started = []

    def start(*arguments: object, command: str = "watch", variables: dict[str, str] | None = None) -> Watching:
        folder = tmp_path_factory.mktemp("printed")
        watch = Watching([*map(str, arguments)], folder, variables or environment, command)
        started.append(watch)
        return watch

    yield start
    for watch in started:
        if watch.process.poll() is None:
            watch.process.kill()
            watch.process.wait()


@pytest.fixture(scope="session")
def device_here() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``cellseg-device`` with these arguments in this process: for the many ways in which a command is refused."""
    from cellseg_device.cli import main

    def run(*arguments: object, cwd: Path = Path(), env: Mapping[str, str] | None = None):
        with contextlib.chdir(cwd):
            done = CliRunner().invoke(main, [*map(str, arguments)], env=env)
        assert isinstance(done.exception, SystemExit | None), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def cpu_s(environment) -> Callable[[Sequence[object]], float]:
    """Run a command well to its end: the seconds of the processor that it and its children took."""

    def measure(command: Sequence[object]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*map(str, command)], env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return measure


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def table() -> Callable[[Path], list[dict[str, str]]]:
    """Read a CSV file as a list of rows."""
    return read_csv


@pytest.fixture(scope="session")
def check_results() -> Callable[..., None]:
    """Check that a folder holds whole results of exactly these images, which agree with each other."""

    def check(out: Path, images: list[str]) -> None:
        rows = read_csv(out / "counts.csv")
        assert [row["image"] for row in rows] == images
        for row in rows:
            labels = tifffile.imread(out / row["labels"])
            assert labels.shape == (int(row["height_px"]), int(row["width_px"]))
            count = int(row["count"])
            assert np.array_equal(np.unique(labels), np.arange(count + 1)[int(labels.min()) :])
            cells = read_csv(out / row["labels"].replace(".labels.tif", ".cells.csv"))
            assert [int(cell["label"]) for cell in cells] == list(range(1, count + 1))
            area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
            assert [int(cell["area_px"]) for cell in cells] == area.tolist()
        kept = {path.name for path in out.iterdir() if path.name.endswith(".labels.tif")}
        assert kept == {row["labels"] for row in rows}
        assert not list(out.glob("*.tmp")) + list(out.glob(".*.tmp"))

    return check


@pytest.fixture(scope="session")
def counted(device, samples, tmp_path_factory) -> Path:
    """A folder of images that were counted into `cellseg-results` there: samples, a hostile name, and one is gone."""
    folder = tmp_path_factory.mktemp("counted")
    for path in samples.glob("*.png"):
        shutil.copy(path, folder)
    shutil.copy(samples / "smear.png", folder / HOSTILE)
    shutil.copy(samples / "dapi16.png", folder / "gone.png")
    blurred = cv2.GaussianBlur(cv2.imread(str(samples / "hoechst8.png"), -1), (0, 0), 6)
    cv2.imwrite(str(folder / "blurred.png"), blurred)
    (folder / "broken.png").write_bytes(b"no image")
    done = device("watch", folder, "--once", "--pixel-size-um", "0.5", "--region", "circle", "--min-diameter", "8px")
    assert done.returncode == 1, done.stderr  # for the one that is none
    (folder / "gone.png").unlink()
    return folder


@pytest.fixture(scope="session")
def page(counted, environment) -> Iterator[Served]:
    """The page of `counted`, on this computer alone."""
    with served(environment, counted) as server:
        yield server


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Open an address in a window; what the page complains about fails the test."""
    opened, complaints = [], []

    def complain(message):
        if message.type == "error" and not re.search(r"status of (409|422) ", message.text):  # which the page explains
            complaints.append(message.text)

    def start(address: str, width: int = 1280, height: int = 800, scheme: str = "dark", **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        opened.append(context)
        tab = context.new_page()
        tab.on("console", complain)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.set_default_timeout(30_000)
        tab.goto(address)
        return tab

    yield start
    for context in opened:
        context.close()
    assert complaints == []


@dataclass
class Usb:
    """The stand-in: a file that is a camera to a process with these `variables`."""

    path: Path
    variables: dict[str, str]

    @property
    def source(self) -> list[str]:
        return ["--source", f"usb:{self.path}", "--warm-up", "300ms"]

    def show(self, scene: np.ndarray) -> None:
        assert scene.shape == (480, 640)
        self.path.with_name("video0.scene").write_bytes(scene.tobytes())


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for a USB camera needs gcc")
    library = tmp_path_factory.mktemp("shim") / "fakev4l.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return library


@pytest.fixture
def usb(shim, environment, draw_blobs):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "video0"
        path.touch()
        camera = Usb(path, {**environment, "LD_PRELOAD": str(shim), "FAKE_V4L": str(path)})
        camera.show(draw_blobs(480, 640, count=20) // 2 + 16)
        yield camera


@pytest.fixture
def running_usb(watching, usb):
    """Start ``cellseg-device camera`` where the stand-in is a camera."""
    return lambda *arguments: watching(*arguments, command="camera", variables=usb.variables)
