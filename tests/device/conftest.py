"""A worker on the bundled model, with an output folder of its own."""

import pytest

from cellseg_device.output import Output
from cellseg_device.worker import Worker


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def work(model, tmp_path, warnings):
    output = Output(tmp_path / "out", warnings.append)
    yield Worker(model, output)
    output.close()
