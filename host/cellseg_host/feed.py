"""Training images in memory, and the stream of random views that the network learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cellseg_device.card import Card
from cellseg_host import keras_road, targets
from cellseg_host.augment import Augmentation, Sample, random_view
from cellseg_host.data.dataset import Dataset, Entry


def load_samples(dataset: Dataset, entries: Sequence[Entry], card: Card) -> list[Sample]:
    """Read, normalise as the device does, and draw the distance target."""
    samples = []
    for entry in entries:
        labels = dataset.labels(entry)
        samples.append(Sample(keras_road.levels(dataset.image(entry), card), labels, targets.distance(labels)))
    return samples


def sampling_weights(entries: Sequence[Entry]) -> np.ndarray:
    """Probability of each image: rarer modalities come up more often, by the square root of their share."""
    counts = {m: sum(e.modality == m for e in entries) for m in {e.modality for e in entries}}
    weights = np.array([counts[e.modality] ** -0.5 for e in entries])
    return weights / weights.sum()


def views(
    samples: Sequence[Sample],
    weights: np.ndarray,
    augmentation: Augmentation,
    side: int,
    batch: int,
    count: int,
    seed: tuple[int, int],
) -> tf.data.Dataset:
    """Batches of random views with their targets.

    Parameters
    ----------
    samples : sequence of Sample
    weights : ndarray, shape (len(samples),)
        Probability of each.
    augmentation : Augmentation
    side, batch, count : int
        Side of a view in pixels, views in a batch, batches.
    seed : tuple of int
        (run's seed, epoch): the same pair gives the same views, so that a resumed run goes on as it would have.

    Returns
    -------
    tf.data.Dataset
        Of (image, foreground, distance, gap), float32, each (batch, side, side, 3 or 1).
    """
    order = np.random.default_rng(seed).choice(len(samples), size=batch * count, p=weights)

    def view(number: np.int64) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((*seed, int(number)))
        image, labels, distance = random_view(samples[order[number]], side, augmentation, rng)
        gap = targets.gap_weight(labels)
        return image, (labels > 0).astype(np.float32)[..., None], distance[..., None], gap[..., None]

    def mapped(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        tensors = tf.numpy_function(view, [number], [tf.float32] * 4)
        for tensor, channels in zip(tensors, (3, 1, 1, 1), strict=True):
            tensor.set_shape((side, side, channels))
        return tuple(tensors)

    numbers = tf.data.Dataset.range(batch * count)
    return numbers.map(mapped, num_parallel_calls=2).batch(batch, drop_remainder=True).prefetch(2)
