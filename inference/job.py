"""The processes that ``torchrun`` started, joined in one fit: who they are, and how their weights stay the same."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from ..models.processes import Processes, sharing
from .elbo import InferenceError

__all__ = [
    "average_gradients",
    "batches_for",
    "check_shares",
    "join_job",
    "lost_is_told",
    "own_device",
    "own_noise",
    "same_everywhere",
    "was_restarted",
]


def join_job(device: str | torch.device) -> Processes:
    """Join the other processes of a ``torchrun`` job, the first time; alone if nobody started any.

    Arguments:
        device: where the fit runs: processes talk by NCCL on CUDA devices, by gloo elsewhere.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if launched and not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        store, rank, size = next(rendezvous("env://"))
        # torchrun's store outlives a restart, and with it the addresses of processes that are gone
        fresh = dist.PrefixStore(
            f"restart_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store
        )
        backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=size)
        atexit.register(_leave)
    return Processes.of_the_job()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def own_device(device: str) -> torch.device:
    """The device of this process: of "cuda" the card with its local rank."""
    found = torch.device(device)
    if found.type == "cuda" and found.index is None and Processes.of_the_job().count > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return found


def was_restarted() -> bool:
    """Whether torchrun has started this job anew, after a process was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def lost_is_told(processes: Processes, checkpoint: Path | None) -> Iterator[None]:
    """Share the work of the block; a process that is lost ends it with words.

    Arguments:
        processes: of the job.
        checkpoint: what there is to go on from; None: nothing is written.

    Raises:
        InferenceError: another process is gone.
    """
    try:
        with sharing(processes):
            yield
    except InferenceError:
        raise
    except RuntimeError as error:
        if processes.count == 1 or not _is_of_the_network(error):
            raise
        kept = (
            "no checkpoint is kept without a folder"
            if checkpoint is None
            else f"resume goes on from {checkpoint}"
        )
        raise InferenceError(
            f"process {processes.rank} of {processes.count} has lost another one ({str(error).splitlines()[0]}): "
            f"{kept}; torchrun --max-restarts=3 starts the job anew and resumes by itself"
        ) from error


def _is_of_the_network(error: RuntimeError) -> bool:
    words = ("connection", "gloo", "nccl", "timed out", "socket")
    return isinstance(error, dist.DistBackendError) or any(w in str(error).lower() for w in words)


def same_everywhere(weights: Iterable[Tensor], processes: Processes) -> None:
    """Give every process the first one's numbers, in place."""
    if processes.count > 1:
        for weight in weights:
            dist.broadcast(weight.detach(), 0)


def average_gradients(parameters: Iterable[Tensor], processes: Processes) -> None:
    """The mean of the processes' gradients in each of them, so that weights stay equal to the last bit."""
    if processes.count == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    processes.add(flat)
    flat /= processes.count
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def batches_for(
    processes: Processes, graphs: int, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, float]]:
    """Random batches of one epoch: of each, this process's graphs, and what their mean counts for.

    The mean over processes of count times mean is that of one process on the whole batch.
    """
    order = torch.randperm(graphs, device=device)
    same_everywhere([order], processes)
    for chosen in order.split(batch_size):
        mine = chosen[processes.rank :: processes.count]
        yield mine, processes.count * len(mine) / len(chosen)


def check_shares(processes: Processes, graphs: int, batch_size: int) -> None:
    """Refuse batches of which a process would get no graph.

    Raises:
        ValueError: as said.
    """
    least = min(graphs % batch_size or batch_size, batch_size)
    if least < processes.count:
        raise ValueError(
            f"{processes.count} processes cannot share a step of {least} graphs ({graphs} graphs in steps of "
            f"{batch_size}): choose another batch_size, or start fewer processes"
        )


def own_noise(processes: Processes, *seeds: int) -> None:
    """Random numbers of its own for every process but the first, which goes on with those it has."""
    if processes.rank:
        state = np.random.SeedSequence((processes.rank, *seeds)).generate_state(1)
        torch.manual_seed(int(state[0]))
