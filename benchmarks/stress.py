"""What a model loses on images unlike those it was trained on: AP@0.5 under fifteen faults, each in three strengths.

    python benchmarks/stress.py models/nuclei.tflite nuclei-data      (prints the table, writes benchmarks/stress.json
                                                                       and benchmarks/stress.md)

The faults are `cellseg_host.synth.faults`, made from the decoded images of one split, by chance that depends on the
image's name alone; a fault of one modality, such as another stain, only from images of that. Images go through the
device's own code (`cellseg_device.pipeline.segment`) with default settings; where cells are made smaller or larger,
also with their diameter given, as `--diameter` does. "Drop" is against the same images untouched.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import empties
import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.errors import OutputError
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import predict
from cellseg_device.pipeline.models import Models
from cellseg_device.system import files
from cellseg_host.commands.console import print_table, tracked
from cellseg_host.data.dataset import Dataset, Entry, load
from cellseg_host.evaluation import evaluate, metrics
from cellseg_host.synth import faults
from cellseg_host.synth.empties import TEST_SEEDS
from cellseg_host.synth.fault import Field
from cellseg_host.synth.faults import FAULTS, STRENGTHS

JSON = Path(__file__).with_name("stress.json")
UNTOUCHED = "untouched"
MOST_LOST = 0.10  # at the middle strength


@dataclass(frozen=True)
class Variant:
    """One fault at one strength, or none (strength -1).

    Attributes
    ----------
    fault : str
    strength : int
        Index into `faults.STRENGTHS`.
    is_given : bool
        Whether the pipeline is given the diameter of the cells.
    """

    fault: str
    strength: int
    is_given: bool = False

    def is_for(self, modality: str) -> bool:
        """Whether it happens to images of a modality."""
        only = FAULTS[self.fault].modality if self.fault != UNTOUCHED else None
        return only in (None, modality)


@dataclass(frozen=True)
class Score:
    """One image under one variant."""

    variant: Variant
    modality: str
    cells_true: int
    cells_counted: int
    ap50: float
    mean_ap: float


VARIANTS = (
    Variant(UNTOUCHED, -1),
    *(Variant(name, strength) for name in FAULTS for strength in range(len(STRENGTHS))),
    *(
        Variant(name, strength, is_given=True)
        for name, fault in FAULTS.items()
        if fault.apply is faults.magnified
        for strength in range(len(STRENGTHS))
    ),
)


def labels_of(pixels: np.ndarray, model: Model, diameter_px: float | None = None) -> metrics.Labels:
    """Return the labels that the device's pipeline gives an image."""
    image = Counting().applied(Image(pixels))
    return evaluate.labels_of(predict.predict(image, model, diameter_px=diameter_px))


def score(model: Model, field: Field, entry: Entry, variant: Variant) -> Score:
    """Return the score of an image under one variant."""
    if variant.fault != UNTOUCHED:
        field = faults.faulty(field, variant.fault, variant.strength, entry.id)
    is_given = variant.is_given and field.diameter_px > 0  # an image without a cell has no diameter
    labels = labels_of(field.pixels, model, field.diameter_px if is_given else None)
    ap = metrics.average_precision(field.labels, labels)
    return Score(variant, entry.modality, int(field.labels.max()), int(labels.max()), float(ap[0]), float(ap.mean()))


class Scorer:
    """Scores an image under all variants, in a process of its own, which opens the model once."""

    model: Model
    dataset: Dataset

    @classmethod
    def open(cls, model: Path, dataset: Dataset) -> None:
        """Open the model on one thread."""
        cv2.setNumThreads(1)
        cls.model, cls.dataset = Model(model, 1), dataset

    @classmethod
    def scores(cls, entry: Entry) -> list[Score]:
        """All scores of one image, that of the untouched image first."""
        labels = cls.dataset.labels(entry)
        field = Field(cls.dataset.image(entry).pixels, labels, entry.median_diameter_px)
        return [score(cls.model, field, entry, variant) for variant in VARIANTS if variant.is_for(entry.modality)]


def all_scores(model: Path, dataset: Dataset, entries: Sequence[Entry], processes: int) -> Iterator[list[Score]]:
    """Scores of every image, the largest first so that none is left alone at the end."""
    largest_first = sorted(entries, key=lambda e: e.height * e.width / max(e.median_diameter_px, 1) ** 2, reverse=True)
    # Not forked: the progress bar runs in a thread
    with multiprocessing.get_context("spawn").Pool(processes, Scorer.open, (model, dataset)) as pool:
        yield from pool.imap_unordered(Scorer.scores, largest_first)


def mean_ap50(scores: Sequence[Score]) -> dict[str, float]:
    """AP@0.5 of ``all`` and of each modality, means over the images."""
    groups = {"all": list(scores)}
    for modality in sorted({s.modality for s in scores}):
        groups[modality] = [s for s in scores if s.modality == modality]
    return {name: float(np.mean([s.ap50 for s in group])) for name, group in groups.items()}


def rows_of(by_image: Sequence[Sequence[Score]]) -> list[dict[str, Any]]:
    """Return a row for each variant that happens to any of the images; `by_image` has `Scorer.scores` of each."""
    rows = []
    for variant in VARIANTS:
        pairs = [(scores[0], s) for scores in by_image for s in scores if s.variant == variant]
        if pairs:
            untouched, scored = zip(*pairs, strict=True)
            rows.append(row(scored, mean_ap50(untouched)))
    return rows


