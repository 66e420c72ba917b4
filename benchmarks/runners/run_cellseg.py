"""A model file on the device package as a peer: cellseg's own, or the baseline U-Net with connected components."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from protocol import Found, serve

from cellseg_device import __version__
from cellseg_device.cells.instances import mask_of
from cellseg_device.errors import ImageError
from cellseg_device.image.source import read
from cellseg_device.model.interpreter import RUNTIME, Model
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.stopwatch import Stopwatch

FOREGROUND = 0.4  # of the published mean IoU


def label(model: Model, path: Path, *, once: bool) -> Found:
    """Read the file and label it, with the code that the watch runs.

    It looks at an image of much larger cells once more, at a smaller size; with `once` it does not.
    """
    watch = Stopwatch()
    image = segment.decode(read(path), watch)
    if once:
        seen = predict.Prediction(image, image.shape, predict.predict_maps(image, model, watch), model)
    else:
        seen = predict.predict(image, model, watch)
    try:
        labels = segment.labels_of(seen)
    except ImageError:  # more specks than labels: the device gives such an image up
        labels = np.zeros(image.shape, np.uint16)

    def mask() -> np.ndarray:
        (height, width), threshold = seen.shape, model.maps["foreground"].threshold(FOREGROUND)
        found = mask_of(seen.maps["foreground"], seen.shape, threshold)[:height, :width]
        return cv2.resize(found, image.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) > 0

    return Found(labels, watch.ms["invoke"], mask)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--once", action="store_true", help="see every image at its own size")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    model = Model(arguments.model, arguments.threads)
    serve(lambda path: label(model, path, once=arguments.once), {"cellseg-device": __version__, "runtime": RUNTIME})
