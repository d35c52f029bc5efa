"""Block dyads: the plain dyads of the same factors, the expectation over memberships, sums, exact conditionals."""

from __future__ import annotations

import itertools

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from chance import LIMIT, largest
from pyro.ops.provenance import get_provenance, track_provenance
from scipy import stats
from torch.nn import functional as F

from graphlore.data import Graph
from graphlore.models import (
    SBM,
    BlockBernoulli,
    BlockNormal,
    BlockPoisson,
    DyadicBernoulli,
    DyadicNormal,
    DyadicPoisson,
)
from graphlore.models.block_sums import block_sums

KINDS = ["undirected", "directed", "bipartite"]
BLOCKS = {"bernoulli": BlockBernoulli, "poisson": BlockPoisson, "normal": BlockNormal}
PLAIN = {"bernoulli": DyadicBernoulli, "poisson": DyadicPoisson, "normal": DyadicNormal}
# law, with biases of the nodes
LAWS = [("bernoulli", False), ("poisson", False), ("poisson", True), ("normal", False)]
TAU = torch.tensor(0.8, dtype=torch.float64)


def every(test):
    test = pytest.mark.parametrize("kind", KINDS)(test)
    return pytest.mark.parametrize(("law", "bias"), LAWS)(test)


def a_graph(law, kind, n, seed=0, hidden=True):
    """Edges, weights, sides and missing dyads at random; all of them kept by Graph itself."""
    rng = np.random.default_rng((seed, n, KINDS.index(kind)))
    parts = np.array([1, 0, 0, 1, 0, 1, 0, 0, 1])[:n] if kind == "bipartite" else None
    i, j = np.indices((n, n))
    dyads = i != j if kind == "directed" else i < j
    if parts is not None:
        dyads &= parts[:, None] != parts
    listed = rng.permutation(np.stack(np.nonzero(dyads)), axis=1)
    edges = listed[:, : max(2, listed.shape[1] // 2)]
    count = edges.shape[1]
    weights = None
    if law != "bernoulli":
        weights = rng.integers(1, 4, count) if law == "poisson" else rng.normal(size=count)
    return Graph(
        n,
        edges,
        weights=weights,
        parts=parts,
        missing=listed[:, 1:3] if hidden else None,  # an edge or two among them
        directed=kind == "directed",
    )


class Case:
    def __init__(self, law, kind, bias, *, n=7, K=3, hidden=True):
        rng = torch.Generator().manual_seed(4)
        self.law, self.kind, self.K = law, kind, K
        self.graph = a_graph(law, kind, n, hidden=hidden)
        table = torch.randn(K, K, generator=rng, dtype=torch.float64)
        self.table = self.made(table)
        self.leaf = table
        self.e = 0.5 * torch.randn(n, generator=rng, dtype=torch.float64) if bias else None
        self.logits = torch.randn(n, K, generator=rng, dtype=torch.float64)
        self.q = torch.softmax(self.logits, -1)
        self.z = torch.randint(K, (n,), generator=rng)
        graph = self.graph
        adjacency = graph.adjacency if law == "bernoulli" else graph.weighted_adjacency
        self.value = adjacency.to(torch.float64)

    def made(self, leaf):
        """The table from a free matrix: symmetric where it must be."""
        return leaf + leaf.mT if self.kind == "undirected" else leaf

    @property
    def options(self):
        graph = self.graph
        scale = {"scale": TAU} if self.law == "normal" else {}
        return {
            "missing": graph.missing,
            "directed": graph.directed,
            "parts": graph.parts,
            **scale,
        }

    def blocks(self, z, table=None, e=None):
        table, e = self.table if table is None else table, self.e if e is None else e
        return BLOCKS[self.law](z, table, e, **self.options)

    def plain(self, z, table=None, e=None):
        table, e = self.table if table is None else table, self.e if e is None else e
        right_bias = e if self.kind == "directed" else None
        return PLAIN[self.law](z, z @ table.mT, e, right_bias, tile=3, **self.options)

    def one_hot(self):
        return F.one_hot(self.z, self.K).double()


@pytest.mark.parametrize("hidden", [True, False])
@every
def test_one_hot_memberships_are_the_plain_dyads(law, kind, bias, hidden):
    case = Case(law, kind, bias, hidden=hidden)
    leaves = [case.leaf, *([case.e] if bias else [])]
    found = []
    for make in (case.blocks, case.plain):
        x = [t.clone().requires_grad_() for t in leaves]
        d = make(case.one_hot(), case.made(x[0]), *x[1:])
        nodes, total = d.node_log_prob(case.value), d.log_prob(case.value)
        turned = (nodes * torch.arange(1.0, 8.0, dtype=torch.float64)).sum()
        gradients = [
            g for y in (total, turned) for g in torch.autograd.grad(y, x, retain_graph=True)
        ]
        pairs = case.graph.observed_pairs()
        values = case.value.to_dense()[pairs[0], pairs[1]]
        incident = d.incident_log_prob(case.value)
        each = d.dyad_log_prob(pairs, values)
        found.append([total, nodes, incident, each, d.logits(pairs), *gradients])
        d.keep_nodes = True
        torch.testing.assert_close(d.log_prob(case.value), total, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(d.incident_log_prob(case.value), incident)
        torch.testing.assert_close(each.sum(), total, rtol=1e-12, atol=1e-12)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def hand(case, z):
    """log p of the graph with these blocks, dyad by dyad, from SciPy."""
    total, dense = 0.0, case.value.to_dense().numpy()
    for i, j in case.graph.observed_pairs().T.tolist():
        x = dense[i, j]
        if case.kind == "bipartite" and case.graph.parts[i] == 1:
            i, j = j, i  # rows of the table are blocks of side 0
        s = case.table[z[i], z[j]].item()
        s += 0.0 if case.e is None else (case.e[i] + case.e[j]).item()
        law = {
            "bernoulli": stats.bernoulli(stats.logistic.cdf(s)),
            "poisson": stats.poisson(np.exp(s)),
            "normal": stats.norm(s, TAU.item()),
        }[case.law]
        total += law.logpdf(x) if case.law == "normal" else law.logpmf(x)
    return total


@every
def test_log_prob_by_hand(law, kind, bias):
    case = Case(law, kind, bias)
    expected = hand(case, case.z.tolist())
    assert case.blocks(case.one_hot()).log_prob(case.value).item() == pytest.approx(expected)


@pytest.mark.parametrize(("n", "K"), [(5, 2), (3, 3)])
@every
def test_rows_of_probabilities_give_the_expectation(law, kind, bias, n, K):
    """Value and gradient, of the whole and of every node, over all K^N memberships."""
    case = Case(law, kind, bias, n=n, K=K)
    leaves = [case.logits, case.leaf, *([case.e] if bias else [])]
    x = [t.clone().requires_grad_() for t in leaves]
    q, rest = torch.softmax(x[0], -1), [case.made(x[1]), *x[2:]]
    turn = torch.arange(1.0, n + 1, dtype=torch.float64)
    total, nodes = 0.0, 0.0
    for z in itertools.product(range(K), repeat=n):
        weight = q[range(n), list(z)].prod()
        d = case.plain(F.one_hot(torch.tensor(z), K).double(), *rest)
        total = total + weight * d.log_prob(case.value)
        nodes = nodes + weight * d.node_log_prob(case.value)
    d = case.blocks(q, *rest)
    for found, truth in ((d.log_prob(case.value), total), (d.node_log_prob(case.value), nodes)):
        torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-10)
        scale = 1.0 if found.dim() == 0 else turn
        for a, b in zip(
            torch.autograd.grad((found * scale).sum(), x, retain_graph=True),
            torch.autograd.grad((truth * scale).sum(), x, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every
def test_a_batch_is_the_loop_over_its_draws(law, kind, bias):
    case = Case(law, kind, bias)
    z = torch.stack([case.q, case.one_hot(), case.q.flip(0)])
    table = torch.stack([case.table, 0.5 * case.table, -case.table])
    e = None if case.e is None else torch.stack([case.e, -case.e, 0.3 * case.e])
    d = case.blocks(z, table, e)
    assert d.batch_shape == (3,)
    for draw in range(3):
        single = case.blocks(z[draw], table[draw], None if e is None else e[draw])
        for one in (d.one(draw), single):
            for ask in ("log_prob", "node_log_prob", "incident_log_prob"):
                found = getattr(d, ask)(case.value)[draw]
                torch.testing.assert_close(getattr(one, ask)(case.value), found)
    grown = case.blocks(case.q).expand([2, 3])
    assert grown.batch_shape == (2, 3)
    expected = case.blocks(case.q).log_prob(case.value).expand(2, 3)
    torch.testing.assert_close(grown.log_prob(case.value), expected)


@every
def test_provenance_reaches_the_density(law, kind, bias):
    case = Case(law, kind, bias)
    z = track_provenance(case.one_hot(), frozenset({"z"}))
    table = track_provenance(case.table, frozenset({"W"}))
    e = None if case.e is None else track_provenance(case.e, frozenset({"e"}))
    carried = {"z", "W"} | ({"e"} if bias else set())
    empty = torch.zeros(7, 7, dtype=torch.float64)
    for ask in ("log_prob", "node_log_prob"):
        assert get_provenance(getattr(case.blocks(z, table, e), ask)(empty)) == carried


@every
def test_draws_follow_the_blocks(law, kind, bias):
    case, draws = Case(law, kind, bias), 3000
    z = case.one_hot()
    d, plain = case.blocks(z), case.plain(z)
    pairs = case.graph.observed_pairs()
    s = plain.logits(pairs)
    drawn = d.sample(torch.Size([draws]))[:, pairs[0], pairs[1]]
    mean, variance = plain.mean(s), {"poisson": s.exp(), "normal": TAU**2 * torch.ones_like(s)}
    spread = variance.get(law, mean * (1 - mean))
    z_scores = (drawn.mean(0) - mean) / (spread / draws).sqrt()
    assert largest(z_scores) < LIMIT


# -- sums by blocks ----------------------------------------------------------------------------------


def sums_by_loop(graph, z, values, theta):
    K = z.shape[1]
    edges, exposure = np.zeros((K, K)), np.zeros((K, K))
    weight = dict(zip(map(tuple, graph.edge_index.T.tolist()), values.tolist(), strict=True))
    undirected = graph.parts is None and not graph.directed
    for i, j in graph.observed_pairs().T.tolist():
        x = weight.get((i, j), 0.0)
        if graph.parts is not None and graph.parts[i] == 1:
            i, j = j, i
        for k, m in itertools.product(range(K), repeat=2):
            row, column = (min(k, m), max(k, m)) if undirected else (k, m)
            together = (z[i, k] * z[j, m]).item()
            edges[row, column] += x * together
            exposure[row, column] += theta[i].item() * theta[j].item() * together
    keep = np.triu_indices(K) if undirected else np.indices((K, K)).reshape(2, -1)
    return edges[*keep], exposure[*keep]


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("with_theta", [True, False])
@pytest.mark.parametrize("rows", ["one-hot", "probabilities"])
@pytest.mark.parametrize("kind", KINDS)
def test_block_sums_are_the_loop_over_dyads(kind, rows, with_theta, hidden):
    case = Case("poisson", kind, True, n=8, hidden=hidden)
    z = case.one_hot() if rows == "one-hot" else case.q
    values = case.graph.weights.double()
    theta = case.e.exp() if with_theta else None
    found = block_sums(case.graph, z, values, theta)
    expected = sums_by_loop(case.graph, z, values, torch.ones(8) if theta is None else theta)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


# -- exact conditionals ------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [True, False])
@every
def test_the_table_s_conditional_is_exact(law, kind, bias, hidden):
    """log p(W) + log p(A | W, z) - log p(W | A, z) is log p(A | z): the same whatever W is."""
    case = Case(law, kind, bias, hidden=hidden)
    prior = (-0.5, 1.75) if law == "normal" else (0.75, 2.25)
    story = SBM(
        7,
        3,
        kind=kind,
        likelihood=law,
        bias="node" if bias else "none",
        block_prior=prior,
    ).double()
    z = case.one_hot()
    tau = TAU if law == "normal" else None
    posterior = story.table_given(case.graph, z, case.e, tau)
    a, b = (torch.tensor(x, dtype=torch.float64) for x in prior)
    law_of = {"bernoulli": dist.Beta, "poisson": dist.Gamma, "normal": dist.Normal}[law]
    constants = []
    for _ in range(6):
        W = law_of(a, b).expand(posterior.event_shape).sample()
        edges = case.blocks(z, story.natural_table(W)).log_prob(case.value)
        joint = law_of(a, b).log_prob(W).sum() + edges
        constants.append((joint - posterior.log_prob(W)).item())
    assert constants == pytest.approx([constants[0]] * 6, rel=1e-10)
    assert np.ptp([posterior.log_prob(law_of(a, b).expand(posterior.event_shape).sample()).item()
                   for _ in range(6)]) > 0.1  # fmt: skip


def test_the_weights_conditional_is_exact():
    z = F.one_hot(torch.tensor([0, 2, 2, 1, 2]), 3).double()
    story = SBM(5, 3, alpha=0.625).double()
    posterior = story.weights_given(z)
    prior = dist.Dirichlet(torch.full((3,), 0.625, dtype=torch.float64))
    constants = []
    for _ in range(5):
        pi = dist.Dirichlet(torch.ones(3, dtype=torch.float64)).sample()
        joint = prior.log_prob(pi) + (z @ pi.log()).sum()
        constants.append((joint - posterior.log_prob(pi)).item())
    assert constants == pytest.approx([constants[0]] * 5, rel=1e-12)
