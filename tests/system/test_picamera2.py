"""The real picamera2 on the real libcamera, whose virtual camera shows known images."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

HERE = Path(__file__).resolve().parent
DEVICE = HERE.parents[1] / "device"
HEIGHT, WIDTH = 480, 640
MAIN = "import picamera2_virtual; from cellseg_device.cli import main; main()"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("picamera2")]


def run_in(root: Path, folder: Path, *arguments: object, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Run Python in the root, where `folder` is /mnt and describes the camera."""
    mounts = f"""
        set -e
        for name in proc sys dev; do mount --rbind /$name {root}/$name; done
        mount --bind {folder} {root}/mnt
        mount --bind {folder}/virtual.yaml {root}/usr/share/libcamera/pipeline/virtual/virtual.yaml
        cd /
        exec chroot {root} env -i HOME=/root PATH=/usr/bin:/bin LD_PRELOAD=/opt/cellseg-test/fakedma.so \\
            PYTHONPATH=/opt/cellseg-test:/mnt/package:/opt/site python3 "$@"
    """
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounts, "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def root():
    """The root folder; it is built once for all later runs."""
    spec = importlib.util.spec_from_file_location("virtual_camera_root", HERE / "virtual_camera" / "root.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return module.build()
    except module.CannotBuildError as error:
        pytest.skip(f"no root with a virtual camera: {error}")


@pytest.fixture(scope="module")
def fields(draw_blobs):
    """What the camera sees: three fields with different numbers of cells, in the range of video (16 to 235)."""
    drawn = (draw_blobs(HEIGHT, WIDTH, seed=seed, count=count) for seed, count in ((1, 12), (2, 30), (3, 60)))
    return [(30 + 0.7 * field).round().astype(np.uint8) for field in drawn]


@pytest.fixture(scope="module")
def pi(root, fields, tmp_path_factory):
    """Run ``cellseg-device``, installed from its wheel, in the root; its /mnt is ``pi.folder``."""
    folder = tmp_path_factory.mktemp("pi")
    source = tmp_path_factory.mktemp("wheel")
    shutil.copytree(DEVICE, source / "device", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", source, source / "device"], check=True)
    install = [*pip, "install", "--no-deps", "--ignore-requires-python", "--target", folder / "package"]
    subprocess.run([*install, next(source.glob("*.whl"))], check=True)
    (folder / "frames").mkdir()
    for index, field in enumerate(fields):
        cv2.imwrite(str(folder / "frames" / f"{index}.jpg"), field, [cv2.IMWRITE_JPEG_QUALITY, 98])
    (folder / "virtual.yaml").write_text(
        "%YAML 1.1\n---\n"
        '"Virtual0":\n'
        "  supported_formats:\n"
        f"  - width: {WIDTH}\n    height: {HEIGHT}\n    frame_rates: [15, 30]\n"
        '  frames:\n    path: "/mnt/frames/"\n'
        '  location: "CameraLocationExternal"\n'
        '  model: "imx_virtual"\n'
    )

    def run(*arguments, main=MAIN):
        return run_in(root, folder, "-c", main, *arguments)

    run.folder = folder
    return run


def shown(capture, fields):
    """Which of the fields a capture shows, by correlation."""
    assert capture.shape == (HEIGHT, WIDTH, 3)
    grey = capture.mean(2)
    likeness = [np.corrcoef(grey.ravel(), field.ravel())[0, 1] for field in fields]
    assert max(likeness) > 0.99
    assert sorted(likeness)[-2] < 0.5
    return int(np.argmax(likeness))


def test_what_the_camera_sees_is_counted_as_the_same_image_in_a_file(pi, device, fields, tmp_path, table, write_image):
    done = pi("camera", "--out", "/mnt/out", "--every", "0", "--count", "12", "--warm-up", "300ms")
    assert done.returncode == 0, done.stderr
    warning, about = done.stderr.splitlines()[:2]
    assert about == f"camera: imx_virtual, {WIDTH}×{HEIGHT} NV12"
    assert warning == (
        "warning: the camera does not let its exposure, gain, white balance be locked: counts may drift with the light"
    )
    out = pi.folder / "out"
    captures = sorted((out / "captures").iterdir())
    assert len(captures) == 12
    again = tmp_path / "again"
    assert device("run", *captures, "--out", again).returncode == 0
    known = tmp_path / "known"
    paths = [write_image(tmp_path / f"{index}.png", field) for index, field in enumerate(fields)]
    assert device("run", *paths, "--out", known).returncode == 0
    expected = [int(row["count"]) for row in table(known / "counts.csv")]
    assert expected == sorted(set(expected))
    seen = set()
    for path, row in zip(captures, table(out / "counts.csv"), strict=True):
        assert row["image"] == path.name
        index = shown(cv2.imread(str(path))[..., ::-1], fields)
        seen.add(index)
        assert abs(int(row["count"]) - expected[index]) <= 1  # its frames differ by a grey level here and there
        assert (out / row["labels"]).read_bytes() == (again / row["labels"]).read_bytes()
        assert np.mean(tifffile.imread(out / row["labels"]) > 0) == pytest.approx(
            np.mean(tifffile.imread(known / f"{index}.labels.tif") > 0), rel=0.02
        )
    assert len(seen) > 1


def test_snap_and_focus_aid(pi, fields):
    done = pi("snap", "--out", "/mnt/snap.png", "--size", "800x600", "--warm-up", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert f"the camera has no size 800x600: using {WIDTH}x{HEIGHT}" in done.stderr
    shown(cv2.imread(str(pi.folder / "snap.png"))[..., ::-1], fields)
    said = json.loads(done.stdout)
    assert (said["height_px"], said["width_px"]) == (HEIGHT, WIDTH)
    done = pi("camera", "--focus-aid", "--json", "--count", "4", "--warm-up", "0", "--preview", "/mnt/preview.jpg")
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(scores) == 4
    assert all(0 < score["focus"] <= score["best"] for score in scores)
    assert cv2.imread(str(pi.folder / "preview.jpg")).shape == (HEIGHT, WIDTH, 3)


def test_a_camera_that_is_not_there_ends_with_its_own_code(pi):
    done = pi("snap", "--source", "picamera2:1", "--out", "/mnt/none.png")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the camera is not there: check its cable")


OPEN_AND_CLOSE = """
import json, os, picamera2_virtual
from cellseg_device.camera.picamera import PiCamera
from cellseg_device.camera.source import Settings
def held():  # memfds open, all descriptors, memfds mapped
    names = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:
            pass  # the listing's own, or one of a frame that came and went
    return [sum("memfd" in name for name in names), len(names), open("/proc/self/maps").read().count("memfd")]
rounds = []
for _ in range(12):
    before = held()
    camera = PiCamera(0, Settings(warm_up_s=0), 5, lambda line: None)
    for _ in range(3): camera.capture()
    inside = held()
    camera.close()
    rounds.append([before, inside, held()])
print(json.dumps(rounds))
"""


def test_buffers_are_given_back_when_it_is_closed(pi):
    """Each opening takes the same descriptors and maps of (here: simulated) contiguous memory, and leaves none."""
    done = pi(main=OPEN_AND_CLOSE)
    assert done.returncode == 0, done.stderr
    first, *later = json.loads(done.stdout)
    assert first[0][0] == 0
    for before, inside, after in later:
        assert before == after == first[2]
        assert after[0] == after[2] == 0
        assert inside[0] > 0


STALL = """
import json, picamera2_virtual
from cellseg_device.camera.picamera import PiCamera
from cellseg_device.camera.source import Settings
from cellseg_device.camera.supervise import Limits, Supervised
from cellseg_device.watching.wake import StopSignal
said = []
opener = lambda settings: PiCamera(0, settings, 1, lambda line: None)
camera = Supervised(opener, Settings(warm_up_s=0), Limits(timeout_s=1), said.append, StopSignal())
shapes = [camera.capture().shape]
camera._camera._camera.stop()
shapes.append(camera.capture().shape)
camera.close()
print(json.dumps([said, shapes, camera.is_hung]))
"""


def test_a_camera_that_stands_still_is_opened_again(pi):
    done = pi(main=STALL)
    assert done.returncode == 0, done.stderr
    said, shapes, is_hung = json.loads(done.stdout)
    assert said == ["the camera gave no image in time; opening it again", "the camera is back"]
    assert shapes == [[HEIGHT, WIDTH, 3]] * 2
    assert not is_hung
