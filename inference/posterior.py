"""The posterior, and the prior, as ArviZ data."""

from __future__ import annotations

import json
import platform
from typing import Any

import arviz
import numpy as np
import pyro
import torch
import torch_geometric
from torch import Tensor

from ..data import Graph
from .draws import chunk_size, evaluation_mode, posterior_traces, prior_traces
from .groups import DrawGroups, Unit, check_unit, groups_to_arviz
from .numbering import order_in_words
from .progress import counting_draws
from .relaxation import exact_memberships
from .seeds import seeded

__all__ = ["as_attribute", "environment", "posterior_data", "prior_predictive"]

_DRAWN = 20_000_000_000  # dyads of all predictive graphs, where nobody says how many


def posterior_data(
    story: Any,
    guide: Any,
    graph: Graph,
    draws: int,
    predictive_draws: int,
    attrs: dict[str, Any],
    *,
    unit: Unit = "auto",
    prior: int = 0,
    numbering: Tensor | None = None,
    progress: bool | None = False,
) -> Any:
    """Draw the posterior of a fitted story and put it into ArviZ form.

    Groups and dimensions, behind (chain = 1, draw): ``posterior`` has the latents over ``node`` and ``community``;
    ``posterior_predictive`` the degrees (node) and the statistics of graphs drawn from the predictive, and the
    ``edges`` (dyad) that are kept one by one; ``log_likelihood`` has ``edges`` by dyad or by node (each dyad half to
    either end); ``prior`` and ``prior_predictive`` the same of draws from the prior, where asked for;
    ``observed_data`` what the predictive is held against; ``constant_data`` the ends of the dyads and the labels.
    Draws are independent: there is one chain, and R-hat says nothing. The log-likelihood is always the exact density,
    also where the fit was tempered. Attributes say how all of it was made, and ``communities_order`` how communities
    are numbered.

    Arguments:
        draws: posterior draws.
        predictive_draws: how many of them also draw a graph.
        unit: what the log-likelihood is kept by: "dyad", "node", a number m: a random sample of so many observed
            dyads, the same ones in every posterior of a graph, or "none", without it. "auto" is by dyad on graphs of up
            to 50,000 observed dyads, by node up to 500 million, and none beyond, where every draw of it takes many
            seconds. Attributes ``observed_dyads`` (M) and ``kept_dyads`` (m) give the factor M / m by which an elpd of
            the sample, and its standard error, are scaled up to all dyads.
        prior: draws from the prior.
        numbering: which of the guide's communities each community of the result is, (K,).
        progress: show a bar; None: on a terminal.
    """
    check_unit(unit, graph, draws)
    groups = DrawGroups.of(story, graph, predictive_draws, unit, numbering)
    with evaluation_mode(story, guide), counting_draws(draws, progress) as count:
        chunk = chunk_size(graph, max(story.width, groups.width), draws)
        for trace in posterior_traces(story, guide, graph, draws, chunk):
            groups.add(trace)
            count(trace.nodes["edges"]["fn"].batch_shape[0])
    told = {**attrs, **groups.unit, **environment()}
    before = None
    if prior:
        wanted = min(predictive_draws, _prior_number(graph, prior, None))
        before = _prior_groups(story, graph, prior, wanted, unit)
    return groups_to_arviz([groups], told, prior=before)


def prior_predictive(
    story: Any,
    graph: Graph,
    draws: int = 500,
    predictive_draws: int | None = None,
    seed: int = 0,
) -> Any:
    """Draws from the prior as ArviZ data, before any fit: does the story make graphs like this one at all?

    Groups: ``prior`` has the latents, ``prior_predictive`` graphs that they lead to, with the dimensions and statistics
    of :meth:`Fit.posterior`; ``observed_data`` and ``constant_data`` are of the graph. Networks of the story (the
    decoder of DGLFRM) have the weights that they have. Pictures of a posterior take it too, and
    :func:`posterior_predictive_check`; ``az.plot_ppc(data, group="prior")`` in ArviZ.

    Arguments:
        story: how the graph is thought to have come about.
        graph: of which the nodes, the missing dyads and what is observed are taken.
        draws: from the prior.
        predictive_draws: how many of them draw a graph too: all up to 200 nodes, 100 up to 1,000, else 20. (A prior
            makes dense graphs too, and to count their triangles takes O(N^3).)
        seed: of the draws.

    Raises:
        ValueError: fewer than one draw; a graph that the story is not told of.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    story.check_graph(graph)
    wanted = _prior_number(graph, draws, predictive_draws)
    with seeded(seed, graph.device), exact_memberships(story):
        groups = _prior_groups(story, graph, draws, wanted, "auto")
    attrs = {
        "story": type(story).__name__,
        "story_options": story.options,
        "graph": graph.title,
        "graph_fingerprint": graph.fingerprint(),
        "inference": "draws from the prior",
        "communities_order": order_in_words(story, "prior"),
        "seed": seed,
        **{name: story.options[name] for name in ("alpha", "truncation") if name in story.options},
        **environment(),
    }
    return groups_to_arviz([], {k: as_attribute(v) for k, v in attrs.items()}, prior=groups)


def predictive_number(graph: Graph, draws: int, predictive_draws: int | None) -> int:
    """How many of the draws also draw a graph."""
    if predictive_draws is None:
        if graph.num_nodes <= 1000:
            return draws
        return min(draws, 100, max(5, _DRAWN // graph.num_dyads))  # a graph is drawn dyad by dyad
    return min(predictive_draws, draws)


def _prior_number(graph: Graph, draws: int, predictive_draws: int | None) -> int:
    if predictive_draws is None:
        n = graph.num_nodes
        predictive_draws = draws if n <= 200 else 100 if n <= 1000 else 20
    return min(predictive_draws, draws)


def _prior_groups(story: Any, graph: Graph, draws: int, wanted: int, unit: Unit) -> DrawGroups:
    groups = DrawGroups.of(story, graph, wanted, unit)
    with evaluation_mode(story):
        chunk = chunk_size(graph, max(story.width, groups.width), draws)
        for trace in prior_traces(story, graph, draws, chunk):
            groups.add(trace, log_likelihood=False)
    return groups


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    from .. import __version__

    return {
        "graphlore": __version__,
        "pyro": str(pyro.__version__),
        "torch": str(torch.__version__),
        "torch_geometric": str(torch_geometric.__version__),
        "numpy": np.__version__,
        "arviz": arviz.__version__,
        "python": platform.python_version(),
    }


def as_attribute(value: Any) -> str | int | float:
    """A value netCDF can hold as an attribute."""
    return (
        value
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else json.dumps(value)
    )
