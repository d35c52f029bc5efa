"""Stories beside each other: how well each predicts what it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from . import _style as st

__all__ = ["comparison"]

_ELPD = ("elpd", "elpd_loo", "elpd_waic")  # ArviZ 1.x, and 0.x by criterion


def comparison(table: Any, ax: Axes | None = None) -> Axes:
    """Draw the expected log predictive density of stories, and their differences from the best.

    A dot is the elpd with one standard error to each side. Below it, for all but the best, a
    bar is the same elpd with one standard error of its *difference* from the best: the two are
    estimated on the same units and so differ less than their own errors say. Where that bar is far
    from the dashed line, the story predicts worse.

    Args:
        table: What :func:`graphlore.inference.compare` or ``az.compare`` returns, of ArviZ 0.x or
            1.x, on the log scale: one row a story, with ``elpd_loo`` or ``elpd``, ``se``, ``dse``.
        ax: Where to draw.

    Returns:
        The axes; stories from the best at the top, by number 0, 1, ... on the y-axis.

    Raises:
        KeyError: If a column is lacking.
        ValueError: If the table is empty, or on the scale of deviances.
    """
    if not len(table):
        raise ValueError("the table has no stories to compare")
    scale = set(table["scale"]) if "scale" in table else {"log"}
    if scale != {"log"}:
        raise ValueError(
            f"elpd must be on the log scale, not {sorted(scale)}: az.compare(scale='log')"
        )
    column = next((name for name in _ELPD if name in table), None)
    lacking = [name for name in ("se", "dse") if name not in table]
    if column is None or lacking:
        known = ", ".join(str(name) for name in table.columns)
        raise KeyError(f"the table lacks {', '.join(lacking) or 'elpd'}; it has {known}")
    table = table.sort_values(column, ascending=False, kind="stable")
    elpd, se, dse = (table[name].to_numpy(dtype=float) for name in (column, "se", "dse"))
    warned = (
        table["warning"].to_numpy().astype(bool)
        if "warning" in table
        else np.zeros(len(elpd), bool)
    )
    count = len(elpd)
    ax = ax if ax is not None else st.new_axes(7.4, 1.5 + 0.62 * count)
    rows = np.arange(count)
    ax.axvline(elpd[0], color=st.GREY, lw=1.0, ls="--", zorder=0)
    ax.errorbar(elpd, rows, xerr=se, fmt="none", ecolor=st.BLUE, elinewidth=1.6, zorder=1)
    ax.scatter(
        elpd, rows, s=46, c=["white" if w else st.BLUE for w in warned], edgecolors=st.BLUE,
        linewidths=1.5, zorder=2,
    )  # fmt: skip
    other = np.arange(1, count)
    ax.errorbar(
        elpd[1:], other + 0.24, xerr=dse[1:], fmt="|", ms=9, color=st.VERMILLION, elinewidth=3.0
    )
    for row in other:
        told = f"{elpd[row] - elpd[0]:,.1f} ± {dse[row]:,.1f}"
        ax.annotate(
            st.minus(told),
            (elpd[row] + dse[row], row + 0.24),
            xytext=(6.0, 0.0),
            textcoords="offset points",
            va="center",
            fontsize=st.NAME,
            color=st.VERMILLION,
        )
    ax.set_yticks(rows, [str(name) for name in table.index])
    ax.set_ylim(count - 0.35, -0.55)
    ax.xaxis.set_major_formatter(lambda value, _: st.minus(f"{value:,.5g}"))
    ax.grid(axis="x", color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    st.dress(ax, f"{table.index[0]} has the highest elpd", "elpd (nats; higher is better)")
    handles = [Line2D([], [], color=st.BLUE, marker="o", label="elpd ± s.e.")]
    if count > 1:
        handles.append(
            Line2D([], [], color=st.VERMILLION, lw=3.0, label="difference from the best ± s.e.")
        )
    if warned.any():
        handles.append(
            Line2D(
                [],
                [],
                ls="",
                marker="o",
                mfc="white",
                mec=st.BLUE,
                label="not to be trusted (k-hat)",
            )
        )
    st.legend_below(ax, handles, 0.55, ncols=3)
    return ax
