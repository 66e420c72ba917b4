"""Python, the runtime, what the processor offers it, and whether the model gives its known answer."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from cellseg_device.doctor.finding import OK, PROBLEM, WARNING, Asked, Finding, told
from cellseg_device.errors import ModelError

# What importing the runtime raises where it is missing, or was built for another NumPy
_BROKEN = (ImportError, SystemError, AttributeError)

# Names in /proc/cpuinfo of what XNNPACK has int8 kernels for, and the words for them
_SIMD = {
    "neon": "NEON",
    "asimd": "NEON",
    "asimddp": "dot product",
    "i8mm": "int8 matrix product",
    "avx": "AVX",
    "avx2": "AVX2",
    "avx512vl": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX",
}


def python(asked: Asked) -> Finding:
    """Which Python this is."""
    board = told(asked.root / "proc/device-tree/model")
    text = f"Python {platform.python_version()} on {platform.machine()}" + (f", {board}" if board else "")
    if sys.maxsize < 2**32:
        return Finding(
            "python",
            WARNING,
            f"{text}, 32-bit: the runtime there is is slower, and counts a little otherwise",
            "install the 64-bit Raspberry Pi OS",
        )
    return Finding("python", OK, text)


def runtime(asked: Asked) -> Finding:
    """Which runtime there is for the models."""
    install = f"{sys.executable} -m pip install --upgrade --force-reinstall"
    try:
        from cellseg_device.model import RUNTIME
    except _BROKEN as error:
        return Finding("runtime", PROBLEM, f"cannot be loaded ({error})", f"{install} ai-edge-litert numpy")
    text = ", ".join([RUNTIME, *(f"{name} {_version(name)}" for name in ("numpy", "opencv-python-headless"))])
    if RUNTIME.startswith("tflite-runtime"):
        return Finding(
            "runtime", WARNING, f"{text}: slower, and counts a little otherwise", f"{install} ai-edge-litert"
        )
    return Finding("runtime", OK, text)


def simd(asked: Asked) -> Finding:
    """What the processor has that makes the network fast, as far as the runtime can see it."""
    cpuinfo = told(asked.root / "proc/cpuinfo")
    if cpuinfo is None or not (asked.root / "sys/devices/system/cpu").is_dir():
        return Finding(
            "processor",
            PROBLEM,
            "/proc and /sys are not mounted: the runtime is slow then, and counts otherwise",
            "mount /proc and /sys in this chroot or container",
        )
    names = {
        word
        for line in cpuinfo.splitlines()
        if line.split(":")[0].strip() in ("Features", "flags")
        for word in line.partition(":")[2].split()
    }
    words = list(dict.fromkeys(word for name, word in _SIMD.items() if name in names))
    if not words:
        return Finding("processor", WARNING, "no vector instructions that the runtime knows", "use a newer computer")
    return Finding("processor", OK, ", ".join(words))


def model(asked: Asked) -> Finding:
    """Whether the model loads, on the fast kernels, and answers as it did when it was evaluated."""
    try:
        from cellseg_device import selftest
        from cellseg_device.graph import is_delegated
        from cellseg_device.model import RUNTIME, Model, bundled_path
    except _BROKEN as error:
        return Finding("model", PROBLEM, f"cannot be tried ({error})", "mend the runtime first")
    try:
        loaded = Model(asked.model or bundled_path())
        answer = selftest.answer(loaded)
    except ModelError as error:
        return Finding("model", PROBLEM, error.message, "name another --model, or install cellseg-device again")
    expected = loaded.card.known_answer
    text = f"{loaded.card.name}: {answer.cells} cells on the built-in field"
    if expected is None or loaded.card.quantization != "int8":
        return Finding("model", OK, f"{text}; its card has no answer to compare with to the bit")
    if not selftest.agree(answer, expected):
        return Finding(
            "model",
            PROBLEM,
            f"{text}, not the {expected.cells} cells expected, pixel for pixel: counts may differ",
            f"install ai-edge-litert instead of {RUNTIME}"
            if not RUNTIME.startswith("ai-edge")
            else "mount /proc and /sys if this is a chroot; else update ai-edge-litert, numpy and opencv",
        )
    if not is_delegated(loaded.interpreter):
        return Finding("model", WARNING, f"{text}, as expected, but slow: XNNPACK is off", "mount /proc and /sys")
    return Finding("model", OK, f"{text}, every pixel as expected")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of the system"
