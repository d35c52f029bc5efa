"""Where the nodes of a graph stand in a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from scipy.spatial.distance import cdist

from . import _read

if TYPE_CHECKING:
    from ..data import Graph

LINKED = 150  # up to this many nodes, springs by NetworkX
_SCRAP = 4  # components of fewer nodes stand around the others
_STEPS, _AT_EASE = 60, 3_000  # steps up to so many nodes; fewer above, for time
_BLOCK = 2_000_000  # distances at once


def spring_places(graph: Graph, seed: int = 0) -> np.ndarray:
    """Place nodes by attraction along edges and repulsion between all.

    Up to 150 nodes these are NetworkX's springs (Fruchterman and Reingold 1991). Above, where
    springs draw one dense ball and NetworkX walks from node to node in Python (half a minute for
    3,000 nodes), they are the forces of the edge-repulsion LinLog energy (Noack 2007), which keep
    groups of densely linked nodes apart, from a spectral start. Components of less than four nodes
    then stand around the picture. Places depend on the edges and the seed, not on any posterior.

    Args:
        graph: The graph.
        seed: Seed of the start.

    Returns:
        Places, shape ``(N, 2)``.
    """
    count, pairs = graph.num_nodes, _read.edges(graph)
    if count <= LINKED:
        network = nx.Graph()
        network.add_nodes_from(range(count))
        network.add_edges_from(pairs.T.tolist())
        layout = nx.spring_layout(network, seed=seed, iterations=200, k=1.8 / max(1, count) ** 0.5)
        return np.array([layout[node] for node in range(count)]).reshape(count, 2)
    ones = np.ones(pairs.shape[1])
    links = sparse.csr_array((ones, (pairs[0], pairs[1])), shape=(count, count))
    links = sparse.csr_array(((links + links.T) > 0).astype(float))
    _, component = connected_components(links, directed=False)
    linked = np.bincount(component)[component] >= _SCRAP
    places = np.zeros((count, 2))
    if linked.any():
        places[linked] = _forces(links[linked][:, linked], seed)
        places -= places[linked].mean(axis=0)
    radius = float(np.sqrt((places[linked] ** 2).sum(axis=1)).max()) if linked.any() else 0.0
    scraps = np.flatnonzero(~linked)
    scraps = scraps[np.argsort(component[scraps], kind="stable")]  # the few links stay short
    places[scraps] = _around(len(scraps), radius)
    return places


def spread(places: np.ndarray, least: float) -> np.ndarray:
    """Push nodes apart until none covers another.

    Args:
        places: Places of the nodes, shape ``(N, 2)``.
        least: Least distance, as a share of the extent of the picture.

    Returns:
        New places in the unit square, shape ``(N, 2)``.
    """
    span = np.ptp(places, axis=0)
    moved = (places - places.min(axis=0)) / np.where(span > 0, span, 1.0)
    for _ in range(60):
        gap = moved[:, None] - moved[None]
        distance = np.sqrt((gap**2).sum(axis=-1))
        np.fill_diagonal(distance, np.inf)
        push = np.clip(least - distance, 0.0, None) / np.maximum(distance, 1e-9)
        if not push.any():
            break
        moved = moved + 0.5 * (push[..., None] * gap).sum(axis=1)
    return moved


def _forces(links: sparse.csr_array, seed: int) -> np.ndarray:
    """Let the forces act: O(N^2) numbers a step, as products of blocks of rows."""
    count = links.shape[0]
    rng = np.random.default_rng(seed)
    places = _spectral(links, rng)
    ends = links.tocoo()
    mass = np.asarray(links.sum(axis=1)).ravel() + 1.0
    near = 1.0 / np.sqrt(count)  # about how far neighbours are when nodes fill the unit square
    rows = max(1, _BLOCK // count)
    steps = int(max(15, min(_STEPS, _STEPS * (_AT_EASE / count) ** 2)))
    for step in range(steps):
        force = np.empty((count, 2))
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            weight = cdist(places[part], places, "sqeuclidean")
            np.divide(mass, np.maximum(weight, (0.05 * near) ** 2, out=weight), out=weight)
            force[part] = places[part] * weight.sum(axis=1)[:, None] - weight @ places
        force *= 0.5 / mass.sum()
        gap = places[ends.row] - places[ends.col]
        pull = gap / np.maximum(np.sqrt((gap**2).sum(axis=1)), 0.3 * near)[:, None]
        for axis in (0, 1):
            force[:, axis] -= np.bincount(ends.row, pull[:, axis], count) / mass
        force -= 0.1 * places  # a little gravity holds components together
        length = np.sqrt((force**2).sum(axis=1, keepdims=True))
        # No node goes further than the step allows, and steps shorten.
        longest = 0.15 * (1.0 - step / steps)
        places = places + force * (longest * np.minimum(length, 1.0) / np.maximum(length, 1e-12))
    return places


def _spectral(links: sparse.csr_array, rng: np.random.Generator) -> np.ndarray:
    """Start from leading eigenvectors of the normalised adjacency, seen from a random side."""
    count = links.shape[0]
    jitter = 0.02 * rng.normal(size=(count, 2))
    wanted = min(7, count - 1)
    if wanted < 2:
        return jitter
    degree = np.asarray(links.sum(axis=1)).ravel()
    scale = sparse.diags_array(1.0 / np.sqrt(degree + 0.3 * degree.mean()))
    values, vectors = eigsh(scale @ links @ scale, k=wanted, which="LA", v0=np.ones(count))
    vectors = scale @ vectors[:, np.argsort(-values)[1:]]
    vectors = np.clip(vectors / np.maximum(vectors.std(axis=0), 1e-12), -3.0, 3.0)
    return 0.2 * vectors @ rng.normal(size=(vectors.shape[1], 2)) + jitter


def _around(count: int, radius: float) -> np.ndarray:
    """Place points evenly on a spiral that begins outside of a circle, shape ``(count, 2)``."""
    inner = 1.08 * radius
    gap = min(0.06, np.sqrt(0.56 * np.pi / max(1, count))) * inner if inner > 0 else 1.0
    # an Archimedean spiral with one point on each gap x gap of its area
    reach = np.sqrt(inner**2 + gap**2 * np.arange(count) / np.pi)
    angle = 2.0 * np.pi * (reach - inner) / gap
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
