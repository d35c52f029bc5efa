"""Sets of graphs of one family: cycles, trees, grids."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from .graphset import GraphSet
from .validation import GraphError

__all__ = ["cycles", "grids", "trees"]


def cycles(count: int, lengths: Sequence[int] = range(5, 15), seed: int = 0) -> GraphSet:
    """Cycles with lengths drawn uniformly, the set of the SGVAE paper.

    The law has entropy log(number of lengths): no model has a smaller mean -log p per isomorphism class.

    Args:
        count: Number of graphs.
        lengths: Lengths to draw from, each at least 3.
        seed: Of the draws.

    Raises:
        GraphError: If there is no graph to draw or a length is below 3.
    """
    sizes = _sizes(count, lengths, seed, least=3)
    ends = [np.stack([np.arange(n), (np.arange(n) + 1) % n]) for n in sizes]
    return GraphSet(sizes, np.concatenate(ends, axis=1), np.cumsum([0, *sizes]), title="cycles")


def trees(count: int, sizes: Sequence[int] = range(5, 15), seed: int = 0) -> GraphSet:
    """Trees with sizes drawn uniformly, each uniform over the labelled trees of its size.

    Raises:
        GraphError: If there is no graph to draw or a size is below 2.
    """
    drawn = _sizes(count, sizes, seed, least=2)
    rng = np.random.default_rng([seed, 1])
    graphs = [nx.from_prufer_sequence(rng.integers(n, size=n - 2).tolist()) for n in drawn]
    return GraphSet.from_networkx(graphs, title="trees")


def grids(rows: Sequence[int], columns: Sequence[int]) -> GraphSet:
    """Every r x c grid with r among ``rows`` and c among ``columns``, nodes row by row."""
    graphs = [
        nx.convert_node_labels_to_integers(nx.grid_2d_graph(r, c)) for r in rows for c in columns
    ]
    return GraphSet.from_networkx(graphs, title="grids")


def _sizes(count: int, sizes: Sequence[int], seed: int, least: int) -> list[int]:
    if count < 1 or not len(sizes) or min(sizes) < least:
        raise GraphError(
            f"Needs count >= 1 and sizes >= {least}, got count={count}, sizes={list(sizes)}."
        )
    return np.random.default_rng(seed).choice(np.asarray(sizes), size=count).tolist()
