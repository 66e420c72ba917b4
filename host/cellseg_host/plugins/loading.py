"""From ``FILE.py:NAME`` to a function, and from any error in the user's code to one line."""

from __future__ import annotations

import functools
import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown


@dataclass(frozen=True)
class Plugin:
    """A function of the user's own.

    Attributes
    ----------
    given : str
        The flag and its value, at the start of each message.
    path : Path
        Its file.
    module : ModuleType
    function : callable
    """

    given: str
    path: Path
    module: ModuleType
    function: Callable[..., Any]

    def error(self, message: str) -> InputError:
        """Return an error that starts with the flag and its value."""
        return InputError(f"{self.given}: {message}")

    def guarded(self, *arguments: Any, **options: Any) -> Any:
        """Call the function and return its result; an error in it becomes an InputError."""
        try:
            return self.function(*arguments, **options)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            raise self.error(f"raises {one_line(error, self.path)}") from None

    def as_function(self) -> Callable[..., Any]:
        """Return `guarded` with the function's own name and signature."""
        return functools.wraps(self.function)(lambda *arguments, **options: self.guarded(*arguments, **options))

    def check_signature(self, expected: str, arguments: int) -> None:
        """Raise an InputError if the function does not take this number of arguments."""
        try:
            inspect.signature(self.function).bind(*range(arguments))
        except TypeError as error:
            raise self.error(f"must be called as {expected}: {error}") from None
        except ValueError:  # a built-in function has no signature
            pass


def is_spec(name: str) -> bool:
    """Return whether this names a file of the user's own, not something built in."""
    return ".py:" in name or name.endswith(".py")


def find(spec: str, what: str) -> Plugin:
    """Import the file of a plug-in.

    Parameters
    ----------
    spec : str
        ``FILE.py:NAME``.
    what : str
        The flag it was given to, for the messages.

    Raises
    ------
    InputError
        If the file is missing or cannot be imported, or has no function of this name.
    """
    try:
        path, name = _split(spec)
        text = source(spec)
    except InputError as error:
        raise InputError(f"{what} {error.message}") from None
    # Compiled here instead of imported, so that an older copy is not used and no __pycache__ is left behind
    module = ModuleType(f"cellseg_plugin_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    linecache.checkcache(str(path))
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's file may raise anything
        raise InputError(f"{what} {spec}: the file cannot be imported: {one_line(error, path)}") from None
    if not hasattr(module, name):
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        raise InputError(f"{what} {spec}: there is {unknown('function', name, own)}")
    function = getattr(module, name)
    if not callable(function):
        raise InputError(f"{what} {spec}: '{name}' is not a function but {described(function)}")
    return Plugin(f"{what} {spec}", path, module, function)


def source(spec: str) -> bytes:
    """Return the plug-in's whole file, for a copy beside what is made with it.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    path, _ = _split(spec)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{spec}: {path} cannot be read ({error.strerror}): check its path") from None


def kept_in(folder: Path, spec: str) -> str:
    """Return the specification of the same function in the copy of its file in `folder`."""
    path, name = _split(spec)
    return f"{folder / path.name}:{name}"


def beside(folder: Path, value: Any) -> Any:
    """Return settings in which each ``FILE.py:NAME`` whose file is in `folder` says so."""
    if isinstance(value, Mapping):
        return {key: beside(folder, item) for key, item in value.items()}
    if isinstance(value, list):
        return [beside(folder, item) for item in value]
    if isinstance(value, str) and ".py:" in value and (folder / value.rpartition(":")[0]).is_file():
        return str(folder / value)
    return value


def one_line(error: BaseException, path: Path) -> str:
    """Return the kind and first line of an error and, if it is in the plug-in's file, the line number."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("in user code:"):
        # TensorFlow reports an error in a graph as a file and an indented line of code for each call, then the error
        said = next(line.strip() for line in lines[1:] if not line.startswith((" " * 8, '    File "')))
        numbers = re.findall(f'File "{re.escape(str(path))}", line ([0-9]+)', str(error))
    else:
        said = type(error).__name__ + (f": {lines[0]}" if lines else "")
        numbers = [str(f.lineno) for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return said + (f" (line {numbers[-1]})" if numbers else "")


def described(value: Any) -> str:
    """Return the type of a value, and the value if it is a number."""
    kind = type(value).__name__
    return f"{kind} {value!r}" if isinstance(value, (bool, int, float)) else kind


def _split(spec: str) -> tuple[Path, str]:
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name:
        raise InputError(f"{spec}: is not of the form FILE.py:NAME")
    return Path(path), name
