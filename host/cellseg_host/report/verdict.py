"""What the numbers about a model mean, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cellseg_device.model.card import Card
from cellseg_host.evaluation.evaluate import Summary
from cellseg_host.report.comparison import number
from cellseg_host.report.statistics import Interval

_MANY = 100  # from so many cells on, a share is said as one of 100


def verdict(card: Card, summaries: Mapping[str, Summary], ap50: Interval) -> list[str]:
    """Return sentences about a model, of which the first says all in short.

    Parameters
    ----------
    card : Card
        The model's.
    summaries : mapping of str to Summary
        Of ``all`` images, of each modality, and of each of several sets.
    ap50 : Interval
        Of all images.
    """
    sentences = [_found(card, summaries["all"], ap50), _counts(summaries["all"])]
    sentences += [text for text in (_against_float(card, ap50), _best_and_weakest(summaries)) if text]
    return sentences


def share(part: int, whole: int) -> str:
    """Return a share in words: ``all 12``, ``11 of 12``; of many, ``99 of 100`` – never all, nor none, of what is not.

    Parameters
    ----------
    part, whole : int
        `whole` is at least 1.
    """
    if part == whole:
        return f"all {whole:,}"
    if whole < _MANY:
        return f"{part} of {whole}"
    of_100 = round(100 * part / whole)
    return f"{min(max(of_100, 1), 99) if part else 0} of 100"


def _found(card: Card, of_all: Summary, ap50: Interval) -> str:
    model = f"The {card.quantization} model {card.name}"
    interval = f" ({number(ap50.low, '2f')} to {number(ap50.high, '2f')})" if math.isfinite(ap50.low) else ""
    score = f"AP@0.5 is {number(ap50.value, '2f')}{interval}"
    if not of_all.cells_true:
        counted = f"counts {of_all.cells_counted:,}" if of_all.cells_counted else "rightly counts none"
        return f"{model} {counted} in images without a cell: {score}."
    text = f"{model} finds {share(of_all.cells_matched, of_all.cells_true)} cells"
    if of_all.cells_counted:
        right = share(of_all.cells_matched, of_all.cells_counted)
        text += f", and {right} that it counts are cells"
    return f"{text}: {score}."


def _counts(of_all: Summary) -> str:
    true, counted = of_all.cells_true, of_all.cells_counted
    off = "exactly as many" if true == counted else "too few" if counted < true else "too many"
    by = "" if true == counted or not true else f"{number(of_all.total_count_error, '1%')} "
    text = f"It counts {counted:,} cells where {true:,} are true, {by}{off}"
    if of_all.mean_count_error is None:
        return f"{text}."
    return f"{text}; the count of a single image is off by {number(of_all.mean_count_error, '1%')} on average."


def _against_float(card: Card, ap50: Interval) -> str | None:
    """Return what the card knows of the float network, beside how far chance alone moves the score."""
    before, after = (card.metrics.get(mode) for mode in ("float32", card.quantization))
    if card.quantization == "float32" or not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return None
    first, second = before.get("ap50"), after.get("ap50")
    if not isinstance(first, int | float) or not isinstance(second, int | float):
        return None
    measured = f"AP@0.5 was {number(first)} before and {number(second)} after, on {card.metrics.get('split', 'val')}"
    if not math.isfinite(ap50.low):
        return f"Conversion to {card.quantization}: {measured}."
    chance = (ap50.high - ap50.low) / 2
    less = f"the choice of images alone moves it by ±{number(chance, '2f')}"
    if first - second <= chance:
        return f"It is as accurate as its float network, within chance: {measured}; {less}."
    return f"It lost by its conversion to {card.quantization}, more than chance explains: {measured}; {less}."


def _best_and_weakest(summaries: Mapping[str, Summary]) -> str | None:
    groups = {name: summary for name, summary in summaries.items() if name != "all"}
    if len(groups) < 2:
        return None
    ranked = sorted(groups, key=lambda name: groups[name].ap50)
    texts = [
        f"{word} on {name} (AP@0.5 {number(groups[name].ap50, '2f')}, {groups[name].images} "
        f"{'image' if groups[name].images == 1 else 'images'})"
        for word, name in (("Best", ranked[-1]), ("weakest", ranked[0]))
    ]
    return f"{', '.join(texts)}."
