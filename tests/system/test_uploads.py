"""Images that a browser sends: counted as those of the results are, kept apart, and removed."""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import subprocess

import cv2
import numpy as np
import pytest
from serving import HOSTILE, served

from cellseg_device.model import card as cards
from cellseg_device.results import places
from cellseg_device.web import upload_names


@pytest.fixture(scope="module")
def results(device, samples, tmp_path_factory):
    """A sample, counted with a setting of its own."""
    folder = tmp_path_factory.mktemp("uploads")
    shutil.copy(samples / "hoechst8.png", folder)
    assert device("watch", folder, "--once", "--min-diameter", "20px").returncode == 0
    return folder


@pytest.fixture
def folder(results, tmp_path):
    shutil.copytree(results, tmp_path / "captures")
    return tmp_path / "captures"


@pytest.fixture
def page(folder, environment):
    with served(environment, folder) as server:
        yield server


def post(page, path, body=b""):
    return page.ask(path, "POST", body, Origin=page.base)


def upload(page, data, name="mine.png"):
    answer = post(page, f"/api/upload?name={name}", data)
    assert answer.status == 200, answer.text
    return answer.json["image"]


def rows(page):
    return page.ask("/api/uploads").json["rows"]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".cellseg" not in path.name)


def test_no_watch_looks_there():
    assert upload_names.FOLDER_NAME in places.OWN_FOLDERS


def test_an_image_is_counted_as_those_of_the_results_are_and_kept_apart(page, folder, samples, device, table):
    out = folder / "cellseg-results"
    before = (out / "counts.csv").read_bytes()
    assert page.ask("/api/uploads").json == {"number": 0, "rows": []}
    image = upload(page, (samples / "hoechst8.png").read_bytes())
    (row,) = rows(page)
    (machine,) = table(out / "counts.csv")
    assert (row["image"], row["name"], row["count"]) == (image, "mine.png", int(machine["count"]))
    assert image.startswith("upload-")
    assert image.endswith("-1.png")
    (own,) = table(out / "uploads" / "counts.csv")
    assert (own["image"], own["count"], own["model"]) == (image, machine["count"], machine["model"])
    facts = page.ask(f"/uploads/api/image?image={image}").json
    assert facts["counts"]["count"] == row["count"]
    for path, kind in (("picture", "image/jpeg"), ("labels", "image/png"), ("thumbnail", "image/jpeg")):
        answer = page.ask(f"/uploads/{path}?image={image}")
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert len(page.ask(f"/uploads/api/cells?image={image}").text.splitlines()) == row["count"] + 1
    labels = page.ask(f"/uploads/download/labels.tif?image={image}")
    assert labels.body == (out / "uploads" / f"{image[:-4]}.labels.tif").read_bytes()
    # The results themselves are as they were, and a watch finds nothing new
    assert (out / "counts.csv").read_bytes() == before
    assert page.ask("/api/images").json["number"] == 1
    assert page.ask(f"/api/image?image={image}").status == 404
    device("watch", folder, "--once", "--min-diameter", "20px", "--recursive")
    assert (out / "counts.csv").read_bytes() == before
    assert device("ledger", "verify", out / "uploads").returncode == 0
    assert device("ledger", "verify", out).returncode == 0


def test_one_is_removed_with_all_that_was_made_of_it(page, folder, samples, table, device, environment):
    uploads = folder / "cellseg-results" / "uploads"
    data = (samples / "hoechst8.png").read_bytes()
    first, second = upload(page, data, "first.png"), upload(page, data, "second.png")
    assert first != second
    assert [row["name"] for row in rows(page)] == ["second.png", "first.png"]
    assert post(page, f"/api/uploads/remove?image={first}").json == {"image": first}
    assert [row["name"] for row in rows(page)] == ["second.png"]
    assert not [name for name in files_in(uploads) if first[:-4] in name]
    (own,) = table(uploads / "counts.csv")
    assert own["image"] == second
    assert post(page, f"/api/uploads/remove?image={first}").status == 422
    assert post(page, "/api/uploads/remove?image=../hoechst8.png").status == 422
    assert page.ask(f"/api/uploads/remove?image={second}", "POST", b"").status == 403
    assert (folder / "hoechst8.png").exists()


