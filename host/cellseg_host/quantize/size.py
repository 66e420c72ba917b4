"""The size of cells that a model copes with, by which the device decides when to scale an image down.

It is not the size that the model was shown: larger training cells beside the same small ones do not make it better on
the largest. So the validation images are enlarged until the model loses by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline.predict import LARGE_RATIO, predict_maps
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import labelled
from cellseg_host.synth.fault import Field
from cellseg_host.synth.faults import magnified

# Diameters over the median of the training cells: the first are those to compare with; the next is never too large,
# since the training cells themselves vary as much
RATIOS = (0.9, 1.0, 1.15, 1.75, 2.0, 2.3, 2.6, 3.0, 3.4)
_USUAL = 3
MOST_LOST = 0.015  # AP@0.5, the mean of a size and its neighbours: less is within the noise of so many images
_LEAST_IMAGES = 10  # to say anything
_MOST_IMAGES = 60
_LEAST_CELLS = 5  # in an image
_MOST_ENLARGED = 3.0  # beyond, an image is a blur
_SIDE_PX = 640  # of the middle of an enlarged image that is looked at


def cell_diameter_px(model: Model, dataset: Dataset, entries: Sequence[Entry]) -> float:
    """Return the diameter for a model's card: that of the largest cells that it copes with over `predict.LARGE_RATIO`.

    Parameters
    ----------
    model : Model
        Its card has the median diameter of the training cells, and the thresholds.
    dataset : Dataset
    entries : sequence of Entry
        Labelled images that it was not trained on.

    Returns
    -------
    float
        Pixels, rounded to a tenth; that in the card if there are too few images.
    """
    usual_px = model.card.cell_diameter_px
    least_px = RATIOS[_USUAL - 1] * usual_px / _MOST_ENLARGED
    known = [e for e in entries if (e.cells or 0) >= _LEAST_CELLS and e.median_diameter_px >= least_px]
    known = known[:: -(-len(known) // _MOST_IMAGES) or 1]
    if len(known) < _LEAST_IMAGES:
        return usual_px
    scores = np.array([list(_scores(model, dataset, entry)) for entry in known])
    losses = np.nanmean(scores[:, :_USUAL], axis=1, keepdims=True) - scores
    ratio = largest_ratio([column[~np.isnan(column)] for column in losses.T])
    return round(ratio * usual_px / LARGE_RATIO, 1)


def largest_ratio(losses: Sequence[np.ndarray]) -> float:
    """Return the largest of `RATIOS` up to which little is lost.

    Parameters
    ----------
    losses : sequence of ndarray
        For each ratio what each image loses of AP@0.5; any number of images.
    """
    found = RATIOS[_USUAL]
    for index in range(_USUAL + 1, len(RATIOS)):
        near = np.concatenate(list(losses[index - 1 : index + 2]))
        if len(near) < _LEAST_IMAGES or near.mean() > MOST_LOST:
            break
        found = RATIOS[index]
    return found


def _scores(model: Model, dataset: Dataset, entry: Entry) -> Iterator[float]:
    """Yield the AP@0.5 of an image at each size; NaN where it would have to be enlarged too much."""
    card = model.card
    image, labels = dataset.image(entry), dataset.labels(entry)
    for ratio in RATIOS:
        diameter_px = ratio * card.cell_diameter_px
        scale = diameter_px / entry.median_diameter_px
        if scale > _MOST_ENLARGED:
            yield np.nan
            continue
        middle = _middle(labels.shape, round(_SIDE_PX / scale))
        cut = Field(image.pixels[middle], labels[middle], entry.median_diameter_px)
        field = magnified(cut, diameter_px, np.random.default_rng(0))
        maps = predict_maps(Image(field.pixels), model)
        found = labelled(maps, field.labels.shape, model.maps, card.separation)
        yield float(metrics.average_precision(field.labels, found)[0])


def _middle(shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    """Return the middle of an image, at most `side` pixels wide and high."""
    top, left = (max((n - side) // 2, 0) for n in shape)
    return np.s_[top : top + side, left : left + side]
