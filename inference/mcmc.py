"""MCMC for node-level stories: the posterior without a guide, for graphs small enough to wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch

from ..data import Graph
from ..models.base import NodeStory
from .draws import chunk_size, conditioned_traces, evaluation_mode
from .groups import DrawGroups, groups_to_arviz
from .joint import Joint, Values
from .kernel import GibbsNUTS
from .numbering import order_in_words
from .posterior import as_attribute, environment
from .progress import ProgressBar
from .seeds import seeded

__all__ = ["fit_mcmc"]

_HOTTEST = 0.1  # power of the likelihood that annealing starts at


def fit_mcmc(
    story: NodeStory,
    graph: Graph,
    *,
    draws: int = 1000,
    warmup: int = 500,
    chains: int = 4,
    seed: int = 0,
    predictive_draws: int | None = None,
    progress: bool | None = None,
    **kernel: Any,
) -> Any:
    """Draw from the posterior of a story by Markov chains of :class:`GibbsNUTS`, in float64 on the CPU.

    A sweep costs O(N^2 F) for N nodes with F factors, times K for bits: this is for hundreds of nodes. Networks of a
    story (the decoder of DGLFRM) keep the weights that they have. The numbering of communities is not identified: read
    what does not depend on it, or give the draws one numbering first (:func:`align_posterior`). Chains may hold
    different modes; see :func:`mcmc_diagnostics`.

    Arguments:
        story: how the graph came about; it is not changed.
        graph: what is observed.
        draws: of each chain, kept.
        warmup: sweeps of each chain before them, which adapt the kernel and are thrown away. In the first half of them
            memberships are drawn under a power of the likelihood that rises from 0.1 to 1 (annealing), unless
            ``initial`` has some: from random starts, chains would else stay in the first mode they meet.
        chains: run one after another, each from a random start.
        seed: of everything random.
        predictive_draws: how many draws of each chain draw a graph too; all if None.
        progress: show a bar; None: only on a terminal.
        kernel: options of :class:`GibbsNUTS`: step_size, target_accept, max_tree_depth, relabel, initial.

    Returns:
        ArviZ data as :meth:`Fit.posterior` gives it, with dimensions (chain, draw), and the group ``sample_stats``:
        ``lp``, the log joint density of the draw (nats), and ``diverging``, whether NUTS diverged, where it was used.

    Raises:
        ValueError: numbers of draws out of range; a story that is relaxed, tempered or has no posterior.
        GraphError: a graph too large for dense matrices.
    """
    for name, value, least in (("draws", draws, 1), ("warmup", warmup, 0), ("chains", chains, 1)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, not {value!r}")
    wanted = draws if predictive_draws is None else min(draws, predictive_draws)
    with seeded(seed):
        Joint(story, graph)  # what is refused is refused before any work starts
    seeds = np.random.SeedSequence(seed).generate_state(chains)
    groups, statistics = [], []
    bar = ProgressBar.choose(chains * (warmup + draws), progress, ("MCMC", "log joint"))
    with bar, pyro.get_param_store().scope():
        report = _reporter(bar)
        for chain_seed in seeds.tolist():
            with seeded(chain_seed):
                sampler = GibbsNUTS(story, **kernel)
                values, found = _run_chain(sampler, graph, draws, warmup, report)
                groups.append(_groups(sampler.joint, values, draws, wanted))
            statistics.append(found)
    stats = {name: np.stack([s[name] for s in statistics]) for name in statistics[0]}
    attrs: dict[str, Any] = {
        "story": type(story).__name__,
        "story_options": story.options,
        "graph": graph.title,
        "graph_fingerprint": graph.fingerprint(),
        "tempered": "no",
        "inference": "MCMC",
        "communities_order": order_in_words(story, "chains"),
        "warmup": warmup,
        "seed": seed,
        **{name: story.options[name] for name in ("alpha", "truncation") if name in story.options},
        **groups[0].unit,
        **environment(),
    }
    return groups_to_arviz(groups, {k: as_attribute(v) for k, v in attrs.items()}, stats)


def _run_chain(
    kernel: GibbsNUTS,
    graph: Graph,
    draws: int,
    warmup: int,
    report: Callable[[GibbsNUTS, float], None],
) -> tuple[Values, dict[str, np.ndarray]]:
    """(latents by site, (draws, ...) each; sample statistics, (draws,) each)."""
    kernel.setup(warmup, graph)
    state = kernel.initial_params
    kept: list[Values] = []
    lp = np.empty(draws)
    with pyro.validation_enabled(False):  # of values that the kernel itself has drawn
        for step in range(warmup + draws):
            if kernel.is_random_start:
                kernel.power = _power(step, warmup)
            if step == warmup:
                kernel.end_warmup()
            state = kernel.sample(state)
            density = kernel.log_density()
            if step >= warmup:
                kept.append(state)
                lp[step - warmup] = density
            report(kernel, density)
    statistics: dict[str, np.ndarray] = {"lp": lp}
    found = kernel.diagnostics()
    if "divergences" in found:
        statistics["diverging"] = np.isin(np.arange(draws), found["divergences"])
    return {name: torch.stack([v[name] for v in kept]) for name in state}, statistics


def _power(step: int, warmup: int) -> float:
    """Of the likelihood under which memberships are drawn: 1 from the middle of the warm-up on."""
    if 2 * step >= warmup:
        return 1.0
    return _HOTTEST + (1.0 - _HOTTEST) * 2.0 * step / warmup


def _reporter(bar: ProgressBar) -> Callable[[GibbsNUTS, float], None]:
    started = time.perf_counter()
    history: dict[str, list[float]] = {
        name: [] for name in ("step", "elbo", "active_communities", "seconds", "val_auc")
    }

    def report(kernel: GibbsNUTS, density: float) -> None:
        bits = next((kernel.values[n] for n in kernel.joint.bits), None)
        active = float("nan") if bits is None else float(bits.sum(-1).mean())
        row = (float(len(history["step"])), density, active, time.perf_counter() - started)
        for name, value in zip(history, row, strict=False):
            history[name].append(value)
        bar.update(history)

    return report


def _groups(joint: Joint, values: Values, draws: int, wanted: int) -> DrawGroups:
    groups = DrawGroups.of(joint.story, joint.graph, wanted)
    chunk = chunk_size(joint.graph, max(joint.story.width, groups.width), draws)
    with evaluation_mode(joint.story):
        for trace in conditioned_traces(joint.story, joint.graph, values, chunk):
            groups.add(trace)
    return groups
