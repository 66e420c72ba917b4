"""A data set as a whole: what is measured of its images, what is wrong with it, and the page about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import OutputError
from cellseg_device.system import files
from cellseg_host.data.dataset import Dataset
from cellseg_host.survey import facts as measured
from cellseg_host.survey import findings
from cellseg_host.survey.facts import Facts
from cellseg_host.survey.findings import Finding

PAGE = "report.html"
_MARK = b"<title>Data set "
# Passes facts on while they are made, as a progress bar does
Track = Callable[[Iterable[Facts], int], Iterable[Facts]]


@dataclass(frozen=True)
class Survey:
    """What a data set holds.

    Attributes
    ----------
    dataset : Dataset
    name : str
        Of the dataset.
    facts : tuple of Facts
    findings : tuple of Finding
        Faults first.
    """

    dataset: Dataset
    name: str
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What has to be mended."""
        return tuple(finding for finding in self.findings if finding.is_fault)


def survey(dataset: Dataset, *, name: str = "", track: Track = lambda facts, _number: facts) -> Survey:
    """Return what a data set holds, having read each image and its labels once.

    Parameters
    ----------
    dataset : Dataset
    name : str
        What it will be called; the name of its folder by default.
    track : callable

    Raises
    ------
    InputError
        If one cannot be read.
    """
    facts = tuple(track(measured.of_dataset(dataset, dataset.entries), len(dataset.entries)))
    return Survey(dataset, name or dataset.root.resolve().name, facts, tuple(findings.find(facts)))


def write_page(found: Survey, path: Path) -> None:
    """Write the page about a data set, over an earlier one if there is one.

    Raises
    ------
    OutputError
        If it cannot be written, or another file would be replaced.
    """
    from cellseg_host.survey import page  # here, since charts take a second to load

    if not files.may_replace(path, lambda start: _MARK in start):
        raise OutputError(f"{path}: is another file, and would be replaced: choose another --out")
    try:
        files.write(path, page.render(found.dataset, found.name, found.facts, found.findings).encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another --out") from None
