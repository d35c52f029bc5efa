r"""The laws of one edge, by their cumulant function κ: log p(x | s) = x s - κ(s) + (a term without s), mean κ'(s).

============ ===================== ============= ==========
law          natural parameter s   κ(s)          mean κ'(s)
============ ===================== ============= ==========
Bernoulli    log odds              log(1 + e^s)  sigmoid(s)
Poisson      log rate              e^s           e^s
Normal       mean (unit variance)  s^2 / 2       s
============ ===================== ============= ==========

The log density of a graph needs the sum of κ over all dyads, which :mod:`~graphlore.models.tiles` takes tile by tile.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EXPONENTIAL", "HALF_SQUARE", "SOFTPLUS", "Cumulant", "softplus"]


def softplus(s: Tensor) -> Tensor:
    # torch's own threshold of 20 is a relative error of 1e-10, too coarse for float64
    return F.softplus(s, threshold=50.0)


class Cumulant:
    """κ(s) elementwise, its derivative, and its sum over a tile of natural parameters."""

    #: the s at which κ and κ' are zero: where a tile puts its self-dyads
    nothing: ClassVar[float]

    def __call__(self, s: Tensor) -> Tensor:
        raise NotImplementedError

    def mean(self, s: Tensor) -> Tensor:
        """κ'(s)."""
        raise NotImplementedError

    def in_tile(self, s: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(κ'(s), what :meth:`sum` needs); may use the memory of s."""
        raise NotImplementedError

    def sum(self, terms: tuple[Tensor, ...], dim: int | None = None) -> Tensor:
        """Sum of κ(s) over the tile (dim None), or along its rows (-1) or columns (-2)."""
        raise NotImplementedError


class _Softplus(Cumulant):
    nothing = -torch.inf

    def __call__(self, s: Tensor) -> Tensor:
        return softplus(s)

    def mean(self, s: Tensor) -> Tensor:
        return torch.sigmoid(s)

    def in_tile(self, s: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        p = torch.sigmoid(s)
        q = torch.rsub(p, 1.0)
        return p, (s.clamp_(min=0.0), torch.minimum(p, q, out=q))

    def sum(self, terms: tuple[Tensor, ...], dim: int | None = None) -> Tensor:
        """Sum of max(s, 0) - log(1 - q), q = sigmoid(-|s|).

        Four dyads share a logarithm: (1 - q1)(1 - q2) = 1 - (q1 + q2 - q1 q2), and that complement keeps the relative
        accuracy of small q, which the product itself loses.
        """
        positive, q = terms
        along = -2 if dim is None else dim
        quarter = q.shape[along] // 4
        rest = q.narrow(along, 4 * quarter, q.shape[along] - 4 * quarter)
        for size in (2 * quarter, quarter):
            x, y = q.narrow(along, 0, size), q.narrow(along, size, size)
            q = (x + y).addcmul_(x, y, value=-1.0)
        dims = (-2, -1) if dim is None else dim
        logs = q.neg().log1p_().sum(dims) + rest.neg().log1p_().sum(dims)
        return positive.sum(dims) - logs


class _Exponential(Cumulant):
    nothing = -torch.inf

    def __call__(self, s: Tensor) -> Tensor:
        return torch.exp(s)

    def mean(self, s: Tensor) -> Tensor:
        return torch.exp(s)

    def in_tile(self, s: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        rate = s.exp_()
        return rate, (rate,)

    def sum(self, terms: tuple[Tensor, ...], dim: int | None = None) -> Tensor:
        return terms[0].sum((-2, -1) if dim is None else dim)


class _HalfSquare(Cumulant):
    nothing = 0.0

    def __call__(self, s: Tensor) -> Tensor:
        return 0.5 * s * s

    def mean(self, s: Tensor) -> Tensor:
        return s

    def in_tile(self, s: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return s, (s,)

    def sum(self, terms: tuple[Tensor, ...], dim: int | None = None) -> Tensor:
        return 0.5 * terms[0].square().sum((-2, -1) if dim is None else dim)


SOFTPLUS, EXPONENTIAL, HALF_SQUARE = _Softplus(), _Exponential(), _HalfSquare()
