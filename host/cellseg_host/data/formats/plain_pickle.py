"""A pickle of plain values read without running anything: arrays, numbers, strings, lists, tuples and dicts.

`pickle.load` calls whatever a file names. Here every name in a file is looked up in a table of five, whose values only
note what they were given; arrays are made of that afterwards, of plain types and as large as the bytes in the file. The
unpickler is the one in Python, since that in C takes gigabytes for a single wrong byte.
"""

from __future__ import annotations

import io
import math
import re
from pickle import UnpicklingError, _Unpickler
from typing import Any

import numpy as np
import numpy.typing as npt

_PLAIN_TYPE = re.compile(r"[biufcOSU]\d{1,4}")
_MODULES = re.compile(r"numpy(\._?core\.multiarray)?")


class NotPlainError(ValueError):
    """The file holds something else than plain values."""


class Type:
    """A NumPy type: its code, such as ``u2``."""

    def __init__(self, code: object, *_flags: object) -> None:
        if not isinstance(code, str) or not _PLAIN_TYPE.fullmatch(code):
            raise NotPlainError("an array of an unusual type")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Take the byte order."""
        if state[1] not in ("<", ">", "|", "="):
            raise NotPlainError("an array of an unusual type")
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        """Return it for NumPy."""
        return np.dtype(self.order.replace("|", "=") + self.code)


class Array:
    """An array; what is in it comes with its state."""

    def __init__(self, *_what: object) -> None:
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Take shape, type, order and bytes."""
        self.state = state

    def value(self) -> npt.NDArray[Any] | list[Any]:
        """Return the array; one of Python's objects is a list."""
        if self.state is None or len(self.state) != 5:
            raise NotPlainError("a damaged array")
        _version, shape, kind, is_by_columns, data = self.state
        if not isinstance(kind, Type):
            raise NotPlainError("a damaged array")
        if kind.code.startswith("O"):
            if not isinstance(data, list):
                raise NotPlainError("a damaged array")
            return data
        if not isinstance(data, bytes) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            raise NotPlainError("a damaged array")
        if len(data) != math.prod(shape) * kind.dtype().itemsize:
            raise NotPlainError("a damaged array")
        return np.frombuffer(data, kind.dtype()).reshape(shape, order="F" if is_by_columns else "C")


class Scalar:
    """A NumPy number."""

    def __init__(self, kind: object, data: object = b"") -> None:
        if not isinstance(kind, Type) or not isinstance(data, bytes):
            raise NotPlainError("a damaged number")
        self.kind, self.data = kind, data

    def __setstate__(self, _state: object) -> None:
        raise NotPlainError("a damaged number")


class ArrayType:
    """The name of the type of arrays, which is never called."""

    def __init__(self, *_what: object) -> None:
        raise NotPlainError("a damaged array")

    def __setstate__(self, _state: object) -> None:
        raise NotPlainError("a damaged array")


_KNOWN = {"dtype": Type, "ndarray": ArrayType, "_reconstruct": Array, "scalar": Scalar}


class _Plain(_Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Return what stands for a name in a file, of the few that there may be."""
        if not _MODULES.fullmatch(module) or name not in _KNOWN:
            raise NotPlainError(f"'{module}.{name}'")
        return _KNOWN[name]


def load(data: bytes) -> Any:
    """Return what a pickle holds.

    Raises
    ------
    NotPlainError
        If it holds anything else than plain values.
    ValueError
        If it is damaged.
    """
    try:
        return _value(_Plain(io.BytesIO(data)).load())
    except NotPlainError:
        raise
    except MemoryError:
        raise ValueError("needs more memory than there is") from None
    except UnpicklingError as error:
        raise ValueError(f"is damaged ({error})") from None
    except Exception as error:  # noqa: BLE001 - of damaged bytes the unpickler says all kinds of things
        raise ValueError(f"is damaged ({type(error).__name__})") from None


def _value(value: Any) -> Any:
    """Return a value with the arrays and numbers that were noted in it."""
    if isinstance(value, Array):
        value = value.value()
    if isinstance(value, Scalar):
        return np.frombuffer(value.data, value.kind.dtype())[0]
    if isinstance(value, dict):
        return {key: _value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_value(inner) for inner in value)
    return value


def load_npy(data: bytes) -> Any:
    """Return what a ``.npy`` of Python's objects holds, as ``numpy.save`` writes a dict; raises as `load`."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    except Exception as error:  # noqa: BLE001
        raise ValueError(f"is not a .npy file ({type(error).__name__})") from None
    if shape != () or not dtype.hasobject:
        raise ValueError("holds no dict")
    found = load(file.read())
    return found[0] if isinstance(found, list) and found else found
