"""How memberships may be had differentiable: the binary Concrete relaxation, in logit space, and straight-through.

References:
    | The Concrete Distribution (Maddison, Mnih and Teh, 2017), appendix C.3
    | Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation (Bengio, Leonard and
      Courville, 2013)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Bernoulli, TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

__all__ = ["Concrete", "LogitConcrete", "StraightThrough", "StraightThroughBernoulli"]


@dataclass(frozen=True)
class Concrete:
    """Ask a story or a guide to relax its memberships at this temperature.

    The relaxed site is ``membership_logits``, y ~ :class:`LogitConcrete`, and ``memberships`` becomes the
    deterministic sigmoid(y) in (0, 1). Rounding it gives back the exact Bernoulli, whatever the temperature.
    """

    temperature: float

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"a Concrete temperature is positive, not {self.temperature}")


@dataclass(frozen=True)
class StraightThrough:
    """Ask a guide for exact memberships with straight-through gradients; a story is told as without it.

    The site stays ``memberships``, and its value is 0 or 1. Only its derivative is made up.
    """


class StraightThroughBernoulli(Bernoulli):
    r"""Bernoulli draws b in {0, 1} with the derivative of their probabilities: db/dlogits := sigmoid'(logits).

    The density is that of the Bernoulli. Gradients of an expectation through such draws are biased, unless what is
    averaged is linear in every b.
    """

    has_rsample = True

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        p = self.probs.expand(self._extended_shape(sample_shape))
        # p - p is exactly 0, so that the value is exactly the draw; (b + p) - p would round
        return torch.bernoulli(p.detach()) + (p - p.detach())


class LogitConcrete(TorchDistribution):
    r"""y = (logits + L) / t with L ~ Logistic(0, 1); sigmoid(y) is binary Concrete.

    .. math:: \log p(y) = \log t + d - 2\,\mathrm{softplus}(d), \quad d = \mathrm{logits} - t y

    The density is finite for all finite y, which that of the relaxed variable in (0, 1) is not in float32.

    Arguments:
        temperature: t > 0.
        logits: log odds of the relaxed Bernoulli, any shape.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012 - torch's own idiom
    support = constraints.real
    has_rsample = True

    def __init__(
        self, temperature: float, logits: Tensor, *, validate_args: bool | None = None
    ) -> None:
        self.temperature, self.logits = float(temperature), logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> LogitConcrete:
        return LogitConcrete(self.temperature, self.logits.expand(torch.Size(batch_shape)))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        u = torch.rand(
            self._extended_shape(sample_shape), dtype=self.logits.dtype, device=self.logits.device
        )
        u = u.clamp(torch.finfo(u.dtype).tiny, 1.0 - torch.finfo(u.dtype).eps)
        return (self.logits + torch.log(u) - torch.log1p(-u)) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        d = self.logits - self.temperature * value
        log_t = torch.log(d.new_tensor(self.temperature))
        return log_t + d - 2.0 * F.softplus(d, threshold=50.0)
