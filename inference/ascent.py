"""One step up, for the stories of many graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .elbo import InferenceError

__all__ = ["Ascent"]


class Ascent:
    """Adam, its learning rate falling to a tenth along a half cosine, with clipped gradients.

    Arguments:
        parameters: what is moved.
        learning_rate: the first.
        clip: largest norm of the gradient.
        steps: over which the rate falls.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, clip: float, steps: int
    ) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._clip = clip
        self._adam = torch.optim.Adam(self._parameters, lr=learning_rate)
        self._fall = torch.optim.lr_scheduler.LambdaLR(
            self._adam, lambda step: 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        )

    def step(self, objective: Tensor, epoch: int) -> None:
        """Raise the objective, in an epoch counted from 1.

        Raises:
            InferenceError: a gradient that is not finite; the parameters are left as they are.
        """
        self._adam.zero_grad(set_to_none=True)
        (-objective).backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if not bool(torch.isfinite(norm)):
            raise InferenceError(
                f"the gradient is not finite in epoch {epoch}: lower learning_rate"
            )
        self._adam.step()
        self._fall.step()
