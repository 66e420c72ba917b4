"""Each finding: on this machine as it is, and on made-up /proc, /sys and /dev trees of others."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellseg_device.commands import doctor
from cellseg_device.doctor import board, devices, services, software, storage
from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Finding, Subject, output_of, worst
from cellseg_device.model import card as cards
from cellseg_device.model import edgetpu
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.edgetpu import Library

PI_4 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_5 = PI_4.replace("cpuid", "atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp")
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def put(root: Path, path: str, text: str) -> Subject:
    """Write a file of a system."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return Subject(root, root=root)


@pytest.mark.parametrize("look", [software.python, software.runtime, software.simd, software.model, storage.writing])
def test_this_machine_is_well(look, tmp_path):
    finding = look(Subject(tmp_path))
    assert finding.state == OK, finding
    assert finding.fix is None


@pytest.mark.parametrize(
    "look",
    [board.temperature, board.power, board.clock, devices.camera, devices.edge_tpu, devices.rights, storage.room],
)
def test_everything_can_be_looked_at_here(look, tmp_path):
    finding = look(Subject(tmp_path))
    assert finding.state in (OK, WARNING, PROBLEM, ABSENT)
    assert "\n" not in finding.text + (finding.fix or "")


@pytest.mark.parametrize(
    "look", [software.python, software.simd, board.temperature, board.power, devices.rights, services.services]
)
def test_a_system_that_tells_nothing(look, tmp_path):
    assert look(Subject(tmp_path, root=tmp_path / "none")).name


def test_python_and_the_board(tmp_path, monkeypatch):
    subject = put(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    assert software.python(subject).text.endswith("Raspberry Pi 4 Model B Rev 1.4")
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert software.python(subject).state == WARNING


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PI_4, "NEON"),
        (PI_5, "NEON, dot product"),
        ("Features\t: half thumb fastmult vfp edsp neon vfpv3\n", "NEON"),
        (
            "flags\t\t: fpu sse2 avx avx2 avx512vl avx512_vnni\nvmx flags\t: avx_vnni\n",
            "AVX, AVX2, AVX-512, AVX-512 VNNI",
        ),
    ],
)
def test_the_processor(tmp_path, text, words):
    subject = put(tmp_path, "proc/cpuinfo", text)
    assert software.simd(subject).state == PROBLEM  # no /sys
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    assert software.simd(subject) == Finding("processor", OK, words)


def test_an_old_processor(tmp_path):
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    assert software.simd(put(tmp_path, "proc/cpuinfo", "flags : fpu sse2\n")).state == WARNING


@pytest.fixture
def with_card(model, model_path, tmp_path):
    """The bundled model with another card, as a file."""

    def write(**fields):
        path = tmp_path / "other.tflite"
        path.write_bytes(cards.attach(model_path.read_bytes(), dataclasses.replace(model.card, **fields)))
        return Subject(tmp_path, path)

    return write


def test_every_pixel_of_the_known_answer_counts(with_card, model):
    answer = model.card.known_answer
    assert answer.labels_sha256
    found = software.model(with_card(known_answer=dataclasses.replace(answer, labels_sha256="0" * 64)))
    assert found.state == PROBLEM
    assert f"{answer.cells} cells on the built-in field, not the {answer.cells} cells expected" in found.text
    assert software.model(with_card(known_answer=dataclasses.replace(answer, labels_sha256=None))).state == OK
    assert software.model(with_card(known_answer=KnownAnswer("0" * 64, answer.cells))).state == PROBLEM
    assert software.model(with_card(known_answer=None)).state == OK
    assert software.model(with_card(quantization="float32", known_answer=KnownAnswer("0" * 64, 3))).state == OK


def test_a_model_that_does_not_load(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"x")
    for name in ("x.tflite", "none.tflite"):
        finding = software.model(Subject(tmp_path, tmp_path / name))
        assert finding.state == PROBLEM
        assert name in finding.text


def test_a_runtime_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cellseg_device.model.interpreter", None)
    monkeypatch.delitem(sys.modules, "cellseg_device.pipeline.selftest", raising=False)
    assert software.runtime(Subject(tmp_path)).state == PROBLEM
    assert "pip install" in software.runtime(Subject(tmp_path)).fix
    assert software.model(Subject(tmp_path)).state == PROBLEM


