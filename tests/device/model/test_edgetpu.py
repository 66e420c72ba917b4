"""Edge TPUs in made-up /sys trees, and libraries that behave as libedgetpu does, well or badly."""

import os
import shutil
import subprocess

import pytest

from cellseg_device.model import edgetpu
from cellseg_device.model.edgetpu import Device, Library

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")

VERSION = """
const char* edgetpu_version() {
    return "BuildLabel(COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted), RuntimeVersion(14)";
}
"""
REFUSES = """
void* tflite_plugin_create_delegate(char** keys, char** values, unsigned long n, void (*report)(const char*)) {
    report("no device");
    return 0;
}
void tflite_plugin_destroy_delegate(void* delegate) {}
"""
CRASHES = REFUSES.replace('report("no device");', "*(volatile int*)0 = 1;")
HANGS = REFUSES.replace('report("no device");', "for (;;) pause();") + "int pause(void);"
WORKS = REFUSES.replace('report("no device");', "").replace("return 0;", "static long delegate[64]; return delegate;")


def usb(root, name, vendor, product, **files):
    folder = root / "sys/bus/usb/devices" / name
    folder.mkdir(parents=True)
    for key, value in {"idVendor": vendor, "idProduct": product, **files}.items():
        (folder / key).write_text(f"{value}\n")


def pci(root, name, vendor="0x1ac1", device="0x089a", apex=None):
    folder = root / "sys/bus/pci/devices" / name
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")
    if apex:
        (folder / "apex" / apex).mkdir(parents=True)


def test_devices_of_a_tree(tmp_path):
    usb(tmp_path, "usb1", "1d6b", "0002")
    usb(tmp_path, "2-1", "18d1", "9302", busnum=2, devnum=3, speed=5000)
    usb(tmp_path, "1-1.4", "1a6e", "089a", busnum=1, devnum=117, speed=480)
    usb(tmp_path, "1-2", "18d1", "4ee7")  # another Google device
    (tmp_path / "sys/bus/usb/devices/1-2:1.0").mkdir()  # an interface has no ids
    pci(tmp_path, "0000:00:00.0", vendor="0x8086")
    pci(tmp_path, "0000:01:00.0", apex="apex_0")
    pci(tmp_path, "0000:02:00.0")
    assert edgetpu.devices(tmp_path) == (
        Device("usb", tmp_path / "dev/bus/usb/001/117", 480),
        Device("usb", tmp_path / "dev/bus/usb/002/003", 5000),
        Device("pci", tmp_path / "dev/apex_0"),
        Device("pci", None),
    )


def test_no_devices(tmp_path):
    assert edgetpu.devices(tmp_path) == ()
    usb(tmp_path, "2-1", "18d1", "9302", busnum="", speed="fast")  # what a dying device says
    assert edgetpu.devices(tmp_path) == (Device("usb", tmp_path / "dev/bus/usb/000/000", None),)


def test_this_machine_s_own_are_looked_for():
    assert isinstance(edgetpu.devices(), tuple)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Compile a libedgetpu.so.1 that child processes find."""

    def build(source):
        (tmp_path / "lib.c").write_text(source)
        library = tmp_path / edgetpu.LIBRARY
        subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, tmp_path / "lib.c"], check=True)
        monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}")

    return build


def test_no_library(environment, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setattr(
        edgetpu, "_TRY", edgetpu._TRY.replace("import edgetpu;", "import edgetpu; edgetpu.LIBRARY='x';")
    )
    found = edgetpu.library(with_device=False)
    assert found.is_missing
    assert "cannot open shared object" in found.fault


@needs_compiler
@pytest.mark.parametrize(
    ("source", "with_device", "expected"),
    [
        (VERSION, False, Library("14")),
        ("", False, Library(None)),
        (VERSION.replace("Build", "build").replace("RuntimeVersion(14)", "16"), False, None),
        (VERSION + WORKS, True, Library("14")),
        (VERSION + CRASHES, False, Library("14")),
        (VERSION + CRASHES, True, Library("14", "crashes (signal 11)")),
    ],
    ids=["version", "no version", "odd version", "works", "crash not tried", "crash"],
)
def test_libraries(built, environment, monkeypatch, source, with_device, expected):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    built(source)
    found = edgetpu.library(with_device=with_device)
    if expected is None:
        assert found.version.endswith("16")
        assert found.fault is None
    else:
        assert found == expected


@needs_compiler
def test_a_library_that_refuses_says_why(built, environment, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    built(VERSION + REFUSES)
    found = edgetpu.library(with_device=True)
    assert found.version == "14"
    assert not found.is_missing
    assert "\n" not in found.fault
    assert "delegate" in found.fault.lower() or "no device" in found.fault


@needs_compiler
def test_a_library_that_hangs_is_given_up(built, environment, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setattr(edgetpu, "_TRY_S", 2.0)
    built(VERSION + HANGS)
    assert edgetpu.library(with_device=True).fault == "does not answer within 2 s"


@needs_compiler
def test_a_file_that_is_no_library(built, environment, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    built("")
    (tmp_path / edgetpu.LIBRARY).write_bytes(b"no ELF at all")
    found = edgetpu.library(with_device=False)
    assert found.fault
    assert not found.is_missing
