"""Gradients of block memberships and of LFRM's bits against enumeration, whatever the edges' law and kind.

All other latents are forced to one fixed value, memberships to each of their configurations in turn; the estimator's
gradient, weighted by q, must be the derivative of the finite sum written out by hand. Nothing is left to chance.
"""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from graphlore.data import Graph
from graphlore.guides import AmortisedCategorical, AmortisedNormal, MeanField
from graphlore.inference import DyadicELBO, InferenceError, fit
from graphlore.inference import local_expectation as module
from graphlore.inference.expectation import ExpectationELBO
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import LFRM, SBM, VGAE
from graphlore.models.sticks import activation_logits

pytestmark = pytest.mark.filterwarnings("ignore:Found (vars|non-auxiliary vars|auxiliary vars)")

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


class Force(Messenger):
    """Set the value of sites that the guide draws; they stay unobserved."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


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
        with pyro.plate("nodes", N, dim=-1):
            if bits:
                q = dist.Bernoulli(logits=self.logits).to_event(1)
                pyro.sample("memberships", q, infer=self.infer)
            else:
                q = dist.Categorical(logits=self.logits)
                pyro.sample("membership", q, infer=self.infer)
            if story.bias == "node":
                pyro.sample("node_bias", normal)


def blocks_of(story):
    return BLOCKS[: 3 if story.symmetric else 4]


def fixed_values(story):
    found = {"bias": C, "node_bias": E, "edge_scale": TAU}
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
    run = forced(guide, **fixed_values(story), **values)
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


def assert_close(found, truth):
    assert truth.abs().max() > 1e-2
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


LAWS = [("bernoulli", "none"), ("poisson", "none"), ("poisson", "node"), ("normal", "none")]
CORRECTED = [("bernoulli", "node"), ("normal", "node")]


def an_sbm(kind, law, bias):
    return SBM(N, K, kind=kind, likelihood=law, bias=bias).double()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("law", "bias"), LAWS)
def test_memberships_summed_out_have_the_enumerated_gradient(law, bias, kind, hidden):
    story, graph = an_sbm(kind, law, bias), a_graph(kind, law, hidden)
    guide = Table(story)
    truth = enumerated(story, guide, graph)
    draws = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    estimator = ExpectationELBO()
    for z in (*draws, draws[0]):  # whichever draw is made, and however often
        assert_close(gradient(estimator, story, guide, graph, membership=z), truth)


def test_the_value_summed_out_is_the_enumerated_one():
    story, graph = an_sbm("directed", "poisson", "node"), a_graph("directed", "poisson")
    guide, estimator = Table(story), ExpectationELBO()
    gradient(estimator, story, guide, graph)
    likelihood = sum(
        w * log_likelihood(story, graph, z) for w, z, _ in weights(story, guide.logits)
    )
    assert estimator.last["likelihood"] == pytest.approx(likelihood.item(), rel=1e-12)
    assert estimator.last["elbo"] == pytest.approx(likelihood.item() - estimator.last["kl"])


@pytest.mark.parametrize("estimator", [DyadicELBO, LocalExpectationELBO])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("law", "bias"), LAWS + CORRECTED)
def test_sampled_blocks_have_the_enumerated_gradient_as_their_mean(law, bias, kind, estimator):
    story, graph = an_sbm(kind, law, bias), a_graph(kind, law)
    guide = Table(story)
    assert_close(expected(estimator(), story, guide, graph), enumerated(story, guide, graph))


@pytest.mark.parametrize("estimator", [DyadicELBO, LocalExpectationELBO])
def test_a_tempered_divergence(estimator):
    story, graph = an_sbm("undirected", "bernoulli", "none"), a_graph("undirected", "bernoulli")
    guide = Table(story)
    truth = enumerated(story, guide, graph, kl_weight=0.3)
    assert_close(expected(estimator(kl_weight=0.3), story, guide, graph), truth)
    assert_close(gradient(ExpectationELBO(kl_weight=0.3), story, guide, graph), truth)


def test_the_gain_of_a_category_does_not_depend_on_the_node_s_own_draw():
    story, graph = an_sbm("directed", "bernoulli", "node"), a_graph("directed", "bernoulli")
    guide, estimator = Table(story), LocalExpectationELBO()
    for n in range(N):
        found = []
        for k in range(K):
            z = torch.tensor([1, 0, 0, 1])
            z[n] = k
            found.append(gradient(estimator, story, guide, graph, membership=z)[n])
        torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


# -- LFRM --------------------------------------------------------------------------------------------

LFRMS = {
    "affinity": {},
    "diagonal": {"affinity": "diagonal"},
    "node bias": {"bias": "node"},
    "weighted": {"class_weight": 2.5, "bias": "global"},
    "counts": {"likelihood": "poisson", "bias": "node"},
    "weights": {"likelihood": "normal", "bias": "global"},
}


@pytest.mark.parametrize("kind", ["undirected", "bipartite"])
def test_local_expectations_of_lfrm_are_enumerated(kind):
    story = LFRM(N, K, 1.75, kind=kind).double()
    graph, guide = a_graph(kind, "bernoulli"), Table(story)
    assert_close(
        expected(LocalExpectationELBO(), story, guide, graph), enumerated(story, guide, graph)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LFRMS)
def test_the_gain_of_a_bit_is_the_difference_of_two_likelihoods(name, kind):
    """At one draw of the other bits; it does not look at the bit's own, so that its mean is the gradient."""
    story = LFRM(N, K, 1.75, kind=kind, **LFRMS[name]).double()
    graph = a_graph(kind, story.likelihood)
    guide = Table(story)
    prior = Bernoulli(logits=activation_logits(STICKS).expand(N, K))
    divergence = kl_divergence(Bernoulli(logits=guide.logits), prior).sum()
    truth = -torch.autograd.grad(divergence, guide.logits)[0]
    q = torch.sigmoid(guide.logits.detach())
    bits = [(1, 0), (1, 1), (0, 1), (1, 1)]
    for n, k in itertools.product(range(N), range(K)):
        one, zero = ([list(row) for row in bits] for _ in range(2))
        one[n][k], zero[n][k] = 1, 0
        gain = log_likelihood(story, graph, one) - log_likelihood(story, graph, zero)
        truth[n, k] += q[n, k] * (1 - q[n, k]) * gain
    found = gradient(
        LocalExpectationELBO(), story, guide, graph, memberships=torch.tensor(bits, **DOUBLE)
    )
    assert_close(found, truth)


