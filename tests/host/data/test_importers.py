import csv
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host.cli import main
from cellseg_host.data import dataset as datasets
from cellseg_host.data import importers
from cellseg_host.data.formats import dsb2018
from cellseg_host.data.formats import labels as label_images


def write_kaggle(root, name, image, labels, extra=()):
    """One image in Kaggle's layout."""
    (root / name / "images").mkdir(parents=True)
    (root / name / "masks").mkdir()
    cv2.imwrite(str(root / name / "images" / f"{name}.png"), image)
    masks = [np.where(labels == n, 255, 0).astype(np.uint8) for n in range(1, int(labels.max()) + 1)]
    for number, mask in enumerate([*masks, *extra]):
        cv2.imwrite(str(root / name / "masks" / f"{number:03}.png"), mask)


def test_kaggle_layout_comes_back_as_the_same_labels(tmp_path, field):
    image, labels = field
    write_kaggle(tmp_path / "src", "a", cv2.merge([image] * 3), labels)
    result = CliRunner().invoke(main, ["data", "import", "--format", "dsb2018", f"{tmp_path}/src", f"{tmp_path}/dst"])
    assert result.exit_code == 0, result.output
    dataset = datasets.load(tmp_path / "dst")
    (entry,) = dataset.entries
    assert (entry.height, entry.width, entry.cells, entry.modality) == (60, 80, labels.max(), "fluorescence")
    assert entry.median_diameter_px == pytest.approx(np.median(datasets.diameters_px(labels)), abs=0.05)
    stored = dataset.labels(entry)
    assert ((stored > 0) == (labels > 0)).all()
    pairs = np.unique(np.stack([stored.ravel(), labels.ravel()]), axis=1)
    assert pairs.shape[1] == labels.max() + 1  # one to one
    assert dataset.image(entry).pixels.ndim == 2  # three equal channels are one
    assert (dataset.image(entry).pixels == image).all()


@pytest.mark.parametrize("fault", ["shape", "overlap", "no masks", "mask is text", "image is text", "no image"])
def test_what_does_not_fit_is_left_out_with_its_reason(tmp_path, field, fault):
    image, labels = field
    src = tmp_path / "src"
    write_kaggle(src, "good", image, labels)
    extra = {"shape": [np.full((10, 10), 255, np.uint8)], "overlap": [np.full((60, 80), 255, np.uint8)]}
    write_kaggle(src, "bad", image, labels, extra.get(fault, ()))
    if fault == "no masks":
        for path in (src / "bad" / "masks").iterdir():
            path.unlink()
    if fault == "mask is text":
        (src / "bad" / "masks" / "000.png").write_text("hello")
    if fault == "image is text":
        (src / "bad" / "images" / "bad.png").write_text("hello")
    if fault == "no image":
        (src / "bad" / "images" / "bad.png").unlink()
    result = CliRunner().invoke(main, ["data", "import", "--format", "dsb2018", str(src), str(tmp_path / "dst")])
    assert result.exit_code == 1
    assert [e.id for e in datasets.load(tmp_path / "dst").entries] == ["good"]
    with (tmp_path / "dst" / "rejected.csv").open() as file:
        ((identity, _, reason),) = list(csv.reader(file))[1:]
    words = {"shape": "10×10", "overlap": "overlap", "no masks": "no masks", "mask is text": "cannot be read"}
    assert identity == "bad"
    assert words.get(fault, "has no image" if fault == "no image" else "not a PNG") in reason


