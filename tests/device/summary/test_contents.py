"""The files of a summary as what reads them finds them: tables for spreadsheets, all cells, the workbook."""

import csv
import io
import re
import tracemalloc
import zipfile
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cellseg_device.cells.measure import FIRST_COLUMNS
from cellseg_device.errors import InputError, OutputError
from cellseg_device.results.tables import COUNTS_COLUMNS
from cellseg_device.summary import pool, save, tables, workbook
from cellseg_device.summary.contents import Summed, contents
from cellseg_device.system import files

BOM = b"\xef\xbb\xbf"
GREY = "label,area_px,equivalent_diameter_area_px,intensity_mean,touches_border"
COLOUR = "label,area_px,equivalent_diameter_area_px,intensity_mean_red,touches_border,area_um2"
NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def put_image(out, name, lines, columns=GREY):
    """Write an image's table of cells and its row in the counts."""
    stem = name.rpartition(".")[0]
    (out / f"{stem}.cells.csv").write_text("\n".join([columns, *lines]) + "\n")
    row = {"image": name, "count": len(lines), "count_in_frame": len(lines) // 2, "height_px": 10, "width_px": 20}
    row |= {"labels": f"{stem}.labels.tif", "captured_at": "2021-03-04T05:06:07", "captured_from": "EXIF"}
    with open(out / "counts.csv", "a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COUNTS_COLUMNS)
        if file.tell() == 0:
            table.writeheader()
        table.writerow({name: f"'{value}" if str(value).startswith("=") else value for name, value in row.items()})


@pytest.fixture
def out(tmp_path):
    """Results of three images, one in colour; one has a name that is a formula."""
    put_image(tmp_path, "IMG_10.png", ["1,20,5.04627,7.5,0", "2,30,6.18039,8,1"])
    put_image(tmp_path, "=1+1.png", ["1,12,3.9,,0"])
    put_image(tmp_path, "IMG_2.png", ["1,40,7.1,9,0,10.5"], COLOUR)
    return tmp_path


def written(out, group=None, warn=None, **options):
    """By name, the files that a summary writes."""
    lost = []
    fields = tables.read_fields(out, lost.append)
    diameters = [tables.read_diameters(out, field) for field in fields]
    images = [field.image for field in fields]
    names = pool.group_names(images, re.compile(group)) if group else [pool.TOTAL] * len(images)
    groups = [pool.pool(pool.TOTAL, fields, diameters)]
    wanted = {"with_cells": False, "with_book": False} | options
    made = contents(Summed(out, fields, names, diameters, groups), **wanted, warn=warn or lost.append)
    save.save(out, made)
    assert lost == []
    return {name: (out / name).read_bytes() for name in made}


def sheets(data):
    """By name, the rows of a workbook; its texts as str, its numbers as float."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        found = {}
        for number, entry in enumerate(ET.fromstring(archive.read("xl/workbook.xml")).iter(f"{NAMESPACE}sheet"), 1):
            page = ET.fromstring(archive.read(f"xl/worksheets/sheet{number}.xml"))
            found[entry.get("name")] = [
                {cell.get("r").rstrip("0123456789"): value(cell) for cell in row}
                for row in page.iter(f"{NAMESPACE}row")
            ]
        return found


def value(cell):
    assert cell.find(f"{NAMESPACE}f") is None  # a formula
    text = "".join(cell.itertext())
    return text if cell.get("t") == "inlineStr" else float(text)


def test_tables_for_spreadsheets_begin_with_a_byte_order_mark_and_the_others_do_not(out):
    made = written(out, with_cells=True)
    assert {name for name, data in made.items() if data.startswith(BOM)} == {"summary.csv", "summary-cells.csv"}
    assert not (out / "counts.csv").read_bytes().startswith(BOM)
    assert not (out / "IMG_2.cells.csv").read_bytes().startswith(BOM)


def test_all_cells_of_all_images_are_in_one_table(out):
    heading, *rows = csv.reader(written(out, with_cells=True)["summary-cells.csv"].decode("utf-8-sig").splitlines())
    assert heading == ["image", *FIRST_COLUMNS, "intensity_mean", "touches_border", "intensity_mean_red", "area_um2"]
    filled = [{name: text for name, text in zip(heading, row, strict=True) if text} for row in rows]
    assert [" ".join(row) for row in filled[1:3]] == [
        "image label area_px equivalent_diameter_area_px touches_border intensity_mean_red area_um2",
        "image label area_px equivalent_diameter_area_px intensity_mean touches_border",
    ]
    assert [",".join(row.values()) for row in filled] == [
        "'=1+1.png,1,12,3.9,0",
        "IMG_2.png,1,40,7.1,0,9,10.5",
        "IMG_10.png,1,20,5.04627,7.5,0",
        "IMG_10.png,2,30,6.18039,8,1",
    ]
    grouped = written(out, "^([A-Z]+)", with_cells=True)["summary-cells.csv"].decode("utf-8-sig").splitlines()
    assert [line.split(",")[:3] for line in grouped[:3]] == [
        ["image", "group", "label"],
        ["'=1+1.png", "(no group)", "1"],
        ["IMG_2.png", "IMG", "1"],
    ]


def test_a_workbook_has_numbers_as_numbers_and_no_formulas(out):
    found = sheets(written(out, with_cells=True, with_book=True)["summary.xlsx"])
    assert [*found] == ["groups", "images", "cells"]
    heading, row = found["groups"]
    assert dict(zip(heading.values(), row.values(), strict=False))["cells"] == 4
    assert [*found["images"][0].values()] == [*COUNTS_COLUMNS]
    assert [row["A"] for row in found["images"][1:]] == ["=1+1.png", "IMG_2.png", "IMG_10.png"]
    assert found["images"][3]["B"] == 2
    assert "2021-03-04T05:06:07" in found["images"][1].values()
    assert [row["A"] for row in found["cells"][1:]] == ["=1+1.png", "IMG_2.png", "IMG_10.png", "IMG_10.png"]
    assert found["cells"][4] == {"A": "IMG_10.png", "B": 2, "E": 30, "F": 6.18039, "L": 8, "M": 1}
    assert "cells" not in sheets(written(out, with_book=True)["summary.xlsx"])


def test_a_workbook_names_the_group_of_each_image(out):
    found = sheets(written(out, "^([A-Z]+)", with_book=True)["summary.xlsx"])
    assert [row["B"] for row in found["images"]] == ["group", "(no group)", "IMG", "IMG"]


def test_more_cells_than_a_sheet_holds_are_in_the_other_table(out, monkeypatch):
    monkeypatch.setattr(workbook, "MOST_ROWS", 3)
    lines = []
    made = written(out, with_cells=True, with_book=True, warn=lines.append)
    assert lines == [
        "summary.xlsx is without the 4 cells, since a sheet holds 3: they are in summary-cells.csv",
    ]
    assert "cells" not in sheets(made["summary.xlsx"])
    assert made["summary-cells.csv"].count(b"\n") == 5


def test_a_table_that_changes_meanwhile_is_left_out_and_named(out):
    fields = tables.read_fields(out, print)
    summed = Summed(out, fields, [pool.TOTAL] * 3, [tables.read_diameters(out, f) for f in fields], [])
    lines = []
    made = contents(summed, with_cells=True, with_book=True, warn=lines.append)
    (out / "IMG_2.cells.csv").write_text(COLOUR + "\n")
    save.save(out, made)
    assert [line.partition(" has 0 cells")[0] for line in lines] == ["IMG_2.cells.csv"]
    assert (out / "summary-cells.csv").read_bytes().count(b"\n") == 4


@pytest.mark.parametrize("line", ["1,=2,5,1,0", "1,2,5,1", "1,2,5,x,0", "1,2,5,@,0", "1,2,5,1,0,7"])
def test_a_table_of_cells_with_anything_but_numbers_is_refused(tmp_path, line):
    put_image(tmp_path, "a.png", [line])
    (field,) = tables.read_fields(tmp_path, print)
    with pytest.raises(InputError, match="is damaged"):
        tables.read_cells(tmp_path, field)


def test_the_cells_of_many_images_take_no_more_memory_than_those_of_few(tmp_path):
    peaks = []
    for number in (20, 200):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng = np.random.default_rng(0)
        for index in range(number):
            put_image(folder, f"{index}.png", [f"{n},20,{d:.5f},7.5,0" for n, d in enumerate(rng.uniform(4, 9, 300))])
        fields = tables.read_fields(folder, print)
        sizes = [np.ones(300, np.float32)] * number
        made = contents(Summed(folder, fields, [pool.TOTAL] * number, sizes, []), with_cells=True, with_book=True,
                        warn=print)  # fmt: skip
        for name in ("summary-cells.csv", "summary.xlsx"):
            with open(folder / name, "w+b") as file:
                tracemalloc.start()
                made[name](file)
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
    assert (tmp_path / "200" / "summary-cells.csv").read_bytes().count(b"\n") == 60_001
    assert peaks[2] < 1.5 * peaks[0]
    assert peaks[3] < 1.5 * peaks[1]


def test_a_workbook_that_somebody_saved_is_theirs(out):
    written(out, with_book=True)
    assert "summary.xlsx" in written(out, with_book=True)
    book = out / "summary.xlsx"
    with zipfile.ZipFile(book, "a") as archive:  # as a spreadsheet does, which writes no comment
        archive.comment = b""
    theirs = book.read_bytes()
    with pytest.raises(InputError, match=r"summary\.xlsx is not of a summary: move it away"):
        written(out, with_book=True)
    written(out)
    assert book.read_bytes() == theirs


def test_what_a_later_summary_does_not_write_is_not_left_beside_it(out):
    written(out, with_cells=True, with_book=True)
    written(out)
    assert not (out / "summary-cells.csv").exists()
    assert not (out / "summary.xlsx").exists()


@pytest.fixture
def used(out, monkeypatch):
    """A folder in which a watch has been; who cannot have its lock gives up at once."""
    (out / files.TURN_NAME).touch()
    monkeypatch.setattr(files, "_LOCK_TIMEOUT_S", 0)
    return out


def test_a_watch_does_not_wait_for_a_long_table(used):
    def write(file):
        with files.write_lock(used):
            file.write(b"image,label,area_px\n")

    save.save(used, {"summary-cells.csv": write})
    assert (used / "summary-cells.csv").exists()
    with pytest.raises(OutputError, match="another process is writing there"):
        save.save(used, {"summary.csv": write})


def test_a_watch_that_starts_meanwhile_is_named(used):
    with pytest.raises(OutputError, match=r"started in .* meanwhile cleared it up: try again"):
        save.save(used, {"summary-cells.csv": lambda file: files.remove_leftovers(used)})
    assert not (used / "summary-cells.csv").exists()


def test_without_the_library_a_line_says_what_to_install(monkeypatch):
    workbook.check_library()
    monkeypatch.setattr(workbook.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package XlsxWriter: install it with 'pip install XlsxWriter'"):
        workbook.check_library()
