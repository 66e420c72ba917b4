"""The page of a comparison or an evaluation: one HTML file, readable offline, without scripts, and fit for printing.

Its words and tables are in ``templates/``, where every value is escaped; its charts are drawn as the templates ask for
them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from cellseg_device.results.overlay import encode
from cellseg_host.data.dataset import short
from cellseg_host.report import charts, drawing, pictures, roc_charts, segmenters
from cellseg_host.report.comparison import Comparison, number
from cellseg_host.report.plots import Picture


def render(comparison: Comparison[Any], lines: Sequence[str]) -> str:
    """Return the page.

    Parameters
    ----------
    comparison : Comparison
    lines : sequence of str
        What stands under the title: data, machine, date.
    """
    return render_page(comparison.title, comparison.template, lines, comparison=comparison)


def render_page(
    title: str, template: str, lines: Sequence[str], *, verdict: Sequence[str] = (), **values: object
) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
    template : str
        Of the page's sections, in ``templates/``.
    lines : sequence of str
        What stands under the title: data, machine, date.
    verdict : sequence of str
        Sentences above those lines, of which the first is the most important.
    **values
        What the template knows by these names.
    """
    contents: list[str] = []  # the sections' titles: each section adds its own
    sections = TEMPLATES.get_template(template).render(contents=contents, **values)
    page = TEMPLATES.get_template("page.html")
    return page.render(title=title, lines=lines, verdict=verdict, contents=contents, sections=Markup(sections))


def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("cellseg_host.report"),
        extensions=["jinja2.ext.do"],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "anchor": _anchor,
        "colour": drawing.colour,
        "grouped": _grouped,
        "jpeg": _jpeg,
        "number": number,
        "short": short,
        "sign": drawing.sign,
    }
    made.tests["finite"] = math.isfinite
    made.globals |= {
        "charts": charts,
        "colours": {
            "matched": _hex(pictures.MATCHED_COLOUR),
            "missed": _hex(pictures.MISSED_COLOUR),
            "extra": _hex(pictures.EXTRA_COLOUR),
        },
        "roc_charts": roc_charts,
        "tie": segmenters.TIE,
        "window_px": pictures.WINDOW_PX,
    }
    return made


def _anchor(title: str) -> str:
    """Return a section's address within the page."""
    return "-".join(re.findall(r"[^\W_]+", title.lower()))


def _grouped(value: float, decimals: int = 0) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,.{decimals}f}"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _jpeg(picture: Picture) -> str:
    return drawing.uri(encode(picture), "jpeg")


TEMPLATES = _templates()
