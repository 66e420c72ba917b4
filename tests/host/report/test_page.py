import math

import pytest
from markupsafe import Markup

from cellseg_device.units import plural
from cellseg_host.report import page, write
from cellseg_host.report.comparison import number
from cellseg_host.report.statistics import Interval


def rendered(source, **values):
    """A template of these words, with the macros of all pages."""
    macros = "section, figure, figures, table, mark, interval"
    text = f'{{% from "parts.html" import {macros} with context %}}{source}'
    return page.TEMPLATES.from_string(text).render(contents=[], **values).strip()


def test_text_is_escaped_and_markup_is_not():
    made = rendered(
        "{% call table(['<model>', mark('#123456', '●')], caption) %}<tr><td>{{ cell }}</td></tr>{% endcall %}",
        caption="'quoted' <caption>",
        cell="a & b",
    )
    assert '<th scope="col">&lt;model&gt;</th>' in made
    assert '<th scope="col"><span class="key" style="color:#123456">●</span></th>' in made
    assert "<caption>&#39;quoted&#39; &lt;caption&gt;</caption>" in made
    assert "<tr><td>a &amp; b</td></tr>" in made


def test_a_chart_has_an_alternative_text_and_a_caption():
    made = rendered("{% call figure('data:x', alt) %}of {{ name }}{% endcall %}", alt='a "chart"', name="<b>")
    assert made == ('<figure><img src="data:x" alt="a &#34;chart&#34;"><figcaption>of &lt;b&gt;</figcaption></figure>')
    made = rendered("{% call figures(['data:x', 'data:y'], 'both') %}once{% endcall %}")
    assert made.count('alt="both"') == 2
    assert made.index("data:y") < made.index("once")
    assert made.count("once") == 1


def test_every_section_is_in_the_contents():
    titles = ["ROC and precision-recall", "At 0.5 & more"]
    contents = []
    sections = page.TEMPLATES.from_string(
        '{% from "parts.html" import section with context %}'
        "{% for title in titles %}{% call section(title) %}in {{ title }}{% endcall %}{% endfor %}"
    ).render(titles=titles, contents=contents)
    text = page.TEMPLATES.get_template("page.html").render(
        title="<Title>", verdict=["1 < 2"], lines=["a line & more"], contents=contents, sections=Markup(sections)
    )
    assert contents == titles
    assert '<a href="#roc-and-precision-recall">ROC and precision-recall</a>' in text
    assert '<section id="roc-and-precision-recall">' in text
    assert '<a href="#at-0-5-more">At 0.5 &amp; more</a>' in text
    assert '<h1>&lt;Title&gt;</h1>\n<p class="verdict">1 &lt; 2</p>\n<p>a line &amp; more</p>' in text
    assert "@media print" in text


def test_a_misspelt_name_in_a_template_is_an_error():
    with pytest.raises(page.jinja2.UndefinedError):
        rendered("{{ nothing }}")


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.12345, {}, "0.123"),
        (-0.5, {}, "−0.500"),
        (-0.0001, {"signed": True}, "+0.000"),
        (0.0466, {"digits": "1%"}, "4.7%"),
        (math.nan, {}, "–"),
    ],
)
def test_numbers(value, options, text):
    assert number(value, **options) == text


def test_nouns_follow_their_number():
    assert [plural(n, "image") for n in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]


def test_an_interval_stands_under_its_value():
    def interval(*ends, **options):
        return rendered("{{ interval(found, **options) }}", found=Interval(*ends), options=options)

    assert interval(0.5, 0.4, 0.6) == "<span>0.500</span><small>0.400 to 0.600</small>"
    assert interval(0.5, math.nan, math.nan) == "<span>0.500</span>"
    assert interval(0.5, 0.4, 0.6, is_best=True).startswith("<b>0.500</b>")
    assert interval(0.05, 0.04, 0.06, is_error=True) == "<span>5.0%</span><small>4.0% to 6.0%</small>"
    assert interval(0.1, 0.05, 0.2, is_change=True).startswith("<b>+0.100</b>")
    assert interval(0.1, -0.05, 0.2, is_change=True).startswith("<span>+0.100</span>")


def test_what_is_not_finite_is_left_out_of_the_files():
    assert write.csv_bytes([{"a": math.nan, "b": 1 / 3, "c": "x"}]) == b"a,b,c\r\n,0.333333,x\r\n"
    assert write.csv_bytes([{"a": "=x", "b": -1 / 3}, {"a": "'=x"}]) == b"a,b\r\n'=x,-0.333333\r\n''=x,\r\n"
    document = {"a": [math.inf, {"b": math.nan}], "c": Interval(1.0, math.nan, 2.0)}
    assert write.finite({"a": [math.inf, {"b": math.nan}]}) == {"a": [None, {"b": None}]}
    assert b'"low": null' in write.json_bytes(document)
    assert b"NaN" not in write.json_bytes(document)
