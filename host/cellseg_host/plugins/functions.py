"""A user's loss or metric, tried before any training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from cellseg_host.plugins.loading import Plugin, described, find, one_line

# Probabilities are kept this far from 0 and 1, as Keras does, so that a loss may take their logarithm.
EPSILON = 1e-7


def loss(spec: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a user's loss of targets and probabilities, tried with and without cells in the batch.

    Parameters
    ----------
    spec : str
        ``FILE.py:custom_loss``.

    Raises
    ------
    InputError
        If it cannot be loaded, raises, or does not return a finite tensor of a usable shape that has a gradient.
    """
    plugin = find(spec, "--loss")
    plugin.check_signature("custom_loss(y_true, y_pred)", 2)
    cells = np.zeros((2, 8, 12, 1), np.float32)
    cells[:, 2:6, 3:9] = 1
    logits = np.linspace(-3, 3, cells.size, dtype=np.float32).reshape(cells.shape)
    gradient = _tried(plugin, cells, logits, "")
    if not np.any(gradient):
        raise plugin.error("has no gradient: nothing can be learnt from it (does it round y_pred, or use NumPy?)")
    _tried(plugin, cells * 0, logits - 20, " where no pixel belongs to a cell and all are predicted so")
    _tried(plugin, cells * 0 + 1, logits + 20, " where all pixels belong to cells and are predicted so")
    return plugin.function


def metric(spec: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return a user's metric of true and predicted labels, tried on a tiny pair and on empty images.

    Parameters
    ----------
    spec : str
        ``FILE.py:score``.

    Returns
    -------
    callable
        Takes two ndarrays of uint16, (height, width), and returns a finite float; raises InputError if the user's
        function does not.

    Raises
    ------
    InputError
        If it cannot be loaded, raises, or does not return a finite number.
    """
    plugin = find(spec, "--metric")
    plugin.check_signature("score(y_true, y_pred)", 2)

    def score(true: np.ndarray, predicted: np.ndarray) -> float:
        value = plugin.guarded(true, predicted)
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise plugin.error(f"must return a number, not {described(value)}") from None
        if not math.isfinite(number):
            cells = [np.unique(labels[labels > 0]).size for labels in (true, predicted)]
            raise plugin.error(f"returns {number} for an image with {cells[0]} true and {cells[1]} predicted cells")
        return number

    cells = np.zeros((16, 24), np.uint16)
    cells[2:8, 3:9], cells[5:12, 12:20] = 1, 2
    empty = np.zeros_like(cells)
    for true, predicted in ((cells, np.roll(cells, 1, axis=1)), (cells, empty), (empty, cells), (empty, empty)):
        score(true, predicted)
    return score


def _tried(plugin: Plugin, target: np.ndarray, logits: np.ndarray, where: str) -> np.ndarray:
    """Return the gradient of the loss with respect to the logits; 0 if there is none."""
    given: list[Any] = []

    def step(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            probability = tf.clip_by_value(tf.sigmoid(logits), EPSILON, 1 - EPSILON)
            given.append(plugin.function(tf.constant(target), probability))
            value = tf.reduce_mean(given[-1])
        return value, tape.gradient(value, logits, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    try:
        # In a graph, as in training; traced explicitly, since TensorFlow warns of functions that are traced often
        graph = tf.function(step).get_concrete_function(tf.TensorSpec(logits.shape, tf.float32))
        value, gradient = graph(tf.constant(logits))
    except Exception as error:  # noqa: BLE001 - the user's function may raise anything
        if not given:
            raise plugin.error(f"raises {one_line(error, plugin.path)}") from None
    result = given[0]
    if not tf.is_tensor(result) or not result.dtype.is_floating:
        found = f"one of {result.dtype.name}" if tf.is_tensor(result) else described(result)
        raise plugin.error(f"must return a tensor of floats, not {found}")
    shape = tuple(result.shape)
    if shape not in ((), target.shape[:1], target.shape[:3], target.shape):
        raise plugin.error(
            f"returns the shape {shape} for a batch of {target.shape}: one value is needed, or one per image or pixel"
        )
    if not np.isfinite(value):
        raise plugin.error(f"returns {float(value)}{where}")
    if not np.isfinite(gradient).all():
        raise plugin.error(f"has a gradient that is not finite{where}")
    return np.asarray(gradient)
