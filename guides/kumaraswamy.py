"""The Kumaraswamy distribution of the guides' sticks, stable at both ends, and its divergence from the Beta prior.

References:
    | Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), equation 7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import Beta, TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl

__all__ = ["Kumaraswamy"]

_EULER = 0.5772156649015329
# the Riemann zeta function at 2, 3, ..., 9
_ZETA = (
    1.6449340668482264,
    1.2020569031595943,
    1.0823232337111382,
    1.0369277551433699,
    1.0173430619844491,
    1.0083492773819228,
    1.0040773561979443,
    1.0020083928260822,
)


class Kumaraswamy(TorchDistribution):
    r"""Density :math:`c\,d\,v^{c-1}(1 - v^c)^{d-1}` on (0, 1), reparameterised by :math:`v = (1 - u^{1/d})^{1/c}`.

    Draws and densities go through log v and log(1 - v^c), so that no extreme c or d gives 0, 1, NaN or infinity.

    Arguments:
        c, d: positive concentrations, broadcast against each other.
    """

    arg_constraints = {"c": constraints.positive, "d": constraints.positive}  # noqa: RUF012
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, c: Tensor, d: Tensor, *, validate_args: bool | None = None) -> None:
        self.c, self.d = torch.broadcast_tensors(c, d)
        super().__init__(self.c.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Kumaraswamy:
        shape = torch.Size(batch_shape)
        return Kumaraswamy(self.c.expand(shape), self.d.expand(shape))

    @property
    def mean(self) -> Tensor:
        a = 1.0 + 1.0 / self.c
        return torch.exp(torch.log(self.d) + torch.lgamma(a) - _log_rising(self.d, a))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        info = torch.finfo(self.c.dtype)
        shape = self._extended_shape(sample_shape)
        u = torch.rand(shape, dtype=self.c.dtype, device=self.c.device)
        log_u = torch.log(u.clamp(info.tiny, 1.0 - info.eps))
        log_v_c = torch.log(-torch.expm1((log_u / self.d).clamp(max=-info.tiny)))
        return torch.exp(log_v_c / self.c).clamp(info.tiny, 1.0 - info.eps)

    def log_prob(self, value: Tensor) -> Tensor:
        info = torch.finfo(self.c.dtype)
        log_v = torch.log(value.clamp(info.tiny, 1.0 - info.eps))
        log_rest = torch.log(-torch.expm1((self.c * log_v).clamp(max=-info.tiny)))
        return (
            torch.log(self.c) + torch.log(self.d) + (self.c - 1) * log_v + (self.d - 1) * log_rest
        )


@register_kl(Kumaraswamy, Beta)
def _kl_kumaraswamy_beta(q: Kumaraswamy, p: Beta) -> Tensor:
    """KL(Kumaraswamy(c, d) || Beta(alpha, 1)), closed because v^c is Beta(1, d)."""
    alpha = p.concentration1
    if not bool((p.concentration0 == 1.0).all()):
        raise NotImplementedError("closed only for the stick-breaking prior Beta(alpha, 1)")
    mean_log_v = -_harmonic(q.d) / q.c
    return (
        torch.log(q.c)
        + torch.log(q.d)
        - torch.log(alpha)
        + (q.c - alpha) * mean_log_v
        - (q.d - 1.0) / q.d
    )


def _harmonic(d: Tensor) -> Tensor:
    """Euler's constant plus digamma(d + 1), to full relative precision: near d = 0 the two cancel.

    There the series sum_k (-1)^(k + 1) zeta(k + 1) d^k, where its ninth term is below the rounding of the first.
    """
    limit = torch.finfo(d.dtype).eps ** (1.0 / len(_ZETA))
    small, series = d.clamp(max=limit), torch.zeros_like(d)
    for coefficient in reversed(_ZETA):
        series = coefficient - small * series
    direct = _EULER + torch.digamma(d.clamp(min=limit) + 1.0)
    return torch.where(d < limit, small * series, direct)


def _log_rising(d: Tensor, a: Tensor) -> Tensor:
    """log Gamma(d + a) - log Gamma(d), where the two are large and nearly equal by Stirling's series of both."""
    x = d.clamp(min=10.0)
    u, w = 1.0 / x, 1.0 / (x + a)
    rest = (w - u) / 12.0 - (w**3 - u**3) / 360.0 + (w**5 - u**5) / 1260.0 - (w**7 - u**7) / 1680.0
    series = (x - 0.5) * torch.log1p(a / x) + a * torch.log(x + a) - a + rest
    return torch.where(d < 10.0, torch.lgamma(d + a) - torch.lgamma(d), series)


def matching_beta(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(c, d) of the Kumaraswamy whose log v has the mean and variance that it has under Beta(a, b), (K,) each.

    With X = v^c ~ Beta(1, d), log v = log X / c; mean^2 / variance of log X rises with d and is inverted by bisection.
    """
    a, b = a.double(), b.double()
    mean = torch.digamma(a) - torch.digamma(a + b)
    variance = torch.polygamma(1, a) - torch.polygamma(1, a + b)
    one = torch.ones_like(a)

    def moments(log_d: Tensor) -> tuple[Tensor, Tensor]:
        rest = 1.0 + log_d.exp()
        return (
            torch.digamma(one) - torch.digamma(rest),
            torch.polygamma(1, one) - torch.polygamma(1, rest),
        )

    low, high = -12.0 * one, 60.0 * one
    for _ in range(80):
        middle = 0.5 * (low + high)
        m, s = moments(middle)
        below = m**2 / s < mean**2 / variance
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    c = moments(middle)[0] / mean
    return c.float(), middle.exp().float()
