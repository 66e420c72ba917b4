"""What stands on the page of a comparison of segmenters."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cellseg_device.overlay import encode
from cellseg_host.report import charts, drawing, parts
from cellseg_host.report import page as html
from cellseg_host.report.accuracy import METRICS
from cellseg_host.report.contenders import Contender
from cellseg_host.report.page import Markup, Section, Text
from cellseg_host.report.parts import coloured, key, short
from cellseg_host.report.pictures import EXTRA_COLOUR, FOUND_COLOUR, MISSED_COLOUR, WINDOW_PX, Shown
from cellseg_host.report.segmenters import Comparison
from cellseg_host.report.statistics import bland_altman

_TABLE = tuple(m for m in METRICS if m.key != "foreground_iou")
_DIFFERENCES = tuple(m for m in _TABLE if m.key not in ("ap75", "image_count_error"))
_TIMES = (
    "Network: the runtime alone, over all tiles. Whole: from the bytes of the image's file to the table of cells. "
    "The fields are the image of median size and the largest one."
)
_KEYS = {"mean_ap": "mean AP", "ap50": "AP@0.5", "mean_iou": "mean IoU@0.4", "dice": "Dice"}
_GROUPS = {
    "best": "Best: highest AP@0.5, mean of the models",
    "worst": "Worst: lowest AP@0.5, mean of the models",
    "disputed": "Disputed: where the models' AP@0.5 differ most",
}
METHODS = (
    "AP@t is TP / (TP + FP + FN) of an image, with cells matched at an intersection over union above t; mean AP "
    "averages t = 0.50, 0.55 … 0.95, the score of the 2018 Data Science Bowl (Caicedo et al., Nature Methods 16, "
    "1247–1253, 2019). An image without any cell, true or predicted, scores 1.",
    "Mean IoU@0.4 is the mean of the intersection over union of foreground and of background, of the foreground map at "
    "a probability of 0.4. Dice is that of the pixels in any cell.",
    "Count error is |Σ predicted − Σ true| / Σ true of the whole set, in which too many and too few cancel; per image "
    "it is Σ |predicted − true| / Σ true, in which they do not.",
    parts.BOOTSTRAP_METHOD,
    "Limits of agreement are bias ± 1.96 standard deviations of predicted − true (Bland and Altman, Lancet 327, "
    "307–310, 1986).",
    "Every model ran through the code of the device, once for each image.",
    parts.COST_METHOD,
)


def build(comparison: Comparison, lines: Sequence[Text]) -> str:
    """The page.

    Parameters
    ----------
    comparison : Comparison
    lines : sequence of str or Markup
        What stands under the title: data, machine, date.
    """
    models = len(comparison.contenders)
    title = (
        f"{models} models on {comparison.dataset}" if models > 1 else f"{comparison.names[0]} on {comparison.dataset}"
    )
    sections = [
        _overview(comparison),
        _accuracy(comparison),
        _distribution(comparison),
        *([_duels(comparison)] if models > 1 else []),
        _counts(comparison),
        _sizes(comparison),
        *_conversions(comparison),
        _pictures(comparison),
        parts.times(comparison.contenders, comparison.timings, _TIMES),
        *parts.training(comparison.contenders),
        Section("Methods", (html.items(METHODS),)),
    ]
    return html.page(title, lines, sections)


def _overview(comparison: Comparison) -> Section:
    accuracy = [of_model["ap50"] for of_model in comparison.groups["all"]]
    ms = [of_model[-1].row()["end_to_end_ms_per_megapixel"] for of_model in comparison.timings]
    uri = charts.overview(comparison.names, "AP@0.5", accuracy, ms, [c.size_bytes for c in comparison.contenders])
    caption = "Mean AP@0.5 of all images, with 95 % intervals. Up and left is better. The scales below are logarithmic."
    return Section(
        "Overview",
        (
            html.chart(uri, "Accuracy against time and size", caption),
            parts.costs(comparison.contenders, comparison.timings),
        ),
    )


def _accuracy(comparison: Comparison) -> Section:
    blocks = [_accuracy_table(comparison)]
    if len(comparison.contenders) > 1:
        blocks.append(_difference_table(comparison))
    sizes = {name: sum(e.modality == name for e in comparison.entries) for name in comparison.groups}
    sizes["all"] = len(comparison.entries)
    titles = {
        f"{name} ({sizes[name]})": ([m["ap50"] for m in of_models], [m["mean_iou"] for m in of_models])
        for name, of_models in comparison.groups.items()
    }
    blocks.append(
        html.chart(
            charts.by_group(comparison.names, titles),
            "Accuracy by modality",
            "By modality: means over its images (their number in brackets), with 95 % intervals.",
        )
    )
    return Section("Accuracy", tuple(blocks))


def _accuracy_table(comparison: Comparison) -> Markup:
    found = comparison.groups["all"]
    best = {m.key: (min if m.is_error else max)(round(of_model[m.key].value, 3) for of_model in found) for m in _TABLE}
    rows = [
        [
            key(index, comparison.names[index]),
            *(
                html.interval(
                    of_model[m.key], m.is_error, len(found) > 1 and round(of_model[m.key].value, 3) == best[m.key]
                )
                for m in _TABLE
            ),
        ]
        for index, of_model in enumerate(found)
    ]
    return html.table(
        ["model", *(m.title for m in _TABLE)],
        rows,
        "All images of the split, with 95 % intervals"
        f"{'; the best in bold' if len(found) > 1 else ''}. Higher is better, but for count errors.",
    )


def _difference_table(comparison: Comparison) -> Markup:
    rows: list[list[Text]] = []
    for index, name in enumerate(comparison.names[1:], 1):
        wins = comparison.wins(index)
        cells = [html.interval(comparison.differences[index][m.key], m.is_error, is_change=True) for m in _DIFFERENCES]
        rows.append([key(index, name), *cells, f"{wins['better']} : {wins['worse']}"])
    return html.table(
        ["model", *(m.title for m in _DIFFERENCES), "images won : lost"],
        rows,
        f"Difference from {comparison.names[0]}, paired by image, with 95 % intervals; bold where they exclude zero. "
        f"Won and lost: images whose mean AP differs by more than {charts.TIE}.",
    )


def _distribution(comparison: Comparison) -> Section:
    uri = charts.distributions(comparison.names, comparison.scores)
    caption = (
        "Each point is an image. The box holds the middle half of the images, the line in it is the median, the "
        "whiskers reach to the last image within 1.5 times the box. Right: the same, zoomed."
    )
    return Section("Scores of single images", (html.chart(uri, "Distribution of scores", caption),))


def _duels(comparison: Comparison) -> Section:
    first = comparison.names[0]
    uris = charts.duels(comparison.names, comparison.scores)
    caption = (
        f"Each point is an image: across its mean AP by {first}, up by the other model. Above the line the other model "
        f"wins; differences within {charts.TIE} are ties."
    )
    return Section("Model against model", tuple(html.charts(uris, f"Every model against {first}", caption)))


def _counts(comparison: Comparison) -> Section:
    caption = (
        "Above: predicted against true number of cells of each image, on square-root scales; on the line they agree. "
        "Below (Bland and Altman): the difference against the mean of both; solid the bias, dashed the limits of "
        "agreement, between which 95 % of images are expected."
    )
    uris = charts.counts(comparison.names, comparison.scores)
    blocks = html.charts(uris, "Predicted against true counts", caption)
    rows: list[list[Text]] = []
    for index, scores in enumerate(comparison.scores):
        agreement = bland_altman([s.cells_true for s in scores], [s.cells_predicted for s in scores])
        rows.append(
            [
                key(index, comparison.names[index]),
                f"{sum(s.cells_true for s in scores):,}",
                f"{sum(s.cells_predicted for s in scores):,}",
                *(html.number(v, "1f", is_signed=True) for v in (agreement.bias, agreement.low, agreement.high)),
            ]
        )
    columns = ["model", "true cells", "predicted", "bias, cells per image", "lower limit", "upper limit"]
    blocks.append(html.table(columns, rows, "Counts of the whole set, and the agreement of those of single images."))
    return Section("Counts", tuple(blocks))


def _sizes(comparison: Comparison) -> Section:
    uri = charts.by_size_and_density(comparison.names, comparison.by_size(), comparison.by_density())
    caption = (
        "Left: the share of true cells that are found, by their size. Right: mean AP@0.5 by the number of cells in a "
        "megapixel. The bins hold about equally many cells or images; bars are 95 % intervals over images."
    )
    return Section("Cell size and density", (html.chart(uri, "Recall by cell size, AP by density", caption),))


def _conversions(comparison: Comparison) -> list[Section]:
    """Float against quantized: as measured here, where both take part, and as the cards tell."""
    blocks = [*_changes(comparison), *_told(comparison.contenders)]
    return [Section("Float and quantized", tuple(blocks))] if blocks else []


def _changes(comparison: Comparison) -> list[Markup]:
    if not comparison.changes:
        return []
    names = comparison.names
    rows: list[list[Text]] = []
    titles = [f"{names[c.before]} → {names[c.after]}" for c in comparison.changes]
    for title, change in zip(titles, comparison.changes, strict=True):
        before, after = comparison.contenders[change.before], comparison.contenders[change.after]
        worst = int(np.argmin(change.mean_ap))
        loss = html.number(change.mean_ap[worst], is_signed=True)
        rows.append(
            [
                title,
                _sizes_text(before.size_bytes, after.size_bytes),
                *(html.interval(change.of[k], is_change=True) for k in _KEYS),
                Markup(f"{loss}<small>{escape(short(comparison.entries[worst].id))}</small>"),
            ]
        )
    uris = charts.changes(titles, [c.mean_ap for c in comparison.changes])
    caption = "Change of each image's mean AP by the conversion, from the worst to the best; dashed the mean."
    columns = ["conversion", "file, kB", *_KEYS.values(), "worst image, mean AP"]
    return [
        *html.charts(uris, "Change of each image by the conversion", caption),
        html.table(columns, rows, "What the conversion changed on this split, with paired 95 % intervals."),
    ]


def _told(contenders: Sequence[Contender]) -> list[Markup]:
    rows: list[list[Text]] = []
    for index, contender in enumerate(contenders):
        metrics, mode = contender.card.metrics, contender.card.quantization
        before, after = metrics.get("float32"), metrics.get(mode)
        if mode == "float32" or not isinstance(before, dict) or not isinstance(after, dict):
            continue
        values = [f"{before[k]:.3f} → {after[k]:.3f}" if k in before and k in after else "–" for k in _KEYS]
        size = _sizes_text(before.get("size_bytes"), contender.size_bytes)
        rows.append([key(index, contender.name), str(metrics.get("split", "–")), size, *values])
    columns = ["model", "measured on", "file, kB", *_KEYS.values()]
    return [html.table(columns, rows, "Float network → this model, as its card tells.")] if rows else []


def _sizes_text(before: int | None, after: int) -> str:
    return f"{before / 1000:,.0f} → {after / 1000:,.0f}" if before else f"{after / 1000:,.0f}"


def _pictures(comparison: Comparison) -> Section:
    found, missed, extra = ("#{:02x}{:02x}{:02x}".format(*c) for c in (FOUND_COLOUR, MISSED_COLOUR, EXTRA_COLOUR))
    words = (
        f"The window of at most {WINDOW_PX} × {WINDOW_PX} px in which the models err most; scores and counts are of "
        f"the whole image. Truth: {coloured(missed, '◯')}every cell. Model: {coloured(found, '◯')}cells found (IoU "
        f"above 0.5), {coloured(missed, '◯')}cells missed, {coloured(extra, '◯')}predicted cells that match none."
    )
    blocks = [html.paragraph(Markup(words))]
    for group, title in _GROUPS.items():
        if shown := comparison.pictures.get(group):
            blocks.append(html.heading(title))
            blocks += [_picture(comparison.names, one) for one in shown]
    return Section("Images", tuple(blocks))


def _picture(names: Sequence[str], shown: Shown) -> Markup:
    entry = shown.entry
    panels: list[tuple[str, str, Text]] = [
        (
            _jpeg(shown.plain),
            f"Image {entry.id}",
            f"{short(entry.id)}: {entry.modality}, {entry.width} × {entry.height} px",
        ),
        (_jpeg(shown.truth), "True cells", f"truth: {entry.cells} cells"),
    ]
    for index, (name, score, picture) in enumerate(zip(names, shown.scores, shown.models, strict=True)):
        text = Markup(f"{key(index, name).html}: AP@0.5 {score.ap50:.2f}, {score.cells_predicted} cells")
        panels.append((_jpeg(picture), f"Cells of {name}", text))
    return html.panels(panels)


def _jpeg(picture: np.ndarray) -> str:
    return drawing.uri(encode(picture), "jpeg")
