"""A first guess of blocks from the spectrum of the graph, for variational fits that depend on where they start."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import eigsh
from scipy.special import xlogy
from sklearn.cluster import KMeans
from torch import Tensor

from ..data import Graph

__all__ = ["spectral_blocks", "undirected_weights"]


def spectral_blocks(
    graph: Graph, num_blocks: int, seed: int = 0, *, by_angle: bool = False
) -> Tensor:
    """Blocks by k-means on leading eigenvectors of each of three matrices; the best is kept: (N,) labels.

    - The regularised normalised adjacency D_t^-1/2 A D_t^-1/2 with D_t = D + t I, t the mean degree; largest by
      absolute value, so that disassortative blocks are found too. Of a bipartite graph, whose eigenvalues come in pairs
      +-lambda with the sides in the signs of the one below zero, the largest: those are its singular vectors, and both
      sides are clustered together (Dhillon 2001).
    - The Bethe Hessian (r^2 - 1) I - r A + D, r^2 = <d^2> / <d> - 1, whose lowest eigenvectors tell blocks down to the
      limit below which nothing does, assortative ones for r > 0 and disassortative ones for r < 0; for graphs without
      weights that are not bipartite.

    Best is the higher profile likelihood of the block model with Poisson edges, degree-corrected if ``by_angle``.
    Directed graphs are taken as undirected, missing dyads as absent. A graph without edges is one block.

    Arguments:
        num_blocks: K.
        seed: of the k-means.
        by_angle: scale rows to unit length first, which takes degrees out.

    References:
        | Co-clustering documents and words using bipartite spectral graph partitioning (Dhillon, KDD 2001)
        | Regularized Spectral Clustering under the Degree-Corrected Stochastic Blockmodel (Qin and Rohe, 2013)
        | Spectral Clustering of Graphs with the Bethe Hessian (Saade, Krzakala and Zdeborova, 2014)
        | Stochastic blockmodels and community structure in networks (Karrer and Newman, 2011), equation 14
    """
    n = graph.num_nodes
    k = min(num_blocks, n - 2)
    if num_blocks == 1 or k < 1 or not graph.num_edges:
        return torch.zeros(n, dtype=torch.int64)
    a = undirected_weights(graph)
    degree = np.asarray(a.sum(1)).ravel()
    first = np.random.default_rng(seed).normal(size=n)
    embeddings = [_adjacency_vectors(a, degree, k, first, graph.parts is not None)]
    if graph.parts is None and graph.weights is None:
        embeddings += [_bethe_hessian_vectors(a, degree, k, first, sign) for sign in (1, -1)]
    best, highest = np.zeros(n, dtype=np.int64), -np.inf
    for x in embeddings:
        if by_angle:
            x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        found = KMeans(min(num_blocks, n), n_init=10, random_state=seed).fit_predict(x)
        likelihood = _profile(a, found, degree if by_angle else np.ones(n))
        if likelihood > highest:
            best, highest = found, likelihood
    return torch.from_numpy(best.astype(np.int64))


def _adjacency_vectors(
    a: sp.csr_array, degree: np.ndarray, k: int, first: np.ndarray, bipartite: bool
) -> np.ndarray:
    """(N, k), scaled by the eigenvalues."""
    scale = sp.diags_array((degree + degree.mean()) ** -0.5)
    values, vectors = eigsh(scale @ a @ scale, k=k, which="LA" if bipartite else "LM", v0=first)
    return vectors * np.abs(values)


def _bethe_hessian_vectors(
    a: sp.csr_array, degree: np.ndarray, k: int, first: np.ndarray, sign: int
) -> np.ndarray:
    """(N, k) of the lowest eigenvalues."""
    r = sign * np.sqrt(max((degree**2).mean() / degree.mean() - 1.0, 1.0))
    matrix = sp.diags_array(r * r - 1.0 + degree) - r * a
    return eigsh(matrix, k=k, which="SA", v0=first, tol=1e-4)[1]


def _profile(a: sp.csr_array, blocks: np.ndarray, theta: np.ndarray) -> float:
    """Twice the log-likelihood (nats) of Poisson edges with the rates that fit best, up to a constant."""
    n, k = len(blocks), int(blocks.max()) + 1
    z = sp.csr_array((np.ones(n), (np.arange(n), blocks)), shape=(n, k))
    edges = (z.T @ a @ z).toarray()
    size = z.T @ theta
    return float(xlogy(edges, edges / np.maximum(np.outer(size, size), 1e-300)).sum())


def undirected_weights(graph: Graph) -> sp.csr_array:
    """Absolute weights of the edges (ones, where there are none) in both directions: (N, N) sparse."""
    n = graph.num_nodes
    i, j = graph.edge_index.cpu().numpy()
    w = (
        np.ones(len(i))
        if graph.weights is None
        else np.abs(graph.weights.cpu().numpy()).astype(float)
    )
    a = sp.csr_array((w, (i, j)), shape=(n, n))
    return sp.csr_array(a + a.T)
