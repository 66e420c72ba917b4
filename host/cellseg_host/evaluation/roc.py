"""Accuracy of a yes-or-no classifier, from its probabilities and the truth, as small pure functions.

References
----------
.. [1] T. Fawcett, An introduction to ROC analysis. Pattern Recognition Letters 27, 861–874 (2006).
.. [2] J. Davis and M. Goadrich, The relationship between precision-recall and ROC curves. ICML 2006.
.. [3] E. B. Wilson, Probable inference, the law of succession, and statistical inference. JASA 22, 209–212 (1927).
.. [4] W. J. Youden, Index for rating diagnostic tests. Cancer 3, 32–35 (1950).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Truth = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Proportion:
    """`hits` of `of` cases."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; None where there is no case."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % score interval [3]_, for independent cases; None where there is no case."""
        if not self.of:
            return None
        from scipy.stats import binomtest  # takes a second to import

        found = binomtest(self.hits, self.of).proportion_ci(0.95, "wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Confusion:
    """Right and wrong answers at a threshold: a case counts as positive from that probability upwards.

    Attributes
    ----------
    threshold : float
    true_positives, false_positives, true_negatives, false_negatives : int
    """

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def accuracy(self) -> Proportion:
        """(TP + TN) / all."""
        right = self.true_positives + self.true_negatives
        return Proportion(right, right + self.false_positives + self.false_negatives)

    @property
    def sensitivity(self) -> Proportion:
        """TP / (TP + FN), also called recall: the share of the cases with a cell that are called positive."""
        return Proportion(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Proportion:
        """TN / (TN + FP): the share of the cases without a cell that are called negative."""
        return Proportion(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def ppv(self) -> Proportion:
        """TP / (TP + FP), also called precision: the share of the cases called positive that are."""
        return Proportion(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> Proportion:
        """TN / (TN + FN): the share of the cases called negative that are."""
        return Proportion(self.true_negatives, self.true_negatives + self.false_negatives)


@dataclass(frozen=True)
class Roc:
    """Receiver operating characteristic [1]_, from "none is positive" (threshold ∞) to "all are".

    Attributes
    ----------
    threshold, false_positive_rate, true_positive_rate : ndarray of float64, shape (k,)
        A rate without cases is NaN.
    auc : float or None
        Area under the curve: the chance that a case with a cell gets a higher probability than one without, ties
        counting half. None where there is only one kind of case.
    """

    threshold: Probability
    false_positive_rate: Probability
    true_positive_rate: Probability
    auc: float | None


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision against recall, from the highest threshold down.

    Attributes
    ----------
    threshold, precision, recall : ndarray of float64, shape (k,)
    average_precision : float or None
        Σ (recall_i − recall_(i−1)) · precision_i, without interpolation, which would overestimate it [2]_. None where
        no case shows a cell.
    """

    threshold: Probability
    precision: Probability
    recall: Probability
    average_precision: float | None


def roc(truth: Truth, probability: Probability) -> Roc:
    """Return the ROC curve, with a point for each distinct probability.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
    probability : ndarray of float, shape (n,)
    """
    threshold, true_positives, false_positives = _cumulative(truth, probability)
    positives = int(np.count_nonzero(truth))
    tpr = _divided(true_positives, positives)
    fpr = _divided(false_positives, len(truth) - positives)
    if not 0 < positives < len(truth):
        return Roc(threshold, fpr, tpr, None)
    return Roc(threshold, fpr, tpr, float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1])) / 2))


def precision_recall(truth: Truth, probability: Probability) -> PrecisionRecall:
    """Return the precision-recall curve, with a point for each distinct probability.

    Parameters
    ----------
    truth : ndarray of bool, shape (n,)
    probability : ndarray of float, shape (n,)
    """
    threshold, true_positives, false_positives = (a[1:] for a in _cumulative(truth, probability))
    precision = true_positives / (true_positives + false_positives)
    recall = _divided(true_positives, int(np.count_nonzero(truth)))
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision)) if truth.any() else None
    return PrecisionRecall(threshold, precision, recall, average)


def at_threshold(truth: Truth, probability: Probability, threshold: float) -> Confusion:
    """Count the right and wrong answers, positive from `threshold` upwards."""
    positive = probability >= threshold
    counts = (truth & positive, ~truth & positive, ~truth & ~positive, truth & ~positive)
    return Confusion(float(threshold), *(int(np.count_nonzero(c)) for c in counts))


def best_threshold(truth: Truth, probability: Probability) -> float:
    """Return the threshold with the largest J = sensitivity + specificity − 1 [4]_; choose it on the validation split.

    It lies half-way to the next lower probability; of several equally good ones it is the nearest to one half. One half
    where there is only one kind of case.
    """
    curve = roc(truth, probability)
    if curve.auc is None:
        return 0.5
    j = curve.true_positive_rate - curve.false_positive_rate
    between = (curve.threshold + np.append(curve.threshold[1:], 0.0)) / 2
    candidates = between[1:][np.isclose(j[1:], j[1:].max())]
    return float(candidates[np.argmin(np.abs(candidates - 0.5))])


def _cumulative(truth: Truth, probability: Probability) -> tuple[Probability, Probability, Probability]:
    """Return the distinct thresholds from ∞ down, with the true and false positives at each."""
    order = np.argsort(-probability, kind="stable")
    ranked, hits = probability[order], truth[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, len(ranked) > 0))  # of each run of equal probabilities
    true_positives = np.cumsum(hits)[last]
    false_positives = last + 1 - true_positives
    return (
        np.concatenate([[np.inf], ranked[last]]),
        np.concatenate([[0.0], true_positives]),
        np.concatenate([[0.0], false_positives]),
    )


def _divided(counts: Probability, total: int) -> Probability:
    return counts / total if total else np.full(counts.shape, np.nan)
