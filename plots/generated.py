"""Observed graphs beside those that a model generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm, to_rgba
from matplotlib.ticker import MaxNLocator
from scipy import sparse

from . import _read
from . import _style as st
from ._layout import LINKED, spread, spring_places
from ._nodelink import NAMED, node_link
from .ordering import spectral_order

if TYPE_CHECKING:
    from ..data import Graph

__all__ = ["generated", "generated_set"]

_CELLS = 250  # cells a side of the picture of a matrix


def _pairs(sample: Any, graph: Graph) -> np.ndarray:
    """Return the edges of a graph or an adjacency matrix, shape ``(2, E)``, each once."""
    if hasattr(sample, "edge_index"):
        if sample.num_nodes != graph.num_nodes:
            raise ValueError(f"a sample has {sample.num_nodes} nodes, not {graph.num_nodes}")
        return _read.edges(sample)
    count = graph.num_nodes
    if tuple(np.shape(sample)) != (count, count):
        raise ValueError(f"sample has shape {np.shape(sample)}, not {(count, count)}")
    full = sample.toarray() if sparse.issparse(sample) else _read.array(sample)
    full = np.nan_to_num(full) != 0
    np.fill_diagonal(full, False)
    return np.array(np.nonzero(full if graph.directed else np.triu(full | full.T, 1)))


def _samples(samples: Any) -> list[Any]:
    """Return a list of samples, also of one."""
    if hasattr(samples, "edge_index") or sparse.issparse(samples):
        return [samples]
    if isinstance(samples, Sequence):
        first = samples[0] if len(samples) else None
        if first is None or hasattr(first, "edge_index") or sparse.issparse(first):
            return list(samples)
    return list(samples) if np.ndim(samples) == 3 else [samples]


def generated(
    graph: Graph, samples: Any, axes: Any = None, *, order: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Draw the observed graph beside one or several that the fitted model generated.

    Up to 150 nodes all are drawn as nodes and links, with the same places for the same nodes
    (a spring layout of the observed graph); above, as adjacency matrices in the same node order,
    each cell in the colour of its number of edges. The density of the observed graph is over its
    observed dyads.

    Args:
        graph: The observed graph.
        samples: What ``fit.generate(3)`` returns, one graph, or adjacency matrices, dense
            ``(N, N)`` or ``(S, N, N)`` or SciPy sparse; what is not 0 is an edge.
        axes: As many axes as there are samples, and one more.
        order: Node numbers in drawing order for the matrices, shape ``(N,)``; a spectral order of
            the observed graph if not given.
        seed: Seed of the layout.

    Returns:
        The axes, shape ``(1 + S,)``, the observed graph first.

    Raises:
        ValueError: If there is no sample, or one has other nodes than the graph.
    """
    count = graph.num_nodes
    drawn = [_read.edges(graph), *(_pairs(sample, graph) for sample in _samples(samples))]
    if len(drawn) == 1:
        raise ValueError("there is no generated graph to draw: samples is empty")
    linked = count <= LINKED
    panels = _panels(len(drawn), linked) if axes is None else st.given_axes(axes, len(drawn))
    labels = _read.node_labels(None, graph)
    key = None if labels is None else st.Categories(*labels)
    if linked:
        places = spread(spring_places(graph, seed), 0.055 if count <= NAMED else 0.025)
        colours = key.colors if key is not None else np.tile(to_rgba(st.BLUE), (count, 1))
        names = _read.node_names(None, graph, count)
        for panel, pairs in zip(panels, drawn, strict=True):
            node_link(panel, pairs, places, colours, names, graph.directed)
    else:
        if order is None:
            weights = np.ones(drawn[0].shape[1])
            order = spectral_order(sparse.csr_array((weights, drawn[0]), shape=(count, count)))
        _matrices(panels, drawn, order, graph.directed)
    for number, (panel, pairs) in enumerate(zip(panels, drawn, strict=True)):
        edges = pairs.shape[1]
        hidden = 0 if number else _read.missing(graph).shape[1]
        density = edges / max(1, _read.dyads(graph) - hidden)
        what = "Generated" if number else "Observed"
        told = "" if len(drawn) > 3 and linked else f", density {density:.3g}"
        st.title(panel, f"{what}: {edges:,} edges{told}")
    if key is not None and linked:
        st.legend_below(panels[0], key.patches(), 0.08, ncols=min(4, len(key.key)))
    return panels


