"""Picture of simulation-based calibration: are the ranks of the truths uniform?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ..inference.uniformity import holm, rank_band
from . import _style as st

if TYPE_CHECKING:
    from ..inference import SBC

__all__ = ["sbc"]

_COLORS = (st.VERMILLION, st.BLUE, st.GREEN, st.PINK, st.ORANGE, st.BLACK)
_DASHES = ("-", "--", "-.", ":")
_NAMED = 8  # most statistics that are named


def sbc(
    result: SBC,
    ax: Axes | None = None,
    *,
    statistics: Sequence[str] | None = None,
    level: float = 0.05,
    heading: str = "Calibration by simulation",
) -> Axes:
    """Draw how far the distribution functions of the ranks are from that of uniform ones.

    One line a statistic: the share of truths with at most so many draws below them, less what is
    expected. The dark band holds one such line, everywhere at once, with probability 1 - ``level``,
    the light one all of them: a right inference leaves it with a probability of at most ``level``.
    Statistics that are off at this family-wise level (as :meth:`~graphlore.inference.SBC.summary`
    has it) are coloured and named, the worst first. Draws that are too narrow rise first and fall
    below zero then; draws that are too wide fall first; a bias bends the line to
    one side: below zero, truths lie above the draws.

    Args:
        result: What :func:`graphlore.inference.sbc` found.
        ax: Where to draw.
        statistics: Which ones; all that move if not given.
        level: Probability that ranks of a right inference leave the band.
        heading: First line of the title.

    Returns:
        The axes.

    Raises:
        KeyError: If there is no such statistic.
        ValueError: If no statistic moves.
    """
    names = [str(n) for n in result.ranks.data_vars] if statistics is None else list(statistics)
    unknown = [n for n in names if n not in result.ranks]
    if unknown:
        raise KeyError(f"no statistic {unknown}; there are {list(result.ranks.data_vars)}")
    names = [n for n in names if result.ties[n] < 1.0]
    if not names:
        raise ValueError("no statistic moves: there is nothing to draw")
    ax = ax if ax is not None else st.new_axes(6.4, 4.2)
    simulations, draws = result.simulations, result.draws
    p = result.p_values()["p"][names]
    in_family = dict(zip(names, holm(p.to_numpy()), strict=True))
    family = level / len(
        names
    )  # the first step of Holm's procedure, which decides whether any is off
    at = np.arange(1, draws + 1) / (draws + 1)
    x = np.concatenate([[0.0], at, [1.0]])
    for alpha, color, words in (
        (family, st.FAINT, f"all {len(names)}, {1 - level:.0%}"),
        (level, st.OTHER, f"one statistic, {1 - level:.0%}"),
    ):
        low, high = (
            np.concatenate([[0.0], b - at, [0.0]]) for b in rank_band(simulations, draws, alpha)
        )
        ax.fill_between(x, low, high, color=color, alpha=0.55, lw=0, label=words)
    ax.axhline(0.0, color=st.GREY, lw=0.8)
    off = [n for n in sorted(names, key=lambda n: p[n]) if in_family[n] <= level]
    for name in sorted(names, key=lambda n: n in off):
        counts = np.bincount(result.ranks[name].values, minlength=draws + 1)[:draws].cumsum()
        y = np.concatenate([[0.0], counts / simulations - at, [0.0]])
        if name in off[:_NAMED]:
            place = off.index(name)
            ax.plot(
                x,
                y,
                color=_COLORS[place % len(_COLORS)],
                ls=_DASHES[place % len(_DASHES)],
                lw=1.6,
                zorder=4 - 0.1 * place,
            )
        else:
            ax.plot(x, y, color=st.INK if name in off else st.GREY, lw=0.9, alpha=0.8)
    for place, name in enumerate(off[:_NAMED]):  # in the legend, the worst comes first
        ax.plot(
            [],
            [],
            color=_COLORS[place % len(_COLORS)],
            ls=_DASHES[place % len(_DASHES)],
            lw=1.6,
            label=name,
        )
    if len(off) > _NAMED:
        ax.plot([], [], color=st.INK, lw=0.9, label=f"{len(off) - _NAMED} more that are off")
    if len(off) < len(names):
        ax.plot([], [], color=st.GREY, lw=0.9, label=f"{len(names) - len(off)} within the bands")
    ax.set_xlim(0, 1)
    ax.grid(color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    verdict = f"{len(off)} of {len(names)} statistics off" if off else "no statistic is off"
    st.dress(
        ax,
        f"{heading}: {verdict}\n{simulations:,} simulations, {draws:,} draws each",
        "rank of the truth (share of draws below it)",
        "share of truths − expected",
    )
    handles, _ = ax.get_legend_handles_labels()  # bands first
    st.legend_below(ax, handles[2:] + handles[:2], 0.62, ncols=3, handlelength=2.2)
    return ax
