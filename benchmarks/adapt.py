"""What a handful of corrected images gives: `cellseg-device tune` and `cellseg-host adapt` on six kinds of images.

Images that the start model has not learnt from stand for a user's own. Of each kind 3, 5, 10 or 20 are corrected (as
far as 8 are left to judge by), and the rest judges: AP@0.5, mean AP and count error before and after, what is lost on
plain validation images of dsb2018, and minutes. With 10 images three draws are made, else one.

    python benchmarks/adapt.py ../shared/data --work adapt-work

Each result is kept in the work folder, so that the command can be stopped and given again; the JSON beside this script
is written anew after each, and the table in README.md with --table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import read
from cellseg_device.model.card import Card
from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.results import correction_file
from cellseg_device.results.correction_file import Correction
from cellseg_device.results.formats.label_images import read_labels
from cellseg_host.data.dataset import Entry
from cellseg_host.evaluation.evaluate import ImageScore, score_image, summarise

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "adapt.json", HERE / "README.md"
BEGIN, END = "<!-- made by adapt.py: begin -->", "<!-- made by adapt.py: end -->"
NUMBERS, DRAWS = (3, 5, 10, 20), {10: 3}
CROP_PX = 512  # of larger fields the middle, as a user would crop
BLUR_PX, NOISE = 3.0, 25.0
PLAIN = "plain"


@dataclass(frozen=True)
class Field:
    """An image with its true cells."""

    name: str
    pixels: npt.NDArray[Any]
    labels: npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Source:
    """A data set, which of its images are used, and how they are spoilt.

    Attributes
    ----------
    folders : tuple of str
    splits : tuple of str
    spoil : str
        ``""``, ``"blur"`` or ``"noise"``.
    modality : str
        Only images of this one; "" for all.
    least_judged : int
        Images that have to be left to judge by.
    """

    folders: tuple[str, ...]
    splits: tuple[str, ...] = ("val", "test")
    spoil: str = ""
    modality: str = ""
    least_judged: int = 8


SOURCES = {
    "chamber": Source(("ldc_brightfield",)),
    "other fluorescence": Source(("aitslab1",), least_judged=5),  # of ten in all
    "tissue": Source(("quip_synth_he", "dsb2018_stage1_test")),
    "phase contrast": Source(("usiigaci_phase",), ("train", "val", "test")),
    "blurred": Source(("dsb2018",), ("val",), "blur", "fluorescence"),
    "noisy": Source(("dsb2018",), ("val",), "noise", "fluorescence"),
    PLAIN: Source(("dsb2018",), ("val",)),
}


@dataclass(frozen=True)
class Trial:
    """One way of learning from so many images of a kind."""

    kind: str
    way: str
    number: int
    draw: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.kind.replace(' ', '-')}-{self.way}-{self.number}-{self.draw}"


def trials(sizes: Mapping[str, int], kinds: Sequence[str], ways: Sequence[str]) -> Iterator[Trial]:
    """Yield the trials: those with 10 images first, since the rest of the table is read beside them."""
    for number in sorted(NUMBERS, key=lambda n: (n != 10, n)):
        for draw in range(DRAWS.get(number, 1)):
            for kind in kinds:
                for way in ways:
                    if sizes[kind] - number >= SOURCES[kind].least_judged:
                        yield Trial(kind, way, number, draw)


def fields(root: Path, source: Source) -> list[Field]:
    """Return the images of a source, in the order of their names."""
    found = []
    for folder in source.folders:
        with open(root / folder / "manifest.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] in source.splits]
        found += [
            _field(root / folder, row["id"], source.spoil)
            for row in sorted(rows, key=lambda row: row["id"])
            if source.modality in ("", row["modality"])
        ]
    return found


def _field(folder: Path, name: str, spoil: str) -> Field:
    pixels = decode(read(folder / "images" / f"{name}.png")).pixels
    labels = read_labels(folder / "labels" / f"{name}.png")
    if spoil == "blur":
        pixels = cv2.GaussianBlur(pixels, (0, 0), BLUR_PX)
    elif spoil == "noise":
        rng = np.random.default_rng(list(name.encode()))
        pixels = np.clip(pixels + rng.normal(0, NOISE, pixels.shape), 0, 255).round().astype(np.uint8)
    return Field(name, np.ascontiguousarray(pixels), labels)


def corrected(field: Field, name: str, card: Card) -> Correction:
    """Return the middle of a field, as large as a user corrects at once."""
    sides = tuple(min(CROP_PX, n) for n in field.labels.shape)
    row, column = ((n - side) // 2 for n, side in zip(field.labels.shape, sides, strict=True))
    return correction_file.cut(Image(field.pixels), field.labels, (row, column, *sides), card, name=name)


def scores(model: Model, images: Sequence[Field]) -> list[ImageScore]:
    """Return a model's scores."""
    return [
        score_image(model, Entry(f.name, "", "test", "", "", *f.labels.shape, 0, 0.0), Image(f.pixels), f.labels).score
        for f in images
    ]


