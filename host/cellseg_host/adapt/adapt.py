"""From corrections to a model that is proven better, or to the answer that it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cellseg_host
from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.models import kind_of
from cellseg_device.results.correction_file import Corrections
from cellseg_host.adapt import folds, judge, material, replay, verdict
from cellseg_host.adapt.corrected import Checked
from cellseg_host.adapt.fit import fit
from cellseg_host.adapt.folds import Fold, Plan
from cellseg_host.adapt.judge import Judged
from cellseg_host.adapt.material import Material
from cellseg_host.adapt.pace import Pace
from cellseg_host.adapt.settings import CORRECTED, Settings
from cellseg_host.adapt.start import Start
from cellseg_host.adapt.verdict import Verdict
from cellseg_host.data.dataset import Dataset
from cellseg_host.evaluation.evaluate import Summary

DATA = "data"


@dataclass(frozen=True)
class Request:
    """What to adapt, to what, and how.

    Attributes
    ----------
    corrections : Corrections
    checked : Checked
    start : Start
    replayed : Dataset or None
        Real images that are shown again.
    settings : Settings
    name : str
        Of the new model.
    anyway : bool
        Make the model even if it is not better.
    """

    corrections: Corrections
    checked: Checked
    start: Start
    replayed: Dataset | None
    settings: Settings
    name: str
    anyway: bool = False

    @property
    def plan(self) -> Plan:
        """How the images are divided."""
        sources = [item.source_sha256 or item.source for item in self.checked.items]
        return folds.plan(sources, self.checked.cells, self.settings.seed)

    def about(self) -> dict[str, Any]:
        """Return what tells this request from others, as JSON has it."""
        return {
            "format": cellseg_host.__version__,
            "corrections": self.checked.digest,
            "start": self.start.sha256,
            "replay": None if self.replayed is None else self.replayed.digest(),
            "settings": dataclasses.asdict(self.settings),
        }


@dataclass(frozen=True)
class Watcher:
    """Who is told what is being done.

    Attributes
    ----------
    stage : callable
        Called with what is being done, in words.
    moved : callable
        Called with the `Pace` when something was done.
    model : callable
        Called with the number of a model from 1, how many there will be, and its `Judged`.
    """

    stage: Callable[[str], object] = lambda _: None
    moved: Callable[[Pace], object] = lambda _: None
    model: Callable[[int, int, Judged], object] = lambda *_: None


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes
    ----------
    data : bytes or None
        The new model with its card; None if it is not better.
    verdict : Verdict or None
        On all images that were held out; None where none could be.
    replayed : Verdict or None
        What the new model, or where there is none the last one that was judged, loses of what is replayed.
    judged : tuple of Judged
        One for each fold of the plan.
    material : Material
    start : Start
    request : Request
    """

    data: bytes | None
    verdict: Verdict | None
    replayed: Verdict | None
    judged: tuple[Judged, ...]
    material: Material
    start: Start
    request: Request

    @property
    def is_better(self) -> bool:
        """Whether the new model is proven better."""
        return self.verdict is not None and self.verdict.is_better


def adapt(request: Request, start: Start, work: Path, watcher: Watcher) -> Adapted:
    """Return what comes of a request; goes on with what is in the work folder, which is this request's.

    Parameters
    ----------
    request : Request
    start : Start
        The request's, from its copy in the work folder.
    work : Path
    watcher : Watcher

    Raises
    ------
    InputError
        If an image cannot be read, or the training fails.
    """
    made = _material(request, start, work, watcher)
    plan = request.plan
    settings = [request.settings.short if plan.final else request.settings] * len(plan.folds)
    settings += [request.settings] if plan.final else []
    pace = Pace([one.epochs * one.steps for one in settings])

    def model(number: int, fold: Fold) -> Judged:
        title = f"model {number} of {plan.models}"
        folder = work / f"model-{number}"

        def on_step(steps: int) -> None:
            pace.step(steps)
            watcher.moved(pace)

        watcher.stage(f"{title}: training")
        path = fit(folder, made, fold, start, settings[number - 1], name=request.name, on_step=on_step)
        watcher.stage(f"{title}: judging")
        found = judge.judge(folder, path, made, [made.corrected[place] for place in fold.held], start)
        pace.model()
        watcher.moved(pace)
        watcher.model(number, plan.models, found)
        return found

    judged = tuple(model(number, fold) for number, fold in enumerate(plan.folds, 1))
    held = [found.held for found in judged if found.held is not None]
    proven = verdict.joined(held) if held else None
    kept = judged[-1] if judged else None
    is_wanted = request.anyway or (proven is not None and proven.is_better)
    if is_wanted and plan.final is not None:
        kept = model(plan.models, plan.final)
    found = Adapted(None, proven, kept.replayed if kept else None, judged, made, start, request)
    if not is_wanted or kept is None:
        return found
    return dataclasses.replace(found, data=_with_card(kept.path, found))


def _material(request: Request, start: Start, work: Path, watcher: Watcher) -> Material:
    root = work / DATA
    if (root / "manifest.csv").is_file():
        return material.load(root)
    watcher.stage("looking for kinds of images that the start model knows")
    kinds = replay.known_kinds(Model(start.path, 2), request.settings.seed)
    sources = material.Sources(request.corrections, request.checked, kinds, request.replayed, request.settings.seed)
    return material.make(root, sources, lambda done, of: watcher.stage(f"images: {done} of {of}"))


def _with_card(path: Path, found: Adapted) -> bytes:
    """Return the model with a card that says what it is made from, and how it was judged."""
    request, proven = found.request, found.verdict
    data = cards.read_model_file(path)
    card = cards.read_from(data)
    about = {
        "start": {
            "name": request.start.card.name,
            "kind": kind_of(request.start.card),
            "sha256": request.start.sha256,
        },
        "corrections": {
            "images": len(request.checked.items),
            "cells": sum(request.checked.cells),
            "sha256": request.checked.digest,
        },
        "better": found.is_better,
        "anyway": not found.is_better,
    }
    metrics = {}
    if proven is not None:
        about |= {"before": _short(proven.old), "after": _short(proven.new)}
        metrics = {"split": f"held out of {CORRECTED} images ({proven.new.images} images)", "int8": _short(proven.new)}
    card = dataclasses.replace(
        card,
        name=request.name,
        known_answer=selftest.answer(Model(path, 2)),
        metrics=metrics,
        provenance={**card.provenance, "adapted": about},
    )
    return cards.attach(data, card)


def _short(summary: Summary) -> dict[str, Any]:
    names = ("images", "cells_true", "cells_counted", "ap50", "mean_ap", "total_count_error")
    values = {name: getattr(summary, name) for name in names}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
