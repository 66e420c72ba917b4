"""Cameras and Edge TPUs, and whether this user may use them."""

from __future__ import annotations

import grp
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Finding, Subject, file_text, output_of
from cellseg_device.model import edgetpu
from cellseg_device.system.rights import own_name

_USB_2_MBPS = 480
# For another process, since libcamera may crash or hang, and logs on standard error
_LIST_CAMERAS = (
    "import json; from picamera2 import Picamera2; "
    "print(json.dumps([str(c.get('Model')) for c in Picamera2.global_camera_info()]))"
)


def camera(subject: Subject) -> Finding:
    """List the cameras that libcamera knows, and those on USB."""
    usb = [f"{name} ({node})" for node, name in _usb_cameras(subject.root)]
    if find_spec("picamera2") is None:
        if usb:
            return Finding("camera", OK, f"on USB: {', '.join(usb)}")
        if (subject.root / "usr/lib/python3/dist-packages/picamera2").is_dir():
            fix = "make the environment again, with 'python3 -m venv --system-site-packages'"
            return Finding("camera", ABSENT, "picamera2 is installed, but not for this Python", fix)
        fix = "for the Raspberry Pi's camera: sudo apt install python3-picamera2"
        return Finding("camera", ABSENT, "none on USB, and no picamera2", fix)
    try:
        listed = output_of([sys.executable, "-c", _LIST_CAMERAS])
    except OSError as error:
        return Finding("camera", PROBLEM, f"picamera2 fails ({error})", "start the computer again")
    if listed.returncode:
        last = (listed.stderr.strip().splitlines() or [f"exit code {listed.returncode}"])[-1]
        return Finding("camera", PROBLEM, f"picamera2 fails ({last})", "sudo apt install --reinstall python3-picamera2")
    found = [f"{name} (libcamera)" for name in json.loads(listed.stdout.splitlines()[-1])] + usb
    if not found:
        return Finding(
            "camera", ABSENT, "picamera2 works, but there is no camera", "check the ribbon cable at both ends"
        )
    return Finding("camera", OK, ", ".join(found))


def edge_tpu(subject: Subject) -> Finding:
    """Check for Edge TPUs, their driver, and whether libedgetpu works with the runtime."""
    state = edgetpu.state(subject.root)
    if state.fault:
        level = ABSENT if not state.devices else WARNING if state.library.is_missing else PROBLEM
        return Finding("edge tpu", level, state.fault, state.fix)
    text = f"on {state.where}, libedgetpu {state.library.version or 'of unknown version'}"
    if any(device.speed_mbps == _USB_2_MBPS for device in state.devices):
        return Finding("edge tpu", WARNING, f"{text}, but USB 2: slow", "plug it into a blue USB 3 socket")
    return Finding("edge tpu", OK, text)


def rights(subject: Subject) -> Finding:
    """Check whether this user may use the devices there are."""
    nodes = [subject.root / node.lstrip("/") for node, _ in _usb_cameras(subject.root)]
    nodes += [node for pattern in ("media*", "dma_heap/*") for node in sorted((subject.root / "dev").glob(pattern))]
    nodes += [device.node for device in edgetpu.devices(subject.root) if device.node is not None]
    nodes = [node for node in nodes if node.exists()]
    if not nodes:
        return Finding("rights", ABSENT, "no camera and no Edge TPU to have rights to")
    denied = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if not denied:
        return Finding("rights", OK, f"{own_name()} may use {', '.join(node.name for node in nodes)}")
    groups = sorted({_group(node) for node in denied} - {"root"})
    fix = (
        f"sudo usermod -aG {','.join(groups)} {own_name()}, then log in again"
        if groups
        else "install the udev rules that come with libedgetpu1-std, then plug it in again"
    )
    return Finding("rights", PROBLEM, f"{own_name()} may not use {', '.join(map(str, denied))}", fix)


def _usb_cameras(root: Path) -> list[tuple[str, str]]:
    """Return the device file and name of each USB camera; a Raspberry Pi's other video devices are its codecs."""
    found = []
    for folder in sorted((root / "sys/class/video4linux").glob("video*")):
        is_usb = "DRIVER=uvcvideo" in (file_text(folder / "device/uevent") or "").splitlines()
        if is_usb and (file_text(folder / "index") or "0") == "0":  # a camera's other devices give metadata
            found.append((f"/dev/{folder.name}", file_text(folder / "name") or "camera"))
    return found


def _group(node: Path) -> str:
    try:
        return grp.getgrgid(node.stat().st_gid).gr_name
    except KeyError:
        return "root"
