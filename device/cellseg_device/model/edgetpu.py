"""Which Edge TPUs this computer has, and whether libedgetpu works with the runtime.

A libedgetpu that was built for another version of the runtime crashes the process without an error, so it is tried in a
process of its own.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.stderr import quiet_stderr

LIBRARY = "libedgetpu.so.1"

_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}  # before and after its firmware is loaded
_PCI_ID = ("0x1ac1", "0x089a")
_TRY = "from cellseg_device.model import edgetpu; edgetpu.try_library(with_device={with_device})"
_TRY_S = 30.0


@dataclass(frozen=True)
class Device:
    """One Edge TPU.

    Attributes
    ----------
    bus : str
        ``"usb"`` or ``"pci"``.
    node : Path or None
        Its device file; None for a PCI card whose driver is not loaded.
    speed_mbps : int or None
        Speed of the USB port: 480 for USB 2, 5000 and more for USB 3.
    """

    bus: str
    node: Path | None
    speed_mbps: int | None = None


@dataclass(frozen=True)
class Library:
    """The result of trying libedgetpu.

    Attributes
    ----------
    version : str or None
        The version it reports, for example ``"14"``; None if it is missing or reports none.
    fault : str or None
        Why it cannot be used; None if it can.
    is_missing : bool
    """

    version: str | None = None
    fault: str | None = None
    is_missing: bool = False


@dataclass(frozen=True)
class State:
    """The Edge TPUs of this computer, and whether one works.

    Attributes
    ----------
    devices : tuple of Device
    library : Library
    fault : str or None
        What is wrong; None if one works.
    fix : str or None
        What to do about it.
    """

    devices: tuple[Device, ...]
    library: Library
    fault: str | None = None
    fix: str | None = None

    @property
    def where(self) -> str:
        """The buses they are on, for the user."""
        return " and ".join(sorted({"PCI" if device.bus == "pci" else "USB" for device in self.devices}))


def state(root: Path = Path("/")) -> State:
    """Find the Edge TPUs of this computer, and try to use one."""
    found = devices(root)
    is_ready = any(device.node is not None for device in found)
    tried = library(with_device=is_ready)
    version = f"libedgetpu {tried.version or 'of unknown version'}"
    install = "install libedgetpu1-std (coral.ai/docs)"

    def faulty(fault: str, fix: str) -> State:
        return State(found, tried, fault, fix)

    if not found and tried.is_missing:
        return faulty("none, and no libedgetpu", f"to use one, plug it in and {install}")
    if tried.is_missing:
        return faulty("there is one, but libedgetpu is missing", install)
    if not found:
        return faulty(f"none ({version})", "plug it in, if there should be one")
    if not is_ready:
        return faulty("on PCI, without its driver", "install the gasket and apex kernel modules")
    if tried.fault:
        where = State(found, tried).where
        fault = f"on {where}, but {version} does not work with this runtime: {tried.fault}"
        return faulty(fault, "install a libedgetpu built for this version of the runtime")
    return State(found, tried)


def devices(root: Path = Path("/")) -> tuple[Device, ...]:
    """Return the Edge TPUs on USB and PCI; `root` holds ``sys`` and ``dev``."""
    found = []
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        if (_text(folder / "idVendor"), _text(folder / "idProduct")) in _USB_IDS:
            bus, number = _whole(folder / "busnum"), _whole(folder / "devnum")
            node = root / f"dev/bus/usb/{bus or 0:03d}/{number or 0:03d}"
            found.append(Device("usb", node, _whole(folder / "speed")))
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if (_text(folder / "vendor"), _text(folder / "device")) == _PCI_ID:
            names = sorted(path.name for path in (folder / "apex").glob("apex_*"))
            found.append(Device("pci", root / "dev" / names[0] if names else None))
    return tuple(found)


def library(*, with_device: bool) -> Library:
    """Try libedgetpu in a process of its own, and return the result.

    Parameters
    ----------
    with_device : bool
        Whether to let the runtime load it as well, which needs a device.
    """
    command = [sys.executable, "-c", _TRY.format(with_device=with_device)]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRY_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Library(fault=f"does not answer within {_TRY_S:.0f} s")
    except OSError as error:
        return Library(fault=f"cannot be tried ({error.strerror})")
    printed = dict(line.split("=", 1) for line in tried.stdout.splitlines() if "=" in line)
    if tried.returncode < 0:
        return Library(printed.get("version"), f"crashes (signal {-tried.returncode})")
    if tried.returncode or "done" not in printed:
        last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Library(printed.get("version"), printed.get("fault", last), "missing" in printed)
    return Library(printed.get("version"))


def try_library(*, with_device: bool) -> None:
    """Load libedgetpu in this process, and print ``name=value`` lines about it for `library`."""
    try:
        loaded = ctypes.CDLL(LIBRARY)
    except OSError as error:
        print("missing=yes" if "cannot open shared object" in str(error) else "")
        print(f"fault={error}", flush=True)
        raise SystemExit(1) from None
    if hasattr(loaded, "edgetpu_version"):
        loaded.edgetpu_version.restype = ctypes.c_char_p
        words = (loaded.edgetpu_version() or b"").decode(errors="replace")
        number = re.search(r"RuntimeVersion\((\w+)\)", words)
        print(f"version={number[1] if number else words}", flush=True)
    if with_device:
        try:
            delegate()
        except ValueError as error:
            print(f"fault={str(error).splitlines()[0]}", flush=True)
            raise SystemExit(1) from None
    print("done=yes", flush=True)


def delegate() -> Any:
    """Return a delegate of the runtime for an Edge TPU, which is held until the delegate is freed.

    Raises
    ------
    ValueError
        If there is no Edge TPU, or it is not available.
    """
    try:
        from ai_edge_litert.interpreter import load_delegate
    except ImportError:
        from tflite_runtime.interpreter import load_delegate
    with quiet_stderr():
        return load_delegate(LIBRARY)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _whole(path: Path) -> int | None:
    text = _text(path) or ""
    return int(text) if text.isdecimal() else None
