"""What test_boot.py has the installed units run in place of their commands: tries what they forbid, with their rights.

Writes the answers to probe.json in the folder of the first argument; the second is a file in a home, the third one that
a stranger may not read.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

OUT, PRIVATE, SECRET = map(Path, sys.argv[1:4])


def answer(deed: Callable[[], object]) -> str:
    """What the system says to a deed; ``"done"`` if it lets it."""
    try:
        deed()
    except OSError as error:
        return error.strerror
    return "done"


def bound(family: int = socket.AF_INET, address: object = ("127.0.0.1", 0)) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.bind(address)
    return connection


def ran(folder: Path) -> str:
    """Whether a program in this folder runs, which it writes there if it may."""
    program = folder / "program"
    try:
        shutil.copy("/bin/true", program)
    except OSError:
        return "no such program" if not program.exists() else answer(lambda: subprocess.run([program], check=True))
    try:
        program.chmod(0o755)
        return answer(lambda: subprocess.run([program], check=True))
    finally:
        program.unlink()


def loaded(path: Path) -> None:
    """Map a file as a library is."""
    with open(path, "rb") as file:
        mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE).close()


seen = {
    "read another file of the home": answer(PRIVATE.read_text),
    "list the homes": sorted(str(path) for home in ("/home", "/root") for path in Path(home).glob("*/*")),
    "start a shell": answer(lambda: subprocess.run(["/bin/sh", "-c", ":"], check=True)),
    "start Python": answer(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    "run": {str(folder): ran(folder) for folder in (OUT, OUT.parent, *map(Path, ("/tmp", "/var/tmp", "/dev/shm")))},
    "load an image": {str(path): answer(partial(loaded, path)) for path in OUT.parent.glob("*.png")},
    "bind a port": answer(bound),
    "listen on a port": answer(lambda: bound().listen()),
    "listen on a local socket": answer(lambda: bound(socket.AF_UNIX, str(OUT / "socket")).listen()),
    "read the secret": answer(SECRET.read_text),
    "credentials": {
        path.name: path.read_text() for path in Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere")).glob("*")
    },
}
(OUT / "socket").unlink(missing_ok=True)
(OUT / "probe.json").write_text(json.dumps(seen))
