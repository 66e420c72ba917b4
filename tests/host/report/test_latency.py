import time

import pytest

from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.report import latency
from cellseg_host.report.latency import Field, Timing

FIELDS = [Field(100, 200, b"small"), Field(1000, 1000, b"large")]


def entry(name, height, width):
    return Entry(name, "s", "test", "m", "m", height, width, 1, 10.0)


def recorded(calls, seconds=0.0):
    def pipeline(data, model, stopwatch):
        calls.append((data, model))
        with stopwatch.step("invoke"):
            time.sleep(seconds)

    return pipeline


def test_models_take_turns_and_each_begins_once():
    calls, rounds = [], []
    models = ["a", "b", "c"]
    found = latency.take_turns(models, FIELDS, 3, pipeline=recorded(calls), on_round=lambda: rounds.append(1))
    assert len(calls) == 2 * (1 + 3) * 3
    assert len(rounds) == 2 * (1 + 3)
    assert {data for data, _ in calls[:12]} == {b"small"}
    turns = [[m for _, m in calls[i : i + 3]] for i in range(0, 12, 3)]
    assert all(sorted(turn) == models for turn in turns)
    assert sorted(turn[0] for turn in turns[1:]) == models
    assert [[len(t.invoke_ms) for t in of_model] for of_model in found] == [[3, 3]] * 3


def test_the_first_run_is_not_counted():
    """It takes much longer, as when the runtime prepares for a size."""
    runs = []

    def pipeline(data, model, stopwatch):
        runs.append(data)
        stopwatch.ms["invoke"] = runs.count(data)

    ((small, large),) = latency.take_turns(["a"], FIELDS, 3, pipeline=pipeline)
    assert small.invoke_ms == large.invoke_ms == (2, 3, 4)


def test_slow_models_get_fewer_rounds():
    calls = []
    ((timing,),) = latency.take_turns(["a"], FIELDS[:1], 50, budget_s=0.05, pipeline=recorded(calls, 0.02))
    assert len(timing.invoke_ms) == latency.MIN_ROUNDS


def test_median_percentile_and_per_megapixel():
    row = Timing(500, 1000, (1.0, 2.0, 3.0), tuple(float(n) for n in range(101))).row()
    assert row["invoke_median_ms"] == 2
    assert row["end_to_end_p95_ms"] == 95
    assert row["end_to_end_ms_per_megapixel"] == 100
    assert row["runs"] == 3


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(64, 64), (80, 64), (200, 100)], [(80, 64), (200, 100)]),
        ([(64, 64), (64, 64)], [(64, 64)]),
        ([(64, 64)], [(64, 64)]),
    ],
)
def test_fields_are_the_typical_image_and_the_largest(sizes, chosen, monkeypatch):
    monkeypatch.setattr(Dataset, "image_bytes", lambda self, entry: entry.id.encode())
    entries = tuple(entry(f"i{n}", *size) for n, size in enumerate(sizes))
    found = latency.fields(Dataset(None, entries), entries)
    assert [(f.height, f.width) for f in found] == chosen


def test_the_pipeline_of_the_device_is_timed(model, tiny_dataset):
    found = latency.take_turns([model], latency.fields(tiny_dataset, tiny_dataset.split("test")), 3)
    rows = latency.rows(["nuclei"], found)
    assert len(rows) == 1
    assert 0 < rows[0]["invoke_median_ms"] < rows[0]["end_to_end_median_ms"]
