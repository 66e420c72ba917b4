"""The service in a system that really boots: this machine's own files under systemd-nspawn, on a layer thrown away."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.pipeline import segment
from cellseg_device.watching import outcome

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = Path(__file__).parent / "roots"
SYSTEMD = Path("/lib/systemd/systemd")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("boot")]

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
BOOT = 'mount --bind / "$1" && shift && exec timeout 280 "$@"'


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
    for name in ("inside_boot.py", "probe.py"):
        shutil.copy(ROOTS / name, shared)
    shared.chmod(0o755)
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
    tissue = (REPOSITORY / "models/samples/tissue.png").read_bytes()
    counts = segment.segment(tissue, model).counts
    assert report["status"] == f"a.png: {outcome.in_words(counts.count, counts.count_in_frame)}"
    assert report["owner"] == "cellseg"


def test_it_has_no_rights_but_to_write_its_results(report):
    assert all("Read-only file system" in said for said in report["refused"].values()), report["refused"]
    assert report["allowed"] == ""
    assert report["limits"] == {"TasksMax": "512", "MemorySwapMax": "0"}
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


@pytest.mark.parametrize("service", ["watch", "camera"])
def test_what_the_unit_forbids_is_forbidden(report, service):
    tried = report["probe"] if service == "watch" else report["camera"]["probe"]
    assert tried["read another file of the home"] == "No such file or directory"
    homes = [path for path in tried["list the homes"] if not path.startswith("/root/")]  # where Python may lie
    assert homes == ([report["captures"]] if service == "watch" else [])
    assert tried["start Python"] == "done"  # as is needed to try a library of the Edge TPU
    assert tried["start a shell"] == "Permission denied"
    assert report["shell"].endswith("failed to execute sh: Permission denied\n")
    writable = {folder: said for folder, said in tried["run"].items() if said != "no such program"}
    assert len(writable) == 4
    assert set(writable.values()) == {"Permission denied"}
    assert [*tried["load an image"].values()] == ["Operation not permitted"] * (service == "watch")
    assert tried["listen on a local socket"] == "Operation not permitted"
    if service == "watch":
        assert tried["bind a port"] == tried["listen on a port"] == "Address family not supported by protocol"
    else:
        assert tried["listen on a port"] == "Operation not permitted"
        if "+BPF_FRAMEWORK" in report["systemd"]:
            assert tried["bind a port"] == "Operation not permitted"


def test_the_password_of_a_camera_is_known_to_its_service_alone(report):
    camera = report["camera"]
    assert camera["state"] == "active"  # and it counted images, which are sent to whoever has the password
    assert report["password"] in camera["probe"]["credentials"]["source"]
    assert report["probe"]["credentials"] == {}
    assert report["password"] not in camera["known"]
    assert camera["mode"] == 0o600
    assert camera["probe"]["read the secret"] == "Permission denied"  # from root's file
    assert "Permission denied" in camera["stranger"]


def test_the_page_shows_what_the_camera_of_another_service_sees(report):
    live = report["camera"]["live"]
    assert live["camera"].startswith("http://127.0.0.1:")
    assert live["is_jpeg"]
    assert live["image"].endswith(".png")
    assert live["stopped"].startswith("No camera is running for these results.")
    assert (live["owner"], live["mode"], live["hidden"]) == ("cellseg", 0o755, False)


def test_a_folder_that_is_made_again_is_found_again(report):
    assert "was moved or removed, which this process cannot follow: make it again" in report["made_again"]


def test_an_idle_watch_is_left_alone_and_a_hung_one_is_not(report):
    assert report["restarts_while_idle"] == "0"
    assert report["after_hang"] == {"NRestarts": "1", "ActiveState": "active"}
    assert "Watchdog timeout" in report["journal"]
    assert "watching/wake.py" in report["journal"]  # where it hung: it waits for images, or has just said that it lives


def test_it_comes_back_from_a_kill_and_ends_when_it_is_told_to(report):
    assert report["end"] == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive", "NRestarts": "3"}


def test_the_page_is_there_for_who_has_its_token_and_writes_corrections_and_models_alone(report):
    page = report["page"]
    assert page["mode"] == 0o600
    assert page["token"] not in page["known"]
    assert page["stranger"].startswith("401 ")
    assert page["now"] == 1
    refused = {place: "Read-only file system" in said for place, said in page["tried"].items()}
    assert [*refused.values()] == [True, True, False, False], page["tried"]
    assert page["uploaded"] == page["used"] == "nuclei-nano"
    assert ",nuclei-nano," in page["counted"]  # by the watch, which has taken it up
    assert "d.edits.jsonl" in page["corrections"], page["checked"]
    (upload,) = page["uploads"]
    assert (upload["image"], upload["name"]) == (page["counted by the page"]["image"], "x.png")
    assert (page["restarts"], page["result"]) == ("0", "success")


def test_results_are_not_written_underneath_a_disk_that_is_not_mounted(report):
    assert "mountpoint" in report["disk"]["unit"]
    assert report["disk"]["underneath"] == []
    assert int(report["disk"]["tries"]) >= 1
    assert report["disk"]["state"] == "active"


def test_doctor_sees_the_service(report):
    (service,) = [finding for finding in report["doctor"]["findings"] if finding["name"] == "service"]
    assert service["state"] == "ok"
    assert service["text"].startswith("cellseg-watch.service runs, started again 3 times (e.png: ")
