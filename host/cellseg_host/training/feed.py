"""Training images in memory, and the stream of random views that the network learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cellseg_device.model.card import Card
from cellseg_device.model.interpreter import Model
from cellseg_host.augment import Augmentation, Sample, random_view
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.training import distillation, keras_maps, targets

PRESENCE = "presence"
_TRIES = 4  # at a view with, or without, a cell


def load_samples(
    dataset: Dataset, entries: Sequence[Entry], card: Card, heads: Sequence[str], teachers: Sequence[Model] = ()
) -> list[Sample]:
    """Read images and labels, normalise as the device does, and draw those targets that warp with the image."""
    drawn = [h for h in targets.WARPED if h in heads]
    samples = []
    for entry in entries:
        labels = dataset.labels(entry)
        maps = {head: targets.TARGETS[head](labels) for head in drawn}
        image = dataset.image(entry)
        # Teachers are not asked about a field that is known to be empty
        soft = distillation.soft_targets(image, teachers, heads) if teachers and labels.any() else {}
        samples.append(Sample(keras_maps.levels(image, card), labels, maps, soft))
    return samples


def class_weights(samples: Sequence[Sample], weights: np.ndarray) -> tuple[float, float]:
    """Return the weights of a background and a foreground pixel that make both classes weigh the same in all.

    1 / (2 · share of the class), so that the mean over all pixels is 1; both are 1 where there is only one class.

    Parameters
    ----------
    samples : sequence of Sample
    weights : ndarray, shape (len(samples),)
        Probability of each, as for `views`.
    """
    share = float(np.dot(weights, [np.count_nonzero(s.labels) / s.labels.size for s in samples]))
    return (0.5 / (1 - share), 0.5 / share) if 0 < share < 1 else (1.0, 1.0)


def views(
    samples: Sequence[Sample],
    weights: np.ndarray,
    heads: Sequence[str],
    augmentation: Augmentation,
    *,
    side: int,
    batch: int,
    count: int,
    seed: tuple[int, int],
) -> tf.data.Dataset:
    """Return batches of random views with their targets.

    Parameters
    ----------
    samples : sequence of Sample
    weights : ndarray, shape (len(samples),)
        Probability of each.
    heads : sequence of str
        Names of the targets. A view's presence is 1 if any of its pixels belongs to a cell; with this head, half of
        the views show a cell and half do not, as far as the images allow.
    augmentation : Augmentation
    side, batch, count : int
        Side of a view in pixels, views in a batch, batches.
    seed : tuple of int
        (run's seed, epoch): the same pair gives the same views, so that a resumed run equals one that never stopped.

    Returns
    -------
    tf.data.Dataset
        Of (image, targets, border), float32: (batch, side, side, 3); a dict with (batch, side, side, 1) for each head,
        (batch, 1, 1, 1) for presence; and (batch, side, side, 1), `targets.border_weight`.
    """
    order = np.random.default_rng(seed).choice(len(samples), size=batch * count, p=weights)
    kinds = _by_presence(samples, weights) if PRESENCE in heads else None
    sizes = {head: 1 if head == PRESENCE else side for head in heads}

    def view(number: np.int64) -> list[np.ndarray]:
        rng = np.random.default_rng((*seed, int(number)))
        image, labels, maps, soft = random_view(samples[order[number]], side, augmentation, rng)
        if kinds:
            wanted = rng.random() < 0.5
            # Most images have both kinds of view; the last try is in an image with views of this kind only, if any
            for chances in [weights] * (_TRIES - 2) + [kinds[wanted]]:
                if labels.any() == wanted:
                    break
                sample = samples[rng.choice(len(samples), p=chances)]
                image, labels, maps, soft = random_view(sample, side, augmentation, rng)
        drawn = [_target(head, labels, maps, soft).reshape(size, size, 1) for head, size in sizes.items()]
        return [image, *drawn, targets.border_weight(labels)[..., None]]

    def mapped(number: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor], tf.Tensor]:
        image, *drawn, border = tf.numpy_function(view, [number], [tf.float32] * (len(sizes) + 2))
        image.set_shape((side, side, 3))
        border.set_shape((side, side, 1))
        for tensor, size in zip(drawn, sizes.values(), strict=True):
            tensor.set_shape((size, size, 1))
        return image, dict(zip(sizes, drawn, strict=True)), border

    numbers = tf.data.Dataset.range(batch * count)
    return numbers.map(mapped, num_parallel_calls=2).batch(batch, drop_remainder=True).prefetch(2)


def _target(head: str, labels: np.ndarray, maps: dict[str, np.ndarray], soft: dict[str, np.ndarray]) -> np.ndarray:
    if head == PRESENCE:
        return np.array(labels.any(), np.float32)
    truth = maps[head] if head in maps else targets.TARGETS[head](labels)
    if head not in soft:
        return truth
    return (1 - distillation.SHARE) * truth + distillation.SHARE * soft[head]


def _by_presence(samples: Sequence[Sample], weights: np.ndarray) -> dict[bool, np.ndarray]:
    """Return the probabilities of the images with (True) and without cells; of all images, if there is none such."""
    cells = np.array([s.labels.any() for s in samples])
    chances = {kind: weights * (cells == kind) for kind in (False, True)}
    return {kind: some / some.sum() if some.any() else weights for kind, some in chances.items()}
