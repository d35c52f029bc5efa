"""Fit a sequential story and its destructor to a set of graphs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..data import GraphSet
from ..guides.destructor import Destructor
from ..models.sgvae import SGVAE, check_types
from .ascent import Ascent
from .epochs import EpochCheckpoints
from .job import batches_for, check_shares, join_job, same_everywhere
from .sequential_fit import SequentialFit
from .sequential_settings import SequentialSettings
from .sequential_terms import surrogate, trace_terms

__all__ = ["fit_sequential"]

_log = logging.getLogger(__name__)


def fit_sequential(
    story: SGVAE,
    guide: Destructor,
    graphs: GraphSet,
    settings: SequentialSettings | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 10,
    callback: Callable[[int, SequentialFit], None] | None = None,
    **options: Any,
) -> SequentialFit:
    """Train story and guide together by stochastic gradients.

    The processes of a ``torchrun`` job share the graphs of every step. The terms ``information`` and ``marginal`` then
    compare a latent with those of its own process.

    Arguments:
        story: the constructor.
        guide: its destructor.
        graphs: the data.
        settings: or pass its fields as ``options``.
        folder: where a checkpoint goes after the first epoch, every ``checkpoint_every`` epochs and at the end; none is
            written without it. While the fit runs, no other process may write there.
        resume: go on from the checkpoint in ``folder``, to the same result as if never interrupted.
        checkpoint_every: epochs between checkpoints.
        callback: called with (epoch, fit) after every epoch, counted from 1.
        options: fields of :class:`SequentialSettings`, which replace those of ``settings``.

    Returns:
        the fit; story and guide are trained in place.

    Raises:
        ValueError: a setting out of range, graphs that do not fit the story.
        InferenceError: a loss that is not finite; a folder that cannot be written to, or that another process
            writes to; a checkpoint that is missing, damaged or of another fit.
    """
    settings = SequentialSettings(**{**asdict(settings or SequentialSettings()), **options})
    batch = graphs.batch()
    check_types(story, batch)
    if settings.baseline == "guide" and guide.baseline is None:
        raise ValueError(
            "baseline='guide' needs a destructor with one: Destructor(story, baseline='neural')"
        )
    device = story.prior().base_dist.loc.device
    batch = batch.to(device)
    fit = SequentialFit(story, guide, settings, graphs=graphs)
    pair = fit.pair
    processes = join_job(device)
    size = len(batch) if settings.batch_size is None else min(settings.batch_size, len(batch))
    check_shares(processes, len(batch), size)
    same_everywhere(pair.parameters(), processes)
    steps = settings.epochs * math.ceil(len(batch) / size)
    ascent = Ascent(pair.parameters(), settings.learning_rate, settings.clip, steps)
    checkpoints = EpochCheckpoints(
        pair, ascent, asdict(settings), graphs, folder, device, checkpoint_every
    )
    with checkpoints.running(resume, fit.history) as (left, start):
        for epoch in left:
            kl_weight = min(1.0, epoch / settings.warmup) if settings.warmup else 1.0
            sums: dict[str, float] = {}
            for mine, weight in batches_for(processes, len(batch), size, device):
                terms = trace_terms(pair, batch.select(mine), settings.orders)
                objective = weight * surrogate(
                    terms,
                    kl_weight=kl_weight,
                    information=settings.information,
                    marginal=kl_weight * settings.marginal,
                    baseline=settings.baseline,
                )
                ascent.step(objective, epoch + 1)
                with torch.no_grad():
                    parts = {
                        "elbo": terms.log_weight,
                        "log_likelihood": terms.log_likelihood,
                        "kl_latent": terms.log_latent - terms.log_prior,
                        "order_entropy": -terms.log_order,
                        "information": terms.log_latent - terms.log_mixture(),
                    }
                for name, value in parts.items():
                    share = float(value.detach().mean()) * len(mine) / len(batch)
                    sums[name] = sums.get(name, 0.0) + share
            sums = dict(zip(sums, processes.total(list(sums.values())), strict=True))
            sums["seconds"] = time.perf_counter() - start
            for name, total in sums.items():
                fit.history.setdefault(name, []).append(total)
            _log.info("epoch %d: ELBO %.3f", epoch + 1, sums["elbo"])
            if callback is not None:
                callback(epoch + 1, fit)
            checkpoints.save_if_due(epoch + 1, fit.history)
    return fit