@pytest.mark.parametrize(
    ("zones", "state"),
    [(["48692"], OK), (["48000", "76000"], WARNING), (["85500"], PROBLEM), (["", "x"], ABSENT), (["-5000"], OK)],
)
def test_temperature(tmp_path, zones, state):
    for number, text in enumerate(zones):
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", text)
    assert board.temperature(Subject(tmp_path, root=tmp_path)).state == state


@pytest.mark.parametrize(
    ("word", "alarm", "state", "text"),
    [
        ("0", None, OK, "no under-voltage, not throttled"),
        ("50005", None, PROBLEM, "under-voltage, throttled, under-voltage since start, throttled since start"),
        ("50000", None, WARNING, "under-voltage since start, throttled since start"),
        ("8", None, WARNING, "soft temperature limit"),
        (None, "0", OK, "no under-voltage, not throttled"),
        (None, "1", PROBLEM, "under-voltage"),
        ("1", "1", PROBLEM, "under-voltage"),
        ("?", None, ABSENT, "this computer does not report it"),
        (None, None, ABSENT, "this computer does not report it"),
    ],
)
def test_power(tmp_path, word, alarm, state, text):
    if word is not None:
        put(tmp_path, THROTTLED, word)
    if alarm is not None:
        put(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
        put(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
        put(tmp_path, "sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    finding = board.power(Subject(tmp_path, root=tmp_path))
    assert (finding.state, finding.text) == (state, text)
    if state in (WARNING, PROBLEM):
        assert ("power supply" in finding.fix) == ("under-voltage" in text)


def test_the_clock(tmp_path, monkeypatch):
    subject = Subject(tmp_path, root=tmp_path)
    for status, state in [(0x2001, OK), (0x40, WARNING), (None, ABSENT)]:
        monkeypatch.setattr(board, "_kernel_clock_status", lambda status=status: status)
        assert board.clock(subject).state == state
    put(tmp_path, "run/systemd/timesync/synchronized", "")
    assert board.clock(subject).state == OK
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert board.clock(subject).state == PROBLEM
    assert "1970" in board.clock(subject).text


def test_the_kernel_tells_about_its_clock():
    status = board._kernel_clock_status()
    assert status is None or 0 <= status < 0x10000


def test_disk(tmp_path, monkeypatch):
    usage = storage.shutil.disk_usage(tmp_path)
    for free, state in [(5e9, OK), (9e8, WARNING), (1e8, PROBLEM)]:
        monkeypatch.setattr(
            storage.shutil, "disk_usage", lambda path, free=free: usage._replace(free=int(free), total=int(3e10))
        )
        finding = storage.room(Subject(tmp_path / "not" / "yet"))
        assert (finding.state, bool(finding.fix)) == (state, state != OK)


def test_nothing_is_left_in_the_output_folder(tmp_path):
    assert storage.writing(Subject(tmp_path / "not" / "yet")).state == OK
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_to(tmp_path):
    finding = storage.writing(Subject(Path("/proc")))  # not even by root
    assert finding.state == PROBLEM
    assert finding.text.startswith("/proc cannot be written to")
    assert finding.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_may_not_even_be_looked_into(tmp_path, environment, let_in):
    (tmp_path / "closed/in").mkdir(parents=True)
    let_in(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    script = (
        "import os, sys; from pathlib import Path; from cellseg_device.doctor import storage, finding\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "subject = finding.Subject(Path(sys.argv[1])); print(storage.room(subject), storage.writing(subject))"
    )
    command = [sys.executable, "-c", script, tmp_path / "closed/in/out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"{tmp_path / 'closed'} cannot be written to (Permission denied)" in done.stdout


def test_a_slow_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_write_ms", lambda path: 300.0)
    assert storage.writing(Subject(tmp_path)).state == WARNING


def usb_camera(root: Path, node: str, driver: str = "uvcvideo", name: str = "HD Webcam", index: str = "0") -> None:
    put(root, f"sys/class/video4linux/{node}/name", name)
    put(root, f"sys/class/video4linux/{node}/index", index)
    put(root, f"sys/class/video4linux/{node}/device/uevent", f"DEVTYPE=usb_interface\nDRIVER={driver}\n")
    put(root, f"dev/{node}", "")


@pytest.fixture
def picamera2(tmp_path_factory, monkeypatch, environment):
    """A picamera2 that says what the test wants."""

    def make(body: str) -> None:
        folder = tmp_path_factory.mktemp("picamera2")
        (folder / "picamera2.py").write_text(body)
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{environment['PYTHONPATH']}")
        monkeypatch.syspath_prepend(folder)

    return make


LISTS = "class Picamera2:\n    global_camera_info = staticmethod(lambda: {})\n"


@pytest.mark.skipif(devices.find_spec("picamera2") is not None, reason="not applicable: this machine has picamera2")
def test_cameras_without_picamera2(tmp_path):
    subject = Subject(tmp_path, root=tmp_path)
    assert devices.camera(subject).state == ABSENT
    usb_camera(tmp_path, "video10", driver="bcm2835-codec")  # a Raspberry Pi's codecs are no cameras
    usb_camera(tmp_path, "video1", index="1")
    assert devices.camera(subject).state == ABSENT
    (tmp_path / "usr/lib/python3/dist-packages/picamera2").mkdir(parents=True)
    assert "--system-site-packages" in devices.camera(subject).fix
    usb_camera(tmp_path, "video0")
    assert devices.camera(subject) == Finding("camera", OK, "on USB: HD Webcam (/dev/video0)")


def test_cameras_with_picamera2(tmp_path, picamera2):
    subject = Subject(tmp_path, root=tmp_path)
    picamera2(LISTS.format("[]"))
    assert devices.camera(subject).state == ABSENT
    picamera2("print('a greeting')\n" + LISTS.format("[{'Model': 'imx477', 'Num': 0}]"))
    assert devices.camera(subject) == Finding("camera", OK, "imx477 (libcamera)")
    usb_camera(tmp_path, "video0")
    assert devices.camera(subject).text == "imx477 (libcamera), HD Webcam (/dev/video0)"


@pytest.mark.parametrize("body", ["raise ImportError('no libcamera.so.0.5')", "import os; os.abort()", "x = 1"])
def test_a_picamera2_that_fails(tmp_path, picamera2, body):
    picamera2(body)
    finding = devices.camera(Subject(tmp_path, root=tmp_path))
    assert finding.state == PROBLEM
    assert "\n" not in finding.text


def edge_tpu(root: Path, speed: str = "5000") -> Subject:
    for name, text in {"idVendor": "18d1", "idProduct": "9302", "busnum": "2", "devnum": "3", "speed": speed}.items():
        put(root, f"sys/bus/usb/devices/2-1/{name}", text)
    return put(root, "dev/bus/usb/002/003", "")


@pytest.mark.parametrize(
    ("has_device", "library", "state", "text"),
    [
        (False, Library(is_missing=True, fault="x"), ABSENT, "none, and no libedgetpu"),
        (False, Library("14"), ABSENT, "none (libedgetpu 14)"),
        (True, Library(is_missing=True, fault="x"), WARNING, "there is one, but libedgetpu is missing"),
        (True, Library("14"), OK, "on USB, libedgetpu 14"),
        (True, Library("13", "crashes (signal 11)"), PROBLEM, "crashes (signal 11)"),
    ],
)
def test_the_edge_tpu(tmp_path, monkeypatch, has_device, library, state, text):
    subject = edge_tpu(tmp_path) if has_device else Subject(tmp_path, root=tmp_path)
    monkeypatch.setattr(edgetpu, "library", lambda with_device: library if with_device == has_device else None)
    finding = devices.edge_tpu(subject)
    assert finding.state == state
    assert text in finding.text


def test_an_edge_tpu_on_a_slow_bus_or_without_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(edgetpu, "library", lambda with_device: Library("14"))
    assert "USB 3" in devices.edge_tpu(edge_tpu(tmp_path / "usb", "480")).fix
    put(tmp_path, "pci/sys/bus/pci/devices/0000:01:00.0/vendor", "0x1ac1")
    put(tmp_path, "pci/sys/bus/pci/devices/0000:01:00.0/device", "0x089a")
    finding = devices.edge_tpu(Subject(tmp_path, root=tmp_path / "pci"))
    assert (finding.state, "kernel modules" in finding.fix) == (PROBLEM, True)


def test_rights_to_the_devices(tmp_path, monkeypatch):
    subject = edge_tpu(tmp_path)
    usb_camera(tmp_path, "video0")
    put(tmp_path, "dev/media0", "")
    assert devices.rights(subject).state == OK
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "video0")  # root may all
    monkeypatch.setattr(devices, "_group", lambda node: "video")
    finding = devices.rights(subject)
    assert finding.state == PROBLEM
    assert "video0" in finding.text
    assert finding.fix.startswith("sudo usermod -aG video ")
    monkeypatch.setattr(devices, "_group", lambda node: "root")
    assert "udev" in devices.rights(subject).fix


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that answers this; as where systemd runs."""

    def make(answer: str) -> Subject:
        program = tmp_path / "bin" / "systemctl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return put(tmp_path, "etc/systemd/system/cellseg-watch.service", "")

    return make


def shown(active="active", sub="running", result="success", restarts="0", enabled="enabled", status="a.png: 26 cells"):
    lines = [f"ActiveState={active}", f"SubState={sub}", f"Result={result}", f"NRestarts={restarts}"]
    return "cat <<'EOF'\n" + "\n".join([*lines, f"UnitFileState={enabled}", f"StatusText={status}"]) + "\nEOF"


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (shown(), OK, "cellseg-watch.service runs (a.png: 26 cells)"),
        (shown(restarts="4", status=""), OK, "cellseg-watch.service runs, started again 4 times"),
        (shown(enabled="disabled"), WARNING, "will not start at the next boot"),
        (shown("failed", "failed", "exit-code"), PROBLEM, "is failed (failed, exit-code)"),
        (shown("activating", "auto-restart", "watchdog"), PROBLEM, "auto-restart, watchdog"),
        (shown("inactive", "dead"), PROBLEM, "is inactive (dead, success)"),
        ("echo 'System has not been booted with systemd' >&2; exit 1", WARNING, "not been booted with systemd"),
    ],
)
def test_services(systemctl, answer, state, text):
    finding = services.services(systemctl(answer))
    assert finding.state == state
    assert text in finding.text
    assert (finding.fix is None) == (state == OK)


def test_a_unit_of_an_earlier_version_that_shows_a_password(systemctl, tmp_path):
    subject = systemctl(shown())
    unit = "[Service]\nExecStart=python -m cellseg_device camera --source {} --out /x\n"
    for source in ("http://user:s3cret@host/", '"rtsp://host/a b?key=s3cret"'):
        put(tmp_path, "etc/systemd/system/cellseg-watch.service", unit.format(source))
        finding = services.services(subject)
        assert finding.state == WARNING
        assert "shows everybody the camera's address" in finding.text
        assert "install-service" in finding.fix
        assert "s3cret" not in finding.text + finding.fix
    for source in ("usb:0", "@%d/source"):
        put(tmp_path, "etc/systemd/system/cellseg-watch.service", unit.format(source))
        assert services.services(subject).state == OK


def test_a_kernel_that_does_not_limit_memory(systemctl, tmp_path):
    subject = systemctl(shown())
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    assert (services.services(subject).state, "cmdline.txt" in services.services(subject).fix) == (WARNING, True)
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert services.services(subject).state == OK


def test_no_service(tmp_path):
    assert services.services(Subject(tmp_path, root=tmp_path)).state == ABSENT


def test_no_systemctl(systemctl, monkeypatch, tmp_path):
    subject = systemctl("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert services.services(subject).state == WARNING


def test_a_look_that_hangs_is_given_up(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_LONGEST_S", 0.2)
    finding = doctor._within_limit("disk", lambda subject: time.sleep(3) or Finding("disk", OK, ""), Subject(tmp_path))
    assert (finding.name, finding.state) == ("disk", PROBLEM)


def test_a_bug_in_a_look_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError):
        doctor._within_limit("disk", lambda subject: 1 / 0, Subject(tmp_path))


def test_a_program_that_hangs_is_given_up():
    with pytest.raises(TimeoutError, match="within 0 s"):
        output_of(["sleep", "5"], 0.2)


def test_the_worst_state():
    assert worst([]) == ABSENT
    assert worst([OK, ABSENT]) == OK
    assert worst([OK, PROBLEM, WARNING]) == PROBLEM
