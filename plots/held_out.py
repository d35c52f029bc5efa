"""Pictures of held-out dyads: are they ranked well, and do link probabilities mean what they say?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes

from ..inference.evaluate import natural_weights
from . import _read
from . import _style as st

if TYPE_CHECKING:
    from ..data import Split
    from ..inference import Fit

__all__ = [
    "HeldOutPairs",
    "Reliability",
    "calibration",
    "held_out",
    "held_out_pairs",
    "link_prediction",
    "precision_recall",
    "reliability",
    "roc",
]


class HeldOutPairs(NamedTuple):
    """What is known of held-out dyads, as every picture here takes it.

    Attributes:
        targets: 1 for an edge, 0 for a pair without one, shape ``(P,)``.
        probabilities: Posterior mean P(edge), shape ``(P,)``.
        weights: How many dyads of the whole graph each stands for, shape ``(P,)``: held-out pairs
            are half edges, the dyads of nature are not.
    """

    targets: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


def held_out_pairs(
    fit: Fit,
    split: Split,
    part: Literal["val", "test"] = "test",
    draws: int = 200,
    seed: int | None = None,
) -> HeldOutPairs:
    """Predict the held-out pairs of a split.

    Args:
        fit: A fit of ``split`` (or of ``split.train``).
        split: What was held out.
        part: ``"val"`` or ``"test"``; the fit was chosen by the former.
        draws: Posterior draws that a probability averages over.
        seed: Of the draws; that of the fit if not given.

    Returns:
        Targets, probabilities and weights.

    Raises:
        ValueError: If the story has weights instead of links, if the part is empty, or if the fit
            has seen the pairs.
    """
    if fit.story.likelihood == "normal":
        raise ValueError(
            "a story with likelihood='normal' gives every dyad a weight, and no dyad a link "
            "probability: compare fit.expected_values(pairs) with the weights held out"
        )
    pairs, truth = split.pairs(part)
    if not pairs.shape[1]:
        raise ValueError(f"the split holds out no {part} pairs")
    count = fit.graph.num_nodes
    keys, hidden = (ends[0].cpu() * count + ends[1].cpu() for ends in (pairs, fit.graph.missing))
    if count != split.full.num_nodes or not torch.isin(keys, hidden).all():
        raise ValueError(
            f"the fit is not of this split: it has seen some of its {part} pairs. Fit the split "
            "itself, gl.inference.fit(story, guide, split)"
        )
    p = _read.array(fit.link_probabilities(pairs, draws, seed)).astype(float)
    return HeldOutPairs(_read.array(truth).astype(int), p, natural_weights(truth, split.full))


@dataclass(frozen=True)
class Reliability:
    """A reliability table over quantile bins.

    Attributes:
        predicted: Mean predicted probability, shape ``(B,)``.
        observed: Share of edges, shape ``(B,)``.
        low, high: Wilson's 90% interval of that share, shape ``(B,)`` each.
        count: Dyads, shape ``(B,)``.
        mass: Share of the weight, shape ``(B,)``; of the dyads, if they have no weights.
        ece: Expected calibration error over these bins: the mean of the absolute gaps by ``mass``.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    mass: np.ndarray
    ece: float


def reliability(
    probabilities: Any, targets: Any, bins: int = 10, weights: Any = None
) -> Reliability:
    """Bin predictions by quantile and compare them with what happened.

    Equal predictions always share a bin, so there may be fewer bins than asked for.

    Held-out pairs are mostly sampled, so many edges and so many pairs without one; their weights
    say what a pair stands for. The share of edges in a bin then has the odds of the sample times
    the ratio of the two weights, and so have the ends of its interval.

    Args:
        probabilities: Predicted probabilities of an edge, any shape; NaN is left out.
        targets: 0 or 1 for each, same shape; NaN is left out.
        bins: How many bins of about equal size.
        weights: Dyads that each pair stands for, same shape: one number for all edges, and one
            for all others. All stand for themselves if not given.

    Returns:
        The table.

    Raises:
        ValueError: On shapes that differ, probabilities beyond [0, 1], targets other than 0 and 1,
            or weights that differ among the edges or among the others.
    """
    p, y = (np.asarray(_read.array(part), dtype=float).ravel() for part in (probabilities, targets))
    if p.shape != y.shape:
        raise ValueError(f"{p.size} probabilities, but {y.size} targets")
    w = np.ones(p.shape) if weights is None else np.asarray(weights, dtype=float).ravel()
    if w.shape != p.shape:
        raise ValueError(f"{p.size} probabilities, but {w.size} weights")
    keep = np.isfinite(p) & np.isfinite(y)
    p, y, w = p[keep], y[keep], w[keep]
    if p.size == 0:
        raise ValueError("there is nothing to calibrate: no finite pair")
    if bins < 1 or p.min() < 0.0 or p.max() > 1.0:
        raise ValueError("calibration needs bins >= 1 and probabilities between 0 and 1")
    _check_targets(y)
    one, other = (_common_weight(w[y == kind], kind) for kind in (1, 0))
    by_size = np.argsort(p, kind="stable")
    p, y, w = p[by_size], y[by_size], w[by_size]
    starts = np.linspace(0, p.size, min(bins, p.size), endpoint=False).round().astype(int)
    # Ties stay in the bin in which they begin: a start among equals moves behind the last of them.
    inside = (starts > 0) & (p[starts] == p[starts - 1])
    starts = np.where(inside, np.searchsorted(p, p[starts], side="right"), starts)
    starts = np.unique(starts[starts < p.size])
    count = np.diff(np.append(starts, p.size))
    mass = np.add.reduceat(w, starts)
    predicted = np.add.reduceat(w * p, starts) / mass
    observed = np.add.reduceat(w * y, starts) / mass
    low, high = (
        one * end / (one * end + other * (1.0 - end))
        for end in _wilson(np.add.reduceat(y, starts) / count, count)
    )
    mass = mass / mass.sum()
    ece = float(np.sum(mass * np.abs(predicted - observed)))
    return Reliability(predicted, observed, low, high, count, mass, ece)


