"""A root folder in which the real picamera2 runs on the real libcamera, with libcamera's virtual camera.

`build` makes it once (Debian sid; nothing is compiled but a stand-in for /dev/udmabuf; 20 seconds, 0.8 GB) and keeps
it in ``$CELLSEG_CACHE`` or ``~/.cache/cellseg``. By hand: ``python tests/system/virtual_camera/root.py``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "virtual-camera-1"  # another number where the recipe changes
DESCRIPTION = "usr/share/libcamera/pipeline/virtual/virtual.yaml"

# Unpacked only: no maintainer script runs, so that it takes seconds.
_SYSTEM = "python3,python3-libcamera,libcamera-ipa,python3-prctl,libc-bin,base-files,coreutils,bash"
# The sid of a mirror that is older than this machine's clock will do.
_APT = 'Acquire::Check-Valid-Until "false"'
_LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "tifffile", "watchdog", "click", "ai-edge-litert")
# What picamera2 imports; PiDNG, which has to be compiled, is left out for a stand-in.
_LIBRARIES += ("piexif", "simplejpeg", "videodev2", "av", "libarchive-c", "tqdm", "jsonschema", "OpenEXR")
_PLATFORMS = ("2_17", "2_27", "2_28", "2_34", "2_39")


class CannotBuildError(Exception):
    """Why there is no such root here."""


def build() -> Path:
    """Make the root unless it is there.

    Raises
    ------
    CannotBuildError
        If this machine does not allow it.
    """
    if os.uname().machine != "x86_64" or sys.platform != "linux":
        raise CannotBuildError("it is for x86-64 Linux")
    if os.geteuid() != 0:
        raise CannotBuildError("it needs root, for chroot and mounts")
    for program in ("unshare", "gcc", "apt-get", "dpkg-deb", "perl"):
        if shutil.which(program) is None:
            raise CannotBuildError(f"it needs {program}")
    _call("unshare", "--mount", "true")
    cache = Path(os.environ.get("CELLSEG_CACHE") or Path.home() / ".cache" / "cellseg")
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / NAME
    with open(cache / f"{NAME}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "opt/ready").exists():
            shutil.rmtree(root, ignore_errors=True)
            _make(root, cache)
            (root / "opt/ready").touch()
        _copy_ours(root)
    return root


def _make(root: Path, cache: Path) -> None:
    mmdebstrap = shutil.which("mmdebstrap") or _unpacked_mmdebstrap(cache)
    options = ["--mode=root", "--variant=extract", "--skip=check/qemu", f"--aptopt={_APT}", f"--include={_SYSTEM}"]
    _call(mmdebstrap, *options, "sid", root)
    version = _call("chroot", root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", root / "opt/site"]
    for_root = ["--python-version", version, "--implementation", "cp", "--only-binary=:all:"]
    for_root += [f"--platform=manylinux_{number}_x86_64" for number in _PLATFORMS]
    _call(*pip, *for_root, *_LIBRARIES)
    _call(*pip, "--no-deps", "picamera2")
    _call("chroot", root, "python3", "-m", "compileall", "-q", "/opt/site", may_fail=True)


def _unpacked_mmdebstrap(cache: Path) -> str:
    """Fetch the program, one Perl file, without installing it."""
    folder = cache / "mmdebstrap"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if _call("apt-get", "download", "mmdebstrap", cwd=folder, may_fail=True) is None:
        _call("apt-get", "update")
        _call("apt-get", "download", "mmdebstrap", cwd=folder)
    _call("dpkg-deb", "-x", next(folder.glob("*.deb")), folder)
    return str(folder / "usr/bin/mmdebstrap")


def _copy_ours(root: Path) -> None:
    ours = root / "opt/cellseg-test"
    shutil.rmtree(ours, ignore_errors=True)
    (ours / "pidng").mkdir(parents=True)
    (root / "mnt").mkdir(exist_ok=True)
    (root / DESCRIPTION).touch()
    for name in ("pykms.py", "picamera2_virtual.py"):
        shutil.copy(HERE / name, ours)
    # For picamera2's import alone: it writes DNG files with it.
    (ours / "pidng/__init__.py").touch()
    (ours / "pidng/camdefs.py").write_text("class Picamera2Camera: ...\n")
    (ours / "pidng/core.py").write_text("class PICAM2DNG: ...\n")
    _call("gcc", "-O2", "-shared", "-fPIC", "-o", ours / "fakedma.so", HERE / "fakedma.c", "-ldl")


def _call(*command: object, may_fail: bool = False, **options) -> str | None:
    options |= {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": 150}
    try:
        done = subprocess.run([*map(str, command)], text=True, check=False, **options)
    except subprocess.TimeoutExpired:
        raise CannotBuildError(f"{command[0]} takes too long") from None
    if done.returncode and not may_fail:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CannotBuildError(f"{command[0]} fails: {last}")
    return done.stdout if not done.returncode else None


if __name__ == "__main__":
    try:
        print(build())
    except CannotBuildError as error:
        sys.exit(f"no root with a virtual camera: {error}")
