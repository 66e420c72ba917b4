"""The HTML of a report: a page in one file, readable offline, without scripts, and fit to be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cellseg_host.report.statistics import Interval


@dataclass(frozen=True)
class Markup:
    """HTML that is whole and safe; plain text is a `str`, and is escaped where it is used."""

    html: str


@dataclass(frozen=True)
class Section:
    """A part of the page, with a line in its contents."""

    title: str
    parts: tuple[Markup, ...]

    @property
    def anchor(self) -> str:
        """Its address within the page."""
        return "-".join(w for w in "".join(c if c.isalnum() else " " for c in self.title.lower()).split())


Text = str | Markup


def markup(text: Text) -> str:
    """The HTML of a text."""
    return text.html if isinstance(text, Markup) else escape(text)


def paragraph(text: Text) -> Markup:
    """A paragraph."""
    return Markup(f"<p>{markup(text)}</p>")


def heading(text: Text) -> Markup:
    """A heading within a section."""
    return Markup(f"<h3>{markup(text)}</h3>")


def items(texts: Sequence[Text]) -> Markup:
    """A list."""
    return Markup("<ul>" + "".join(f"<li>{markup(t)}</li>" for t in texts) + "</ul>")


def chart(uri: str, alt: str, caption: Text) -> Markup:
    """A figure of the page's width, with what is seen on it."""
    return Markup(
        f'<figure><img src="{escape(uri)}" alt="{escape(alt)}"><figcaption>{markup(caption)}</figcaption></figure>'
    )


def charts(uris: Sequence[str], alt: str, caption: Text) -> list[Markup]:
    """Several figures with one caption, under the last."""
    return [chart(uri, alt, caption if uri is uris[-1] else "") for uri in uris]


def panels(pictures: Sequence[tuple[str, str, Text]]) -> Markup:
    """Pictures in a row, which wraps: (data URI, alternative text, caption) each."""
    return Markup(
        '<div class="panels">'
        + "".join(
            f'<figure><img src="{escape(uri)}" alt="{escape(alt)}"><figcaption>{markup(caption)}</figcaption></figure>'
            for uri, alt, caption in pictures
        )
        + "</div>"
    )


def table(columns: Sequence[Text], rows: Sequence[Sequence[Text]], caption: Text) -> Markup:
    """A table: the first column names the rows and stands left, numbers stand right."""
    head = "".join(f'<th scope="col">{markup(c)}</th>' for c in columns)
    body = "".join(
        f'<tr><th scope="row">{markup(row[0])}</th>' + "".join(f"<td>{markup(c)}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )
    return Markup(
        f'<div class="wide"><table><caption>{markup(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def interval(found: Interval, is_error: bool = False, is_best: bool = False, is_change: bool = False) -> Markup:
    """A value with its interval in small print below.

    Parameters
    ----------
    found : Interval
    is_error : bool
        Show per cent.
    is_best : bool
        Show it in bold.
    is_change : bool
        Show the sign; bold where the interval excludes zero.
    """
    digits = "1%" if is_error else "3f"
    value, low, high = (number(v, digits, is_change) for v in (found.value, found.low, found.high))
    tag = "b" if is_best or (is_change and found.excludes_zero) else "span"
    ends = f"<small>{low} to {high}</small>" if math.isfinite(found.low) else ""
    return Markup(f"<{tag}>{value}</{tag}>{ends}")


def number(value: float, digits: str = "3f", is_signed: bool = False) -> str:
    """A number with a true minus sign, none before a zero, and a dash for what is not finite."""
    return f"{value:{'+' if is_signed else ''}z.{digits}}".replace("-", "−") if math.isfinite(value) else "–"


def page(title: str, lines: Sequence[Text], sections: Sequence[Section]) -> str:
    """The whole document.

    Parameters
    ----------
    title : str
    lines : sequence of str or Markup
        What stands under the title.
    sections : sequence of Section
    """
    contents = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2>{"".join(p.html for p in s.parts)}</section>'
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><header><h1>{escape(title)}</h1>"
        f"{''.join(f'<p>{markup(line)}</p>' for line in lines)}<nav><ol>{contents}</ol></nav></header>"
        f"<main>{body}</main></body></html>\n"
    )


_CSS = """
:root { --ink: #1b1f23; --soft: #57606a; --line: #d8dee4; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 1140px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0 0 .3rem; font-size: 1.8rem; line-height: 1.2; }
h2 { margin: 2.6rem 0 .6rem; padding-top: .5rem; border-top: 2px solid var(--ink); font-size: 1.25rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1rem; }
p { margin: .4rem 0 .8rem; max-width: 78ch; }
header p { margin: .1rem 0; color: var(--soft); }
a { color: var(--accent); }
nav ol { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; margin: 1rem 0 0; padding: 0; list-style: none; }
ul { padding-left: 1.2rem; max-width: 78ch; }
li { margin: .15rem 0; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption, caption { color: var(--soft); font-size: .92em; text-align: left; max-width: 100ch; }
caption { padding-bottom: .4rem; font-size: .97em; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .95em; font-variant-numeric: tabular-nums; break-inside: avoid; }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
thead th { max-width: 8.5rem; border-bottom: 2px solid var(--ink); vertical-align: bottom; font-weight: 600; }
th:first-child { padding-left: 0; text-align: left; overflow-wrap: anywhere; }
tbody th { min-width: 10rem; font-weight: 600; }
td small, th small { display: block; color: var(--soft); font-weight: 400; font-size: .84em; white-space: nowrap; }
.key { margin-right: .4em; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: .6rem;
  margin: .4rem 0 1.2rem; break-inside: avoid; }
.panels figure { margin: 0; }
.panels figcaption { font-size: .85em; line-height: 1.35; overflow-wrap: anywhere; }
.panels img { width: 100%; max-width: 360px; }
@media print {
  @page { size: A4; margin: 14mm; }
  body { padding: 0; max-width: none; font-size: 9.5pt; }
  h2 { break-after: avoid; }
  h3, caption { break-after: avoid; }
  p, ul, figcaption, caption { max-width: none; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  .wide { overflow: visible; }
  table { font-size: 7.6pt; }
  th, td { padding: .25rem .4rem; }
  tbody th { min-width: 6rem; }
  .panels { grid-template-columns: repeat(auto-fit, minmax(28mm, 1fr)); }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
