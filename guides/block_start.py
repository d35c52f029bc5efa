"""Where a guide without an encoder starts when its communities are to be those of a clustering of the graph.

Overlapping communities have many local optima, and from a flat or random start a variational fit often ends in the
one without communities. A hard clustering is a far better start, and what goes with it is known in closed form:
shares of the communities, affinities and degrees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..data import Graph
from ..models.block_sums import block_sums
from ..models.sticks import activation_logits

__all__ = ["BlockStart"]

_INSIDE, _OUTSIDE = 4.0, -5.0  # log odds of a node's own community at the start, and of any other


class BlockStart:
    """The parameters that a clustering gives, communities by falling size.

    Arguments:
        graph: what is observed.
        blocks: a block for every node, (N,) in 0..K-1.
        num_blocks: K.
        by_degree: the nodes have biases, and blocks are compared with what the degrees alone would give: theta_i
            theta_j expected edges, theta_i = d_i / sqrt(2 E). Otherwise with the mean density.
    """

    def __init__(self, graph: Graph, blocks: Tensor, num_blocks: int, by_degree: bool) -> None:
        order = torch.bincount(blocks, minlength=num_blocks).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(num_blocks, device=order.device)
        self.blocks, dtype = rank[blocks], torch.get_default_dtype()
        #: z, (N, K)
        self.one_hot = torch.nn.functional.one_hot(self.blocks, num_blocks).to(dtype)
        edges = float(max(graph.num_edges, 1))
        flat = self.one_hot.new_full((graph.num_nodes,), (edges / graph.num_dyads) ** 0.5)
        # half an edge more than the nodes have: a node without any is not infinitely unlikely to get one
        degree = torch.bincount(graph.edge_index.flatten(), minlength=graph.num_nodes) + 0.5
        self._theta = degree.to(dtype) / (2.0 * edges) ** 0.5 if by_degree else flat
        #: log theta_i against that of the mean density, (N,)
        self.node_bias = (self._theta / flat).log()
        self._graph = graph

    def affinities(self) -> Tensor:
        """log (edges + 1) / (expected + 1) of every pair of blocks: the free entries of an undirected table, (P,)."""
        values = self.one_hot.new_ones(self._graph.num_edges)
        edges, expected = block_sums(self._graph, self.one_hot, values, self._theta)
        return ((edges + 1.0) / (expected.clamp(min=0.0) + 1.0)).log()

    def sticks(self) -> tuple[Tensor, Tensor]:
        """(c, d), (K,) each, of Kumaraswamy(c, d) whose medians multiply to the shares of the blocks.

        c = 1 / (1 - median), at least 4, so that log v varies little: a community must not come and go with v.
        """
        share = (self.one_hot.mean(0) + 0.5 / len(self.one_hot)).clamp(max=0.95)
        median = share / torch.cat((share.new_ones(1), share[:-1]))
        c = (1.0 - median).clamp(min=0.02).reciprocal().clamp(min=4.0)
        return c, -math.log(2.0) / torch.log1p(-(median.clamp(max=1.0 - 1e-4) ** c))

    def membership_logits(self, sticks: Tensor | None = None) -> Tensor:
        """Log odds (N, K) that leave a node in its block; less what the sticks (K,) add, where memberships see them."""
        logits = _OUTSIDE + (_INSIDE - _OUTSIDE) * self.one_hot
        return logits if sticks is None else logits - activation_logits(sticks)
