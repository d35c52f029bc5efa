"""A first guess of embeddings: random vectors smoothed over the graph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from .convolution import normalised

__all__ = ["smoothed_vectors"]

_ROUNDS = 5


def smoothed_vectors(graph: Graph, size: int, seed: int = 0) -> Tensor:
    """Unit vectors of the nodes, (N, size), close together where nodes share neighbours, and theirs do.

    Gaussian vectors are averaged five times over the neighbours, D^-1/2 A D^-1/2, and brought to unit length after
    each: a random projection of the walks of five steps. Nodes without edges have zeros. O(E size) time.

    Arguments:
        seed: of the Gaussian vectors.

    References:
        | Fast and Accurate Network Embeddings via Very Sparse Random Projection (Chen, Sultan, Tian, Chen and Skiena,
          2019)
    """
    n = graph.num_nodes
    around = normalised(graph.both_directions(), n, loops=False)
    z = torch.randn(n, size, generator=torch.Generator().manual_seed(seed)).to(graph.device)
    for _ in range(_ROUNDS):
        z = F.normalize(around @ z, dim=1)
    return z
