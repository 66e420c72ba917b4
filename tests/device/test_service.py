"""The unit, as systemd itself judges it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device import edgetpu
from cellseg_device.commands import install_service
from cellseg_device.errors import InputError
from cellseg_device.service import Service, quoted, quoted_argument, unit_text

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")

PYTHON = (sys.executable, "-m", "cellseg_device")
USB = ("char-video4linux",)
SERVICES = {
    "watch": Service("watch", "cellseg", (*PYTHON, "watch", "/captures", "--out", "/results"), "pi", Path("/results")),
    "mount": Service(
        "m", "m", (*PYTHON, "watch", "/mnt/u s b"), "pi", Path("/mnt/u s b/out"), mount=Path("/mnt/u s b")
    ),
    "home": Service("h", "h", PYTHON, "pi", Path("/home/pi/out"), reads=(Path("/root/x"), Path("/tmp/y"))),
    "usb": Service("usb", "usb", (*PYTHON, "camera"), "pi", Path("/results"), devices=USB, groups=("video",)),
    "address": Service("net", "net", (*PYTHON, "camera"), "pi", Path("/results"), needs_network=True),
    "all": Service(
        "all",
        "all 100%",
        (*PYTHON, "camera", "--source", "rtsp://user:$ecret%20@host/x?a=b&c"),
        "cellseg",
        Path("/mnt/results"),
        mount=Path("/mnt"),
        devices=("char-video4linux", "char-media", "char-dma_heap", "char-usb_device", "char-apex"),
        groups=("video", "plugdev"),
        needs_network=True,
    ),
}
ODD = [
    "/plain",
    "/with a space",
    "/100%",
    "/%h/%%n",
    "/${HOME} $x $$",
    "/Größe/細胞/é",
    '/"quoted"',
    "/it's",
    "/back\\slash\\",
    "/a;b",
    "/;",
    "/semi ; colon",
    "/-dash",
    "/#hash",
    "/ leading",
    "/no\xa0break",
    "/a:b",
]


def verified(folder: Path, service: Service) -> str:
    """What systemd has to say about the unit."""
    path = folder / service.unit
    path.write_text(unit_text(service))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_finds_no_fault(tmp_path, name):
    assert verified(tmp_path, SERVICES[name]) == ""


@needs_systemd
def test_systemd_would_find_a_fault(tmp_path):
    service = Service("bad", "bad", ("/no/such/program",), "pi", Path("/results"))
    assert "not executable" in verified(tmp_path, service)
    path = tmp_path / "cellseg-bad.service"
    path.write_text(unit_text(SERVICES["watch"]).replace("ProtectClock", "ProtectClocks"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert re.search("Unknown key .*ProtectClocks", done.stderr)


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_it_is_shut_off_well(tmp_path, name):
    path = tmp_path / SERVICES[name].unit
    path.write_text(unit_text(SERVICES[name]))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for .*: ([\d.]+) (\w+)", done.stdout)
    print(name, level[1], level[2])
    assert done.returncode == 0, done.stdout
    assert float(level[1]) <= 2.5


@needs_systemd
@pytest.mark.parametrize("path", ODD)
def test_odd_paths(tmp_path, path):
    command = (*PYTHON, "watch", path, "--out", path)
    assert verified(tmp_path, Service("odd", path, command, "pi", Path(path), mount=Path(path))) == ""


@pytest.mark.parametrize("text", ["/a\nb", "/a\tb", "/\x1b[0m", "/\x7f", "/not-utf8-\udcff", "/nul\0"])
def test_what_no_unit_can_hold_is_refused(text):
    with pytest.raises(InputError, match="rename it"):
        quoted(text)


def unquoted(text: str) -> str:
    """Read a quoted word as systemd does."""
    if text.startswith('"'):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    assert not re.search(r"(?<!%)(%%)*%(?!%)", text), "a specifier"
    return text.replace("%%", "%")


@pytest.mark.parametrize("text", [*ODD, "", "--overlay", "3", "a$$b"])
def test_nothing_is_lost_by_quoting(text):
    assert unquoted(quoted(text)) == text
    assert unquoted(quoted_argument(text).replace("$$", "$")) == text


def test_only_the_output_may_be_written_to():
    text = unit_text(SERVICES["home"])
    assert re.findall("^ReadWritePaths=(.*)$", text, re.M) == ["/home/pi/out"]
    assert "ProtectSystem=strict" in text
    assert "ProtectHome=read-only" in text
    assert "PrivateTmp=no" in text
    assert "ProtectHome=yes" in unit_text(SERVICES["watch"])
    assert "PrivateTmp=yes" in unit_text(SERVICES["watch"])


def test_devices_and_network_are_there_only_where_they_are_needed():
    watch, usb, address = (unit_text(SERVICES[name]) for name in ("watch", "usb", "address"))
    assert "PrivateDevices=yes" in watch
    assert "DeviceAllow" not in watch
    assert "PrivateDevices" not in usb
    assert "DevicePolicy=closed\nDeviceAllow=char-video4linux rw\n" in usb
    assert "SupplementaryGroups=video\n" in usb
    assert "PrivateNetwork=yes" in watch
    assert "PrivateNetwork=yes" in usb
    assert "PrivateNetwork" not in address
    assert "Wants=network-online.target" in address


CAMERA = ("char-video4linux", "char-media", "char-dma_heap")


@pytest.mark.parametrize(
    ("source", "wants_edgetpu", "buses", "devices"),
    [
        (None, False, "usb", ()),
        (None, True, "usb", ("char-usb_device",)),
        (None, True, "pci", ("char-apex",)),
        (None, True, "", ("char-apex", "char-usb_device")),
        ("picamera2", False, "", CAMERA),
        ("picamera2:1", True, "usb", (*CAMERA, "char-usb_device")),
        ("usb:0", False, "", USB),
        ("/dev/video0", False, "", USB),
        ("rtsp://camera/stream", False, "", ()),
        ("/films/a.avi", False, "", ()),
    ],
)
def test_which_devices_a_command_needs(monkeypatch, source, wants_edgetpu, buses, devices):
    monkeypatch.setattr(edgetpu, "devices", lambda: [edgetpu.Device(bus, None) for bus in buses.split()])
    found, groups = install_service._hardware(source, wants_edgetpu)
    assert found == devices
    assert ("video" in groups) == ("char-video4linux" in devices)
    assert ("plugdev" in groups) == wants_edgetpu


def test_a_disk_that_is_not_mounted_is_waited_for():
    assert 'ExecStartPre=+mountpoint -q "/mnt/u s b"\n' in unit_text(SERVICES["mount"])
    assert "mountpoint" not in unit_text(SERVICES["watch"])
