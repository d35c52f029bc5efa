"""Log densities of edges from SciPy, and small graphs of every kind, for the tests of the node-level stories."""

from __future__ import annotations

import numpy as np
import torch
from pyro import poutine
from scipy import stats

from graphlore.data import Graph

KINDS = ["undirected", "directed", "bipartite"]
LIKELIHOODS = ["bernoulli", "poisson", "normal"]
PARTS = [1, 0, 0, 1, 0, 1]


def small_graph(kind="undirected", likelihood="bernoulli", **options):
    """Six nodes, a missing edge and another missing dyad; sides in no order of the ids."""
    edges = {
        "undirected": [[0, 0, 1, 2, 4], [1, 2, 3, 5, 5]],
        "directed": [[0, 1, 0, 3, 5, 4], [1, 0, 2, 1, 4, 2]],
        "bipartite": [[0, 0, 1, 3, 2], [1, 2, 3, 4, 5]],
    }[kind]
    missing = {
        "undirected": [[0, 3], [2, 4]],
        "directed": [[0, 4], [2, 0]],
        "bipartite": [[0, 4], [2, 5]],
    }[kind]
    count = len(edges[0])
    weights = {"poisson": [1, 3, 2, 1, 4, 2], "normal": [0.5, -1.5, 2.0, 0.25, -0.75, 1.0]}
    weights = weights[likelihood][:count] if likelihood in weights else None
    return Graph(
        6,
        edges,
        weights=weights,
        parts=PARTS if kind == "bipartite" else None,
        missing=missing,
        directed=kind == "directed",
        **options,
    )


def planted(kind="undirected", likelihood="bernoulli", n=30, seed=0):
    """Two groups of nodes, dense within and sparse between, that a few steps of a fit can see; and the groups."""
    rng = np.random.default_rng(seed)
    z = np.arange(n) % 2
    i, j = np.indices((n, n))
    parts = (np.arange(n) // 2) % 2
    dyads = {"undirected": i < j, "directed": i != j}.get(kind)
    if kind == "bipartite":
        dyads = (i < j) & (parts[:, None] != parts)
    p = np.where(z[:, None] == z, 0.6, 0.08)
    edges = np.stack(np.nonzero(dyads & (rng.random((n, n)) < p)))
    weights = None
    if likelihood == "poisson":
        weights = 1 + rng.poisson(1.0, edges.shape[1])
    if likelihood == "normal":
        weights = 2.0 + rng.normal(size=edges.shape[1])
    return Graph(
        n,
        edges,
        weights=weights,
        parts=parts if kind == "bipartite" else None,
        directed=kind == "directed",
        title="planted",
    ), z


def edges_by_hand(graph, likelihood, s, tau=None, w1=1.0, w0=1.0):
    """log p(A | s) over observed dyads; ``s(i, j)`` with the end of side 0 (or the tail) first."""
    total, dense = 0.0, graph.weighted_adjacency.to_dense()
    for i, j in graph.observed_pairs().T.tolist():
        x = dense[i, j].item()
        if graph.parts is not None and graph.parts[i] == 1:
            i, j = j, i
        natural = s(i, j)
        if likelihood == "poisson":
            total += stats.poisson(np.exp(natural)).logpmf(x)
        elif likelihood == "normal":
            total += stats.norm(natural, tau).logpdf(x)
        else:
            logistic = stats.logistic
            total += w1 * logistic.logcdf(natural) if x else w0 * logistic.logsf(natural)
    return total


def trace_at(story, graph, values):
    """The trace of the story with its latents at these values, its densities computed."""
    fixed = poutine.condition(story, data=values)
    found = poutine.trace(fixed).get_trace(graph)
    found.compute_log_prob()
    return found


def sites(story, graph=None):
    """{name: shape} of the sample sites of a trace, plates left out."""
    nodes = poutine.trace(story).get_trace(graph).nodes
    return {
        name: tuple(site["value"].shape)
        for name, site in nodes.items()
        if site["type"] == "sample" and name != "nodes"
    }


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)
