"""The join of touching pieces, learnt from contacts whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from cellseg_device import contacts, instances, runs
from cellseg_device.card import Join, Separation
from cellseg_device.errors import ImageError
from cellseg_device.model import MapSpec
from cellseg_device.segment import Maps, limits, relief_of

# Fewer contacts of either kind say nothing
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
    """The contacts that these maps have with this foreground and rise.

    A piece belongs to the true cell that it shares most pixels with; one in no cell is no part of any.
    """
    features, same = [np.zeros((0, 5))], [np.zeros(0, bool)]
    for drawn, labels in zip(maps, truth, strict=True):
        with suppress(ImageError):  # for more pieces than labels: the device gives such an image up
            seen = _of_one_image(drawn, labels, specs, separation)
            features.append(seen.features)
            same.append(seen.same)
    return Examples(np.concatenate(features), np.concatenate(same))


def fit(known: Examples) -> Join | None:
    """Logistic regression with a slight ridge; None where there are too few examples to learn from."""
    if min(known.same.sum(), (~known.same).sum()) < _LEAST:
        return None
    mean, spread = known.features.mean(axis=0), known.features.std(axis=0) + 1e-9
    inputs = np.column_stack([np.ones(len(known.same)), (known.features - mean) / spread])
    sign = np.where(known.same, 1.0, -1.0)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margin = sign * (inputs @ weights)
        gradient = -(inputs * (sign / (1 + np.exp(np.clip(margin, -50, 50))))[:, None]).mean(axis=0)
        slopes = np.concatenate([[0.0], weights[1:]])
        return float(np.logaddexp(0, -margin).mean() + _RIDGE / 2 * slopes @ slopes), gradient + _RIDGE * slopes

    bias, *weights = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    weights = np.array(weights) / spread
    return Join(*(round(float(w), 4) for w in (bias - weights @ mean, *weights)))


def _of_one_image(
    maps: Maps, truth: npt.NDArray[np.uint16], specs: Mapping[str, MapSpec], separation: Separation
) -> Examples:
    foreground, (relief, spec) = specs["foreground"], relief_of(maps, specs)
    assert relief is not None
    assert spec is not None
    bounds = limits(foreground, spec, separation)
    pieces = instances.pieces(
        instances.mask_of(maps["foreground"], truth.shape, bounds.foreground), relief, bounds.rise
    )
    reduction = len(maps["foreground"]) // len(pieces)
    true = truth[::reduction, ::reduction].astype(np.int64)
    count, cut = int(pieces.max()) + 1, pieces[: true.shape[0], : true.shape[1]]
    shared = np.bincount((true * count + cut).reshape(-1), minlength=(int(true.max()) + 1) * count).reshape(-1, count)
    shared[0] = 0  # the background owns none
    owner = shared.argmax(axis=0)
    sampled = maps["foreground"][::reduction, ::reduction]
    found = contacts.find(pieces, runs.find(pieces), relief, sampled)
    features = found.features.copy()
    features[:, 0] *= spec.step
    features[:, 1] = (features[:, 1] - foreground.zero) * foreground.step
    return Examples(features, (owner[found.first] == owner[found.second]) & (owner[found.first] > 0))
