"""Texts in tables are no formulas, and come back as they were."""

import csv
import io
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellseg_device.system.csv_text import Rows, csv_bytes, escaped, unescaped

FORMULA = tuple("=+-@＝＋－＠\t\r\n\0")
NASTY = [
    "=HYPERLINK(A1)",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n",
    "＝1",
    "'=1",
    "''=1",
    "' '-",
    " =1",
    "a;=1",
    "a; -1;'+2;;@",
    'a";=1',
    "=;'",
]
PLAIN = [
    "",
    "a.png",
    "a-1+2=3@4.png",
    "'a.png",
    "''",
    "it's",
    "out of focus; crowded",
    "1-2",
    "a'=1",
    "/data/-x/=y.png",
]
TEXTS = st.text(st.sampled_from("=+-@＝\t\r\n\0'; a,\"")) | st.text()


@pytest.mark.parametrize("text", NASTY)
def test_what_may_be_a_formula_gets_one_apostrophe(text):
    assert escaped(text) != text
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text):
    assert escaped(text) == text == unescaped(text)


@given(TEXTS)
@example("' ;'=")
def test_no_cell_begins_a_formula_and_every_text_comes_back(text):
    cells = escaped(text).split(";")  # as a spreadsheet has them where a comma is the decimal mark
    assert not [cell for cell in cells if cell.lstrip(" ").startswith(FORMULA)]
    assert unescaped(escaped(text)) == text


@given(st.lists(TEXTS, min_size=2, max_size=2), st.text(min_size=1))
def test_a_table_is_read_as_it_was_written(texts, name):
    written = csv_bytes([["image", f"2{name}"], texts]).decode("utf-8", "strict")
    rows = Rows(io.StringIO(written, newline=""))
    assert list(rows) == [{"image": texts[0], f"2{name}": texts[1]}]
    assert rows.columns == ["image", f"2{name}"]
    assert list(rows.as_written.values()) == [*map(escaped, texts)]


def test_numbers_are_numbers():
    rows = [("=a", -1, -2.5, None, True, math.nan), ("", 0, 1e-9, None, False, -1 / 3)]
    assert csv_bytes(rows) == b"'=a,-1,-2.5,,True,nan\r\n,0,1e-09,,False,-0.3333333333333333\r\n"
    assert csv_bytes([(-1 / 3, 10)], float_format=".3g", line_end="\n") == b"-0.333,10\n"


def test_rows_that_are_too_short_or_too_long_are_read_as_csv_does():
    text = "a,b\n'=1\n'=1,'=2,'=3\n"
    assert [list(row.values()) for row in Rows(io.StringIO(text))] == [["=1", None], ["=1", "=2", ["'=3"]]]
    assert [[*row] for row in Rows(io.StringIO(text))] == [[*row] for row in csv.DictReader(io.StringIO(text))]
    assert Rows(io.StringIO("")).columns == []
