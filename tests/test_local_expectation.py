"""Local expectations: the gradient by enumeration, from all nodes or from a sample of them."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from chance import LIMIT, largest
from force import Force
from torch import nn
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional as F

from graphlore.data import Graph, karate
from graphlore.guides import StructuredMeanField
from graphlore.inference import DyadicELBO, fit
from graphlore.inference import local_expectation as module
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import DGLFRM
from graphlore.models.sticks import activation_logits

N, K, D = 4, 2, 3
EDGES = [[0, 0, 2], [1, 2, 3]]
HIDDEN = [[0, 1], [3, 2]]
X = {
    "bernoulli": [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]],
    "normal": [[0.5, -2.25, 1.0], [0.0, 3.5, -1.5], [1.25, 0.0, 0.5], [-0.75, 1.0, 2.0]],
}
STICKS = torch.tensor([0.8, 0.45], dtype=torch.float64)
R = torch.tensor([[0.4, -1.2], [2.0, 0.3], [-0.7, 0.9], [1.1, -0.5]], dtype=torch.float64)
C = torch.tensor(-0.6, dtype=torch.float64)
E = torch.tensor([0.5, -0.2, 1.4, -0.9], dtype=torch.float64)
CONFIGURATIONS = [
    torch.tensor(bits, dtype=torch.float64).reshape(N, K)
    for bits in itertools.product((0, 1), repeat=N * K)
]


class Table(nn.Module):
    """A guide whose membership logits are a table: what is enumerated has no network in between."""

    def __init__(self, story, **options):
        super().__init__()
        torch.manual_seed(1)
        self.logits = nn.Parameter(torch.randn(N, K, dtype=torch.float64))
        self.story, self.options = [story], options  # in a list: not a submodule

    def forward(self, graph):
        story, double = self.story[0], torch.float64
        pyro.sample("sticks", dist.Beta(torch.full((K,), 2.0, dtype=double), 2.0).to_event(1))
        if story.bias != "none":
            pyro.sample("bias", dist.Normal(torch.zeros((), dtype=double), 1.0))
        with pyro.plate("nodes", N, dim=-1):
            infer = {"baseline": self.options} if self.options else {}
            bits = dist.Bernoulli(logits=self.logits).to_event(1)
            pyro.sample("memberships", bits, infer=infer)
            if story.has_strengths:
                normal = dist.Normal(torch.zeros(N, K, dtype=double), 1.0)
                pyro.sample("strengths", normal.to_event(1))
            if story.bias == "node":
                pyro.sample("node_bias", dist.Normal(torch.zeros(N, dtype=double), 1.0))


def a_story(**options):
    torch.manual_seed(5)
    if options.get("features"):
        options["num_features"] = D
    story = DGLFRM(N, K, 1.75, **{"decoder": (3, 2), **options})
    with torch.no_grad():
        for p in story.parameters():
            p.copy_(torch.randn_like(p))
    return story.double()


def a_graph(features=None, missing=HIDDEN, sparse=False):
    graph = Graph(N, EDGES, missing=missing)
    if features:
        x = torch.tensor(X[features], dtype=torch.float64)
        graph = graph._replace(features=x.to_sparse().coalesce() if sparse else x)
    return graph


def forced(guide, bits):
    values = {"memberships": bits, "sticks": STICKS, "strengths": R, "bias": C, "node_bias": E}

    def run(graph):
        with Force(values):
            return guide(graph)

    return run


def gradients(estimator, story, guide, graph, bits):
    parameters = {"logits": guide.logits, **dict(story.named_parameters())}
    loss = estimator.differentiable_loss(story, forced(guide, bits), graph)
    found = torch.autograd.grad(-loss, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def log_likelihood(story, graph, b):
    """log p(A, X | b) from the equations, dyad by dyad."""
    z = b * R if story.has_strengths else b
    f = story.f(z)
    w0, w1 = story.edge_weights(graph)
    adjacency, total = graph.dense_adjacency(), 0.0
    hidden = set(zip(*graph.missing.tolist(), strict=True))
    for i, j in itertools.combinations(range(N), 2):
        if (i, j) in hidden:
            continue
        s = f[i] @ f[j]
        s = s + (C if story.bias != "none" else 0.0)
        s = s + (E[i] + E[j] if story.bias == "node" else 0.0)
        total = total + (w1 * F.logsigmoid(s) if adjacency[i, j] else w0 * F.logsigmoid(-s))
    if story.features is not None:
        x, eta = graph.features.to_dense(), story.feature_decoder(z)
        if story.features == "bernoulli":
            total = total + (x * F.logsigmoid(eta) + (1 - x) * F.logsigmoid(-eta)).sum()
        else:
            sd = story.feature_log_scale.exp()
            log_density = -0.5 * ((x - eta) / sd) ** 2 - sd.log() - 0.5 * np.log(2 * np.pi)
            total = total + log_density.sum()
    return total


def enumerated(story, guide, graph, kl_weight=1.0):
    """Gradient of sum_b q(b) log p(A, X | b) - w KL(q(b) || p(b | v)), every b visited."""
    q = torch.sigmoid(guide.logits)
    elbo = 0.0
    for b in CONFIGURATIONS:
        weight = (q * b + (1 - q) * (1 - b)).prod()
        elbo = elbo + weight * log_likelihood(story, graph, b)
    prior = Bernoulli(logits=activation_logits(STICKS).expand(N, K))
    elbo = elbo - kl_weight * kl_divergence(Bernoulli(logits=guide.logits), prior).sum()
    parameters = {"logits": guide.logits, **dict(story.named_parameters())}
    found = torch.autograd.grad(elbo, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), found, strict=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def expected(estimator, story, guide, graph):
    """The estimator's gradient, averaged over all draws with their probabilities."""
    with torch.no_grad():
        q = torch.sigmoid(guide.logits)
        weights = [(q * b + (1 - q) * (1 - b)).prod() for b in CONFIGURATIONS]
    total = None
    for weight, b in zip(weights, CONFIGURATIONS, strict=True):
        found = gradients(estimator, story, guide, graph, b)
        part = {n: weight * g for n, g in found.items()}
        total = part if total is None else {n: total[n] + part[n] for n in part}
    return total