def test_labels_layout_keeps_split_and_modality_of_a_manifest(tmp_path, field):
    image, labels = field
    src = tmp_path / "src"
    (src / "images").mkdir(parents=True)
    (src / "labels").mkdir()
    cv2.imwrite(str(src / "images" / "a.tif"), image.astype(np.uint16) * 200)
    cv2.imwrite(str(src / "labels" / "a.png"), labels * 7)  # with gaps between the numbers
    cv2.imwrite(str(src / "images" / "b.png"), image)
    (src / "manifest.csv").write_text("id,split,modality\na,test,phase\n")
    done = list(importers.import_sources(label_images.find(src), tmp_path / "dst"))
    imported = importers.finish(tmp_path / "dst", done)
    (entry,) = imported.entries
    assert (entry.id, entry.split, entry.modality, entry.cells) == ("a", "test", "phase", labels.max())
    dataset = datasets.load(tmp_path / "dst")
    assert (dataset.labels(entry) == labels).all()
    assert dataset.image(entry).pixels.dtype == np.uint16
    assert [(r.id, r.reason) for r in imported.rejections] == [("b", "has no label image of the same name")]


@pytest.mark.parametrize(("dtype", "inside"), [(np.uint8, 1), (np.uint8, 100), (np.uint16, 255), (np.uint16, 65535)])
def test_a_mask_may_be_drawn_in_any_value(tmp_path, field, dtype, inside):
    image, labels = field
    write_kaggle(tmp_path, "a", image, labels)
    for path in (tmp_path / "a" / "masks").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
        cv2.imwrite(str(path), mask.astype(dtype) * dtype(inside))
    (entry,) = importers.import_sources(dsb2018.find(tmp_path), tmp_path / "dst")
    assert entry.cells == labels.max()


def test_kaggle_layout_keeps_to_a_manifest(tmp_path, field):
    write_kaggle(tmp_path, "a", *field)
    (tmp_path / "manifest.csv").write_text("id,split,modality\na,val,phase\n")
    (entry,) = importers.import_sources(dsb2018.find(tmp_path), tmp_path / "dst")
    assert (entry.split, entry.modality) == ("val", "phase")


def test_two_images_of_one_name_a_stray_label_and_an_unknown_split_are_reported(tmp_path, field):
    image, labels = field
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("twice.png", "twice.jpg", "split.png", "good.png"):
        cv2.imwrite(str(tmp_path / "images" / name), image)
    for name in ("twice.png", "split.png", "good.png", "stray.png"):
        cv2.imwrite(str(tmp_path / "labels" / name), labels)
    (tmp_path / "manifest.csv").write_text("id,split\nsplit,validation\n")
    done = list(importers.import_sources(label_images.find(tmp_path), tmp_path / "dst"))
    reasons = {d.id: d.reason for d in done if isinstance(d, importers.Rejection)}
    assert reasons == {
        "twice": "has 2 images of this name (twice.jpg, twice.png)",
        "split": "is in the split 'validation', which is not one of train, val, test",
        "stray": "has no image",
    }
    assert [d.id for d in done if isinstance(d, importers.Entry)] == ["good"]


