"""Binary node features given embeddings: independent Bernoulli columns with linear log odds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

__all__ = ["BernoulliFeatures"]


class BernoulliFeatures(TorchDistribution):
    r"""X_nd ~ Bernoulli(sigmoid(w_d' z_n + w_d0)), one event per node.

    The same density as ``Bernoulli(logits=...).to_event(1)``; it keeps the factors, so that a change of one node's
    embedding can be priced without forming it anew for all columns, and takes a sparse value.

    Arguments:
        factors: z, (..., N, K).
        weight: w, (D, K).
        bias: w_0, (D,).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_enumerate_support = False

    def __init__(
        self, factors: Tensor, weight: Tensor, bias: Tensor, *, validate_args: bool | None = None
    ) -> None:
        self.factors, self.weight, self.bias = factors, weight, bias
        super().__init__(factors.shape[:-1], weight.shape[:1], validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, 1)

    @property
    def logits(self) -> Tensor:
        return F.linear(self.factors, self.weight, self.bias)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> BernoulliFeatures:
        shape = torch.Size(batch_shape) + self.factors.shape[-1:]
        return BernoulliFeatures(self.factors.expand(shape), self.weight, self.bias)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., N) from (N, D), dense or sparse COO."""
        logits = self.logits
        absent = -F.softplus(logits, threshold=50.0).sum(-1)
        if value.layout == torch.sparse_coo:
            value = value.coalesce()
            rows, columns = value.indices()
            hits = logits[..., rows, columns] * value.values()
            return absent.index_add(-1, rows, hits)
        return absent + (logits * value).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            p = torch.sigmoid(self.logits)
            return torch.bernoulli(p.expand(torch.Size(sample_shape) + p.shape))
