"""The stick-breaking construction of the Indian buffet process, shared by LFRM and DGLFRM.

.. math::
    v_k \\sim \\mathrm{Beta}(\\alpha, 1), \\qquad
    \\pi_k = \\prod_{j \\le k} v_j, \\qquad b_{nk} \\sim \\mathrm{Bernoulli}(\\pi_k)

References:
    | Stick-breaking Construction for the Indian Buffet Process (Teh, Gorur and Ghahramani, 2007)
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["activation_logits", "activation_probabilities", "expected_active"]


def activation_probabilities(sticks: Tensor) -> Tensor:
    """pi_k, the running product of the sticks: (..., K) -> (..., K), not increasing along the last axis."""
    return _log_activation(sticks).exp()


def activation_logits(sticks: Tensor) -> Tensor:
    """log pi_k / (1 - pi_k), (..., K) -> (..., K), finite for every v in [0, 1] and any truncation."""
    log_pi = _log_activation(sticks)
    # one rounding unit below zero keeps log(1 - pi) finite when all sticks are 1
    log_pi = log_pi.clamp(max=-torch.finfo(log_pi.dtype).eps)
    return log_pi - torch.log(-torch.expm1(log_pi))


def expected_active(alpha: float, truncation: int) -> float:
    """Prior expectation of the number of communities of a node, sum_k (alpha / (alpha + 1))^k."""
    ratio = alpha / (alpha + 1.0)
    return sum(ratio**k for k in range(1, truncation + 1))


def _log_activation(sticks: Tensor) -> Tensor:
    return torch.cumsum(torch.log(sticks.clamp(min=torch.finfo(sticks.dtype).tiny)), dim=-1)
