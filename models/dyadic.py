"""The likelihood of a graph: independent Bernoulli dyads with a logit that factorises over nodes.

For a simple graph A with observed dyads M and logits ``s_ij``,

.. math::
    \\log p(A) = \\sum_{i<j,\\,ij \\in M} w_1 A_{ij} \\log\\sigma(s_{ij}) + w_0 (1 - A_{ij}) \\log\\sigma(-s_{ij}),

(over ordered pairs when directed). Nothing of size N x N is kept: the softplus sum over all dyads runs in tiles,
present and missing dyads are corrections gathered along their lists, and the gradient with respect to the factors
is accumulated in the same pass, so that memory is O(N K + tile^2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

__all__ = ["DyadicBernoulli", "balanced_weights"]

_TILE = 384  # 0.6 MB of float32 logits: a core's cache holds them, and a product is long enough to be fast

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
        tile: int = _TILE,
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
        right = self.left if self.right is None else self.right
        s = (self.left[..., i, :] * right[..., j, :]).sum(-1)
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
        left, right = _append_bias(self.left, self.right, *self._biases())
        provenance = get_provenance(left)
        if right is not None:
            provenance, right = provenance | get_provenance(right), detach_provenance(right)
        return detach_provenance(left), right, provenance

    def _softplus_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        """(sum over all dyads of softplus(s), the same split over nodes where asked for, without gradient)."""
        left, right, provenance = self._plain_factors()
        total, nodes = _TotalSoftplus.apply(left, right, self.directed, self.tile, split)
        return _tracked(total, provenance), nodes

    def _softplus_nodes(self) -> Tensor:
        """Per node, half of softplus(s) of each of its dyads, with gradient: (..., N)."""
        left, right, provenance = self._plain_factors()
        return _tracked(_NodeSoftplus.apply(left, right, self.directed, self.tile), provenance)

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
            for rows in _blocks(self.num_nodes, self.tile):
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


def _tracked(x: Tensor, provenance: frozenset[str]) -> Tensor:
    return track_provenance(x, provenance) if provenance else x


def _blocks(size: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, size)) for start in range(0, size, tile)]


def _block_pairs(size: int, tile: int, directed: bool) -> Iterator[tuple[slice, slice, bool]]:
    """(rows, columns, on the diagonal) covering every dyad: all blocks, or the upper triangle of blocks."""
    blocks = _blocks(size, tile)
    for a, rows in enumerate(blocks):
        for b, columns in enumerate(blocks):
            if directed or a <= b:
                yield rows, columns, a == b


def _tile_logits(
    left: Tensor, right: Tensor, rows: slice, columns: slice, on_diagonal: bool
) -> Tensor:
    s = left[..., rows, :] @ right[..., columns, :].transpose(-1, -2)
    if on_diagonal:  # no self-dyads: softplus(-inf) = sigmoid(-inf) = 0
        torch.diagonal(s, dim1=-2, dim2=-1).fill_(-math.inf)
    return s


def softplus(s: Tensor) -> Tensor:
    # torch's own threshold of 20 is a relative error of 1e-10, too coarse for float64
    return F.softplus(s, threshold=50.0)


def _sigmoid_and_softplus(s: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(sigmoid(s), softplus(s) as two terms for :func:`_sum`), in the memory of s."""
    p = torch.sigmoid(s)
    q = torch.rsub(p, 1.0)
    return p, (s.clamp_(min=0.0), torch.minimum(p, q, out=q))


def _sum(softplus: tuple[Tensor, Tensor], dim: int | None = None) -> Tensor:
    """Sum of max(s, 0) - log(1 - q), q = sigmoid(-|s|), over a tile (dim None) or along its rows or columns.

    Four dyads share a logarithm: (1 - q1)(1 - q2) = 1 - (q1 + q2 - q1 q2), and that complement keeps the relative
    accuracy of small q, which the product itself loses.
    """
    positive, q = softplus
    along = -2 if dim is None else dim
    quarter = q.shape[along] // 4
    rest = q.narrow(along, 4 * quarter, q.shape[along] - 4 * quarter)
    for size in (2 * quarter, quarter):
        x, y = q.narrow(along, 0, size), q.narrow(along, size, size)
        q = (x + y).addcmul_(x, y, value=-1.0)
    dims = (-2, -1) if dim is None else dim
    return positive.sum(dims) - sum(x.neg().log1p_().sum(dims) for x in (q, rest))


