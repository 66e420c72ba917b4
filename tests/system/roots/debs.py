"""Programs from Debian packages, unpacked into a cache: nothing is installed, the machine stays as it is.

python debs.py systemd-container libsystemd-shared                     # prints the folder they were unpacked into
python debs.py --suite bookworm-backports qemu-user

The cache is $CELLSEG_CACHE, or ~/.cache/cellseg. Exits with 3 and one line of reason where it cannot be done.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

IMPOSSIBLE = 3


class ImpossibleError(Exception):
    """It cannot be had on this machine, for this reason."""


def cache() -> Path:
    """The folder that outlives a test run."""
    return Path(os.environ.get("CELLSEG_CACHE") or Path.home() / ".cache" / "cellseg")


def call(*command: object, **options) -> str:
    """Run a command; what it prints, or its last line as the reason."""
    try:
        done = subprocess.run(
            [*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
        )
    except OSError as error:
        raise ImpossibleError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        words = [word for word in map(str, command) if not word.startswith("-")]
        raise ImpossibleError(f"'{' '.join(words[:3])}' fails: {last}")
    return done.stdout


def built(name: str, build: Callable[[Path], None]) -> Path:
    """Build a folder of the cache unless it is there, whole; one process at a time."""
    folder = cache() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache() / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            build(unfinished)
            unfinished.rename(folder)
    return folder


def release() -> str:
    """Code name of this machine's Debian."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        raise ImpossibleError("this machine is no Debian")
    return release["VERSION_CODENAME"]


def mirror() -> str:
    """The mirror that this machine takes its Debian from."""
    lines = call("apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)", "Created-By: Packages").splitlines()
    sites = [line.split()[1] for line in lines if line.startswith(f"{release()} ")]
    if not sites:
        raise ImpossibleError("apt knows no Debian mirror here")
    return sites[0]


def unpacked(*packages: str, suite: str | None = None, only: str | None = None) -> Path:
    """Folder with what is in these packages of a suite; what they depend on has to be on the machine.

    `only` is the one file that is wanted, where the package is large.
    """
    suite = suite or release()

    def build(folder: Path) -> None:
        apt = folder / "apt"
        for name in ("sources", "lists/partial", "cache/archives/partial", "debs"):
            (apt / name).mkdir(parents=True)
        source = f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {suite} main\n"
        (apt / "sources" / "debian.list").write_text(source)
        options = [
            "-oDir::Etc::SourceList=/dev/null",
            f"-oDir::Etc::SourceParts={apt / 'sources'}",
            f"-oDir::State::Lists={apt / 'lists'}",
            f"-oDir::Cache={apt / 'cache'}",
            "-oAPT::Sandbox::User=root",
        ]
        call("apt-get", *options, "-oAPT::Update::Error-Mode=any", "update")
        call("apt-get", *options, "download", *packages, cwd=apt / "debs")
        for package in (apt / "debs").iterdir():
            data = apt / "data.tar"
            call("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" > "$2"', "sh", package, data)
            call("tar", "-x", "-f", data, "-C", folder, *([f"./{only}"] if only else []))
        shutil.rmtree(apt)

    return built("-".join([suite, *packages]), build)


def main(make: Callable[[], Path]) -> None:
    """Print what `make` makes, or why it cannot."""
    try:
        print(make())
    except ImpossibleError as reason:
        print(reason, file=sys.stderr)
        raise SystemExit(IMPOSSIBLE) from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--suite")
    arguments = parser.parse_args()
    main(lambda: unpacked(*arguments.packages, suite=arguments.suite))
