"""The whole comparison: by the command as a user gives it, and on datasets at the edge."""

import csv
import dataclasses
import html
import json
import math
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import tf_keras as keras
from click.testing import CliRunner
from pages import QUIET, browser, check_page, needs_browser, shown_in_browser

from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output, Separation
from cellseg_device.model.interpreter import Model
from cellseg_host.commands.compare import compare
from cellseg_host.data.dataset import Entry, load, write_manifest
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import by_group, evaluate
from cellseg_host.quantize.convert import convert
from cellseg_host.report import contenders, page, segmenters
from cellseg_host.report.cost import cost
from cellseg_host.report.scoring import score_all
from cellseg_host.report.settings import Settings
from cellseg_host.training.history import Epoch

CELLS = ("cells_true", "cells_counted", "cells_matched")
QUICK = ["--runs", "3", "--resamples", "1000"]
SETTINGS = Settings(runs=3, resamples=1000)


def run(*arguments):
    return CliRunner().invoke(compare, [str(a) for a in arguments])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def models(model_path, tmp_path_factory):
    """The released model; the same as if it were the float network, with other thresholds; and one of no known run."""
    folder = tmp_path_factory.mktemp("models")
    data = model_path.read_bytes()
    card = cards.read_from(data)
    others = {
        "as-float": dataclasses.replace(card, quantization="float32", separation=Separation(0.7, 0.6, 40)),
        "<odd> & 'name'": dataclasses.replace(card, provenance={}, metrics={}, separation=Separation(0.4, 0.4, 8)),
    }
    for name, other in others.items():
        (folder / f"{name}.tflite").write_bytes(cards.attach(data, other))
    shutil.copy(model_path, folder / "nuclei.tflite")
    return [folder / f"{name}.tflite" for name in ("nuclei", *others)]


