"""The page of `cellseg-device serve` in a real browser: each screen, by pointer and by keyboard, small and large."""

from __future__ import annotations

import re
import shutil
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from pages import became, drawn, needs_browser
from serving import HOSTILE, served, until

from cellseg_device.results.ledger import Ledger

axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[test]'")

pytestmark = [needs_browser, pytest.mark.xdist_group("page")]

AXE = Path(axe.__file__).with_name("axe.min.js")
SCREENS = {
    "now": "#/now",
    "images": "#/images",
    "image": "#/image?image=tissue.png",
    "failed": "#/image?image=broken.png",
}


def ready(tab, screen: str) -> None:
    """Wait until a screen shows what it has."""
    if screen == "now":
        tab.locator(".chart").wait_for()
        tab.locator(".newest .count strong").wait_for()
    elif screen == "images":
        tab.locator(".rows li").first.wait_for()
        became(tab, "[...document.querySelectorAll('.rows img')].every(image => image.complete && image.naturalWidth)")
    elif screen == "image":
        tab.get_by_text("Point at a cell for its measurements.").wait_for()
    else:
        tab.get_by_text("No picture").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_fits_and_everybody_can_use_it(page, browse, screen, width, scheme):
    tab = browse(f"{page.base}/{SCREENS[screen]}", width=width, scheme=scheme)
    ready(tab, screen)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.evaluate(AXE.read_text())
    found = tab.evaluate("axe.run().then(result => result.violations)")
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious] == []


def test_now_shows_the_newest_and_follows_the_watch(counted, environment, device, samples, browse, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    with served(environment, tmp_path / "copy") as server:
        tab = browse(server.base)
        ready(tab, "now")
        newest = server.ask("/api/now").json["newest"]
        assert tab.locator(".newest .count strong").inner_text() == str(newest["count"])
        assert tab.locator(".failures").inner_text().startswith("broken.png")
        shutil.copy(samples / "hoechst8.png", tmp_path / "copy" / "zz-new.png")
        device("watch", tmp_path / "copy", "--once")
        tab.locator(".newest").get_by_text("zz-new.png").wait_for()
        became(tab, "document.querySelector('.newest .viewer').getAttribute('aria-label') === 'Open zz-new.png'")
        tab.locator(".newest .viewer").click()
        tab.locator("aside h1").get_by_text("zz-new.png").wait_for()
        tab.close()


def test_a_name_that_is_markup_is_shown_as_text(page, browse):
    tab = browse(f"{page.base}/#/images?text=onerror")
    ready(tab, "images")
    assert tab.locator(".rows .name").inner_text() == HOSTILE
    tab.locator(".rows a").click()
    tab.locator("aside h1").get_by_text(HOSTILE).wait_for()
    ready(tab, "image")


def test_images_are_sorted_filtered_and_opened_by_keyboard_alone(page, browse):
    tab = browse(f"{page.base}/#/images")
    ready(tab, "images")
    tab.get_by_label("Sort by").focus()
    for order in ("time", "count"):
        tab.keyboard.press("ArrowDown")
        tab.wait_for_url(re.compile(f"order={order}&descending=1"))
    ready(tab, "images")
    counts = [int(text) for text in tab.locator(".rows .cells strong").all_inner_texts()]
    assert counts == sorted(counts, reverse=True)
    tab.locator(".rows a").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("End")
    last = tab.locator("li:has(a:focus)")
    last.wait_for()
    assert last.get_attribute("aria-posinset") == last.get_attribute("aria-setsize")
    tab.keyboard.press("Home")
    name = tab.locator("li:has(a:focus) .name").inner_text()
    tab.keyboard.press("Enter")
    tab.locator("aside h1").get_by_text(name, exact=True).wait_for()
    ready(tab, "image")
    tab.keyboard.press("n")  # the picture has the focus
    until(lambda: tab.locator("aside h1").all_inner_texts() not in ([], [name]))
    tab.go_back()
    tab.locator("aside h1").get_by_text(name, exact=True).wait_for()


def test_chosen_images_are_downloaded(page, browse, tmp_path):
    tab = browse(f"{page.base}/#/images", accept_downloads=True)
    ready(tab, "images")
    tab.get_by_label("Choose tissue.png").check()
    tab.get_by_text("Download", exact=True).click()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="ZIP of the chosen 1").click()
    download.value.save_as(tmp_path / "chosen.zip")
    assert zipfile.ZipFile(tmp_path / "chosen.zip").namelist()[0] == "tissue.labels.tif"
    with tab.expect_download() as download:
        tab.get_by_text("All cells (CSV)").click()
    assert download.value.suggested_filename == "cells.csv"


