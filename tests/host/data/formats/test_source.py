"""What is found in the layouts of common formats, and what their manifests say."""

import cv2
import pytest

from cellseg_device.errors import InputError
from cellseg_host.data.formats import images, labels


def test_a_manifest_of_a_spreadsheet_is_kept_to_and_what_it_leaves_out_is_reported(labelled, capsys):
    (labelled / "manifest.csv").write_bytes(b"\xef\xbb\xbfid,split\r\na,test\r\n")
    found = {source.id: source.split for source in labels.find(labelled)}
    assert found == {"a": "test", "b": None}
    (note,) = capsys.readouterr().err.splitlines()
    assert note == f"note: 1 image is not in {labelled}/manifest.csv: a hash of the name decides on the split"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id;split\na;test\n", "no row has an image's name in a column 'id'"),
        ("ID,Split\na,test\n", "no row has an image's name in a column 'id'"),
        ("id,split\na.png,test\nb.png,val\n", "names without .png and the like"),
        ("id,split\na,test\na,val\n", "an id is listed twice"),
        ("id,split\na,täst\n", "is not UTF-8 text"),
    ],
)
def test_a_manifest_that_says_nothing_of_the_images_is_refused(labelled, text, words):
    """It would go unnoticed that images were tested on that have been learnt from."""
    (labelled / "manifest.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=words):
        labels.find(labelled)


@pytest.mark.parametrize("folder", [".", "images"])
def test_images_without_labels_lie_in_a_folder_or_in_its_images(labelled, folder):
    found = images.find(labelled / folder)
    assert [(s.id, s.set, s.images, s.read_labels) for s in found] == [
        (name, labelled.name if folder == "." else "images", (labelled / "images" / f"{name}.png",), None)
        for name in ("a", "b")
    ]


def test_a_folder_without_images_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no PNG, JPEG or TIFF image"):
            images.find(folder)


def test_a_manifest_says_set_split_modality_and_kind(labelled):
    (labelled / "manifest.csv").write_text("id,set,split,modality,kind\na,mine,val,phase,chamber\nb,,,,\n")
    for find in (labels.find, images.find):
        said, silent = find(labelled)
        assert (said.set, said.split, said.modality, said.kind) == ("mine", "val", "phase", "chamber")
        assert (silent.set, silent.split, silent.modality, silent.kind) == (labelled.name, None, None, None)


def test_only_where_a_manifest_counts_no_cells_an_image_needs_no_labels(labelled, field):
    for name in ("c.png", "d.png"):
        cv2.imwrite(str(labelled / "images" / name), field[0])
    (labelled / "manifest.csv").write_text("id,cells\na,\nb,7\nc,\nd,7\n")
    found = {s.id: s.read_labels for s in labels.find(labelled)}
    assert found["c"] is None
    for name in ("a", "b"):
        assert (found[name](field[1].shape).labels == field[1]).all()
    with pytest.raises(InputError, match="has no label image of the same name"):
        found["d"](field[1].shape)
