"""`cellseg-device serve`: what it answers, to whom, and what it says when it cannot."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
import tifffile
from serving import HOSTILE, served, until

from cellseg_device import web
from cellseg_device.web.security import MOST_BODY_BYTES, MOST_TRIES
from cellseg_device.web.thumbnails import FOLDER_NAME

pytestmark = pytest.mark.xdist_group("page")


@pytest.fixture(scope="module")
def out(counted):
    return counted / "cellseg-results"


def state(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but SQLite's own and the small pictures."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and FOLDER_NAME not in path.parts and not path.name.endswith(("-wal", "-shm"))
    }


# -- the command


def test_it_prints_the_address_and_stops_quietly_on_ctrl_c(counted, environment):
    with served(environment, counted) as server:
        assert server.ask("/").status == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        assert server.process.stdout.read() == ""
        assert server.process.stderr.read() == f"showing {counted}/cellseg-results (Ctrl-C stops)\n"


def test_it_stops_while_browsers_listen_and_its_helpers_stop_with_it(counted, environment):
    with served(environment, counted) as server, socket.create_connection(("127.0.0.1", server.port)) as listener:
        listener.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        until(lambda: b"event: changed" in listener.recv(4096))
        assert server.ask("/picture?image=tissue.png").status == 200
        assert len(server.helpers()) == 1
        helper = int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        until(lambda: not Path(f"/proc/{helper}").exists())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "cells.example"], "is not an address to listen on"),
        (["--listen", "127.0.0.1:99999"], "has a port over 65535"),
        (["--listen", "192.0.2.1:0"], "cannot be listened on"),
        (["--originals", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_what_it_cannot_serve_is_said_in_one_line(device, counted, arguments, said):
    done = device("serve", counted, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_and_a_folder_without_results_are_said(device, counted, page, tmp_path):
    done = device("serve", counted, "--listen", f"127.0.0.1:{page.port}")
    assert done.returncode == 2
    assert "is in use: stop what listens there, or choose another port with --listen" in done.stderr
    done = device("serve", tmp_path)
    assert done.returncode == 2
    assert "holds no results of cellseg-device: name the folder" in done.stderr


def test_without_the_extra_it_says_what_to_install(counted, environment):
    code = "import sys; sys.modules['uvicorn'] = None; from cellseg_device.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(counted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the page needs the package uvicorn: pip install 'cellseg-device[web]'\n"


# -- who gets in


def test_only_this_computers_names_lead_to_it(page):
    port = page.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST"):
        assert page.ask("/", Host=host).status == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "127.0.0.1:x",
        "",
        "[::1",
    ):
        assert page.ask("/api/now", Host=host).status == 400, host


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_another_sites_page_posts_nothing(page, headers, status):
    assert page.ask("/download/results.zip", "POST", b"", **headers).status == status
    assert page.ask("/api/images", "DELETE", Origin=page.base).status == 405


def test_every_answer_has_the_policy(page):
    for path in ("/", "/static/main.js", "/api/now", "/thumbnail?image=tissue.png", "/nowhere", "/download/counts.csv"):
        headers = page.ask(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert not {"unsafe-inline", "unsafe-eval", "*"} & set(headers["content-security-policy"].split())
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_a_page_of_ours_has_nothing_inline_and_asks_nobody_else(page):
    text = page.ask("/").text
    assert "<script>" not in text
    assert "style=" not in text
    assert "http" not in text.replace("http-equiv", "")
    for name in sorted(path.stem for path in (Path(web.__file__).parent / "static").glob("*.js")):
        script = page.ask(f"/static/{name}.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "innerHTML" not in script.text
        assert "https:" not in script.text


def test_too_much_is_refused_before_it_is_read(page):
    long = str(MOST_BODY_BYTES + 1)
    assert page.ask("/download/results.zip", "POST", Content_Length=long, Origin=page.base).status == 413
    assert page.ask("/download/results.zip", "POST", b"x" * (MOST_BODY_BYTES + 1), Origin=page.base).status == 413
    parts = b"".join(b"%x\r\n%s\r\n" % (1 << 16, b"x" * (1 << 16)) for _ in range((MOST_BODY_BYTES >> 16) + 1))
    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        head = f"POST /download/results.zip HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nOrigin: {page.base}\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(parts)
        assert b" 413 " in connection.recv(4096)


@pytest.mark.parametrize(
    "name",
    ["../broken.png", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "tissue.png%00", "cellseg.sqlite", "nowhere.png"],
)
def test_only_names_in_the_ledger_lead_to_files(page, name):
    for path in ("/thumbnail", "/picture", "/labels", "/api/image", "/api/cells"):
        assert page.ask(f"{path}?image={name}").status == 404, path
    for path in (f"/static/{name}", f"/static/..%2f{name}", f"/download/{name}"):
        assert page.ask(path).status in (404, 405), path
    assert page.post("/download/results.zip", images=f'["{name}"]').status == 404


def test_beyond_this_computer_a_token_is_needed_and_then_a_cookie(counted, environment):
    with served(environment, counted, "--listen", "0.0.0.0:0") as server:
        token = server.urls[0].partition("?token=")[2]
        assert len(token) >= 32
        for path in ("/", "/static/main.js", "/api/now", "/thumbnail?image=tissue.png"):
            assert server.ask(path).status == 401
        assert server.ask("/?token=wrong").status == 401
        welcome = server.ask(f"/?token={token}")
        cookie = welcome.headers["set-cookie"]
        assert welcome.status == 200
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert token not in cookie
        assert server.ask("/api/now", Cookie=cookie.partition(";")[0]).status == 200
        assert server.ask("/api/now", Cookie=f"cellseg-{server.port}={token}").status == 401
        own = socket.gethostname().partition(".")[0].lower()
        assert server.ask("/api/now", Host=f"{own}.local", Cookie=cookie.partition(";")[0]).status == 200
        assert server.ask("/api/now", Host="evil.example", Cookie=cookie.partition(";")[0]).status == 400
        assert "this is http" in server.process.stderr.readline()


def test_a_token_is_not_guessed(counted, environment):
    with served(environment, counted, "--listen", "0.0.0.0:0") as server:
        token = server.urls[0].partition("?token=")[2]
        answers = [server.ask(f"/?token={number}").status for number in range(MOST_TRIES + 2)]
        assert answers == [401] * MOST_TRIES + [429] * 2
        assert server.ask(f"/?token={token}").status == 429  # nobody learns that it was right


def test_a_token_file_is_made_for_its_owner_alone_and_kept(counted, environment, device, tmp_path):
    path = tmp_path / "token"
    with served(environment, counted, "--token-file", path) as server:
        first = server.urls[0].partition("?token=")[2]
        cookie = server.ask(f"/?token={first}").headers["set-cookie"]
        assert cookie
        assert server.ask("/api/now").status == 401
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() == first
    with served(environment, counted, "--token-file", path) as server:
        assert server.urls[0].endswith(first)
    path.chmod(0o644)
    done = device("serve", counted, "--token-file", path)
    assert done.returncode == 2
    assert "may be read or changed by others: 'chmod 600" in done.stderr
    path.chmod(0o600)
    path.write_text("short\n")
    assert "holds no token of 16 to 200" in device("serve", counted, "--token-file", path).stderr


def test_a_proxys_name_leads_here_if_it_is_given(counted, environment):
    with served(environment, counted, "--name", "Cells.Example.org") as server:
        assert server.ask("/api/now", Host="cells.example.org").status == 200
        assert server.ask("/api/now", Host="other.example.org").status == 400
        origin = {"Host": "cells.example.org", "Origin": "https://cells.example.org"}
        assert server.ask("/download/results.zip", "POST", b"images=%5B%22tissue.png%22%5D", **origin).status == 200


# -- what is shown


def test_now_has_the_newest_the_failed_and_the_computer(page, out, table):
    now = page.ask("/api/now").json
    rows = table(out / "counts.csv")
    assert (now["done"], now["failed"]) == (len(rows), 1)
    assert now["cells"] == sum(int(row["count"]) for row in rows)
    assert now["flagged"] == sum(bool(row["flags"]) for row in rows) > 0
    assert now["newest"]["image"] == rows[-1]["image"]
    assert [failure["image"] for failure in now["failures"]] == ["broken.png"]
    assert "is not a PNG" in now["failures"][0]["reason"]
    assert [count for _, _, count, _ in now["counts"]] == [int(row["count"]) for row in rows]
    assert "disk" in {finding["name"] for finding in now["computer"]}
    assert now["is_counting"] is False


def listed(page, **query):
    return page.ask("/api/images?" + "&".join(f"{name}={value}" for name, value in query.items())).json


def test_images_are_sorted_filtered_and_given_in_parts(page, out, table):
    rows = table(out / "counts.csv")
    everything = listed(page)
    assert everything["number"] == len(rows) + 1
    names = [row["image"] for row in everything["rows"]]
    assert set(names) == {row["image"] for row in rows} | {"broken.png"}
    assert [row["image"] for row in listed(page, descending=1)["rows"]] == names[::-1]
    parts = [listed(page, first=first, number=2)["rows"] for first in range(0, len(names), 2)]
    assert [row["image"] for part in parts for row in part] == names
    counts = [row["count"] for row in listed(page, order="count", descending=1)["rows"]]
    assert counts[-1] is None
    assert counts[:-1] == sorted((int(row["count"]) for row in rows), reverse=True)
    doubted = [(row["image"], len(row["flags"])) for row in listed(page, order="doubt", descending=1)["rows"]]
    assert doubted[0][0] == "broken.png"
    assert [flags for _, flags in doubted[1:]] == sorted((flags for _, flags in doubted[1:]), reverse=True)
    assert {row["image"] for row in listed(page, show="flagged")["rows"]} == {r["image"] for r in rows if r["flags"]}
    assert [row["image"] for row in listed(page, show="failed")["rows"]] == ["broken.png"]
    assert [row["image"] for row in listed(page, text="ONERROR")["rows"]] == [HOSTILE]
    for query in ("order=size", "show=none", "first=-1", "number=x", f"text={'x' * 300}"):
        assert page.ask(f"/api/images?{query}").status == 400, query


def test_an_image_has_its_neighbours_in_the_list_and_what_it_was_counted_by(page):
    names = [row["image"] for row in listed(page, order="count")["rows"]]
    facts = page.ask(f"/api/image?image={quote(names[2])}&order=count").json
    assert (facts["before"], facts["image"], facts["after"], facts["at"], facts["of"]) == (*names[1:4], 2, len(names))
    assert (facts["frame"], facts["region"], facts["counts"]["pixel_size_um"]) == (["top", "left"], "circle", 0.5)
    assert page.ask("/api/image?image=broken.png").json["counts"] is None
    assert page.ask("/api/cells?image=broken.png").status == 404


def pixels(answer):
    return cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("name", ["tissue.png", "dapi16.png", HOSTILE, "gone.png"])
def test_a_picture_has_its_labels_pixel_for_pixel(page, out, name):
    stem = name.removesuffix(".png")
    truth = tifffile.imread(out / f"{stem}.labels.tif")
    raster = pixels(page.ask(f"/labels?image={quote(name)}"))
    assert np.array_equal(raster[..., 2] + 256 * raster[..., 1].astype(int), truth)
    rows, cols = (np.arange(side) + 0.5 for side in truth.shape)
    height, width = truth.shape
    inside = (rows[:, None] - height / 2) ** 2 + (cols - width / 2) ** 2 <= (min(truth.shape) / 2) ** 2
    assert np.array_equal(raster[..., 0], np.where(inside, 255, 0))
    picture = page.ask(f"/picture?image={quote(name)}")
    assert pixels(picture).shape == (*truth.shape, 3)
    note = picture.headers["x-cellseg-note"]
    assert ("is%20not%20there" in note) == (name == "gone.png")
    assert picture.headers["cache-control"] == ("no-store" if note else "private, max-age=86400")
    assert page.ask(f"/api/cells?image={quote(name)}").body == (out / f"{stem}.cells.csv").read_bytes()


def test_small_pictures_are_kept_but_those_without_an_original(counted, environment, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    kept = tmp_path / "copy" / "cellseg-results" / FOLDER_NAME
    shutil.rmtree(kept, ignore_errors=True)
    with served(environment, tmp_path / "copy") as server:
        first = server.ask("/thumbnail?image=tissue.png")
        assert max(pixels(first).shape) == 320
        assert server.ask("/thumbnail?image=gone.png").status == 200
        (one,) = kept.iterdir()
        assert one.suffix == ".thumbnail"
        (tmp_path / "copy" / "tissue.png").unlink()
        assert server.ask("/thumbnail?image=tissue.png").body == first.body
        one.write_bytes(one.read_bytes()[:-100])  # the power failed: it is drawn again, now without its original
        assert server.ask("/thumbnail?image=tissue.png").body != first.body
        assert server.ask("/thumbnail?image=broken.png").status == 404


def test_it_changes_nothing_and_holds_no_image_code_until_a_picture_is_asked_for(counted, environment, out, tmp_path):
    before = state(out)
    with served(environment, counted) as server:
        for path in ("/", "/api/now", "/api/images", "/api/image?image=tissue.png", "/download/counts.csv"):
            assert server.ask(path).status == 200
        assert server.helpers() == []
        modules = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "cv2" not in modules
        assert "numpy" not in modules
        assert server.resident_mb() < 80
        assert server.ask("/picture?image=tissue.png").status == 200
        assert len(server.helpers()) == 1
        assert server.ask("/download/cells.csv").status == 200
    assert state(out) == before


def test_an_original_that_kills_its_decoder_costs_only_its_picture(counted, environment, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    (tmp_path / "copy" / "tissue.png").write_bytes(b"II*\0" + os.urandom(1000))
    with served(environment, tmp_path / "copy") as server:
        shown = server.ask("/picture?image=tissue.png")
        assert shown.status == 200
        assert shown.headers["x-cellseg-note"]
        assert server.ask("/picture?image=smear.png").headers["x-cellseg-note"] == ""


def test_what_a_watch_counts_meanwhile_comes_with_an_event(counted, environment, device, samples, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    with (
        served(environment, tmp_path / "copy") as server,
        socket.create_connection(("127.0.0.1", server.port)) as listener,
    ):
        listener.settimeout(60)
        listener.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        until(lambda: b"event: changed" in listener.recv(4096))
        number = server.ask("/api/images").json["number"]
        shutil.copy(samples / "empty.png", tmp_path / "copy" / "new.png")
        device("watch", tmp_path / "copy", "--once")
        until(lambda: b"event: changed" in listener.recv(4096))
        assert until(lambda: server.ask("/api/images").json["number"] == number + 1)
        assert server.ask("/api/now").json["newest"]["image"] == "new.png"
        # Counted again, it stays one image
        device("watch", tmp_path / "copy", "--once", "--redo")
        assert server.ask("/api/images").json["number"] == number + 1


def test_it_says_whether_a_watch_is_at_work(counted, environment, watching, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    with served(environment, tmp_path / "copy") as server:
        assert server.ask("/api/now").json["is_counting"] is False
        watch = watching(tmp_path / "copy")
        until(lambda: server.ask("/api/now").json["is_counting"])
        assert watch.stop() == 0
        until(lambda: not server.ask("/api/now").json["is_counting"])


def test_the_doctor_is_asked_by_a_post_alone(page):
    assert page.ask("/api/checkup").status == 405
    found = page.ask("/api/checkup", "POST", b"", Origin=page.base).json["findings"]
    assert {"model", "disk", "writing"} <= {finding["name"] for finding in found}


# -- downloads


def test_the_tables_are_whole(page, out, table):
    assert page.ask("/download/counts.csv").body == (out / "counts.csv").read_bytes()
    cells = page.ask("/download/cells.csv")
    assert cells.headers["content-disposition"] == 'attachment; filename="cells.csv"'
    assert cells.body.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(cells.body.decode("utf-8-sig"))))
    counts = table(out / "counts.csv")
    assert len(rows) == sum(int(row["count"]) for row in counts)
    assert {row["image"] for row in rows} == {row["image"] for row in counts if row["count"] != "0"}
    book = zipfile.ZipFile(io.BytesIO(page.ask("/download/images.xlsx").body))
    assert "xl/worksheets/sheet2.xml" in book.namelist()


def test_an_archive_has_the_files_of_the_chosen_images(page, out):
    whole = zipfile.ZipFile(io.BytesIO(page.post("/download/results.zip", images=f'["tissue.png", "{HOSTILE}"]').body))
    stems = ("tissue", HOSTILE.removesuffix(".png"))
    assert whole.namelist() == [f"{s}{end}" for s in stems for end in (".labels.tif", ".cells.csv", ".overlay.jpg")]
    assert all(whole.read(name) == (out / name).read_bytes() for name in whole.namelist())
    flagged = page.post("/download/results.zip", show="flagged")
    assert {name.partition(".")[0] for name in zipfile.ZipFile(io.BytesIO(flagged.body)).namelist()} == {
        row["image"].removesuffix(".png") for row in listed(page, show="flagged")["rows"]
    }
    for names in ("x", "{}", "[1]"):
        assert page.post("/download/results.zip", images=names).status == 400


def test_a_download_that_cannot_be_made_says_why_or_breaks_off(counted, environment, tmp_path):
    shutil.copytree(counted, tmp_path / "copy")
    (tmp_path / "copy" / "cellseg-results" / "counts.csv").unlink()
    with served(environment, tmp_path / "copy") as server:
        answer = server.ask("/download/cells.csv")
        assert (answer.status, "holds no counts.csv" in answer.text) == (503, True)
        assert server.ask("/download/counts.csv").status == 404


def test_ten_thousand_images_are_listed(environment, counted, out, tmp_path):
    from contextlib import closing
    from dataclasses import replace

    from cellseg_device.results.ledger import Ledger

    copy = tmp_path / "many"
    shutil.copytree(out, copy)
    with closing(Ledger(copy / "cellseg.sqlite")) as ledger:
        entry = ledger.get("tissue.png")
        with ledger.transaction():
            for number in range(10_000):
                ledger.put(replace(entry, image=f"field_{number}.png", stem=f"field_{number}"))
    with served(environment, copy, "--originals", counted) as server:
        first = server.ask("/api/images?first=9990&number=10&text=field_").json
        assert first["number"] == 10_000
        assert [row["image"] for row in first["rows"]] == [f"field_{number}.png" for number in range(9990, 10_000)]
        assert server.resident_mb() < 80