def _check_targets(targets: np.ndarray) -> None:
    strange = np.unique(targets[(targets != 0) & (targets != 1)])
    if strange.size:
        raise ValueError(
            f"targets are 0 (no edge) or 1 (an edge), not {strange[0]:g}: of counts take "
            "targets > 0 beside P(count > 0); weights have no link probability to look at"
        )


def _common_weight(weights: np.ndarray, kind: int) -> float:
    """Return the weight that all pairs of a kind share; 1 where there are none."""
    if not weights.size:
        return 1.0
    least, most = float(weights.min()), float(weights.max())
    if not least > 0.0 or most - least > 1e-9 * most or not np.isfinite(most):
        raise ValueError(
            f"weights must be positive and equal for all {'edges' if kind else 'pairs without one'}"
            f", not between {least:g} and {most:g}"
        )
    return most


def _wilson(share: np.ndarray, count: np.ndarray, z: float = 1.6449) -> tuple[np.ndarray, ...]:
    """Return Wilson's 90% interval for a share."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def calibration(
    probabilities: Any,
    targets: Any,
    ax: Axes | None = None,
    *,
    bins: int = 10,
    log: bool | None = None,
    weights: Any = None,
) -> Axes:
    """Draw a reliability curve: what was predicted against what happened.

    Args:
        probabilities: Predicted probabilities of an edge, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.
        bins: How many quantile bins.
        log: Logarithmic axes, for sparse graphs; if not given, chosen where fewer than 5% of the
            dyads are edges. Bins without an edge then sit on the lower border as triangles.
        weights: Dyads that each pair stands for, as :func:`reliability` takes them.

    Returns:
        The axes.

    Raises:
        ValueError: As :func:`reliability`.
    """
    table = reliability(probabilities, targets, bins, weights)
    ax = ax if ax is not None else st.new_axes(4.8, 4.8)
    base = float(np.sum(table.observed * table.mass))
    log = base < 0.05 if log is None else log
    x, y, low, high = table.predicted, table.observed, table.low, table.high
    least, most = 0.0, 1.0
    if log:
        positive = np.concatenate([x[x > 0], y[y > 0]])
        least = 0.5 * float(positive.min(initial=0.1))
        most = float(min(1.0, 2.0 * max(x.max(), high.max())))
        x, y, low = (np.clip(part, least, None) for part in (x, y, low))
        ax.set_xscale("log")
        ax.set_yscale("log")
    empty = table.observed < least if log else np.zeros(len(x), bool)
    ax.plot([least, most], [least, most], color=st.GREY, lw=1.2, ls="--", label="perfect")
    ax.errorbar(
        x,
        y,
        yerr=np.clip([y - low, high - y], 0.0, None),
        fmt="none",
        ecolor=st.BLUE,
        elinewidth=1.3,
        alpha=0.8,
    )
    ax.plot(
        x[~empty], y[~empty], color=st.BLUE, marker="o", ms=5, lw=1.3, label="bins, 90% interval"
    )
    if empty.any():
        ax.plot(
            x[empty], y[empty], ls="none", marker="v", ms=6, color=st.BLUE, label="bins, no edge"
        )
    pad = 0.03 if not log else 0.0
    ax.set_xlim(least - pad, most + pad)
    ax.set_ylim(least * (0.9 if log else 1) - pad, most + pad)
    ax.set_aspect("equal" if not log else "auto")
    ax.grid(color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    total, shown = int(table.count.sum()), len(x)
    share = "observed share of edges" + ("" if weights is None else ", weighted")
    st.dress(
        ax,
        f"Calibration: ECE = {table.ece:.4f}\n{total:,} dyads, {shown} bins, {base:.2%} edges",
        "predicted probability of an edge",
        share,
    )
    st.legend(ax, loc="upper left")
    return ax


def _ranked(scores: Any, targets: Any, weights: Any) -> tuple[np.ndarray, ...]:
    """Return labels, scores and weights (or ``None``) of one length, checked."""
    labels = np.asarray(_read.array(targets), dtype=float).ravel()
    values = np.asarray(_read.array(scores), dtype=float).ravel()
    if labels.shape != values.shape:
        raise ValueError(f"{values.size} scores, but {labels.size} targets")
    _check_targets(labels)
    if len(np.unique(labels)) != 2:
        raise ValueError("a ranking curve needs both edges and pairs without one")
    chosen = None if weights is None else np.asarray(weights, dtype=float).ravel()
    if chosen is not None and chosen.shape != labels.shape:
        raise ValueError(f"{values.size} scores, but {chosen.size} weights")
    return labels.astype(int), values, chosen  # type: ignore[return-value]


def roc(scores: Any, targets: Any, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of scores for dyads.

    It compares edges with the rest, so weights that are equal within each do not change it.

    Args:
        scores: Higher for more likely edges, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: If shapes differ, targets are not 0 and 1, or all are the same.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    labels, values, _ = _ranked(scores, targets, None)
    wrong, right, _ = roc_curve(labels, values)
    ax = ax if ax is not None else st.new_axes(4.8, 4.6)
    ax.plot([0, 1], [0, 1], color=st.GREY, lw=1.2, ls="--", label="chance")
    ax.plot(wrong, right, color=st.BLUE, lw=1.8, label="model")
    return _finish_curve(
        ax,
        f"ROC: area = {roc_auc_score(labels, values):.3f} ({labels.size:,} dyads)",
        "false positive rate",
        "true positive rate",
    )


def precision_recall(
    scores: Any, targets: Any, ax: Axes | None = None, *, weights: Any = None
) -> Axes:
    """Draw the precision-recall curve of scores for dyads.

    Args:
        scores: Higher for more likely edges, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.
        weights: Dyads that each pair stands for, same shape. Without, precision is that among the
            pairs as they come, which are half edges as :class:`~graphlore.data.Split` makes them.

    Returns:
        The axes.

    Raises:
        ValueError: If shapes differ, targets are not 0 and 1, or all are the same.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    labels, values, chosen = _ranked(scores, targets, weights)
    precision, recall, _ = precision_recall_curve(labels, values, sample_weight=chosen)
    ax = ax if ax is not None else st.new_axes(4.8, 4.6)
    base = float(np.average(labels, weights=chosen))
    ax.axhline(base, color=st.GREY, lw=1.2, ls="--", label=f"chance ({base:.2g})")
    ax.step(recall, precision, color=st.BLUE, lw=1.8, where="post", label="model")
    average = average_precision_score(labels, values, sample_weight=chosen)
    return _finish_curve(
        ax,
        f"Precision-recall\naverage precision = {average:.3f}",
        "recall",
        "precision",
    )


