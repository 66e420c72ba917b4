"""The screen for teaching in a real browser: it fits, anybody can use it, and a model goes all the way."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from pages import needs_browser
from serving import served, until

from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use
from cellseg_device.results import correction_file

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[test]'")

pytestmark = [needs_browser, pytest.mark.xdist_group("page")]

AXE = Path(axe.__file__).with_name("axe.min.js")
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Open an address in a window; what the page complains about fails the test."""
    opened, complaints = [], []

    def start(address, width=1280, scheme="dark"):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message))
        tab.set_default_timeout(60_000)
        tab.goto(address)
        return tab

    yield start
    for context in opened:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def results(device, samples, tmp_path_factory):
    """Three samples, one of which is checked; one has a name that is markup."""
    folder = tmp_path_factory.mktemp("teach-page")
    shutil.copy(samples / "hoechst8.png", folder)
    shutil.copy(samples / "dapi16.png", folder)
    turned = np.rot90(cv2.imread(str(samples / "hoechst8.png"), cv2.IMREAD_GRAYSCALE))
    cv2.imwrite(str(folder / "turned.png"), turned)
    (folder / "turned.png").rename(folder / HOSTILE)
    assert device("watch", folder, "--once").returncode == 0
    out = folder / "cellseg-results"
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    tifffile.imwrite(folder / "hoechst8.labels.tif", np.where(labels < 3, 0, labels))
    assert device("recount", out, folder / "hoechst8.labels.tif").returncode == 0
    (folder / "hoechst8.labels.tif").unlink()
    return folder


@pytest.fixture(scope="module")
def mine(model_path, tmp_path_factory):
    """A model that finds no small cells."""
    data = model_path.read_bytes()
    card = cards.read_from(data)
    separation = dataclasses.replace(card.separation, min_area_px=300)
    path = tmp_path_factory.mktemp("model") / "mine.tflite"
    path.write_bytes(
        cards.attach(data, dataclasses.replace(card, name="mine", separation=separation, known_answer=None))
    )
    return path


def ready(tab):
    tab.locator(".parts li").first.wait_for()
    tab.get_by_text("From now on:").wait_for()
    until(lambda: tab.evaluate("[...document.querySelectorAll('.parts img')].every(i => i.complete && i.naturalWidth)"))


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1280, "dark"), (1280, "light")])
def test_it_fits_and_everybody_can_use_it(results, environment, browse, width, scheme):
    with served(environment, results) as server:
        tab = browse(f"{server.base}/#/teach", width=width, scheme=scheme)
        tab.evaluate("window.scrollTo(0, 9999)")
        ready(tab)
        assert tab.evaluate(
            "[document.documentElement, document.querySelector('main')].map(e => e.scrollWidth - e.clientWidth)"
        ) == [0, 0]
        tab.evaluate(AXE.read_text())
        found = tab.evaluate("axe.run().then(result => result.violations)")
        serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious] == []
        assert tab.locator(".parts").get_by_text(HOSTILE).count() == 1
        tab.close()


def test_a_model_is_uploaded_tried_used_and_taken_back(results, environment, browse, mine, tmp_path):
    shutil.copytree(results, tmp_path / "copy")
    out = tmp_path / "copy" / "cellseg-results"
    with served(environment, tmp_path / "copy") as server:
        tab = browse(f"{server.base}/#/teach")
        ready(tab)
        assert "1 image checked" in tab.locator(".sum").inner_text()
        with tab.expect_download() as loading:
            tab.get_by_role("link", name="Download corrections.zip").click()
        loading.value.save_as(tmp_path / "corrections.zip")
        assert [item.source for item in correction_file.read(tmp_path / "corrections.zip").items] == ["hoechst8.png"]
        tab.set_input_files("#model-file", mine)
        tab.get_by_role("button", name="Upload").click()
        tab.get_by_text("mine is here: try it, then use it.").wait_for()
        tab.get_by_role("button", name="Try on ten images").click()
        tab.get_by_text("Agreement with the 1 corrected image").wait_for()
        assert tab.locator(".tried li canvas").count() == 3
        first = tab.locator(".tried li").first.inner_text()
        assert "hoechst8.png" in first
        assert "as corrected: " in first
        tab.get_by_role("button", name="Use from now on").click()
        tab.get_by_role("button", name="Back to the bundled models").wait_for()
        assert in_use.in_use(out).card.name == "mine"
        tab.get_by_role("button", name="Back to the bundled models").click()
        tab.get_by_role("button", name="Back to mine").wait_for()
        assert in_use.in_use(out) is None
        tab.close()


def test_what_is_refused_is_said_and_a_suggestion_leads_to_its_image(results, environment, chromium, tmp_path):
    shutil.copytree(results, tmp_path / "copy")
    with served(environment, tmp_path / "copy") as server:
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(f"{server.base}/#/teach")
        ready(tab)
        (tmp_path / "wrong.tflite").write_bytes(b"no model")
        tab.set_input_files("#model-file", tmp_path / "wrong.tflite")
        tab.get_by_role("button", name="Upload").click()
        tab.locator("[role=alert]").get_by_text("not a .tflite model").wait_for()
        tab.locator(".parts a").first.click()
        tab.locator("aside h1").wait_for()
        context.close()
