"""The unit, as systemd itself judges it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cellseg_device.commands import install_service
from cellseg_device.errors import InputError
from cellseg_device.model import edgetpu
from cellseg_device.service.unit import Service, quoted, quoted_argument, unit_text

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
    "everything": Service("e", "e", PYTHON, "pi", Path("/root"), reads=(Path("/home/pi"), Path("/tmp"))),
    "secret": Service(
        "s", "s", PYTHON, "pi", Path("/results"), secret=Path("/etc/s y/100%.source"), needs_network=True
    ),
    "program": Service(
        "p",
        "p",
        PYTHON,
        "pi",
        Path("/home/pi/in/out"),
        reads=(Path("/home/pi/in"), Path("/home/pi/in/out/x"), Path("/home/pi/env"), Path("/usr")),
        runs=(Path("/home/pi/env/lib"), Path("/home/pi/.local/lib"), Path("/opt/python3")),
    ),
    "page": Service(
        "web",
        "web",
        (*PYTHON, "serve", "/results"),
        "pi",
        Path("/results"),
        secret=Path("/etc/cellseg-web.token"),
        needs_network=True,
        writes=(Path("/results/corrections"), Path("/results/models")),
        listens=8377,
        runtime="cellseg/0123456789abcdef",
    ),
    "page of a home": Service(
        "web",
        "web",
        PYTHON,
        "pi",
        Path("/home/pi/in/out"),
        reads=(Path("/home/pi/in"),),
        needs_network=True,
        writes=(Path("/home/pi/in/out/mod els"),),
        listens=9000,
    ),
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
    assert done.returncode == 0, done.stdout
    assert float(level[1]) <= (1.5 if SERVICES[name].needs_network or SERVICES[name].devices else 0.6)


@needs_systemd
@pytest.mark.parametrize("path", ODD)
def test_odd_paths(tmp_path, path):
    command = (*PYTHON, "watch", path, "--out", path)
    places = {"mount": Path(path), "runs": (Path(path),), "reads": (Path(f"/root{path}"),)}
    assert verified(tmp_path, Service("odd", path, command, "pi", Path(path), **places)) == ""
    if not path.endswith("\\"):  # which would continue the line
        secret = Service("odd", path, command, "pi", Path(f"/home{path}"), secret=Path(path))
        assert verified(tmp_path, secret) == ""


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


def places(name: str) -> dict[str, list[str]]:
    """What the unit says of places, each setting with its values."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(
        "^(ProtectHome|PrivateTmp|Bind.*Paths|ReadWritePaths)=(.*)$", unit_text(SERVICES[name]), re.MULTILINE
    ):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("watch", {"ProtectHome": ["yes"], "PrivateTmp": ["yes"], "ReadWritePaths": ["/results"]}),
        (
            "home",
            {
                "ProtectHome": ["tmpfs"],
                "PrivateTmp": ["yes"],
                "BindReadOnlyPaths": ["/root/x", "/tmp/y"],
                "BindPaths": ["/home/pi/out"],
            },
        ),
        (
            "program",
            {
                "ProtectHome": ["tmpfs"],
                "PrivateTmp": ["yes"],
                "BindReadOnlyPaths": ["/home/pi/.local/lib", "/home/pi/env", "/home/pi/in"],
                "BindPaths": ["/home/pi/in/out"],
            },
        ),
        # One that wants a home itself gets the homes
        ("everything", {"ProtectHome": ["read-only"], "PrivateTmp": ["no"], "ReadWritePaths": ["/root"]}),
    ],
)
def test_it_sees_of_homes_what_it_needs_and_may_write_to_its_output_alone(name, found):
    assert places(name) == found
    assert "ProtectSystem=strict\n" in unit_text(SERVICES[name])


def test_it_may_run_its_interpreter_and_nothing_that_it_wrote():
    text = unit_text(SERVICES["program"])
    assert re.search("^NoExecPaths=/ (.*)$", text, re.MULTILINE)[1].split() == [
        *("-/dev/shm", "-/tmp", "-/var/tmp"),
        *("/home/pi/env", "/home/pi/in", "/home/pi/in/out"),
    ]
    runs = re.search("^ExecPaths=(.*)$", text, re.MULTILINE)[1].split()
    assert runs[-3:] == ["/home/pi/.local/lib", "/home/pi/env/lib", "/opt/python3"]
    assert not {"/usr", "/usr/bin", "/bin"} & {path.lstrip("-") for path in runs}


def test_a_colon_in_a_path_begins_no_other():
    service = Service("c", "c", PYTHON, "pi", Path("/home/a:b"), reads=(Path("/home/c:d e"), Path("/tmp/f")))
    text = unit_text(service)
    assert 'BindPaths="/home/a:b"\n' in text
    assert 'BindReadOnlyPaths="/home/c:d e"\n' in text
    assert "BindReadOnlyPaths=/tmp/f\n" in text


def test_a_secret_is_in_a_file_of_its_own():
    text = unit_text(SERVICES["secret"])
    assert re.search("^ExecStart=(.*)$", text, re.MULTILINE)[1].endswith("-m cellseg_device --source @%d/source")
    assert "\nLoadCredential=source:/etc/s y/100%%.source\n" in text
    assert "LoadCredential" not in unit_text(SERVICES["watch"])
    with pytest.raises(InputError, match="rename it without the last character"):
        unit_text(Service("s", "s", PYTHON, "pi", Path("/results"), secret=Path("/a\\")))


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
    assert all("SocketBindDeny=any\n" in text for text in (watch, usb, address))


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
    found, groups = install_service._hardware(source, wants_edgetpu=wants_edgetpu)
    assert found == devices
    assert ("video" in groups) == ("char-video4linux" in devices)
    assert ("plugdev" in groups) == wants_edgetpu


def test_a_disk_that_is_not_mounted_is_waited_for():
    assert 'ExecStartPre=+mountpoint -q "/mnt/u s b"\n' in unit_text(SERVICES["mount"])
    assert "mountpoint" not in unit_text(SERVICES["watch"])


def test_a_decoder_may_give_up_its_rights():
    """Systemd 252 has Landlock's calls in no group that a service gets."""
    text = unit_text(Service("a", "Counts", ("/usr/bin/true",), "cellseg", Path("/results")))
    allowed = text.index("SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self\n")
    assert text.index("SystemCallFilter=@system-service\n") < allowed < text.index("SystemCallFilter=~@privileged\n")
