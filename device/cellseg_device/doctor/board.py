"""How the computer feels: temperature, power and clock."""

from __future__ import annotations

import ctypes
import time

from cellseg_device import hardware
from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Asked, Finding, told

_WARM_C, _HOT_C = 75, 85  # a Raspberry Pi slows down from 80
_THIS_CODE = 1_760_000_000  # seconds since 1970: no clock that is right says less
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)


def temperature(asked: Asked) -> Finding:
    """The warmest of the system's sensors."""
    zones = (told(path) or "" for path in (asked.root / "sys/class/thermal").glob("thermal_zone*/temp"))
    values = [int(text) / 1000 for text in zones if text.lstrip("-").isdecimal()]
    if not values:
        return Finding("temperature", ABSENT, "this computer does not tell it")
    text = f"{max(values):.0f} °C"
    if max(values) < _WARM_C:
        return Finding("temperature", OK, text)
    state = WARNING if max(values) < _HOT_C else PROBLEM
    return Finding("temperature", state, f"{text}: it slows down", "give it a heat sink, a fan or more air")


def power(asked: Asked) -> Finding:
    """Whether a Raspberry Pi gets enough power, and runs at full speed."""
    words = hardware.throttling(asked.root)
    alarms = [
        told(alarm)
        for name in (asked.root / "sys/class/hwmon").glob("*/name")
        if told(name) == "rpi_volt"
        for alarm in name.parent.glob("in*_lcrit_alarm")
    ]
    if words is None and not alarms:
        return Finding("power", ABSENT, "this computer does not tell")
    words = words or []
    if "1" in alarms and "under-voltage" not in words:
        words = ["under-voltage", *words]
    if not words:
        return Finding("power", OK, "no under-voltage, not throttled")
    low = any(word.startswith("under-voltage") for word in words)
    fix = "use the Raspberry Pi's own power supply and a short, thick cable" if low else "cool it, then start it again"
    return Finding("power", PROBLEM if "under-voltage" in words else WARNING, ", ".join(words), fix)


def clock(asked: Asked) -> Finding:
    """Whether the clock is right, as far as the system knows."""
    fix = "connect it to a network for a while ('timedatectl' shows the state), or give it a battery-backed clock"
    now = time.time()
    if now < _THIS_CODE:
        return Finding("clock", PROBLEM, f"says {time.strftime('%Y-%m-%d', time.gmtime(now))}, which is over", fix)
    if (asked.root / "run/systemd/timesync/synchronized").exists():
        return Finding("clock", OK, "synchronised")
    status = _kernel_clock_status()
    if status is None:
        return Finding("clock", ABSENT, "the system does not tell whether it is synchronised")
    if status & _UNSYNCHRONISED:
        return Finding("clock", WARNING, "not synchronised: times in the results may be wrong", fix)
    return Finding("clock", OK, "synchronised")


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def _kernel_clock_status() -> int | None:
    """Status bits of adjtimex(2), which any program that sets the clock keeps; None where there are none."""
    timex = _Timex()
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else timex.status
