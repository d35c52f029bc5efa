r"""How good drawn graphs are: validity for a family, uniqueness, novelty, and distances to a set of reference graphs.

References:
    | GraphRNN: Generating Realistic Graphs with Deep Auto-regressive Models (You et al., ICML 2018): the MMD table
    | Biological network comparison using graphlet degree distribution (Przulj, Bioinformatics 2007): the orbits
    | Efficient Graph Generation with Graph Recurrent Attention Networks (Liao et al., NeurIPS 2019): total variation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import networkx as nx
import numpy as np
from networkx.algorithms import isomorphism
from scipy.spatial.distance import cdist

from ..data import GraphSet

__all__ = [
    "FAMILIES",
    "Family",
    "Statistic",
    "family_of",
    "isomorphism_classes",
    "mmd",
    "novelty",
    "orbit_counts",
    "uniqueness",
    "valid",
]

Family = Literal["cycle", "tree", "grid", "planar"]
Statistic = Literal["degree", "clustering", "orbit", "spectral"]
_BINS = {"clustering": (100, (0.0, 1.0)), "spectral": (200, (-1e-5, 2.0))}
_WIDTHS = {"degree": 1.0, "clustering": 0.1, "orbit": 30.0, "spectral": 1.0}


def _is_cycle(graph: nx.Graph) -> bool:
    return len(graph) >= 3 and all(d == 2 for _, d in graph.degree()) and nx.is_connected(graph)


def _is_grid(graph: nx.Graph) -> bool:
    """Whether it is an r x c grid with r, c >= 2: n = r c nodes and m = 2 r c - r - c edges give r and c."""
    n, both = len(graph), 2 * len(graph) - graph.number_of_edges()
    root = math.isqrt(max(0, both * both - 4 * n))
    r, c = (both - root) // 2, (both + root) // 2
    if r < 2 or r * c != n or r + c != both:
        return False
    grid = nx.grid_2d_graph(r, c)
    return nx.faster_could_be_isomorphic(graph, grid) and nx.is_isomorphic(graph, grid)


#: what a graph must be to be valid in each family
FAMILIES: dict[Family, Callable[[nx.Graph], bool]] = {
    "cycle": _is_cycle,
    "tree": nx.is_tree,
    "grid": _is_grid,
    "planar": lambda graph: nx.is_connected(graph) and nx.check_planarity(graph)[0],
}


def valid(graphs: GraphSet, family: Family) -> np.ndarray:
    """(G,) bool: which graphs are cycles, trees, grids (both sides at least 2), or connected and planar.

    Raises:
        ValueError: an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is one of {', '.join(FAMILIES)}, not {family!r}")
    return np.array([bool(FAMILIES[family](graph)) for graph in graphs.to_networkx()])


def family_of(graphs: GraphSet) -> Family | None:
    """The narrowest family that all these graphs are of, or None."""
    networks = graphs.to_networkx()
    return next((name for name, of in FAMILIES.items() if all(map(of, networks))), None)


def isomorphism_classes(*sets: GraphSet) -> list[np.ndarray]:
    """(G,) int64 for each set: graphs have the same number, across the sets, exactly if they are isomorphic.

    Node and edge types count. By Weisfeiler-Lehman hash first, then by an exact test among equal hashes.
    """
    match = {
        "node_match": isomorphism.categorical_node_match("type", 0),
        "edge_match": isomorphism.categorical_edge_match("type", 1),
    }
    found: dict[str, list[tuple[nx.Graph, int]]] = {}
    same: dict[tuple, int] = {}  # graphs equal as they are numbered need no test
    total = 0
    out = []
    for graphs in sets:
        classes = []
        for graph in graphs.to_networkx():
            key = (
                tuple(graph.nodes(data="type", default=0)),
                tuple(graph.edges(data="type", default=1)),
            )
            if key not in same:
                nx.set_node_attributes(graph, dict(graph.nodes(data="type", default=0)), "type")
                edges = {(u, v): kind for u, v, kind in graph.edges(data="type", default=1)}
                nx.set_edge_attributes(graph, edges, "type")
                code = nx.weisfeiler_lehman_graph_hash(graph, node_attr="type", edge_attr="type")
                peers = found.setdefault(code, [])
                same[key] = next(
                    (c for g, c in peers if nx.is_isomorphic(g, graph, **match)), total
                )
                if same[key] == total:
                    peers.append((graph, total))
                    total += 1
            classes.append(same[key])
        out.append(np.array(classes))
    return out


def uniqueness(graphs: GraphSet) -> float:
    """Number of isomorphism classes over number of graphs."""
    return len(np.unique(isomorphism_classes(graphs)[0])) / len(graphs)


def novelty(graphs: GraphSet, known: GraphSet) -> float:
    """Share of the graphs that are isomorphic to none of the ``known``."""
    old, new = isomorphism_classes(known, graphs)
    return float(1.0 - np.isin(new, old).mean())


