"""The command group ``cellseg-host data``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Group
from cellseg_device.errors import EXIT_IMAGES_FAILED
from cellseg_device.suggestions import unknown
from cellseg_device.units import plural
from cellseg_host.data.dataset import KEEPABLE, SPLITS, Entry, cells_in
from cellseg_host.data.formats import FORMATS

if TYPE_CHECKING:
    from cellseg_host.survey.survey import Survey


@click.group(cls=Group, short_help="Import labelled images as a dataset.")
def data() -> None:
    """Make datasets."""


_LAYOUTS = " ".join(f"{name}: {form.layout}." for name, form in FORMATS.items())


def _by_set(_context: click.Context, _parameter: click.Parameter, items: Iterable[str]) -> dict[str, str]:
    """Return a mapping from repeated ``SET=VALUE``, and from ``VALUE`` that of ``""``, all others; a click callback."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.rpartition("=")
        if not value or (equals and not name):
            raise click.BadParameter(f"{item!r} is not of the form SET=VALUE")
        if name in found:
            raise click.BadParameter(f"is given twice for {name or 'all sets'}")
        found[name] = value
    return found


def _keepable(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Return names out of `KEEPABLE` from ``Modality,PatientSex``; a click callback."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in KEEPABLE:
            raise click.BadParameter(f"what may be kept has {unknown('element', name, KEEPABLE)}")
    return names


def _colour(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, int, int]:
    """Return red, green and blue of a colour given by its name, or as #ff0000 or 255,0,0; a click callback."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(f"rgb({value})" if "," in value else value)[:3]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no colour: give it as red, #ff0000 or 255,0,0") from None
    return red, green, blue


def _formats(context: click.Context, parameter: click.Parameter, items: Iterable[str]) -> dict[str, str]:
    """Return formats by set, as `_by_set`."""
    found = _by_set(context, parameter, items)
    for layout in found.values():
        if layout not in FORMATS:
            raise click.BadParameter(f"there is {unknown('format', layout, FORMATS)}")
    return found


@data.command("import", short_help="Import labelled images as a dataset.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "formats",
    metavar="[SET=]FORMAT",
    multiple=True,
    required=True,
    callback=_formats,
    help=f"How the sources are laid out: of all, or of the one whose folder is called SET. {_LAYOUTS}",
)
@click.option(
    "--kind",
    "kinds",
    metavar="[SET=]KIND",
    multiple=True,
    callback=_by_set,
    help="The kind of sample, which a classifier learns to tell apart.  [default: tissue for the modalities "
    "histology and brightfield, other for phase, else the modality itself]",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of the images, where they do not lie with their labels.",
)
@click.option(
    "--runs",
    type=click.Choice(["absolute", "relative"]),
    help="Of rle: whether each start counts from the first pixel (Data Science Bowl 2018) or from the end of the run "
    "before (SIIM-ACR).  [default: what the names of the columns say]",
)
@click.option(
    "--keep",
    metavar="NAME[,NAME]...",
    default="",
    callback=_keepable,
    help=f"What to keep of DICOM headers, as columns of the manifest: {', '.join(KEEPABLE)}.",
)
@click.option(
    "--colour",
    default="red",
    show_default=True,
    callback=_colour,
    help="Of outlines: the colour of the lines, as red, #ff0000 or 255,0,0.",
)
@click.option(
    "--tolerance",
    type=click.IntRange(0, 255),
    default=60,
    show_default=True,
    help="Of outlines: by how much red, green and blue of a line may differ from that, from 0 to 255.",
)
def import_(
    *,
    sources: tuple[Path, ...],
    destination: Path,
    formats: Mapping[str, str],
    kinds: Mapping[str, str],
    images: Path | None,
    runs: str | None,
    keep: tuple[str, ...],
    colour: tuple[int, int, int],
    tolerance: int,
) -> None:
    """Import each SOURCE as a set of the new dataset DESTINATION.

    SOURCE is a folder; of cellseg, coco and rle it may be a file.

    Images that do not fit (masks of another size, overlapping masks, unreadable files) are left out and listed with the
    reason in DESTINATION/rejected.csv, and the command exits with 1; each kind of fault is said once at the end. A
    manifest.csv in a source (columns id, split, modality) keeps its splits. Without one, images are split by a hash of
    their names: 80 % train, 10 % val, 10 % test.

    What the dataset holds is shown on a page, DESTINATION/report.html (cellseg-host data report).

    \b
    Examples:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host data import --format labels my-labelled-images my-data
      cellseg-host data import --format labels --format smears=images --kind smears=smear nuclei tissue smears merged
      cellseg-host data import --format cellseg captures/cellseg-results my-data
      cellseg-host data import --format cellseg --images originals results my-data
      cellseg-host data import --format imagej-roi --images images rois my-data
      cellseg-host data import --format qupath qupath-export my-data
      cellseg-host data import --format cellpose cellpose-folder my-data
      cellseg-host data import --format coco --images images result.json my-data
      cellseg-host data import --format rle --runs absolute --images stage1_train stage1_train_labels.csv my-data
      cellseg-host data import --format rle --images dicom-images-train --keep PatientSex train-rle.csv my-data
      cellseg-host data import --format dicom --keep Modality,PatientSex,PatientAge,ViewPosition x-rays my-data
      cellseg-host data import --format outlines drawn-fields my-data
      cellseg-host data import --format outlines --colour 0,255,0 --tolerance 90 drawn-in-green my-data
    """
    from cellseg_host.commands.console import print_table, tracked
    from cellseg_host.data import importers
    from cellseg_host.data.faults import kinds as kinds_of
    from cellseg_host.data.formats.source import Options
    from cellseg_host.data.whole_folder import check_new, whole_folder
    from cellseg_host.survey.survey import PAGE, write_page

    check_new(destination)
    found = importers.find(sources, formats, kinds, Options(images, runs, keep, colour, tolerance))
    with whole_folder(destination) as folder:
        done = importers.import_sources(tracked(found, len(found), "importing"), folder)
        imported = importers.finish(folder, list(done))
        surveyed = _surveyed(folder, destination.resolve().name)
        write_page(surveyed, folder / PAGE)
    print_table(str(destination), ["set", "split", "modality", "kind", "images", "cells"], _rows(imported.entries))
    for what, faults in (("left out", imported.rejections), ("note", imported.notes)):
        for kind in kinds_of(faults):
            click.echo(f"{what}: {kind.text(with_set=len(sources) > 1)}", err=True)
    _print_findings(surveyed)
    click.echo(f"page: {destination / PAGE}")
    _print_next(destination, {entry.split for entry in imported.entries if entry.is_labelled})
    if imported.rejections:
        raise SystemExit(EXIT_IMAGES_FAILED)


@data.command("report", short_help="Show on a page what a dataset holds.")
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: DATASET/report.html]"
)
def report(dataset: Path, out: Path | None) -> None:
    """Write a page about DATASET: what to mend before training on it, then what it holds.

    By set, modality and split: numbers of images and cells, how large cells are and how many touch, how bright and
    sharp images are. Besides, images that are in two splits; labels with holes, specks, in pieces, or drawn as boxes;
    and pictures of the extremes.

    \b
    Examples:
      cellseg-host data report nuclei-data
      cellseg-host data report nuclei-data --out nuclei.html
    """
    from cellseg_host.data.whole_folder import check_place
    from cellseg_host.survey.survey import PAGE, write_page

    path = out or dataset / PAGE
    check_place(path.parent)
    surveyed = _surveyed(dataset)
    write_page(surveyed, path)
    _print_findings(surveyed)
    click.echo(f"page: {path}")


@data.command("check", short_help="Say what is wrong with a dataset, by the exit code as well.")
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, with the ids of all images.")
def check(dataset: Path, *, as_json: bool) -> None:
    """Say what is wrong with DATASET, in the words of its page (cellseg-host data report).

    \b
    Examples:
      cellseg-host data check nuclei-data && cellseg-host train nuclei-data
      cellseg-host data check nuclei-data --json

    Exit codes: 0 nothing has to be mended, 1 something has, 2 the dataset cannot be read.
    """
    from cellseg_host.json_text import to_json

    surveyed = _surveyed(dataset)
    if as_json:
        click.echo(to_json({"images": len(surveyed.facts), "findings": surveyed.findings}))
    else:
        _print_findings(surveyed)
    if surveyed.faults:
        raise SystemExit(EXIT_IMAGES_FAILED)


@data.command("split", short_help="Cut images into tiles that overlap.")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--size", type=click.IntRange(16, 4096), default=200, show_default=True, help="Of a tile, in pixels: its side."
)
@click.option(
    "--overlap", type=click.IntRange(0), default=100, show_default=True, help="By how many pixels tiles overlap."
)
def split(source: Path, destination: Path, *, size: int, overlap: int) -> None:
    """Cut all images in SOURCE, and in folders in it, into square tiles in the same folders of DESTINATION.

    Pictures of targets are cut as images are, so that they stay pairs. A tile is called NAME_rROW_cCOLUMN.png, by its
    upper left pixel; the last one of a row or column ends with the image. 'data stitch' puts tiles together.

    \b
    Examples:
      cellseg-host data split fields tiles
      cellseg-host data split fields tiles --size 256 --overlap 64
    """
    from cellseg_host.commands.console import tracked
    from cellseg_host.data import pieces
    from cellseg_host.data.whole_folder import check_new, whole_folder

    if overlap >= size:
        raise click.BadParameter(f"{overlap} is not less than the size of a tile, {size}", param_hint="--overlap")
    check_new(destination)
    paths = pieces.images_below(source)
    with whole_folder(destination) as folder:
        todo = tracked(paths, len(paths), "cutting")
        number = sum(pieces.split_file(source, path, folder, size=size, overlap=overlap) for path in todo)
    click.echo(f"{destination}: {plural(number, 'tile')} of {plural(len(paths), 'image')}")


@data.command("stitch", short_help="Put tiles together again.")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
def stitch(source: Path, destination: Path) -> None:
    """Put the tiles in SOURCE, and in folders in it, together to images in the same folders of DESTINATION.

    Tiles are named as 'data split' does. Where they meet, an image has the greatest of their values: right for
    images and for what a network predicts, not for label images, in which a number is a name.

    \b
    Examples:
      cellseg-host data stitch predicted-tiles predicted
    """
    from cellseg_host.commands.console import tracked
    from cellseg_host.data import pieces
    from cellseg_host.data.whole_folder import check_new, whole_folder

    check_new(destination)
    images = pieces.by_image(pieces.images_below(source))
    with whole_folder(destination) as folder:
        for image, tiles in tracked(images.items(), len(images), "stitching"):
            pieces.stitch_files(source, image, tiles, folder)
    click.echo(f"{destination}: {plural(len(images), 'image')}")


def _surveyed(root: Path, name: str = "") -> Survey:
    from cellseg_host.commands.console import tracked
    from cellseg_host.data.dataset import load
    from cellseg_host.survey.survey import survey

    return survey(load(root), name=name, track=lambda facts, number: tracked(facts, number, "looking at images"))


def _print_findings(surveyed: Survey) -> None:
    for finding in surveyed.findings:
        click.echo(f"{'to mend' if finding.is_fault else 'note'}: {finding.text}")
    if not surveyed.findings:
        click.echo("nothing is wrong with it that can be measured")


def _rows(entries: Iterable[Entry]) -> list[list[str]]:
    """Return a row for the images of each set, split, modality and kind."""
    groups: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.set, SPLITS.index(e.split), e.modality, e.kind)):
        groups.setdefault((entry.set, entry.split, entry.modality, entry.kind), []).append(entry)
    return [
        [*names, f"{len(group)}", f"{cells_in(group)}" if any(e.is_labelled for e in group) else "no labels"]
        for names, group in groups.items()
    ]


def _print_next(destination: Path, splits: Collection[str]) -> None:
    """Print the command that trains on a dataset with labels in these splits, or what it lacks for that."""
    from cellseg_host.commands.console import print_next

    if not splits:
        click.echo("no image has labels: the dataset is for a classifier of kinds of samples alone")
        return
    if not {"train", "val"} & set(splits):
        click.echo(
            f"to train on it, write 'train' into the column 'split' of some rows of {destination / 'manifest.csv'}"
        )
    else:
        print_next("cellseg-host", "train", destination, "--out", Path("runs") / destination.resolve().name)
