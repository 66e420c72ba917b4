"""What test_boot.py does inside the booted system, as root: installs the service as a user would, and mistreats it.

Takes a folder to work in from the first argument; writes what it saw to report.json there, and powers off.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

SHARED = Path(sys.argv[1])
SAMPLES = SHARED / "samples"
CAPTURES = Path("/srv/cap tures 100% é")
OUT = CAPTURES / "cellseg-results"
UNIT = "cellseg-watch.service"
# Times that a test can wait for; the rest of the unit stays as it is
DROP_IN = f"""[Service]
Environment=PYTHONPATH={os.environ["PYTHONPATH"]}
WatchdogSec=2
TimeoutAbortSec=1
RestartSec=1
"""


def call(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(condition: Callable[[], object], seconds: float = 20) -> float:
    """Wait for a condition; the seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"waited in vain\n{call('journalctl', '--no-pager', '-u', UNIT)}"
        time.sleep(0.05)
    return time.monotonic() - start


def shown(name: str, unit: str = UNIT) -> str:
    return call("systemctl", "show", unit, "--value", "-p", name).strip()


def counted(name: str) -> bool:
    table = OUT / "counts.csv"
    return table.exists() and f"\n{name}," in table.read_text()


def drop(name: str, sample: str) -> float:
    """Bring an image; the seconds until it is counted."""
    shutil.copy(SAMPLES / sample, CAPTURES / name)
    return until(lambda: counted(name))


def device(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cellseg_device", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def inside_service(*command: str) -> str:
    """Run a command, as root, with the service's view of the file system; what it says on standard error."""
    enter = ["nsenter", "-t", shown("MainPID"), "-m", *command]
    return subprocess.run(enter, capture_output=True, text=True, check=False).stderr


def install(*arguments: str) -> str:
    """Install a service and do what it says; returns what it said."""
    installed = device("install-service", "--watch", str(CAPTURES), *arguments)
    assert installed.returncode == 0, installed.stderr
    unit = re.search(r"cellseg-\w+\.service", installed.stdout)[0]
    drop_in = Path(f"/etc/systemd/system/{unit}.d")
    drop_in.mkdir()
    (drop_in / "test.conf").write_text(DROP_IN)
    for line in re.findall(r"^  sudo (.*)$", installed.stdout, re.M):
        call("sh", "-c", line)
    return installed.stdout


def use_a_disk_that_is_not_there() -> dict[str, object]:
    """Results on a disk, which is away when the service starts."""
    disk, mounted, unit = Path("/srv/disk"), Path("/mnt/usb"), "cellseg-disk.service"
    disk.mkdir()
    mounted.mkdir()
    call("mount", "-t", "tmpfs", "disk", disk)
    call("mount", "--bind", disk, mounted)
    install("--name", "disk", "--out", str(mounted / "results"), "--user", "cellseg")
    call("systemctl", "stop", unit)
    call("umount", mounted)
    call("systemctl", "start", "--no-block", unit)
    until(lambda: shown("NRestarts", unit) not in ("", "0"))
    seen = {"underneath": [path.name for path in mounted.iterdir()], "tries": shown("NRestarts", unit)}
    call("mount", "--bind", disk, mounted)
    until(lambda: shown("ActiveState", unit) == "active")
    seen |= {"state": shown("ActiveState", unit), "unit": Path(f"/etc/systemd/system/{unit}").read_text()}
    call("systemctl", "disable", "--now", unit)
    Path(f"/etc/systemd/system/{unit}").unlink()
    return seen


def work(report: dict[str, object]) -> None:
    for folder in Path(sys.executable).resolve().parents:
        folder.chmod(folder.stat().st_mode | 0o055)  # a Python in root's home; this file system is thrown away
    CAPTURES.mkdir()
    report["installed"] = install("--", "--overlay", "--poll", "20s")
    report["state_after_start"] = shown("ActiveState")  # Type=notify: start returns when it is ready

    report["first_s"] = drop("a.png", "tissue.png")
    report["status"] = until(lambda: "a.png" in shown("StatusText")) and shown("StatusText")
    report["owner"] = (OUT / "a.labels.tif").owner()
    process = Path(f"/proc/{shown('MainPID')}")
    report["process"] = dict(re.findall(r"^(\w+):\s+(.*)$", (process / "status").read_text(), re.M))
    report["refused"] = {
        str(path): inside_service("touch", str(path)) for path in (CAPTURES / "x", "/etc/x", "/usr/x", "/var/lib/x")
    }
    report["allowed"] = inside_service("touch", str(OUT / "x"))
    report["devices"] = sorted(path.name for path in (process / "root/dev").iterdir())
    network = call("nsenter", "-t", shown("MainPID"), "-n", "cat", "/proc/net/dev")
    report["interfaces"] = re.findall(r"^\s*(\w+):", network, re.M)

    time.sleep(5)  # idle, looking every 20 s, for longer than the watchdog allows
    report["restarts_while_idle"] = shown("NRestarts")

    hung = shown("MainPID")
    os.kill(int(hung), signal.SIGSTOP)
    report["back_s"] = until(lambda: shown("ActiveState") == "active" and shown("MainPID") not in ("0", hung))
    report["after_hang"] = {name: shown(name) for name in ("NRestarts", "ActiveState")}
    report["journal"] = call("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)
    drop("b.png", "dapi16.png")

    os.kill(int(shown("MainPID")), signal.SIGKILL)
    until(lambda: shown("NRestarts") == "2" and shown("ActiveState") == "active")
    drop("c.png", "smear.png")

    report["disk"] = use_a_disk_that_is_not_there()
    report["doctor"] = json.loads(device("doctor", "--json", "--out", str(CAPTURES)).stdout)
    start = time.monotonic()
    call("systemctl", "stop", UNIT)
    report["stop_s"] = time.monotonic() - start
    report["end"] = {name: shown(name) for name in ("Result", "ExecMainStatus", "ActiveState", "NRestarts")}


seen: dict[str, object] = {}
try:
    work(seen)
except BaseException:
    journal = subprocess.run(["journalctl", "--no-pager", "-u", UNIT], capture_output=True, text=True, check=False)
    seen["error"] = traceback.format_exc() + journal.stdout
(SHARED / "report.json").write_text(json.dumps(seen))
subprocess.run(["systemctl", "poweroff", "--force"], check=False)
