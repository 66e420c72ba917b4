"""What the system tells of the computer; what it does not tell is None."""

import json
import os
import platform

import pytest

from cellseg_device.system import hardware


def test_this_machine_is_described():
    found = hardware.describe()
    assert [*found] == ["model", "machine", "cores", "memory_mb", "clock_mhz", "temperature_c", "throttling"]
    assert found["cores"] == os.cpu_count()
    assert found["machine"] == platform.machine()
    if platform.system() == "Linux":
        assert found["memory_mb"] > 100
    json.dumps(found)


def test_a_system_that_tells_nothing(monkeypatch):
    monkeypatch.setattr(hardware, "_text", lambda path: None)
    found = hardware.describe()
    for name in ("memory_mb", "clock_mhz", "temperature_c", "throttling"):
        assert found[name] is None


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("0", []),
        ("0x0", []),
        ("0x1", ["under-voltage"]),
        ("4", ["throttled"]),
        ("50005", ["under-voltage", "throttled", "under-voltage since start", "throttled since start"]),
        ("0xa0000", ["frequency capped since start", "soft temperature limit since start"]),
        ("8\n", ["soft temperature limit"]),
        ("unknown", None),
    ],
)
@pytest.mark.parametrize("soc", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_the_throttling_word_of_a_raspberry_pi(tmp_path, word, words, soc):
    folder = tmp_path / "sys/devices/platform" / soc
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text(word)
    assert hardware.throttling(tmp_path) == words


def test_a_system_without_a_word(tmp_path):
    assert hardware.throttling(tmp_path) is None


PI = {
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4",
    "/proc/meminfo": "MemTotal:        3884352 kB\nMemFree:          123 kB",
    "/proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000",
    "/sys/class/thermal/thermal_zone0/temp": "48692",
}


def test_a_raspberry_pi(monkeypatch):
    monkeypatch.setattr(hardware, "_text", lambda path: PI.get(str(path)))
    found = hardware.describe()
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (found["memory_mb"], found["clock_mhz"], found["temperature_c"]) == (3793, 1800.0, 48.7)


def test_a_pc(monkeypatch):
    pc = {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Xeon: fast\ncpu MHz\t\t: 2799.998\n"}
    monkeypatch.setattr(hardware, "_text", lambda path: pc.get(str(path)))
    found = hardware.describe()
    assert (found["model"], found["clock_mhz"]) == ("Intel(R) Xeon: fast", 2800.0)


def test_text_of_the_device_tree_ends_with_a_zero(tmp_path):
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5\0")
    assert hardware._text(tmp_path / "model") == "Raspberry Pi 5"
    assert hardware._text(tmp_path / "none") is None
