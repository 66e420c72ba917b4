"""From contenders to a whole report, of whichever kind they are."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellseg_device import hardware
from cellseg_device.model import RUNTIME
from cellseg_host import __version__
from cellseg_host.data.dataset import Dataset
from cellseg_host.report import latency
from cellseg_host.report.contenders import Contender
from cellseg_host.report.settings import Settings
from cellseg_host.tensorflow_quietly import import_tensorflow

# Called with what begins and its number of steps; gives what is called after each step
Track = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True)
class Report:
    """What is written, and what is printed.

    Attributes
    ----------
    page : str
        HTML.
    document : mapping
        The summary.
    tables : mapping of str to sequence of mapping
        By file name, rows with the same keys.
    columns : sequence of str
    rows : sequence of sequence of str
        The table that is printed.
    """

    page: str
    document: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def build(contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track) -> Report:
    """Measure the contenders, which are of one kind, and write the page.

    Raises
    ------
    InputError
        If the split has no image, or one cannot be read.
    ModelError
        If a model's card does not fit its graph.
    """
    if contenders[0].is_classifier:
        return _classifiers(contenders, dataset, settings, track)
    return _segmenters(contenders, dataset, settings, track)


def _segmenters(contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track) -> Report:
    from cellseg_host.report import segmenter_page, segmenters

    compared = segmenters.compare(contenders, dataset, settings, track)
    document = _about(dataset, settings) | segmenters.summary(compared)
    sample = f"{_counted(document['images'], 'image')}, {_counted(document['cells'], 'cell')}"
    return Report(
        segmenter_page.build(compared, _lines(document, sample)),
        document,
        {
            "scores.csv": segmenters.score_rows(compared),
            "models.csv": segmenters.model_rows(compared),
            "latency.csv": latency.rows(compared.names, compared.timings),
        },
        *segmenters.printed(compared),
    )


def _classifiers(contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track) -> Report:
    import_tensorflow()
    from cellseg_host.report import classifier_page, classifiers

    settings = dataclasses.replace(settings, threads=1)  # a view is too small to be shared out
    compared = classifiers.compare(contenders, dataset, settings, track)
    document = _about(dataset, settings) | classifiers.summary(compared)
    sample = (
        f"{_counted(document['images'], 'image')}, cut into {_counted(document['views'], 'view')} of "
        f"{compared.side} × {compared.side} px, "
        f"{document['views_with_cells']:,} of them with cells"
    )
    return Report(
        classifier_page.build(compared, _lines(document, sample)),
        document,
        {
            "scores.csv": classifiers.score_rows(compared),
            "models.csv": classifiers.model_rows(compared),
            "latency.csv": latency.rows(compared.names, compared.timings),
        },
        *classifiers.printed(compared),
    )


def _about(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Where the numbers come from."""
    machine = hardware.describe()
    return {
        "dataset": dataset.root.resolve().name,
        "split": settings.split,
        "made": datetime.date.today().isoformat(),
        "version": __version__,
        "machine": {k: machine[k] for k in ("model", "machine", "cores", "memory_mb")},
        "runtime": RUNTIME,
        "threads": settings.threads,
        "resamples": settings.resamples,
        "seed": settings.seed,
    }


def _lines(document: Mapping[str, Any], sample: str) -> list[str]:
    """What stands under the page's title."""
    machine = document["machine"]
    return [
        f"{document['dataset']}, split {document['split']}: {sample}",
        f"{machine['model'] or machine['machine']}, {machine['cores']} cores; {document['runtime']}, "
        f"threads: {document['threads']}",
        f"cellseg-host {document['version']}, {document['made']}",
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
