"""Correcting through `cellseg-device serve`: edits as the page sends them, beside kills, a full disk and others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote, unquote

import cv2
import numpy as np
import pytest
import tifffile
from serving import HOSTILE, served, until

from cellseg_device.results import audit, corrected_labels, corrections
from cellseg_device.web.correcting import MOST_EDIT_BYTES

pytestmark = pytest.mark.xdist_group("page")


@pytest.fixture
def copy(counted, tmp_path):
    """A folder of counted images of its own."""
    shutil.copytree(counted, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "cellseg-results" / "corrections", ignore_errors=True)
    return tmp_path / "copy"


@pytest.fixture
def out(copy):
    return copy / "cellseg-results"


def machine_files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and not p.name.endswith(("-wal", "-shm"))}


class Asked:
    """What an edit came to."""

    def __init__(self, answer) -> None:
        self.status, self.text, self.body = answer.status, answer.body.decode("latin-1"), answer.body
        self.facts = json.loads(unquote(answer.headers.get("x-cellseg-correction", "{}")))

    def put_into(self, labels: np.ndarray) -> None:
        """Put the labels of the answer into a label image."""
        raster = cv2.imdecode(np.frombuffer(self.body, np.uint8), cv2.IMREAD_UNCHANGED).astype(np.uint16)
        top, left, height, width = self.facts["box"]
        labels[top : top + height, left : left + width] = raster[..., 2] + 256 * raster[..., 1]


def correct(server, image: str = "hoechst8.png", **edit) -> Asked:
    body = json.dumps({"revision": 0, **edit}).encode()
    return Asked(server.ask(f"/api/correct?image={quote(image)}", "POST", body, Origin=server.base))


def pixel_of(labels: np.ndarray, cell: int) -> list[int]:
    rows, cols = np.nonzero(labels == cell)
    return [int(rows[len(rows) // 2]), int(cols[len(rows) // 2])]


def test_every_edit_is_answered_with_its_part_and_is_in_the_stored_labels(copy, out, environment):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    before, expected = machine_files(out), labels.copy()
    inside = [n for n in range(1, int(labels.max()) + 1) if np.count_nonzero(labels == n) > 150]
    with served(environment, copy) as server:
        revision = 0

        def ask(**edit):
            nonlocal revision
            asked = correct(server, revision=revision, by="Ann", **edit)
            assert asked.status == 200, asked.text
            revision = asked.facts["revision"]
            if asked.facts["box"]:
                asked.put_into(shown)
            assert np.array_equal(shown, corrected_labels.current(out, "hoechst8"))
            return asked

        shown = labels.copy()
        a, b, c, d, e = inside[:5]
        spot = pixel_of(labels, a)
        ask(what="remove", at=spot)
        expected[labels == a] = 0
        assert np.array_equal(shown, expected)
        ask(what="add", at=spot)
        new = shown == shown[tuple(spot)]
        assert shown[tuple(spot)] == labels.max() + 1
        assert np.count_nonzero(new & (labels == a)) > 0.8 * np.count_nonzero(new | (labels == a))
        ask(what="undo")
        joined = ask(what="join", first=pixel_of(labels, b), second=pixel_of(labels, c))
        assert "do not touch" in joined.facts["note"]
        expected[labels == c] = b
        assert np.array_equal(shown, expected)
        rows, cols = np.nonzero(labels == d)
        middle = int(np.median(cols))
        ask(what="cut", line=[[int(rows.min()) - 3, middle], [int(rows.max()) + 3, middle]])
        halves = set(np.unique(shown[labels == d]))
        assert len(halves) == 2
        assert len(set(np.unique(shown[(labels == d) & (np.indices(labels.shape)[1] < middle)]))) == 1
        expected = shown.copy()
        rows, cols = np.nonzero(labels == e)
        ends = [[int(rows[i]), int(cols[i])] for i in (np.argmin(cols), np.argmax(cols))]
        ask(what="divide", first=ends[0], second=ends[1])
        assert {*np.unique(shown[labels == e])} == {shown[tuple(ends[0])], shown[tuple(ends[1])]}
        assert np.array_equal(shown > 0, expected > 0)
        ask(what="undo")
        assert np.array_equal(shown, expected)
        ask(what="brush", points=[pixel_of(labels, inside[5])], radius=14, cell=inside[5])
        assert np.count_nonzero(shown == inside[5]) > np.count_nonzero(labels == inside[5])
        rows, cols = np.indices(labels.shape)  # the region is a circle
        ground = (shown == 0) & (np.hypot(rows - 180, cols - 240) < 170)
        free = np.argwhere(cv2.erode(ground.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0)
        row, col = (int(n) for n in free[len(free) // 2])
        painted = ask(what="brush", points=[[row, col], [row, col + 4]], radius=3, cell=0)
        assert painted.facts["corrected"] >= len(set(np.unique(shown))) - 1 - painted.facts["left_out"]
        ask(what="erase", points=[[row, col]], radius=60, cell=int(shown[row, col]))
        assert shown[row, col] == 0
        ask(what="outline", corners=[[row - 5, col - 5], [row - 5, col + 5], [row + 5, col + 5], [row + 5, col - 5]])
        assert np.count_nonzero(shown == shown[row, col]) == 100
        while ask(what="undo").facts["can_undo"]:
            pass
        assert np.array_equal(shown, labels)
        while ask(what="redo").facts["can_redo"]:
            pass
        final = shown.copy()
        checked = ask(what="checked")
        assert (checked.facts["state"], checked.facts["box"]) == ("checked", None)
        raster = server.ask("/corrected?image=hoechst8.png")
        checked.facts["box"], checked.body = [0, 0, *labels.shape], raster.body
        drawn = np.zeros_like(labels)
        checked.put_into(drawn)
        assert np.array_equal(drawn, final)
        facts = server.ask("/api/image?image=hoechst8.png").json["correction"]
        assert (facts["state"], facts["standing"], facts["by"]) == ("checked", "as begun", "Ann")
        lines = server.ask("/corrected-cells?image=hoechst8.png").text.splitlines()
        assert len(lines) - 1 == facts["corrected"] == checked.facts["corrected"]
        row_of = {row["image"]: row for row in server.ask("/api/images?show=checked").json["rows"]}
        assert {name: row["corrected"] for name, row in row_of.items()} == {"hoechst8.png": facts["corrected"]}
        assert "hoechst8.png" not in [r["image"] for r in server.ask("/api/images?show=unchecked").json["rows"]]
    assert np.array_equal(tifffile.imread(out / "corrections" / "hoechst8.labels.tif"), final)
    assert machine_files(out) == before
    assert audit.verify(out, lambda _: None).problems == ()


def test_a_second_browser_gets_a_conflict_and_loses_nothing(copy, out, environment):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    with served(environment, copy) as server, served(environment, copy) as other:
        assert correct(server, what="remove", at=pixel_of(labels, 3)).status == 200
        for place in (server, other):
            late = correct(place, what="remove", at=pixel_of(labels, 4))
            assert late.status == 409
            assert late.text == "This image was corrected elsewhere meanwhile: load it again."
        assert correct(other, what="remove", at=pixel_of(labels, 4), revision=2).status == 200
        assert correct(server, what="undo", revision=2).status == 409
        assert correct(server, what="undo", revision=3).status == 200
    assert np.array_equal(corrected_labels.current(out, "hoechst8"), np.where(labels == 3, 0, labels))


def test_a_kill_between_any_two_edits_loses_nothing_that_was_acknowledged(copy, out, environment):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    expected, revision = labels.copy(), 0
    for cell in (2, 3, 4):
        with served(environment, copy) as server:
            asked = correct(server, what="remove", at=pixel_of(labels, cell), revision=revision)
            assert asked.status == 200, asked.text
            revision = asked.facts["revision"]
            expected[labels == cell] = 0
            children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
            for pid in map(int, children):
                if b"editor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
            if cell == 3:  # the editor alone: the same server goes on with another one
                asked = correct(server, what="undo", revision=revision)
                assert asked.status in (200, 409)
                if asked.status == 409:
                    asked = correct(server, what="undo", revision=revision)
                revision = asked.facts["revision"]
                expected[labels == cell] = cell
            server.process.kill()
            server.process.wait()
        assert np.array_equal(corrected_labels.current(out, "hoechst8"), expected)


def test_a_server_that_stops_writes_the_labels_first(copy, out, environment):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    with served(environment, copy) as server:
        assert correct(server, what="remove", at=pixel_of(labels, 2)).status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    expected = np.where(labels == 2, 0, labels)
    assert np.array_equal(tifffile.imread(out / "corrections" / "hoechst8.labels.tif"), expected)


def test_labels_are_written_when_nothing_was_asked_for_a_while(copy, out, environment):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    with served(environment, copy) as server:
        assert correct(server, what="remove", at=pixel_of(labels, 2)).status == 200
        path = out / "corrections" / "hoechst8.labels.tif"
        until(lambda: np.array_equal(tifffile.imread(path), np.where(labels == 2, 0, labels)))
        until(lambda: corrections.read(out)["hoechst8.png"].revision == 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: only root makes a small disk")
def test_a_full_disk_is_told_and_leaves_nothing_half(copy, out, environment, tmp_path):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    disk = out / "corrections"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=False).returncode:
        pytest.skip("not applicable: this system mounts nothing")
    try:
        with served(environment, copy) as server:
            first = correct(server, what="remove", at=pixel_of(labels, 2))
            assert first.status == 200, first.text
            filler = disk / "filler"
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            journal = (disk / "hoechst8.edits.jsonl").read_bytes()
            status, revision, cell = 200, first.facts["revision"], 2
            while status == 200 and cell < 60:  # what is left of the journal's last block
                cell += 1
                journal = (disk / "hoechst8.edits.jsonl").read_bytes()
                asked = correct(server, what="remove", at=pixel_of(labels, cell), revision=revision)
                status, revision = asked.status, asked.facts.get("revision", revision)
            assert status == 503
            assert "Nothing was changed, since the disk refuses (No space left on device)" in asked.text
            assert (disk / "hoechst8.edits.jsonl").read_bytes() == journal
            expected = np.where((labels >= 2) & (labels < cell), 0, labels)
            assert np.array_equal(corrected_labels.current(out, "hoechst8"), expected)
            assert correct(server, what="checked", revision=revision).status == 503
            filler.unlink()
            assert correct(server, what="remove", at=pixel_of(labels, cell), revision=revision).status == 200
            assert not [path for path in disk.iterdir() if path.name.endswith(".tmp")]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_images_without_their_original_and_unknown_ones_are_not_corrected(copy, environment):
    with served(environment, copy) as server:
        gone = correct(server, "gone.png", what="remove", at=[1, 1])
        assert gone.status == 422
        assert gone.text.startswith("Is not there")
        assert correct(server, "broken.png", what="remove", at=[1, 1]).status == 422
        assert correct(server, "../x.png", what="remove", at=[1, 1]).status == 422
        assert not (copy / "cellseg-results" / "corrections").exists()
        assert correct(server, HOSTILE, what="checked").status == 200


@pytest.mark.parametrize(
    "edit",
    [
        {"what": "remove"},
        {"what": "remove", "at": [1]},
        {"what": "remove", "at": ["1", 2]},
        {"what": "remove", "at": [float("nan"), 2]},
        {"what": "remove", "at": [1, 2], "revision": True},
        {"what": "remove", "at": [1, 2], "revision": "0"},
        {"what": "remove", "at": [1, 2], "by": 5},
        {"what": "brush", "points": [[1, 2]], "radius": 1e9, "cell": 0},
        {"what": "brush", "points": [[1, 2]], "radius": 0, "cell": 0},
        {"what": "brush", "points": [[1, 2]], "radius": 3, "cell": 70_000},
        {"what": "cut", "line": []},
        {"what": "outline", "corners": [[1, 2]] * 5001},
        {"what": ["remove"]},
        {"what": "format", "at": [1, 2]},
    ],
)
def test_what_is_no_edit_is_refused(page, edit):
    asked = correct(page, **edit)
    assert (asked.status, asked.text) == (422, "That is not an edit: load the page again.")


def test_only_a_small_post_of_the_page_itself_edits(page):
    path = "/api/correct?image=hoechst8.png"
    assert page.ask(path).status == 405
    assert page.ask(path, "POST", b"{}", Origin="http://evil.example").status == 403
    assert page.ask(path, "POST", b"{}").status == 403
    assert page.ask("/api/correct", "POST", b"{}", Origin=page.base).status == 400
    for body in (b"", b"[]", b"{", b"[" * 100_000):
        assert page.ask(path, "POST", body, Origin=page.base).status == 400
    assert page.ask(path, "POST", Content_Length=str(MOST_EDIT_BYTES + 1), Origin=page.base).status == 413
    assert page.ask(path, "POST", Transfer_Encoding="chunked", Origin=page.base).status == 413


def test_an_image_that_was_replaced_begins_anew_and_the_former_correction_is_kept(copy, out, environment, device):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    with served(environment, copy) as server:
        assert correct(server, what="remove", at=pixel_of(labels, 2)).status == 200
        assert correct(server, what="checked", revision=2).status == 200
        shutil.copy(copy / "blurred.png", copy / "hoechst8.png")
        device("watch", copy, "--once")
        assert server.ask("/api/image?image=hoechst8.png").json["correction"]["standing"] == "stale"
        row = server.ask("/api/images?text=hoechst8").json["rows"][0]
        assert (row["state"], row["corrected"]) == ("stale", None)
        late = correct(server, what="checked", revision=3)
        assert (late.status, "begin that anew" in late.text) == (422, True)
        anew = correct(server, what="begin anew")
        assert (anew.status, anew.facts["revision"]) == (200, 0)
        assert correct(server, what="checked").status == 200
        assert server.ask("/api/image?image=hoechst8.png").json["correction"]["standing"] == "as begun"
    assert (out / "corrections" / "hoechst8.former-1.edits.jsonl").is_file()


def test_a_watch_goes_on_meanwhile(copy, out, environment, watching, samples):
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    with served(environment, copy) as server:
        watch = watching(copy)
        revision, wrong = 0, []

        def edit():
            nonlocal revision
            for cell in range(1, 30):
                asked = correct(server, what="remove", at=pixel_of(labels, cell), revision=revision)
                wrong.extend([asked.text] if asked.status != 200 else [])
                revision = asked.facts.get("revision", revision)

        editing = threading.Thread(target=edit)
        editing.start()
        for number in range(3):
            shutil.copy(samples / "empty.png", copy / f"new-{number}.png")
        watch.until_done("new-0.png", "new-1.png", "new-2.png")
        editing.join()
        assert watch.stop() == 0
        assert wrong == []
        assert "hoechst8" not in watch.stderr
    assert audit.verify(out, lambda _: None).problems == ()
    assert np.array_equal(corrected_labels.current(out, "hoechst8"), np.where(labels < 30, 0, labels))
