"""A new model beside the start model, on images that the new one has not learnt from, by the code of the device."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.model.interpreter import Model
from cellseg_device.system import files
from cellseg_host.adapt.material import Material
from cellseg_host.adapt.start import Start
from cellseg_host.adapt.verdict import Verdict
from cellseg_host.data.dataset import Entry
from cellseg_host.evaluation.evaluate import ImageScore, evaluate
from cellseg_host.json_text import to_json

_SCORES = "scores.json"
_THREADS = 2


@dataclass(frozen=True)
class Judged:
    """A new model and how it compares.

    Attributes
    ----------
    path : Path
    held : Verdict or None
        On corrected images that were held out; None where none was.
    replayed : Verdict or None
        On images of the kinds that are replayed that were held back; None where nothing is replayed.
    """

    path: Path
    held: Verdict | None
    replayed: Verdict | None


def judge(folder: Path, path: Path, material: Material, held: Sequence[Entry], start: Start) -> Judged:
    """Return how a model compares with the start model; it is looked up in the folder if it was found out before."""
    known = folder / _SCORES
    if not known.is_file():
        new, old = Model(path, _THREADS), Model(start.path, _THREADS)
        found = {
            name: {who: list(_scores(model, material, entries)) for who, model in (("before", old), ("after", new))}
            for name, entries in (("held", held), ("replayed", material.held_back))
        }
        files.write(known, to_json(found).encode())
    document = json.loads(known.read_text(encoding="utf-8"))
    return Judged(path, _verdict(document["held"]), _verdict(document["replayed"]))


def _scores(model: Model, material: Material, entries: Sequence[Entry]) -> Iterator[ImageScore]:
    for score in evaluate(model, material, entries):
        yield dataclasses.replace(score, id=material.name(score.id))


def _verdict(document: Mapping[str, Sequence[Mapping[str, Any]]]) -> Verdict | None:
    before, after = (tuple(_score(row) for row in document[who]) for who in ("before", "after"))
    return Verdict(before, after) if before else None


def _score(row: Mapping[str, Any]) -> ImageScore:
    return ImageScore(**{**row, "ap": tuple(row["ap"])})
