"""From contenders to the whole report."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellseg_device.model.interpreter import RUNTIME
from cellseg_device.system import hardware
from cellseg_host import __version__
from cellseg_host.data.dataset import Dataset
from cellseg_host.report import page, segmenters
from cellseg_host.report.comparison import Comparison, Track
from cellseg_host.report.contenders import Contender
from cellseg_host.report.settings import Settings
from cellseg_host.tensorflow_quietly import import_tensorflow


@dataclass(frozen=True)
class Report:
    """The page and the tables that are written, and the table that is printed.

    Attributes
    ----------
    page : str
        HTML.
    document : mapping
        The summary.
    tables : mapping of str to sequence of mapping
        By file name, rows with the same keys.
    printed : sequence of mapping of str to str
        Its rows, by the columns' titles.
    """

    page: str
    document: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    printed: Sequence[Mapping[str, str]]


def build(contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track) -> Report:
    """Compare the contenders, which are of one kind, and return the report.

    Raises
    ------
    InputError
        If the split has no image, or one cannot be read.
    ModelError
        If a model's card does not fit its graph.
    """
    comparison: Comparison[Any]
    if contenders[0].is_classifier:
        import_tensorflow()
        from cellseg_host.report import classifiers

        one_thread = dataclasses.replace(settings, threads=1)  # a view is too small to share between threads
        comparison = classifiers.compare(contenders, dataset, one_thread, track)
    else:
        comparison = segmenters.compare(contenders, dataset, settings, track)
    document = _about(dataset, comparison.settings) | comparison.summary()
    text = page.render(comparison, _lines(document, comparison.sample))
    return Report(text, document, comparison.tables(), comparison.printed())


def _about(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Return where the numbers come from."""
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
    """Return what stands under the page's title."""
    machine = document["machine"]
    computer = f"{machine['model'] or machine['machine']}, {machine['cores']} cores"
    return [
        f"{document['dataset']}, split {document['split']}: {sample}",
        f"{computer}; {document['runtime']}, threads: {document['threads']}",
        f"cellseg-host {document['version']}, {document['made']}",
    ]
