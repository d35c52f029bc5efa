"""Pictures of a set of graphs and of what a story of such sets makes of it: sizes, a map of the latent, steering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA

from . import _read
from . import _style as st

if TYPE_CHECKING:
    from ..data import Graph
    from ..inference import Steering

__all__ = ["graph_sizes", "latent_map", "steering"]

_BARS = 40  # more sizes than this share bars


def graph_sizes(
    observed: Sequence[Graph], sampled: Sequence[Graph], axes: Any = None
) -> np.ndarray:
    """Draw how large the graphs of a set are, in nodes and in edges, beside those that a model generated.

    Bars are shares of the graphs, those observed above the line and those generated below it, so that a
    good model's picture is its own mirror image.

    Args:
        observed: A :class:`~graphlore.data.GraphSet`, or graphs.
        sampled: The same, such as ``fit.generate(1000)`` returns.
        axes: Two axes.

    Returns:
        The axes, shape ``(2,)``: nodes, edges.
    """
    panels = st.new_grid(1, 2, 9.6, 3.4).ravel() if axes is None else axes
    panels = st.given_axes(panels, 2)
    for panel, what in zip(panels, ("nodes", "edges"), strict=True):
        counts = [_counts(graphs, what) for graphs in (observed, sampled)]
        low, high = min(c.min() for c in counts), max(c.max() for c in counts)
        wide = max(1, -(-(high - low + 1) // _BARS))
        edges = np.arange(low, high + wide + 1, wide) - 0.5
        tallest = 0.0
        rows = (("observed", counts[0], st.GREY, 1.0), ("generated", counts[1], st.BLUE, -1.0))
        for label, values, color, side in rows:
            share = np.histogram(values, edges)[0] / len(values)
            tallest = max(tallest, share.max())
            panel.bar(
                edges[:-1] + wide / 2, side * share, 0.85 * wide, color=color, label=label, lw=0
            )
        panel.set_ylim(-1.12 * tallest, 1.4 * tallest)  # room for the legend
        panel.axhline(0.0, color=st.INK, lw=0.8)
        means = " and ".join(f"{values.mean():.1f}" for values in counts)
        st.dress(panel, f"{what.capitalize()} of a graph: {means} on average", what)
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(6))
        panel.yaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
        panel.grid(axis="y", color=st.FAINT, lw=0.6)
        panel.set_axisbelow(True)
    panels[0].set_ylabel("share of the graphs", fontsize=st.LABEL, color=st.INK)
    st.legend(panels[0], loc="upper left", ncols=2)
    return panels


def latent_map(latents: Any, graphs: Sequence[Graph], ax: Axes | None = None) -> Axes:
    """Draw where the guide puts each graph of a set in the latent space, coloured by its number of nodes.

    A latent of one dimension is laid out against the number of nodes, graphs of one size a little
    apart; a larger one on its first two principal components. Points are posterior means, lines one
    standard deviation to each side.

    Args:
        latents: Draws of z for each graph, shape ``(draws, G, D)``, as
            :func:`~graphlore.inference.encode_graphs` returns them.
        graphs: The G graphs.
        ax: Where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: If there are not as many latents as graphs.
    """
    z = _read.array(latents).astype(float)
    sizes = _counts(graphs, "nodes")
    if z.ndim != 3 or z.shape[1] != len(sizes):
        raise ValueError(f"latents have shape {z.shape}, not (draws, {len(sizes)}, D)")
    ax = ax if ax is not None else st.new_axes(6.8, 4.2)
    mean = z.mean(0)
    words = ("latent z, prior standard deviations", "nodes")
    told = ""
    if z.shape[2] == 1:
        middle, sd = mean[:, 0], z[..., 0].std(0)
        # graphs of one size would cover each other
        shift = np.random.default_rng(0).uniform(-0.22, 0.22, len(sizes))
        places = np.stack([middle, sizes + shift], 1)
        bars = [[(x - s, y), (x + s, y)] for (x, y), s in zip(places, sd, strict=True)]
        ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    else:
        plane = PCA(2).fit(mean)
        places = plane.transform(mean)
        drawn = plane.transform(z.reshape(-1, z.shape[2])).reshape(*z.shape[:2], 2)
        sd = drawn.std(0)
        bars = [[(x - s, y), (x + s, y)] for (x, y), (s, _) in zip(places, sd, strict=True)]
        bars += [[(x, y - s), (x, y + s)] for (x, y), (_, s) in zip(places, sd, strict=True)]
        share = plane.explained_variance_ratio_
        words = (
            f"first principal component ({share[0]:.0%})",
            f"second principal component ({share[1]:.0%})",
        )
        told = f" of {z.shape[2]} dimensions"
    ax.add_collection(LineCollection(bars, colors=st.FAINT, lw=0.9, zorder=1))
    points = ax.scatter(
        places[:, 0],
        places[:, 1],
        c=sizes,
        cmap="viridis_r",
        s=26,
        edgecolors=st.GREY,
        linewidths=0.4,
        zorder=2,
    )
    st.colorbar(points, "nodes", ax, ticks=MaxNLocator(6, integer=True))
    ax.grid(color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    return st.dress(ax, f"The latent{told} of {len(sizes):,} graphs", *words)


def steering(walk: Steering, ax: Axes | None = None) -> Axes:
    """Draw how large the graphs are that a story builds along an axis of its latent space.

    Args:
        walk: What :func:`~graphlore.inference.steer` returns.
        ax: Where to draw.

    Returns:
        The axes. Error bars are two standard errors of the mean.
    """
    ax = ax if ax is not None else st.new_axes(6.8, 3.6)
    ax.errorbar(
        walk.positions,
        walk.sizes,
        2.0 * walk.spread,
        fmt="o-",
        color=st.BLUE,
        ecolor=st.GREY,
        ms=4,
        lw=1.4,
        elinewidth=1.0,
        capsize=2,
    )
    ax.grid(axis="y", color=st.FAINT, lw=0.6)
    ax.set_axisbelow(True)
    return st.dress(
        ax,
        st.minus(f"Sizes along the latent: rank correlation {walk.spearman:.2f}"),
        "position along the axis, prior standard deviations",
        "mean number of nodes",
    )


def _counts(graphs: Any, what: str) -> np.ndarray:
    """Nodes or edges of each graph, of a set without making its graphs; shape ``(G,)``, integers."""
    if hasattr(graphs, "edge_ptr"):
        found = graphs.num_nodes if what == "nodes" else graphs.edge_ptr.diff()
        return _read.array(found).astype(int)
    return np.array([getattr(graph, f"num_{what}") for graph in graphs], dtype=int)
