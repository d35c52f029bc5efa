"""Block models and LFRM of four nodes, with every configuration of the memberships: gradients as finite sums."""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import torch
from force import Force
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from graphlore.data import DyadBatch, Graph
from graphlore.models import LFRM
from graphlore.models.base import node_plate
from graphlore.models.sticks import activation_logits

N, K = 4, 2
DOUBLE = {"dtype": torch.float64}
KINDS = ["undirected", "directed", "bipartite"]
EDGES = {
    "undirected": [[0, 0, 2], [1, 2, 3]],
    "directed": [[0, 1, 0, 3, 3], [1, 0, 2, 2, 0]],
    "bipartite": [[0, 1], [3, 2]],
}
MISSING = {
    "undirected": [[0, 1], [3, 2]],
    "directed": [[1, 2], [3, 0]],
    "bipartite": [[0], [1]],
}
PARTS = [1, 0, 1, 0]  # the first node is of side 1
WEIGHTS = {"poisson": [2.0, 1.0, 3.0, 1.0, 2.0], "normal": [0.5, -1.25, 2.0, 0.75, -0.5]}

PI = torch.tensor([0.3, 0.7], **DOUBLE)
STICKS = torch.tensor([0.8, 0.45], **DOUBLE)
C, TAU = torch.tensor(-0.6, **DOUBLE), torch.tensor(0.7, **DOUBLE)
E = torch.tensor([0.5, -0.2, 0.9, -0.4], **DOUBLE)
BLOCKS = torch.tensor([0.2, 0.9, 0.55, 0.35], **DOUBLE)  # probabilities, rates or means
AFFINITY = torch.tensor([1.2, -0.7, 0.4, -1.5], **DOUBLE)


def forced(guide, **values):
    def run(graph):
        with Force(values):
            return guide(graph)

    return run


def a_graph(kind, law, hidden=True):
    count = len(EDGES[kind][0])
    return Graph(
        N,
        EDGES[kind],
        weights=WEIGHTS[law][:count] if law in WEIGHTS else None,
        parts=PARTS if kind == "bipartite" else None,
        missing=MISSING[kind] if hidden else None,
        directed=kind == "directed",
    )


class Table(nn.Module):
    """A guide whose membership logits are a table, all other factors fixed."""

    def __init__(self, story, infer=None):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.logits = nn.Parameter(torch.randn(N, K, generator=rng, **DOUBLE))
        self.story, self.infer = [story], infer or {}

    def forward(self, graph):
        (story,) = self.story
        logits = self.logits[graph.nodes] if isinstance(graph, DyadBatch) else self.logits
        zero, one = torch.zeros((), **DOUBLE), torch.ones((), **DOUBLE)
        normal, lognormal = dist.Normal(zero, one), dist.LogNormal(zero, one)
        bits = isinstance(story, LFRM)
        if bits:
            pyro.sample("sticks", dist.Beta(one.expand(K), one).to_event(1))
            size = story.num_affinities
            pyro.sample("affinity", dist.Normal(zero.expand(size), one).to_event(1))
        else:
            pyro.sample("community_weights", dist.Dirichlet(one.expand(K)))
            law = {"bernoulli": dist.Beta(one, one), "poisson": dist.Gamma(one, one)}
            law = law.get(story.likelihood, normal)
            pyro.sample(story.table_site, law.expand([len(blocks_of(story))]).to_event(1))
        if "bias" in story.dims:
            pyro.sample("bias", normal)
        if story.likelihood == "normal":
            pyro.sample("edge_scale", lognormal)
        with node_plate(graph, graph.num_nodes):
            if bits:
                q = dist.Bernoulli(logits=logits).to_event(1)
                pyro.sample("memberships", q, infer=self.infer)
            else:
                q = dist.Categorical(logits=logits)
                pyro.sample("membership", q, infer=self.infer)
            if story.bias == "node":
                pyro.sample("node_bias", normal)


def blocks_of(story):
    return BLOCKS[: 3 if story.symmetric else 4]


def fixed_values(story, graph):
    e = E[graph.nodes] if isinstance(graph, DyadBatch) else E
    found = {"bias": C, "node_bias": e, "edge_scale": TAU}
    if isinstance(story, LFRM):
        return found | {"sticks": STICKS, "affinity": AFFINITY[: story.num_affinities]}
    return found | {"community_weights": PI, story.table_site: blocks_of(story)}


