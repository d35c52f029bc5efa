"""Pictures that confront a fit with the data: predictive checks, calibration, ranking curves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..inference.statistics import p_value
from . import _read
from . import _style as st

# name in the result -> (short title, phrase for a verdict, whether it counts something)
STATISTICS: dict[str, tuple[str, str, bool]] = {
    "density": ("density", "the density", False),
    "degree_sd": ("s.d. of degree", "the spread of the degrees", False),
    "max_degree": ("largest degree", "the largest degree", True),
    "triangles": ("triangles", "the number of triangles", True),
    "transitivity": ("transitivity", "the transitivity", False),
    "clustering": ("mean local clustering", "the mean local clustering", False),
    "assortativity": ("degree assortativity", "the degree assortativity", False),
    "label_assortativity": ("label assortativity", "the assortativity of the labels", False),
    "components": ("components", "the number of components", True),
    "isolated": ("isolated nodes", "the number of isolated nodes", True),
    "largest_component": (
        "largest component",
        "the size of the largest component",
        False,
    ),
    "path_length": ("mean path length", "the length of paths", False),
    "diameter": ("diameter", "the diameter of the largest component", True),
    "spectral_radius": ("spectral radius", "the largest eigenvalue", False),
    "spectral_gap": ("spectral gap", "the spectral gap of the largest component", False),
}


def verdict(p: float, statistic: str | None = None) -> str:
    """Put a posterior predictive p-value into words.

    Args:
        p: The p-value, as :func:`p_value` defines it.
        statistic: Name of the statistic, for the sentence.

    Returns:
        "consistent with the model" for 0.05 < p < 0.95; else that the model understates (small p)
        or overstates (large p) the statistic, "strongly" beyond 0.005 and 0.995.
    """
    if not math.isfinite(p):
        return "not defined for this graph"
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a p-value lies between 0 and 1, not at {p}")
    if 0.05 < p < 0.95:
        return "consistent with the model"
    what = "the statistic" if statistic is None else STATISTICS.get(statistic, ("", statistic))[1]
    strongly = "strongly " if p < 0.005 or p > 0.995 else ""
    return f"the model {strongly}{'understates' if p <= 0.05 else 'overstates'} {what}"


def format_p(p: float) -> str:
    """Write a p-value with two digits: "p = 0.43", "p < 0.01", "p not defined"."""
    if not math.isfinite(p):
        return "p not defined"
    if p < 0.005:
        return "p < 0.01"
    return "p > 0.99" if p > 0.995 else f"p = {p:.2f}"


def _bins(values: np.ndarray, counts: bool) -> np.ndarray:
    """Return edges of histogram bins; whole numbers sit in the middle of theirs."""
    low, high = float(values.min()), float(values.max())
    most = int(np.clip(2 * math.sqrt(values.size), 6, 20))
    if counts and high - low <= 1.5 * most:
        return np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    if counts:
        width = math.ceil((high - low + 1) / most)
        return np.arange(math.floor(low), high + width + 1, width) - 0.5
    if high - low < 1e-12:
        half = 0.05 * abs(low) or 0.5
        return np.linspace(low - half, low + half, 4)
    return np.linspace(low, high, most + 1)


def posterior_predictive(idata: Any, axes: Any = None) -> np.ndarray:
    """Draw each statistic of generated graphs against its value in the observed graph.

    Args:
        idata: ArviZ result with scalar statistics in ``posterior_predictive`` (chain, draw) and in
            ``observed_data`` (no dims).
        axes: As many axes as there are statistics.

    Returns:
        One axes a statistic, shape ``(number of statistics,)``.

    Raises:
        KeyError: If the result holds no statistic.
    """
    shown = [
        name
        for name in STATISTICS
        if _read.has(idata, "posterior_predictive", name)
        and _read.has(idata, "observed_data", name)
    ]
    if not shown:
        raise KeyError("the result has no graph statistics in posterior_predictive")
    if axes is None:
        columns = min(4, len(shown))
        rows = -(-len(shown) // columns)
        grid = st.new_grid(rows, columns, 2.15 * columns + 0.3, 2.05 * rows + 0.5)
        for empty in grid.ravel()[len(shown) :]:
            empty.set_axis_off()
        panels = grid.ravel()[: len(shown)]
        panels[0].figure.suptitle(
            "Statistics of generated graphs, and of the observed one (line)",
            fontsize=st.TITLE,
            color=st.INK,
        )
    else:
        panels = st.given_axes(axes, len(shown))
    for panel, name in zip(panels, shown, strict=True):
        title, _, counts = STATISTICS[name]
        values = _read.draws(idata, "posterior_predictive", name).astype(float).ravel()
        observed = _read.scalar(idata, "observed_data", name)
        p = p_value(values, observed)
        values = values[np.isfinite(values)]
        if values.size:
            panel.hist(
                values,
                bins=_bins(values, counts),
                weights=np.full(values.size, 100.0 / values.size),
                color=st.SKY,
                edgecolor="white",
                linewidth=0.3,
            )
        if math.isfinite(observed):
            panel.axvline(observed, color=st.VERMILLION, lw=2.0)
        near = values if not math.isfinite(observed) else np.append(values, observed)
        if near.size:
            spread = float(np.ptp(near)) or max(1.0 if counts else 0.1, 0.05 * abs(near[0]))
            half = 0.5 if counts else 0.0
            panel.set_xlim(near.min() - 0.06 * spread - half, near.max() + 0.06 * spread + half)
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=counts))
        panel.yaxis.set_major_locator(MaxNLocator(3))
        st.dress(panel, f"{title}\n{format_p(p)}")
        panel.margins(y=0.1)
    for panel in panels[:: 4 if axes is None else len(panels)]:
        panel.set_ylabel("draws (%)", fontsize=st.LABEL, color=st.INK)
    return panels


def _survival(degrees: np.ndarray, top: int) -> np.ndarray:
    """Return the share of nodes with degree at least d, for d = 0..top."""
    counts = np.bincount(np.clip(degrees, 0, top), minlength=top + 1)
    return counts[::-1].cumsum()[::-1] / max(1, degrees.size)


def degrees(idata: Any, ax: Axes | None = None, *, log: bool | None = None) -> Axes:
    """Draw the degree distribution of the data over a 90% band of the model's.

    Args:
        idata: ArviZ result with ``degree`` in ``posterior_predictive`` (chain, draw, node) and in
            ``observed_data`` (node).
        ax: Where to draw.
        log: Logarithmic axes; if not given, chosen for more than 200 nodes.

    Returns:
        The axes.
    """
    model = np.rint(_read.draws(idata, "posterior_predictive", "degree")).astype(int)
    observed = np.rint(_read.variable(idata, "observed_data", "degree").values).astype(int)
    ax = ax if ax is not None else st.new_axes(6.4, 4.0)
    log = observed.size > 200 if log is None else log
    top = int(max(model.max(initial=0), observed.max(initial=0))) + 1
    curves = np.stack([_survival(row, top) for row in model])
    low, middle, high = np.quantile(curves, (0.05, 0.5, 0.95), axis=0)
    seen = _survival(observed, top)
    d = np.arange(top + 1)
    first = 1 if log else 0
    floor = 0.5 / max(1, observed.size) if log else 0.0
    x = d[first:]
    ax.fill_between(
        x,
        np.maximum(low[first:], floor),
        np.maximum(high[first:], floor),
        color=st.SKY,
        alpha=0.45,
        lw=0,
        label=f"model, 90% of {len(model):,} draws",
    )
    ax.plot(
        x,
        np.where(middle[first:] > 0, middle[first:], np.nan),
        color=st.BLUE,
        lw=1.4,
        label="model, median",
    )
    inside = np.arange(first, observed.max(initial=0) + 1)
    ax.plot(
        inside,
        seen[inside],
        color=st.VERMILLION,
        marker="o",
        ms=3.5,
        lw=1.2,
        label="observed",
    )
    if log:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(floor, 1.4)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter("{x:,g}")
    else:
        ax.set_ylim(0, 1.03)
        ax.set_xlim(-0.3, top)
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    ax.grid(color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    st.dress(
        ax,
        f"Degree distribution, observed and generated ({observed.size:,} nodes)",
        "degree d (edges)",
        "share of nodes with degree ≥ d",
    )
    st.legend(ax, loc="lower left" if log else "upper right")
    return ax


@dataclass(frozen=True)
class Reliability:
    """A reliability table over quantile bins.

    Attributes:
        predicted: Mean predicted probability, shape ``(B,)``.
        observed: Share of edges, shape ``(B,)``.
        count: Dyads, shape ``(B,)``.
        ece: Expected calibration error, the mean over dyads of the bins' absolute gaps.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    ece: float