def assert_close(found, truth):
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-8)


CASES = {
    "strengths": ({}, None, False),
    "binary": ({"strengths": False, "bias": "global"}, None, False),
    "node bias": ({"bias": "node"}, None, False),
    "balanced": ({"class_weight": "balanced", "bias": "node"}, None, False),
    "weighted": ({"class_weight": 3.5, "strengths": False}, None, False),
    "bernoulli": ({"features": "bernoulli"}, "bernoulli", False),
    "sparse": ({"features": "bernoulli", "strengths": False}, "bernoulli", True),
    "normal": ({"features": "normal", "bias": "global"}, "normal", False),
}


def a_case(name):
    options, features, sparse = CASES[name]
    story = a_story(**options)
    return story, Table(story), a_graph(features, sparse=sparse)


@pytest.mark.parametrize("name", CASES)
def test_the_expected_gradient_is_the_one_by_enumeration(name):
    story, guide, graph = a_case(name)
    truth = enumerated(story, guide, graph)
    assert truth["logits"].abs().min() > 1e-5
    assert_close(expected(LocalExpectationELBO(), story, guide, graph), truth)


def test_nothing_missing():
    story = a_story()
    guide, graph = Table(story), a_graph(missing=None)
    assert_close(
        expected(LocalExpectationELBO(), story, guide, graph), enumerated(story, guide, graph)
    )


def test_a_tempered_divergence():
    story, guide, graph = a_case("binary")
    estimator = LocalExpectationELBO(kl_weight=0.3)
    assert_close(
        expected(estimator, story, guide, graph), enumerated(story, guide, graph, kl_weight=0.3)
    )


def test_a_decaying_baseline_is_not_needed_and_does_no_harm():
    story, _, graph = a_case("strengths")
    guide = Table(story, use_decaying_avg_baseline=True, baseline_beta=0.9)
    assert_close(
        expected(LocalExpectationELBO(), story, guide, graph), enumerated(story, guide, graph)
    )


