"""The screen of a camera in a real browser, beside a real `camera` on a stand-in for a USB camera."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pages import needs_browser
from serving import served, until

from cellseg_device.results.ledger import Ledger

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[test]'")

pytestmark = [needs_browser, pytest.mark.xdist_group("page")]

AXE = Path(axe.__file__).with_name("axe.min.js")


@pytest.fixture
def browse():
    complaints = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def start(address, width=1280, scheme="dark"):
            tab = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
            tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.set_default_timeout(60_000)
            tab.goto(address)
            return tab

        yield start
        browser.close()
    assert complaints == []


@pytest.fixture
def page(tmp_path, environment):
    out = tmp_path / "out"
    out.mkdir()
    Ledger(out / "cellseg.sqlite").close()
    with served(environment, out) as server:
        yield server


def check(tab):
    wide = "['html', 'main', 'header'].map(s => document.querySelector(s)).map(e => e.scrollWidth - e.clientWidth)"
    assert tab.evaluate(wide) == [0, 0, 0]
    tab.evaluate(AXE.read_text())
    found = tab.evaluate("axe.run().then(result => result.violations)")
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious] == []


def share(tab):
    return int(tab.get_by_role("meter").get_attribute("aria-valuenow"))


def test_it_shows_the_focus_takes_an_image_and_says_when_the_camera_is_gone(running_usb, usb, page, browse, tmp_path):
    out = tmp_path / "out"
    lit = ["--exposure", "10ms", "--size", "640x480"]
    camera = running_usb(*usb.source, *lit, "--every", "1h", "--out", out)
    camera.until(lambda: camera.stdout.count("\n") >= 1)
    tab = browse(f"{page.base}/#/camera")
    button = tab.get_by_role("button", name="Take an image now")
    until(button.is_enabled)
    assert share(tab) == 100
    sharp = np.frombuffer(usb.path.with_name("video0.scene").read_bytes(), np.uint8).reshape(480, 640)
    usb.show(cv2.GaussianBlur(sharp, (0, 0), 4))
    until(lambda: share(tab) < 80)
    usb.show(sharp)
    until(lambda: share(tab) == 100)
    button.click()
    tab.get_by_text("is taken. Its count comes on").wait_for()
    assert len(list((out / "captures").iterdir())) == 2
    assert "exposure 10 ms" in tab.locator(".lines").inner_text()
    for width, scheme in ((360, "light"), (1280, "dark"), (2560, "light")):
        other = browse(f"{page.base}/#/camera", width, scheme)
        until(other.get_by_role("button", name="Take an image now").is_enabled)
        check(other)
        other.close()
    assert camera.stop() == 0
    tab.get_by_text("No camera is running for these results.").wait_for()
    assert not button.is_enabled()


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_without_a_camera_it_says_how_to_start_one(page, browse, width, tmp_path):
    tab = browse(f"{page.base}/#/camera", width)
    tab.get_by_text(f"cellseg-device camera --out {tmp_path / 'out'}").wait_for()
    check(tab)
