"""Sums of κ(s_ij) over all dyads, and their gradients, in tiles: O(N K + tile^2) memory, nothing N x N.

κ is the cumulant of the edges' law (:mod:`~graphlore.models.cumulants`), softplus for Bernoulli edges. The derivative
by the factors is the matrix κ'(s) times a factor. :class:`TotalCumulant` adds it up tile by tile while the s are at
hand; :class:`NodeCumulant`, whose nodes may weigh differently, forms them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from .cumulants import Cumulant
from .processes import Processes, processes_for

__all__ = [
    "TILE",
    "NodeCumulant",
    "PairLogits",
    "Shape",
    "TotalCumulant",
    "block_pairs",
    "row_blocks",
    "tile_entries",
]

TILE = 384  # 0.6 MB of float32 logits: a core's cache holds them, and a product is long enough to be fast

_LONG = 8  # dyads of a list a node, from which processes share it

#: which pairs of a left and a right factor are dyads: i < j; i != j; all (two sides of a bipartite graph)
Shape = Literal["undirected", "directed", "bipartite"]


def row_blocks(size: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, size)) for start in range(0, size, tile)]


def block_pairs(
    rows: int, columns: int, tile: int, shape: Shape
) -> list[tuple[slice, slice, bool]]:
    """(rows, columns, on the diagonal) covering every dyad: all blocks, or the upper triangle of blocks."""
    return [
        (here, there, a == b and shape != "bipartite")
        for a, here in enumerate(row_blocks(rows, tile))
        for b, there in enumerate(row_blocks(columns, tile))
        if shape != "undirected" or a <= b
    ]


def tile_entries(
    left: Tensor, right: Tensor, shape: Shape, tile: int, read: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Dyads at which ``read(s)`` is not zero, tile by tile: (rows of left and of right, (2, P); what it is, (P,)).

    Arguments:
        left, right: factors, (rows, K) and (columns, K).
    """
    for rows, columns, on_diagonal in block_pairs(left.shape[0], right.shape[0], tile, shape):
        x = read(left[rows] @ right[columns].mT)
        if on_diagonal:
            x = x.triu(1) if shape == "undirected" else x.fill_diagonal_(0)
        flat, width = x.flatten(), x.shape[1]
        place = flat.nonzero()[:, 0]
        yield torch.stack((rows.start + place // width, columns.start + place % width)), flat[place]


def _tile_logits(
    left: Tensor,
    right: Tensor,
    rows: slice,
    columns: slice,
    on_diagonal: bool,
    nothing: float,
) -> Tensor:
    s = left[..., rows, :] @ right[..., columns, :].transpose(-1, -2)
    if on_diagonal:  # no self-dyads
        torch.diagonal(s, dim1=-2, dim2=-1).fill_(nothing)
    return s


class _Gradient:
    """d/dl and d/dr of a sum over dyads, added up tile by tile from the derivatives by the logits.

    An undirected dyad off the diagonal blocks is visited once, as l_i'r_j: l_j'r_i is the same number by the stories'
    symmetry, so that its derivative is not needed. Within a diagonal block both orders are visited, each for one
    half. Kept as (B, K, N): products with long rows are faster than those with K columns.
    """

    def __init__(self, x: Tensor, y: Tensor, symmetric: bool, shape: Shape) -> None:
        self.x, self.y, self.symmetric = x, y, symmetric
        self.undirected = shape == "undirected"
        self.by_x = x.new_zeros(x.mT.shape)
        self.by_y = self.by_x if symmetric and self.undirected else y.new_zeros(y.mT.shape)

    def add(self, slope: Tensor, rows: slice, columns: slice, on_diagonal: bool) -> None:
        once = 0.5 if on_diagonal and self.undirected else 1.0
        x_rows, y_columns = self.x[:, rows].mT, self.y[:, columns].mT
        if self.by_y is self.by_x and on_diagonal:  # two equal products, each for one half
            self.by_x[..., rows].baddbmm_(y_columns, slope)
        else:
            self.by_x[..., rows].baddbmm_(y_columns, slope.mT, alpha=once)
            self.by_y[..., columns].baddbmm_(x_rows, slope, alpha=once)

    def add_up(self, processes: Processes) -> None:
        """Add what other processes found in their tiles."""
        processes.add(self.by_x, self.by_y if self.by_y is not self.by_x else None)

    def read(self, batch: torch.Size) -> tuple[Tensor, Tensor | None]:
        """(by left, by right), each (..., N, K); all of it by left where right is left."""
        if self.symmetric and self.by_y is not self.by_x:
            self.by_x += self.by_y
        # contiguous: what follows must not round by the order in which gradients meet
        by_left, by_right = (
            g.mT.contiguous().reshape(batch + g.mT.shape[1:]) for g in (self.by_x, self.by_y)
        )
        return by_left, None if self.symmetric else by_right


def _batch_of(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor]:
    """Left and right factors, (B, N, K)."""
    x = left.reshape(-1, *left.shape[-2:])
    return x, x if right is None else right.reshape(x.shape[0], *right.shape[-2:])


class TotalCumulant(torch.autograd.Function):
    """Sum of κ(s_ij) over all dyads and, if asked for, its split over nodes (which carries no gradient).

    The derivative is the matrix κ'(s) times a factor, accumulated tile by tile while the s are at hand: the backward
    pass is one multiplication by the incoming scalar. Of a bipartite graph, left are the factors of one side, right
    those of the other, and nodes are left ones first.
    """

    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor | None,
        shape: Shape,
        tile: int,
        split: bool,
        cumulant: Cumulant,
    ) -> tuple[Tensor, Tensor | None]:
        x, y = _batch_of(left, right)
        need_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        gradient = _Gradient(x, y, right is None, shape) if need_grad else None
        sums = []
        # the two ends of a dyad are nodes of one kind, except in a bipartite graph
        of_rows = x.new_zeros(x.shape[:2]) if split else None
        of_columns = x.new_zeros(y.shape[:2]) if split and shape == "bipartite" else of_rows
        tiles = block_pairs(x.shape[-2], y.shape[-2], tile, shape)
        processes = processes_for(len(tiles))
        for rows, columns, on_diagonal in processes.share(tiles):
            s = _tile_logits(x, y, rows, columns, on_diagonal, cumulant.nothing)
            slope, terms = cumulant.in_tile(s)
            once = 0.5 if on_diagonal and shape == "undirected" else 1.0
            sums.append(
                once * cumulant.sum(terms)
            )  # in one way always: fits repeat to the last bit
            if of_rows is not None and of_columns is not None:
                of_rows[:, rows] += (0.5 * once) * cumulant.sum(terms, -1)
                of_columns[:, columns] += (0.5 * once) * cumulant.sum(terms, -2)
            if gradient is not None:
                gradient.add(slope, rows, columns, on_diagonal)
        batch = left.shape[:-2]
        if gradient is not None:
            gradient.add_up(processes)
        ctx.grads = (None, None) if gradient is None else gradient.read(batch)
        # not one after another: large graphs have more tiles than float32 can add up in turn
        total = torch.stack(sums).sum(0)
        processes.add(total, of_rows, of_columns if of_columns is not of_rows else None)
        total = total.reshape(batch)
        if of_rows is None or of_columns is None:
            return total, None
        nodes = of_rows if shape != "bipartite" else torch.cat((of_rows, of_columns), -1)
        nodes = nodes.reshape(batch + nodes.shape[1:])
        ctx.mark_non_differentiable(nodes)
        return total, nodes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_total[..., None, None]
        left, right = (None if g is None else g * scale for g in ctx.grads)
        return left, right, None, None, None, None


class NodeCumulant(torch.autograd.Function):
    """Per node, half the sum of κ(s) over its dyads, differentiable node by node.

    The s are recomputed in the backward pass: the dyad (i, j) has the derivative (g_i + g_j) / 2 * κ'(s_ij).
    """

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor | None, shape: Shape, tile: int, cumulant: Cumulant
    ) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.shape, ctx.cumulant = shape, cumulant
        ctx.tiles = block_pairs(
            left.shape[-2], (left if right is None else right).shape[-2], tile, shape
        )
        ctx.processes = processes_for(len(ctx.tiles))  # CUDA's backward pass runs in another thread
        with torch.no_grad():
            args = (left.detach(), _detached(right), shape, tile, True, cumulant)
            return TotalCumulant.apply(*args)[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        x, y = _batch_of(left, right)
        g = 0.5 * grad.reshape(x.shape[0], -1)
        of_rows, of_columns = g, g[:, x.shape[-2] :] if ctx.shape == "bipartite" else g
        gradient = _Gradient(x, y, right is None, ctx.shape)
        for rows, columns, on_diagonal in ctx.processes.share(ctx.tiles):
            s = _tile_logits(x, y, rows, columns, on_diagonal, ctx.cumulant.nothing)
            slope = ctx.cumulant.mean(s) * (of_rows[:, rows, None] + of_columns[:, None, columns])
            gradient.add(slope, rows, columns, on_diagonal)
        gradient.add_up(ctx.processes)
        return *gradient.read(left.shape[:-2]), None, None, None


class PairLogits(torch.autograd.Function):
    """l_i'r_j of a list of dyads: (..., P) from (..., N, K) and (2, P).

    Factors are gathered for a tile's worth of dyads at a time, and once more in the backward pass: nothing of size
    P K is kept. Processes share lists so long that handing round the sums costs less.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor | None, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, pairs)
        ctx.step = max(1, TILE**2 // max(1, left.numel() // left.shape[-2]))
        long = pairs.shape[1] >= _LONG * left.shape[-2]
        ctx.processes = processes_for(pairs.shape[1] if long else 1)
        r = left if right is None else right
        out = left.new_zeros(*left.shape[:-2], pairs.shape[1])
        mine = ctx.processes.part(pairs.shape[1])
        steps = pairs[:, mine].split(ctx.step, 1)
        parts = [
            torch.linalg.vecdot(left.index_select(-2, i), r.index_select(-2, j)) for i, j in steps
        ]
        out[..., mine] = torch.cat(parts, -1)
        ctx.processes.add(out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        left, right, pairs = ctx.saved_tensors
        r = left if right is None else right
        grad_left = left.new_zeros(left.shape)
        grad_right = grad_left if right is None else left.new_zeros(left.shape)
        mine = ctx.processes.part(pairs.shape[1])
        steps = pairs[:, mine].split(ctx.step, 1)
        slopes = grad[..., mine].unsqueeze(-1).split(ctx.step, -2)
        for (i, j), g in zip(steps, slopes, strict=True):
            grad_left.index_add_(-2, i, g * r.index_select(-2, j))
            grad_right.index_add_(-2, j, g * left.index_select(-2, i))
        ctx.processes.add(grad_left, grad_right if grad_right is not grad_left else None)
        return grad_left, None if right is None else grad_right, None


def _detached(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach()
