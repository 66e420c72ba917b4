"""The correcting tools in a real browser: each with its undo, by pointer, touch and keys, against the stored labels."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from pages import became, drawn, needs_browser
from serving import served, until

from cellseg_device.results import corrected_labels, correction_journal, corrections

axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[test]'")

pytestmark = [needs_browser, pytest.mark.xdist_group("page")]

IMAGE = "dapi16.png"
STEM = "dapi16"


@pytest.fixture(scope="module")
def folder(device, samples, tmp_path_factory) -> Path:
    """Samples, counted without a region."""
    folder = tmp_path_factory.mktemp("correcting")
    for name in ("dapi16", "hoechst8", "empty"):
        shutil.copy(samples / f"{name}.png", folder)
    done = device("watch", folder, "--once", "--no-overlay")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def out(copy) -> Path:
    return copy / "cellseg-results"


class Screen:
    """An image's screen in a window."""

    def __init__(self, tab, out: Path, stem: str = STEM) -> None:
        self.tab, self._out, self._stem = tab, out, stem
        self.labels = tifffile.imread(out / f"{stem}.labels.tif")
        tab.get_by_text("Point at a cell for its measurements.").wait_for()
        self.stage = tab.locator(".viewer")

    def place(self, point) -> tuple[float, float]:
        """Where a point of the image, all of which is shown, is on the screen."""
        box, (height, width) = self.stage.bounding_box(), self.labels.shape
        zoom = min(box["width"] / width, box["height"] / height)
        x = box["x"] + box["width"] / 2 + (point[1] + 0.5 - width / 2) * zoom
        return x, box["y"] + box["height"] / 2 + (point[0] + 0.5 - height / 2) * zoom

    def tool(self, name: str) -> None:
        self.tab.locator(".toolbar").get_by_role("button", name=name).click()

    def click(self, *points) -> None:
        for point in points:
            self.tab.mouse.click(*self.place(point))

    def drag(self, *points) -> None:
        self.tab.mouse.move(*self.place(points[0]))
        self.tab.mouse.down()
        for point in points[1:]:
            self.tab.mouse.move(*self.place(point), steps=4)
        self.tab.mouse.up()

    @property
    def journal(self):
        return correction_journal.read(corrections.journal_path(self._out, self._stem))

    def stored(self, revision: int) -> np.ndarray:
        """The labels in the store, once so much was done."""
        until(lambda: self.journal.revision == revision)
        self.tab.locator(".correct:not([aria-busy])").wait_for()
        return corrected_labels.current(self._out, self._stem)

    def count(self) -> int:
        return int(self.tab.locator("aside .count strong").inner_text().replace(",", ""))


@pytest.fixture
def server(copy, environment):
    with served(environment, copy) as server:
        yield server


@pytest.fixture
def show(server, out, browse):
    """Open an image in a window; all are closed before the server ends."""
    screens = []

    def start(**options) -> Screen:
        screens.append(Screen(browse(f"{server.base}/#/image?image={IMAGE}", **options), out))
        return screens[-1]

    yield start
    for screen in screens:
        screen.tab.close()


@pytest.fixture
def screen(show) -> Screen:
    return show()


def middle(labels, cell):
    """The pixel of a cell that is farthest from its rim."""
    depth = cv2.distanceTransform((labels == cell).astype(np.uint8), cv2.DIST_L2, 5)
    return np.unravel_index(np.argmax(depth), depth.shape)


