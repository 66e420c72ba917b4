"""A Raspberry Pi's userland on this machine: Debian 12 for arm64 with the device's requirements, run by QEMU.

python arm64_root.py                          # builds it unless it is in the cache, and prints the folder
python arm64_root.py --run WORK COMMAND …     # runs a command in it, WORK being its /work

No program of it is run to build it. It is entered through a user namespace with a `binfmt_misc` of its own, so that
processes in it may start others, and nothing on the machine changes. /proc and /sys are there: without them XNNPACK
turns itself off. Cache and exit code as in debs.py.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from debs import ImpossibleError, built, call, main, mirror, unpacked

SETUP = Path(__file__).resolve().parents[3] / "device" / "setup.cfg"
SUITE, PYTHON = "bookworm", (3, 11)
PACKAGES = "python3,bash,coreutils,libc-bin,base-files,procps,libstdc++6,libgcc-s1,libglib2.0-0"
INSTALLED = "opt/packages"
CPU = "cortex-a72"  # a Raspberry Pi 4's

# How the kernel knows an arm64 program: the beginning of its ELF header, and the bits of it that count
_MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
_MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"

# $1 root, $2 what is its /work, $3 for binfmt_misc; then the command
_ENTER = """
set -e
root=$1 work=$2 format=$3
shift 3
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf %s "$format" > /proc/sys/fs/binfmt_misc/register
for name in proc sys dev; do mount --rbind /$name "$root/$name"; done
mount --bind "$work" "$root/work"
cd /
exec chroot "$root" "$@"
"""


def requirements() -> list[str]:
    """What the device package asks for."""
    config = configparser.ConfigParser()
    config.read(SETUP)
    return config["options"]["install_requires"].strip().splitlines()


def root() -> Path:
    """The root, from the cache or built now; a new one when the requirements change."""
    key = hashlib.sha256("\n".join([*requirements(), SUITE, PACKAGES]).encode()).hexdigest()
    return built(f"arm64-{key[:12]}", _build)


def qemu() -> Path:
    """QEMU 10, which is static: Debian 12's own crashes in the runtime once /sys is there."""
    return unpacked("qemu-user", suite=f"{SUITE}-backports", only="usr/bin/qemu-aarch64") / "usr/bin/qemu-aarch64"


def _build(folder: Path) -> None:
    if os.geteuid():
        raise ImpossibleError("an arm64 root is built by root")
    bootstrap = unpacked("mmdebstrap") / "usr/bin/mmdebstrap"
    options = ["--variant=extract", "--arch=arm64", "--skip=check/qemu,check/empty", f"--include={PACKAGES}"]
    call("perl", bootstrap, *options, SUITE, folder, mirror())
    call(
        *[sys.executable, "-m", "pip", "install", "--quiet", "--target", folder / INSTALLED, "--only-binary=:all:"],
        *["--python-version", ".".join(map(str, PYTHON))],
        *[f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 34)],
        *requirements(),
    )
    if sys.version_info[:2] == PYTHON:  # else its imports take 15 s
        code = [folder / "usr/lib/python3.11", folder / INSTALLED]
        call(sys.executable, "-m", "compileall", "-q", "-j0", "--invalidation-mode=unchecked-hash", *code)
    (folder / "work").mkdir()
    for name in ("var/cache", "var/lib/apt", "usr/share/doc", "usr/share/locale"):
        call("rm", "-rf", folder / name)


def run(work: Path, command: list[str]) -> int:
    """Run a command in the root; its exit code."""
    inside = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/work",
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"/work/installed:/{INSTALLED}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "QEMU_CPU": CPU,
    }
    format_ = f":arm64:M::{_MAGIC}:{_MASK}:{qemu()}:F"
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh", root(), work, format_]
    return subprocess.run([*map(str, enter), *command], env=inside, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", nargs=argparse.REMAINDER, metavar=("WORK", "COMMAND"))
    arguments = parser.parse_args()
    if arguments.run:
        work, *command = arguments.run
        raise SystemExit(run(Path(work).resolve(), command))
    main(root)
