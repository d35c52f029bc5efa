"""Pictures of a fit while it ran: the bound, validation, how many communities stay alive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import _style as st

_VALIDATION = (
    ("val_auc", "area under ROC", st.GREEN, "o"),
    ("val_ap", "average precision", st.ORANGE, "s"),
    ("val_accuracy", "accuracy", st.GREEN, "o"),
)


def running_median(values: Sequence[float] | np.ndarray, window: int | None = None) -> np.ndarray:
    """Smooth a noisy curve by a centred running median, over what is there at the two ends.

    Args:
        values: The curve, shape ``(T,)``.
        window: Width in points; a twentieth of the curve (at most 101) if not given.

    Returns:
        The smoothed curve, shape ``(T,)``.
    """
    curve = np.asarray(values, dtype=float)
    rolling = pd.Series(curve).rolling(_window(curve.size, window), center=True, min_periods=1)
    return rolling.median().to_numpy()


def _window(size: int, window: int | None = None) -> int:
    """Return an odd width, a twentieth of the curve if none is asked for."""
    return max(1, (window if window is not None else min(101, size // 20)) | 1)


def _limits(values: np.ndarray, smooth: np.ndarray) -> tuple[float, float]:
    """Choose y-limits from what follows the first tenth of a run, so its start cannot squash it."""
    late = slice(values.size // 10, None)
    low = min(float(np.quantile(values[late], 0.01)), float(smooth[late].min()))
    high = max(float(np.quantile(values, 0.999)), float(smooth.max()))
    pad = 0.08 * (high - low) or max(1.0, 0.01 * abs(high))
    return low - pad, high + pad


def _finite(history: Mapping[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one column of the history, without NaN and infinities."""
    values = np.asarray(history[name], dtype=float)
    steps = np.asarray(history.get("step", np.arange(values.size)), dtype=float)
    if steps.size != values.size:
        steps = np.arange(values.size, dtype=float)
    keep = np.isfinite(values)
    return steps[keep], values[keep]


def columns(history: Any) -> Mapping[str, Any]:
    """Return the columns of a fit (with its ``best_step``), or of a history as it is."""
    if not hasattr(history, "history"):
        return history
    return {**history.history, "best_step": getattr(history, "best_step", None)}


def elbo(history: Any, ax: Axes | None = None) -> Axes:
    """Draw the evidence lower bound against the step: raw, and its running median.

    The y-axis is set by what follows the first tenth of the run. Validation scores (``val_auc``,
    ``val_ap``, ``val_accuracy`` at ``val_step``) go into a second panel below, or on a second axis at the right when
    ``ax`` is given. The step whose state validation chose is a dashed line, and its scores are larger marks.

    Args:
        history: A fit, also one of ``fit_sequential``; or columns of equal length T, ``step`` and ``elbo`` (total, in
            nats), optionally ``val_step`` and ``val_auc``, ``val_ap`` or ``val_accuracy`` (their own length) and
            ``best_step`` (int). Without ``step``, entries are epochs.
        ax: Where to draw.

    Returns:
        The axes of the bound.

    Raises:
        KeyError: If there is no ``elbo``.
    """
    history = columns(history)
    xlabel = "step" if "step" in history else "epoch"
    validated = bool(len(history.get("val_step") or ())) and any(
        len(history.get(name) or ()) for name, *_ in _VALIDATION
    )
    below: Axes | None = None
    twin = ax is not None and validated
    if ax is None and validated:
        grid = st.new_grid(2, 1, 6.8, 5.4, sharex=True, height_ratios=[3, 2])
        ax, below = grid[0, 0], grid[1, 0]
    elif ax is None:
        ax = st.new_axes(6.8, 3.8)
    elif validated:
        below = ax.twinx()

    steps, values = _finite(history, "elbo")
    if values.size == 0:
        return st.dress(ax, "ELBO: no finite value yet", xlabel, "ELBO (nats)")
    smooth = running_median(values)
    ax.plot(
        steps, values, color=st.BLUE, alpha=0.28, lw=0.8, label=f"each {xlabel}", rasterized=True
    )
    ax.plot(steps, smooth, color=st.BLUE, lw=1.8, label="running median")
    low, high = _limits(values, smooth)
    ax.set_ylim(low, high)
    if values[0] < low and not twin:
        ax.text(
            0.02,
            0.97,
            st.minus(f"off scale: the run starts at {values[0]:,.0f} nats"),
            transform=ax.transAxes,
            va="top",
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2.0},
            fontsize=st.TICK,
            color=st.GREY,
        )
    best = history.get("best_step")
    if best is not None:
        for panel in (ax, None if twin else below):
            if panel is not None:
                panel.axvline(
                    float(best), color=st.INK, lw=1.0, ls="--", label=f"best step {best:,}"
                )
    last = min(values.size, _window(values.size))
    end = st.minus(f"{float(np.median(values[-last:])):,.1f}")
    st.dress(ax, f"ELBO: {end} nats (median of the last {last} values)", "", "ELBO (nats)")
    ax.yaxis.set_major_formatter("{x:,.0f}" if high - low > 5 else "{x:,.1f}")
    ax.grid(axis="y", color=st.FAINT, lw=0.6)
    if not twin:
        st.legend(ax, loc="lower right")
    if below is None:
        ax.set_xlabel(xlabel, fontsize=st.LABEL, color=st.INK)
        return ax

    scores = [row for row in _VALIDATION if len(history.get(row[0]) or ())]
    for name, label, color, marker in scores:
        score = np.asarray(history[name], dtype=float)
        at = np.asarray(history["val_step"], dtype=float)[: score.size]
        every = max(1, score.size // 25)
        below.plot(
            at, score, color=color, lw=1.5, marker=marker, ms=4, markevery=every, label=label
        )
        if best is not None and (at == best).any():
            below.plot(
                at[at == best], score[at == best], ls="", marker=marker, ms=9, mfc="none", mec=color
            )
    times = np.asarray(history["val_step"], dtype=float)
    chosen = np.flatnonzero(times == best) if best is not None else np.empty(0, int)
    place, when = (int(chosen[0]), "best") if chosen.size else (-1, "last")
    latest = ", ".join(f"{label} {float(history[name][place]):.3f}" for name, label, *_ in scores)
    if twin:
        st.dress(below, "", "", "validation score")
        below.spines["right"].set_visible(True)
        ax.set_xlabel(xlabel, fontsize=st.LABEL, color=st.INK)
        handles = [
            line
            for line in ax.get_lines() + below.get_lines()
            if not str(line.get_label()).startswith("_")
        ]
        st.legend(below, handles=handles, loc="lower right")
        return ax
    ax.label_outer()
    what = "Held-out nodes" if scores[0][0] == "val_accuracy" else "Held-out dyads"
    st.dress(below, f"{what}, {when}: {latest}", xlabel, "validation score")
    below.grid(axis="y", color=st.FAINT, lw=0.6)
    below.margins(y=0.12)
    told = [line for line in below.get_lines() if line.get_label() in [row[1] for row in scores]]
    st.legend(below, handles=told, loc="best")
    return ax


def active_communities(history: Any, ax: Axes | None = None) -> Axes:
    """Draw how many communities a node belongs to on average, against the step.

    Args:
        history: A fit, or columns of equal length T, ``step`` and ``active_communities``.
        ax: Where to draw.

    Returns:
        The axes.
    """
    history = columns(history)
    ax = ax if ax is not None else st.new_axes(6.8, 3.2)
    steps, values = _finite(history, "active_communities")
    ax.plot(steps, values, color=st.GREEN, alpha=0.3, lw=0.8, rasterized=True)
    ax.plot(steps, running_median(values), color=st.GREEN, lw=1.8)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color=st.FAINT, lw=0.6)
    last = f": {running_median(values)[-1]:.2f} at the end" if values.size else ""
    return st.dress(ax, f"Mean memberships per node{last}", "step", "memberships per node")