@pytest.fixture(scope="module")
def report(models, tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "report"
    result = run(*models, "--data", tiny_dataset.root, "--out", out, "--json", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert json.loads(result.stdout) == json.loads((out / "summary.json").read_text())
    return out


def test_the_folder_holds_the_page_and_the_tables(report):
    names = {p.name for p in report.iterdir()}
    assert names == {"index.html", "summary.json", "scores.csv", "models.csv", "latency.csv"}


def test_the_page_is_whole_and_needs_nothing_else(report):
    text = (report / "index.html").read_text()
    page = check_page(text)
    assert len(page.images) > 3 * (2 + 3)
    assert "<odd>" not in text
    assert "<odd> & 'name'" in html.unescape(text)
    for words in ("Model against model", "Bland and Altman", "as-float → nuclei", "histology", "Efron", "95 %"):
        assert words in text


def test_the_scores_are_those_of_evaluate(report, models, tiny_dataset):
    rows = rows_of(report / "scores.csv")
    assert len(rows) == len(models) * 3
    for path in models:
        expected = [s.row() for s in evaluate(Model(path), tiny_dataset, tiny_dataset.split("test"))]
        found = [r for r in rows if r["model"] == path.stem]
        for row, score in zip(found, expected, strict=True):
            assert row["id"] == score["id"]
            for name in (*CELLS, "dice", "mean_iou", "mean_ap", "ap50", "ap75", "count_error"):
                assert float(row[name]) == pytest.approx(score[name], abs=1e-6), name
            for name in ("precision", "recall", "f1"):
                assert row[name] == ("" if score[name] is None else str(round(score[name], 6))), name


def test_the_summary_and_the_table_of_models_are_those_of_evaluate(report, models, tiny_dataset):
    document = json.loads((report / "summary.json").read_text())
    assert (document["images"], document["split"], document["dataset"]) == (3, "test", tiny_dataset.root.name)
    for row, written, path in zip(rows_of(report / "models.csv"), document["models"], models, strict=True):
        expected = by_group(list(evaluate(Model(path), tiny_dataset, tiny_dataset.split("test"))))
        assert row["model"] == written["model"] == path.stem
        assert int(row["size_bytes"]) == written["size_bytes"] == path.stat().st_size
        assert int(row["parameters"]) == cost(path.read_bytes()).parameters
        for name, summary in expected.items():
            for key, found in written["accuracy"][name].items():
                assert found["value"] == pytest.approx(getattr(summary, key)), (name, key)
        for key in CELLS:
            assert written[key] == getattr(expected["all"], key)
        for key, found in written["accuracy"]["all"].items():
            for name, value in ((key, found["value"]), (f"{key}_low", found["low"]), (f"{key}_high", found["high"])):
                assert float(row[name]) == pytest.approx(value, abs=1e-6)
            assert found["low"] <= found["high"]
        assert float(row["invoke_median_ms"]) <= float(row["end_to_end_median_ms"])


def test_differences_are_from_the_first(report):
    first, second, _ = json.loads((report / "summary.json").read_text())["models"]
    assert first["difference_from_first"] is None
    for key, change in second["difference_from_first"].items():
        expected = second["accuracy"]["all"][key]["value"] - first["accuracy"]["all"][key]["value"]
        assert change["value"] == pytest.approx(expected, abs=1e-9)
        assert change["low"] - 1e-9 <= change["value"] <= change["high"] + 1e-9
    assert sum(second["images_against_first"].values()) == 3


def test_float_and_quantized_are_paired(report):
    (pair,) = json.loads((report / "summary.json").read_text())["conversions"]
    assert (pair["before"], pair["after"]) == ("as-float", "nuclei")
    models = {m["model"]: m["accuracy"]["all"] for m in json.loads((report / "summary.json").read_text())["models"]}
    expected = models["nuclei"]["dice"]["value"] - models["as-float"]["dice"]["value"]
    assert pair["change"]["dice"]["value"] == pytest.approx(expected)


def test_recall_is_of_the_true_cells(model, tiny_dataset):
    entry = tiny_dataset.split("test")[0]
    (image,) = score_all([model], tiny_dataset, [entry])
    assert len(image.matched(0)) == len(image.diameter_px) == entry.cells
    pairs = metrics.pairwise_iou(image.true, image.models[0].labels) > 0.5
    assert image.matched(0).tolist() == pairs.any(axis=1).tolist()
    assert image.matched(0).sum() == image.models[0].score.cells_matched > 0


def test_the_table_for_people(models, tiny_dataset, tmp_path):
    result = run(models[0], "--data", tiny_dataset.root, "--split", "val", "--out", tmp_path / "r", *QUICK)
    assert result.exit_code == 0, result.output
    path = str(tmp_path / "r" / "index.html")
    for words in ("nuclei", "AP@0.5", "F1", "count error per image", "ms/megapixel", "split val", path):
        assert words in result.stdout
    check_page((tmp_path / "r" / "index.html").read_text())


@pytest.mark.slow
def test_a_run_takes_part_with_its_curves(tiny_run, models, tiny_dataset, tmp_path):
    result = run(models[0], tiny_run, "--data", tiny_dataset.root, "--out", tmp_path / "r", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    text = (tmp_path / "r" / "index.html").read_text()
    check_page(text)
    assert "Training curves" in text
    assert [m["quantization"] for m in json.loads((tmp_path / "r" / "summary.json").read_text())["models"]] == [
        "int8",
        "float32",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["MODEL", "--data", "DATA", "--split", "best"], "there are: test, train, val"),
        (["MODEL", "MODEL", "--data", "DATA"], "listed twice"),
        (["NONE", "--data", "DATA"], "cannot be read"),
        (["DATA", "--data", "DATA"], "is not a finished training run"),
        (["MODEL", "--data", "NONE"], "is not a dataset"),
        (["MODEL"], "missing option '--data'"),
        (["--data", "DATA"], "missing argument"),
        (["MODEL", "--data", "DATA", "--resamples", "10"], "--resamples"),
        (["MODEL", "--data", "DATA", "--threshold", "1"], "--threshold"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(models, tiny_dataset, tmp_path, arguments, words):
    places = {"MODEL": models[0], "DATA": tiny_dataset.root, "NONE": tmp_path / "none"}
    result = run(*(places.get(a, a) for a in arguments), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(models, tiny_dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = run(models[0], "--data", tiny_dataset.root, "--out", tmp_path)
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def write_dataset(root, *fields, draw_blobs):
    """Images of (height, width, cells) in the split test, cells in a row."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    entries = []
    for number, (height, width, cells) in enumerate(fields):
        labels = np.zeros((height, width), np.uint16)
        for cell in range(cells):
            cv2.circle(labels, (12 + 24 * cell, 20), 8, cell + 1, -1)
        pixels = np.clip((labels > 0) * 160.0 + draw_blobs(height, width, number, 0), 0, 255).astype(np.uint8)
        for folder, image in (("images", pixels), ("labels", labels)):
            assert cv2.imwrite(str(root / folder / f"i{number}.png"), image)
        entries.append(Entry(f"i{number}", "s", "test", "m", "m", height, width, cells, 16.0 if cells else 0.0))
    write_manifest(root, entries)
    return load(root)


@pytest.mark.parametrize(
    "fields", [[(64, 96, 3)], [(48, 48, 0)], [(64, 64, 0), (80, 64, 0)], [(64, 64, 0), (200, 120, 4), (64, 64, 2)]]
)
@pytest.mark.parametrize("count", [1, 3])
def test_datasets_at_the_edge(models, tmp_path, draw_blobs, fields, count):
    """One image, no cells at all, images without cells among others, images of mixed sizes."""
    dataset = write_dataset(tmp_path / "data", *fields, draw_blobs=draw_blobs)
    opened = contenders.open_all(models[:count], dataset, tmp_path)
    compared = segmenters.compare(opened, dataset, SETTINGS)
    check_page(page.render(compared, ["line"]))
    for found in compared.accuracy:
        assert math.isfinite(found["ap50"].value)
        assert math.isfinite(found["ap50"].low) == (len(fields) > 1)
    titles, recall = compared.by_size()
    assert bool(titles) == any(cells for _, _, cells in fields)
    assert [len(r) for r in recall] == [len(titles)] * count
    assert sum(len(g) for g in compared.pictures.values()) <= len(fields)


def test_several_sets_are_groups_of_the_comparison(models, tmp_path, draw_blobs):
    dataset = write_dataset(tmp_path / "data", (64, 96, 3), (64, 64, 1), draw_blobs=draw_blobs)
    first, second = dataset.entries
    dataset = dataclasses.replace(dataset, entries=(first, dataclasses.replace(second, set="other lab")))
    compared = segmenters.compare(contenders.open_all(models[:1], dataset, tmp_path), dataset, SETTINGS)
    assert {title: images for title, (images, _) in compared.groups.items()} == {
        "all": 2,
        "m": 2,
        "s": 1,
        "other lab": 1,
    }
    _, (found,) = compared.groups["other lab"]
    assert found["mean_ap"].value == pytest.approx(compared.answers[0][1].mean_ap)
    check_page(page.render(compared, ["line"]))


@pytest.mark.slow
def test_many_models_have_a_chart_each(models, tiny_dataset, tmp_path):
    """More models than colours, columns, or panels in a chart."""
    data, card = models[0].read_bytes(), cards.read_from(models[0].read_bytes())
    paths = []
    for number in range(10):
        separation = Separation(0.4 + 0.02 * number, 0.5, 12)
        paths.append(tmp_path / f"model-{number}.tflite")
        paths[-1].write_bytes(cards.attach(data, dataclasses.replace(card, separation=separation)))
    opened = contenders.open_all(paths, tiny_dataset, tmp_path)
    epochs = tuple(Epoch(n, 1, 1 / n, 1e-3, n == 2, {"val_loss": 2 / n, "mean_ap": n / 9}) for n in (1, 2, 3))
    opened = (dataclasses.replace(opened[0], epochs=epochs), *opened[1:])
    text = page.render(segmenters.compare(opened, tiny_dataset, SETTINGS), ["line"])
    check_page(text)
    assert text.count('alt="Every model against model-0"') == 2
    assert text.count('alt="Counted against true cells"') == 3
    assert text.count('alt="Training curves"') == 1


def classifier(path, scale, side=32):
    """Says yes where the brightest pixel is above one half."""
    image = keras.Input((None, None, 3), name="image")
    brightest = keras.layers.GlobalMaxPooling2D(keepdims=True)(image)
    weights = [np.full((1, 1, 3, 1), scale / 3), np.array([-scale / 2])]
    network = keras.Model(image, keras.layers.Conv2D(1, 1, weights=weights, name="presence")(brightest))
    run = {"settings": {"side": side}, "data": {"sha256": "x"}}
    card = Card(path.stem, "float32", (Output("presence", 0, "logit"),), 1, 0, 1.0, 99.9, 18.0, provenance=run)
    path.write_bytes(cards.attach(convert(network, "float32", None, None), card))
    return path


def test_classifiers_have_their_own_page(tiny_dataset, tmp_path):
    paths = [classifier(tmp_path / f"{name}.tflite", scale) for name, scale in (("plain", 12), ("timid", 0.5))]
    out = tmp_path / "report"
    result = run(*paths, "--data", tiny_dataset.root, "--out", out, "--threshold", "0.6", *QUICK)
    assert result.exit_code == 0, result.output
    assert "AUC" in result.stdout
    text = (out / "index.html").read_text()
    check_page(text)
    assert "At the threshold 0.6" in text
    document, rows = json.loads((out / "summary.json").read_text()), rows_of(out / "scores.csv")
    assert len(rows) == 2 * document["views"] == 2 * 3 * 4 * 4
    own = [r for r in rows if r["model"] == "plain"]
    said = np.array([float(r["probability"]) >= 0.6 for r in own])
    truth = np.array([r["has_cell"] == "1" for r in own])
    plain = document["models"][0]
    assert plain["confusion"]["true_positives"] == np.count_nonzero(said & truth)
    assert plain["accuracy"]["sensitivity"]["value"] == pytest.approx(said[truth].mean())
    assert plain["accuracy"]["auc"]["value"] == pytest.approx(document["models"][1]["accuracy"]["auc"]["value"])
    assert float(rows_of(out / "models.csv")[1]["auc_change"]) == pytest.approx(0)


def test_classifiers_of_different_views_are_refused(tiny_dataset, tmp_path):
    paths = [classifier(tmp_path / f"{side}.tflite", 12, side) for side in (32, 64)]
    result = run(*paths, "--data", tiny_dataset.root, "--out", tmp_path / "report", *QUICK)
    assert result.exit_code == 2
    assert "64.tflite takes views of 64 px" in result.output
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_the_page(report, tmp_path):
    """Neither the page nor a table is wider than the window, every picture loads, and it prints."""
    width, cut, broken = shown_in_browser(report / "index.html", tmp_path, 1200)
    assert width <= 1200
    assert (cut, broken) == (0, 0)
    pdf = tmp_path / "page.pdf"
    subprocess.run([*browser(tmp_path), f"--print-to-pdf={pdf}", f"file://{report / 'index.html'}"], **QUIET)
    assert pdf.stat().st_size > 50_000