def test_ten_thousand_images_scroll_with_few_rows(environment, counted, browse, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    out = tmp_path / "copy" / "cellseg-results"
    with closing(Ledger(out / "cellseg.sqlite")) as ledger:
        entry = ledger.get("tissue.png")
        with ledger.transaction():
            for number in range(10_000):
                ledger.put(replace(entry, image=f"field_{number}.png", stem=f"field_{number}", status="failed"))
    with served(environment, tmp_path / "copy") as server:
        tab = browse(f"{server.base}/#/images?text=field_")
        tab.locator(".rows li").first.wait_for()
        for part in (0.5, 0.25, 1):
            tab.evaluate(
                "part => { const s = document.querySelector('.scroll'); s.scrollTop = part * s.scrollHeight }", part
            )
            first = round(part * 10_000)
            wanted = f"field_{first if part < 1 else 9_999}.png"
            tab.locator(".rows .name").get_by_text(wanted, exact=True).wait_for()
            assert tab.locator(".rows li").count() < 40
        tab.close()


def test_a_cell_is_found_under_the_pointer_and_by_its_number(page, counted, browse):
    labels = tifffile.imread(counted / "cellseg-results" / "tissue.labels.tif")
    lines = (counted / "cellseg-results" / "tissue.cells.csv").read_text().splitlines()
    columns, cell = lines[0].split(","), dict(zip(lines[0].split(","), lines[5].split(","), strict=True))
    row, col = float(cell["centroid_row_px"]), float(cell["centroid_col_px"])
    assert labels[round(row), round(col)] == 5
    tab = browse(f"{page.base}/#/image?image=tissue.png")
    ready(tab, "image")
    box = tab.locator(".viewer").bounding_box()
    zoom = min(box["width"] / labels.shape[1], box["height"] / labels.shape[0])
    x = box["x"] + box["width"] / 2 + (col + 0.5 - labels.shape[1] / 2) * zoom
    y = box["y"] + box["height"] / 2 + (row + 0.5 - labels.shape[0] / 2) * zoom
    tab.mouse.click(x, y)
    assert tab.get_by_label("Cell", exact=True).last.input_value() == "5"
    shown = tab.locator(".measures tr").all_inner_texts()
    assert len(shown) == len(columns) - 1
    assert f"area\t{int(cell['area_px']):,} px²" in shown
    tab.locator("#cell").fill("7")
    tab.keyboard.press("Tab")
    assert f"area\t{int(lines[7].split(',')[3]):,} px²" in tab.locator(".measures tr").all_inner_texts()
    tab.locator(".viewer").focus()
    tab.keyboard.press("Escape")
    assert tab.locator(".measures tr").count() == 0


def test_the_picture_zooms_pans_and_its_outlines_go(page, browse):
    tab = browse(f"{page.base}/#/image?image=tissue.png")
    ready(tab, "image")
    start = drawn(tab)
    assert start[1] > 0
    tab.locator(".viewer").focus()
    tab.keyboard.press("+")
    larger = drawn(tab)
    assert larger != start
    tab.keyboard.press("ArrowRight")
    assert drawn(tab) not in (start, larger)
    tab.keyboard.press("0")
    assert drawn(tab) == start
    tab.mouse.move(300, 400)
    tab.mouse.wheel(0, -300)
    until(lambda: drawn(tab) != start)
    wheeled = drawn(tab)
    tab.mouse.down()
    tab.mouse.move(350, 430)
    tab.mouse.up()
    assert drawn(tab) != wheeled
    tab.keyboard.press("0")
    tab.keyboard.press("o")
    assert drawn(tab)[1] == 0
    tab.get_by_label("Contrast").focus()
    tab.keyboard.press("ArrowRight")
    became(tab, "document.querySelector('.viewer canvas').style.filter.includes('contrast')")
    tab.get_by_role("button", name="Reset contrast").click()
    became(tab, "document.querySelector('.viewer canvas').style.filter === ''")


def test_an_original_that_is_gone_is_explained(page, browse):
    tab = browse(f"{page.base}/#/image?image=gone.png")
    ready(tab, "image")
    assert "Without the original, which is not there" in tab.locator(".note").inner_text()


def test_twelve_megapixels_are_shown_and_pointed_at(environment, device, samples, browse, tmp_path):
    field = cv2.imread(str(samples / "hoechst8.png"), -1)
    rows, cols = -(-3000 // field.shape[0]), -(-4000 // field.shape[1])
    cv2.imwrite(str(tmp_path / "large.png"), np.tile(field, (rows, cols))[:3000, :4000])
    assert device("watch", tmp_path, "--once", "--no-overlay", timeout=300).returncode == 0
    with served(environment, tmp_path) as server:
        tab = browse(f"{server.base}/#/image?image=large.png", width=1280)
        ready(tab, "image")
        tab.locator(".viewer").focus()
        tab.keyboard.press("1")
        assert drawn(tab)[1] > 0
        tab.locator("#cell").fill("100")
        tab.keyboard.press("Tab")
        assert tab.locator(".measures tr").count() > 8
        tab.close()
