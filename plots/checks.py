"""Pictures that confront a fit with the data: statistics and degrees of graphs that it generates."""

from __future__ import annotations

import math
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


_EXTREME = (
    0.005  # a p-value closer to 0 or 1; of fewer draws than _FEW only where all lie on one side
)
_FEW = 100


def verdict(p: float, statistic: str | None = None, draws: int = _FEW) -> str:
    """Put a posterior predictive p-value into words.

    Args:
        p: The p-value, as :func:`p_value` defines it.
        statistic: Name of the statistic, for the sentence.
        draws: Number of graphs that it is of.

    Returns:
        "consistent with the model" for 0.05 < p < 0.95; else that the model understates (small p)
        or overstates (large p) the statistic: "strongly" beyond 0.005 and 0.995, and of fewer than 100
        draws "in all N graphs drawn" instead.
    """
    if not math.isfinite(p):
        return "not defined for this graph"
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a p-value lies between 0 and 1, not at {p}")
    if 0.05 < p < 0.95:
        return "consistent with the model"
    what = "the statistic" if statistic is None else STATISTICS.get(statistic, ("", statistic))[1]
    said = f"{'understates' if p <= 0.05 else 'overstates'} {what}"
    if _EXTREME <= p <= 1.0 - _EXTREME:
        return f"the model {said}"
    return (
        f"the model {said} in all {draws} graphs drawn"
        if draws < _FEW
        else f"the model strongly {said}"
    )


def format_p(p: float, draws: int = _FEW) -> str:
    """Write the p-value of so many draws with two digits: "p = 0.43", "p < 0.01", "p not defined"."""
    if not math.isfinite(p):
        return "p not defined"
    least = 1.0 / min(draws, _FEW)
    if p < _EXTREME:
        return f"p < {least:.2f}"
    return f"p > {1.0 - least:.2f}" if p > 1.0 - _EXTREME else f"p = {p:.2f}"


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
        st.dress(panel, f"{title}\n{format_p(p, values.size)}")
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
