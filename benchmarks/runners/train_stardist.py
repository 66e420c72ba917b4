"""Trains StarDist on an imported dataset, in StarDist's environment, until its validation loss is flat.

It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import stardist_data
from stardist.models import StarDist2D

CHECKPOINT = "weights_now.h5"
PATIENCE = 20  # epochs in which the validation loss has not fallen, as of the U-Net (peers.py)


def augmenter(seed: int) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Views turned, mirrored, and of another intensity: as in StarDist's example of training."""
    rng = np.random.default_rng(seed)

    def augment(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turns = int(rng.integers(4))
        pixels, labels = np.rot90(pixels, turns), np.rot90(labels, turns)
        if rng.random() < 0.5:
            pixels, labels = pixels[::-1], labels[::-1]
        pixels = pixels * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
        return pixels + 0.02 * rng.random() * rng.normal(size=pixels.shape), labels

    return augment


def main() -> None:
    """Train what is missing, then choose the thresholds on the validation split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="the model's folder")
    parser.add_argument("--epochs", type=int, required=True, help="at most")
    arguments = parser.parse_args()
    folder, epochs = arguments.out, arguments.epochs
    progress, flat = folder / "epochs.txt", folder / "flat"
    done = int(progress.read_text()) if progress.exists() else 0
    over = done >= epochs or flat.exists()
    if over and (folder / "thresholds.json").exists():
        return
    model = StarDist2D(stardist_data.configuration(), name=folder.name, basedir=str(folder.parent))
    train, val = (stardist_data.pairs(arguments.data, split) for split in ("train", "val"))
    if not over:
        model.prepare_for_training()
        if done:  # the optimizer's state begins anew
            kept = CHECKPOINT if (folder / CHECKPOINT).exists() else "weights_last.h5"
            model.load_weights(kept)
        from tensorflow.keras.callbacks import EarlyStopping, LambdaCallback

        # After the checkpoint's own callback, which stands before it in the list
        count = LambdaCallback(on_epoch_end=lambda epoch, _: progress.write_text(str(done + epoch + 1)))
        stop = EarlyStopping("val_loss", patience=PATIENCE)
        model.callbacks += [count, stop]
        model.train(*train, validation_data=val, augmenter=augmenter(done), epochs=epochs - done, seed=done)
        if stop.stopped_epoch:
            flat.touch()
    else:
        model.load_weights("weights_best.h5")
    model.optimize_thresholds(*val)


if __name__ == "__main__":
    main()