def short(found: Sequence[ImageScore]) -> dict[str, float]:
    """Return what of the scores is in the table."""
    summary = summarise(found)
    return {name: round(getattr(summary, name), 4) for name in ("ap50", "mean_ap", "total_count_error")}


def perform(trial: Trial, known: Mapping[str, list[Field]], work: Path) -> dict[str, Any]:
    """Make the corrections, learn from them by the command, and judge what came of it."""
    images = known[trial.kind]
    seed = [trial.draw, *trial.kind.encode()]
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    rest = [images[i] for i in order[trial.number :]]
    folder = work / trial.name
    folder.mkdir(parents=True, exist_ok=True)
    corrections, out = folder / "corrections.zip", folder / "mine.tflite"
    start = Model(bundled_path(), 2)
    mine = [corrected(images[i], f"image{n}", start.card) for n, i in enumerate(order[: trial.number])]
    correction_file.write(corrections, mine, card=start.card, model_sha256=start.sha256)
    out.unlink(missing_ok=True)
    program = "cellseg_device" if trial.way == "tune" else "cellseg_host"
    flags = ["--model", str(bundled_path())] if trial.way == "tune" else ["--init", str(bundled_path()), "--resume"]
    begun = time.monotonic()
    command = [sys.executable, "-m", program, trial.way, str(corrections), "--out", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    minutes = (time.monotonic() - begun) / 60
    is_accepted = done.returncode == 0
    if not is_accepted and "not better" not in done.stdout + done.stderr:  # a fault is no verdict
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    after = Model(out, 2) if is_accepted else start
    learnt = {images[i].name for i in order[: trial.number]}
    plain = [field for field in known[PLAIN] if field.name not in learnt]  # without twins of what was learnt from
    return {
        **dataclasses.asdict(trial),
        "cells": sum(int(one.labels.max(initial=0)) for one in mine),
        "judged_by": len(rest),
        "accepted": is_accepted,
        "before": short(scores(start, rest)),
        "after": short(scores(after, rest)),
        "plain_before": short(scores(start, plain)),
        "plain_after": short(scores(after, plain)),
        "minutes": round(minutes, 1),
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a table: a row for each kind, way and number of images, means over the draws."""
    head = (
        "| images of | by | images | accepted | AP@0.5 before | after | mean AP before | after | count error before | "
        "after | plain AP@0.5 lost | minutes |"
    )
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["kind"], row["way"], row["number"]), []).append(row)
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for (kind, way, number), rows in sorted(
        groups.items(), key=lambda item: (list(SOURCES).index(item[0][0]), item[0])
    ):

        def mean(when: str, name: str, rows: Sequence[Mapping[str, Any]] = rows) -> float:
            return float(np.mean([row[when][name] for row in rows]))

        pairs = [
            f"{mean(when, name):.3f}" if name != "total_count_error" else f"{mean(when, name):.1%}"
            for name in ("ap50", "mean_ap", "total_count_error")
            for when in ("before", "after")
        ]
        lost = mean("plain_before", "ap50") - mean("plain_after", "ap50")
        accepted = f"{sum(row['accepted'] for row in rows)} of {len(rows)}"
        minutes = np.mean([row["minutes"] for row in rows])
        lines.append(f"| {kind} | `{way}` | {number} | {accepted} | {' | '.join(pairs)} | {lost:.3f} | {minutes:.1f} |")
    return "\n".join(lines)


def into_readme(text: str) -> None:
    """Put the table between its marks in README.md."""
    page = README.read_text(encoding="utf-8")
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    README.write_text(f"{page[:start]}\n\n{text}\n\n{page[end:]}", encoding="utf-8")


def main() -> None:
    """Perform what was not performed yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--work", type=Path, default=Path("adapt-work"))
    parser.add_argument("--kinds", nargs="+", choices=[k for k in SOURCES if k != PLAIN], default=list(SOURCES)[:-1])
    parser.add_argument("--ways", nargs="+", choices=["tune", "adapt"], default=["tune", "adapt"])
    parser.add_argument("--table", action="store_true", help="only put the table of adapt.json into README.md")
    given = parser.parse_args()
    if given.table:
        into_readme(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    known = {kind: fields(given.data, SOURCES[kind]) for kind in (*given.kinds, PLAIN)}
    results = []
    for trial in trials({kind: len(found) for kind, found in known.items()}, given.kinds, given.ways):
        kept = given.work / trial.name / "result.json"
        if not kept.is_file():
            row = perform(trial, known, given.work)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(row), encoding="utf-8")
            part.replace(kept)
        results.append(json.loads(kept.read_text(encoding="utf-8")))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(table(results[-1:]).splitlines()[-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
