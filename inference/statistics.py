"""Statistics of graphs that posterior predictive checks compare."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

__all__ = ["STATISTICS", "graph_statistics", "p_value", "weight_statistics"]

STATISTICS = {
    "density": "edges per dyad",
    "degree_sd": "standard deviation of the degrees",
    "max_degree": "largest degree",
    "triangles": "number of triangles",
    "transitivity": "share of connected triples that are closed",
    "assortativity": "correlation of the degrees at the ends of an edge",
    "components": "number of connected components",
    "isolated": "nodes without an edge",
    "total_weight": "sum of the weights",
    "weight_sd": "standard deviation of the weights of all dyads",
    "max_weight": "largest weight",
}


def graph_statistics(
    adjacency: sp.csr_matrix, num_dyads: int | None = None, num_edges: int | None = None
) -> dict[str, Any]:
    """The :data:`STATISTICS` of presence, of one simple graph, (N, N) symmetric sparse 0/1.

    Definitions are those of NetworkX; assortativity and transitivity are 0 where they are undefined. Directed
    graphs are taken as undirected, but for their density.

    Arguments:
        num_dyads: dyads that could hold an edge; all of them if None.
        num_edges: how many do; those of the matrix if None.
    """
    n = adjacency.shape[0]
    degrees = np.asarray(adjacency.sum(1)).ravel()
    closed = float(adjacency.multiply(adjacency @ adjacency).sum())  # six times the triangles
    triples = float((degrees * (degrees - 1)).sum())
    edges = adjacency.tocoo()
    x, y = degrees[edges.row], degrees[edges.col]
    spread = float(((x - x.mean()) ** 2).mean()) if len(x) else 0.0
    covariance = float(((x - x.mean()) * (y - y.mean())).mean()) if len(x) else 0.0
    return {
        "density": (float(degrees.sum()) / 2.0 if num_edges is None else num_edges)
        / (num_dyads or n * (n - 1) // 2),
        "degree_sd": float(degrees.std()),
        "max_degree": float(degrees.max()),
        "triangles": closed / 6.0,
        "transitivity": closed / triples if triples else 0.0,
        "assortativity": covariance / spread if spread > 1e-12 else 0.0,
        "components": float(connected_components(adjacency, directed=False)[0]),
        "isolated": float((degrees == 0).sum()),
    }


def weight_statistics(weights: np.ndarray, num_dyads: int) -> dict[str, float]:
    """The :data:`STATISTICS` of weights, from those of the edges, (E,); the other dyads have weight 0."""
    total = float(weights.sum())
    mean = total / num_dyads
    return {
        "total_weight": total,
        "weight_sd": math.sqrt(max(0.0, float((weights**2).sum()) / num_dyads - mean**2)),
        "max_weight": float(weights.max(initial=0.0)),
    }


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
