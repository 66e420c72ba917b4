"""What the page offers to teach a model: what to correct, models to upload, to try, to use and to take back."""

import asyncio
import dataclasses
import json
import resource
import shutil
import socket
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import tifffile
from serving import served, until
from starlette.exceptions import HTTPException

from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use
from cellseg_device.results import correction_file
from cellseg_device.web.receiving import steady


def made(model_path, name, **fields):
    data = model_path.read_bytes()
    card = cards.read_from(data)
    return cards.attach(data, dataclasses.replace(card, name=name, **fields))


@pytest.fixture(scope="module")
def results(device, samples, tmp_path_factory):
    """Two samples, counted, one of them checked after two of its cells were removed."""
    folder = tmp_path_factory.mktemp("teach")
    for name in ("hoechst8.png", "dapi16.png"):
        shutil.copy(samples / name, folder)
    (folder / "broken.png").write_bytes(b"no image")
    device("watch", folder, "--once")
    out = folder / "cellseg-results"
    labels = tifffile.imread(out / "hoechst8.labels.tif")
    tifffile.imwrite(folder / "hoechst8.labels.tif", np.where(labels < 3, 0, labels))
    assert device("recount", out, folder / "hoechst8.labels.tif").returncode == 0
    (folder / "hoechst8.labels.tif").unlink()
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


def upload(page, data):
    answer = post(page, "/api/models", data)
    assert answer.status == 200, answer.text
    return answer.json["model"]["sha256"]


def test_it_says_what_is_checked_and_which_models_there_are(page):
    facts = page.ask("/api/teach").json
    assert (facts["checked"], facts["changed"], facts["kind"], facts["others"]) == (1, 1, "nuclei", {})
    assert (facts["in_use"], facts["before"], facts["kept"]) == (None, None, [])


def test_now_has_the_corrected_counts_and_says_how_many(page, folder):
    now, out = page.ask("/api/now").json, folder / "cellseg-results"
    machine = {name: int(tifffile.imread(out / f"{name}.labels.tif").max()) for name in ("hoechst8", "dapi16")}
    assert (now["cells"], now["checked"]) == (sum(machine.values()) - 2, 1)
    counts = {image: count for image, _, count, _ in now["counts"]}
    assert counts == {"hoechst8.png": machine["hoechst8"] - 2, "dapi16.png": machine["dapi16"]}