def reliability(probabilities: Any, targets: Any, bins: int = 10) -> Reliability:
    """Bin predictions by quantile and compare them with what happened.

    Equal predictions always share a bin, so there may be fewer bins than asked for.

    Args:
        probabilities: Predicted probabilities of an edge, any shape; NaN is left out.
        targets: 0 or 1 for each, same shape; NaN is left out.
        bins: How many bins of about equal size.

    Returns:
        The table.
    """
    p, y = (np.asarray(part, dtype=float).ravel() for part in (probabilities, targets))
    if p.shape != y.shape:
        raise ValueError(f"{p.size} probabilities, but {y.size} targets")
    keep = np.isfinite(p) & np.isfinite(y)
    p, y = p[keep], y[keep]
    if p.size == 0:
        raise ValueError("there is nothing to calibrate: no finite pair")
    if bins < 1 or p.min() < 0.0 or p.max() > 1.0:
        raise ValueError("calibration needs bins >= 1 and probabilities between 0 and 1")
    by_size = np.argsort(p, kind="stable")
    p, y = p[by_size], y[by_size]
    starts = np.linspace(0, p.size, min(bins, p.size), endpoint=False).round().astype(int)
    # Ties stay in the bin in which they begin: a start among equals moves behind the last of them.
    inside = (starts > 0) & (p[starts] == p[starts - 1])
    starts = np.where(inside, np.searchsorted(p, p[starts], side="right"), starts)
    starts = np.unique(starts[starts < p.size])
    count = np.diff(np.append(starts, p.size))
    predicted = np.add.reduceat(p, starts) / count
    observed = np.add.reduceat(y, starts) / count
    ece = float(np.sum(count * np.abs(predicted - observed)) / p.size)
    return Reliability(predicted, observed, count, ece)


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
) -> Axes:
    """Draw a reliability curve: what was predicted against what happened.

    Args:
        probabilities: Predicted probabilities of an edge, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.
        bins: How many quantile bins.
        log: Logarithmic axes, for sparse graphs; if not given, chosen where fewer than 5% of the
            dyads are edges. Bins without an edge then sit on the lower border as triangles.

    Returns:
        The axes.
    """
    table = reliability(probabilities, targets, bins)
    ax = ax if ax is not None else st.new_axes(4.8, 4.8)
    base = float(np.sum(table.observed * table.count) / table.count.sum())
    log = base < 0.05 if log is None else log
    low, high = _wilson(table.observed, table.count)
    x, y = table.predicted, table.observed
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
    total = int(table.count.sum())
    st.dress(
        ax,
        f"Calibration: ECE = {table.ece:.4f}\n{total:,} dyads in {len(x)} bins, {base:.2%} edges",
        "predicted probability of an edge",
        "observed share of edges",
    )
    st.legend(ax, loc="upper left")
    return ax


