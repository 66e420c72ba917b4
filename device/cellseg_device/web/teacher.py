"""The process that knows models: what could be learnt, models that are tried, put into use or taken out of it.

It answers as `helper` says, and runs no model in the server's process.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_device.correcting import doubtful, teaching, trial
from cellseg_device.errors import CellsegError, InputError
from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use, models
from cellseg_device.pipeline.in_use import Kept
from cellseg_device.pipeline.predict import Runnable
from cellseg_device.results import corrections, export
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.web import answering
from cellseg_device.web.answering import Answer

MOST_SUGGESTED, MOST_TRIED = 12, 10
_MOST_LOOKED_AT = 300  # images whose tables are read for suggestions: the most flagged, and some by chance
_MOST_KEPT = 20  # models that are listed


class Teacher:
    """Answers what the page asks about models of a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Originals
        The images.
    """

    def __init__(self, out: Path, originals: Originals) -> None:
        self._out, self._originals = out, originals
        self._tried: tuple[str, Runnable] | None = None

    def answer(self, request: dict[str, Any]) -> Answer:
        """Return the answer to a request; of one that is refused why."""
        kinds: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "facts": lambda _request: (self.facts(), b""),
            "suggested": self._suggested,
            "keep": self._keep,
            "use": self._use,
            "back": self._back,
            "try": self._try,
            "part": self._part,
        }
        try:
            return kinds[request["what"]](request)
        except CellsegError as error:
            return {"error": error.message}, b""
        except MemoryError:
            return {"error": "needs more memory than there is"}, b""
        except OSError as error:
            return {"error": f"the disk refuses ({error.strerror}): make room or fix it, then try again"}, b""

    def facts(self) -> dict[str, Any]:
        """Return what is checked, and which models there are."""
        checked = [row for _entry, row in teaching.checked(self._out)[0]]
        try:
            ready = teaching.material(self._out)
            kind, others = ready.kind, ready.others
        except InputError:
            kind, others = "", {}
        now, former = in_use.in_use(self._out), in_use.before(self._out)
        return {
            "checked": len(checked),
            "cells": sum(row.corrected_count for row in checked),
            "changed": sum(row.corrected_count != row.count for row in checked),
            "kind": kind,
            "others": others,
            "in_use": _shown(now),
            "is_damaged": now is None and os.path.lexists(in_use.path_in(self._out)),
            "before": _shown(former),
            "kept": [_shown(one) for one in in_use.kept(self._out)[:_MOST_KEPT]],
        }

    def _suggested(self, _request: dict[str, Any]) -> Answer:
        parts = doubtful.suggested(self._out, self._unchecked(), MOST_SUGGESTED)
        return {"parts": [dataclasses.asdict(part) for part in parts]}, b""

    def _unchecked(self) -> list[Entry]:
        """Return the entries of images to choose from: half of them for their flags, the others by chance."""
        rows = corrections.read(self._out)
        with closing(self._ledger()) as ledger:
            entries = [e for e in ledger.entries(DONE) if e.counts is not None and e.image not in rows]
        if len(entries) <= _MOST_LOOKED_AT:
            return entries
        flagged = sorted(entries, key=lambda entry: -_flags(entry))[: _MOST_LOOKED_AT // 2]
        by_chance = sorted(entries, key=lambda entry: doubtful.chance(entry.image))[: _MOST_LOOKED_AT // 2]
        return list({entry.image: entry for entry in (*flagged, *by_chance)}.values())

    def _keep(self, request: dict[str, Any]) -> Answer:
        """Keep a model that was uploaded, once it has passed all checks: one that ends this process is not kept."""
        path = Path(request["path"])
        try:
            models.proven(path, 1, "cpu", lambda _line: None)
            made = in_use.keep(self._out, cards.read_model_file(path))
        except CellsegError as error:
            # Its name here says nothing to whoever uploaded it
            raise InputError(error.message.replace(str(path), "the model")) from None
        return {"model": _shown(made)}, b""

    def _use(self, request: dict[str, Any]) -> Answer:
        kept = self._kept(request)
        models.proven(kept.path, 1, "cpu", lambda _line: None)
        in_use.use(self._out, cards.read_model_file(kept.path))
        return self.facts(), b""

    def _back(self, _request: dict[str, Any]) -> Answer:
        in_use.back(self._out)
        return self.facts(), b""

    def _kept(self, request: dict[str, Any]) -> Kept:
        sha256 = str(request.get("model"))
        for one in in_use.kept(self._out):
            if one.sha256 == sha256:
                return one
        raise InputError("this model is not here any more: upload it again")

    def _try(self, request: dict[str, Any]) -> Answer:
        """Return what a model makes of an image; without one, which images it should be tried on."""
        kept = self._kept(request)
        if request.get("image") is None:
            return {"images": self._to_try(kept)}, b""
        if self._tried is None or self._tried[0] != kept.sha256:
            self._tried = None  # frees the former one first
            self._tried = kept.sha256, models.proven(kept.path, 1, "cpu", lambda _line: None).loaded
        found = trial.tried(self._out, self._entry(str(request["image"])), self._tried[1], self._originals)
        values = {name: value for name, value in vars(found).items() if name != "picture"}
        return values, trial.jpeg(found.picture)

    def _to_try(self, kept: Kept) -> list[str]:
        """Return images of the model's kind: checked ones first, since those tell most, then others by chance."""
        rows = corrections.read(self._out)
        kind = models.kind_of(kept.card)
        with closing(self._ledger()) as ledger:
            entries = [e for e in ledger.entries(DONE) if e.counts is not None and e.model_sha256 != e.gate_sha256]
        kinds = teaching.kinds_of(self._out, entries)
        fitting = [entry for entry in entries if kinds[entry.model_sha256] == kind] or entries
        order = sorted(fitting, key=lambda entry: doubtful.chance(entry.image))
        order.sort(key=lambda entry: corrections.counts_of(entry, rows.get(entry.image)) is None)
        return [entry.image for entry in order[:MOST_TRIED]]

    def _part(self, request: dict[str, Any]) -> Answer:
        """Return a picture of a part of an image with the outlines of its cells."""
        entry = self._entry(str(request["image"]))
        labels = export.stored(self._out, entry).labels
        image = export.subject(entry, labels, self._originals).image
        height, width = (min(doubtful.SIDE_PX, side) for side in labels.shape)
        row = min(max(int(request["row"]), 0), labels.shape[0] - height)
        column = min(max(int(request["column"]), 0), labels.shape[1] - width)
        picture = trial.both_outlines(image, np.zeros_like(labels), labels, (row, column, height, width))
        return {}, trial.jpeg(picture)

    def _entry(self, image: str) -> Entry:
        with closing(self._ledger()) as ledger:
            entry = ledger.get(image)
        if entry is None or entry.status != DONE or entry.counts is None:
            raise InputError("this image has no result any more: load the page again")
        return entry

    def _ledger(self) -> Ledger:
        return Ledger(self._out / FILE_NAME, is_for_reading=True)


def _flags(entry: Entry) -> int:
    return len(entry.counts.flags.split("; ")) if entry.counts is not None and entry.counts.flags else 0


def _shown(kept: Kept | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {"sha256": kept.sha256, "name": kept.card.name, "kind": models.kind_of(kept.card), "about": _about(kept)}


def _about(kept: Kept) -> str:
    """Return in words how a model was judged when it was made; empty if its card does not say."""
    made = kept.card.provenance.get("adapted") or kept.card.provenance.get("tuning")
    before, after = (made.get(name) if isinstance(made, dict) else None for name in ("before", "after"))
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ""
    old, new = before.get("ap50"), after.get("ap50")
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return ""
    return f"AP@0.5 on held-out images {old:.2f} → {new:.2f}"


def main(out: Path, folder: Path | None) -> None:
    """Answer what standard input asks for; parameters as of `answering.originals_of`."""
    answering.begin(answering.BEHIND_COUNTING)
    with answering.originals_of(out, folder) as originals:
        answering.serve(Teacher(out, originals).answer, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
