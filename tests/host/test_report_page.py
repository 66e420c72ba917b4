import math

import pytest

from cellseg_host.report import page, write
from cellseg_host.report.page import Markup, Section
from cellseg_host.report.statistics import Interval


def test_text_is_escaped_and_markup_is_not():
    made = page.table(["<model>"], [["a & b", "1"], [Markup("<b>c</b>"), "2"]], "'quoted' <caption>")
    assert "&lt;model&gt;" in made.html
    assert "a &amp; b" in made.html
    assert "<b>c</b>" in made.html
    assert "<caption>&#x27;quoted&#x27; &lt;caption&gt;</caption>" in made.html


def test_every_section_is_in_the_contents():
    sections = [Section("ROC and precision-recall", (page.paragraph("x"),)), Section("At 0.5", (page.heading("y"),))]
    text = page.page("Title", ["line"], sections)
    for section in sections:
        assert f'href="#{section.anchor}"' in text
        assert f'id="{section.anchor}"' in text
    assert sections[0].anchor == "roc-and-precision-recall"


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.12345, {}, "0.123"),
        (-0.5, {}, "−0.500"),
        (-0.0001, {"is_signed": True}, "+0.000"),
        (0.0466, {"digits": "1%"}, "4.7%"),
        (math.nan, {}, "–"),
    ],
)
def test_numbers(value, options, text):
    assert page.number(value, **options) == text


def test_an_interval_stands_under_its_value():
    assert page.interval(Interval(0.5, 0.4, 0.6)).html == "<span>0.500</span><small>0.400 to 0.600</small>"
    assert page.interval(Interval(0.5, math.nan, math.nan)).html == "<span>0.500</span>"
    sure, unsure = Interval(0.1, 0.05, 0.2), Interval(0.1, -0.05, 0.2)
    assert page.interval(sure, is_change=True).html.startswith("<b>+0.100</b>")
    assert page.interval(unsure, is_change=True).html.startswith("<span>+0.100</span>")


def test_what_is_not_finite_is_left_out_of_the_files():
    assert write.csv_bytes([{"a": math.nan, "b": 1 / 3, "c": "x"}]) == b"a,b,c\r\n,0.333333,x\r\n"
    document = {"a": [math.inf, {"b": math.nan}], "c": Interval(1.0, math.nan, 2.0)}
    assert write.finite({"a": [math.inf, {"b": math.nan}]}) == {"a": [None, {"b": None}]}
    assert b'"low": null' in write.json_bytes(document)
    assert b"NaN" not in write.json_bytes(document)