class _Gradient:
    """d/dl and d/dr of a sum over dyads, added up tile by tile from the derivatives by the logits.

    An undirected dyad off the diagonal blocks is visited once and stands for (i, j) and (j, i); within a diagonal
    block both orders are visited, each for one half. Kept as (B, K, N): products with long rows are faster than
    those with K columns.
    """

    def __init__(self, x: Tensor, y: Tensor, symmetric: bool, directed: bool) -> None:
        self.x, self.y, self.symmetric, self.directed = x, y, symmetric, directed
        self.by_x = x.new_zeros(x.mT.shape)
        self.by_y = self.by_x if symmetric and not directed else x.new_zeros(x.mT.shape)

    def add(self, slope: Tensor, rows: slice, columns: slice, on_diagonal: bool) -> None:
        once = 0.5 if on_diagonal and not self.directed else 1.0
        x_rows, y_columns = self.x[:, rows].mT, self.y[:, columns].mT
        if self.by_y is self.by_x and on_diagonal:  # two equal products, each for one half
            self.by_x[..., rows].baddbmm_(y_columns, slope)
        elif self.directed or self.symmetric:
            self.by_x[..., rows].baddbmm_(y_columns, slope.mT, alpha=once)
            self.by_y[..., columns].baddbmm_(x_rows, slope, alpha=once)
        else:  # s_ij = s_ji are two expressions of one logit: share the derivative between them
            half = 0.5 * once
            self.by_x[..., rows].baddbmm_(y_columns, slope.mT, alpha=half)
            self.by_y[..., rows].baddbmm_(self.x[:, columns].mT, slope.mT, alpha=half)
            self.by_x[..., columns].baddbmm_(self.y[:, rows].mT, slope, alpha=half)
            self.by_y[..., columns].baddbmm_(x_rows, slope, alpha=half)

    def read(self, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        """(by left, by right), each (..., N, K); all of it by left where right is left."""
        if not self.symmetric:
            return self.by_x.mT.reshape(shape), self.by_y.mT.reshape(shape)
        both = self.by_x if self.by_y is self.by_x else self.by_x + self.by_y
        return both.mT.reshape(shape), None


def _batch_of(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor]:
    """Left and right factors, (B, N, K)."""
    x = left.reshape(-1, *left.shape[-2:])
    return x, x if right is None else right.reshape(x.shape)


class _TotalSoftplus(torch.autograd.Function):
    """Sum of softplus(s_ij) over all dyads and, if asked for, its split over nodes (which carries no gradient).

    The derivative is the matrix sigmoid(s) times a factor, accumulated tile by tile while the logits are at hand:
    the backward pass is one multiplication by the incoming scalar.
    """

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, directed: bool, tile: int, split: bool
    ) -> tuple[Tensor, Tensor | None]:
        x, y = _batch_of(left, right)
        need_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        gradient = _Gradient(x, y, right is None, directed) if need_grad else None
        sums = []
        nodes = x.new_zeros(x.shape[:2]) if split else None
        for rows, columns, on_diagonal in _block_pairs(x.shape[-2], tile, directed):
            p, terms = _sigmoid_and_softplus(_tile_logits(x, y, rows, columns, on_diagonal))
            once = 0.5 if on_diagonal and not directed else 1.0
            if nodes is None:
                sums.append(once * _sum(terms))
            else:
                nodes[:, rows] += (0.5 * once) * _sum(terms, -1)
                nodes[:, columns] += (0.5 * once) * _sum(terms, -2)
            if gradient is not None:
                gradient.add(p, rows, columns, on_diagonal)
        ctx.grads = (None, None) if gradient is None else gradient.read(left.shape)
        if nodes is None:
            # not one after another: large graphs have more tiles than float32 can add up in turn
            return torch.stack(sums).sum(0).reshape(left.shape[:-2]), None
        nodes = nodes.reshape(left.shape[:-1])
        ctx.mark_non_differentiable(nodes)
        return nodes.sum(-1), nodes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_total[..., None, None]
        left, right = (None if g is None else g * scale for g in ctx.grads)
        return left, right, None, None, None


class _NodeSoftplus(torch.autograd.Function):
    """Per node, half the sum of softplus(s) over its dyads, differentiable node by node.

    Logits are recomputed in the backward pass: the dyad (i, j) has the derivative (g_i + g_j) / 2 * sigmoid(s_ij).
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor | None, directed: bool, tile: int) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.directed, ctx.tile = directed, tile
        with torch.no_grad():
            return _TotalSoftplus.apply(left.detach(), _detached(right), directed, tile, True)[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        left, right = ctx.saved_tensors
        x, y = _batch_of(left, right)
        g = 0.5 * grad.reshape(x.shape[:2])
        gradient = _Gradient(x, y, right is None, ctx.directed)
        for rows, columns, on_diagonal in _block_pairs(x.shape[-2], ctx.tile, ctx.directed):
            p = _tile_logits(x, y, rows, columns, on_diagonal).sigmoid_()
            p *= g[:, rows, None] + g[:, None, columns]
            gradient.add(p, rows, columns, on_diagonal)
        return *gradient.read(left.shape), None, None


def _detached(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach()
