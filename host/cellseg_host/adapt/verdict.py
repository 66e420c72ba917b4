"""Whether a new model is better than the old one, by images that neither has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cellseg_host.evaluation.evaluate import ImageScore, Summary, summarise
from cellseg_host.report.statistics import Interval, Statistic, bootstrap, difference_of, mean_of, resamples

# A count is not worse by one cell more or less in a hundred: of ten blurred fields of dsb2018 (328 cells) 24 instead of
# 26 were miscounted, while the AP@0.5 rose from 0.59 to 0.85
COUNT_SLACK = 0.01


@dataclass(frozen=True)
class Verdict:
    """The scores of the same images by the old and the new model, and what follows from them.

    Attributes
    ----------
    before, after : tuple of ImageScore
        One for each image, in the same order; at least one.
    """

    before: tuple[ImageScore, ...]
    after: tuple[ImageScore, ...]

    @cached_property
    def old(self) -> Summary:
        """The old model's summary."""
        return summarise(self.before)

    @cached_property
    def new(self) -> Summary:
        """The new model's summary."""
        return summarise(self.after)

    @property
    def finds_better(self) -> bool:
        """Whether the mean AP@0.5 is higher."""
        return self.new.ap50 > self.old.ap50

    @property
    def counts_worse(self) -> bool:
        """Whether counts are further off, image by image: in the sum of all, errors of a bad model may cancel."""
        return self.new.image_count_error > self.old.image_count_error + COUNT_SLACK

    @property
    def is_better(self) -> bool:
        """Whether the mean AP@0.5 is higher and counts are not further off."""
        return self.finds_better and not self.counts_worse

    @cached_property
    def gains(self) -> dict[str, Interval]:
        """What is gained of ``ap50`` and ``mean_ap``, with paired 95 % intervals over the images."""
        weights = resamples(len(self.before))
        return {
            name: bootstrap(difference_of(self._mean(name, new=True), self._mean(name, new=False)), weights)
            for name in ("ap50", "mean_ap")
        }

    @property
    def worst_first(self) -> list[tuple[ImageScore, ImageScore]]:
        """The scores before and after, image by image."""
        return sorted(zip(self.before, self.after, strict=True), key=lambda pair: (pair[1].ap50, pair[1].mean_ap))

    def _mean(self, name: str, *, new: bool) -> Statistic:
        return mean_of([getattr(score, name) for score in (self.after if new else self.before)])

    def numbers(self) -> str:
        """Return the scores that decide, before and after, in a phrase."""
        return (
            f"AP@0.5 {self.old.ap50:.3f} to {self.new.ap50:.3f}, "
            f"count error, image by image, {self.old.image_count_error:.1%} to {self.new.image_count_error:.1%}"
        )


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """Return one verdict over the images of several."""
    return Verdict(
        tuple(score for verdict in verdicts for score in verdict.before),
        tuple(score for verdict in verdicts for score in verdict.after),
    )