def ground_of(labels):
    """The pixel that is farthest from cells and border."""
    free = cv2.copyMakeBorder((labels == 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(free, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.unravel_index(np.argmax(depth), depth.shape)


def large(labels) -> list[int]:
    """Cells that are easily hit, the largest first; none at the border."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[np.unique([*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]])] = 0
    return [int(n) for n in np.argsort(-sizes) if sizes[n]]


def test_every_tool_does_what_it_says_and_undo_takes_it_back(screen):
    labels, revision = screen.labels, 0
    one, two, three, four, *_ = large(labels)
    machine = screen.count()
    assert machine == labels.max()

    def did(expected, cells: int, steps: int = 1):
        nonlocal revision
        revision += steps + (1 if revision == 0 else 0)
        stored = screen.stored(revision)
        assert np.array_equal(stored, expected(stored) if callable(expected) else expected)
        until(lambda: screen.count() == cells)
        screen.tab.keyboard.press("Control+z")
        revision += 1
        assert np.array_equal(screen.stored(revision), labels)
        until(lambda: screen.count() == machine)
        return stored

    screen.tool("Remove")
    screen.click(middle(labels, one))
    did(np.where(labels == one, 0, labels), machine - 1)

    screen.tool("Join")
    screen.click(middle(labels, one), middle(labels, two))
    did(np.where(labels == two, one, labels), machine - 1)

    screen.tool("Split")
    _row, col = middle(labels, one)
    top, bottom = np.flatnonzero((labels == one).any(axis=1))[[0, -1]]
    screen.drag((top - 4, col), (bottom + 4, col))

    def halves(stored):
        new = stored == labels.max() + 1
        cell = labels == one
        assert (new & cell).sum() == new.sum()
        cols = np.indices(labels.shape)[1]
        is_left = new.sum() and np.median(cols[new]) < col
        far = np.abs(cols - col) > 2
        assert np.array_equal((new & far), cell & far & ((cols < col) if is_left else (cols > col)))
        return np.where(new, labels.max() + 1, labels)

    did(halves, machine + 1)

    screen.click(middle(labels, one), (middle(labels, one)[0], middle(labels, one)[1] + 4))
    did(lambda stored: np.where((labels == one) & (stored != one), labels.max() + 1, labels), machine + 1)

    screen.tool("Eraser")
    screen.click(middle(labels, three))

    def erased(stored):
        given = screen.journal.lines[-1]["given"]
        rows, cols = np.indices(labels.shape)
        (at_row, at_col), *_ = given["points"]
        under = (rows - at_row) ** 2 + (cols - at_col) ** 2 <= given["radius"] ** 2
        assert under[middle(labels, three)]
        return np.where(under, 0, labels)

    did(erased, machine)

    screen.tool("Brush")
    ground = ground_of(labels)
    screen.click(ground)

    def painted(stored):
        given = screen.journal.lines[-1]["given"]
        rows, cols = np.indices(labels.shape)
        (at_row, at_col), *_ = given["points"]
        under = (rows - at_row) ** 2 + (cols - at_col) ** 2 <= given["radius"] ** 2
        return np.where(under, labels.max() + 1, labels)

    did(painted, machine + 1)

    screen.tool("Draw")
    corners = [(ground[0] + down, ground[1] + right) for down, right in ((-6, -6), (-6, 6), (6, 6), (6, -6))]
    for points in ("pointed at", "drawn"):
        if points == "drawn":
            screen.drag(*corners)
        else:
            screen.click(*corners, corners[0])
        stored = did(lambda found: np.where(found == labels.max() + 1, found, labels), machine + 1)
        assert 120 <= np.count_nonzero(stored == labels.max() + 1) <= 170

    # What was removed is added by a click
    screen.tool("Remove")
    screen.click(middle(labels, four))
    revision += 1
    without = screen.stored(revision)
    screen.tool("Add")
    screen.click(middle(labels, four))
    revision += 1
    again = screen.stored(revision)
    new, cell = again == again[middle(labels, four)], labels == four
    assert np.array_equal(np.where(new, 0, again), without)
    assert (new & cell).sum() > 0.8 * (new | cell).sum()
    screen.tab.keyboard.press("Control+z")
    screen.tab.keyboard.press("Control+z")
    assert np.array_equal(screen.stored(revision + 2), labels)
    screen.tab.keyboard.press("Control+y")
    assert np.array_equal(screen.stored(revision + 3), without)


def test_right_goes_to_the_next_image_and_the_list_says_so(screen, out):
    tab = screen.tab
    tab.get_by_label("Your name").fill("Ann Lee")
    screen.tool("Remove")
    screen.click(middle(screen.labels, 5))
    screen.stored(2)
    tab.get_by_role("button", name="Right, next image").click()
    tab.locator("aside h1").get_by_text("empty.png").wait_for()
    row = corrections.read(out)[IMAGE]
    assert (row.state, row.by, row.corrected_count) == ("checked", "Ann Lee", screen.labels.max() - 1)
    assert tab.get_by_label("Your name").input_value() == "Ann Lee"
    tab.get_by_text("Not checked yet.").wait_for()
    tab.get_by_role("button", name="Leave this image out").click()
    tab.locator("aside h1").get_by_text("hoechst8.png").wait_for()
    assert corrections.read(out)["empty.png"].state == "left out"
    tab.get_by_role("link", name="3 of 3").click()
    tab.locator(".rows .checked").wait_for()
    assert tab.locator(".rows li", has=tab.locator(".checked")).locator(".name").inner_text() == IMAGE
    assert tab.locator(".rows .checked").inner_text() == f"✓ checked, {screen.labels.max()} by the machine"
    assert "left out of teaching" in tab.locator(".rows").inner_text()
    tab.get_by_label("Show").select_option("checked")
    until(lambda: tab.locator(".rows .name").all_inner_texts() == [IMAGE])
    tab.get_by_label("Show").select_option("unchecked")
    until(lambda: tab.locator(".rows .name").all_inner_texts() == ["hoechst8.png"])


def test_the_tools_are_used_by_keys_alone(screen):
    tab, labels = screen.tab, screen.labels
    height, width = labels.shape
    tab.locator(".viewer").focus()
    tab.keyboard.press("r")
    assert tab.get_by_role("button", name="Remove").get_attribute("aria-pressed") == "true"
    for _ in range(12):
        tab.keyboard.press("+")
    target = middle(labels, large(labels)[0])
    zoom = tab.evaluate("1.25 ** 12") * min(
        screen.stage.bounding_box()["width"] / width, screen.stage.bounding_box()["height"] / height
    )
    step = 0.015 * min(screen.stage.bounding_box()["width"], screen.stage.bounding_box()["height"]) / min(zoom, 40)
    for away, keys in (
        (target[1] + 0.5 - width / 2, ("ArrowRight", "ArrowLeft")),
        (target[0] + 0.5 - height / 2, ("ArrowDown", "ArrowUp")),
    ):
        steps = round(abs(away) / step)
        for _ in range(steps // 10):
            tab.keyboard.press(keys[0] if away > 0 else keys[1])
        for _ in range(steps % 10):
            tab.keyboard.press(f"Shift+{keys[0] if away > 0 else keys[1]}")
    tab.keyboard.press(" ")
    assert np.array_equal(screen.stored(2), np.where(labels == large(labels)[0], 0, labels))
    tab.keyboard.press("Control+z")
    assert np.array_equal(screen.stored(3), labels)
    tab.keyboard.press("v")
    tab.locator("#cell").fill("7")
    tab.keyboard.press("Tab")
    tab.locator(".viewer").focus()
    tab.keyboard.press("Delete")
    assert np.array_equal(screen.stored(4), np.where(labels == 7, 0, labels))
    tab.keyboard.press("Enter")
    tab.locator("aside h1").get_by_text("empty.png").wait_for()


def test_a_second_window_is_told_and_shows_the_newest(show):
    mine, theirs = show(), show()
    before = drawn(theirs.tab)
    mine.tool("Remove")
    mine.click(middle(mine.labels, large(mine.labels)[0]))
    mine.stored(2)
    theirs.tab.get_by_text("This image was corrected elsewhere").wait_for()
    until(lambda: drawn(theirs.tab) != before)
    until(lambda: theirs.count() == mine.count())
    theirs.tool("Remove")
    theirs.click(middle(mine.labels, large(mine.labels)[1]))
    expected = np.where(np.isin(mine.labels, large(mine.labels)[:2]), 0, mine.labels)
    assert np.array_equal(theirs.stored(3), expected)


def test_an_image_is_not_checked_by_a_key_that_came_before_its_edit_was_refused(screen):
    one, *_ = large(screen.labels)
    screen.tool("Add")
    screen.click(middle(screen.labels, one))
    screen.tab.keyboard.press("Enter")
    screen.tab.get_by_text("There is a cell already").wait_for()
    screen.tab.locator(".correct:not([aria-busy])").wait_for()
    assert f"image={IMAGE}" in screen.tab.url
    assert screen.journal.lines == ()


def test_who_goes_on_at_once_leaves_nothing_undone(screen, out):
    cells = large(screen.labels)[:3]
    screen.tool("Remove")
    screen.click(*(middle(screen.labels, cell) for cell in cells))  # the first takes a second or two
    screen.tab.keyboard.press("n")
    until(lambda: f"image={IMAGE}" not in screen.tab.url)
    until(lambda: screen.journal.revision == 4)
    expected = np.where(np.isin(screen.labels, cells), 0, screen.labels)
    assert np.array_equal(corrected_labels.current(out, STEM), expected)


def test_what_was_asked_for_before_a_conflict_was_known_is_not_done_to_the_newest_labels(server, screen):
    one, two, *_ = large(screen.labels)
    screen.tool("Remove")
    screen.click(middle(screen.labels, one))
    screen.stored(2)

    def late(route):
        at = [int(number) for number in middle(screen.labels, two)]
        body = json.dumps({"what": "remove", "at": at, "revision": 2}).encode()
        assert server.ask(f"/api/correct?image={IMAGE}", "POST", body, Origin=server.base).status == 200
        route.continue_()

    screen.tab.route("**/api/correct*", late, times=1)
    undo = screen.tab.locator(".toolbar").get_by_role("button", name="Undo")
    undo.evaluate("(button) => { button.click(); button.click(); }")  # at once: the second before the first is answered
    screen.tab.get_by_text("corrected elsewhere").wait_for()
    screen.tab.locator(".correct:not([aria-busy])").wait_for()
    assert [line["what"] for line in screen.journal.lines] == ["begin", "remove", "remove"]


def test_after_a_kill_of_the_editor_the_page_goes_on(server, screen):
    screen.tool("Remove")
    screen.click(middle(screen.labels, large(screen.labels)[0]))
    screen.stored(2)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    for pid in map(int, children):
        if b"editor" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any("editor" in command for command in server.helpers()))
    screen.click(middle(screen.labels, large(screen.labels)[1]))
    expected = np.where(np.isin(screen.labels, large(screen.labels)[:2]), 0, screen.labels)
    assert np.array_equal(screen.stored(3), expected)


def test_what_cannot_be_corrected_says_why(page, browse):
    tab = browse(f"{page.base}/#/image?image=gone.png")
    tab.get_by_text("It cannot be corrected without the original, which is not there.").wait_for()
    assert tab.locator(".toolbar button:enabled").count() == 0
    assert tab.get_by_role("button", name="Right, next image").is_disabled()
    tab.keyboard.press("r")
    assert tab.locator(".viewer").get_attribute("data-tool") == "select"


def test_a_correction_of_a_former_image_is_kept_and_another_begun(copy, out, device, show):
    screen = show()
    screen.tool("Remove")
    screen.click(middle(screen.labels, large(screen.labels)[0]))
    screen.stored(2)
    screen.tab.close()
    shutil.copy(copy / "hoechst8.png", copy / IMAGE)
    assert device("watch", copy, "--once").returncode == 0
    screen = show()
    screen.tab.get_by_text("The image was replaced after it was corrected").wait_for()
    assert screen.tab.locator(".toolbar button:enabled").count() == 0
    screen.tab.get_by_role("button", name="Begin a new correction").click()
    became(screen.tab, "document.querySelectorAll('.toolbar button:enabled').length === 8")
    screen.tool("Remove")
    screen.click(middle(screen.labels, large(screen.labels)[0]))
    assert np.array_equal(screen.stored(2), np.where(screen.labels == large(screen.labels)[0], 0, screen.labels))

    assert (out / "corrections" / f"{STEM}.former-1.labels.tif").is_file()


def test_an_image_that_was_counted_again_keeps_its_correction_and_shows_what_does_not_count(copy, out, device, show):
    screen = show()
    screen.tab.get_by_role("button", name="Right, next image").click()
    screen.tab.locator("aside h1").get_by_text("empty.png").wait_for()
    screen.tab.close()
    grey = (
        "new Uint32Array(document.querySelector('.overlay').getContext('2d').getImageData(0, 0, 900, 700).data.buffer)"
    )
    grey = f"{grey}.includes(0xffc8c8c8)"
    assert device("watch", copy, "--once", "--redo", "--no-overlay", "--min-diameter", "30px").returncode == 0
    small = [cell for cell in large(screen.labels) if np.sqrt(np.sum(screen.labels == cell) * 4 / np.pi) < 30]
    assert small
    screen = show()
    screen.tab.get_by_text("The machine has counted it again since; the correction stays.").wait_for()
    became(screen.tab, grey)
    assert screen.count() > tifffile.imread(out / f"{STEM}.labels.tif").max()


def test_fingers_draw_with_one_and_move_with_two(show):
    screen = show(width=360, height=740, has_touch=True)
    tab = screen.tab
    session = tab.context.new_cdp_session(tab)

    def touch(kind, *points):
        places = [dict(zip(("x", "y"), screen.place(point), strict=True), id=n) for n, point in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    screen.tool("Brush")
    tab.evaluate("document.querySelector('main').scrollTop = 0")
    before = drawn(tab)
    touch("touchStart", (100, 100))
    touch("touchStart", (100, 100), (200, 200))
    touch("touchMove", (80, 80), (220, 220))
    touch("touchEnd")
    until(lambda: drawn(tab) != before)
    tab.get_by_role("button", name="Show all of the image").click()
    assert screen.journal.revision == 0
    ground = ground_of(screen.labels)
    touch("touchStart", ground)
    touch("touchMove", (ground[0], ground[1] + 9))
    touch("touchEnd")
    stored = screen.stored(2)
    assert stored[ground] == screen.labels.max() + 1
    assert json.dumps(screen.journal.lines[1]["given"]["cell"]) == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_tools_fit_and_everybody_can_use_them(show, width, scheme):
    screen = show(width=width, scheme=scheme)
    screen.tool("Brush")
    screen.click(middle(screen.labels, large(screen.labels)[0]))
    screen.tool("Remove")
    screen.tab.evaluate("document.querySelector('main').scrollTop = 0")
    screen.click((1, 1)) if not screen.labels[1, 1] else None
    screen.tab.locator(".message.trouble").wait_for()
    assert screen.tab.evaluate("document.documentElement.scrollWidth") <= width
    screen.tab.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text())
    found = screen.tab.evaluate("axe.run().then(result => result.violations)")
    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious] == []
