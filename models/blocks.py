r"""Dyads whose natural parameter depends on the blocks of their two ends alone (and, for counts, on node biases).

With one-hot memberships z and a table T, s_ij = z_i'T z_j, the sum of the cumulant over all dyads needs no dyads:

.. math::
    \sum_{i<j} \kappa(s_{ij}) = \tfrac12 \sum_i z_i^\top \kappa(T) \Bigl(\sum_j z_j - z_i\Bigr),

O(N K^2) instead of O(N^2 K). The density is linear in the membership of every single node. With independent
probabilities q_i in place of the z_i it therefore *is* the expectation over z_i ~ Categorical(q_i), exactly: this is
the closed form of the mean-field stochastic block model, had without a formula of its own.

References:
    | A mixture model for random graphs (Daudin, Picard and Robin, Statistics and Computing 2008), equation 8
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dyadic import Dyadic, pair_products
from .laws import DyadicBernoulli, DyadicNormal, DyadicPoisson

__all__ = ["BlockBernoulli", "BlockNormal", "BlockPoisson"]


class _Blocks(Dyadic):
    """Dyads by blocks; mixed into the law of edges.

    Arguments:
        memberships: z, (..., N, K): one-hot rows, or rows of probabilities for an expectation over independent ones.
        table: T, (..., K, K), symmetric for undirected graphs. Of a bipartite graph, rows are blocks of side 0.
        others: those of :class:`Dyadic`, without factors and biases.
    """

    def __init__(
        self,
        memberships: Tensor,
        table: Tensor,
        node_bias: Tensor | None = None,
        **others: Any,
    ) -> None:
        both_ends = node_bias if others.get("directed") else None  # else one bias is of both anyway
        super().__init__(memberships, memberships @ table.mT, node_bias, both_ends, **others)
        self.memberships, self.table = memberships, table

    @property
    def is_multilinear(self) -> bool:
        """Whether the density is linear in the membership of every node: unless its dyads are weighted."""
        return self.is_linear

    def _batched(self) -> dict[str, tuple[Tensor | None, int]]:
        return {"memberships": (self.memberships, 2), "table": (self.table, 2)}

    def _weighted_memberships(self) -> Tensor:
        """u with κ(s_ij) = u_i'κ(T) u_j."""
        return self.memberships

    def _cumulant_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        nodes = self._cumulant_nodes()
        return nodes.sum(-1), nodes.detach() if split else None

    def _cumulant_nodes(self) -> Tensor:
        u, table = self._weighted_memberships(), self.cumulant(self.table)
        if self.parts is not None:
            side = (self.parts == 0).to(u.dtype).unsqueeze(-1)
            first, second = (
                (u * side).sum(-2, keepdim=True),
                (u * (1.0 - side)).sum(-2, keepdim=True),
            )
            ends = torch.where(self.parts.unsqueeze(-1) == 0, second @ table.mT, first @ table)
            return 0.5 * (u * ends).sum(-1)
        others = u.sum(-2, keepdim=True) - u
        nodes = 0.5 * (u * (others @ table.mT)).sum(-1)
        return nodes + 0.5 * (u * (others @ table)).sum(-1) if self.directed else nodes

    def _cumulant_at(self, pairs: Tensor) -> Tensor:
        u = self._weighted_memberships()
        return pair_products(u, u @ self.cumulant(self.table).mT, self._oriented(pairs))


class BlockBernoulli(_Blocks, DyadicBernoulli):
    """Bernoulli edges with the log odds T of their blocks."""

    def untempered(self) -> BlockBernoulli:
        options = {**self._options(), "weights": (1.0, 1.0)}
        return BlockBernoulli(self.memberships, self.table, **options)


class BlockPoisson(_Blocks, DyadicPoisson):
    r"""Counts with rates :math:`\theta_i \theta_j \omega_{z_i z_j}`, T = log omega, node_bias = log theta.

    References:
        | Stochastic blockmodels and community structure in networks (Karrer and Newman, 2011), equation 6
    """

    def _batched(self) -> dict[str, tuple[Tensor | None, int]]:
        return {**super()._batched(), "node_bias": (self.left_bias, 1)}

    def _weighted_memberships(self) -> Tensor:
        if self.left_bias is None:
            return self.memberships
        return self.memberships * self.left_bias.exp().unsqueeze(-1)


class BlockNormal(_Blocks, DyadicNormal):
    """Real weights with the means T of their blocks and a common ``scale``."""

    def _batched(self) -> dict[str, tuple[Tensor | None, int]]:
        return {**super()._batched(), "scale": (self.scale, 0)}