def test_dyadic_credit_of_lfrm_is_enumerated():
    story = LFRM(N, K, 1.75, kind="directed", bias="node", likelihood="poisson").double()
    graph, guide = a_graph("directed", "poisson"), Table(story)
    assert_close(expected(DyadicELBO(), story, guide, graph), enumerated(story, guide, graph))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("story", ["sbm", "lfrm"])
def test_a_sample_of_other_ends_is_unbiased(story, columns, kind, monkeypatch):
    if story == "sbm":
        story, law = an_sbm(kind, "poisson", "node"), "poisson"
        values = {"membership": torch.tensor([1, 0, 0, 1])}
    else:
        story, law = LFRM(N, K, kind=kind).double(), "bernoulli"
        values = {"memberships": torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]], **DOUBLE)}
    guide, graph = Table(story), a_graph(kind, law)
    exact = gradient(LocalExpectationELBO(), story, guide, graph, **values)
    found = []
    subsets = [torch.tensor(c) for c in itertools.combinations(range(N), columns)]
    for chosen in subsets:
        monkeypatch.setattr(module, "_sample", lambda *_, chosen=chosen: chosen)
        found.append(gradient(LocalExpectationELBO(columns=columns), story, guide, graph, **values))
    assert torch.stack(found).std(0).max() > 1e-4
    torch.testing.assert_close(torch.stack(found).mean(0), exact, rtol=1e-10, atol=1e-10)


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "guide"),
    [
        (SBM(N, K, bias="node"), AmortisedCategorical),
        (SBM(N, K, bias="node", likelihood="normal"), AmortisedCategorical),
        (LFRM(N, K), MeanField),
        (VGAE(N, 2), AmortisedNormal),
    ],
    ids=["corrected", "corrected weights", "bits", "no memberships"],
)
def test_what_is_not_linear_in_memberships_is_refused(story, guide):
    graph = a_graph("undirected", story.likelihood)
    with pytest.raises(InferenceError, match="gradient='expectation' is for block memberships"):
        fit(story, guide(story, graph), graph, steps=1, gradient="expectation")
