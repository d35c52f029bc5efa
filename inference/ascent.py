"""One step up, for the stories of many graphs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..models.processes import Processes
from .elbo import InferenceError
from .job import average_gradients
from .optimizer_state import optimizer_tensors, put_optimizer

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
        self._adam = torch.optim.Adam(self._parameters, lr=learning_rate, fused=True)
        self._steps = steps
        self._fall = torch.optim.lr_scheduler.LambdaLR(self._adam, self._rate)

    def _rate(self, step: int) -> float:
        """The learning rate in a step, as a share of the first."""
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, step / self._steps)))

    def step(self, objective: Tensor, epoch: int) -> None:
        """Raise the objective, in an epoch counted from 1.

        Raises:
            InferenceError: a gradient that is not finite; the parameters are left as they are.
        """
        self._adam.zero_grad(set_to_none=True)
        (-objective).backward()
        average_gradients(self._parameters, Processes.of_the_job())
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if not bool(torch.isfinite(norm)):
            raise InferenceError(
                f"the gradient is not finite in epoch {epoch}: lower learning_rate"
            )
        self._adam.step()
        self._fall.step()

    def tensors(self) -> dict[str, Tensor]:
        """What there is to remember, for a checkpoint."""
        found = optimizer_tensors(self._adam)
        return found | {"steps": torch.tensor(self._fall.last_epoch)}

    def put(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of :meth:`tensors`."""
        put_optimizer(self._adam, {k: v for k, v in tensors.items() if k != "steps"})
        state = self._fall.state_dict()
        step = int(tensors["steps"])
        rates = [base * self._rate(step) for base in self._fall.base_lrs]
        self._fall.load_state_dict({**state, "last_epoch": step, "_last_lr": rates})
        for group, rate in zip(self._adam.param_groups, rates, strict=True):
            group["lr"] = rate
