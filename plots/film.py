"""A graph built node by node, as a film strip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from . import _read
from . import _style as st
from .generated import small_places

if TYPE_CHECKING:
    from ..data import Graph

__all__ = ["film_strip"]

_OLD, _NEW, _LINK = "#9A9A9A", st.VERMILLION, "#A0A0A0"
_GHOSTS = 60  # up to this many nodes, those still to come are shown
_EDGES = 10_000  # most edges that are drawn


def film_strip(
    graph: Graph,
    order: Any = None,
    axes: Any = None,
    *,
    frames: int = 12,
    places: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw how a graph is built, node by node, in the order that a sequential story tells.

    Each frame shows the nodes that stand so far and the edges among them, all at their final
    places; what came since the frame before is red. With more nodes than frames, frames are spread
    evenly, the first node and the whole graph among them. Nodes to come are faint, up to 60 nodes.
    At most 10,000 edges are drawn, chosen at random; the numbers above a frame count all.

    Args:
        graph: The graph. One that SGVAE or SGGN drew (``gl.inference.draw_graphs(story, z)[g]``)
            has its nodes in the order in which they came.
        order: Nodes in the order of construction, shape ``(N,)``: the node built i-th is
            ``order[i]``, as a row of what a destructor returns or of
            :func:`~graphlore.data.canonical_orders` (padding beyond N is cut off); the numbering of
            the nodes if not given.
        axes: As many axes as there are frames, ``min(N, frames)``.
        frames: Most frames, at least 2.
        places: Places of the nodes, shape ``(N, 2)``; chosen from the edges if not given.
        seed: Seed of the layout.

    Returns:
        The axes, shape ``(min(N, frames),)``.

    Raises:
        ValueError: If the order is no permutation of the nodes, places have another shape, or
            frames are fewer than 2.
    """
    count, pairs = graph.num_nodes, _read.edges(graph)
    if frames < 2:
        raise ValueError(f"a film needs at least 2 frames, not {frames}")
    rank = _ranks(order, count)
    built = np.unique(np.linspace(1, count, min(frames, count)).round().astype(int))
    if places is None:
        where = small_places(graph, seed)
    else:
        where = _read.array(places).astype(float)
        if where.shape != (count, 2):
            raise ValueError(f"places have shape {where.shape}, not {(count, 2)}")
    panels = _strip(len(built)) if axes is None else st.given_axes(axes, len(built))
    # An edge comes with the later of its two nodes.
    came = rank[pairs].max(axis=0) if pairs.size else np.empty(0, int)
    size = float(np.clip(700.0 / count, 1.5, 42.0))
    width = float(np.clip(12.0 / np.sqrt(max(1, pairs.shape[1])), 0.25, 1.1))
    faint = float(np.clip(40.0 / np.sqrt(max(1, pairs.shape[1])), 0.15, 1.0))
    kept = np.arange(pairs.shape[1])
    if len(kept) > _EDGES:
        kept = np.sort(np.random.default_rng(seed).choice(kept, _EDGES, replace=False))
    centre = 0.5 * (where.min(axis=0) + where.max(axis=0))
    half = 0.58 * float(np.ptp(where, axis=0).max(initial=0.0)) + 1e-9  # frames are squares
    before = np.concatenate([[0], built[:-1]])
    for panel, first, last in zip(panels, before, built, strict=True):
        fresh = (rank >= first) & (rank < last)
        new_edge = (came >= first) & (came < last)
        for chosen, color, layer in ((came < first, _LINK, 1.0), (new_edge, _NEW, 1.5)):
            panel.add_collection(
                LineCollection(
                    where[pairs[:, kept[chosen[kept]]].T],
                    colors=color,
                    alpha=faint,
                    linewidths=width * (1.0 if layer == 1.0 else 1.5),
                    zorder=layer,
                    rasterized=count > 500,
                )
            )
        faces = np.where(fresh[:, None], to_rgba(_NEW), to_rgba(_OLD))
        stands = rank < last
        panel.scatter(
            *where[stands].T,
            s=np.where(fresh[stands], 1.5, 1.0) * size,
            c=faces[stands],
            edgecolors="white",
            linewidths=0.5 if count <= 200 else 0.0,
            zorder=2,
            rasterized=count > 500,
        )
        if count <= _GHOSTS and not stands.all():
            panel.scatter(*where[~stands].T, s=0.3 * size, c=st.FAINT, lw=0, zorder=0.5)
        panel.set_xlim(centre[0] - half, centre[0] + half)
        panel.set_ylim(centre[1] - half, centre[1] + half)
        panel.set_aspect("equal")
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set_color(st.FAINT)
        edges = int((came < last).sum())
        nodes = "node" if last == 1 else "nodes"
        panel.set_title(
            f"{last:,} {nodes}, {edges:,} {'edge' if edges == 1 else 'edges'}",
            fontsize=st.NAME,
            color=st.INK,
            loc="left",
        )
    return panels


def _strip(count: int) -> np.ndarray:
    """Make frames in rows of up to six."""
    across = min(count, 6) if count != 8 else 4
    rows = -(-count // across)
    grid = st.new_grid(rows, across, 1.75 * across + 0.1, 2.0 * rows)
    for empty in grid.ravel()[count:]:
        empty.set_axis_off()
    return grid.ravel()[:count]


def _ranks(order: Any, count: int) -> np.ndarray:
    """Return when each node is built, shape ``(N,)``, from the order in which they are."""
    if order is None:
        return np.arange(count)
    given = _read.array(order)
    if given.ndim != 1 or given.dtype.kind not in "iu" or len(given) < count:
        raise ValueError(
            f"order must be {count} integers, one row of a batch of orders, not {given.dtype} of "
            f"shape {given.shape}"
        )
    chosen, padding = given[:count], given[count:]
    if not np.array_equal(np.sort(chosen), np.arange(count)) or (padding < count).any():
        raise ValueError(f"order must name each of the {count} nodes once, by number")
    rank = np.empty(count, int)
    rank[chosen] = np.arange(count)
    return rank
