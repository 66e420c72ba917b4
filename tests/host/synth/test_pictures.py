"""Fields without labels, for classifiers: of their seed, of any size, and unlike each other."""

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host.commands.synth import synth
from cellseg_host.data.dataset import load
from cellseg_host.synth.write import PICTURES, write_pictures


def made(what, seed, shape=(96, 128)):
    return PICTURES[what][2](np.random.default_rng(seed), shape)


@pytest.mark.parametrize("what", PICTURES)
def test_a_field_is_that_of_its_seed(what):
    one, again, other = made(what, 1), made(what, 1), made(what, 2)
    assert one.shape == ((96, 128, 3) if what == "smear" else (96, 128))
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.ptp(one) > 30


@pytest.mark.parametrize("what", PICTURES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2)])
def test_any_size_can_be_made(what, shape):
    assert made(what, 3, shape).shape[:2] == shape


def test_red_cells_are_darker_than_the_ground_and_of_many_colours():
    fields = [made("smear", seed).astype(float) for seed in range(6)]
    for field in fields:
        bright, dark = (np.percentile(field.sum(axis=2), p) for p in (98, 5))
        assert bright - dark > 60
    hues = [(field[..., 0].mean() - field[..., 1].mean()) / field.mean() for field in fields]
    assert max(hues) - min(hues) > 0.1


def test_they_are_written_as_images_without_labels(tmp_path):
    entries = write_pictures(tmp_path / "data", "smear", (40, 50), 2, 7, split="val")
    assert [(e.id, e.kind, e.split, e.cells, e.height, e.width) for e in entries] == [
        ("smear-7-0000", "smear", "val", None, 40, 50),
        ("smear-7-0001", "smear", "val", None, 40, 50),
    ]
    dataset = load(tmp_path / "data")
    assert dataset.entries == entries
    assert dataset.image(entries[1]).pixels.shape == (40, 50, 3)
    with pytest.raises(InputError, match="no image in the split 'val' has labels"):
        dataset.labelled("val")


def test_command_does_not_propose_to_train_on_them(tmp_path):
    arguments = [str(tmp_path / "data"), "--kind", "phase", "-n", "1", "--size", "50x40", "--force", "--seed"]
    for seed, split in enumerate(("train", "val")):
        result = CliRunner().invoke(synth, [*arguments, str(seed), "--split", split])
        assert result.exit_code == 0, result.output
    assert "1 phase fields without labels" in result.output
    assert result.output.splitlines()[-1].startswith("next: cellseg-device run")
