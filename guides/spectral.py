"""A first guess of blocks from the spectrum of the graph, for variational fits that depend on where they start."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from torch import Tensor

from ..data import Graph

__all__ = ["spectral_blocks", "undirected_weights"]


def spectral_blocks(
    graph: Graph, num_blocks: int, seed: int = 0, *, by_angle: bool = False
) -> Tensor:
    """Blocks by k-means on leading eigenvectors of the regularised normalised adjacency matrix: (N,) labels.

    D_t^-1/2 A D_t^-1/2 with D_t = D + t I, t the mean degree; largest by absolute value, so that disassortative
    blocks are found too. Of a bipartite graph, whose eigenvalues come in pairs +-lambda with the sides in the signs of
    the one below zero, the largest: those are its singular vectors, and both sides are clustered together (Dhillon
    2001). Directed graphs are taken as undirected, missing dyads as absent. A graph without edges is one block.

    Arguments:
        num_blocks: K.
        seed: of the k-means.
        by_angle: scale rows to unit length first, which takes degrees out.

    References:
        | Co-clustering documents and words using bipartite spectral graph partitioning (Dhillon, KDD 2001)
        | Regularized Spectral Clustering under the Degree-Corrected Stochastic Blockmodel (Qin and Rohe, 2013)
    """
    n = graph.num_nodes
    k = min(num_blocks, n - 2)
    if num_blocks == 1 or k < 1 or not graph.num_edges:
        return torch.zeros(n, dtype=torch.int64)
    a = undirected_weights(graph)
    degree = np.asarray(a.sum(1)).ravel()
    scale = sp.diags_array((degree + degree.mean()) ** -0.5)
    start = np.random.default_rng(seed).normal(size=n)
    which = "LM" if graph.parts is None else "LA"
    values, vectors = eigsh(scale @ a @ scale, k=k, which=which, v0=start)
    x = vectors * np.abs(values)
    if by_angle:
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    found = KMeans(min(num_blocks, n), n_init=10, random_state=seed).fit_predict(x)
    return torch.from_numpy(found.astype(np.int64))


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
