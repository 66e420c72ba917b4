"""What a rule finds about an operator or a model."""

from __future__ import annotations

from dataclasses import dataclass

CPU = "cpu"
DOUBT = "doubt"
NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """Why an operator does not map, or may not, and what to change.

    Attributes
    ----------
    level : str
        ``"cpu"``: it stays on the CPU; ``"doubt"``: it may stay there, by a limit whose bounds are not published, or by
        public reports; ``"note"``: it maps, with something to know.
    reason, change : str
        `change` is empty if nothing can be done.
    """

    level: str
    reason: str
    change: str = ""