def test_a_missing_or_damaged_image_is_named(tmp_path, field):
    write_kaggle(tmp_path, "a", *field)
    root = tmp_path / "dst"
    importers.finish(root, list(importers.import_sources(dsb2018.find(tmp_path), root)))
    dataset = datasets.load(root)
    (root / "images" / "a.png").write_text("text")
    with pytest.raises(InputError, match=r"a\.png: is not a PNG"):
        dataset.image(dataset.entries[0])
    (root / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: no such file"):
        dataset.image(dataset.entries[0])


def test_one_mask_of_all_cells_is_no_label_image(labelled, field):
    cv2.imwrite(str(labelled / "labels" / "a.png"), np.where(field[1] > 0, 255, 0).astype(np.uint8))
    one, other = importers.import_sources(label_images.find(labelled), labelled / "dst")
    assert "one number in 6 pieces: give each cell its own number" in one.reason
    assert other.cells == field[1].max()


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_full_disk_leaves_no_folder(labelled, environment, draw_blobs, blocks):
    """At the first image, or at the manifest that would have said that there is one."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(labelled / "images" / name), noise)
    command = [sys.executable, "-m", "cellseg_host", "data", "import", "--format", "labels", ".", "dst"]
    limited = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *command]
    done = subprocess.run(limited, cwd=labelled, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the dataset cannot be written (File too large): make room, then import again\n"
    assert sorted(path.name for path in labelled.iterdir()) == ["images", "labels"]


@pytest.mark.parametrize(
    "numbered",
    [
        lambda labels: labels.astype(np.int64),
        lambda labels: np.where(labels, labels.astype(np.uint32) + 70_000, 0).astype(np.uint32),
        lambda labels: labels.astype(np.float32) * 3,
        lambda labels: labels.astype(np.uint8),
    ],
)
def test_labels_of_any_whole_numbers_are_imported_and_renumbered(labelled, field, numbered):
    (labelled / "labels" / "a.png").unlink()
    tifffile.imwrite(labelled / "labels" / "a.tif", numbered(field[1]), metadata=None)
    command = ["data", "import", "--format", "labels", str(labelled), str(labelled / "dst")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    dataset = datasets.load(labelled / "dst")
    for entry in dataset.entries:
        assert np.array_equal(dataset.labels(entry), field[1])


@pytest.mark.parametrize(
    ("manifest", "last"),
    [
        ("id,split\na,train\nb,val\n", "next: cellseg-host train '{0} it' --out 'runs/{1} it'"),
        ("id,split\na,train\nb,test\n", "next: cellseg-host train '{0} it' --out 'runs/{1} it'"),
        (
            "id,split\na,test\nb,test\n",
            "to train on it, write 'train' into the column 'split' of some rows of {0} it/manifest.csv",
        ),
    ],
)
def test_an_import_says_what_comes_next(labelled, manifest, last):
    (labelled / "manifest.csv").write_text(manifest)
    out = labelled / "cells of"
    result = CliRunner().invoke(main, ["data", "import", "--format", "labels", str(labelled), f"{out} it"])
    assert result.output.splitlines()[-1] == last.format(out, out.name)


def test_the_split_of_an_image_never_changes_and_is_80_10_10():
    splits = [importers.split_of(f"image-{n}") for n in range(5000)]
    assert splits == [importers.split_of(f"image-{n}") for n in range(5000)]
    assert splits.count("train") / 5000 == pytest.approx(0.8, abs=0.02)
    assert splits.count("val") / 5000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("pixels", "modality"),
    [
        (np.uint8([[0, 0, 0, 200]]), "fluorescence"),
        (np.uint8([[255, 255, 255, 20]]), "brightfield"),
        (np.zeros((2, 2, 3), np.uint8), "histology"),
    ],
)
def test_modality_is_guessed_from_the_pixels(pixels, modality):
    assert importers.guess_modality(pixels) == modality


def test_wrong_folders_are_refused_in_one_line(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for layout, source, words in (
        ("dsb2018", tmp_path / "none", "name the unpacked"),
        ("labels", tmp_path / "full", "needs a folder 'images'"),
    ):
        command = ["data", "import", "--format", layout, str(source), str(tmp_path / "dst")]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert words in result.output
        assert len(result.output.strip().splitlines()) == 1
    command = ["data", "import", "--format", "labels", str(tmp_path), str(tmp_path / "full")]
    assert "not empty" in CliRunner().invoke(main, command).output


def test_an_import_without_any_good_image_makes_no_dataset(tmp_path, field):
    write_kaggle(tmp_path / "src", "bad", field[0], np.zeros_like(field[1]))
    result = CliRunner().invoke(main, ["data", "import", "--format", "dsb2018", f"{tmp_path}/src", f"{tmp_path}/dst"])
    assert result.exit_code == 2
    assert result.output == "error: no image can be imported: bad: has no masks/*.png\n"
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_manifest_that_is_none_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("id,split\na,train\n")
    with pytest.raises(InputError, match="no column 'modality'"):
        datasets.load(tmp_path)
    names = "id,split,modality,height,width,cells,median_diameter_px\n"
    (tmp_path / "manifest.csv").write_text(names + "a,train,x,ten,10,1,5\n")
    with pytest.raises(InputError, match="ten"):
        datasets.load(tmp_path)
    (tmp_path / "manifest.csv").write_text(names)
    with pytest.raises(InputError, match="lists no image"):
        datasets.load(tmp_path)
