"""The page about a data set: what to mend first, then what it holds, in one HTML file."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline.predict import LARGE_RATIO
from cellseg_device.units import plural
from cellseg_host import __version__
from cellseg_host.data.dataset import SPLITS, Dataset
from cellseg_host.report import page
from cellseg_host.survey import charts, pictures
from cellseg_host.survey.facts import Facts
from cellseg_host.survey.findings import Finding, spread

_MOST_GROUPS = 24  # rows of a chart that can still be read


def render(dataset: Dataset, name: str, facts: Sequence[Facts], findings: Sequence[Finding]) -> str:
    """Return the page, whose first sentence says whether the data set can be trained on."""
    cells = sum(one.cells for one in facts)
    with_cells = {
        title: some for title, some in grouped(facts, _set_and_modality).items() if any(one.cells for one in some)
    }
    known = known_px()
    return page.render_page(
        f"Data set {name}",
        "survey.html",
        [
            f"{plural(len(facts), 'image')} with {plural(cells, 'cell')}",
            f"cellseg-host {__version__}, {datetime.date.today().isoformat()}",
        ],
        verdict=[verdict(findings)],
        findings=findings,
        rows=rows(facts),
        known=known,
        outside=outside(facts, known),
        diameters=charts.diameters(_few(with_cells), known) if with_cells else None,
        images=charts.images(_few(grouped(facts, _set_and_modality))),
        balance=balance(facts),
        splits=SPLITS,
        extremes=dict(pictures.extremes(dataset, facts)),
    )


def verdict(findings: Sequence[Finding]) -> str:
    """Return in a sentence whether a data set can be trained on."""
    faults = sum(finding.is_fault for finding in findings)
    if faults:
        return f"Mend {plural(faults, 'fault')} before training on it: {findings[0].text}."
    notes = len(findings)
    return (
        "Nothing is wrong with it that can be measured."
        if not notes
        else f"No fault; {plural(notes, 'thing')} to know."
    )


def rows(facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """Return a row for the images of each set, modality and split: their number, cells, and how large cells are."""
    found = []
    for (name, modality, split), some in grouped(facts, _place).items():
        diameters = np.concatenate([one.diameters_px for one in some])
        found.append(
            {
                "set": name,
                "modality": modality,
                "split": split,
                "images": len(some),
                "labelled": sum(one.entry.is_labelled for one in some),
                "cells": len(diameters),
                "diameter_px": spread(diameters),
                "brightness": spread([one.brightness for one in some])[1],
                "sharpness": spread([one.sharpness for one in some])[1],
                "density": spread([one.density for one in some])[1],
                "covered": spread([one.covered for one in some])[1],
                "touching": _touching(some),
            }
        )
    return found


def balance(facts: Sequence[Facts]) -> dict[str, dict[str, int]]:
    """Return the number of images of each kind in each split."""
    return {
        kind: {split: sum(one.entry.split == split for one in some) for split in SPLITS}
        for kind, some in grouped(facts, lambda one: one.entry.kind).items()
    }


def known_px() -> tuple[float, float]:
    """Return the diameters in pixels between which the bundled model counts cells as they are in the image."""
    card = cards.read_from(cards.read_model_file(bundled_path()))
    smallest = math.sqrt(4 * card.separation.min_area_px / math.pi)
    return smallest, LARGE_RATIO * card.cell_diameter_px


def outside(facts: Sequence[Facts], known: tuple[float, float]) -> tuple[float, float]:
    """Return the shares of cells that are smaller and larger than those diameters."""
    every = np.concatenate([one.diameters_px for one in facts])
    return (0.0, 0.0) if not len(every) else (float(np.mean(every < known[0])), float(np.mean(every > known[1])))


def grouped(facts: Sequence[Facts], key: Callable[[Facts], Any]) -> dict[Any, list[Facts]]:
    """Return the images by what `key` says of them, in that order."""
    found: dict[Any, list[Facts]] = {}
    for one in sorted(facts, key=lambda one: (key(one), one.entry.id)):
        found.setdefault(key(one), []).append(one)
    return found


def _set_and_modality(one: Facts) -> str:
    return f"{one.entry.set}, {one.entry.modality}"


def _place(one: Facts) -> tuple[str, str, str]:
    return one.entry.set, one.entry.modality, one.entry.split


def _touching(some: Sequence[Facts]) -> float:
    cells = sum(one.cells for one in some)
    return sum(one.touching * one.cells for one in some) / cells if cells else math.nan


def _few(groups: Mapping[str, list[Facts]]) -> dict[str, list[Facts]]:
    """Return the largest groups, as many as can be read."""
    largest = sorted(groups, key=lambda name: -len(groups[name]))[:_MOST_GROUPS]
    return {name: some for name, some in groups.items() if name in largest}
