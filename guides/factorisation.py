"""A first guess of overlapping communities, by non-negative factorisation of the adjacency matrix."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ..data import Graph
from .spectral import undirected_weights

__all__ = ["factorised_communities"]

_ITERATIONS = 300
_WORK = (
    3e9  # entries times communities times iterations, some minutes: a start need not be an optimum
)


def factorised_communities(graph: Graph, num_communities: int, seed: int = 0) -> Tensor:
    r"""Members of overlapping communities, (N, K) booleans, largest community first.

    A \approx W H with W, H >= 0 maximises the likelihood of :math:`A_{ij} \sim \mathrm{Poisson}(\sum_k W_{ik} H_{kj})`,
    a model of overlapping communities in which an edge is due to one community that its ends share. Every column of W
    is cut in two by k-means: the upper group are the members. The diagonal, of which the graph says nothing, is filled
    with what it would be in a graph of the same degrees, so that it does not speak against communities. Directed
    graphs are taken as undirected, weights by absolute value, missing dyads as absent.

    Arguments:
        num_communities: K; columns that the nodes do not fill are empty.
        seed: of where the factorisation starts.

    References:
        | Efficient and principled method for detecting communities in networks (Ball, Karrer and Newman, 2011)
    """
    n, k = graph.num_nodes, min(num_communities, graph.num_nodes)
    members = torch.zeros(n, num_communities, dtype=torch.bool, device=graph.device)
    a = undirected_weights(graph)
    degree = np.asarray(a.sum(1)).ravel()
    if not degree.any():
        return members
    a = sp.csr_array(a + sp.diags_array(degree / max(1.0, np.count_nonzero(degree) / 3.0)))
    model = NMF(
        k,
        init="nndsvda",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=int(min(_ITERATIONS, max(20.0, _WORK / (a.nnz * k)))),
        random_state=seed,
    )
    with warnings.catch_warnings():  # a start need not be an optimum
        warnings.simplefilter("ignore", ConvergenceWarning)
        w = model.fit_transform(a)
    w = w * model.components_.sum(1)  # edges of a node that are due to the community
    found = np.zeros((n, k), dtype=bool)
    for column in range(k):  # one-dimensional clusterings of their own
        x = w[:, column : column + 1]
        if len(np.unique(x)) < 2:
            continue
        groups = KMeans(2, n_init=3, random_state=seed).fit(x)
        found[:, column] = groups.labels_ == groups.cluster_centers_.ravel().argmax()
    order = np.argsort(-found.sum(0), kind="stable")
    members[:, :k] = torch.from_numpy(found[:, order]).to(graph.device)
    return members
