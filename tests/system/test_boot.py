"""The service in a system that really boots: this machine's own files under systemd-nspawn, on a layer thrown away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device import segment

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = Path(__file__).parent / "roots"
SYSTEMD = Path("/lib/systemd/systemd")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What PID 1 starts, in place of a machine's usual services
UNIT = """
[Unit]
Description=What the test does
[Service]
Type=simple
Environment=PYTHONPATH=/opt/cellseg/device
ExecStart={python} /opt/shared/inside_boot.py /opt/shared
"""

# $1 folder for the root, then nspawn's command line. The root is this machine's, mounted a second time.
BOOT = 'mount --bind / "$1" && shift && exec timeout 120 "$@"'


@pytest.fixture(scope="module")
def nspawn() -> list[str]:
    """The command, from the machine or from its package, unpacked."""
    if os.geteuid():
        pytest.skip("only root may boot a container")
    if not SYSTEMD.exists():
        pytest.skip("this machine has no systemd to boot")
    if found := shutil.which("systemd-nspawn"):
        return [found]
    command = [sys.executable, ROOTS / "debs.py", "systemd-container", "libsystemd-shared"]
    unpacked = subprocess.run(command, capture_output=True, text=True, check=False)
    if unpacked.returncode == 3:
        pytest.skip(f"no systemd-nspawn: {unpacked.stderr.strip()}")
    assert unpacked.returncode == 0, unpacked.stderr
    root = Path(unpacked.stdout.strip())
    (libraries,) = root.glob("usr/lib/*/systemd")
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(root / "usr/bin/systemd-nspawn")]


@pytest.fixture(scope="module")
def report(nspawn, tmp_path_factory) -> dict:
    """What was seen inside."""
    shared = tmp_path_factory.mktemp("shared")
    root = tmp_path_factory.mktemp("root")
    shutil.copy(ROOTS / "inside_boot.py", shared)
    shutil.copytree(REPOSITORY / "models" / "samples", shared / "samples")
    # A system has its own /tmp, and the environment may lie there: it is brought to /opt
    is_environment = sys.prefix != sys.base_prefix
    python = "/opt/environment/bin/python" if is_environment else sys.executable
    (shared / "test.service").write_text(UNIT.format(python=python))
    command = [
        *[
            *nspawn,
            "--quiet",
            "--volatile=overlay",
            f"--directory={root}",
            "--boot",
            f"--machine=cellseg-{os.getpid()}",
        ],
        *["--private-network", "--register=no", "--keep-unit", f"--bind={shared}:/opt/shared"],
        *([f"--bind-ro={sys.prefix}:/opt/environment"] if is_environment else []),
        *(f"--bind-ro={REPOSITORY / name}:/opt/cellseg/{name}" for name in ("device", "models")),
        f"--bind-ro={shared / 'test.service'}:/etc/systemd/system/boot-test.service",
        "systemd.unit=boot-test.service",
    ]
    enter = ["unshare", "--mount", "sh", "-c", BOOT, "sh", str(root), *map(str, command)]
    booted = subprocess.run(
        enter, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    written = shared / "report.json"
    if not written.exists():
        said = (booted.stderr.strip() or booted.stdout.strip()).splitlines()
        pytest.skip(f"no system can be booted here: {said[-1] if said else booted.returncode}")
    seen = json.loads(written.read_text())
    assert "error" not in seen, seen["error"]
    return seen


def test_what_it_says_to_run_is_enough(report, model):
    assert "sudo useradd --system" in report["installed"]
    assert report["state_after_start"] == "active"
    assert report["first_s"] < 15
    tissue = (REPOSITORY / "models/samples/tissue.png").read_bytes()
    assert report["status"] == f"a.png: {segment.segment(tissue, model).counts.count} cells"
    assert report["owner"] == "cellseg"


def test_it_has_no_rights_but_to_write_its_results(report):
    assert all("Read-only file system" in said for said in report["refused"].values()), report["refused"]
    assert report["allowed"] == ""
    process = report["process"]
    assert int(process["Uid"].split()[0]) > 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(process[name], 16) == 0
    assert process["NoNewPrivs"] == "1"
    assert process["Seccomp"] == "2"
    assert report["interfaces"] == ["lo"]
    assert {"null", "zero", "urandom"} <= set(report["devices"])
    assert not [
        name for name in report["devices"] if name.startswith(("sd", "vd", "nvme", "mmc", "mem", "video", "bus"))
    ]


def test_an_idle_watch_is_left_alone_and_a_hung_one_is_not(report):
    assert report["restarts_while_idle"] == "0"
    assert report["after_hang"] == {"NRestarts": "1", "ActiveState": "active"}
    assert report["back_s"] < 15
    assert "Watchdog timeout" in report["journal"]
    assert "in _is_called" in report["journal"]  # where it hung


def test_it_comes_back_from_a_kill_and_ends_when_it_is_told_to(report):
    assert report["end"] == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive", "NRestarts": "2"}
    assert report["stop_s"] < 10


def test_results_are_not_written_underneath_a_disk_that_is_not_mounted(report):
    assert "mountpoint" in report["disk"]["unit"]
    assert report["disk"]["underneath"] == []
    assert int(report["disk"]["tries"]) >= 1
    assert report["disk"]["state"] == "active"


def test_doctor_sees_the_service(report):
    (service,) = [finding for finding in report["doctor"]["findings"] if finding["name"] == "service"]
    assert service["state"] == "ok"
    assert service["text"].startswith("cellseg-watch.service runs, started again 2 times (c.png: ")
