"""Names that a user mistyped: say the nearest one there is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """``has no WHAT 'NAME': did you mean …?`` or, where nothing is near, the names there are."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known) or 'none'}"
    return f"no {what} '{name}': {hint}"