def table_by_hand(entries, symmetric):
    a = entries.tolist()
    return [[a[0], a[1]], [a[1], a[2]]] if symmetric else [[a[0], a[1]], [a[2], a[3]]]


def dyads_of(graph):
    """(i, j, x) of observed dyads, the end of side 0 first."""
    dense = graph.weighted_adjacency.to_dense()
    for i, j in graph.observed_pairs().T.tolist():
        x = dense[i, j].item()
        if graph.parts is not None and graph.parts[i] == 1:
            yield j, i, x
        else:
            yield i, j, x


def density(law, s, x):
    """log p(x | s) by its formula."""
    if law == "poisson":
        return x * s - math.exp(s) - math.lgamma(x + 1)
    if law == "normal":
        tau = TAU.item()
        return -0.5 * ((x - s) / tau) ** 2 - math.log(tau) - 0.5 * math.log(2 * math.pi)
    return -math.log1p(math.exp(-s if x else s))


def log_likelihood(story, graph, z):
    """log p(A | z) from the equations of SBM or LFRM, z a configuration."""
    law, total = story.likelihood, 0.0
    lfrm = isinstance(story, LFRM)
    if lfrm and story.affinity_form == "diagonal":
        table = [[AFFINITY[0].item(), 0.0], [0.0, AFFINITY[1].item()]]
    else:
        entries = AFFINITY if lfrm else BLOCKS
        table = table_by_hand(entries, story.symmetric)
    for i, j, x in dyads_of(graph):
        if lfrm:
            pairs = itertools.product(range(K), repeat=2)
            s = sum(z[i][k] * table[k][m] * z[j][m] for k, m in pairs)
        else:
            w = table[z[i]][z[j]]
            s = {"bernoulli": math.log(w / (1 - w)), "poisson": math.log(w)}.get(law, w)
        s += C.item() if "bias" in story.dims else 0.0
        s += (E[i] + E[j]).item() if story.bias == "node" else 0.0
        w1 = story.edge_weights(graph)[1]
        total += (w1 if x else 1.0) * density(law, s, x)
    return total


def configurations(story):
    if isinstance(story, LFRM):
        for bits in itertools.product((0, 1), repeat=N * K):
            yield [bits[K * n : K * n + K] for n in range(N)]
    else:
        yield from itertools.product(range(K), repeat=N)


def as_value(story, z):
    return torch.tensor(z, **DOUBLE) if isinstance(story, LFRM) else torch.tensor(z)


def weights(story, logits):
    """(q(z), z) of all configurations, with gradient."""
    for z in configurations(story):
        value = as_value(story, z)
        if isinstance(story, LFRM):
            log_q = Bernoulli(logits=logits).log_prob(value).sum()
        else:
            log_q = Categorical(logits=logits).log_prob(value).sum()
        yield log_q.exp(), z, value


def enumerated(story, guide, graph, kl_weight=1.0):
    """d/dlogits of sum_z q(z) log p(A | z) - w KL(q(z) || p(z)): every z visited."""
    total = sum(w * log_likelihood(story, graph, z) for w, z, _ in weights(story, guide.logits))
    if isinstance(story, LFRM):
        prior = Bernoulli(logits=activation_logits(STICKS).expand(N, K))
        total = total - kl_weight * kl_divergence(Bernoulli(logits=guide.logits), prior).sum()
    else:
        prior = Categorical(probs=PI.expand(N, K))
        total = total - kl_weight * kl_divergence(Categorical(logits=guide.logits), prior).sum()
    return torch.autograd.grad(total, guide.logits)[0]


def gradient(estimator, story, guide, graph, **values):
    run = forced(guide, **fixed_values(story, graph), **values)
    loss = estimator.differentiable_loss(story, run, graph)
    return torch.autograd.grad(-loss, guide.logits)[0]


def expected(estimator, story, guide, graph):
    """The estimator's gradient, averaged over all draws with their probabilities."""
    site = "memberships" if isinstance(story, LFRM) else "membership"
    with torch.no_grad():
        every = list(weights(story, guide.logits))
    return sum(
        w * gradient(estimator, story, guide, graph, **{site: value}) for w, _, value in every
    )
