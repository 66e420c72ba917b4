"""StarDist 2D as a peer: from the file to the labels with a trained model, else the network alone."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import stardist
import stardist_data
import tensorflow as tf
from protocol import Found, serve
from stardist.models import StarDist2D


class Timed:
    """The Keras model's ``predict``, and how long it took last."""

    def __init__(self, predict: Any) -> None:
        self.predict, self.ms = predict, 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Predict."""
        start = time.perf_counter()
        result = self.predict(*arguments, **named)
        self.ms = (time.perf_counter() - start) * 1e3
        return result


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a trained model's folder; without it the weights are random")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    trained = arguments.model
    if trained:
        model = StarDist2D(None, name=trained.name, basedir=str(trained.parent))
    else:
        model = StarDist2D(stardist_data.configuration(), basedir=None)
    timed = model.keras_model.predict = Timed(model.keras_model.predict)

    def segment(path: Path) -> Found:
        pixels = stardist_data.image(path)
        if trained:
            labels, _ = model.predict_instances(pixels)
            return Found(labels, timed.ms)
        model.predict(pixels)
        return Found(None, timed.ms)

    serve(segment, {"stardist": stardist.__version__, "tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
