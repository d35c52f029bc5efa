"""The dyadic likelihood from a sample of the absent dyads: unbiased, at a cost linear in the edges.

Nearly all dyads of a sparse graph are absent, and all they add is one sum of softplus terms. Present dyads are
counted exactly; the sum over absent ones is estimated from a fresh uniform sample with its exact weight. Value and
gradient are unbiased for the density of :class:`~graphlore.models.DyadicBernoulli` and its gradient, and so is every
node's share, each sampled dyad being split between its two ends.

References:
    | Horvitz and Thompson, A generalization of sampling without replacement from a finite universe, JASA 1952
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.dyad_batch import DyadBatch
from .cumulants import softplus
from .dyad_list import sorted_draws
from .dyadic import SummedNodes
from .laws import DyadicBernoulli

__all__ = ["BatchDyads", "NodeBlockDyads", "SubsampledDyads"]


class SubsampledDyads(DyadicBernoulli):
    r"""All present dyads, and ``num_absent`` absent ones drawn uniformly with replacement.

    With D0 absent observed dyads and m of them drawn, the density is estimated by

    .. math::
        \sum_{\text{present}} w_1 \log\sigma(s_{ij}) - w_0 \frac{D_0}{m} \sum_{\text{drawn}} \mathrm{softplus}(s_{ij}),
        \quad \mathrm{Var} = w_0^2 \frac{D_0^2}{m} \mathrm{Var}_{\text{absent}}(\mathrm{softplus}(s)) \quad
        \text{(nats}^2\text{)},

    the last variance being that over the D0 absent dyads. Time and memory are O((E + H + m) K), nothing is N x N.
    A distribution draws its sample when a density is first asked for and keeps it, so that :meth:`log_prob`,
    :meth:`node_log_prob` and :meth:`incident_log_prob` are of the same dyads; a new one draws anew. The draws of a
    batch share it.

    Arguments:
        num_absent: m, at least 1.
        others: those of :class:`DyadicBernoulli`. :meth:`untempered` gives the exact density, not a sampled one.

    Raises:
        ValueError: ``num_absent`` below 1.
    """

    def __init__(self, *factors: Any, num_absent: int, **others: Any) -> None:
        if num_absent < 1:
            raise ValueError(f"num_absent is a number of dyads, at least 1, not {num_absent}")
        super().__init__(*factors, **others)
        self.num_absent = num_absent
        self._drawn: tuple[Tensor, Tensor] | None = None  # (present dyads, absent ones drawn)

    def absent(self, present: Tensor) -> Tensor:
        """The sampled absent dyads of a graph with these present ones, (2, m); (2, 0) where none are absent."""
        if self._drawn is None or not torch.equal(self._drawn[0], present):
            self._drawn = (present, self._draw_absent(present))
        return self._drawn[1]

    def _draw_absent(self, present: Tensor) -> Tensor:
        """Dyads in their order: the draws and both lists are sorted, so that what is looked up lies close together."""
        taken = present if self.missing is None else torch.cat((present, self.missing), 1)
        number = self.dyads.places(self._oriented(taken))
        if bool((number[1:] < number[:-1]).any()):
            number = number.sort().values
        absent = self.num_dyads - present.shape[1]
        rank = sorted_draws(absent, self.num_absent if absent else 0, present.device)
        # before the r-th absent dyad lie r absent ones and those taken ones that have at most r absent ones before them
        before = number - torch.arange(len(number), device=number.device)
        return self.dyads.at(rank + torch.searchsorted(before, rank, right=True))

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "num_absent": self.num_absent}

    def _cumulant_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        nodes = self._cumulant_nodes()
        return nodes[..., 0], nodes if split else None

    def _cumulant_nodes(self) -> Tensor:
        return self.left.new_zeros(self.left.shape[:-1])

    def _corrections(self, present: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        w0, w1 = self.weights
        absent = self.absent(present)
        scale = w0 * (self.num_dyads - present.shape[1]) / self.num_absent
        return [
            (present, -w1 * softplus(-self.logits(present))),
            (absent, -scale * softplus(self.logits(absent))),
        ]


class NodeBlockDyads(DyadicBernoulli):
    r"""All present dyads, and the absent ones within a uniform block of ``block`` nodes.

    A dyad lies in the block of B of N nodes with probability B(B - 1) / N(N - 1), whose inverse W is the weight of
    the absent ones. It costs O((E + H) K + B^2 K) time in products of matrices, without lookups of single dyads,
    but its dyads share nodes: with y_d = softplus(s_d) of the absent dyads, the variance in nats^2 is

    .. math::
        w_0^2 \sum_{d, d'} y_d y_{d'} (W^2 \pi_{dd'} - 1), \quad \pi_{dd'} = \frac{B (B - 1) \cdots (B - u + 1)}
        {N (N - 1) \cdots (N - u + 1)}

    with u = 2, 3 or 4 nodes in the union of d and d'. It falls with B, not with B^2 as m independent dyads do.

    Arguments:
        block: B, 2 to N.
        others: those of :class:`DyadicBernoulli`. :meth:`untempered` gives the exact density, not a sampled one.

    Raises:
        ValueError: ``block`` outside of 2 to N.
    """

    def __init__(self, *factors: Any, block: int, **others: Any) -> None:
        super().__init__(*factors, **others)
        if self.parts is not None:
            raise ValueError(
                "a block of nodes is for graphs of one kind of node, not bipartite ones"
            )
        if not 2 <= block <= self.num_nodes:
            raise ValueError(f"block is a number of nodes, 2 to {self.num_nodes}, not {block}")
        self.block = block
        self._nodes: Tensor | None = None

    @property
    def nodes(self) -> Tensor:
        """The nodes of the block, (B,), drawn when first asked for."""
        if self._nodes is None:
            self._nodes = torch.randperm(self.num_nodes, device=self.left.device)[: self.block]
        return self._nodes

    @property
    def dyad_weight(self) -> float:
        """W, the inverse of the probability that a dyad lies in the block."""
        n, b = self.num_nodes, self.block
        return n * (n - 1) / (b * (b - 1))

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "block": self.block}

    def _within(self) -> DyadicBernoulli:
        left, right = self.factors()
        here = self.nodes
        if self.right is None and self.left_bias is None and self.right_bias is None:
            return DyadicBernoulli(left[..., here, :], directed=self.directed, tile=self.tile)
        return DyadicBernoulli(
            left[..., here, :], right[..., here, :], directed=self.directed, tile=self.tile
        )

    def _to_all(self, nodes: Tensor) -> Tensor:
        zeros = nodes.new_zeros(*nodes.shape[:-1], self.num_nodes)
        return zeros.index_add(-1, self.nodes, self.dyad_weight * nodes)

    def _cumulant_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        total, nodes = self._within()._cumulant_all(split)
        return self.dyad_weight * total, None if nodes is None else self._to_all(nodes)

    def _cumulant_nodes(self) -> Tensor:
        return self._to_all(self._within()._cumulant_nodes())

    def _corrections(self, present: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        w0, w1 = self.weights
        # the block counts all of its dyads as absent: take back those that are not
        other = present if self.missing is None else torch.cat((present, self.missing), 1)
        inside = torch.zeros(self.num_nodes, dtype=torch.bool, device=other.device)
        inside[self.nodes] = True
        other = other[:, inside[other].all(0)]
        return [
            (present, -w1 * softplus(-self.logits(present))),
            (other, w0 * self.dyad_weight * softplus(self.logits(other))),
        ]


class BatchDyads(NodeBlockDyads):
    r"""The dyads of a :class:`~graphlore.data.DyadBatch`, whose factors are those of the batch's nodes alone.

    With P of E present dyads drawn, and the absent ones among B of N nodes,

    .. math::
        - w_1 \frac{E}{P} \sum_{\text{drawn}} \mathrm{softplus}(-s_{ij})
        - w_0 \frac{N (N - 1)}{B (B - 1)} \sum_{\text{absent, in the block}} \mathrm{softplus}(s_{ij})

    has the density of all dyads as its expectation, at a cost of O(P K + B^2 K) whatever the graph.

    Arguments:
        batch: which dyads, and what each stands for.
        others: those of :class:`DyadicBernoulli`.
    """

    def __init__(self, *factors: Any, batch: DyadBatch, **others: Any) -> None:
        super().__init__(*factors, block=batch.block, directed=batch.directed, **others)
        self.batch = batch
        self._nodes = torch.arange(batch.block, device=self.left.device)

    @property
    def dyad_weight(self) -> float:
        return self.batch.dyad_weight

    @property
    def num_dyads(self) -> int:
        """Observed dyads of the whole graph."""
        return self.batch.whole.num_dyads

    def _options(self) -> dict[str, Any]:
        return {"weights": self.weights, "tile": self.tile, "batch": self.batch}

    def entries(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The present dyads drawn, as often as they were, and ones."""
        pairs = self.batch.edge_index
        return pairs, self.left.new_ones(pairs.shape[1])

    def _present_gain(self, s: Tensor, x: Tensor) -> Tensor:
        return -self.weights[1] * self.batch.edge_weight * softplus(-s)

    @property
    def is_linear(self) -> bool:
        return False

    @property
    def summed_nodes(self) -> SummedNodes:
        """Those of the block; the present ones are left out, for they are drawn from all over the graph."""
        return SummedNodes(self.batch.block, self.batch.dyad_weight, self.batch.taken)

    def _corrections(self, present: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        return DyadicBernoulli._corrections(self, present, x)
