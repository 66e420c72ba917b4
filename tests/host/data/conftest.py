"""Small sources to import."""

import cv2
import pytest


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
