"""The screen for uploads in a real browser: it fits, anybody can use it, and an image is sent, seen and removed."""

import shutil
from pathlib import Path

import pytest
from pages import drawn, needs_browser
from serving import HOSTILE, served, until

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[test]'")

pytestmark = [needs_browser, pytest.mark.xdist_group("page")]

AXE = Path(axe.__file__).with_name("axe.min.js")


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(device, samples, tmp_path_factory, environment):
    folder = tmp_path_factory.mktemp("upload-page")
    shutil.copy(samples / "hoechst8.png", folder)
    assert device("watch", folder, "--once").returncode == 0
    with served(environment, folder) as running:
        yield running


def opened(chromium, server, width, scheme="dark"):
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    complaints = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: dialog.accept())
    tab.set_default_timeout(60_000)
    tab.goto(f"{server.base}/#/upload")
    return tab, complaints


def send(tab, *files):
    tab.set_input_files("#image-file", [*map(str, files)])
    tab.get_by_role("button", name="Count", exact=True).click()


def test_an_image_is_sent_seen_and_removed_and_what_is_none_is_refused(chromium, server, samples, tmp_path):
    shutil.copy(samples / "dapi16.png", tmp_path / HOSTILE)
    (tmp_path / "text.png").write_text("no image")
    tab, complaints = opened(chromium, server, 1280)
    tab.get_by_text("None yet.").wait_for()
    send(tab, tmp_path / HOSTILE, tmp_path / "text.png")
    tab.get_by_text("1 image counted.").wait_for()
    assert tab.get_by_role("alert").inner_text().startswith("text.png: This file is not ")
    until(lambda: drawn(tab)[1] > 0)
    count = tab.locator(".uploaded .count strong").inner_text()
    assert tab.locator(".uploads li").inner_text().startswith(f"{count} cells\n{HOSTILE}")
    send(tab, samples / "hoechst8.png")
    tab.locator(".uploads li").nth(1).wait_for()
    tab.get_by_role("button", name=f"Remove {HOSTILE}").click()
    tab.get_by_text("Removed.").wait_for()
    assert tab.locator(".uploads .name").all_inner_texts() == ["hoechst8.png"]
    assert complaints == []
    tab.context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_it_fits_and_everybody_can_use_it(chromium, server, samples, width, scheme):
    tab, complaints = opened(chromium, server, width, scheme)
    if tab.get_by_text("None yet.").or_(tab.locator(".uploads li").first).first.inner_text() == "None yet.":
        send(tab, samples / "hoechst8.png")
    tab.locator(".uploads li").first.wait_for()
    wide = "['html', 'main', 'header'].map(s => document.querySelector(s)).map(e => e.scrollWidth - e.clientWidth)"
    assert tab.evaluate(wide) == [0, 0, 0]
    tab.evaluate(AXE.read_text())
    found = tab.evaluate("axe.run().then(result => result.violations)")
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious] == []
    assert complaints == []
    tab.context.close()
