"""What a checkpoint keeps besides weights, as tensors: an optimiser's moments and the state of the generators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["optimizer_tensors", "put_optimizer", "put_random", "random_tensors"]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter, by "number.name"."""
    return {
        f"{i}.{name}": torch.as_tensor(value)
        for i, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def put_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of :func:`optimizer_tensors`."""
    found = optimizer.state_dict()
    for key, tensor in tensors.items():
        i, _, name = key.partition(".")
        # torch keeps the step counter of Adam on the CPU
        found["state"].setdefault(int(i), {})[name] = tensor.cpu() if name == "step" else tensor
    optimizer.load_state_dict(found)


def random_tensors(device: str | torch.device) -> dict[str, Tensor]:
    """The state of torch's generator, and of that of the device where there is one: "random", "random_device"."""
    found = {"random": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        found["random_device"] = torch.cuda.get_rng_state(device)
    return found


def put_random(tensors: Mapping[str, Tensor], device: str | torch.device) -> None:
    """The inverse of :func:`random_tensors`."""
    torch.set_rng_state(tensors["random"].cpu())
    if "random_device" in tensors and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(tensors["random_device"].cpu(), device)
