"""Exact evidence: against sums and integrals written out by other means, and above every ELBO."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from chance import LIMIT, largest
from scipy import integrate, stats
from scipy.special import betaln, expit, gammaln

from graphlore.data import Graph
from graphlore.guides import AmortisedCategorical, StructuredMeanField
from graphlore.inference import enumerate_posterior, fit, log_importance_weights
from graphlore.inference.enumeration import _prior_of_bits
from graphlore.inference.logistic_normal import logistic_normal_integrals
from graphlore.models import DGLFRM, LFRM, SBM, Concrete

EDGES = [[0, 0, 2], [1, 2, 3]]
WEIGHTS = {"poisson": [2.0, 1.0, 3.0], "normal": [0.7, -1.2, 0.4]}
KINDS = {
    "undirected": {},
    "directed": {"directed": True},
    "bipartite": {"parts": [0, 1, 1, 0]},
}
MISSING = {"undirected": [[0], [3]], "directed": [[3, 1], [0, 2]], "bipartite": [[3], [1]]}
LOG_TAU = np.linspace(-8.0, 8.0, 3001)
TRIANGLES = Graph(6, [[0, 0, 1, 3, 3, 4, 2], [1, 2, 2, 4, 5, 5, 3]])


def a_graph(kind, likelihood="bernoulli"):
    return Graph(4, EDGES, missing=MISSING[kind], weights=WEIGHTS.get(likelihood), **KINDS[kind])


def dyads(graph):
    """(i, j, value), the end of side 0 first."""
    value = graph.weighted_adjacency.to_dense().numpy()
    hidden = set(zip(*graph.missing.tolist(), strict=True))
    for i, j in itertools.product(range(graph.num_nodes), repeat=2):
        if graph.parts is not None:
            if not (graph.parts[i] == 0 and graph.parts[j] == 1) or {(i, j), (j, i)} & hidden:
                continue
        elif (not graph.directed and i >= j) or i == j or (i, j) in hidden:
            continue
        yield i, j, float(value[i, j])


def blocks_of(graph, z):
    """Values of the dyads by block pair."""
    found = {}
    for i, j, x in dyads(graph):
        ends = (z[i], z[j])
        if not graph.directed and graph.parts is None:
            ends = tuple(sorted(ends))
        found.setdefault(ends, []).append(x)
    return found


def log_partition_prior(z, K, alpha):
    sizes = np.bincount(z, minlength=K)
    rising = gammaln(alpha + sizes).sum() - K * gammaln(alpha)
    return rising + gammaln(K * alpha) - gammaln(K * alpha + len(z))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "normal"])
def test_block_models_by_hand(kind, likelihood):
    alpha, K = 0.7, 2
    a, b = {"bernoulli": (0.8, 1.7), "poisson": (1.5, 0.6), "normal": (0.3, 1.4)}[likelihood]
    sides = (2, 2) if kind == "bipartite" else None
    graph = a_graph(kind, likelihood)
    story = SBM(
        4, K, alpha, kind=kind, sides=sides, likelihood=likelihood, block_prior=(a, b)
    ).double()
    found = enumerate_posterior(story, graph)
    joint, shared = [], []
    for z in itertools.product(range(K), repeat=4):
        if likelihood == "normal":
            terms = stats.norm.logpdf(LOG_TAU) + math.log(LOG_TAU[1] - LOG_TAU[0])
            for x in map(np.array, blocks_of(graph, z).values()):
                # the covariance tau^2 I + b^2 11' has the eigenvalues tau^2 and tau^2 + n b^2
                n, tau2 = len(x), np.exp(2 * LOG_TAU)
                along = n * (x.mean() - a) ** 2
                rest = ((x - a) ** 2).sum() - along
                terms = terms - 0.5 * (rest / tau2 + along / (tau2 + n * b**2))
                terms = terms - 0.5 * ((n - 1) * np.log(tau2) + np.log(tau2 + n * b**2))
                terms = terms - 0.5 * n * math.log(2 * math.pi)
            log_edges = np.logaddexp.reduce(terms)
        else:
            log_edges = 0.0
            for x in map(np.array, blocks_of(graph, z).values()):
                if likelihood == "bernoulli":
                    present = (x != 0).sum()
                    log_edges += betaln(a + present, b + len(x) - present) - betaln(a, b)
                else:
                    log_edges += gammaln(a + x.sum()) - gammaln(a) + a * math.log(b)
                    log_edges -= (a + x.sum()) * math.log(b + len(x)) + gammaln(x + 1).sum()
        joint.append(log_edges + log_partition_prior(np.array(z), K, alpha))
        shared.append(np.equal.outer(z, z))
    log_evidence = np.logaddexp.reduce(joint)
    assert found.log_evidence == pytest.approx(log_evidence, abs=1e-7)
    p = np.exp(np.array(joint) - log_evidence)
    np.testing.assert_allclose(found.probabilities, p, atol=1e-8)
    np.testing.assert_allclose(found.co_memberships, np.tensordot(p, shared, 1), atol=1e-8)
    np.testing.assert_allclose(found.memberships, 0.5, atol=1e-8)  # labels are exchangeable
    assert float(found.num_communities.sum()) == pytest.approx(1.0)
    assert float(found.num_communities[0]) == 0.0


@pytest.mark.parametrize("alpha", [0.5, 2.0, 3.3])
def test_prior_of_bits_against_integrals_over_sticks(alpha):
    bits = torch.cartesian_prod(*[torch.arange(2)] * 6).reshape(-1, 3, 2)
    found = _prior_of_bits(bits, alpha, False)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-12)
    # v = u^(1/alpha) with u uniform; Gauss-Legendre on u^(1/4) keeps the integrand smooth at 0
    t, weight = np.polynomial.legendre.leggauss(120)
    t = 0.5 * (t + 1)
    u, weight = t**4, 0.5 * weight * 4 * t**3
    pi = np.stack(np.broadcast_arrays(u[:, None], u[:, None] * u)) ** (1 / alpha)
    for which in (0, 5, 22, 41, 63):
        m = bits[which].sum(0).numpy()[:, None, None]
        value = weight @ (pi**m * (1 - pi) ** (3 - m)).prod(0) @ weight
        assert float(found[which]) == pytest.approx(value, rel=1e-6)
    alone = _prior_of_bits(bits[:, :, :1], alpha, False)  # one stick: a Beta function
    members = bits[:, :, 0].sum(1).numpy()
    expected = np.exp(betaln(alpha + members, 1 + 3 - members) - betaln(alpha, 1))
    np.testing.assert_allclose(alone, expected, rtol=1e-13)
    local = _prior_of_bits(bits, alpha, True)
    assert float(local.sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("kind", "affinity", "sticks", "bias"),
    [
        ("undirected", "full", "global", "none"),
        ("undirected", "full", "local", "none"),
        ("undirected", "diagonal", "global", "global"),
        ("directed", "full", "global", "none"),
        ("bipartite", "diagonal", "global", "none"),
    ],
)
def test_lfrm_against_a_plain_grid(kind, affinity, sticks, bias):
    """Every configuration on one fine product grid over the affinities (and the bias), nothing grouped or centred."""
    missing = {"undirected": None, "directed": [[1], [2]], "bipartite": None}[kind]
    parts = [0, 1, 0] if kind == "bipartite" else None
    graph = Graph(3, [[0, 1], [1, 2]], missing=missing, directed=kind == "directed", parts=parts)
    scale, sd = 1.3, 1.1
    options = {"kind": kind, "affinity": affinity, "sticks": sticks, "bias": bias}
    story = LFRM(3, 2, 1.5, affinity_scale=scale, bias_scale=(sd, 1.0), **options).double()
    step = 0.3 if story.num_affinities < 4 else 0.6
    axis = np.arange(-6.5, 6.51, step)
    count = story.num_affinities + (bias == "global")
    grid = np.stack(np.meshgrid(*[axis] * count, indexing="ij"), -1).reshape(-1, count)
    weight = np.exp(-0.5 * (grid**2).sum(1)) * (step / math.sqrt(2 * math.pi)) ** count
    c = sd * grid[:, -1] if bias == "global" else 0.0
    table = story.table(torch.from_numpy(scale * grid[:, : story.num_affinities])).numpy()
    configurations = torch.cartesian_prod(*[torch.arange(2)] * 6).reshape(-1, 3, 2)
    prior = _prior_of_bits(configurations, 1.5, sticks == "local").numpy()
    joint = []
    for b, p in zip(configurations.numpy(), prior, strict=True):
        likelihood = np.ones(len(grid))
        for i, j, x in dyads(graph):
            s = np.einsum("k,gkl,l->g", b[i], table, b[j]) + c
            likelihood *= expit(s if x else -s)
        joint.append(p * (likelihood @ weight))
    found = enumerate_posterior(story, graph, tolerance=1e-7)
    assert found.log_evidence == pytest.approx(math.log(sum(joint)), abs=1e-6)
    np.testing.assert_allclose(found.probabilities, np.array(joint) / sum(joint), atol=1e-6)
    assert 0.0 <= found.relative_error <= 1e-7


def test_integrals_over_many_dimensions_factorise():
    """Six dimensions in disguise: rotated, the rows are of one dimension each."""
    rng = np.random.default_rng(0)
    scales = np.array([0.5, 1.0, 1.0, 1.5, 1.5, 2.0])
    rotation = stats.ortho_group.rvs(6, random_state=1)
    rows = np.concatenate([np.diag(scales), np.diag(0.7 * scales)]) @ rotation
    signs = rng.choice([-1.0, 1.0], (5, 12))

    def one(scale, first, second):
        def density(t):
            return stats.norm.pdf(t) * expit(first * scale * t) * expit(0.7 * second * scale * t)

        return integrate.quad(density, -10, 10, epsabs=0, epsrel=1e-11, limit=200)[0]

    exact = [math.prod(one(s, y[k], y[6 + k]) for k, s in enumerate(scales)) for y in signs]
    found, error = logistic_normal_integrals(
        torch.tensor(np.stack([rows] * 5)), torch.tensor(signs), torch.ones(5), tolerance=2e-5
    )
    assert error <= 2e-5
    assert largest((float(found.sum()) / sum(exact) - 1.0) / 2e-5) < LIMIT
    np.testing.assert_allclose(found, exact, rtol=2e-4)


def test_evidence_does_not_depend_on_the_order_of_the_nodes():
    graph = Graph(4, [[0, 0, 1, 2], [1, 2, 2, 3]])
    other = Graph(4, [[3, 3, 1, 0], [1, 0, 0, 2]])  # nodes 0, 1, 2, 3 are now 3, 1, 0, 2
    story = LFRM(4, 2)
    first, second = enumerate_posterior(story, graph), enumerate_posterior(story, other)
    assert first.log_evidence == pytest.approx(second.log_evidence, abs=1e-9)
    np.testing.assert_allclose(first.memberships, second.memberships[[3, 1, 0, 2]], atol=1e-7)


def test_refusals():
    graph = Graph(4, EDGES)
    with pytest.raises(ValueError, match="not DGLFRM: use fit_mcmc"):
        enumerate_posterior(DGLFRM(4, 2), graph)
    with pytest.raises(ValueError, match="biases of nodes"):
        enumerate_posterior(SBM(4, 2, bias="node"), graph)
    with pytest.raises(ValueError, match=r"2\^30 configurations"):
        enumerate_posterior(SBM(30, 2), Graph(30, EDGES))
    with pytest.raises(ValueError, match=r"8\^7 configurations"):
        enumerate_posterior(LFRM(7, 3), Graph(7, EDGES))
    with pytest.raises(ValueError, match="likelihood, class_weight and relaxation"):
        enumerate_posterior(LFRM(4, 2, relaxation=Concrete(0.5)), graph)
    with pytest.raises(ValueError, match="likelihood, class_weight and relaxation"):
        enumerate_posterior(LFRM(4, 2, class_weight="balanced"), graph)
    with pytest.raises(ValueError, match="story of undirected graphs"):
        enumerate_posterior(LFRM(4, 2), Graph(4, EDGES, directed=True))


def elbo_of(story, guide, graph, gradient, draws=20_000):
    fit(
        story,
        guide,
        graph,
        steps=250,
        learning_rate=0.05,
        gradient=gradient,
        progress=False,
    )
    weights = log_importance_weights(story, guide, graph, draws)
    assert weights.dtype == torch.float64
    return weights


def below_the_evidence(weights, log_evidence):
    """The gap in nats, if the ELBO is below log p(A) within the limit of standard errors."""
    elbo, error = float(weights.mean()), float(weights.std()) / math.sqrt(len(weights))
    assert elbo <= log_evidence or largest((elbo - log_evidence) / error) < LIMIT
    # By Markov's inequality, the mean weight is above e^5 p(A) at most once in 148 times.
    assert float(torch.logsumexp(weights, 0)) - math.log(len(weights)) < log_evidence + 5.0
    return log_evidence - elbo


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson"])
def test_the_elbo_of_a_block_model_is_below_the_evidence(likelihood):
    story = SBM(6, 2, likelihood=likelihood).double()
    guide = AmortisedCategorical(story, TRIANGLES, amortised=False).double()
    weights = elbo_of(story, guide, TRIANGLES, "expectation")
    gap = below_the_evidence(weights, enumerate_posterior(story, TRIANGLES).log_evidence)
    # one of two numberings of the blocks is half of the posterior: log 2 nats at least
    assert math.log(2) < gap < 3.0


@pytest.mark.parametrize("bias", ["none", "global"])
def test_the_elbo_of_lfrm_is_below_the_evidence(bias):
    graph = Graph(4, [[0, 0, 1, 2], [1, 2, 2, 3]])
    nodes = 4 if bias == "none" else 3
    graph = graph if bias == "none" else Graph(3, [[0, 1], [1, 2]])
    story = LFRM(nodes, 2, bias=bias).double()
    guide = StructuredMeanField(story, graph, amortised=False).double()
    weights = elbo_of(story, guide, graph, "local_expectation")
    exact = enumerate_posterior(story, graph, tolerance=1e-6)
    assert 0.0 < below_the_evidence(weights, exact.log_evidence) < 1.5


@pytest.mark.slow
def test_three_communities_in_double_precision():
    graph = Graph(4, [[0, 0, 1, 2], [1, 2, 2, 3]])
    story = LFRM(4, 3).double()
    exact = enumerate_posterior(story, graph, tolerance=1e-6)
    assert exact.relative_error <= 1e-6
    guide = StructuredMeanField(story, graph, amortised=False).double()
    weights = elbo_of(story, guide, graph, "local_expectation", draws=50_000)
    assert 0.0 < below_the_evidence(weights, exact.log_evidence) < 1.5