def test_its_name_is_a_text_and_leads_nowhere(page, folder, samples):
    data = (samples / "hoechst8.png").read_bytes()
    for name, shown in (
        ("..%2F..%2Fetc%2Fpasswd.png", "../../etc/passwd.png"),
        ("%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.png", HOSTILE),
        ("%3D1%2B1%0A.tif", "=1+1.tif"),
        ("", "without a name"),
    ):
        image = upload(page, data, name)
        assert rows(page)[0]["name"] == shown
        assert image.startswith("upload-")
    names = (folder / "cellseg-results" / "uploads" / "names.csv").read_text()
    assert ",'=1+1.tif\n" in names  # no formula


def test_what_cannot_be_counted_is_refused_in_words_and_leaves_nothing(page, folder):
    uploads = folder / "cellseg-results" / "uploads"
    _, black = cv2.imencode(".png", np.zeros((64, 64), np.uint8))
    damaged = black.tobytes()[:60]
    for data, words in ((b"no image", "This file is not "), (damaged, "This file is "), (b"", "The file is empty.")):
        answer = post(page, "/api/upload?name=x.png", data)
        assert answer.status in (400, 422)
        assert words in answer.text
        assert "\n" not in answer.text
    assert rows(page) == []
    assert not [name for name in files_in(uploads) if "upload-" in name]
    with sqlite3.connect(uploads / "cellseg.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (0,)


def test_nothing_is_taken_from_elsewhere_or_beyond_a_size(page, folder, tmp_path):
    assert page.ask("/api/upload?name=x", "POST", b"x", Origin="http://evil.example").status == 403
    answer = page.ask("/api/upload?name=x", "POST", Origin=page.base, Content_Length=str((512 << 20) + 1))
    assert (answer.status, answer.text) == (413, "More than 512 MB is not taken.")
    assert page.ask("/api/upload").status == 405
    (tmp_path / "elsewhere").mkdir()
    (folder / "cellseg-results" / "uploads").symlink_to(tmp_path / "elsewhere")
    answer = post(page, "/api/upload?name=x.png", b"x")
    assert (answer.status, answer.text) == (503, "uploads is a link, which may lead anywhere: remove it.")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_a_killed_counter_left_goes_and_what_it_counted_stays(folder, samples, environment):
    uploads = folder / "cellseg-results" / "uploads"
    data = (samples / "hoechst8.png").read_bytes()
    with served(environment, folder) as server:
        image = upload(server, data)
        server.process.kill()
    shutil.copy(samples / "dapi16.png", uploads / "images" / "upload-20260101-000000-1.png")
    left = uploads / "images" / ".cellseg-0123456789abcdef.tmp"
    left.write_bytes(data)
    os.utime(left, (0, 0))
    with served(environment, folder) as server:
        again = upload(server, data, "again.png")
        assert [row["image"] for row in rows(server)] == sorted([image, again], reverse=True)
    assert files_in(uploads / "images") == sorted([image, again])
    assert not left.exists()


def test_the_model_in_use_counts_it(page, model_path, samples):
    data = model_path.read_bytes()
    card = cards.read_from(data)
    data = cards.attach(data, dataclasses.replace(card, name="mine", known_answer=None))
    sha256 = post(page, "/api/models", data).json["model"]["sha256"]
    assert post(page, f"/api/use?model={sha256}").status == 200
    image = upload(page, (samples / "dapi16.png").read_bytes())
    facts = page.ask(f"/uploads/api/image?image={image}").json
    assert facts["model"] == "mine"
    assert facts["counts"]["count"] > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: only root makes a small disk")
@pytest.mark.parametrize(("size", "words"), [("50m", "There is no room on the disk for this image"), ("101m", "")])
def test_a_full_disk_is_told_and_leaves_nothing(folder, samples, environment, size, words):
    disk = folder / "cellseg-results" / "uploads"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=False).returncode:
        pytest.skip("not applicable: this system mounts nothing")
    data = (samples / "hoechst8.png").read_bytes()
    try:
        with served(environment, folder) as server:
            if not words:  # it is full only once something was counted
                upload(server, data)
                with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
            before = [name for name in files_in(disk) if "upload-" in name]
            answer = post(server, "/api/upload?name=x.png", data)
            assert answer.status == 507
            assert "There is no room on the disk for this image: make room, or remove uploads." in answer.text
            assert [name for name in files_in(disk) if "upload-" in name] == before
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
