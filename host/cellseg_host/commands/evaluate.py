"""The command ``cellseg-host evaluate``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("dataset", type=click.Path(path_type=Path, file_okay=False))
@click.option("--split", default="test", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write scores.csv, summary.json and gallery.jpg there.",
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def evaluate(model: Path, dataset: Path, split: str, out: Path | None, threads: int, as_json: bool) -> None:
    """Score a model file on DATASET, by the code that runs on the device.

    AP@t is TP / (TP + FP + FN) with cells matched at IoU above t; mean AP averages t = 0.50:0.05:0.95 (the DSB2018
    score). Mean IoU is two-class, of the foreground map at 0.4. All are means over images. Count error is that of the
    whole set's count.

    \b
    Examples:
      cellseg-host evaluate nuclei.tflite nuclei-data --split test --out evaluation
      cellseg-host evaluate nuclei.tflite nuclei-data --json | jq .summary.all.ap50
    """
    from cellseg_device.model import Model
    from cellseg_host import plots
    from cellseg_host.console import print_summaries, to_json, tracked, write_scores
    from cellseg_host.data.dataset import load
    from cellseg_host.evaluate import by_modality
    from cellseg_host.evaluate import evaluate as score

    loaded, runner = load(dataset), Model(model, threads)
    entries = loaded.split(split)
    scores = list(tracked(score(runner, loaded, entries), len(entries), "scoring"))
    summaries = by_modality(scores)
    document = {"model": model.name, "dataset": loaded.root.resolve().name, "split": split, "summary": summaries}
    if out:
        write_scores(out, scores, document)
        plots.gallery(runner, loaded, scores, out / "gallery.jpg")
    if as_json:
        click.echo(to_json(document))
    else:
        print_summaries(f"{model.name} on {document['dataset']}, split {split}", "modality", summaries)