def _both_kinds(targets: Any) -> np.ndarray:
    labels = np.asarray(targets).ravel().astype(int)
    if len(np.unique(labels)) != 2:
        raise ValueError("a ranking curve needs both edges and pairs without one")
    return labels


def roc(scores: Any, targets: Any, ax: Axes | None = None) -> Axes:
    """Draw the ROC curve of scores for dyads.

    Args:
        scores: Higher for more likely edges, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.

    Returns:
        The axes.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    labels, values = _both_kinds(targets), np.asarray(scores, dtype=float).ravel()
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


def precision_recall(scores: Any, targets: Any, ax: Axes | None = None) -> Axes:
    """Draw the precision-recall curve of scores for dyads.

    Args:
        scores: Higher for more likely edges, any shape.
        targets: 0 or 1 for each, same shape.
        ax: Where to draw.

    Returns:
        The axes.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    labels, values = _both_kinds(targets), np.asarray(scores, dtype=float).ravel()
    precision, recall, _ = precision_recall_curve(labels, values)
    ax = ax if ax is not None else st.new_axes(4.8, 4.6)
    base = labels.mean()
    ax.axhline(base, color=st.GREY, lw=1.2, ls="--", label=f"chance ({base:.2g})")
    ax.step(recall, precision, color=st.BLUE, lw=1.8, where="post", label="model")
    average = average_precision_score(labels, values)
    return _finish_curve(
        ax,
        f"Precision-recall: average precision = {average:.3f}",
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
