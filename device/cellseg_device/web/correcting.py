"""What the page can ask for to correct an image: how its correction stands, its labels, and edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError
from cellseg_device.results import correction_journal, corrections
from cellseg_device.results.correction_journal import Journal
from cellseg_device.results.corrections import Correction
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.web.helper import Helper, HelperError, results_arguments

MOST_EDIT_BYTES = 1 << 18
_CONFLICT_AFTER_FAULT = "The process that corrects has ended: load the image again. What was done before is kept."


class Corrector:
    """Has the editor make edits, which is begun by the first one.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.
    """

    def __init__(self, out: Path, originals: Path | None) -> None:
        arguments = results_arguments(out, originals)
        self._editor = Helper("cellseg_device.web.editor", arguments, has_more_to_do=True)

    async def make(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return what an edit came to, with its ``status``, and the labels in its box as a PNG."""
        try:
            head, data = await self._editor.ask(request)
        except HelperError:
            return {"status": 409, "error": _CONFLICT_AFTER_FAULT}, b""
        del head["bytes"]
        return head, data

    async def close(self) -> None:
        """End the editor, which writes what it has first."""
        await self._editor.close()


def request_of(body: bytes, image: str) -> dict[str, Any] | None:
    """Return the request for an edit in the body of a POST; None if it is none."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return request | {"image": image} if isinstance(request, dict) else None


def facts(out: Path, entry: Entry) -> dict[str, Any] | None:
    """Return how the correction of an image stands, as it goes to the browser, or why that cannot be told.

    None without one.
    """
    if entry.status != DONE or entry.stem is None:
        return None
    try:
        row = corrections.get(out, entry)
        journal = correction_journal.read(corrections.journal_path(out, entry.stem))
    except InputError as error:
        return {"error": error.message}
    except OSError as error:
        return {"error": f"The correction cannot be read ({error.strerror}): check the disk."}
    return None if row is None or not journal.lines else _shown(entry, row, journal)


def _shown(entry: Entry, row: Correction, journal: Journal) -> dict[str, Any]:
    is_counted = not journal.has_changed_since(row.revision)
    return {
        "revision": journal.revision,
        "standing": corrections.standing(entry, row),
        "state": row.state,
        "corrected": row.corrected_count if is_counted else None,
        "corrected_in_frame": row.corrected_in_frame if is_counted else None,
        "by": row.by,
        "checked_at": row.checked_at,
        "can_undo": bool(journal.done),
        "can_redo": bool(journal.undone),
    }
