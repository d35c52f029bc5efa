"""The observed adjacency beside the inferred one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize, PowerNorm
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from . import _read
from . import _style as st
from .ordering import spectral_order

if TYPE_CHECKING:
    from ..data import Graph

CELLS = 400  # up to this many nodes every dyad is a cell; above, blocks of dyads are averaged
BLOCKS = 100  # blocks a side for bigger graphs
_MISSING, _BAD = st.PINK, "#E4E4E4"


def block_means(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """Average a matrix over blocks, leaving out NaN.

    Args:
        matrix: Values, shape ``(N, M)``.
        blocks: Blocks a side; all rows (or columns) if there are fewer.

    Returns:
        Means, shape ``(min(N, blocks), min(M, blocks))``; NaN where a block holds nothing but NaN.
    """
    down, across = (
        np.linspace(0, side, min(blocks, side), endpoint=False).astype(int) for side in matrix.shape
    )
    known = np.isfinite(matrix)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(part, down, axis=0), across, axis=1)
        for part in (np.where(known, matrix, 0.0).astype(np.float64), known.astype(np.float64))
    )
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def adjacency(
    graph: Graph,
    link_probabilities: np.ndarray,
    order: np.ndarray | None = None,
    axes: Any = None,
    *,
    weighted: bool = False,
) -> np.ndarray:
    """Draw the observed adjacency beside the posterior link probabilities.

    Both panels have the same node order and the same colours: white is 0, an edge (or probability
    1) is darkest. Missing dyads are pink on the left. Above 400 nodes each cell is the mean over a
    block of dyads (on the left, of those observed), again with the same colours in both.

    Rows of a directed graph are tails, columns are heads. Of a bipartite graph rows are one side
    and columns the other. Counts and weights are drawn as edges that are there or not, unless
    ``weighted``.

    Args:
        graph: The observed graph.
        link_probabilities: Posterior mean P(A_ij = 1), shape ``(N, N)``; the diagonal is ignored.
        order: Node numbers in drawing order, shape ``(N,)``, such as :func:`node_order` gives; a
            spectral order of the probabilities if not given.
        axes: Two axes to draw into.
        weighted: Draw the weights of the edges, and take ``link_probabilities`` as their posterior
            means (``fit.expected_values``). Weights below 0 are blue, above 0 red.

    Returns:
        The two axes, shape ``(2,)``.

    Raises:
        ValueError: If the shape is another, or a graph without weights is to be drawn by them.
    """
    count = graph.num_nodes
    if weighted and graph.weights is None:
        raise ValueError("weighted=True needs a graph with weights, and this one has none")
    seen = _read.observed_matrix(graph, weighted)
    inferred = _read.array(link_probabilities).astype(np.float32)
    if inferred.shape != seen.shape:
        raise ValueError(f"link_probabilities has shape {inferred.shape}, not {seen.shape}")
    np.fill_diagonal(inferred, np.nan)
    if order is None:
        order = spectral_order(np.abs(inferred))
    order = np.asarray(order)
    absent = np.zeros((count, count), bool)
    hidden = _read.missing(graph)
    absent[hidden[0], hidden[1]] = True
    if not graph.directed:
        absent |= absent.T
    parts = _read.sides(graph)
    rows, columns = (order, order) if parts is None else (order[parts[order] == k] for k in (0, 1))
    seen, inferred, absent = (part[np.ix_(rows, columns)] for part in (seen, inferred, absent))
    panels = st.new_grid(1, 2, 9.0, 5.5)[0] if axes is None else st.given_axes(axes, 2)
    names = _read.node_names(None, graph, count)
    shown = ([names[node] for node in rows], [names[node] for node in columns])
    _draw(panels, seen, inferred, absent, hidden.shape[1], shown, weighted)
    kind = "node, in drawing order"
    if parts is not None:
        _name_axes(
            panels, f"first side, {len(rows):,} nodes", f"other side, {len(columns):,} nodes"
        )
    elif graph.directed:
        _name_axes(panels, f"tail: {kind}", f"head: {kind}")
    return panels


def _draw(
    panels: np.ndarray,
    seen: np.ndarray,
    inferred: np.ndarray,
    absent: np.ndarray,
    held: int,
    names: tuple[list[str], list[str]],
    weighted: bool,
) -> None:
    """Draw both matrices in drawing order, shape ``(R, C)``, and what tells them apart."""
    height, width = seen.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    blocked = max(height, width) > CELLS
    what = ("weights", "mean weight") if weighted else ("edges", "link probability")
    bar = "weight (left), E[weight | graph] (right)" if weighted else (
        "edge (left), P(edge | graph) (right)"
    )  # fmt: skip
    sparse_graph = blocked or float(np.count_nonzero(np.nan_to_num(seen))) < (
        0.05 * np.isfinite(seen).sum()
    )
    if blocked:
        seen, inferred = block_means(seen, BLOCKS), block_means(inferred, BLOCKS)
        what = ("mean weight" if weighted else "density", what[1])
        sides = [f"{max(1.0, side / BLOCKS):.0f}" for side in (height, width)]
        bar = f"mean over blocks of about {sides[0]} × {sides[1]} dyads"
        if held:
            bar += f"; {held:,} missing dyads left out"
    norm, colours, ticks = _colours(seen, inferred, sparse_graph, blocked or weighted)
    image = None
    titles = (f"Observed {what[0]}", f"Posterior {what[1]}")
    for panel, matrix, title in zip(panels, (seen, inferred), titles, strict=True):
        image = panel.imshow(
            np.ma.masked_invalid(matrix),
            cmap=colours,
            norm=norm,
            interpolation="nearest",
            extent=extent,
        )
        st.dress_matrix(panel, title, "node", "")
        # A long and thin matrix is stretched to be seen.
        panel.set_aspect("equal" if max(height, width) <= 3 * min(height, width) else "auto")
    if held and not blocked:
        panels[0].imshow(
            np.ma.masked_equal(absent, False),
            cmap=ListedColormap([_MISSING]),
            interpolation="nearest",
            extent=extent,
            aspect=panels[0].get_aspect(),
        )
    st.colorbar(
        image,
        bar,
        list(panels),
        location="bottom",
        aspect=45,
        shrink=0.6,
        pad=0.03,
        format=lambda value, _: st.minus(f"{value:.2g}"),
        ticks=ticks,
    )
    if held and not blocked:
        key = [Patch(color=_MISSING, label=f"{held:,} missing dyads")]
        st.legend_below(panels[0], key, 0.62)
    named = [st.name_ticks(panels[0], names[k], axis) for k, axis in enumerate("yx")]
    for panel, label in zip(panels, (True, False), strict=True):
        if not all(named):
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MaxNLocator(4, integer=True))
                axis.set_major_formatter("{x:,.0f}")
            panel.set_xlabel("node, in drawing order", fontsize=st.LABEL, color=st.INK)
        elif not label:
            st.name_ticks(panel, names[1], "x")
        panel.tick_params(labelleft=label, left=label and not all(named))
    panels[0].set_ylabel(panels[0].get_xlabel(), fontsize=st.LABEL, color=st.INK)


def _colours(
    seen: np.ndarray, inferred: np.ndarray, sparse_graph: bool, scaled: bool
) -> tuple[Normalize, Colormap, np.ndarray]:
    """Return the norm and the colours that both panels share, and ticks for their bar."""
    both = np.concatenate([part[np.isfinite(part)] for part in (seen, inferred)])
    top = float(np.quantile(np.abs(both), 0.998)) if scaled and both.size else 1.0
    top = top or float(np.abs(both).max(initial=0.0)) or 1.0
    if both.size and both.min() < 0.0:
        norm = Normalize(-top, top, clip=True)
        return norm, st.DIVERGING.with_extremes(bad=_BAD), np.linspace(-top, top, 5)
    # Evenly spaced on the bar: the norm is a square root for sparse graphs.
    power = 0.5 if sparse_graph else 1.0
    ticks = top * np.linspace(0.0, 1.0, 6) ** (1.0 / power)
    colours = st.SEQUENTIAL.with_extremes(bad=_BAD)
    return PowerNorm(power, vmin=0.0, vmax=top, clip=True), colours, ticks


def _name_axes(panels: np.ndarray, rows: str, columns: str) -> None:
    """Say what rows and columns are."""
    first: Axes = panels[0]
    first.set_ylabel(rows, fontsize=st.LABEL, color=st.INK)
    for panel in panels:
        panel.set_xlabel(columns, fontsize=st.LABEL, color=st.INK)