def _panels(count: int, linked: bool) -> np.ndarray:
    """Make up to four panels a row; what is left over stays empty."""
    across = count if count <= 4 else -(-count // -(-count // 4))
    rows = -(-count // across)
    side = {1: 4.5, 2: 4.5, 3: 3.8}.get(across, 3.3)
    grid = st.new_grid(rows, across, side * across, (side + (0.3 if linked else 0.2)) * rows)
    for empty in grid.ravel()[count:]:
        empty.set_axis_off()
    return grid.ravel()[:count]


def _matrices(
    panels: np.ndarray, drawn: list[np.ndarray], order: np.ndarray, directed: bool
) -> None:
    """Draw adjacency matrices as counts of edges in cells, all in the same colours."""
    count = len(order)
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    cells = min(count, _CELLS)
    images = []
    for pairs in drawn:
        rows, columns = rank[pairs[0]] * cells // count, rank[pairs[1]] * cells // count
        if not directed:
            rows, columns = np.concatenate([rows, columns]), np.concatenate([columns, rows])
        images.append(np.bincount(rows * cells + columns, minlength=cells**2).reshape(cells, cells))
    filled = np.concatenate([image[image > 0] for image in images])
    top = max(1.0, float(np.quantile(filled, 0.99))) if filled.size else 1.0
    # With a square root of the counts a single edge can be seen beside a dense block.
    norm = PowerNorm(0.5, vmin=0.0, vmax=top, clip=True)
    mappable = None
    for panel, image in zip(panels, images, strict=True):
        mappable = panel.imshow(
            image,
            cmap=st.SEQUENTIAL,
            norm=norm,
            interpolation="nearest",
            extent=(-0.5, count - 0.5, count - 0.5, -0.5),
        )
        st.dress_matrix(panel, "", "node, in drawing order", "")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
            axis.set_major_formatter("{x:,.0f}")
    panels[0].set_ylabel("node, in drawing order", fontsize=st.LABEL, color=st.INK)
    if cells < count:
        side = count / cells
        words = f"edges in a cell of about {side:.0f} × {side:.0f} dyads"
        st.colorbar(
            mappable,
            words,
            list(panels),
            location="bottom",
            aspect=45,
            shrink=0.6,
            pad=0.03,
            ticks=MaxNLocator(5, integer=True),
        )


def generated_set(
    observed: Sequence[Graph],
    sampled: Sequence[Graph],
    axes: Any = None,
    *,
    count: int = 6,
    seed: int = 0,
) -> np.ndarray:
    """Draw some graphs of a set above some that a model of such sets generated.

    Graphs are chosen at random and stand by size; each has a layout of its own, and node types are
    colours. Graphs of one node are counted, not drawn. For sequential stories, whose draws are
    whole graphs.

    Args:
        observed: A :class:`~graphlore.data.GraphSet`, or graphs.
        sampled: The same, such as ``gl.inference.draw_graphs(story, z)`` returns.
        axes: ``2 * count`` axes.
        count: Graphs a row; fewer if there are not so many.
        seed: Of the choice and the layouts.

    Returns:
        The axes, shape ``(2, count)``.

    Raises:
        ValueError: If either has no graph of two nodes or ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rng = np.random.default_rng(seed)
    rows = []
    for graphs in (observed, sampled):
        sizes = _sizes(graphs)
        drawable = np.flatnonzero(sizes > 1)
        if not drawable.size:
            raise ValueError("each row needs at least one graph of two nodes or more")
        chosen = rng.choice(drawable, min(count, drawable.size), replace=False)
        rows.append([graphs[int(g)] for g in chosen[np.argsort(sizes[chosen], kind="stable")]])
    panels = (
        st.new_grid(2, count, 1.75 * count, 4.3)
        if axes is None
        else st.given_axes(axes, 2 * count).reshape(2, count)
    )
    for what, graphs, row, shown in zip(
        ("Observed", "Generated"), (observed, sampled), panels, rows, strict=True
    ):
        for panel, graph in zip(row, shown, strict=False):
            _small(panel, graph, seed)
        for empty in row[len(shown) :]:
            empty.set_axis_off()
        row[0].annotate(
            f"{what}: {len(shown)} of {len(graphs):,} graphs" + _single(graphs),
            (0.0, 1.0),
            xycoords="axes fraction",
            xytext=(0.0, 20.0),
            textcoords="offset points",
            fontsize=st.TITLE,
            color=st.INK,
        ).set_in_layout(False)  # it may be longer than its panel is wide
    return panels


def _sizes(graphs: Any) -> np.ndarray:
    """Return the number of nodes of each graph, of a set without making its graphs."""
    if hasattr(graphs, "edge_ptr"):
        return _read.array(graphs.num_nodes)
    return np.array([graph.num_nodes for graph in graphs], dtype=int)


def _single(graphs: Any) -> str:
    """Tell how many graphs are of one node, which are not drawn."""
    alone = int((_sizes(graphs) == 1).sum())
    return f"; {alone:,} of one node are not drawn" if alone else ""


def _small(ax: Axes, graph: Graph, seed: int) -> None:
    """Draw one small graph with its numbers of nodes and edges."""
    count, pairs = graph.num_nodes, _read.edges(graph)
    ax.set_box_aspect(1)
    places = small_places(graph, seed)
    labels = _read.node_labels(None, graph)
    colours = (
        np.tile(to_rgba(st.BLUE), (count, 1))
        if labels is None
        else st.Categories(labels[0], labels[1]).colors
    )
    node_link(ax, pairs, places, colours, None, graph.directed, float(np.clip(500 / count, 8, 45)))
    ax.margins(0.12)
    ax.set_title(
        # empty lines are room for the words above the row
        f"\n\n{count} nodes, {pairs.shape[1]} edges",
        fontsize=st.NAME,
        color=st.GREY,
        loc="left",
    )


def small_places(graph: Graph, seed: int = 0) -> np.ndarray:
    """Place nodes so that graph distances are kept (Kamada and Kawai 1989), up to 40 nodes, shape ``(N, 2)``.

    Cycles and grids then look like cycles and grids. Bigger graphs, and those in pieces, have springs.
    """
    network = nx.Graph()
    network.add_nodes_from(range(graph.num_nodes))
    network.add_edges_from(_read.edges(graph).T.tolist())
    if graph.num_nodes > NAMED or graph.num_nodes < 2 or not nx.is_connected(network):
        return spring_places(graph, seed)
    # A spectral start: from a circle in the order of the numbers, a ring may end as a figure of eight. The circle only
    # keeps apart what the eigenvectors do not.
    rough, circle = nx.spectral_layout(network), nx.circular_layout(network)
    start = {node: rough[node] + 0.05 * circle[node] for node in network}
    layout = nx.kamada_kawai_layout(network, pos=start)
    return np.array([layout[node] for node in range(graph.num_nodes)])
