"""Pictures of the latent variables: memberships, strengths, stick lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy.stats import gamma

from . import _read
from . import _style as st
from .ordering import ACTIVE, Order, drawing_order

if TYPE_CHECKING:
    from ..data import Graph

_STRIP, _GAP = 0.16, 0.06  # inches: width of the strip of labels, and the space before it


def _heat_axes(nodes: int, communities: int) -> Axes:
    """Make axes whose height lets up to 60 node names be read."""
    height = 1.3 + 0.15 * nodes if nodes <= st.MAX_NAMED else 6.5
    return st.new_axes(min(8.4, max(5.6, 3.6 + 0.36 * communities)), max(4.2, height))


def _heat_map(
    values: np.ndarray,
    order: Order,
    idata: Any,
    graph: Graph | None,
    ax: Axes | None,
    bar: str,
    **options: Any,
) -> Axes:
    """Draw nodes by communities in a given order, with a strip of labels and a colour bar.

    Args:
        values: What to draw, shape ``(N, K)``, in the order of the result.
        order: Drawing order.
        idata: The result, for names and labels.
        graph: The graph, for names and labels.
        ax: Where to draw.
        bar: Label of the colour bar.
        **options: Colour map and limits for ``imshow``.

    Returns:
        The axes.
    """
    drawn = values[np.ix_(order.nodes, order.communities)]
    ax = ax if ax is not None else _heat_axes(*drawn.shape)
    count = len(drawn)
    extent = (-0.5, drawn.shape[1] - 0.5, count - 0.5, -0.5)
    drawn = st.row_means(drawn)
    rows = len(drawn)
    image = ax.imshow(drawn, aspect="auto", interpolation="nearest", extent=extent, **options)
    identity = _read.community_names(idata)
    ticks = np.arange(len(order.communities))
    ticks = ticks[:: max(1, -(-len(ticks) // 24))]
    ax.set_xticks(ticks, [identity[order.communities[t]] for t in ticks])
    names = _read.node_names(idata, graph, len(values))
    st.dress_matrix(ax, "", "community, most used first", "node")
    if not st.name_ticks(ax, [names[node] for node in order.nodes]):
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        each = "" if count <= rows else f" (a line is the mean of about {count / rows:.0f} nodes)"
        ax.set_ylabel(f"node, in drawing order{each}", fontsize=st.LABEL, color=st.INK)
    if count <= st.MAX_NAMED:
        ax.set_xticks(np.arange(drawn.shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", lw=0.6)
        ax.tick_params(which="minor", length=0)
    labels = _read.node_labels(idata, graph)
    if labels is not None:
        _label_strip(ax, st.Categories(*labels), order.nodes)
    st.colorbar(image, bar, ax, aspect=30, pad=0.02, fraction=0.08)
    return ax


def _label_strip(ax: Axes, categories: st.Categories, order: np.ndarray) -> None:
    """Draw node labels as a strip of colour at the right of a heat map, with a key below."""
    width = ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]
    strip = ax.inset_axes((1 + _GAP / width, 0.0, _STRIP / width, 1.0))
    strip.imshow(categories.colors[order][:, None, :], aspect="auto", interpolation="nearest")
    strip.set_xticks([])
    strip.set_yticks([])
    for spine in strip.spines.values():
        spine.set_visible(False)
    columns = min(4, len(categories.key))
    st.legend_below(
        ax,
        categories.patches(),
        0.58,
        ncols=columns,
        title="node label (strip at the right)",
        alignment="left",
    )


def _title(what: str, order: Order, threshold: float) -> str:
    """State what is shown and what was dropped."""
    total = len(order.communities) + order.dropped
    if order.dropped == 0:
        return f"{what}\nall {total} communities"
    return (
        f"{what}\n{len(order.communities)} of {total} communities; "
        f"{order.dropped} inactive (no mean above {threshold:g})"
    )


def memberships(
    idata: Any, graph: Graph | None = None, ax: Axes | None = None, *, threshold: float = ACTIVE
) -> Axes:
    """Draw the posterior mean memberships, nodes by communities.

    Communities are sorted by total use and left out where inactive (the title says how many);
    nodes are sorted into blocks by :func:`node_order`. Known labels are a strip of colour beside
    the map. Above 600 nodes a line is the mean of several neighbours.

    Args:
        idata: ArviZ result, ``posterior.memberships`` with dims (chain, draw, node, community) or
            ``posterior.membership``, integer labels with dims (chain, draw, node).
        graph: For names and labels; the result's own are used if not given.
        ax: Where to draw.
        threshold: A community is active if some node's mean membership is at least this, or if
            its mean over all nodes is at least 0.05.

    Returns:
        The axes.
    """
    means = _read.mean_memberships(idata)
    order = drawing_order(idata, threshold)
    ax = _heat_map(
        means, order, idata, graph, ax, "P(member | graph)", cmap=st.SEQUENTIAL, vmin=0.0, vmax=1.0
    )
    st.title(ax, _title("Posterior mean memberships", order, threshold))
    return ax


def strengths(
    idata: Any, graph: Graph | None = None, ax: Axes | None = None, *, threshold: float = ACTIVE
) -> Axes:
    """Draw the posterior mean strengths of memberships, E[b r | graph], nodes by communities.

    Sorted as :func:`memberships`. A strength counts only in draws in which the node belongs to the
    community, so that the prior of unused strengths stays out of the picture.

    Args:
        idata: ArviZ result, ``posterior.strengths`` (and ``memberships``) with dims
            (chain, draw, node, community).
        graph: For names and labels; the result's own are used if not given.
        ax: Where to draw.
        threshold: A community is active if some node's mean membership is at least this, or if
            its mean over all nodes is at least 0.05.

    Returns:
        The axes.

    Raises:
        KeyError: If the story has no strengths (DGLFRM-B, SBM).
    """
    product = _read.mean_product(idata, "memberships", "strengths")
    order = drawing_order(idata, threshold)
    drawn = np.abs(product[:, order.communities])
    limit = float(np.quantile(drawn, 0.995)) if drawn.size else 1.0
    limit = limit or float(drawn.max(initial=0.0)) or 1.0
    ax = _heat_map(
        product,
        order,
        idata,
        graph,
        ax,
        "E[membership × strength | graph]",
        cmap=st.DIVERGING,
        vmin=-limit,
        vmax=limit,
    )
    st.title(ax, _title("Posterior mean strengths", order, threshold))
    return ax


def sticks(idata: Any, alpha: float | None = None, ax: Axes | None = None) -> Axes:
    """Draw the stick-breaking prior and posterior, community by community.

    Shown are the posterior median and 90% interval of pi_k = v_1 ... v_k (for local sticks, over
    nodes and draws together), the share of nodes that belong to k (mean and 90% interval over
    draws), and the prior: its mean (alpha / (alpha + 1))^k and its exact 90% interval
    (-log pi_k is Gamma(k) with rate alpha).

    Args:
        idata: ArviZ result, ``posterior.sticks`` with dims (chain, draw, community) or
            (chain, draw, node, community), and ``posterior.memberships``.
        alpha: Concentration of the prior; the result's attribute ``alpha`` if not given. Without
            either, the prior is left out.
        ax: Where to draw.

    Returns:
        The axes.
    """
    v = _read.draws(idata, "posterior", "sticks").astype(float)
    local = v.ndim == 3
    pi = np.cumprod(v, axis=-1).reshape(-1, v.shape[-1])
    k = np.arange(1, v.shape[-1] + 1)
    ax = ax if ax is not None else st.new_axes(min(8.4, max(6.4, 2.4 + 0.22 * len(k))), 4.2)

    found = alpha if alpha is not None else _read.attribute(idata, "alpha")
    try:
        concentration = float(found) if found is not None else None
    except (TypeError, ValueError):
        concentration = None
    if concentration is not None:
        low, high = (np.exp(-gamma.ppf(q, k) / concentration) for q in (0.95, 0.05))
        ax.fill_between(k, low, high, color=st.GREY, alpha=0.18, lw=0, label="prior, 90%")
        prior = (concentration / (concentration + 1.0)) ** k
        ax.plot(k, prior, color=st.GREY, lw=1.4, ls="--", label="prior mean")

    low, middle, high = np.quantile(pi, (0.05, 0.5, 0.95), axis=0)
    what = "π, nodes and draws, 90%" if local else f"{_read.stage(idata)} of π, 90%"
    ax.errorbar(
        k - 0.12,
        middle,
        yerr=np.clip([middle - low, high - middle], 0.0, None),
        fmt="o",
        color=st.BLUE,
        ms=4.5,
        lw=1.5,
        label=what,
    )
    if _read.has(idata, "posterior", "memberships"):
        share = _read.variable(idata, "posterior", "memberships").mean("node")
        share = share.transpose("chain", "draw", ...).values.reshape(-1, len(k))
        low, high = np.quantile(share, (0.05, 0.95), axis=0)
        middle = share.mean(axis=0)
        ax.errorbar(
            k + 0.12,
            middle,
            yerr=np.clip([middle - low, high - middle], 0.0, None),
            fmt="D",
            color=st.VERMILLION,
            ms=4.5,
            lw=1.5,
            label="share of nodes that belong, 90%",
        )
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlim(0.4, len(k) + 0.6)
    identity = _read.variable(idata, "posterior", "sticks")["community"].values
    every = max(1, -(-len(k) // 20))
    ax.set_xticks(k[::every], [str(name) for name in identity[::every]])
    ax.grid(axis="y", color=st.FAINT, lw=0.6)
    given = "" if concentration is None else f", prior with α = {concentration:g}"
    title = f"Membership probability π of each community{given}"
    st.dress(ax, title, "community, in stick order", "probability")
    st.legend(ax, loc="upper right")
    return ax
