"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return ``no WHAT 'NAME': did you mean …?`` or, where no known name is similar, a list of the known names."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known) or 'none'}"
    return f"no {what} '{name}': {hint}"
