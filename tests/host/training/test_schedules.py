import dataclasses

import pytest

from cellseg_host.training.schedules import plateaus, rate
from cellseg_host.training.settings import TrainSettings

COSINE = TrainSettings(epochs=10, steps=20, learning_rate=1e-2)
PLATEAU = dataclasses.replace(COSINE, schedule="plateau", patience=6)
CONSTANT = dataclasses.replace(COSINE, schedule="constant")


def rates(settings: TrainSettings, number: int = 1) -> list[float]:
    return [rate(settings, number, [True] * e, s) for e in range(settings.epochs) for s in range(settings.steps)]


@pytest.mark.parametrize("settings", [COSINE, PLATEAU, CONSTANT])
def test_every_schedule_warms_up_over_the_first_epoch(settings):
    first = rates(settings)[: settings.steps]
    assert first[0] == pytest.approx(1e-2 / 20)
    assert first == sorted(first)
    assert first[-1] == pytest.approx(1e-2)


def test_the_cosine_falls_to_a_hundredth():
    found = rates(COSINE)
    assert max(found) == pytest.approx(1e-2)
    assert found[20:] == sorted(found[20:], reverse=True)
    assert found[-1] == pytest.approx(1e-4, rel=0.01)
    assert found[20 + 90] == pytest.approx(1e-2 * (0.01 + 0.99 / 2), rel=0.02)


def test_the_rate_is_halved_when_nothing_improves():
    assert rate(PLATEAU, 1, [True, False, False], 0) == pytest.approx(5e-3)
    assert rate(PLATEAU, 1, [True, False, True, False], 0) == pytest.approx(1e-2)
    assert rate(PLATEAU, 1, [False] * 4, 0) == pytest.approx(2.5e-3)
    assert plateaus([True, False, False, False, True, False, False], 2) == 2


def test_later_rounds_start_lower_and_averaging_keeps_its_rate():
    settings = dataclasses.replace(COSINE, rounds=2, swa=3)
    assert max(rates(settings, 2)) == pytest.approx(1e-3)
    assert {round(r, 9) for r in rates(settings, 3)} == {1e-4}


def test_a_run_of_one_step_and_one_epoch_has_a_rate():
    for schedule in ("cosine", "plateau", "constant"):
        settings = TrainSettings(epochs=1, steps=1, patience=1, schedule=schedule)
        assert rate(settings, 1, [], 0) == pytest.approx(settings.learning_rate)
