"""The laws of edges: there or not (Bernoulli), counts (Poisson), real weights (Normal)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .cumulants import EXPONENTIAL, HALF_SQUARE, SOFTPLUS, softplus
from .dyad_list import thinned
from .dyadic import Dyadic

__all__ = ["DyadicBernoulli", "DyadicNormal", "DyadicPoisson", "balanced_weights"]

_FEW = 2_000_000  # dyads up to which all are drawn one by one
_RARE = 1e-3  # probability up to which dyads are proposed; sparse graphs have few above it
_GATHERED = 1 << 18  # dyads whose factors are looked up at once


class DyadicBernoulli(Dyadic):
    r"""Edges that are there or not, :math:`A_{ij} \sim \mathrm{Bernoulli}(\sigma(s_{ij}))`.

    .. math::
        \log p(A) = \sum_{ij} w_1 A_{ij} \log\sigma(s_{ij}) + w_0 (1 - A_{ij}) \log\sigma(-s_{ij})

    Arguments:
        weights: (w_0, w_1), the weights of absent and of present dyads; (1, 1) is the Bernoulli density. Anything
            else tempers the likelihood.
        others: those of :class:`Dyadic`.
    """

    cumulant = SOFTPLUS

    def __init__(
        self,
        left: Tensor,
        right: Tensor | None = None,
        left_bias: Tensor | None = None,
        right_bias: Tensor | None = None,
        *,
        weights: tuple[float, float] = (1.0, 1.0),
        **others: Any,
    ) -> None:
        super().__init__(left, right, left_bias, right_bias, **others)
        self.weights = weights

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weights": self.weights}

    def untempered(self) -> DyadicBernoulli:
        """The same dyads with the weights (1, 1) of the Bernoulli density."""
        arguments: dict[str, Any] = {k: x for k, (x, _) in self._batched().items()}
        return DyadicBernoulli(**arguments, **Dyadic._options(self))

    @property
    def precision(self) -> float:
        return self.weights[0]

    @property
    def is_linear(self) -> bool:
        return self.weights == (1.0, 1.0)

    def link_probability(self, s: Tensor) -> Tensor:
        return torch.sigmoid(s)

    def _draw(self, s: Tensor) -> Tensor:
        return (torch.rand_like(s) < torch.sigmoid(s)).to(s.dtype)

    def _drawn_entries(self) -> tuple[Tensor, Tensor]:
        """One graph as edges in any order, and ones.

        In large graphs dyads above a small probability are drawn one by one. Of all dyads some are proposed at that
        rate, and those that are not above it kept in proportion to their probability (thinning): exact, with few
        random numbers.
        """
        if len(self.dyads) <= _FEW:
            return super()._drawn_entries()
        bound = math.log(_RARE) - math.log1p(-_RARE)
        # products in tiles round otherwise than those of listed pairs, which decide: none must be missed
        above = (pairs for pairs, _ in self._entries(lambda s: s > bound - 0.01))
        kept = [self._kept(part, 1.0, lambda s: s > bound) for part in _joined(above)]
        proposed = self.dyads.at(thinned(len(self.dyads), _RARE, self.left.device))
        for part in proposed.split(_GATHERED, dim=1):
            kept.append(self._kept(part, _RARE, lambda s: s <= bound))
        pairs = torch.cat(kept, 1)
        return pairs, self.left.new_ones(pairs.shape[1])

    def _kept(self, pairs: Tensor, rate: float, ours: Callable[[Tensor], Tensor]) -> Tensor:
        """Those of some dyads, proposed at a rate, that are edges."""
        s = self.logits(pairs)
        return pairs[:, ours(s) & (rate * torch.rand_like(s) < torch.sigmoid(s))]

    def _present_gain(self, s: Tensor, x: Tensor) -> Tensor:
        w0, w1 = self.weights
        return s if w0 == w1 == 1.0 else w0 * softplus(s) - w1 * softplus(-s)


class DyadicPoisson(Dyadic):
    r"""Counts, :math:`A_{ij} \sim \mathrm{Poisson}(e^{s_{ij}})`: multigraphs, and weights that are whole numbers.

    Arguments: those of :class:`Dyadic`.
    """

    cumulant = EXPONENTIAL

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.nonnegative_integer, 2)

    def link_probability(self, s: Tensor) -> Tensor:
        return -torch.expm1(-torch.exp(s))

    def _draw(self, s: Tensor) -> Tensor:
        return torch.poisson(torch.exp(s))

    def _present_gain(self, s: Tensor, x: Tensor) -> Tensor:
        return x * s - torch.lgamma(x + 1.0)


class DyadicNormal(Dyadic):
    r"""Real weights, :math:`A_{ij} \sim \mathrm{Normal}(s_{ij}, \tau^2)`; a dyad without an edge has the weight 0.

    Arguments:
        scale: tau, of the batch shape.
        others: those of :class:`Dyadic`.
    """

    cumulant = HALF_SQUARE

    def __init__(
        self,
        left: Tensor,
        right: Tensor | None = None,
        left_bias: Tensor | None = None,
        right_bias: Tensor | None = None,
        *,
        scale: Tensor,
        **others: Any,
    ) -> None:
        super().__init__(left, right, left_bias, right_bias, **others)
        self.scale = scale

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, 2)

    def _batched(self) -> dict[str, tuple[Tensor | None, int]]:
        return {**super()._batched(), "scale": (self.scale, 0)}

    @property
    def precision(self) -> Tensor:
        return self.scale**-2

    def link_probability(self, s: Tensor) -> Tensor:
        raise ValueError(
            "a Normal weight is never exactly zero, so that a dyad has no probability of being an edge: ask for the "
            "mean, or fit with likelihood='bernoulli' or 'poisson'"
        )

    def _draw(self, s: Tensor) -> Tensor:
        return s + self.scale[..., None, None] * torch.randn_like(s)

    def _present_gain(self, s: Tensor, x: Tensor) -> Tensor:
        return self.precision.unsqueeze(-1) * (x * s - 0.5 * x * x)

    def _absent_constant(self) -> Tensor:
        return -torch.log(self.scale) - 0.5 * math.log(2.0 * math.pi)


def _joined(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Short lists of dyads put together to longer ones."""
    held: list[Tensor] = []
    count = 0
    for part in parts:
        held.append(part)
        count += part.shape[1]
        if count >= _GATHERED:
            yield torch.cat(held, 1)
            held, count = [], 0
    if held:
        yield torch.cat(held, 1)


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
