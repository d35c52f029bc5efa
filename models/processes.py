"""Processes that tell one story of one graph together: each sums over its share of the dyads, then the sums are added.

Everything else (the guide, the corrections along lists of edges, the optimiser) every process does for itself, on the
same random numbers. Sharing out is therefore a matter of the loops over tiles alone, and value and gradient are those
of one process up to the order in which floating-point numbers are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Processes", "processes_for", "sharing"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """The processes of a job, as torch.distributed counts them; alone unless several have been started.

    Attributes:
        rank: which this one is, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_the_job(cls) -> Processes:
        """Those of the default process group, where there is one."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """This process's part of a list, every ``count``-th: neighbouring tiles cost about the same."""
        return items[self.rank :: self.count]

    def part(self, size: int) -> slice:
        """This process's part of so many numbers, next to each other."""
        return slice(self.rank * size // self.count, (self.rank + 1) * size // self.count)

    def add(self, *tensors: Tensor | None) -> None:
        """Sum tensors over all processes, in place; every process has to come here with the same shapes.

        Raises:
            RuntimeError: another process is gone.
        """
        if self.count > 1:
            for tensor in tensors:
                if tensor is not None:
                    dist.all_reduce(tensor)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Numbers summed over all processes."""
        if self.count == 1:
            return list(numbers)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        summed = torch.tensor(numbers, dtype=torch.float64, device=device)
        self.add(summed)
        return summed.tolist()


_ALONE = Processes()
_active: ContextVar[Processes] = ContextVar("processes", default=_ALONE)


def processes_for(pieces: int) -> Processes:
    """Who shares a loop over so many pieces: all processes of the block, or this one alone if some would idle."""
    processes = _active.get()
    return processes if pieces >= processes.count else _ALONE


@contextmanager
def sharing(processes: Processes) -> Iterator[None]:
    """Share out the sums over dyads for the length of a block. All of the processes must run the same block."""
    token = _active.set(processes)
    try:
        yield
    finally:
        _active.reset(token)
