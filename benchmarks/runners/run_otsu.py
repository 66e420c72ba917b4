"""Otsu and watershed as a peer."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from otsu import otsu_labels
from protocol import Found, serve


def segment(path: Path) -> Found:
    """Read the file and label it."""
    return Found(otsu_labels(cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    cv2.setNumThreads(parser.parse_args().threads)
    serve(segment, {"opencv": cv2.__version__})
