"""The command ``cellseg-host evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command

if TYPE_CHECKING:
    from cellseg_device.model.card import Card
    from cellseg_host.data.dataset import Dataset


@click.command(cls=Command, short_help="Score a model on labelled images, with a report.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", default="test", show_default=True, help="Images to score.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a page, index.html, with scores.csv, summary.json and gallery.jpg there.",
)
@click.option(
    "--gate",
    type=click.Path(path_type=Path),
    help="A classifier that decides for each image as on the device: MODEL and this one are scored together.",
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of the network.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def evaluate(
    *, model: Path, dataset: Path, split: str, out: Path | None, gate: Path | None, threads: int, as_json: bool
) -> None:
    """Score a model file on DATASET, by the code that runs on the device.

    AP@t is TP / (TP + FP + FN) with cells matched at IoU above t; mean AP averages t = 0.50:0.05:0.95 (the DSB2018
    score). Mean IoU is two-class, of the foreground map at 0.4. These and Dice are means over images.

    "counted" is what the model counts, "matched" how many of those are true cells (IoU above 0.5). Precision is matched
    / counted, recall matched / true, F1 their harmonic mean, all over the cells of the whole set. Count error is that
    of the whole set's count, in which too many cells in one image and too few in another cancel; count error per image
    is the mean of each image's own |counted - true| / true, without images that show no cell.

    All of these are given of all images together, of each modality, and, if the dataset has several, of each set.

    Of a classifier of kinds it prints how many images of each kind, and of each set, are taken for which kind, and how
    many are therefore handled otherwise than images of their kind.

    With --gate, MODEL counts the images of which the gate says nothing else; other models that it names lie beside it.
    Then there is also how often an image in which cells are counted shows some (PPV), one in which none are shows none
    (NPV), one with cells has some counted (sensitivity) and one without has none (specificity), and what becomes of the
    images of each class.

    \b
    Examples:
      cellseg-host evaluate nuclei.tflite nuclei-data --split test --out evaluation
      cellseg-host evaluate nuclei.tflite nuclei-data --json | jq .summary.all.ap50
      cellseg-host evaluate nuclei.tflite all-data --gate presence.tflite
    """
    from cellseg_device.model import card as cards
    from cellseg_device.model.interpreter import Model
    from cellseg_host.commands.console import print_summaries, tracked
    from cellseg_host.data.dataset import load
    from cellseg_host.data.own_split import completed
    from cellseg_host.data.whole_folder import check_place
    from cellseg_host.evaluation.evaluate import by_group
    from cellseg_host.evaluation.evaluate import evaluate as score
    from cellseg_host.json_text import to_json

    if out:
        check_place(out)
    if gate is not None:
        _evaluate_gated(model, gate, load(dataset), split=split, out=out, threads=threads, as_json=as_json)
        return
    loaded = load(dataset)
    if cards.read_from(cards.read_model_file(model)).output("kind"):
        _evaluate_kinds(model, loaded, split, out, threads, as_json=as_json)
        return
    runner = Model(model, threads)
    if split == "val":  # of a data set without one: that of the model's training
        loaded, _ = completed(loaded, _seed(runner.card))
    entries = loaded.labelled(split)
    name = loaded.root.resolve().name
    if out:
        from cellseg_host.report import evaluation, plots, write
        from cellseg_host.report.scoring import score_all

        images = tracked(score_all([runner], loaded, entries), len(entries), "scoring")
        done = evaluation.evaluated(model.name, runner.card, loaded, split, images)
        out.mkdir(parents=True, exist_ok=True)
        plots.gallery(runner, loaded, done.scores, out / "gallery.jpg")
        write.write(out, evaluation.report(done))
        summaries = done.summaries
    else:
        summaries = by_group(list(tracked(score(runner, loaded, entries), len(entries), "scoring")))
    if as_json:
        click.echo(to_json({"model": model.name, "dataset": name, "split": split, "summary": summaries}))
        return
    print_summaries(f"{model.name} on {name}, split {split}", "group", summaries)
    if out:
        click.echo(done.verdict()[0])
        click.echo(f"report: {out / write.PAGE}")


def _seed(card: Card) -> int:
    """Return the seed of a model's training, by which a data set without a val split was divided."""
    settings = card.provenance.get("settings")
    seed = settings.get("seed") if isinstance(settings, Mapping) else None
    return seed if isinstance(seed, int) else 0