def test_it_suggests_unchecked_images_and_shows_them(page):
    (part,) = page.ask("/api/suggested").json["parts"]
    assert (part["image"], part["is_random"]) == ("dapi16.png", False)
    row, column, height, width = part["crop"]
    assert (height, width) == (256, 256)
    answer = page.ask(f"/part?image=dapi16.png&row={row}&column={column}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), -1).shape == (256, 256, 3)
    assert page.ask("/part?image=dapi16.png&row=x&column=0").status == 400
    assert page.ask("/part?image=nobody.png&row=0&column=0").status == 422


def test_the_corrections_can_be_had(page, tmp_path):
    answer = page.ask("/download/corrections.zip")
    assert answer.status == 200
    (tmp_path / "corrections.zip").write_bytes(answer.body)
    (item,) = correction_file.read(tmp_path / "corrections.zip").items
    assert item.source == "hoechst8.png"


def test_a_model_is_uploaded_tried_used_and_taken_back(page, folder, model_path, device, table):
    out = folder / "cellseg-results"
    separation = dataclasses.replace(cards.of_file(model_path).separation, min_area_px=300)
    mine = made(model_path, "mine", separation=separation, known_answer=None)
    sha256 = upload(page, mine)
    assert not in_use.path_in(out).exists()
    images = post(page, f"/api/try?model={sha256}").json["images"]
    assert images == ["hoechst8.png", "dapi16.png"]
    answer = post(page, f"/api/try?model={sha256}&image=hoechst8.png")
    found = json.loads(unquote(answer.headers["x-cellseg-tried"]))
    machine = int(tifffile.imread(out / "hoechst8.labels.tif").max())
    assert (found["before"], found["corrected"]) == (machine, machine - 2)
    assert found["after"] != machine
    assert found["ap50_before"] == pytest.approx((machine - 2) / machine, abs=0.001)
    assert 0 <= found["ap50_after"] <= 1
    assert cv2.imdecode(np.frombuffer(answer.body, np.uint8), -1).ndim == 3
    facts = post(page, f"/api/use?model={sha256}").json
    assert facts["in_use"]["name"] == "mine"
    shutil.copy(folder / "hoechst8.png", folder / "new.png")
    device("watch", folder, "--once")
    row = next(row for row in table(out / "counts.csv") if row["image"] == "new.png")
    assert (row["model"], int(row["count"])) == ("mine", found["after"])
    facts = post(page, "/api/back").json
    assert (facts["in_use"], facts["before"]["name"]) == (None, "mine")
    assert post(page, "/api/back").json["in_use"]["name"] == "mine"


def test_what_is_no_model_or_fails_its_test_is_refused_and_leaves_nothing(page, folder, model_path):
    wrong = made(model_path, "wrong", known_answer=cards.KnownAnswer("0" * 64, 7))
    damaged = bytearray(model_path.read_bytes())
    damaged[4:8] = b"XXXX"
    for body, words in (
        (b"no model", "not a .tflite model"),
        (bytes(damaged), "not a .tflite model"),
        (wrong, "The model does not answer as its card says (the self-test)"),
        (b"", "The file is empty."),
    ):
        answer = post(page, "/api/models", body)
        assert answer.status in (400, 422)
        assert words in answer.text
    assert [path.name for path in (folder / "cellseg-results" / "models").iterdir()] == [".cellseg.turn"]


def test_nothing_is_taken_from_elsewhere_or_beyond_a_size(page):
    assert page.ask("/api/models", "POST", b"x", Origin="http://evil.example").status == 403
    assert page.ask("/api/use?model=" + "0" * 64, "POST", b"").status == 403
    assert page.ask("/api/models", "POST", Origin=page.base, Content_Length=str(65 << 20)).status == 413
    assert page.ask("/api/correct", "POST", Origin=page.base, Content_Length=str(2 << 20)).status == 413
    assert post(page, "/api/use?model=../../x").status == 400
    assert post(page, "/api/use?model=" + "0" * 64).status == 422
    assert post(page, "/api/back").status == 422
    assert page.ask("/api/back").status == 405


def test_no_link_leads_an_upload_elsewhere(page, folder, tmp_path, model_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "cellseg-results" / "models").symlink_to(tmp_path / "elsewhere")
    answer = post(page, "/api/models", model_path.read_bytes())
    assert (answer.status, answer.text) == (503, "models is a link, which may lead anywhere: remove it.")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_only_what_is_still_a_correction_of_its_image_is_told_as_checked(page, folder, samples, device):
    shutil.copy(samples / "empty.png", folder / "hoechst8.png")
    device("watch", folder, "--once")
    assert page.ask("/api/now").json["checked"] == 0
    facts = page.ask("/api/teach").json
    assert (facts["checked"], facts["cells"], facts["changed"]) == (0, 0, 0)


def test_an_upload_that_stops_halfway_does_not_keep_others_from_theirs(page, folder):
    with socket.create_connection(("127.0.0.1", page.port)) as sender:
        head = (
            f"POST /api/models HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nOrigin: {page.base}\r\nContent-Length: 9\r\n"
        )
        sender.sendall(f"{head}\r\nhalf".encode())
        until(lambda: list((folder / "cellseg-results" / "models").glob(".cellseg-*")))
        busy = post(page, "/api/models", b"x")
        assert (busy.status, busy.text) == (503, "Another model is being uploaded: wait until it is done.")
    until(lambda: post(page, "/api/models", b"x").status == 422)


def test_an_upload_that_goes_silent_is_given_up():
    async def half():
        yield b"half"
        await asyncio.sleep(60)

    async def kept():
        return [part async for part in steady(half(), 0.05)]

    with pytest.raises(HTTPException, match="The file stopped coming: send it again"):
        asyncio.run(kept())


def test_a_disk_that_refuses_a_model_is_told_as_such(environment, folder, model_path):
    with served(environment, folder) as page:
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        answer = post(page, "/api/models", model_path.read_bytes())
        assert answer.status == 503
        assert answer.text == "The model cannot be kept (File too large): make room or fix the disk."


def test_a_damaged_model_in_use_is_told(page, folder, model_path):
    for name in ("first", "second"):
        post(page, f"/api/use?model={upload(page, made(model_path, name))}")
    assert not page.ask("/api/teach").json["is_damaged"]
    in_use.path_in(folder / "cellseg-results").write_bytes(b"damaged")
    facts = page.ask("/api/teach").json
    assert (facts["is_damaged"], facts["in_use"], facts["before"]["name"]) == (True, None, "first")
    facts = post(page, "/api/back").json
    assert (facts["is_damaged"], facts["in_use"]["name"]) == (False, "first")


def test_a_damaged_table_of_corrections_is_told_where_the_machines_counts_are_shown(page, folder):
    table = folder / "cellseg-results" / "corrections" / "corrections.csv"
    assert "corrections" not in [finding["name"] for finding in page.ask("/api/now").json["computer"]]
    table.write_bytes(table.read_bytes() + b"no correction\n")
    now = page.ask("/api/now").json
    finding = next(finding for finding in now["computer"] if finding["name"] == "corrections")
    assert now["checked"] == 0
    assert finding["text"] == "the machine's counts are shown, since the corrected ones cannot be read"
    assert finding["fix"].endswith("corrections.csv: line 3 is not of a correction: restore it, or remove that line")
