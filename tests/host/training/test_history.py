import pytest

from cellseg_device.errors import InputError
from cellseg_host.training import history
from cellseg_host.training.history import Epoch


def epoch(number: int, best: bool, **scores: float) -> Epoch:
    return Epoch(number, 1, 0.5, 1e-3, best, scores or {"val_loss": 0.25, "mean_ap": 0.5})


def test_what_is_written_is_read(tmp_path):
    epochs = [epoch(1, True), epoch(2, False, val_loss=0.5, mean_ap=float("inf"))]
    history.write(tmp_path, epochs)
    assert history.read(tmp_path) == epochs
    assert history.read(tmp_path / "none") == []


@pytest.mark.parametrize("text", ["epoch,loss\n1,2\n", "epoch,round,loss,learning_rate,best\nx,1,1,1,True\n"])
def test_a_damaged_history_is_named(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=r"history\.csv: is damaged"):
        history.read(tmp_path)


def test_the_best_epoch_and_how_long_ago_it_was():
    epochs = [epoch(1, True), epoch(2, True), epoch(3, False)]
    assert history.best(epochs) == epochs[1]
    assert history.since_best(epochs) == 1
    assert history.best([]) is None
    assert history.since_best([epoch(1, False), epoch(2, False)]) == 2


def test_a_loss_is_better_when_smaller_and_a_score_when_larger():
    assert history.better("val_loss", 0.1, 0.2)
    assert not history.better("mean_ap", 0.1, 0.2)
    assert history.better("mean_ap", 0.1, None)
