"""The board: temperature, power and clock."""

from __future__ import annotations

import ctypes
import time

from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Finding, Subject, file_text
from cellseg_device.system import hardware

_WARM_C, _HOT_C = 75, 85  # a Raspberry Pi slows down from 80
_EARLIEST = 1_760_000_000  # seconds since 1970: this code is younger, so a clock before that is wrong
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)


def temperature(subject: Subject) -> Finding:
    """Check the temperature of the warmest of the system's sensors."""
    zones = (file_text(path) or "" for path in (subject.root / "sys/class/thermal").glob("thermal_zone*/temp"))
    values = [int(text) / 1000 for text in zones if text.lstrip("-").isdecimal()]
    if not values:
        return Finding("temperature", ABSENT, "this computer does not report it")
    text = f"{max(values):.0f} °C"
    if max(values) < _WARM_C:
        return Finding("temperature", OK, text)
    state = WARNING if max(values) < _HOT_C else PROBLEM
    return Finding("temperature", state, f"{text}: it slows down", "give it a heat sink, a fan or more air")


def power(subject: Subject) -> Finding:
    """Check whether a Raspberry Pi gets enough power, and runs at full speed."""
    words = hardware.throttling(subject.root)
    alarms = [
        file_text(alarm)
        for name in (subject.root / "sys/class/hwmon").glob("*/name")
        if file_text(name) == "rpi_volt"
        for alarm in name.parent.glob("in*_lcrit_alarm")
    ]
    if words is None and not alarms:
        return Finding("power", ABSENT, "this computer does not report it")
    words = words or []
    if "1" in alarms and "under-voltage" not in words:
        words = ["under-voltage", *words]
    if not words:
        return Finding("power", OK, "no under-voltage, not throttled")
    low = any(word.startswith("under-voltage") for word in words)
    fix = "use the Raspberry Pi's own power supply and a short, thick cable" if low else "cool it, then start it again"
    return Finding("power", PROBLEM if "under-voltage" in words else WARNING, ", ".join(words), fix)


def clock(subject: Subject) -> Finding:
    """Check whether the clock is right, as far as the system knows."""
    fix = "connect it to a network for a while ('timedatectl' shows the state), or give it a battery-backed clock"
    now = time.time()
    if now < _EARLIEST:
        return Finding("clock", PROBLEM, f"is wrong: {time.strftime('%Y-%m-%d', time.gmtime(now))} is in the past", fix)
    if (subject.root / "run/systemd/timesync/synchronized").exists():
        return Finding("clock", OK, "synchronised")
    status = _kernel_clock_status()
    if status is None:
        return Finding("clock", ABSENT, "the system does not report whether it is synchronised")
    if status & _UNSYNCHRONISED:
        return Finding("clock", WARNING, "not synchronised: times in the results may be wrong", fix)
    return Finding("clock", OK, "synchronised")


class _Timex(ctypes.Structure):
    """The first fields of ``struct timex``, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def _kernel_clock_status() -> int | None:
    """Return the status bits of adjtimex(2), which every program that sets the clock updates; None without them."""
    timex = _Timex()
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else timex.status
