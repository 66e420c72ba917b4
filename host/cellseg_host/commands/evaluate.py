"""The command ``cellseg-host evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_device.command_line import Command


@click.command(cls=Command, short_help="Score a model on labelled images, with a report.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", default="test", show_default=True, help="Images to score.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a page, index.html, with scores.csv, summary.json and gallery.jpg there.",
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of the network.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def evaluate(*, model: Path, dataset: Path, split: str, out: Path | None, threads: int, as_json: bool) -> None:
    """Score a model file on DATASET, by the code that runs on the device.

    AP@t is TP / (TP + FP + FN) with cells matched at IoU above t; mean AP averages t = 0.50:0.05:0.95 (the DSB2018
    score). Mean IoU is two-class, of the foreground map at 0.4. These and Dice are means over images.

    "counted" is what the model counts, "matched" how many of those are true cells (IoU above 0.5). Precision is matched
    / counted, recall matched / true, F1 their harmonic mean, all over the cells of the whole set. Count error is that
    of the whole set's count, in which too many cells in one image and too few in another cancel; count error per image
    is the mean of each image's own |counted - true| / true, without images that show no cell.

    All of these are given of all images together, of each modality, and, if the dataset has several, of each set.

    \b
    Examples:
      cellseg-host evaluate nuclei.tflite nuclei-data --split test --out evaluation
      cellseg-host evaluate nuclei.tflite nuclei-data --json | jq .summary.all.ap50
    """
    from cellseg_device.model.interpreter import Model
    from cellseg_host.commands.console import print_summaries, tracked
    from cellseg_host.data.dataset import load
    from cellseg_host.data.whole_folder import check_place
    from cellseg_host.evaluation.evaluate import by_group
    from cellseg_host.evaluation.evaluate import evaluate as score
    from cellseg_host.json_text import to_json

    if out:
        check_place(out)
    loaded, runner = load(dataset), Model(model, threads)
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
