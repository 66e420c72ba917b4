"""Workers on the bundled model, with an output folder of their own."""

import pytest

from cellseg_device.pipeline.models import Models
from cellseg_device.results.folder import Output
from cellseg_device.watching.worker import Worker


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def output(tmp_path, warnings):
    output = Output(tmp_path / "out", warnings.append)
    yield output
    output.close()


@pytest.fixture
def worker_with(model, output):
    """Make a worker with these options, on the one output folder."""
    workers = []

    def make(**options):
        workers.append(Worker(Models(model), output, **options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


@pytest.fixture
def work(worker_with):
    return worker_with()