def mmd(
    graphs: GraphSet,
    reference: GraphSet,
    statistic: Statistic,
    kernel: Literal["tv", "emd"] = "tv",
) -> float:
    r"""Squared maximum mean discrepancy of a statistic's histograms, :math:`k(p, q) = \exp(-d(p, q)^2 / 2 s^2)`.

    The statistics, bins and widths s are those of GraphRNN and GRAN: "degree" (s = 1), local "clustering"
    coefficients (100 bins, s = 0.1), "spectral", eigenvalues of the normalised Laplacian (200 bins on [0, 2], s = 1);
    and "orbit", no histogram but :func:`orbit_counts` (s = 30; "emd" is the Euclidean distance there). As in their
    code the mean runs over all pairs, a graph with itself included, so the value is biased upwards.

    Arguments:
        graphs, reference: the two sets.
        statistic: as above.
        kernel: d is total variation ("tv", GRAN) or the earth mover's distance in units of the statistic ("emd",
            GraphRNN).

    Raises:
        ValueError: an unknown statistic or kernel.
    """
    if statistic not in _WIDTHS:
        raise ValueError(f"statistic is one of {', '.join(_WIDTHS)}, not {statistic!r}")
    if kernel not in ("tv", "emd"):
        raise ValueError(f"kernel is 'tv' or 'emd', not {kernel!r}")
    a, b, scale = _features(graphs, reference, statistic, kernel)
    metric = "euclidean" if statistic == "orbit" and kernel == "emd" else "cityblock"

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        distance = scale * cdist(x, y, metric)
        return float(np.exp(-(distance**2) / (2 * _WIDTHS[statistic] ** 2)).mean())

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


def orbit_counts(graphs: GraphSet) -> np.ndarray:
    """(G, 15) mean over the nodes of how often they are in each orbit of the connected graphlets of 2 to 4 nodes.

    Orbits are numbered as in Przulj (2007): 0 edge; 1, 2 end and middle of a path; 3 triangle; 4, 5 of the path of
    four; 6, 7 leaf and centre of the star; 8 the square; 9, 10, 11 of the triangle with a tail: tail, base, where it
    hangs; 12, 13 of the square with one diagonal, off and on it; 14 the complete graph. Graphlets are induced
    subgraphs; their numbers follow in closed form from those of all subgraphs.
    """
    return np.stack([_orbits(nx.to_numpy_array(g, weight=None)) for g in graphs.to_networkx()])


def _orbits(a: np.ndarray) -> np.ndarray:
    d = a.sum(0)
    common = a @ a
    i, j = np.nonzero(np.triu(a))
    shared = common[i, j]  # triangles on each edge
    triangles = shared.sum() / 3.0
    both = a[i] * a[j]
    k4 = (both @ a * both).sum() / 12.0
    diamond = (shared * (shared - 1.0)).sum() / 2.0 - 6.0 * k4
    pairs = np.triu(common, 1)
    c4 = (pairs * (pairs - 1.0)).sum() / 4.0 - diamond - 3.0 * k4
    at = (common * a).sum(0) / 2.0  # triangles at each node
    paw = (at * (d - 2.0)).sum() - 4.0 * diamond - 12.0 * k4
    star = (d * (d - 1.0) * (d - 2.0)).sum() / 6.0 - paw - 2.0 * diamond - 4.0 * k4
    p4 = ((d[i] - 1.0) * (d[j] - 1.0)).sum() - 3.0 * triangles
    p4 -= 2.0 * paw + 4.0 * c4 + 6.0 * diamond + 12.0 * k4
    p3 = (d * (d - 1.0)).sum() / 2.0 - 3.0 * triangles
    found = (len(i), p3, triangles, p4, star, c4, paw, diamond, k4)
    nodes = ((2,), (2, 1), (3,), (2, 2), (3, 1), (4,), (1, 2, 1), (2, 2), (4,))
    return np.array([x * n for x, s in zip(found, nodes, strict=True) for n in s]) / len(a)


def _features(
    graphs: GraphSet, reference: GraphSet, statistic: Statistic, kernel: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """A row for each graph of both sets, and what a difference of one counts."""
    if statistic == "orbit":
        return orbit_counts(graphs), orbit_counts(reference), 1.0 if kernel == "emd" else 0.5
    sets = [[_values(graph, statistic) for graph in s.to_networkx()] for s in (graphs, reference)]
    if statistic == "degree":
        bins = int(max(values.max() for s in sets for values in s)) + 1
        span = (-0.5, bins - 0.5)
    else:
        bins, span = _BINS[statistic]
    a, b = (_histograms(s, bins, span) for s in sets)
    if kernel == "tv":
        return a, b, 0.5
    # in one dimension: the area between the distribution functions
    return a.cumsum(1), b.cumsum(1), (span[1] - span[0]) / bins


def _values(graph: nx.Graph, statistic: Statistic) -> np.ndarray:
    if statistic == "degree":
        return np.array([d for _, d in graph.degree()], dtype=float)
    if statistic == "clustering":
        return np.array(list(nx.clustering(graph).values()), dtype=float)
    return np.linalg.eigvalsh(nx.normalized_laplacian_matrix(graph).toarray())


def _histograms(values: Sequence[np.ndarray], bins: int, span: tuple[float, float]) -> np.ndarray:
    rows = [np.histogram(np.clip(v, *span), bins=bins, range=span)[0] / len(v) for v in values]
    return np.stack(rows)
