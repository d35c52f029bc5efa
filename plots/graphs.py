"""Pictures of graphs: observed beside inferred, observed beside generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy import sparse

from . import _read
from . import _style as st
from ._layout import LINKED, spread, spring_places
from .ordering import spectral_order

if TYPE_CHECKING:
    from ..data import Graph

CELLS = 400  # up to this many nodes every dyad is a cell; above, blocks of dyads are averaged
BLOCKS = 100  # blocks a side for bigger graphs
_NAMED = 40  # up to this many nodes short names stand in the nodes
_MISSING, _BAD = st.PINK, "#E4E4E4"


def block_means(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """Average a matrix over square blocks, leaving out NaN.

    Args:
        matrix: Values, shape ``(N, N)``.
        blocks: Blocks a side.

    Returns:
        Means, shape ``(blocks, blocks)``; NaN where a block holds nothing but NaN.
    """
    starts = np.linspace(0, len(matrix), blocks, endpoint=False).astype(int)
    known = np.isfinite(matrix)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(part, starts, axis=0), starts, axis=1)
        for part in (np.where(known, matrix, 0.0).astype(np.float64), known.astype(np.float64))
    )
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def adjacency(
    graph: Graph,
    link_probabilities: np.ndarray,
    order: np.ndarray | None = None,
    axes: Any = None,
) -> np.ndarray:
    """Draw the observed adjacency beside the posterior link probabilities.

    Both panels have the same node order and the same colours: white is 0, an edge (or probability
    1) is darkest. Missing dyads are pink on the left. Above 400 nodes each cell is the mean over a
    square block of dyads (on the left, of those observed), again with the same colours in both.

    Args:
        graph: The observed graph.
        link_probabilities: Posterior mean P(A_ij = 1), shape ``(N, N)``; the diagonal is ignored.
        order: Node numbers in drawing order, shape ``(N,)``, such as :func:`node_order` gives; a
            spectral order of the probabilities if not given.
        axes: Two axes to draw into.

    Returns:
        The two axes, shape ``(2,)``.
    """
    count = graph.num_nodes
    seen = _read.observed_matrix(graph)
    inferred = _read.array(link_probabilities).astype(np.float32)
    if inferred.shape != seen.shape:
        raise ValueError(f"link_probabilities has shape {inferred.shape}, not {seen.shape}")
    np.fill_diagonal(inferred, np.nan)
    if order is None:
        order = spectral_order(inferred)
    seen, inferred = (matrix[np.ix_(order, order)] for matrix in (seen, inferred))
    panels = st.new_grid(1, 2, 9.0, 5.5)[0] if axes is None else st.given_axes(axes, 2)

    held = _read.missing(graph).shape[1]
    absent = np.isnan(seen) & ~np.eye(count, dtype=bool)
    top, extent = 1.0, (-0.5, count - 0.5, count - 0.5, -0.5)
    titles = ["Observed edges", "Posterior link probability"]
    bar = "edge (left), P(edge | graph) (right)"
    if count > CELLS:
        seen, inferred = block_means(seen, BLOCKS), block_means(inferred, BLOCKS)
        both = np.concatenate([seen[np.isfinite(seen)], inferred[np.isfinite(inferred)]])
        top = float(np.quantile(both, 0.998)) if both.size else 1.0
        top = min(1.0, top) or 1.0
        side = count / BLOCKS
        titles = ["Observed density", "Posterior link probability"]
        bar = f"mean over blocks of about {side:.0f} × {side:.0f} dyads"
        if held:
            bar += f"; {held:,} missing dyads left out"
    sparse_graph = count > CELLS or float(np.nansum(seen)) < 0.05 * np.isfinite(seen).sum()
    norm = PowerNorm(0.5 if sparse_graph else 1.0, vmin=0.0, vmax=top, clip=True)
    colours = st.SEQUENTIAL.with_extremes(bad=_BAD)
    image = None
    for panel, matrix, title in zip(panels, (seen, inferred), titles, strict=True):
        image = panel.imshow(
            np.ma.masked_invalid(matrix),
            cmap=colours,
            norm=norm,
            interpolation="nearest",
            extent=extent,
        )
        st.dress_matrix(panel, title, "node", "")
        panel.set_aspect("equal")
    if held and count <= CELLS:
        panels[0].imshow(
            np.ma.masked_equal(absent, False),
            cmap=ListedColormap([_MISSING]),
            interpolation="nearest",
            extent=extent,
        )
    # Evenly spaced on the bar: the norm is a square root for sparse graphs.
    ticks = top * np.linspace(0.0, 1.0, 6) ** (2 if sparse_graph else 1)
    st.colorbar(
        image,
        bar,
        list(panels),
        location="bottom",
        aspect=45,
        shrink=0.6,
        pad=0.03,
        format="{x:.2g}",
        ticks=ticks,
    )
    if held and count <= CELLS:
        key = [Patch(color=_MISSING, label=f"{held:,} missing dyads")]
        st.legend_below(panels[0], key, 0.62)
    names = _read.node_names(None, graph, count)
    named = [st.name_ticks(panels[0], [names[node] for node in order], axis) for axis in "yx"]
    for panel, label in zip(panels, (True, False), strict=True):
        if not all(named):
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True))
                axis.set_major_formatter("{x:,.0f}")
            panel.set_xlabel("node, in drawing order", fontsize=st.LABEL, color=st.INK)
        elif not label:
            st.name_ticks(panel, [names[node] for node in order], "x")
        panel.tick_params(labelleft=label, left=label and not all(named))
    panels[0].set_ylabel(panels[0].get_xlabel(), fontsize=st.LABEL, color=st.INK)
    return panels


def _pairs(matrix: Any, directed: bool) -> np.ndarray:
    """Return the edges of an adjacency matrix, shape ``(2, E)``, each once."""
    full = matrix.toarray() if sparse.issparse(matrix) else _read.array(matrix)
    full = np.nan_to_num(full) > 0.5
    np.fill_diagonal(full, False)
    return np.array(np.nonzero(full if directed else np.triu(full | full.T, 1)))


def _node_link(
    ax: Axes,
    pairs: np.ndarray,
    places: np.ndarray,
    colours: Any,
    names: list[str],
    directed: bool,
) -> None:
    """Draw a graph as nodes and links at given places, shape ``(N, 2)``."""
    count = len(places)
    if directed:
        for tail, head in pairs.T:
            ax.annotate(
                "",
                xy=places[head],
                xytext=places[tail],
                arrowprops={"arrowstyle": "->", "color": "#8A8A8A", "lw": 0.7, "shrinkB": 6},
            )
    else:
        lines = LineCollection(places[pairs.T], colors="#8A8A8A", linewidths=0.8, zorder=1)
        ax.add_collection(lines)
    short = count <= _NAMED and max((len(name) for name in names), default=0) <= 3
    size = 210 if short else max(14, 2400 / max(count, 1))
    ax.scatter(
        places[:, 0], places[:, 1], s=size, c=colours, edgecolors="white", linewidths=0.9, zorder=2
    )
    if short:
        rgb = np.broadcast_to(np.asarray(colours)[:, :3], (count, 3))
        dark = rgb @ np.array([0.299, 0.587, 0.114]) < 0.55
        for place, name, pale in zip(places, names, dark, strict=True):
            ax.text(
                place[0],
                place[1],
                name,
                fontsize=st.NAME,
                ha="center",
                va="center_baseline",
                color="white" if pale else "black",
                zorder=3,
            )
    ax.margins(0.06)
    ax.set_axis_off()


def _spy(ax: Axes, pairs: np.ndarray, rank: np.ndarray, directed: bool) -> None:
    """Draw an adjacency matrix as dots, node ``n`` at place ``rank[n]``."""
    rows, columns = rank[pairs[0]], rank[pairs[1]]
    if not directed:
        rows, columns = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    count = len(rank)
    # About one cell a dot, but never too small to be seen and never a solid block of ink.
    size = float(np.clip((250.0 / count) ** 2, 0.35, 4.0))
    alpha = float(np.clip(60_000 / max(1, len(rows)), 0.25, 0.9))
    ax.scatter(columns, rows, s=size, c=st.BLUE, marker="s", lw=0, alpha=alpha, rasterized=True)
    ax.set_xlim(-0.5, count - 0.5)
    ax.set_ylim(count - 0.5, -0.5)
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set_major_formatter("{x:,.0f}")


def generated(
    graph: Graph, sample: Any, axes: Any = None, *, order: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Draw the observed graph beside one that the fitted model generated.

    Up to 150 nodes both are drawn as nodes and links, with the same places for the same nodes
    (a spring layout of the observed graph); above, as adjacency matrices in the same node order.
    The density of the observed graph is over its observed dyads.

    Args:
        graph: The observed graph.
        sample: Adjacency matrix of 0 and 1 of one draw, dense or SciPy sparse, shape ``(N, N)``.
        axes: Two axes to draw into.
        order: Node numbers in drawing order for the matrices, shape ``(N,)``; a spectral order of
            the observed graph if not given.
        seed: Seed of the layout.

    Returns:
        The two axes, shape ``(2,)``.
    """
    count = graph.num_nodes
    if tuple(np.shape(sample)) != (count, count):
        raise ValueError(f"sample has shape {np.shape(sample)}, not {(count, count)}")
    linked = count <= LINKED
    panels = (
        st.new_grid(1, 2, 9.0, 4.8 if linked else 4.7)[0]
        if axes is None
        else st.given_axes(axes, 2)
    )
    both = (_read.edges(graph), _pairs(sample, graph.directed))

    labels = _read.node_labels(None, graph)
    key = None if labels is None else st.Categories(*labels)
    if linked:
        places = spread(spring_places(graph, seed), 0.055 if count <= _NAMED else 0.025)
        colours = key.colors if key is not None else np.tile((0.0, 0.447, 0.698, 1.0), (count, 1))
        names = _read.node_names(None, graph, count)
        for panel, pairs in zip(panels, both, strict=True):
            _node_link(panel, pairs, places, colours, names, graph.directed)
    else:
        if order is None:
            weights = np.ones(both[0].shape[1])
            order = spectral_order(sparse.csr_array((weights, both[0]), shape=(count, count)))
        rank = np.empty(count, int)
        rank[order] = np.arange(count)
        for panel, pairs in zip(panels, both, strict=True):
            _spy(panel, pairs, rank, graph.directed)
            st.dress_matrix(panel, "", "node, in drawing order", "")
        panels[0].set_ylabel("node, in drawing order", fontsize=st.LABEL, color=st.INK)
    for panel, pairs, what in zip(panels, both, ("Observed", "Generated"), strict=True):
        edges = pairs.shape[1]
        dyads = count * (count - 1) // (1 if graph.directed else 2)
        if what == "Observed":
            dyads -= _read.missing(graph).shape[1]
        density = edges / max(1, dyads)
        st.title(panel, f"{what}: {edges:,} edges, density {density:.3g}")
    if key is not None and linked:
        st.legend_below(panels[0], key.patches(), 0.08, ncols=min(4, len(key.key)))
    return panels
