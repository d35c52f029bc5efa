"""How good predictions are: links by ranking (scikit-learn) and calibration, weighted if need be; classes of nodes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from torch import Tensor

__all__ = [
    "calibration_bins",
    "calibration_scores",
    "classification_scores",
    "hits_at",
    "ranking_scores",
]


def ranking_scores(probabilities: Tensor, truth: Tensor) -> tuple[float, float]:
    """(area under the ROC curve, average precision) of (P,) probabilities against (P,) 0/1."""
    p, y = _numpy(probabilities), _numpy(truth)
    return float(roc_auc_score(y, p)), float(average_precision_score(y, p))


def hits_at(k: int, probabilities: Tensor, truth: Tensor) -> float:
    """Share of the true links ranked above the k-th best non-link (the OGB convention); 1 if there are fewer than k."""
    p, y = _numpy(probabilities), _numpy(truth)
    negatives = np.sort(p[y == 0])[::-1]
    if len(negatives) < k:
        return 1.0
    return float((p[y == 1] > negatives[k - 1]).mean())


def calibration_bins(
    probabilities: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, frequency of links, share of the weight) of ``bins`` equal intervals of [0, 1].

    Empty bins hold NaN, NaN, 0.
    """
    p, y = _numpy(probabilities), _numpy(truth)
    w = np.ones_like(p) if weights is None else _numpy(weights)
    which = np.minimum((p * bins).astype(int), bins - 1)
    mass = np.bincount(which, w, bins)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(which, w * p, bins) / mass,
            np.bincount(which, w * y, bins) / mass,
            mass / w.sum(),
        )


def calibration_scores(
    probabilities: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, float]:
    """Log-loss (nats a dyad), Brier score and expected calibration error, each a weighted mean over dyads.

    The expected calibration error is that of Guo et al. (2017): 15 equal intervals of [0, 1], the absolute gap
    between mean probability and frequency, weighted by the share of dyads.
    """
    p, y = _numpy(probabilities), _numpy(truth)
    w = np.ones_like(p) if weights is None else _numpy(weights)
    tiny = 1e-12
    log_loss = -(y * np.log(np.maximum(p, tiny)) + (1 - y) * np.log(np.maximum(1 - p, tiny)))
    confidence, frequency, share = calibration_bins(p, y, w)
    return {
        "log_loss": float(np.average(log_loss, weights=w)),
        "brier": float(np.average((p - y) ** 2, weights=w)),
        "ece": float(np.nansum(share * np.abs(confidence - frequency))),
    }


def classification_scores(probabilities: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Accuracy, macro-averaged F1 and log-loss (nats a node) of (P, C) class probabilities against (P,) classes.

    The predicted class is the most probable one, the first of equals. Macro F1 averages over the classes that are
    true or predicted of some node (scikit-learn's convention).

    Raises:
        ValueError: probabilities that are not finite.
    """
    p, y = _numpy(probabilities), _numpy(truth).astype(np.int64)
    if not np.isfinite(p).all():
        raise ValueError("class probabilities are not finite")
    predicted = p.argmax(1)
    return {
        "accuracy": float(accuracy_score(y, predicted)),
        "macro_f1": float(f1_score(y, predicted, average="macro", zero_division=0.0)),
        "log_loss": float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()),
    }


def _numpy(x: Tensor | ArrayLike) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().numpy()
    return np.asarray(x, dtype=np.float64)
