"""Sums of softplus(s_ij) over all dyads, and their gradients, in tiles: O(N K + tile^2) memory, nothing N x N.

The derivative by the factors is the matrix sigmoid(s) times a factor. :class:`TotalSoftplus` adds it up tile by tile
while the logits are at hand; :class:`NodeSoftplus`, whose nodes may weigh differently, forms the logits anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TILE", "NodeSoftplus", "PairLogits", "TotalSoftplus", "row_blocks", "softplus"]

TILE = 384  # 0.6 MB of float32 logits: a core's cache holds them, and a product is long enough to be fast


def row_blocks(size: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, size)) for start in range(0, size, tile)]


def _block_pairs(size: int, tile: int, directed: bool) -> Iterator[tuple[slice, slice, bool]]:
    """(rows, columns, on the diagonal) covering every dyad: all blocks, or the upper triangle of blocks."""
    blocks = row_blocks(size, tile)
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
        if self.symmetric and self.by_y is not self.by_x:
            self.by_x += self.by_y
        # contiguous: what follows must not round by the order in which gradients meet
        by_left, by_right = (g.mT.contiguous().reshape(shape) for g in (self.by_x, self.by_y))
        return by_left, None if self.symmetric else by_right


def _batch_of(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor]:
    """Left and right factors, (B, N, K)."""
    x = left.reshape(-1, *left.shape[-2:])
    return x, x if right is None else right.reshape(x.shape)


class TotalSoftplus(torch.autograd.Function):
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
            sums.append(once * _sum(terms))  # in one way always: fits repeat to the last bit
            if nodes is not None:
                nodes[:, rows] += (0.5 * once) * _sum(terms, -1)
                nodes[:, columns] += (0.5 * once) * _sum(terms, -2)
            if gradient is not None:
                gradient.add(p, rows, columns, on_diagonal)
        ctx.grads = (None, None) if gradient is None else gradient.read(left.shape)
        # not one after another: large graphs have more tiles than float32 can add up in turn
        total = torch.stack(sums).sum(0).reshape(left.shape[:-2])
        if nodes is not None:
            nodes = nodes.reshape(left.shape[:-1])
            ctx.mark_non_differentiable(nodes)
        return total, nodes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_total[..., None, None]
        left, right = (None if g is None else g * scale for g in ctx.grads)
        return left, right, None, None, None


class NodeSoftplus(torch.autograd.Function):
    """Per node, half the sum of softplus(s) over its dyads, differentiable node by node.

    Logits are recomputed in the backward pass: the dyad (i, j) has the derivative (g_i + g_j) / 2 * sigmoid(s_ij).
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor | None, directed: bool, tile: int) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.directed, ctx.tile = directed, tile
        with torch.no_grad():
            return TotalSoftplus.apply(left.detach(), _detached(right), directed, tile, True)[1]

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


class PairLogits(torch.autograd.Function):
    """l_i'r_j of a list of dyads: (..., P) from (..., N, K) and (2, P).

    Factors are gathered for a tile's worth of dyads at a time, and once more in the backward pass: nothing of size
    P K is kept.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor | None, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, pairs)
        ctx.step = max(1, TILE**2 // max(1, left.numel() // left.shape[-2]))
        r = left if right is None else right
        parts = [(left[..., i, :] * r[..., j, :]).sum(-1) for i, j in pairs.split(ctx.step, 1)]
        return torch.cat(parts, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        left, right, pairs = ctx.saved_tensors
        r = left if right is None else right
        grad_left = left.new_zeros(left.shape)
        grad_right = grad_left if right is None else left.new_zeros(left.shape)
        for (i, j), g in zip(
            pairs.split(ctx.step, 1), grad.unsqueeze(-1).split(ctx.step, -2), strict=True
        ):
            grad_left.index_add_(-2, i, g * r[..., j, :])
            grad_right.index_add_(-2, j, g * left[..., i, :])
        return grad_left, None if right is None else grad_right, None


def _detached(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach()
