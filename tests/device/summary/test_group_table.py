"""The printed table: which cells a column is of stands above it."""

import numpy as np

from cellseg_device.summary import group_table, pool
from cellseg_device.summary.tables import Field


def group(name, *counts, size=None, sample_ml=None):
    fields = [Field("a.png", n, n - 2, False, 1000, size, sample_ml, None, "EXIF", "") for n in counts]
    return pool.pool(name, fields, [np.full(n, 20, np.float32) for n in counts])


def columns_below(text: str, section: str) -> list[str]:
    """The headings from where the name of a section begins."""
    sections, headings, *_ = text.splitlines()
    starts = sorted(sections.index(name) for name in ("all cells", "in the counting frame"))
    start = sections.index(section)
    end = next((at for at in starts if at > start), None)
    return headings[start:end].split("  ")


def test_every_column_of_cells_says_which_cells():
    text = group_table.text([group("a", 90, 110, size=0.5, sample_ml=1e-5), group("", 12, size=0.5, sample_ml=1e-5)])
    assert text.splitlines()[1].startswith("group       images  flagged  cells")
    assert [name.strip() for name in columns_below(text, "all cells") if name.strip()] == [
        "cells", "mean", "median px", "median um",
    ]  # fmt: skip
    assert [name.strip() for name in columns_below(text, "in the counting frame") if name.strip()] == [
        "cells", "mean", "SD", "dispersion", "cells/mm2", "cells/mL", "from", "to (95 %)",
    ]  # fmt: skip
    first = text.splitlines()[2].split()
    assert first[:5] == ["a", "2", "0", "200", "100.0"]
    assert first[7:9] == ["196", "98.0"]
    assert text.splitlines()[3].startswith("(no group)")


def test_unknown_columns_are_left_out():
    text = group_table.text([group("a", 90, 110)])
    assert "cells/mL" not in text
    assert "median um" not in text


def test_no_images():
    assert group_table.text([group(pool.TOTAL)]).splitlines()[2].split() == ["(all)", "0", "0", "0", "0"]


def test_rows_are_in_the_order_of_the_columns():
    (row,) = group_table.rows([group("", 90, 110)])
    values = dict(zip(group_table.COLUMNS, row, strict=True))
    assert (values["group"], values["cells"], values["cells_in_frame"]) == ("(no group)", 200, 196)
    assert values["exceeds_chance"] in (0, 1)
