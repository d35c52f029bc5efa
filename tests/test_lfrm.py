"""LFRM: its density by hand, its sites, draws from its prior, fits of every kind of graph and likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import KINDS, edges_by_hand, planted, sites, small_graph, trace_at
from chance import LIMIT, largest
from pyro import poutine
from scipy import stats

from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import Fit, fit
from graphlore.models import LFRM, SubsampledDyads
from graphlore.models.sticks import expected_active

N, K = 6, 3
BIAS_SCALE = (1.5, 0.75)
OPTIONS = {
    "plain": {},
    "local": {"sticks": "local"},
    "diagonal": {"affinity": "diagonal"},
    "global bias": {"bias": "global"},
    "node bias, local": {"bias": "node", "sticks": "local"},
    "weighted": {"class_weight": 2.5, "affinity": "diagonal"},
    "balanced": {"class_weight": "balanced"},
    "counts": {"likelihood": "poisson", "bias": "node"},
    "weights": {"likelihood": "normal", "bias": "global"},
}


def every(test):
    test = pytest.mark.parametrize("name", OPTIONS)(test)
    return pytest.mark.parametrize("kind", KINDS)(test)


def a_story(kind, name, **options):
    told = {"affinity_scale": 1.25, "bias_scale": BIAS_SCALE, **OPTIONS[name], **options}
    return LFRM(N, K, 1.75, kind=kind, **told).double()


def size_of(story):
    if story.affinity_form == "diagonal":
        return K
    return K * (K + 1) // 2 if story.kind == "undirected" else K * K


def some_values(story, seed=0):
    rng = np.random.default_rng(seed)
    local = story.sticks_placement == "local"
    found = {
        "sticks": rng.uniform(0.3, 0.95, (N, K) if local else K),
        "memberships": rng.integers(2, size=(N, K)).astype(float),
        "affinity": rng.normal(size=size_of(story)),
    }
    if story.bias != "none":
        found["bias"] = np.array(-0.4)
    if story.bias == "node":
        found["node_bias"] = rng.normal(size=N)
    if story.likelihood == "normal":
        found["edge_scale"] = np.array(0.8)
    return found


def tensors(values):
    return {k: torch.as_tensor(v) for k, v in values.items()}


def matrix(story, entries):
    if story.affinity_form == "diagonal":
        return np.diag(entries)
    if story.kind != "undirected":
        return entries.reshape(K, K)
    table = np.zeros((K, K))
    table[np.triu_indices(K)] = entries
    return np.triu(table) + np.triu(table, 1).T


def by_hand(story, graph, values):
    v, b = values["sticks"], values["memberships"]
    pi = np.broadcast_to(np.cumprod(v, -1), (N, K))
    total = stats.beta(1.75, 1).logpdf(v).sum() + stats.bernoulli(pi).logpmf(b).sum()
    total += stats.norm(0, 1.25).logpdf(values["affinity"]).sum()
    c, e = values.get("bias", 0.0), values.get("node_bias", np.zeros(N))
    if "bias" in values:
        total += stats.norm(0, BIAS_SCALE[0]).logpdf(c)
    if "node_bias" in values:
        total += stats.norm(0, BIAS_SCALE[1]).logpdf(e).sum()
    tau = values.get("edge_scale")
    total += 0.0 if tau is None else stats.lognorm(1.0).logpdf(tau)
    table = matrix(story, values["affinity"])
    w0, w1 = 1.0, story.class_weight or 1.0
    if w1 == "balanced":
        count, dyads = graph.num_edges, graph.num_dyads
        w0, w1 = dyads / (2 * (dyads - count)), dyads / (2 * count)
    s = lambda i, j: b[i] @ table @ b[j] + c + e[i] + e[j]  # noqa: E731
    return total + edges_by_hand(graph, story.likelihood, s, tau, w1, w0)


@every
def test_log_density(kind, name):
    story = a_story(kind, name)
    graph = small_graph(kind, story.likelihood)
    values = some_values(story)
    found = trace_at(story, graph, tensors(values)).log_prob_sum().item()
    assert found == pytest.approx(by_hand(story, graph, values), rel=1e-10)


@every
def test_the_trace_holds_the_sites_of_the_docstring_and_no_others(kind, name):
    story = a_story(kind, name, sides=(2, 4) if kind == "bipartite" else None)
    expected = {k: v.shape for k, v in some_values(story).items()} | {"edges": (N, N)}
    assert sites(story) == expected
    assert sites(story, small_graph(kind, story.likelihood)) == expected
    assert set(story.dims) == set(expected) - {"edges"}
    assert not list(story.parameters())
    words = story.equations()
    assert all(f"`{site}`" in words for site in expected)
    assert words.count("`") == 2 * len(expected)


# -- draws from the prior ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_draws(kind):
    sides = (2, 4) if kind == "bipartite" else None
    nodes = [
        poutine.trace(a_story(kind, "plain", sides=sides)).get_trace().nodes for _ in range(500)
    ]
    b = torch.stack([t["memberships"]["value"] for t in nodes])
    active = b.sum(-1).mean(-1)
    z = (active.mean() - expected_active(1.75, K)) / (active.std() / len(b) ** 0.5)
    assert largest(z) < LIMIT
    affinity = torch.stack([t["affinity"]["value"] for t in nodes]).flatten()
    assert largest(affinity.mean() / (1.25 / affinity.numel() ** 0.5)) < LIMIT
    assert largest((affinity.var() / 1.25**2 - 1) / (2 / affinity.numel()) ** 0.5) < LIMIT
    A = torch.stack([t["edges"]["value"] for t in nodes])
    side = torch.tensor([0, 0, 1, 1, 1, 1])
    dyads = side[:, None] != side if kind == "bipartite" else ~torch.eye(N, dtype=torch.bool)
    assert not A[:, ~dyads].any()
    assert all(torch.equal(a, a.T) for a in A) == (kind != "directed")
    # Lambda is symmetric about zero, and so is every log odds: half of the dyads are links
    share = A[:, dyads].mean(1)
    assert largest((share.mean() - 0.5) / (share.std() / len(A) ** 0.5)) < LIMIT


def test_an_affinity_is_from_row_to_column():
    story = a_story("directed", "plain")
    values = tensors(some_values(story)) | {"affinity": torch.zeros(9).double()}
    values["affinity"][1] = 40.0  # from community 0 to community 1
    values["memberships"] = torch.eye(K).double().repeat(2, 1)
    A = poutine.condition(story, data=values)()
    assert A[0, 1] == A[0, 4] == A[3, 1] == A[3, 4] == 1
    assert poutine.condition(story, data=values | {"affinity": -values["affinity"]})()[0, 1] == 0


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affinity": "sparse"}, "affinity is one of 'full', 'diagonal', not 'sparse'"),
        ({"sticks": "some"}, "sticks is one of 'global', 'local', not 'some'"),
        ({"truncation": 0}, "truncation is the number of communities, at least 1, not 0"),
        ({"alpha": -1.0}, "alpha is a positive concentration, not -1"),
        ({"affinity_scale": 0.0}, "affinity_scale is a positive number, not 0"),
        ({"num_classes": 3}, "LFRM has no embedding to decode labels from"),
        ({"likelihood": "poisson", "class_weight": 2.0}, "class_weight is for Bernoulli edges"),
        ({"likelihood": "normal", "absent_sample": 9}, "absent_sample is for Bernoulli edges"),
        ({"class_weight": "heavy"}, "class_weight is None, 'balanced' or a number"),
        ({"class_weight": -1.0}, "class_weight is a positive number, not -1"),
    ],
)
def test_options_outside_of_what_is_listed(options, message):
    with pytest.raises(ValueError, match=message):
        LFRM(6, **options)


def test_a_graph_of_another_kind():
    with pytest.raises(ValueError, match="a story of undirected graphs; 'graph' is directed"):
        LFRM(6)(small_graph("directed"))


def test_a_sample_of_absent_dyads_of_every_kind():
    for kind in KINDS:
        story = a_story(kind, "global bias", absent_sample=9)
        edges = poutine.trace(story).get_trace(small_graph(kind)).nodes["edges"]["fn"]
        assert type(edges) is SubsampledDyads
        assert edges.num_absent == 9


# -- fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "guide", "gradient", "amortised"),
    [
        ("undirected", "global bias", StructuredMeanField, "local_expectation", True),
        ("directed", "node bias, local", MeanField, "local_expectation", False),
        ("bipartite", "global bias", StructuredMeanField, "dyadic", True),
        ("directed", "counts", StructuredMeanField, "local_expectation", False),
        ("bipartite", "weights", MeanField, "disarm", False),
        ("undirected", "diagonal", MeanField, "concrete", False),
    ],
)
def test_a_fit_from_end_to_end(kind, name, guide, gradient, amortised, tmp_path):
    likelihood = OPTIONS[name].get("likelihood", "bernoulli")
    graph, _ = planted(kind, likelihood)
    n = graph.num_nodes
    sides = (n - int(graph.parts.sum()), int(graph.parts.sum())) if kind == "bipartite" else None
    torch.manual_seed(1)
    story = LFRM(n, K, 1.75, kind=kind, sides=sides, **OPTIONS[name])
    encoder = {"hidden": (8,)} if amortised else {}
    made = guide(story, graph, amortised=amortised, membership_spread=1.0, **encoder)
    found = fit(story, made, graph, steps=60, learning_rate=0.05, gradient=gradient, seed=2)
    elbo = np.array(found.history["elbo"])
    assert np.isfinite(elbo).all()
    assert elbo[-10:].mean() > elbo[:10].mean() + 5

    posterior = found.posterior(5)
    for site, dims in story.dims.items():
        assert posterior.posterior[site].dims == ("chain", "draw", *dims), site
    if OPTIONS[name].get("affinity") != "diagonal":
        table = np.asarray(posterior.posterior["affinity"])
        assert table.shape == (1, 5, K, K)
        assert np.array_equal(table, table.swapaxes(-1, -2)) == (kind == "undirected")
    again = Fit.load(found.save(tmp_path))
    expected = found.encode(graph, draws=20).memberships
    torch.testing.assert_close(again.encode(graph, draws=20).memberships, expected)
    assert again.story.options == story.options
    for source in ("posterior", "prior"):
        (drawn,) = found.generate(1, source)
        assert drawn.directed == (kind == "directed")
        assert (drawn.parts is None) == (kind != "bipartite")
        assert (drawn.weights is None) == (likelihood == "bernoulli")
