"""Statistics of graphs that posterior predictive checks compare."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

__all__ = ["STATISTICS", "graph_statistics", "p_value"]

STATISTICS = {
    "density": "edges per dyad",
    "degree_sd": "standard deviation of the degrees",
    "max_degree": "largest degree",
    "triangles": "number of triangles",
    "transitivity": "share of connected triples that are closed",
    "assortativity": "correlation of the degrees at the ends of an edge",
    "components": "number of connected components",
    "isolated": "nodes without an edge",
}


def graph_statistics(adjacency: sp.csr_matrix, num_dyads: int | None = None) -> dict[str, float]:
    """All of :data:`STATISTICS` of one undirected simple graph, (N, N) symmetric sparse 0/1.

    Definitions are those of NetworkX; assortativity and transitivity are 0 where they are undefined.

    Arguments:
        num_dyads: dyads that could hold an edge; all of them if None.
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
        "density": float(degrees.sum()) / 2.0 / (num_dyads or n * (n - 1) // 2),
        "degree_sd": float(degrees.std()),
        "max_degree": float(degrees.max()),
        "triangles": closed / 6.0,
        "transitivity": closed / triples if triples else 0.0,
        "assortativity": covariance / spread if spread > 1e-12 else 0.0,
        "components": float(connected_components(adjacency, directed=False)[0]),
        "isolated": float((degrees == 0).sum()),
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
