"""Stories without a latent, told of graphs in an order: maximum likelihood, and the marginal over orders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pyro import poutine
from torch import Tensor

from ..data import GraphBatch, GraphSet
from ..data.orders import NodeOrder, canonical_orders, random_orders
from ..models.base import check_count
from ..models.sggn import SGGN
from ..models.sgvae import check_types
from .ascent import Ascent
from .epochs import EpochCheckpoints
from .job import batches_for, check_shares, join_job, same_everywhere
from .sequential_fit import SequentialFit
from .sequential_settings import OrderedSettings
from .sequential_terms import site_log_probs

__all__ = ["fit_ordered", "log_prob_ordered", "marginal_over_orders"]


def log_prob_ordered(story: SGGN, batch: GraphBatch) -> Tensor:
    """(B,) log p of the graphs in the order their nodes have."""
    trace = poutine.trace(story).get_trace(batch)
    trace.compute_log_prob()
    return torch.stack(site_log_probs(trace, "add_node_", "add_edge_", "partner_")).sum(0)


@torch.no_grad()
def marginal_over_orders(story: SGGN, graphs: GraphSet, orders: int = 100) -> Tensor:
    """(G,) float64 estimate of log sum over pi of p(x^pi), from uniformly random orders.

    In expectation a lower bound, which rises to the sum with the number of orders; a node's edges come in the order
    of their partners (:class:`~graphlore.models.SGGN`), which leaves out other orders of the same edges.

    Raises:
        ValueError: fewer than one order, graphs that do not fit the story.
    """
    check_count("orders", orders, "the number of sampled orders a graph")
    batch = graphs.batch().to(story.embed.weight.device)
    rows = [log_prob_ordered(story, batch.reorder(random_orders(batch))) for _ in range(orders)]
    values = torch.stack(rows).double().logsumexp(0) - math.log(orders)
    return values + torch.lgamma(batch.num_nodes.double() + 1)


def fit_ordered(
    story: SGGN,
    graphs: GraphSet,
    order: NodeOrder | Literal["random"] | None = None,
    *,
    settings: OrderedSettings | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 10,
    callback: Callable[[int, SequentialFit], None] | None = None,
    **options: Any,
) -> SequentialFit:
    """Maximum likelihood of graphs in a canonical order, or in a fresh uniformly random one a graph and step.

    The processes of a ``torchrun`` job share the graphs of every step.
    With random orders the objective is, up to log n!, a lower bound on the log of the marginal over orders.

    Arguments:
        story: trained in place.
        graphs: the data.
        order: "breadth-first", "depth-first", "given" or "random", in place of that of ``settings``.
        settings: or pass its fields as ``options``.
        folder: where a checkpoint goes after the first epoch, every ``checkpoint_every`` epochs and at the end; none is
            written without it. While the fit runs, no other process may write there.
        resume: go on from the checkpoint in ``folder``, to the same result as if never interrupted.
        checkpoint_every: epochs between checkpoints.
        callback: called with (epoch, fit) after every epoch, counted from 1.
        options: fields of :class:`OrderedSettings`, which replace those of ``settings``.

    Returns:
        the fit, its history the means over each epoch: "log_prob" and "seconds" since the start.

    Raises:
        ValueError: an unknown order, a number out of range, graphs that do not fit the story.
        InferenceError: a gradient that is not finite; a folder that cannot be written to, or that another process
            writes to; a checkpoint that is missing, damaged or of another fit.
    """
    if order is not None:
        options["order"] = order
    settings = OrderedSettings(**{**asdict(settings or OrderedSettings()), **options})
    batch = graphs.batch()
    check_types(story, batch)
    if settings.order != "random":
        batch = batch.reorder(canonical_orders(graphs, settings.order))
    device = story.embed.weight.device
    batch = batch.to(device)
    same = None if settings.order == "random" else _Distinct(batch)
    processes = join_job(device)
    size = min(settings.batch_size, len(batch))
    check_shares(processes, len(batch), size)
    same_everywhere(story.parameters(), processes)
    steps = settings.epochs * math.ceil(len(batch) / size)
    ascent = Ascent(story.parameters(), settings.learning_rate, settings.clip, steps)
    fit = SequentialFit(story, None, settings, {"log_prob": [], "seconds": []}, graphs)
    checkpoints = EpochCheckpoints(
        story, ascent, asdict(settings), graphs, folder, device, checkpoint_every
    )
    with checkpoints.running(resume, fit.history) as (left, start):
        for epoch in left:
            total = 0.0
            for mine, weight in batches_for(processes, len(batch), size, device):
                if same is None:
                    part = batch.select(mine)
                    log_prob = log_prob_ordered(story, part.reorder(random_orders(part))).sum()
                else:
                    log_prob = same.log_prob(story, mine)
                ascent.step(weight / len(mine) * log_prob, epoch + 1)
                total += float(log_prob.detach())
            fit.history["log_prob"].append(processes.total([total])[0] / len(batch))
            fit.history["seconds"].append(time.perf_counter() - start)
            if callback is not None:
                callback(epoch + 1, fit)
            checkpoints.save_if_due(epoch + 1, fit.history)
    return fit


class _Distinct:
    """Graphs in one order each: those that are equal have one log p, found once a step."""

    def __init__(self, batch: GraphBatch) -> None:
        self.graphs, self.which = batch.distinct()

    def log_prob(self, story: SGGN, some: Tensor) -> Tensor:
        """Sum of log p over some of the graphs, by their ids."""
        ids, times = self.which[some].unique(return_counts=True)
        log_prob = log_prob_ordered(story, self.graphs.select(ids))
        return log_prob @ times.to(log_prob)
