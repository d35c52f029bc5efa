"""Sufficient statistics of a block model: the edges between blocks, and the dyads there are for them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Graph

__all__ = ["block_sums"]


def block_sums(
    graph: Graph, memberships: Tensor, values: Tensor, propensities: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sums over observed dyads by the blocks of their ends, as free entries of a table.

    With memberships z and propensities theta: edges_kl = sum_ij z_ik z_jl x_ij and
    exposure_kl = sum_ij theta_i z_ik theta_j z_jl. Both are linear in the membership of every node: rows of
    probabilities give the expectations over independent memberships.

    Arguments:
        memberships: z, (N, K), one-hot rows or rows of probabilities.
        values: x of the edges of ``graph``, (E,).
        propensities: theta, (..., N); ones if None.

    Returns:
        (edges, exposure): (P,) and (..., P), P = K(K+1)/2 for an undirected graph, k <= l row by row; else K^2.
    """
    z = memberships
    u = z if propensities is None else propensities.unsqueeze(-1) * z

    def over(pairs: Tensor, z: Tensor, x: Tensor | None = None) -> Tensor:
        i, j = pairs
        if graph.parts is not None:  # the end of side 0 first
            i, j = torch.where(graph.parts[i] == 0, pairs, pairs.flip(0))
        first = z[..., i, :] if x is None else x.unsqueeze(-1) * z[i]
        return first.mT @ z[..., j, :]

    edges = over(graph.edge_index, z, values)
    if graph.parts is not None:
        first = (graph.parts == 0).unsqueeze(-1)
        exposure = _outer((u * first).sum(-2), (u * ~first).sum(-2))
    else:
        total = u.sum(-2)
        exposure = _outer(total, total) - u.mT @ u  # ordered pairs of different nodes
    undirected = graph.parts is None and not graph.directed
    if undirected:
        exposure = 0.5 * exposure
    if graph.missing.shape[1]:
        exposure = exposure - over(graph.missing, u)
        if undirected:  # the missing dyads were taken off in one order of their ends: make it even
            exposure = 0.5 * (exposure + exposure.mT)
    if undirected:
        # W_kl is told of both (k, l) and (l, k), W_kk of itself alone
        edges, exposure = edges + edges.mT, exposure + exposure.mT
        once = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        i, j = torch.triu_indices(*edges.shape, device=z.device)
        edges, exposure = edges * (1.0 - 0.5 * once), exposure * (1.0 - 0.5 * once)
        return edges[i, j], exposure[..., i, j]
    return edges.flatten(), exposure.flatten(-2)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    return x.unsqueeze(-1) * y.unsqueeze(-2)