def row(scores: Sequence[Score], untouched: dict[str, float]) -> dict[str, Any]:
    """What one variant comes to, and what it costs against the `mean_ap50` of the same images untouched."""
    variant = scores[0].variant
    ap50 = mean_ap50(scores)
    true = sum(s.cells_true for s in scores)
    errors = [e for s in scores if (e := metrics.count_error(s.cells_true, s.cells_counted)) is not None]
    named = {} if variant.fault == UNTOUCHED else {"strength": STRENGTHS[variant.strength]}
    if named:
        named |= {"value": FAULTS[variant.fault].strengths[variant.strength], "unit": FAULTS[variant.fault].unit}
    return {
        "fault": variant.fault + (", diameter given" if variant.is_given else ""),
        **named,
        "ap50": {name: round(v, 4) for name, v in ap50.items()},
        "drop": {name: round(untouched[name] - v, 4) for name, v in ap50.items()},
        "mean_ap": round(float(np.mean([s.mean_ap for s in scores])), 4),
        "cells_true": true,
        "cells_counted": sum(s.cells_counted for s in scores),
        "total_count_error": round(sum(s.cells_counted - s.cells_true for s in scores) / max(true, 1), 4),
        "image_count_error": round(sum(abs(s.cells_counted - s.cells_true) for s in scores) / max(true, 1), 4),
        "mean_count_error": round(float(np.mean(errors)), 4) if errors else None,
    }


def texts(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table; the columns of the modalities are of AP@0.5."""
    modalities = list(rows[0]["ap50"])
    head = ["fault", "strength", *modalities, "drop", "mean AP", "cells", "count error", "count error per image"]
    lines = []
    for r in rows:
        strength = f"{r['strength']}: {r['value']:g}" if "strength" in r else ""
        ap50 = [f"{r['ap50'][name]:.3f}" if name in r["ap50"] else "" for name in modalities]
        mean = "–" if r["mean_count_error"] is None else f"{r['mean_count_error']:.1%}"
        counts = [str(r["cells_true"]), f"{r['total_count_error']:+.1%}", mean]
        lines.append([r["fault"], strength, *ap50, f"{r['drop']['all']:+.3f}", f"{r['mean_ap']:.3f}", *counts])
    return head, lines


def too_much(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Faults that cost too much at the middle strength."""
    return [r["fault"] for r in rows if r.get("strength") == "middle" and r["drop"]["all"] > MOST_LOST]


def markdown(document: dict[str, Any], path: Path) -> str:
    """The tables as a page, made with ``--json path``."""
    head, lines = texts(document["rows"])
    table = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *lines]
    units = "; ".join(f"{name}: {fault.unit}" for name, fault in FAULTS.items())
    over = ", ".join(document["over_at_middle"]) or "none"
    empty = document["cells_in_empty_fields"]
    return f"""# {document["model"]} under stress

Made by `python benchmarks/stress.py models/{document["model"]} {document["dataset"]} --json
benchmarks/{path.name}` on the {document["images"]} images of the split '{document["split"]}' of
{document["dataset"]}. AP@0.5, mean over images, by modality; drop is what all lose against the same images untouched.
A row with one modality is of the images of that modality alone. Count error is (Σ counted − Σ true) / Σ true, in which
too many cells in one image and too few in another cancel; per image it is the mean of |counted − true| / true, in which
they do not. What the strengths mean: {units}.

Faults that cost more than {MOST_LOST:.2f} at the middle strength: {over}.

{chr(10).join("| " + " | ".join(cells) + " |" for cells in table)}

Cells counted in fields without a nucleus, {len(TEST_SEEDS)} of each kind (`cellseg_host.synth.empties`):

| field | counted |
| --- | --- |
{chr(10).join(f"| {kind} | {', '.join(map(str, cells))} |" for kind, cells in empty.items())}

{empties.summary(empty)}.
"""


@click.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", default="val", show_default=True)
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Each on one thread.")
@click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=JSON,
    help="Where the JSON goes, with the table beside it as .md.  [default: benchmarks/stress.json]",
)
def main(model: Path, dataset: Path, split: str, processes: int, path: Path) -> None:
    """Score MODEL on DATASET under every fault."""
    runner = Model(model, 1)  # so that an error in it is reported here, not by a process of the pool
    loaded = load(dataset)
    entries = loaded.labelled(split)
    if not os.access(path.resolve().parent, os.W_OK):
        raise OutputError(f"{path}: its folder does not exist or may not be written to: name another")
    by_image = list(tracked(all_scores(model, loaded, entries, processes), len(entries), "scoring"))
    in_empty = empties.in_empty_fields(Models(runner))
    rows = rows_of(by_image)
    document = {
        "model": model.name,
        "dataset": loaded.root.resolve().name,
        "split": split,
        "images": len(entries),
        "over_at_middle": too_much(rows),
        "cells_in_empty_fields": in_empty,
        "rows": rows,
    }
    head, lines = texts(rows)
    print_table(f"{model.name} on {document['dataset']}, split {split}: AP@0.5 by modality", head, lines)
    click.echo(f"cost more than {MOST_LOST:.2f} at the middle strength: {', '.join(too_much(rows)) or 'none'}")
    counts = [[kind, " ".join(map(str, cells))] for kind, cells in in_empty.items()]
    print_table("Cells in fields without any", ["field", "counted"], counts)
    click.echo(empties.summary(in_empty))
    files.write(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    files.write(path.with_suffix(".md"), markdown(document, path).encode())


if __name__ == "__main__":
    main()
