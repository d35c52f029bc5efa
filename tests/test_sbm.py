"""SBM: its density by hand, its sites, draws from its prior, fits of every kind of graph and likelihood."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from by_hand import KINDS, LIKELIHOODS, edges_by_hand, planted, sites, small_graph, trace_at
from chance import LIMIT, largest
from pyro import poutine
from scipy import stats

from graphlore.guides import AmortisedCategorical
from graphlore.inference import Fit, fit, generate_prior
from graphlore.models import SBM

N, K = 6, 3
TABLE = {"bernoulli": "block_probs", "poisson": "block_rates", "normal": "block_means"}
BIAS_SCALE = (10.0, 0.75)


def every(test):
    test = pytest.mark.parametrize("bias", ["none", "node"])(test)
    test = pytest.mark.parametrize("likelihood", LIKELIHOODS)(test)
    return pytest.mark.parametrize("kind", KINDS)(test)


def a_story(kind, likelihood, bias, **options):
    prior = (-0.5, 1.75) if likelihood == "normal" else (0.75, 2.25)
    told = {"alpha": 0.625, "block_prior": prior, "bias_scale": BIAS_SCALE, **options}
    return SBM(N, K, kind=kind, likelihood=likelihood, bias=bias, **told).double()


def some_values(kind, likelihood, bias, seed=0):
    rng = np.random.default_rng(seed)
    size = K * (K + 1) // 2 if kind == "undirected" else K * K
    W = rng.normal(size=size) if likelihood == "normal" else rng.uniform(0.1, 0.9, size)
    found = {
        "community_weights": rng.dirichlet(np.ones(K)),
        TABLE[likelihood]: W,
        "membership": rng.integers(K, size=N),
    }
    if bias == "node":
        found["node_bias"] = rng.normal(size=N)
    if likelihood == "normal":
        found["edge_scale"] = np.array(0.8)
    return found


def tensors(values):
    return {k: torch.as_tensor(v) for k, v in values.items()}


def matrix(W, kind):
    if kind != "undirected":
        return W.reshape(K, K)
    table = np.zeros((K, K))
    table[np.triu_indices(K)] = W
    return np.triu(table) + np.triu(table, 1).T


def by_hand(graph, kind, likelihood, values):
    """log p of everything, from the equations and SciPy."""
    pi, W, z = (values[k] for k in ("community_weights", TABLE[likelihood], "membership"))
    prior = {
        "bernoulli": stats.beta(0.75, 2.25),
        "poisson": stats.gamma(0.75, scale=1 / 2.25),
        "normal": stats.norm(-0.5, 1.75),
    }[likelihood]
    total = stats.dirichlet(np.full(K, 0.625)).logpdf(pi) + prior.logpdf(W).sum()
    total += np.log(pi[z]).sum()
    table, e = matrix(W, kind), values.get("node_bias", np.zeros(N))
    if "node_bias" in values:
        total += stats.norm(0, BIAS_SCALE[1]).logpdf(e).sum()
    tau = values.get("edge_scale")
    if tau is not None:
        total += stats.lognorm(1.0).logpdf(tau)

    def s(i, j):
        w = table[z[i], z[j]]
        level = {"bernoulli": np.log(w / (1 - w)), "poisson": np.log(w)} if w > 0 else {}
        return level.get(likelihood, w) + e[i] + e[j]

    return total + edges_by_hand(graph, likelihood, s, tau)


@every
def test_log_density(kind, likelihood, bias):
    story, graph = a_story(kind, likelihood, bias), small_graph(kind, likelihood)
    values = some_values(kind, likelihood, bias)
    found = trace_at(story, graph, tensors(values)).log_prob_sum().item()
    assert found == pytest.approx(by_hand(graph, kind, likelihood, values), rel=1e-10)


@every
def test_the_trace_holds_the_sites_of_the_docstring_and_no_others(kind, likelihood, bias):
    size = K * (K + 1) // 2 if kind == "undirected" else K * K
    expected = {
        "community_weights": (K,),
        TABLE[likelihood]: (size,),
        "membership": (N,),
        "edges": (N, N),
    }
    expected |= {"node_bias": (N,)} if bias == "node" else {}
    expected |= {"edge_scale": ()} if likelihood == "normal" else {}
    sides = (2, 4) if kind == "bipartite" else None
    story = a_story(kind, likelihood, bias, sides=sides)
    assert sites(story) == expected
    assert sites(story, small_graph(kind, likelihood)) == expected
    assert set(story.dims) == set(expected) - {"edges"}
    assert not list(story.parameters())
    trace = poutine.trace(story).get_trace(small_graph(kind, likelihood))
    observed = {n for n, s in trace.nodes.items() if s["type"] == "sample" and s["is_observed"]}
    assert observed == {"edges"}


# -- draws from the prior ----------------------------------------------------------------------------


def draws_of(story, count=300):
    return [poutine.trace(story).get_trace().nodes for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_expected_density_of_draws(kind):
    """E[A_ij] = a / (a + b), whatever the blocks; the z-score is that of independent graphs."""
    sides = (2, 4) if kind == "bipartite" else None
    nodes = draws_of(a_story(kind, "bernoulli", "none", sides=sides))
    A = torch.stack([t["edges"]["value"] for t in nodes])
    dyads = ~torch.eye(N, dtype=torch.bool)
    if kind == "bipartite":
        side = torch.tensor([0, 0, 1, 1, 1, 1])
        dyads = side[:, None] != side
    assert not A[:, ~dyads].any()
    symmetric = all(torch.equal(a, a.T) for a in A)
    assert symmetric == (kind != "directed")
    density = A[:, dyads].mean(1)
    z = (density.mean() - 0.25) / (density.std() / len(A) ** 0.5)
    assert largest(z) < LIMIT
    pi = torch.stack([t["community_weights"]["value"] for t in nodes])
    assert largest((pi.mean(0) - 1 / K) / (pi.std(0) / len(A) ** 0.5)) < LIMIT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_follow_the_blocks(kind, likelihood):
    """Standardised by the table at hand, sums by draw have mean 0 and variance 1."""
    sides = (2, 4) if kind == "bipartite" else None
    story = a_story(kind, likelihood, "none", sides=sides, block_prior=(2.0, 2.0))
    found = []
    for t in draws_of(story, 200):
        z, A = t["membership"]["value"], t["edges"]["value"]
        table = story.table(t[TABLE[likelihood]]["value"])
        i, j = torch.triu_indices(N, N, 1)
        if kind == "directed":
            i, j = torch.cat((i, j)), torch.cat((j, i))
        if kind == "bipartite":
            across = (i < 2) & (j >= 2)
            i, j = i[across], j[across]
        mean = table[z[i], z[j]]
        variance = {"bernoulli": mean * (1 - mean), "poisson": mean}.get(likelihood)
        if variance is None:
            variance = torch.full_like(mean, t["edge_scale"]["value"].item() ** 2)
        found.append((A[i, j] - mean).sum() / variance.sum().sqrt())
    u = torch.stack(found)
    assert largest(u.mean() * len(u) ** 0.5) < LIMIT
    assert largest((u.square().mean() - 1) / (u.square().std() / len(u) ** 0.5)) < LIMIT


def test_degrees_are_corrected_on_the_log_rate():
    story = a_story("undirected", "poisson", "node", bias_scale=(1.0, 0.25))
    nodes = draws_of(story, 400)
    e = torch.stack([t["node_bias"]["value"] for t in nodes])
    assert largest(e.mean() / 0.25 * e.numel() ** 0.5) < LIMIT
    assert largest((e.square().mean() / 0.0625 - 1) / (2 / e.numel()) ** 0.5) < LIMIT
    rates = torch.stack(
        [
            story.table(t["block_rates"]["value"])[t["membership"]["value"]][
                :, t["membership"]["value"]
            ]
            for t in nodes
        ]
    )
    rates = rates * (e[:, :, None] + e[:, None]).exp()
    A = torch.stack([t["edges"]["value"] for t in nodes])
    upper = torch.triu_indices(N, N, 1)
    residual = (A - rates)[:, *upper].sum(1) / rates[:, *upper].sum(1).sqrt()
    assert largest(residual.mean() * len(A) ** 0.5) < LIMIT
    square = residual.square()
    assert largest((square.mean() - 1) / (square.std() / len(A) ** 0.5)) < LIMIT


# -- refusals and words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": "global"}, "an SBM needs no global bias"),
        ({"bias": "some"}, "bias is one of 'none', 'global', 'node', not 'some'"),
        ({"num_blocks": 0}, "num_blocks is the number of blocks, at least 1, not 0"),
        ({"alpha": 0.0}, "alpha is a positive concentration, not 0"),
        ({"likelihood": "gamma"}, "likelihood is one of 'bernoulli', 'poisson', 'normal'"),
        ({"kind": "hyper"}, "kind is one of 'undirected', 'directed', 'bipartite', not 'hyper'"),
        ({"block_prior": (0.0, 1.0)}, "first number of block_prior is a positive number"),
        ({"block_prior": (1.0, -1.0)}, "second number of block_prior is a positive number"),
        ({"block_prior": (1.0,)}, "block_prior is two numbers"),
        ({"bias_scale": (1.0,)}, "bias_scale is two positive numbers"),
        ({"bias_scale": (1.0, -2.0)}, "bias_scale is two positive numbers"),
        ({"sides": (2, 4)}, "sides are the nodes of either side of a bipartite graph"),
        ({"kind": "bipartite", "sides": (2, 3)}, "sides are the nodes of either side"),
        ({"kind": "bipartite", "sides": (-1, 7)}, "sides are the nodes of either side"),
    ],
)
def test_options_outside_of_what_is_listed(options, message):
    with pytest.raises(ValueError, match=message):
        SBM(6, **{"num_blocks": 2, **options})


@pytest.mark.parametrize(("told", "given"), itertools.permutations(KINDS, 2))
def test_a_graph_of_another_kind(told, given):
    message = f"this SBM is a story of {told} graphs; 'graph' is {given}: tell the story with kind='{given}'"
    with pytest.raises(ValueError, match=message):
        SBM(6, 2, kind=told)(small_graph(given))


def test_counts_that_are_no_counts():
    with pytest.raises(ValueError, match="weights that are negative or not whole"):
        SBM(6, 2, likelihood="poisson")(small_graph("undirected", "normal"))


def test_a_bipartite_prior_needs_sides():
    with pytest.raises(ValueError, match=r"needs the story's sides=\(n0, n1\)"):
        SBM(6, 2, kind="bipartite")()


@every
def test_equations_name_every_site(kind, likelihood, bias):
    story = a_story(kind, likelihood, bias)
    words = story.equations()
    for name in (*story.dims, "edges"):
        assert f"`{name}`" in words
    assert words.count("`") == 2 * (len(story.dims) + 1), "no other sites"
    law = {"bernoulli": "Beta(0.75, 2.25)", "poisson": "Gamma(0.75, 2.25)"}
    assert law.get(likelihood, "Normal(-0.5, 1.75^2)") in words


# -- fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "likelihood", "bias", "gradient", "amortised"),
    [
        ("undirected", "bernoulli", "none", "expectation", True),
        ("undirected", "bernoulli", "node", "local_expectation", False),
        ("undirected", "normal", "node", "dyadic", False),
        ("directed", "bernoulli", "none", "expectation", False),
        ("directed", "poisson", "node", "expectation", True),
        ("bipartite", "bernoulli", "none", "expectation", True),
        ("bipartite", "poisson", "node", "expectation", False),
        ("bipartite", "normal", "none", "local_expectation", False),
    ],
)
def test_a_fit_from_end_to_end(kind, likelihood, bias, gradient, amortised, tmp_path):
    graph, _ = planted(kind, likelihood)
    n = graph.num_nodes
    sides = (n - int(graph.parts.sum()), int(graph.parts.sum())) if kind == "bipartite" else None
    torch.manual_seed(1)
    story = SBM(n, 2, kind=kind, likelihood=likelihood, bias=bias, sides=sides)
    encoder = {"hidden": (8,)} if amortised else {}
    options = {"initial": "random" if kind == "undirected" else "spectral", "confidence": 0.6}
    guide = AmortisedCategorical(story, graph, amortised=amortised, **encoder, **options)
    found = fit(story, guide, graph, steps=60, learning_rate=0.05, gradient=gradient, seed=2)
    elbo = np.array(found.history["elbo"])
    assert np.isfinite(elbo).all()
    assert elbo[-10:].mean() > elbo[:5].mean()

    posterior = found.posterior(7)
    for name, dims in story.dims.items():
        variable = posterior.posterior[name]
        assert variable.dims == ("chain", "draw", *dims), name
    table = np.asarray(posterior.posterior[TABLE[likelihood]])
    assert table.shape == (1, 7, 2, 2)
    assert np.array_equal(table, table.swapaxes(-1, -2)) == (kind == "undirected")
    assert posterior.log_likelihood["edges"].shape == (1, 7, graph.num_dyads)

    again = Fit.load(found.save(tmp_path))
    expected = found.encode(graph, draws=20).memberships
    torch.testing.assert_close(again.encode(graph, draws=20).memberships, expected)
    assert again.story.options == story.options
    torch.testing.assert_close(expected.sum(1), torch.ones(n))

    for source in ("posterior", "prior"):
        for drawn in found.generate(2, source):
            assert drawn.directed == (kind == "directed")
            assert (drawn.parts is None) == (kind != "bipartite")
            assert (drawn.weights is None) == (likelihood == "bernoulli")
            assert drawn.num_nodes == n
            if kind == "bipartite":
                assert (drawn.parts[drawn.edge_index[0]] != drawn.parts[drawn.edge_index[1]]).all()
    if kind == "bipartite":
        assert torch.equal(found.generate(1)[0].parts, graph.parts)


def test_a_planted_partition_is_found_and_dyads_predicted():
    graph, truth = planted()
    story = SBM(30, 2)
    guide = AmortisedCategorical(story, graph, amortised=False)
    found = fit(story, guide, graph, steps=80, learning_rate=0.1, gradient="expectation")
    z = found.encode(graph).memberships.argmax(1).numpy()
    assert max((z == truth).mean(), (z != truth).mean()) == 1.0
    p = found.link_probabilities()
    within = truth[:, None] == truth
    assert 0.5 < p[within & ~np.eye(30, dtype=bool)].mean() < 0.7
    assert 0.04 < p[~within].mean() < 0.16


@pytest.mark.parametrize("likelihood", ["poisson", "normal"])
def test_expected_counts_and_weights(likelihood):
    """E[q_i' W q_j] with W its conjugate factor: no draws, against the average over draws."""
    graph, _ = planted("undirected", likelihood)
    story = SBM(30, 2, likelihood=likelihood)
    guide = AmortisedCategorical(story, graph, amortised=False)
    found = fit(story, guide, graph, steps=30, learning_rate=0.1, gradient="expectation")
    with torch.no_grad():
        q = torch.softmax(guide.encoder(graph)[0]["membership_logits"], -1)
        tau = torch.tensor(1.0) if likelihood == "normal" else None
        W = story.table_given(graph, q, edge_scale=tau).mean
        exact = q @ story.table(W) @ q.T
    i, j = pairs = graph.observed_pairs()
    difference = found.expected_values(pairs, draws=1000) - exact[i, j]
    assert difference.abs().max() < 0.2
    assert abs(difference.mean()) < 0.02


def test_prior_draws_of_a_bipartite_story():
    for drawn in generate_prior(SBM(6, 2, kind="bipartite", sides=(2, 4)), 3):
        assert drawn.parts.tolist() == [0, 0, 1, 1, 1, 1]
