"""Statistics of graphs that posterior predictive checks compare, of many graphs at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

__all__ = ["STATISTICS", "block_adjacency", "graph_statistics", "p_value", "weight_statistics"]

STATISTICS = {
    "density": "edges per dyad",
    "degree_sd": "standard deviation of the degrees",
    "max_degree": "largest degree",
    "triangles": "number of triangles",
    "transitivity": "share of connected triples that are closed",
    "clustering": "mean over nodes of the share of pairs of neighbours that are linked",
    "assortativity": "correlation of the degrees at the ends of an edge",
    "label_assortativity": "edges within a label beyond chance: 1 if all are, 0 if no more than at random",
    "components": "number of connected components",
    "isolated": "nodes without an edge",
    "largest_component": "share of the nodes in the largest component",
    "path_length": "mean length of the shortest path between connected nodes",
    "diameter": "longest of the shortest paths within the largest component",
    "spectral_radius": "largest eigenvalue of the adjacency matrix: how dense its densest part is",
    "spectral_gap": "second eigenvalue of the normalised Laplacian of the largest component: near 0 if it falls apart "
    "into communities",
    "total_weight": "sum of the weights",
    "weight_sd": "standard deviation of the weights of all dyads",
    "max_weight": "largest weight",
}

# Up to how many nodes a statistic is had at a cost below that of drawing the graph (measured with 4 to 8 edges a node).
_PATH_NODES = 500
_RADIUS_NODES = 1000
_DENSE_NODES = 100  # of dense eigenvalues, O(N^3)
_PRODUCT_NODES = 5000  # of a dense matrix in memory
_SPARSE = 0.02  # steps of a sparse product over those of a dense one from which that is the faster
_WORDS_AT_ONCE = 4_000_000  # of 64 sources each, along the edges
_BITS = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)


def block_adjacency(pairs: np.ndarray, num_nodes: int, num_graphs: int = 1) -> sp.csr_matrix:
    """Symmetric 0/1 adjacency matrix of graphs side by side, (B N, B N); arcs count in both directions.

    Arguments:
        pairs: edges of all graphs, (2, E) integers; node n of graph b is b N + n.
    """
    ends = np.concatenate((pairs, pairs[::-1]), axis=1)
    size = num_nodes * num_graphs
    both = sp.csr_matrix((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(size, size))
    both.data[:] = 1.0
    both.sort_indices()
    return both


def graph_statistics(
    adjacency: sp.csr_matrix,
    num_graphs: int = 1,
    *,
    num_dyads: int | None = None,
    num_edges: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The :data:`STATISTICS` of presence, of simple graphs of N nodes each, (B,) float64 by name.

    Definitions are those of NetworkX (``average_clustering``, ``attribute_assortativity_coefficient``,
    ``normalized_laplacian_spectrum`` of the largest component, ...); what is undefined (a correlation of equal degrees,
    a path in a graph without edges) is 0. Of several largest components, the one with the first node counts. Directed
    graphs are taken as undirected but for their density; bipartite ones as if a pair of one side were a dyad without
    edge, so that their triangles are 0. Paths are left out above 500 nodes, the spectral radius above 1,000 and the
    spectral gap above 100: they would take longer than to draw the graphs.

    Arguments:
        adjacency: symmetric sparse 0/1 of graphs side by side, (B N, B N), as :func:`block_adjacency` makes it.
        num_graphs: B.
        num_dyads: dyads of a graph that could hold an edge; all of them if None.
        num_edges: how many do in each graph, (B,); those of the matrix if None.
        labels: (N,) integers for ``label_assortativity``, -1 where not known: the edges of such nodes are left out. It
            is no statistic where None, or where no node has a label.
    """
    size = adjacency.shape[0]
    n = size // num_graphs
    degrees = np.diff(adjacency.indptr).astype(np.float64)
    by_node = degrees.reshape(num_graphs, n)
    rows = np.repeat(np.arange(size), np.diff(adjacency.indptr))
    ends = _Ends(rows // n, num_graphs)
    closed = _closed(adjacency, num_graphs, degrees)
    pairs = degrees * (degrees - 1.0)
    triples, by_graph = _per_graph(pairs, n), _per_graph(closed, n)
    x, y = degrees[rows], degrees[adjacency.indices]
    x, y = x - ends.mean(x)[ends.graph], y - ends.mean(y)[ends.graph]
    found = {
        "density": (by_node.sum(1) / 2.0 if num_edges is None else np.asarray(num_edges, float))
        / (num_dyads or max(1, n * (n - 1) // 2)),
        "degree_sd": by_node.std(1),
        "max_degree": by_node.max(1),
        "triangles": by_graph / 6.0,
        "transitivity": _ratio(by_graph, triples),
        "clustering": _per_graph(_ratio(closed, pairs), n) / n,
        "assortativity": _ratio(ends.mean(x * y), ends.mean(x * x)),
    }
    if labels is not None and (labels >= 0).any():
        found["label_assortativity"] = _label_assortativity(adjacency, rows, labels, num_graphs)
    component = connected_components(adjacency, directed=False)[1]
    sizes = np.bincount(component)
    # components are numbered by their first nodes, and so stand graph by graph
    graph_of = np.unique(component, return_index=True)[1] // n
    first = np.searchsorted(graph_of, np.arange(num_graphs))
    largest = np.maximum.reduceat(sizes, first)
    is_largest = np.flatnonzero(sizes == largest[graph_of])
    chosen = is_largest[np.searchsorted(graph_of[is_largest], np.arange(num_graphs))]
    inside = component == np.repeat(chosen, n)
    found |= {
        "components": np.bincount(graph_of, minlength=num_graphs).astype(np.float64),
        "isolated": (by_node == 0).sum(1).astype(np.float64),
        "largest_component": largest / n,
    }
    if n <= _PATH_NODES:
        total, reached, longest = _distances(adjacency, n)
        found["path_length"] = _ratio(_per_graph(total, n), _per_graph(reached, n))
        found["diameter"] = np.where(inside, longest, 0.0).reshape(num_graphs, n).max(1)
    return found | _spectrum(adjacency, num_graphs, degrees, inside)


def weight_statistics(
    weights: np.ndarray, num_dyads: int, graph: np.ndarray | None = None, num_graphs: int = 1
) -> dict[str, np.ndarray]:
    """The :data:`STATISTICS` of weights, (B,) float64 by name, from those of the edges; other dyads have weight 0.

    Arguments:
        weights: of the edges of all graphs, (E,).
        num_dyads: of one graph.
        graph: of which graph an edge is, (E,); all of the first if None.
        num_graphs: B.
    """
    graph = np.zeros(len(weights), dtype=np.int64) if graph is None else graph
    total = np.bincount(graph, weights, num_graphs)
    square = np.bincount(graph, weights**2, num_graphs)
    largest = np.zeros(num_graphs)
    np.maximum.at(largest, graph, weights)
    mean = total / num_dyads
    return {
        "total_weight": total,
        "weight_sd": np.sqrt(np.maximum(0.0, square / num_dyads - mean**2)),
        "max_weight": largest,
    }


def _closed(adjacency: sp.csr_matrix, num_graphs: int, degrees: np.ndarray) -> np.ndarray:
    """Twice the triangles of every node, (B N,): ordered pairs of its neighbours that are linked."""
    n = len(degrees) // num_graphs
    if n > _PRODUCT_NODES or (degrees**2).sum() < _SPARSE * num_graphs * n**3:
        return _closed_sparsely(adjacency, degrees)
    dense = _dense(adjacency, num_graphs, np.float32)  # whole numbers below 2^24
    return (dense * (dense @ dense)).sum(2, dtype=np.float64).ravel()


def _closed_sparsely(adjacency: sp.csr_matrix, degrees: np.ndarray) -> np.ndarray:
    """The same by orienting edges to the node of larger degree: then a hub has few successors, of which all pairs are
    looked at, and products stay sparse."""
    rank = np.empty(len(degrees), dtype=np.int64)
    rank[np.argsort(degrees, kind="stable")] = np.arange(len(degrees))
    edges = adjacency.tocoo()
    up = rank[edges.row] < rank[edges.col]
    ends = (edges.row[up], edges.col[up])
    arcs = sp.csr_matrix((np.ones(len(ends[0])), ends), shape=adjacency.shape)
    # of a triangle a -> b -> c, a -> c: how many b the arc a -> c closes, how many a the arc b -> c
    over, under = arcs.multiply(arcs @ arcs), arcs.multiply(arcs.T @ arcs)
    first, last = (np.asarray(over.sum(axis)).ravel() for axis in (1, 0))
    middle = np.asarray(under.sum(1)).ravel()
    return 2.0 * (first + middle + last)


def _dense(adjacency: sp.csr_matrix, num_graphs: int, dtype: Any = np.float64) -> np.ndarray:
    """(B, N, N) from the blocks of (B N, B N)."""
    n = adjacency.shape[0] // num_graphs
    dense = np.zeros((num_graphs, n, n), dtype)
    rows = np.repeat(np.arange(adjacency.shape[0]), np.diff(adjacency.indptr))
    dense[rows // n, rows % n, adjacency.indices % n] = 1.0
    return dense


class _Ends:
    """Ends of edges, each edge twice, by graph."""

    def __init__(self, graph: np.ndarray, num_graphs: int) -> None:
        self.graph, self.num_graphs = graph, num_graphs
        self.count = np.bincount(graph, minlength=num_graphs)

    def mean(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.graph, values, self.num_graphs) / np.maximum(1, self.count)


def _per_graph(by_node: np.ndarray, n: int) -> np.ndarray:
    return by_node.reshape(-1, n).sum(1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotients, 0 where the denominator is 0 but for rounding."""
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 1e-12)


def _label_assortativity(
    adjacency: sp.csr_matrix, rows: np.ndarray, labels: np.ndarray, num_graphs: int
) -> np.ndarray:
    """Newman's r = (sum_k e_kk - a_k^2) / (1 - sum_k a_k^2), with e_kl the share of edges between labels k and l."""
    n = len(labels)
    one, other = labels[rows % n], labels[adjacency.indices % n]
    known = (one >= 0) & (other >= 0)
    one, other, graph = one[known], other[known], rows[known] // n
    classes = int(labels.max()) + 1
    count = np.maximum(1, np.bincount(graph, minlength=num_graphs))
    ends = np.bincount(graph * classes + one, minlength=num_graphs * classes)
    chance = ((ends.reshape(num_graphs, classes) / count[:, None]) ** 2).sum(1)
    within = np.bincount(graph, one == other, num_graphs) / count
    return _ratio(within - chance, 1.0 - chance)


def _distances(adjacency: sp.csr_matrix, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sum of the distances of a node to those it reaches, how many those are, the longest): (B N,) float64 each.

    Breadth-first searches from all nodes at once, 64 sources to a word: a step is an OR along the edges. Of all graphs
    together it takes a twentieth of the time of SciPy's ``shortest_path`` one by one.
    """
    size = adjacency.shape[0]
    linked = np.flatnonzero(np.diff(adjacency.indptr))
    starts = adjacency.indptr[linked]
    total, reached, longest = np.zeros((3, size))
    words = max(1, _WORDS_AT_ONCE // max(1, adjacency.nnz))
    own = np.arange(size) % n
    for first in range(0, n, 64 * words):
        width = min(words, -(-(n - first) // 64))
        sources = np.flatnonzero((own >= first) & (own < first + 64 * width))
        place = own[sources] - first
        seen = np.zeros((size, width), dtype=np.uint64)
        seen[sources, place // 64] = np.uint64(1) << (place % 64).astype(np.uint64)
        count, distance = _ones(seen), 0
        while linked.size:
            distance += 1
            grown = seen.copy()
            grown[linked] |= np.bitwise_or.reduceat(seen[adjacency.indices], starts, axis=0)
            now = _ones(grown)
            new = now - count
            if not new.any():
                break
            total += distance * new
            reached += new
            longest[new > 0] = np.maximum(longest[new > 0], distance)
            seen, count = grown, now
    return total, reached, longest


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each row."""
    return _BITS[words.view(np.uint8)].sum(1, dtype=np.int64)


def _spectrum(
    adjacency: sp.csr_matrix, num_graphs: int, degrees: np.ndarray, inside: np.ndarray
) -> dict[str, np.ndarray]:
    """Eigenvalues, dense for all graphs at once where they are small."""
    n = len(degrees) // num_graphs
    if n > _RADIUS_NODES:
        return {}
    if n > _DENSE_NODES:
        radius = np.zeros(num_graphs)
        for b in range(num_graphs):  # ARPACK solves one matrix at a time
            block = adjacency[b * n : (b + 1) * n, b * n : (b + 1) * n]
            if block.nnz:  # from a fixed start that no graph's first eigenvector is orthogonal to
                ones = np.ones(n)
                radius[b] = eigsh(block, 1, which="LA", v0=ones, return_eigenvectors=False)[0]
        return {"spectral_radius": radius}
    dense = _dense(adjacency, num_graphs)
    radius = np.linalg.eigvalsh(dense)[:, -1]
    inside = inside.reshape(num_graphs, n)
    scale = np.where(inside, np.maximum(1.0, degrees.reshape(num_graphs, n)), np.inf) ** -0.5
    laplacian = -dense * scale[:, :, None] * scale[:, None]
    # eigenvalues lie from 0 to 2: nodes outside of the component get 3 and stand behind them
    laplacian[:, np.arange(n), np.arange(n)] = np.where(inside, 1.0, 3.0)
    second = np.linalg.eigvalsh(laplacian)[:, 1] if n > 1 else np.zeros(num_graphs)
    gap = np.where(inside.sum(1) > 1, second, 0.0)
    return {"spectral_radius": np.maximum(0.0, radius), "spectral_gap": gap}


def p_value(replicated: Any, observed: float) -> float:
    """Compute a posterior predictive p-value, ties counted half.

    p = P(T_rep > T_obs) + P(T_rep = T_obs) / 2, so that a statistic that is the same in every
    replicate and in the data (one component, no isolated node) has p = 0.5 and not 1. Near 0 the
    model understates the statistic, near 1 it overstates it.

    Arguments:
        replicated: The statistic in graphs drawn from the posterior predictive, any shape; NaN
            (statistic not defined) is left out.
        observed: The statistic in the data.

    Returns:
        The p-value, NaN where it is not defined.
    """
    values = np.asarray(replicated, dtype=float).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0 or not math.isfinite(float(observed)):
        return math.nan
    same = np.isclose(values, observed, rtol=1e-9, atol=1e-12)
    return float(np.mean((values > observed) & ~same) + 0.5 * np.mean(same))