def _finish_curve(ax: Axes, title: str, xlabel: str, ylabel: str) -> Axes:
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_aspect("equal")
    ax.grid(color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    st.legend(ax, loc="best")
    return st.dress(ax, title, xlabel, ylabel)


def held_out(targets: Any, probabilities: Any, weights: Any = None, axes: Any = None) -> np.ndarray:
    """Draw how well held-out pairs are predicted: ROC, precision and recall, calibration.

    Args:
        targets: 0 or 1 for each pair, shape ``(P,)``, both among them.
        probabilities: Predicted probabilities of an edge, shape ``(P,)``.
        weights: Dyads that each pair stands for, shape ``(P,)``, for calibration alone: ranking is
            of the pairs as they come, as ``fit.evaluate(split)`` scores it.
        axes: Three axes to draw into.

    Returns:
        The three axes, shape ``(3,)``.

    Raises:
        ValueError: As :func:`reliability` and :func:`roc`.
    """
    panels = st.new_grid(1, 3, 13.5, 5.2)[0] if axes is None else st.given_axes(axes, 3)
    roc(probabilities, targets, panels[0])
    precision_recall(probabilities, targets, panels[1])
    calibration(probabilities, targets, panels[2], weights=weights)
    return panels


def link_prediction(
    fit: Fit,
    split: Split,
    axes: Any = None,
    *,
    part: Literal["val", "test"] = "test",
    draws: int = 200,
    seed: int | None = None,
) -> np.ndarray:
    """Predict the held-out pairs of a split and draw :func:`held_out`, in one call.

    Args:
        fit: A fit of ``split``.
        split: What was held out.
        axes: Three axes to draw into.
        part: ``"val"`` or ``"test"``.
        draws: Posterior draws that a probability averages over.
        seed: Of the draws; that of the fit if not given.

    Returns:
        The three axes, shape ``(3,)``.

    Raises:
        ValueError: As :func:`held_out_pairs`.
    """
    return held_out(*held_out_pairs(fit, split, part, draws, seed), axes=axes)
