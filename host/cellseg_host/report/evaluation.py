"""The page about one model: a verdict, its numbers, its pictures, and a row for each image."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cellseg_device.model.card import Card
from cellseg_device.units import plural
from cellseg_host import __version__
from cellseg_host.data.dataset import Dataset
from cellseg_host.evaluation.evaluate import ImageScore, Summary, by_group
from cellseg_host.evaluation.grouping import groups
from cellseg_host.report import page, write
from cellseg_host.report.accuracy import Metric, accuracy
from cellseg_host.report.build import Report
from cellseg_host.report.pictures import Showcase, Shown
from cellseg_host.report.scoring import ScoredImage
from cellseg_host.report.segmentation import METRICS
from cellseg_host.report.statistics import Interval, resamples
from cellseg_host.report.verdict import verdict

# Images in the page's table, at most: a page of more is slow to open, and scores.csv has them all
MOST_ROWS = 1000


@dataclass(frozen=True)
class Evaluation:
    """What a model made of the images of one split.

    Attributes
    ----------
    file : str
        Name of the model's file.
    card : Card
    dataset, split : str
    scores : tuple of ImageScore
        At least one.
    pictures : dict of str to list of Shown
    """

    file: str
    card: Card
    dataset: str
    split: str
    scores: tuple[ImageScore, ...]
    pictures: dict[str, list[Shown]]

    @property
    def names(self) -> list[str]:
        """Names of the models, of which there is one."""
        return [self.card.name]

    @property
    def metrics(self) -> Sequence[Metric[Any]]:
        """The metrics that the page shows."""
        return METRICS

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """The summaries of ``all`` images, of each modality, and of each of several sets."""
        return by_group(self.scores)

    @cached_property
    def groups(self) -> dict[str, tuple[int, list[dict[str, Interval]]]]:
        """Number of images, and accuracy on them: of the same groups as `summaries`."""
        found = {}
        for title, places in groups(self.scores).items():
            members = [self.scores[place] for place in places]
            found[title] = (len(members), [accuracy(METRICS, members, resamples(len(members)))])
        return found

    @property
    def has_sets(self) -> bool:
        """Whether the images are of several sets."""
        return len({score.set for score in self.scores}) > 1

    @property
    def worst_first(self) -> list[ImageScore]:
        """The scores of the page's table."""
        return sorted(self.scores, key=lambda s: (s.ap50, s.mean_ap))[:MOST_ROWS]

    def verdict(self) -> list[str]:
        """Return what the numbers mean, in sentences."""
        (of_all,) = self.groups["all"][1]
        return verdict(self.card, self.summaries, of_all["ap50"])

    def document(self) -> dict[str, Any]:
        """Return the summary, for summary.json."""
        return {"model": self.file, "dataset": self.dataset, "split": self.split, "summary": self.summaries}


def evaluated(file: str, card: Card, dataset: Dataset, split: str, images: Iterable[ScoredImage]) -> Evaluation:
    """Return the evaluation of a model by its labels of all images, which pass by one after the other."""
    showcase, scores = Showcase(), []
    for image in images:
        showcase.add(image)
        scores.append(image.models[0].score)
    name = dataset.root.resolve().name
    return Evaluation(file, card, name, split, tuple(scores), showcase.groups())


def report(evaluation: Evaluation) -> Report:
    """Return the page and the files beside it."""
    of_all = evaluation.summaries["all"]
    sample = f"{plural(of_all.images, 'image')}, {plural(of_all.cells_true, 'cell')}"
    lines = [
        f"{evaluation.dataset}, split {evaluation.split}: {sample}",
        f"{evaluation.file}; cellseg-host {__version__}, {datetime.date.today().isoformat()}",
    ]
    text = page.render_page(
        f"{evaluation.card.name} on {evaluation.dataset}",
        "evaluation.html",
        lines,
        verdict=evaluation.verdict(),
        evaluation=evaluation,
    )
    rows: Sequence[Mapping[str, Any]] = [score.row() for score in evaluation.scores]
    return Report(text, evaluation.document(), {write.SCORES: rows}, [])
