"""Learning when touching pieces are one cell, from contacts in training images, where the truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from cellseg_device.cells import contacts, instances, runs
from cellseg_device.errors import ImageError
from cellseg_device.model.card import Join, Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline.predict import Maps
from cellseg_device.pipeline.segment import landscape_of, limits

# Fewer contacts of either kind are too few to learn from
_LEAST = 20
_RIDGE = 1e-3


@dataclass(frozen=True)
class Examples:
    """Contacts of training images.

    Attributes
    ----------
    features : ndarray of float64, shape (n, 5)
        As the card's `Join` weighs them: maps in logits.
    same : ndarray of bool, shape (n,)
        Whether the two pieces are parts of one true cell.
    """

    features: npt.NDArray[np.float64]
    same: npt.NDArray[np.bool_]


def examples(
    maps: Iterable[Maps], truth: Iterable[npt.NDArray[np.uint16]], specs: Mapping[str, MapSpec], separation: Separation
) -> Examples:
    """Return the contacts that these maps have with this foreground threshold and prominence.

    A piece belongs to the true cell with which it shares most pixels, or to none.
    """
    features, same = [np.zeros((0, 5))], [np.zeros(0, bool)]
    for predicted, labels in zip(maps, truth, strict=True):
        with suppress(ImageError):  # more pieces than labels can number: the device refuses such an image
            found = _of_one_image(predicted, labels, specs, separation)
            features.append(found.features)
            same.append(found.same)
    return Examples(np.concatenate(features), np.concatenate(same))


def fit(known: Examples) -> Join | None:
    """Return a logistic regression with a slight ridge; None if there are too few examples to learn from."""
    if min(known.same.sum(), (~known.same).sum()) < _LEAST:
        return None
    mean, spread = known.features.mean(axis=0), known.features.std(axis=0) + 1e-9
    inputs = np.column_stack([np.ones(len(known.same)), (known.features - mean) / spread])
    sign = np.where(known.same, 1.0, -1.0)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margin = sign * (inputs @ weights)
        gradient = -(inputs * (sign * expit(-margin))[:, None]).mean(axis=0)
        slopes = np.concatenate([[0.0], weights[1:]])
        return float(np.logaddexp(0, -margin).mean() + _RIDGE / 2 * slopes @ slopes), gradient + _RIDGE * slopes

    bias, *weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    weights = np.array(weights) / spread
    return Join(*(round(float(w), 4) for w in (bias - weights @ mean, *weights)))


def _of_one_image(
    maps: Maps, truth: npt.NDArray[np.uint16], specs: Mapping[str, MapSpec], separation: Separation
) -> Examples:
    foreground, (landscape, spec) = specs["foreground"], landscape_of(maps, specs)
    assert landscape is not None
    assert spec is not None
    bounds = limits(foreground, spec, separation)
    pieces = instances.pieces(
        instances.mask_of(maps["foreground"], truth.shape, bounds.foreground), landscape, bounds.prominence
    )
    reduction = len(maps["foreground"]) // len(pieces)
    true = truth[::reduction, ::reduction].astype(np.int64)
    count, cut = int(pieces.max()) + 1, pieces[: true.shape[0], : true.shape[1]]
    shared = np.bincount((true * count + cut).reshape(-1), minlength=(int(true.max()) + 1) * count).reshape(-1, count)
    shared[0] = 0  # the background is no cell
    owner = shared.argmax(axis=0)
    sampled = maps["foreground"][::reduction, ::reduction]
    found = contacts.find(pieces, runs.find(pieces), landscape, sampled)
    features = found.features.copy()
    features[:, 0] *= spec.step
    features[:, 1] = (features[:, 1] - foreground.zero) * foreground.step
    return Examples(features, (owner[found.first] == owner[found.second]) & (owner[found.first] > 0))
