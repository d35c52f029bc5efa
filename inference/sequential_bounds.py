r"""log p(x) of a sequential story: importance sampling, enumeration, and its three measures.

A sequential story gives p(x^pi | z) to a graph *in an order*. Its log p(x) means, of a graph with n nodes,

=========== ======================================================== ============================
measure     the event                                                log p
=========== ======================================================== ============================
sequence    any of the n! orders, repeats counted                    log sum over pi of p(x^pi)
class       the isomorphism class                                    sequence - log |Aut(x)|
labelled    this graph on 1 .. n, nodes numbered at random           sequence - log n!
=========== ======================================================== ============================

References:
    | Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov, ICLR 2016)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations, product

import networkx as nx
import numpy as np
import torch
from networkx.algorithms import isomorphism
from pyro import poutine
from torch import Tensor

from ..data import GraphBatch, GraphSet
from ..guides.destructor import Reordered
from ..models.sgvae import SGVAE
from .sequential_terms import STORY_SITES, site_log_probs, trace_terms

__all__ = [
    "LogLikelihood",
    "exact_log_likelihood",
    "importance_log_likelihood",
    "log_automorphisms",
    "story_log_prob",
]


@dataclass(frozen=True)
class LogLikelihood:
    """log p(x) of G graphs in nats.

    Attributes:
        sequence, isomorphism_class, labelled: (G,) float64 in the three measures.
        elbo: (G,) the evidence lower bound in the sequence measure, from the same draws; nan where there is none.
        effective_draws: (G,) effective number of importance draws, (sum w)^2 / sum w^2; nan for an exact value.
    """

    sequence: Tensor
    isomorphism_class: Tensor
    labelled: Tensor
    elbo: Tensor
    effective_draws: Tensor


@torch.no_grad()
def importance_log_likelihood(
    pair: Reordered,
    graphs: GraphSet,
    draws: int = 1000,
    *,
    defence: float = 0.1,
    chunk: int = 4000,
) -> LogLikelihood:
    """The importance-weighted bound: log of the mean of ``draws`` weights p(x^pi, z) / q(pi, z | x) (IWAE).

    In expectation a lower bound on log p(x), and above the ELBO; it rises to log p(x) with the number of draws.

    Arguments:
        pair: story and destructor with a normal latent.
        graphs: G graphs.
        draws: a graph.
        defence: share of the draws of z that come from the prior instead of q(z | pi, x). The proposal is the mixture
            of both, so that weights stay bounded by p(x^pi | z) / (defence q(pi | x)). 0 is the plain bound.
        chunk: graphs times draws in one pass.

    Raises:
        ValueError: a point latent, which has no density; numbers out of range.
    """
    if pair.destructor.latent != "normal":
        raise ValueError(
            "importance weights need a density of z: a destructor with latent='normal'"
        )
    if draws < 1 or not 0.0 <= defence < 1.0:
        raise ValueError(f"needs draws >= 1 and 0 <= defence < 1, not {draws} and {defence}")
    batch = graphs.batch().to(pair.story.prior().base_dist.loc.device)
    weights, bounds = [], []
    done = 0
    while done < draws:
        now = min(draws - done, max(1, chunk // len(batch)))
        done += now
        if defence == 0.0:
            weights.append(trace_terms(pair, batch, now).log_weight)
            bounds.append(weights[-1])
        else:
            weight, bound = _defended(pair, batch, now, defence)
            weights.append(weight)
            bounds.append(bound)
    log_weights = torch.cat(weights).double()
    sequence = log_weights.logsumexp(0) - math.log(draws)
    elbo = torch.cat(bounds).double().nanmean(0)
    ess = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
    return _measures(graphs, sequence, elbo, ess)


def _defended(
    pair: Reordered, batch: GraphBatch, draws: int, defence: float
) -> tuple[Tensor, Tensor]:
    """(draws, G) log-weights under the mixed proposal, and those of the guide's own draws (nan for the others)."""
    many = batch.repeat(draws)
    guide = poutine.trace(pair.guide).get_trace(many)
    guide.compute_log_prob()
    site = guide.nodes["z"]
    law, prior = site["fn"], pair.story.prior()
    foreign = torch.rand(len(many), device=site["value"].device) < defence
    z = torch.where(foreign[:, None], prior.sample((len(many),)), site["value"])
    log_prior, log_latent = prior.log_prob(z), law.log_prob(z)
    proposal = torch.logaddexp(math.log(defence) + log_prior, math.log1p(-defence) + log_latent)
    removals = site_log_probs(guide, "remove_")
    log_order = torch.stack(removals).sum(0) if removals else torch.zeros_like(log_prior)
    joint = (
        story_log_prob(pair.story, many.reorder(guide.nodes["_RETURN"]["value"]), z)
        + log_prior
        - log_order
    )
    own = torch.where(foreign, torch.nan, joint - log_latent)
    shape = (draws, len(batch))
    return (joint - proposal).view(shape), own.view(shape)