_PARTS = (
    ("order_entropy", "entropy of the order", st.VERMILLION),
    ("kl_latent", "KL of the latent", st.GREEN),
    ("information", "information of the latent in a step", st.PINK),
)


def epochs(history: Any, axes: Any = None) -> np.ndarray:
    """Draw the bound of a fit to many graphs against the epoch, and below it what it is made of.

    The bound is the ELBO of a story with a guide, and log p of the graphs in their order of a story without; it is
    drawn as it is, whatever the fit climbed. The parts, in nats too, are the entropy of the order that the guide takes
    (low: it has settled on a way to build a graph), KL(q(z | x) || p(z)), and how much z tells of which graph of a step
    it is from.

    Args:
        history: A fit of ``fit_sequential`` or ``fit_ordered``, or columns of equal length, ``elbo`` or ``log_prob``,
            and perhaps ``order_entropy``, ``kl_latent`` and ``information``.
        axes: One axes, or two where there are parts.

    Returns:
        The axes, shape ``(1,)``, or ``(2,)`` where there are parts.

    Raises:
        KeyError: If there is neither ``elbo`` nor ``log_prob``.
    """
    history = columns(history)
    name = "elbo" if "elbo" in history else "log_prob"
    parts = [row for row in _PARTS if row[0] in history]
    count = 1 + bool(parts)
    heights = [3, 2][:count]
    panels = (
        st.new_grid(count, 1, 6.8, 3.4 + 2.2 * (count - 1), sharex=True, height_ratios=heights)
        if axes is None
        else st.given_axes(axes, count)
    ).ravel()
    steps, values = _finite(history, name)
    words = "ELBO" if name == "elbo" else "log p in the order"
    if values.size == 0:
        st.dress(panels[0], f"{words}: no finite value yet", "", "nats a graph")
        return panels
    smooth = running_median(values)
    panels[0].plot(steps + 1, values, color=st.BLUE, alpha=0.28, lw=0.8, label="each epoch")
    panels[0].plot(steps + 1, smooth, color=st.BLUE, lw=1.8, label="running median")
    panels[0].set_ylim(*_limits(values, smooth))
    st.legend(panels[0], loc="lower right")
    last = min(values.size, _window(values.size))
    end = st.minus(f"{float(np.median(values[-last:])):,.2f}")
    told = f"{words}: {end} nats a graph (median of the last {last} epochs)"
    st.dress(panels[0], told, "" if parts else "epoch", "nats a graph")
    for column, label, color in parts:
        at, value = _finite(history, column)
        panels[1].plot(at + 1, value, color=color, lw=1.4, label=label)
    if parts:
        st.dress(panels[1], "What it is made of", "epoch", "nats a graph")
        panels[1].set_ylim(bottom=min(0.0, panels[1].get_ylim()[0]))
        st.legend(panels[1], loc="upper right")
        panels[0].label_outer()
    for panel in panels:
        panel.grid(axis="y", color=st.FAINT, lw=0.6)
    return panels
