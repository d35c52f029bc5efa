"""Fit a sequential story and its destructor to a set of graphs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..data import GraphSet
from ..guides.destructor import Destructor, Reordered
from ..models.sgvae import SGVAE, check_types
from .ascent import Ascent
from .epochs import EpochCheckpoints
from .job import batches_for, check_shares, join_job, same_everywhere
from .sequential_terms import Baseline, surrogate, trace_terms

__all__ = ["SequentialFit", "SequentialSettings", "fit_sequential"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SequentialSettings:
    r"""How :func:`fit_sequential` climbs.

    With ``information`` and ``marginal`` 0 and after the warm-up the objective is the ELBO; see
    :func:`~graphlore.inference.sequential_terms.surrogate`.

    Attributes:
        epochs: passes over the graphs.
        batch_size: graphs a step; None takes all of them.
        orders: sampled construction orders a graph and step.
        learning_rate: of Adam; falls to a tenth along a half cosine.
        warmup: epochs over which the weight of the KL terms (that of ``marginal`` among them) rises linearly from 0.
        information: weight :math:`\alpha` of the mutual-information term.
        marginal: further weight :math:`\lambda` of KL(q(z) || p(z)). With either the objective is not a bound.
        baseline: of the REINFORCE terms: "step" or "order", from the other orders of a graph; "guide", the
            destructor's own; or "none".
        clip: largest norm of the gradient.
        seed: of everything random.
    """

    epochs: int = 400
    batch_size: int | None = 25
    orders: int = 4
    learning_rate: float = 3e-3
    warmup: int = 100
    information: float = 0.0
    marginal: float = 0.0
    baseline: Baseline = "step"
    clip: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("orders", 1),
            ("warmup", 0),
            ("information", 0),
            ("marginal", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is positive, not {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is None or at least 1, not {self.batch_size}")
        if self.baseline not in ("step", "order", "guide", "none"):
            raise ValueError(
                f"baseline is 'step', 'order', 'guide' or 'none', not {self.baseline!r}"
            )
        if self.baseline in ("step", "order") and self.orders < 2:
            raise ValueError(f"baseline={self.baseline!r} needs at least two orders a graph")


@dataclass
class SequentialFit:
    """What came out.

    Attributes:
        story, guide: trained.
        settings: as given.
        history: means over each epoch: "elbo" (the bound itself, whatever was climbed), "log_likelihood", "kl_latent",
            "order_entropy", "information" (of the guide, within a step's batch), and "seconds" since the start.
    """

    story: SGVAE
    guide: Destructor
    settings: SequentialSettings
    history: dict[str, list[float]] = field(default_factory=dict)

    @property
    def pair(self) -> Reordered:
        """Story and guide as programs with one argument."""
        return Reordered(self.story, self.guide)

    def attributes(self) -> dict[str, Any]:
        """The settings, and whether the objective was the ELBO."""
        return {
            **asdict(self.settings),
            "objective_is_elbo": self.settings.information == self.settings.marginal == 0,
        }


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
        folder: where a checkpoint goes every ``checkpoint_every`` epochs and at the end; none is written without it.
            While the fit runs, no other process may write there.
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
    fit = SequentialFit(story, guide, settings)
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
