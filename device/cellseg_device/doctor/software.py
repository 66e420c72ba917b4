"""Python, the runtime, the processor's vector instructions, and whether the model gives its known answer."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from cellseg_device.doctor.finding import ABSENT, OK, PROBLEM, WARNING, Finding, Subject, file_text
from cellseg_device.errors import ModelError

# What importing the runtime raises if it is missing, or was built for another NumPy
_BROKEN = (ImportError, SystemError, AttributeError)

# Instructions for which XNNPACK has int8 kernels: their names in /proc/cpuinfo, and those for the user
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


def python(subject: Subject) -> Finding:
    """Check the version of Python, and that it is 64-bit."""
    board = file_text(subject.root / "proc/device-tree/model")
    text = f"Python {platform.python_version()} on {platform.machine()}" + (f", {board}" if board else "")
    if sys.maxsize < 2**32:
        return Finding(
            "python",
            WARNING,
            f"{text}, 32-bit: its runtime is slower, and counts a little differently",
            "install the 64-bit Raspberry Pi OS",
        )
    return Finding("python", OK, text)


def runtime(subject: Subject) -> Finding:  # noqa: ARG001 - a check like the others
    """Check which runtime there is for the models."""
    install = f"{sys.executable} -m pip install --upgrade --force-reinstall"
    try:
        from cellseg_device.model.interpreter import RUNTIME
    except _BROKEN as error:
        return Finding("runtime", PROBLEM, f"cannot be loaded ({error})", f"{install} ai-edge-litert numpy")
    text = ", ".join([RUNTIME, *(f"{name} {_version(name)}" for name in ("numpy", "opencv-python-headless"))])
    if RUNTIME.startswith("tflite-runtime"):
        return Finding(
            "runtime", WARNING, f"{text}: slower, and counts a little differently", f"{install} ai-edge-litert"
        )
    return Finding("runtime", OK, text)


def simd(subject: Subject) -> Finding:
    """Check which instructions of the processor make the network fast, as far as the runtime can see them."""
    cpuinfo = file_text(subject.root / "proc/cpuinfo")
    if cpuinfo is None or not (subject.root / "sys/devices/system/cpu").is_dir():
        return Finding(
            "processor",
            PROBLEM,
            "/proc and /sys are not mounted: without them the runtime is slow, and counts differently",
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
        return Finding("processor", WARNING, "no vector instructions that the runtime uses", "use a newer computer")
    return Finding("processor", OK, ", ".join(words))


def model(subject: Subject) -> Finding:
    """Check whether the model loads, uses the fast kernels, and answers as it did when it was evaluated."""
    try:
        from cellseg_device.model.faults import as_model_faults
        from cellseg_device.model.graph import is_delegated
        from cellseg_device.model.interpreter import RUNTIME, Model, bundled_path
        from cellseg_device.pipeline import selftest
    except _BROKEN as error:
        return Finding("model", PROBLEM, f"cannot be tried ({error})", "fix the runtime first")
    try:
        loaded = Model(subject.model or bundled_path())
        with as_model_faults(loaded.path):
            answer = selftest.answer(loaded)
    except ModelError as error:
        return Finding("model", PROBLEM, error.message, "name another --model, or install cellseg-device again")
    expected = loaded.card.known_answer
    text = f"{loaded.card.name}: {answer.cells} cells on the built-in field"
    if expected is None or loaded.card.quantization != "int8":
        return Finding("model", OK, f"{text}; its card has no answer for an exact comparison")
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


def gate(subject: Subject) -> Finding:
    """Check whether the gate answers as it did when it was evaluated, and whether the models that it names load."""
    try:
        from cellseg_device.pipeline import accelerator, gate, models, selftest
    except _BROKEN as error:
        return Finding("gate", PROBLEM, f"cannot be tried ({error})", "fix the runtime first")
    path = models.gate_path(subject.model, subject.gate)
    if path is None:
        return Finding("gate", ABSENT, "none: every image is counted with the one model")
    try:
        opened = gate.open_gate(path)
        named = {} if subject.model is not None else models.named_models(opened.card, path)
        warnings = [line for line in [selftest.check_gate(opened)] if line is not None]
        for each in named.values():
            accelerator.load(each, 1, "cpu", warnings.append)
    except ModelError as error:
        return Finding("gate", PROBLEM, error.message, "name another --gate, or install cellseg-device again")
    if warnings:
        text, _, fix = warnings[0].rpartition(": ")
        return Finding("gate", PROBLEM, text, fix)
    counted = f", counted with {' or '.join(named)}" if named else ""
    return Finding("gate", OK, f"{opened.card.name}: {len(gate.of(opened).classes)} classes{counted}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(the system's)"