def _evaluate_gated(
    model: Path, gate: Path, dataset: Dataset, *, split: str, out: Path | None, threads: int, as_json: bool
) -> None:
    """Score a model behind a gate, and print and write what they make of the images together."""
    from cellseg_device.pipeline import gate as gates
    from cellseg_host.commands.console import print_summaries, print_table, tracked
    from cellseg_host.evaluation import gated
    from cellseg_host.evaluation.evaluate import by_group
    from cellseg_host.json_text import to_json

    models, name = gated.open_models(model, gate, threads), dataset.root.resolve().name
    entries = dataset.labelled(split)
    assert models.gate is not None
    scores = list(tracked(gated.evaluate(models, dataset, entries), len(entries), "scoring"))
    summaries = by_group([score.score for score in scores])
    presence = gated.presence(scores)
    classes = gated.by_class(scores, [found.name for found in gates.of(models.gate).classes])
    document = {
        "model": model.name,
        "gate": gate.name,
        "dataset": name,
        "split": split,
        "summary": summaries,
        "presence": gated.shares(presence),
        "classes": classes,
    }
    if out:
        from cellseg_host.report.write import write_scores

        write_scores(out, [score.row() for score in scores], document)
    if as_json:
        click.echo(to_json(document))
        return
    print_summaries(f"{model.name} behind {gate.name} on {name}, split {split}", "group", summaries)
    columns = ["images", "with cells", "sensitivity", "specificity", "PPV", "NPV", "Dice"]
    shares = (presence.sensitivity, presence.specificity, presence.ppv, presence.npv)
    print_table(
        "images in which cells are counted, against those that show some; Dice of all images",
        columns,
        [
            [
                str(len(scores)),
                str(presence.sensitivity.of),
                *map(gated.share_text, shares),
                f"{summaries['all'].dice:.3f}",
            ]
        ],
    )
    print_table(
        "what the gate takes images for",
        ["class", "images", "with cells", "counted by", "cells", "counted"],
        [
            [title, *map(str, (c.images, c.with_cells, c.counted_by or "–", c.cells_true, c.cells_counted))]
            for title, c in classes.items()
        ],
    )
    if out:
        click.echo(f"report: {out / 'scores.csv'}")


def _evaluate_kinds(
    model: Path, dataset: Dataset, split: str, out: Path | None, threads: int, *, as_json: bool
) -> None:
    """Score a classifier of kinds, and print and write what it makes of the images."""
    from cellseg_device.pipeline import gate as gates
    from cellseg_host.commands.console import print_confusion, print_table, tracked
    from cellseg_host.evaluation import kinds
    from cellseg_host.json_text import to_json

    gate = gates.open_gate(model, threads)
    entries, name = dataset.split(split), dataset.root.resolve().name
    scores = list(tracked(kinds.evaluate(gate, dataset, entries), len(entries), "scoring"))
    summary, handled = kinds.summarise(scores), kinds.handling(scores, gates.of(gate))
    document = {"model": model.name, "dataset": name, "split": split, "summary": summary, "handling": handled}
    if out:
        from cellseg_host.report.write import write_scores

        write_scores(out, [score.row() for score in scores], document)
    if as_json:
        click.echo(to_json(document))
        return
    by_set = {f"{kind}, {of}": row for (kind, of), row in kinds.by_set(scores).items()}
    title = f"{model.name} on {name}, split {split}"
    print_confusion(f"{title}: images by their kind and set (rows) and the kind that is found", by_set)
    columns = ["images", "accuracy", "balanced accuracy", "another model", "not flagged", "flagged", "empty"]
    shares = [f"{share:.3f}" for share in (summary.accuracy, summary.balanced_accuracy)]
    counts = (handled.other_model, handled.unflagged, handled.flagged, handled.emptied)
    print_table(
        "images that are handled otherwise than those of their kind",
        columns,
        [[str(summary.images), *shares, *map(str, counts)]],
    )
    if out:
        click.echo(f"report: {out / 'scores.csv'}")