def test_small_blocks_of_rows_price_the_same():
    story, guide, graph = a_case("bernoulli")
    bits = CONFIGURATIONS[101]
    whole = gradients(LocalExpectationELBO(), story, guide, graph, bits)
    with mock.patch.object(module, "_ELEMENTS", 9):
        assert_close(gradients(LocalExpectationELBO(), story, guide, graph, bits), whole)


def test_the_gain_of_a_bit_does_not_depend_on_its_own_draw():
    """The coefficient of dq_nk is a difference over both values of b_nk: the same whichever was drawn."""
    story, guide, graph = a_case("node bias")
    estimator = LocalExpectationELBO()
    for n, k in itertools.product(range(N), range(K)):
        one, zero = (CONFIGURATIONS[77].clone() for _ in range(2))
        one[n, k], zero[n, k] = 1.0, 0.0
        a, b = (gradients(estimator, story, guide, graph, x)["logits"][n, k] for x in (one, zero))
        assert a.item() == pytest.approx(b.item(), abs=1e-10)


def test_the_gain_is_the_difference_of_two_likelihoods():
    for name in CASES:
        story, guide, graph = a_case(name)
        bits = CONFIGURATIONS[150]
        found = gradients(LocalExpectationELBO(), story, guide, graph, bits)["logits"]
        prior = Bernoulli(logits=activation_logits(STICKS).expand(N, K))
        divergence = kl_divergence(Bernoulli(logits=guide.logits), prior).sum()
        (of_kl,) = torch.autograd.grad(divergence, guide.logits)
        q = torch.sigmoid(guide.logits)
        for n, k in itertools.product(range(N), range(K)):
            one, zero = bits.clone(), bits.clone()
            one[n, k], zero[n, k] = 1.0, 0.0
            gain = log_likelihood(story, graph, one) - log_likelihood(story, graph, zero)
            slope = q[n, k] * (1 - q[n, k]) * gain - of_kl[n, k]
            assert found[n, k].item() == pytest.approx(slope.item(), abs=1e-9), name


# -- a sample of the columns ------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_averaged_over_all_samples_of_columns_the_estimate_is_the_exact_one(name, columns):
    story, guide, graph = a_case(name)
    bits = CONFIGURATIONS[0b10110010]
    exact = gradients(LocalExpectationELBO(), story, guide, graph, bits)
    choices = {
        size: [torch.tensor(c) for c in itertools.combinations(range(size), min(size, columns))]
        for size in (N, D)
    }
    # one element after the other: the dyads' part and the features' part are each linear in their own sample
    feature_choices = choices[D] if graph.features is not None else [None]
    total, count, estimates = None, 0, []
    for nodes, features in itertools.product(choices[N], feature_choices):
        taken = {N: nodes, D: features}
        asked = []

        def sample(size, limit, device, taken=taken, asked=asked):
            asked.append((size, limit))
            return taken[size]

        with mock.patch.object(module, "_sample", sample):
            estimator = LocalExpectationELBO(columns=columns)
            part = gradients(estimator, story, guide, graph, bits)
        assert {limit for _, limit in asked} == {columns}
        estimates.append(part["logits"])
        total = part if total is None else {n: total[n] + part[n] for n in part}
        count += 1
    assert_close({n: g / count for n, g in total.items()}, exact)
    spread = torch.stack(estimates).std(0).max()
    assert spread > 1e-4, "the samples differ, or the average would be no test"


def test_as_many_columns_as_nodes_are_all_of_them():
    assert module._sample(5, 5, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]
    assert module._sample(5, 9, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]


def test_a_sample_is_uniform_and_without_repeats():
    counts, trials = np.zeros(10), 4000
    for _ in range(trials):
        drawn = module._sample(10, 3, torch.device("cpu")).tolist()
        assert len(set(drawn)) == 3
        counts[drawn] += 1
    z = (counts - 0.3 * trials) / np.sqrt(0.3 * 0.7 * trials)
    assert largest(z) < LIMIT


# -- variance and use -------------------------------------------------------------------------------


def _gradient_variance(estimator, story, guide, graph, draws=60):
    found = []
    parameter = guide.encoder.heads["membership_logits"].lin.weight
    for _ in range(draws):
        loss = estimator.differentiable_loss(story, guide, graph)
        (g,) = torch.autograd.grad(loss, [parameter])
        found.append(g)
    stacked = torch.stack(found)
    return stacked.var(0).sum().item(), stacked.mean(0)


