"""What this computer is, and its temperature, clock and power, as far as the system reports them."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_THROTTLED = "sys/devices/platform/soc*/soc*firmware/get_throttled"
# Bits of the Raspberry Pi firmware's status word: the state now and, 16 bits higher, that since the start
_THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


def describe() -> dict[str, Any]:
    """Return a description of the hardware.

    Returns
    -------
    dict
        `model`, `machine`, `cores`, `memory_mb`, `clock_mhz`, `temperature_c`, `throttling` (a list of words,
        empty if all is well); None for what the system does not report.
    """
    return {
        "model": _board() or _cpu() or platform.processor() or None,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "clock_mhz": _clock_mhz(),
        "temperature_c": _number(Path("/sys/class/thermal/thermal_zone0/temp"), 1000),
        "throttling": throttling(),
    }


def throttling(root: Path = Path("/")) -> list[str] | None:
    """Return in words what slows a Raspberry Pi down, or has since its start; None if the system does not report it.

    Parameters
    ----------
    root : Path
        Where ``/sys`` is.
    """
    words = [_text(path) for path in root.glob(_THROTTLED)]
    if not words or words[0] is None:
        return None
    try:
        bits = int(words[0], 16)
    except ValueError:
        return None
    now = [text for bit, text in _THROTTLE_BITS.items() if bits >> bit & 1]
    return now + [f"{text} since start" for bit, text in _THROTTLE_BITS.items() if bits >> (bit + 16) & 1]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def _number(path: Path, divisor: float) -> float | None:
    try:
        return round(int(_text(path) or "") / divisor, 1)
    except ValueError:
        return None


def _field(path: Path, name: str) -> str | None:
    """Return the value in the first line ``name : value``."""
    lines = (_text(path) or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), None)


def _board() -> str | None:
    return _text(Path("/proc/device-tree/model"))


def _cpu() -> str | None:
    return _field(Path("/proc/cpuinfo"), "model name")


def _memory_mb() -> int | None:
    total = _field(Path("/proc/meminfo"), "MemTotal")
    return int(total.split()[0]) // 1024 if total else None


def _clock_mhz() -> float | None:
    now = _number(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"), 1000)
    nominal = _field(Path("/proc/cpuinfo"), "cpu MHz")
    return now if now is not None else (round(float(nominal), 1) if nominal else None)
