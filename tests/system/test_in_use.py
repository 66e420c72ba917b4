"""A model put into use for a results folder, as a user does it: by ``OUT/models/in-use.tflite``."""

import dataclasses
import time

from cellseg_device.model import card as cards
from cellseg_device.pipeline import in_use


def made(model_path, name):
    data = model_path.read_bytes()
    return cards.attach(data, dataclasses.replace(cards.read_from(data), name=name))


def test_run_counts_with_it_unless_a_model_is_named(device, tmp_path, model_path, write_image, table):
    write_image(tmp_path / "a.png")
    out = tmp_path / "results"
    out.mkdir()
    in_use.use(out, made(model_path, "mine"))
    done = device("run", tmp_path / "a.png", "--out", out)
    assert done.returncode == 0, done.stderr
    assert table(out / "counts.csv")[0]["model"] == "mine"
    done = device("run", tmp_path / "a.png", "--out", out)
    assert "1 done before" in done.stdout
    done = device("run", tmp_path / "a.png", "--out", out, "--model", model_path)
    assert table(out / "counts.csv")[0]["model"] == "nuclei"
    assert [path.name for path in sorted((out / "models").glob("*.tflite"))][1:] == ["in-use.tflite"]


def test_a_watch_takes_it_up_without_a_restart_and_goes_back(watching, tmp_path, model_path, write_image, table):
    write_image(tmp_path / "a.png")
    out = tmp_path / "cellseg-results"
    watch = watching(tmp_path, "--settle", "0.2", "--poll", "0.2")
    watch.until_done("a.png")
    for number, name in enumerate(("mine", "other", "mine")):
        if number < 2:
            in_use.use(out, made(model_path, name))
        else:
            in_use.back(out)
        image = f"b{number}.png"
        # Until it has settled, images are counted with the model as it was
        watch.until(lambda: (out / "models" / "in-use.tflite").stat().st_mtime + 1.1 < time.time())
        write_image(tmp_path / image, mtime=None)
        watch.until_done(image)
    assert watch.stop() == 0
    assert [row["model"] for row in table(out / "counts.csv")] == ["nuclei", "mine", "other", "mine"]
    assert [line.partition("(")[2].partition(",")[0] for line in watch.complaints] == ["mine", "other", "mine"]


def test_one_that_is_damaged_is_said_and_the_bundled_one_counts(device, tmp_path, write_image, table):
    write_image(tmp_path / "a.png")
    (tmp_path / "cellseg-results" / "models").mkdir(parents=True)
    in_use.path_in(tmp_path / "cellseg-results").write_bytes(b"no model")
    done = device("watch", tmp_path, "--once")
    assert done.returncode == 0
    assert "in-use.tflite is not a .tflite model" in done.stderr
    assert "counting with the bundled models" in done.stderr
    assert table(tmp_path / "cellseg-results" / "counts.csv")[0]["model"] == "nuclei"
