"""Parts that the pages of segmenters and of classifiers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cellseg_host import plots
from cellseg_host.report import drawing
from cellseg_host.report import page as html
from cellseg_host.report.contenders import Contender
from cellseg_host.report.latency import Timing
from cellseg_host.report.page import Markup, Section, Text

COST_METHOD = (
    "For the times, the models took turns on the same fields, each round beginning with another model, after one run "
    "that is not counted. Parameters and multiply-adds are read from the graph: convolutions and dense layers; batch "
    "normalisations are folded into them."
)
BOOTSTRAP_METHOD = (
    "Intervals hold 95 %: percentiles of bootstrap samples of whole images (Efron, Annals of Statistics 7, 1–26, 1979; "
    "Efron and Tibshirani, An introduction to the bootstrap, 1993). Differences are paired: both models on the same "
    "sample. With many models and metrics some intervals of differences exclude zero by chance."
)


def coloured(colour: str, letter: str) -> str:
    """A letter in a colour, as HTML."""
    return f'<span class="key" style="color:{colour}">{letter}</span>'


def key(index: int, name: str) -> Markup:
    """A model's name with its colour."""
    return Markup(f"{coloured(drawing.colour(index), drawing.sign(index))}{escape(name)}")


def short(name: str) -> str:
    """A name of at most 20 letters: beginning and end of a longer one, which tell images of a series apart."""
    return name if len(name) <= 20 else f"{name[:9]}…{name[-9:]}"


def costs(contenders: Sequence[Contender], timings: Sequence[Sequence[Timing]]) -> Markup:
    """The table of sizes and times."""
    rows: list[list[Text]] = []
    for index, (contender, of_model) in enumerate(zip(contenders, timings, strict=True)):
        row = of_model[-1].row()
        rows.append(
            [
                key(index, contender.name),
                contender.card.quantization,
                f"{contender.size_bytes / 1000:,.0f}",
                f"{contender.cost.parameters:,}",
                f"{contender.cost.macs_per_px:,.0f}",
                f"{row['invoke_ms_per_megapixel']:,.0f}",
                f"{row['end_to_end_ms_per_megapixel']:,.0f}",
            ]
        )
    field = timings[0][-1]
    times = ("network, ms / megapixel", "whole, ms / megapixel")
    return html.table(
        ["model", "precision", "file, kB", "parameters", "multiply-adds / px", *times],
        rows,
        f"Cost. Times are medians at {field.width} × {field.height} px on this machine; see Time.",
    )


def times(contenders: Sequence[Contender], timings: Sequence[Sequence[Timing]], what: str) -> Section:
    """The section of times: median and 95th percentile on each field, and `what` both kinds of time are of."""
    tables = []
    for field in range(len(timings[0])):
        rows: list[list[Text]] = []
        for index, contender in enumerate(contenders):
            row = timings[index][field].row()
            values = [row[f"{what}_{which}_ms"] for what in ("invoke", "end_to_end") for which in ("median", "p95")]
            rows.append(
                [key(index, contender.name), *(f"{v:,.{1 if v >= 10 else 2}f}" for v in values), str(row["rounds"])]
            )
        timing = timings[0][field]
        tables.append(
            html.table(
                ["model", "network, median ms", "95th percentile", "whole, median ms", "95th percentile", "rounds"],
                rows,
                f"{timing.width} × {timing.height} px. {what}",
            )
        )
    return Section("Time", tuple(tables))


def training(contenders: Sequence[Contender]) -> list[Section]:
    """The section of training curves, where there are runs."""
    runs = {c.name: c.epochs for c in contenders if c.epochs}
    if not runs:
        return []
    with drawing.style():
        uri = drawing.svg(plots.curves(runs))
    caption = (
        "Left: mean loss of the training batches (solid) and of the validation images (dashed); losses of different "
        "kinds cannot be compared. Right: validation scores; the point is the epoch whose network was kept."
    )
    return [Section("Training", (html.chart(uri, "Training curves", caption),))]
