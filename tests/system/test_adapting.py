"""Teaching a model by the button of the page: begun, followed, stopped, and the model that comes of it."""

import asyncio
import shutil

import numpy as np
import pytest
import tifffile
from serving import served, until

from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use
from cellseg_device.web.adapting import FOLDER_NAME, MODELS, Adapting


@pytest.fixture(scope="module")
def results(device, samples, tmp_path_factory):
    """Two samples, one of them turned, both checked."""
    folder = tmp_path_factory.mktemp("adapting")
    shutil.copy(samples / "hoechst8.png", folder / "a.png")
    shutil.copy(samples / "dapi16.png", folder / "b.png")
    out = folder / "cellseg-results"
    assert device("watch", folder, "--once").returncode == 0
    (folder / "hand").mkdir()
    for name in "ab":
        labels = tifffile.imread(out / f"{name}.labels.tif")
        tifffile.imwrite(folder / "hand" / f"{name}.tif", np.where(labels < 3, 0, labels))
    assert device("recount", out, *(folder / "hand").iterdir()).returncode == 0
    return folder


@pytest.fixture
def folder(results, tmp_path):
    shutil.copytree(results, tmp_path / "captures")
    return tmp_path / "captures"


def post(page, path):
    return page.ask(path, "POST", b"", Origin=page.base)


def test_it_is_begun_once_followed_and_stopped(folder, environment):
    with served(environment, folder) as page:
        assert page.ask("/api/teach").json["can_adapt"]
        assert page.ask("/api/adapt").json == {"state": "none"}
        begun = post(page, "/api/adapt").json
        assert (begun["state"], begun["words"]) == ("running", "packing the checked images")
        assert post(page, "/api/adapt").status == 409
        until(lambda: page.ask("/api/adapt").json["words"].startswith(("corrections: 2 images", "start: ", "loading ")))
        running = [line for line in page.helpers() if "cellseg_host" in line]
        assert len(running) == 1
        assert post(page, "/api/adapt/stop").json == {"state": "stopped", "words": "stopped"}
        assert [line for line in page.helpers() if "cellseg_host" in line] == []
        assert in_use.kept(folder / "cellseg-results") == []
        assert page.ask("/api/adapt", "POST", b"", Origin="http://evil.example").status == 403


def test_with_too_little_it_says_so(folder, environment):
    shutil.rmtree(folder / "cellseg-results" / "corrections")
    with served(environment, folder) as page:
        post(page, "/api/adapt")
        until(lambda: page.ask("/api/adapt").json["state"] == "refused")
        assert "is checked: correct some on the page of 'serve'" in page.ask("/api/adapt").json["words"]


def test_no_link_leads_it_elsewhere(folder, environment, tmp_path):
    assert MODELS == in_use.FOLDER_NAME
    models = folder / "cellseg-results" / MODELS
    models.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (models / FOLDER_NAME).symlink_to(tmp_path / "elsewhere")
    with served(environment, folder) as page:
        post(page, "/api/adapt")
        until(lambda: page.ask("/api/adapt").json["state"] == "refused")
        assert page.ask("/api/adapt").json["words"].endswith("is a link: remove it")
    assert (tmp_path / "elsewhere" / "kept").exists()


@pytest.mark.slow
def test_a_model_that_is_made_is_kept(folder, monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    out, taken, words = folder / "cellseg-results", [], set()

    async def take(path):
        taken.append(cards.of_file(path).name)
        return {"name": in_use.keep(out, path.read_bytes()).card.name}

    async def work():
        adapting = Adapting(out, None, take, ("--epochs", "1", "--steps", "3", "--anyway"))
        assert adapting.begin()
        while adapting.state["state"] == "running":
            words.add(adapting.state["words"])
            await asyncio.sleep(0.2)
        return adapting.state

    found = asyncio.run(work())
    assert found["state"] == "done", found
    assert found["model"]["name"] == taken[0]
    assert taken[0].startswith("taught-")
    assert any(line.startswith("model 1 of ") for line in words)
    (kept,) = in_use.kept(out)
    assert kept.card.provenance["adapted"]["start"]["kind"] == "nuclei"
