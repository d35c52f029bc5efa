"""What simulation-based calibration ranks: numbers that are the same for every numbering of communities."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from ..models.base import NodeStory
from ..models.sticks import activation_probabilities
from .draws import (
    chunk_size,
    conditioned_traces,
    density_by_draw,
    edge_distribution,
    evaluation_mode,
)
from .joint import Values
from .told import as_told

__all__ = ["Statistics", "sbc_statistics"]

Statistics = Callable[[Values, Any], Mapping[str, Any]]


def sbc_statistics(story: Any, pairs: Any = None) -> Statistics:
    """The default statistics of :func:`sbc`, as a function of latents (S, ...) and a graph.

    Of a node-level story: ``log_joint`` and ``log_likelihood`` (nats), every scalar latent, ``communities`` with a
    member, ``memberships`` of a node, the ``largest`` community, the pairs of nodes that have ``shared`` a community,
    ``weights_squared`` of the community weights, ``activation`` (the sum of the sticks' pi_k), mean and standard
    deviation of the expected edges (``link_mean``, ``link_sd``), and of some dyads the expected edge and whether a
    community is shared (``link i-j``, ``shared i-j``). The first two look at the graph, and so do all links through
    the fit: an inference that does not (draws of the prior, or given a part of the graph only) is found by
    ``log_likelihood``, not by the latents alone.

    Of any other Pyro program: ``log_joint`` and every latent that is a single number.

    Arguments:
        story: whose latents; a float64 copy of it is used, nothing tempered or relaxed.
        pairs: dyads, (2, P); the first and the last observed one if None.

    References:
        | Simulation-based calibration checking for Bayesian computation: the choice of test quantities shapes
          sensitivity (Modrák et al., Bayesian Analysis 2023)
    """
    if not isinstance(story, NodeStory):
        if pairs is not None:
            raise ValueError("pairs are dyads of node-level stories")
        return lambda latents, graph: _of_program(story, latents, graph)
    told = copy.deepcopy(story).cpu().double().eval()
    given = None if pairs is None else torch.as_tensor(pairs)
    return lambda latents, graph: _of_story(told, latents, graph, given)


def _of_story(story: Any, latents: Values, graph: Graph, pairs: Tensor | None) -> Values:
    """(S,) by name."""
    if graph.features is not None:
        graph = graph._replace(features=graph.features.double())
    observed = graph.observed_pairs()
    pairs = observed[:, [0, -1]] if pairs is None else pairs
    draws = len(next(iter(latents.values())))
    chunk = chunk_size(graph, max(graph.num_nodes, story.width), draws)
    found: dict[str, list[Tensor]] = {}
    with evaluation_mode(story), as_told(story), pyro.validation_enabled(False):
        for trace in conditioned_traces(story, graph, latents, chunk):
            part = {"log_joint": density_by_draw(trace)}
            part["log_likelihood"] = trace.nodes["edges"]["log_prob"].sum(-1)
            edges = edge_distribution(trace)
            mean = edges.mean(edges.logits(observed)).reshape(len(part["log_joint"]), -1)
            part |= {"link_mean": mean.mean(-1), "link_sd": mean.std(-1, correction=0)}
            mean = edges.mean(edges.logits(pairs)).reshape(len(mean), -1)
            part |= {f"link {_named(p)}": m for p, m in zip(pairs.T, mean.T, strict=True)}
            for name, value in part.items():
                found.setdefault(name, []).append(value)
    statistics = {name: torch.cat(values) for name, values in found.items()}
    return statistics | _of_latents(story, latents, pairs)


def _of_latents(story: Any, latents: Values, pairs: Tensor) -> Values:
    found = {n: v.reshape(len(v)) for n, v in latents.items() if not story.dims[n]}
    bits = None
    if "membership" in latents:
        bits = F.one_hot(latents["membership"].long(), story.width).double()
    elif "memberships" in latents:
        bits = latents["memberships"].double()
        found["memberships"] = bits.sum(-1).mean(-1)
    if bits is not None:
        n, sizes = bits.shape[1], bits.sum(1)
        together = (bits @ bits.mT > 0).double()
        off_diagonal = together.sum((-2, -1)) - together.diagonal(dim1=-2, dim2=-1).sum(-1)
        found |= {
            "communities": (sizes > 0).double().sum(-1),
            "largest": sizes.max(-1).values,
            "shared": off_diagonal / (n * (n - 1)),
        }
        found |= {f"shared {_named(p)}": together[:, p[0], p[1]] for p in pairs.T}
    if "community_weights" in latents:
        found["weights_squared"] = latents["community_weights"].square().sum(-1)
    if "sticks" in latents:
        pi = activation_probabilities(latents["sticks"])
        found["activation"] = pi.sum(-1).reshape(len(pi), -1).mean(-1)
    return found


def _named(pair: Tensor) -> str:
    i, j = pair.tolist()
    return f"{i}-{j}"


def _of_program(story: Any, latents: Values, data: Any) -> Values:
    found = {n: v.reshape(len(v)) for n, v in latents.items() if v[0].numel() == 1}
    with torch.no_grad(), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        densities = []
        for draw in range(len(next(iter(latents.values())))):  # a program need not be vectorised
            given = poutine.condition(story, {n: v[draw] for n, v in latents.items()})
            densities.append(poutine.trace(given).get_trace(data).log_prob_sum())
    return {"log_joint": torch.stack([torch.as_tensor(d) for d in densities]), **found}