def test_its_variance_is_far_below_that_of_dyadic_credit():
    graph = karate()
    torch.manual_seed(1)
    story = DGLFRM(34, 5, decoder=(), bias="global")
    guide = StructuredMeanField(story, graph, hidden=(8,), baseline=None)
    fit(story, guide, graph, steps=60, learning_rate=0.05)
    guide.train()
    local, mean = _gradient_variance(LocalExpectationELBO(), story, guide, graph, draws=150)
    sampled, _ = _gradient_variance(LocalExpectationELBO(columns=17), story, guide, graph)
    dyadic, other = _gradient_variance(DyadicELBO(), story, guide, graph, draws=150)
    assert dyadic > 4 * local
    assert local < sampled < dyadic
    # the same expectation: their difference is within the noise of both
    assert (mean - other).norm() ** 2 < 3 * (local + dyadic) / 150


def test_the_objective_itself_is_that_of_dyadic_credit():
    graph = karate()
    torch.manual_seed(1)
    story = DGLFRM(34, 5, bias="node")
    guide = StructuredMeanField(story, graph, hidden=(8,))
    losses = []
    for estimator in (LocalExpectationELBO(), LocalExpectationELBO(columns=7), DyadicELBO()):
        torch.manual_seed(2)
        losses.append(estimator.differentiable_loss(story, guide, graph).item())
    assert losses == pytest.approx([losses[2]] * 3, rel=1e-6)  # float32 of other surrogates


def test_pricing_does_not_disturb_the_draws_when_all_columns_are_used():
    """Flips replay the draw that was made: the generator stands where the plain estimator leaves it."""
    graph = karate()
    torch.manual_seed(1)
    story = DGLFRM(34, 5)
    guide = StructuredMeanField(story, graph, hidden=(8,))
    states = []
    for estimator in (LocalExpectationELBO(), DyadicELBO()):
        for _ in range(2):
            torch.manual_seed(2)
            estimator.differentiable_loss(story, guide, graph)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_fit_by_local_expectations_raises_the_elbo_on_karate():
    graph = karate()
    torch.manual_seed(1)
    story = DGLFRM(34, 5, decoder=(), bias="global")
    guide = StructuredMeanField(story, graph, hidden=(8,))
    price, calls = LocalExpectationELBO._change, []

    def counted(self, *arguments):
        calls.append(self.columns)
        return price(self, *arguments)

    with mock.patch.object(LocalExpectationELBO, "_change", counted):
        found = fit(
            story,
            guide,
            graph,
            steps=100,
            learning_rate=0.05,
            gradient="local_expectation",
            expectation_columns=20,
        )
    assert np.mean(found.history["elbo"][-20:]) > np.mean(found.history["elbo"][:5]) + 80
    assert calls == [20] * 100, "the estimator that was asked for is the one used"


@pytest.mark.parametrize("decoder", [(), (3,), (5, 3)])
def test_a_linear_f_is_priced_by_rank_one_changes_to_the_same_effect(decoder, monkeypatch):
    story = a_story(decoder=decoder)
    graph = a_graph()
    guide = StructuredMeanField(story, graph, hidden=(4,)).double()
    seen = []
    found = module._common_directions

    def watch(*factors):
        seen.append(found(*factors))
        return seen[-1]

    monkeypatch.setattr(module, "_common_directions", watch)
    torch.manual_seed(3)
    fast = LocalExpectationELBO().differentiable_loss(story, guide, graph)
    fast = torch.autograd.grad(fast, list(guide.encoder.parameters()), allow_unused=True)
    assert seen
    if len(decoder) < 2:
        assert all(moves is not None for moves in seen)
    monkeypatch.setattr(module, "_common_directions", lambda *_: None)
    torch.manual_seed(3)
    plain = LocalExpectationELBO().differentiable_loss(story, guide, graph)
    plain = torch.autograd.grad(plain, list(guide.encoder.parameters()), allow_unused=True)
    for a, b in zip(fast, plain, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
