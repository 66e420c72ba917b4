"""Small sources to import."""

import importlib.util
import sys
from pathlib import Path

import cv2
import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    """The mutations of ``benchmarks/fuzz.py``."""
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fuzz"]


@pytest.fixture
def field(draw_blobs, draw_labels):
    """An image and its labels."""
    return draw_blobs(60, 80), draw_labels(60, 80)


@pytest.fixture
def labelled(tmp_path, field):
    """Two images with their labels: the folder."""
    for folder, picture in zip(("images", "labels"), field, strict=True):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / folder / name), picture)
    return tmp_path
