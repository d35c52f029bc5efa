"""The likelihood of a graph: independent Bernoulli dyads with a logit that factorises over nodes.

For a simple graph A with observed dyads M and logits ``s_ij``,

.. math::
    \\log p(A) = \\sum_{i<j,\\,ij \\in M} w_1 A_{ij} \\log\\sigma(s_{ij}) + w_0 (1 - A_{ij}) \\log\\sigma(-s_{ij}),

(over ordered pairs when directed). Nothing of size N x N is kept: the softplus sum over all dyads runs in tiles,
present and missing dyads are corrections gathered along their lists, and the gradient with respect to the factors
is accumulated in the same pass, so that memory is O(N K + tile^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from torch import Tensor
from torch.distributions import constraints

from .tiles import TILE, NodeSoftplus, PairLogits, TotalSoftplus, row_blocks, softplus

__all__ = ["DyadicBernoulli", "balanced_weights"]


_DENSE_NODES = 2000


class DyadicBernoulli(TorchDistribution):
    r"""Bernoulli edges with logits :math:`s_{ij} = l_i^\top r_j + a_i + b_j`.

    The value is the adjacency matrix, (N, N), dense or sparse COO (coalesced), with an empty diagonal; only entries
    of observed dyads are read. :meth:`log_prob` gives one number per graph; :meth:`node_log_prob` splits it over
    nodes, every dyad half to each of its ends.

    Arguments:
        left: factors l, (..., N, K).
        right: factors r, (..., N, K). ``None`` means r = l: the symmetric inner product.
        left_bias: a, (..., N), or ``None`` for zero. Undirected graphs use it for both ends (b = a).
        right_bias: b, (..., N), directed graphs only.
        missing: dyads that are not observed, (2, H) int64; i < j unless directed. They take no part in the density.
        weights: (w_0, w_1), the weights of absent and of present dyads; (1, 1) is the Bernoulli density. Anything
            else tempers the likelihood.
        directed: whether (i, j) and (j, i) are two dyads. An undirected graph needs :math:`s_{ij} = s_{ji}`.
        tile: rows and columns of a tile.

    Raises:
        ValueError: an undirected graph with two sides of bias, or factors of different shapes.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False
    has_enumerate_support = False

    def __init__(
        self,
        left: Tensor,
        right: Tensor | None = None,
        left_bias: Tensor | None = None,
        right_bias: Tensor | None = None,
        *,
        missing: Tensor | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        directed: bool = False,
        tile: int = TILE,
        validate_args: bool | None = None,
    ) -> None:
        if right is not None and right.shape != left.shape:
            raise ValueError(f"left and right factors differ in shape: {left.shape}, {right.shape}")
        if right_bias is not None and not directed:
            raise ValueError("an undirected graph has one bias per node: give left_bias only")
        self.left, self.right = left, right
        self.left_bias, self.right_bias = left_bias, right_bias
        self.missing, self.weights, self.directed, self.tile = (
            missing,
            weights,
            directed,
            tile,
        )
        #: let log_prob also find the nodes' shares that incident_log_prob reads, at about a sixth of its time
        self.keep_nodes = False
        self._cached: tuple[Tensor, Tensor] | None = None  # (value, per-node log density)
        nodes = left.shape[-2]
        super().__init__(left.shape[:-2], torch.Size((nodes, nodes)), validate_args=False)

    @property
    def num_nodes(self) -> int:
        return self.event_shape[0]

    @property
    def num_dyads(self) -> int:
        """Observed dyads."""
        n = self.num_nodes
        total = n * (n - 1) if self.directed else n * (n - 1) // 2
        return total - (0 if self.missing is None else self.missing.shape[1])

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, 2)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DyadicBernoulli:
        shape = torch.Size(batch_shape)

        def grow(x: Tensor | None, event_dims: int) -> Tensor | None:
            return None if x is None else x.expand(shape + x.shape[x.dim() - event_dims :])

        left = grow(self.left, 2)
        assert left is not None
        return self._like(
            left, grow(self.right, 2), grow(self.left_bias, 1), grow(self.right_bias, 1)
        )

    def untempered(self) -> DyadicBernoulli:
        """The same dyads with the weights (1, 1) of the Bernoulli density."""
        return DyadicBernoulli(
            self.left,
            self.right,
            self.left_bias,
            self.right_bias,
            missing=self.missing,
            directed=self.directed,
            tile=self.tile,
        )

    def one(self, draw: int) -> DyadicBernoulli:
        """The distribution of one draw of a batch over draws, as a distribution of batch shape ()."""

        def pick(x: Tensor | None, event_dims: int) -> Tensor | None:
            return None if x is None else x.flatten(0, x.dim() - event_dims - 1)[draw]

        left = pick(self.left, 2)
        assert left is not None
        return self._like(
            left, pick(self.right, 2), pick(self.left_bias, 1), pick(self.right_bias, 1)
        )

    def _like(self, *factors: Any) -> DyadicBernoulli:
        """The same dyads with other factors and biases."""
        return DyadicBernoulli(
            *factors,
            missing=self.missing,
            weights=self.weights,
            directed=self.directed,
            tile=self.tile,
        )

    # -- densities ---------------------------------------------------------------------------------------------

    def logits(self, pairs: Tensor) -> Tensor:
        """Logits s of the given dyads. pairs: (2, P) int64 -> (..., P)."""
        i, j = pairs[0], pairs[1]
        left, right, provenance = _untracked(self.left, self.right)
        s = _tracked(PairLogits.apply(left, right, pairs), provenance)
        left_bias, right_bias = self._biases()
        if left_bias is not None:
            s = s + left_bias[..., i]
        if right_bias is not None:
            s = s + right_bias[..., j]
        return s

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of an adjacency matrix: (..., ) from (N, N)."""
        present = self.present(value)
        absent_total, absent_nodes = self._softplus_all(split=self.keep_nodes)
        corrections = self._corrections(present)
        total = sum((c.sum(-1) for _, c in corrections), start=-self.weights[0] * absent_total)
        if absent_nodes is None:
            return total
        with torch.no_grad():
            plain = [(pairs, detach_provenance(c).detach()) for pairs, c in corrections]
            self._cached = (value, self._to_nodes(-self.weights[0] * absent_nodes, plain))
        return total

    def node_log_prob(self, value: Tensor) -> Tensor:
        """The log density split over nodes, half of a dyad to each end: (..., N); sums to :meth:`log_prob`."""
        return self._to_nodes(
            -self.weights[0] * self._softplus_nodes(), self._corrections(self.present(value))
        )

    def incident_log_prob(self, value: Tensor) -> Tensor:
        """For every node the log density of its own dyads, each whole, without gradient: (..., N).

        This is the learning signal of a node's discrete latents. Right after ``log_prob(value)`` of a distribution
        with :attr:`keep_nodes` set it costs nothing.
        """
        if self._cached is None or self._cached[0] is not value:
            self.keep_nodes = True
            with torch.no_grad():
                self.log_prob(value)
        assert self._cached is not None
        return 2.0 * self._cached[1]

    def factors(self) -> tuple[Tensor, Tensor]:
        """(l, r) with the biases as two more columns, so that s_ij = l_i'r_j alone: (..., N, K or K + 2) each."""
        left, right = _append_bias(self.left, self.right, *self._biases())
        return left, left if right is None else right

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        return self.left_bias, self.right_bias if self.directed else self.left_bias

    def _plain_factors(self) -> tuple[Tensor, Tensor | None, frozenset[str]]:
        """Factors with biases (right None if it is left), without their provenance, and that provenance."""
        return _untracked(*_append_bias(self.left, self.right, *self._biases()))

    def _softplus_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        """(sum over all dyads of softplus(s), the same split over nodes where asked for, without gradient)."""
        left, right, provenance = self._plain_factors()
        total, nodes = TotalSoftplus.apply(left, right, self.directed, self.tile, split)
        return _tracked(total, provenance), nodes

    def _softplus_nodes(self) -> Tensor:
        """Per node, half of softplus(s) of each of its dyads, with gradient: (..., N)."""
        left, right, provenance = self._plain_factors()
        return _tracked(NodeSoftplus.apply(left, right, self.directed, self.tile), provenance)

    def present(self, value: Tensor) -> Tensor:
        """Present, observed dyads of an adjacency value, (2, E), each once."""
        n = self.num_nodes
        if value.shape[-2:] != (n, n) or value.dim() != 2:
            raise ValueError(
                f"the value must be one ({n}, {n}) adjacency matrix, not {tuple(value.shape)}"
            )
        if value.layout == torch.sparse_coo:
            pairs = value._indices()[:, value._values() != 0]
        else:
            pairs = value.to_dense().nonzero().T
        if not self.directed:
            pairs = pairs[:, pairs[0] < pairs[1]]
        if self.missing is not None and self.missing.shape[1]:
            hidden = self.missing[0] * n + self.missing[1]
            pairs = pairs[:, ~torch.isin(pairs[0] * n + pairs[1], hidden)]
        return pairs

    def _corrections(self, present: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(pairs, what the pairs add to the density once all dyads counted as absent)."""
        w0, w1 = self.weights
        s = self.logits(present)
        added = s if w0 == w1 == 1.0 else w0 * softplus(s) - w1 * softplus(-s)
        corrections = [(present, added)]
        if self.missing is not None and self.missing.shape[1]:
            corrections.append((self.missing, w0 * softplus(self.logits(self.missing))))
        return corrections

    def _to_nodes(self, nodes: Tensor, corrections: list[tuple[Tensor, Tensor]]) -> Tensor:
        for pairs, added in corrections:
            half = 0.5 * added
            nodes = nodes.index_add(-1, pairs[0], half).index_add(-1, pairs[1], half)
        return nodes

    # -- draws -------------------------------------------------------------------------------------------------

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Adjacency matrices, (sample_shape, ..., N, N): dense, or sparse COO for one graph of over 2,000 nodes."""
        if not sample_shape and not self.batch_shape and self.num_nodes > _DENSE_NODES:
            pairs = self.sample_edges()
            if not self.directed:
                pairs = torch.cat((pairs, pairs.flip(0)), 1)
            ones = torch.ones(pairs.shape[1], dtype=self.left.dtype, device=self.left.device)
            return torch.sparse_coo_tensor(pairs, ones, tuple(self.event_shape)).coalesce()
        with torch.no_grad():
            shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
            draw = torch.rand(shape, dtype=self.left.dtype, device=self.left.device)
            edges = (draw < torch.sigmoid(self.dense_logits())).to(self.left.dtype)
            if self.directed:
                return edges - torch.diag_embed(torch.diagonal(edges, dim1=-2, dim2=-1))
            upper = edges.triu(1)
            return upper + upper.transpose(-1, -2)

    def dense_logits(self) -> Tensor:
        """All logits, (..., N, N); the diagonal has no meaning. For small graphs and tests."""
        left, right = self.factors()
        return left @ right.transpose(-1, -2)

    def row_probabilities(self, rows: slice) -> Tensor:
        """Link probabilities of a block of rows, (..., rows, N); those on the diagonal have no meaning."""
        left, right = self.factors()
        return torch.sigmoid(left[..., rows, :] @ right.transpose(-1, -2))

    def sample_edges(self) -> Tensor:
        """One graph as an edge list, (2, E) int64 sorted by row, in tiles: never N x N at once."""
        if self.batch_shape:
            raise ValueError(
                f"sample_edges draws one graph; the batch shape is {tuple(self.batch_shape)}"
            )
        found = []
        with torch.no_grad():
            for rows in row_blocks(self.num_nodes, self.tile):
                p = self.row_probabilities(rows)
                pairs = (torch.rand_like(p) < p).nonzero().T
                pairs[0] += rows.start
                keep = pairs[0] != pairs[1] if self.directed else pairs[0] < pairs[1]
                found.append(pairs[:, keep])
        return torch.cat(found, dim=1)


def balanced_weights(num_present: int, num_dyads: int) -> tuple[float, float]:
    """(w_0, w_1) that give present and absent dyads the same total weight, D / 2 each.

    The reweighting of Kipf and Welling (2016): with A present of D observed dyads, w_1 = D / 2A and
    w_0 = D / 2(D - A).
    """
    if not 0 < num_present < num_dyads:
        raise ValueError(
            f"balancing needs present and absent dyads; {num_present} of {num_dyads} are present"
        )
    return num_dyads / (2.0 * (num_dyads - num_present)), num_dyads / (2.0 * num_present)


def _append_bias(
    left: Tensor, right: Tensor | None, left_bias: Tensor | None, right_bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Write s_ij = l_i'r_j + a_i + b_j as one inner product by two more columns."""
    if left_bias is None and right_bias is None:
        return left, right
    r = left if right is None else right
    one = torch.ones_like(left[..., :1])
    a = torch.zeros_like(one) if left_bias is None else left_bias.unsqueeze(-1) * one
    b = torch.zeros_like(one) if right_bias is None else right_bias.unsqueeze(-1) * one
    return torch.cat((left, a, one), -1), torch.cat((r, one, b), -1)


def _untracked(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor | None, frozenset[str]]:
    """Both without their provenance, and that provenance."""
    provenance = get_provenance(left)
    if right is not None:
        provenance, right = provenance | get_provenance(right), detach_provenance(right)
    return detach_provenance(left), right, provenance


def _tracked(x: Tensor, provenance: frozenset[str]) -> Tensor:
    return track_provenance(x, provenance) if provenance else x