def story_log_prob(story: SGVAE, batch: GraphBatch, z: Tensor) -> Tensor:
    """(B,) log p(x | z) of B graphs in the order their nodes have, z (B, D)."""
    trace = poutine.trace(poutine.condition(story, data={"z": z})).get_trace(batch)
    trace.compute_log_prob()
    return torch.stack(site_log_probs(trace, *STORY_SITES)).sum(0)


@torch.no_grad()
def exact_log_likelihood(
    story: SGVAE, graphs: GraphSet, points: int = 400, chunk: int = 20000
) -> LogLikelihood:
    """log p(x) by enumerating every order, with z integrated on a grid from -7 to 7.

    A trapezoidal sum, not Gauss-Hermite quadrature, since the integrand has the kinks of rectified units.

    Arguments:
        story: with a latent of one or two dimensions.
        graphs: of at most six nodes.
        points: of the grid, a dimension.
        chunk: orders times points in one pass.

    Raises:
        ValueError: graphs or latent too large to enumerate.
    """
    if story.latent > 2 or int(graphs.num_nodes.max()) > 6:
        raise ValueError(
            "enumeration is for at most six nodes and a latent of at most two dimensions"
        )
    x = np.linspace(-7.0, 7.0, points)
    nodes = torch.tensor(list(product(x, repeat=story.latent))).to(story.prior().sample())
    log_w = (-nodes.double().square().sum(1) / 2).log_softmax(0)
    values = []
    for g in range(len(graphs)):
        batch = graphs.batch([g])
        orders = torch.tensor(list(permutations(range(batch.width))), device=nodes.device)
        total = []
        for part in orders.split(max(1, chunk // len(nodes))):
            rows = batch.repeat(len(part)).reorder(part).repeat(len(nodes))
            log_p = story_log_prob(story, rows, nodes.repeat_interleave(len(part), 0))
            total.append((log_p.view(len(nodes), -1).double() + log_w[:, None]).flatten())
        values.append(torch.cat(total).logsumexp(0))
    sequence = torch.stack(values)
    nothing = torch.full_like(sequence, torch.nan)
    return _measures(graphs, sequence, nothing, nothing)


def log_automorphisms(graphs: GraphSet) -> Tensor:
    """(G,) float64 ``log |Aut(x)|``, node and edge types kept, by listing automorphisms (VF2).

    Meant for small groups: ``|Aut|`` of a cycle of n is 2 n, of a complete graph n!.
    """
    same = {
        "node_match": isomorphism.categorical_node_match("type", None),
        "edge_match": isomorphism.categorical_edge_match("type", None),
    }
    known: dict[tuple[int, str], float] = {}
    out = []
    for graph in graphs.to_networkx():
        key = (
            len(graph),
            str(sorted(graph.nodes(data="type"))) + str(sorted(graph.edges(data="type"))),
        )
        if key not in known:
            matcher = nx.isomorphism.GraphMatcher(graph, graph, **same)
            known[key] = math.log(sum(1 for _ in matcher.isomorphisms_iter()))
        out.append(known[key])
    return torch.tensor(out, dtype=torch.float64)


def _measures(graphs: GraphSet, sequence: Tensor, elbo: Tensor, effective: Tensor) -> LogLikelihood:
    sequence = sequence.cpu()
    orders = torch.lgamma(graphs.num_nodes.double() + 1)
    return LogLikelihood(
        sequence,
        sequence - log_automorphisms(graphs),
        sequence - orders,
        elbo.cpu(),
        effective.cpu(),
    )
