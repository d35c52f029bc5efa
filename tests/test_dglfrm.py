"""The story of DGLFRM, site by site, against densities written from its equations in NumPy and SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pytest
import torch
from chance import LIMIT, largest
from pyro import poutine
from scipy import stats

from graphlore.data import Graph, karate
from graphlore.models import DGLFRM, Concrete

N, K, D = 4, 2, 3
EDGES = [[0, 0, 2], [1, 2, 3]]
HIDDEN = [[0, 0], [3, 2]]  # an absent dyad and an edge
ALPHA, TEMPERATURE = 1.75, 0.4  # alpha is kept in float32: an exact number

V_GLOBAL = np.array([0.8, 0.35])
V_LOCAL = np.array([[0.8, 0.35], [0.6, 0.9], [0.2, 0.5], [0.97, 0.11]])
B = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
Y = np.array([[2.1, -0.3], [-1.4, 0.2], [0.9, 5.0], [0.0, -3.3]])
R = np.array([[0.4, -1.2], [2.0, 0.3], [-0.7, 0.9], [1.1, -0.5]])
C = -1.3
E = np.array([0.5, -0.2, 1.4, -0.9])
X_BINARY = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
X_REAL = np.array([[0.5, -2.25, 1.0], [0.0, 3.5, -1.5], [1.25, 0.0, 0.5], [-0.75, 1.0, 2.0]])


def a_graph(features=None, missing=HIDDEN):
    X = {None: None, "bernoulli": X_BINARY, "normal": X_REAL}[features]
    return Graph(N, EDGES, features=X, missing=missing)


def a_story(**options):
    """With weights that are not those of the start, in float64."""
    torch.manual_seed(5)
    if options.get("features"):
        options["num_features"] = D
    options.setdefault("decoder", (3, 2))
    story = DGLFRM(N, K, ALPHA, bias_scale=(4.0, 0.5), **options)
    with torch.no_grad():
        for p in story.parameters():
            p.copy_(torch.randn_like(p))
    return story.double()


def latents(options):
    values = {"sticks": V_LOCAL if options.get("sticks") == "local" else V_GLOBAL}
    relaxed = options.get("relaxation") is not None
    values["membership_logits" if relaxed else "memberships"] = Y if relaxed else B
    if options.get("strengths", True):
        values["strengths"] = R
    if options.get("bias", "none") != "none":
        values["bias"] = np.array(C)
    if options.get("bias") == "node":
        values["node_bias"] = E
    return {name: torch.from_numpy(np.array(x)) for name, x in values.items()}


def trace_of(story, graph, values):
    trace = poutine.trace(poutine.condition(story, data=values)).get_trace(graph)
    trace.compute_log_prob()
    return trace


def log_density(story, graph, values):
    return trace_of(story, graph, values).log_prob_sum()


def from_the_equations(story, options, missing=HIDDEN):
    """log p(A, X, v, b, r, c, e): NumPy and SciPy only, dyad by dyad."""
    v = V_LOCAL if options.get("sticks") == "local" else V_GLOBAL
    total = stats.beta(ALPHA, 1).logpdf(v).sum()
    pi = np.broadcast_to(np.cumprod(v, axis=-1), (N, K))
    if options.get("relaxation"):
        # the density of y for x = sigmoid(y), x binary Concrete: p(x) x (1 - x)
        x, t, a = 1 / (1 + np.exp(-Y)), TEMPERATURE, pi / (1 - pi)
        top = t * a * x**-t * (1 - x) ** -t
        total += np.log(top / (a * x**-t + (1 - x) ** -t) ** 2).sum()
        b = x
    else:
        total += stats.bernoulli(pi).logpmf(B).sum()
        b = B
    z = b
    if options.get("strengths", True):
        total += stats.norm(0, 1).logpdf(R).sum()
        z = b * R
    weights = {name: w.detach().numpy() for name, w in story.named_parameters()}
    f = z
    if options.get("decoder", True) != ():
        h = z @ weights["f.0.weight"].T + weights["f.0.bias"]
        h = np.where(h > 0, h, 0.2 * h)
        f = h @ weights["f.2.weight"].T + weights["f.2.bias"]
    logits = f @ f.T
    if options.get("bias", "none") != "none":
        total += stats.norm(0, 4.0).logpdf(C)
        logits = logits + C
    if options.get("bias") == "node":
        total += stats.norm(0, 0.5).logpdf(E).sum()
        logits = logits + E[:, None] + E[None, :]

    present = set(zip(*EDGES, strict=True))
    observed = set(itertools.combinations(range(N), 2)) - set(zip(*missing, strict=True))
    present &= observed
    w0 = w1 = 1.0
    if options.get("class_weight") == "balanced":
        w1 = len(observed) / (2 * len(present))
        w0 = len(observed) / (2 * (len(observed) - len(present)))
    elif options.get("class_weight"):
        w1 = options["class_weight"]
    for i, j in observed:
        p = 1 / (1 + math.exp(-logits[i, j]))
        total += w1 * math.log(p) if (i, j) in present else w0 * math.log1p(-p)

    if options.get("features"):
        location = z @ weights["feature_decoder.weight"].T + weights["feature_decoder.bias"]
    if options.get("features") == "bernoulli":
        total += stats.bernoulli(1 / (1 + np.exp(-location))).logpmf(X_BINARY).sum()
    if options.get("features") == "normal":
        scale = np.exp(weights["feature_log_scale"])
        total += stats.norm(location, scale).logpdf(X_REAL).sum()
    return total


STORIES = {
    "default": {},
    "DGLFRM-B": {"strengths": False},
    "local sticks": {"sticks": "local"},
    "global bias": {"bias": "global"},
    "node bias": {"bias": "node"},
    "binary features": {"features": "bernoulli"},
    "real features": {"features": "normal"},
    "identity": {"decoder": ()},
    "balanced": {"class_weight": "balanced"},
    "weighted": {"class_weight": 3.5},
    "relaxed": {"relaxation": Concrete(TEMPERATURE)},
    "relaxed, local, features": {
        "relaxation": Concrete(TEMPERATURE),
        "sticks": "local",
        "features": "normal",
        "bias": "node",
    },
    "everything at once": {
        "strengths": False,
        "sticks": "local",
        "features": "bernoulli",
        "bias": "node",
        "class_weight": "balanced",
    },
}


@pytest.fixture(params=STORIES.values(), ids=STORIES.keys())
def options(request):
    return dict(request.param)


def test_log_density_of_the_story(options):
    story = a_story(**options)
    got = log_density(story, a_graph(options.get("features")), latents(options))
    assert got.item() == pytest.approx(from_the_equations(story, options), rel=1e-10)


def test_log_density_without_missing_dyads(options):
    story = a_story(**options)
    nothing = [[], []]
    got = log_density(story, a_graph(options.get("features"), None), latents(options))
    assert got.item() == pytest.approx(from_the_equations(story, options, nothing), rel=1e-10)


# -- sites ------------------------------------------------------------------------------------------

COMBINATIONS = [
    {"sticks": s, "strengths": r, "bias": b, "features": x, "relaxation": c}
    for s, r, b, x, c in itertools.product(
        ["global", "local"],
        [True, False],
        ["none", "global", "node"],
        [None, "bernoulli", "normal"],
        [None, Concrete(TEMPERATURE)],
    )
]


def name_of(combination):
    return "-".join(
        str(x) if not isinstance(x, Concrete) else "relaxed" for x in combination.values()
    )


def expected_sites(o):
    """Shape by site, as the contract names them; deterministic ones too."""
    sites = {"sticks": (N, K) if o["sticks"] == "local" else (K,), "memberships": (N, K)}
    sites |= {"embedding": (N, K), "edges": (N, N)}
    if o["relaxation"]:
        sites["membership_logits"] = (N, K)
    if o["strengths"]:
        sites["strengths"] = (N, K)
    if o["bias"] != "none":
        sites["bias"] = ()
    if o["bias"] == "node":
        sites["node_bias"] = (N,)
    if o["features"]:
        sites["features"] = (N, D)
    return sites


def sites_of(trace):
    return {
        name: tuple(site["value"].shape)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and name != "nodes"
    }


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_sites_given_a_graph(combination):
    trace = poutine.trace(a_story(**combination)).get_trace(a_graph(combination["features"]))
    assert sites_of(trace) == expected_sites(combination)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_sites_of_a_draw_from_the_prior(combination):
    assert sites_of(poutine.trace(a_story(**combination)).get_trace()) == expected_sites(
        combination
    )


def test_per_node_sites_stand_in_the_plate_of_nodes(options):
    trace = poutine.trace(a_story(**options)).get_trace(a_graph(options.get("features")))
    inside = {
        name
        for name in sites_of(trace)
        if [(f.name, f.dim, f.size) for f in trace.nodes[name]["cond_indep_stack"]]
        == [("nodes", -1, N)]
    }
    everywhere = {"sticks", "bias", "edges"} & set(sites_of(trace))
    if options.get("sticks") == "local":
        everywhere.remove("sticks")
    assert inside == set(sites_of(trace)) - everywhere


def test_only_edges_and_features_are_observed(options):
    trace = poutine.trace(a_story(**options)).get_trace(a_graph(options.get("features")))
    deterministic = {"embedding", "memberships"} if options.get("relaxation") else {"embedding"}
    observed = {n for n in sites_of(trace) if trace.nodes[n]["is_observed"]} - deterministic
    assert observed == ({"edges", "features"} if options.get("features") else {"edges"})


def test_deterministic_sites_follow_from_the_others(options):
    values = latents(options)
    trace = trace_of(a_story(**options), a_graph(options.get("features")), values)
    b = 1 / (1 + np.exp(-Y)) if options.get("relaxation") else B
    np.testing.assert_allclose(trace.nodes["memberships"]["value"], b, rtol=1e-12)
    z = b * R if options.get("strengths", True) else b
    np.testing.assert_allclose(trace.nodes["embedding"]["value"], z, rtol=1e-12)


def test_the_weights_of_f_are_parameters_and_nothing_else_is():
    names = {name for name, _ in a_story().named_parameters()}
    assert names == {"f.0.weight", "f.0.bias", "f.2.weight", "f.2.bias"}


def test_identity_has_no_parameters():
    assert not list(a_story(decoder=()).parameters())


def test_a_graph_brings_its_own_number_of_nodes():
    trace = poutine.trace(a_story()).get_trace(karate())
    assert trace.nodes["memberships"]["value"].shape == (34, K)


# -- invariances ------------------------------------------------------------------------------------


@pytest.mark.parametrize("perm", [(1, 0, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_names_of_nodes_do_not_matter(options, perm):
    story, values = a_story(**options), latents(options)
    graph = a_graph(options.get("features"))
    trace = trace_of(story, graph, values)
    moved = {n: x[list(perm)] if x.shape[:1] == (N,) else x for n, x in values.items()}
    other = trace_of(story, graph.relabel(perm), moved)
    assert other.log_prob_sum().item() == pytest.approx(trace.log_prob_sum().item(), rel=1e-12)
    for name in sites_of(trace):
        before, after = trace.nodes[name]["log_prob"], other.nodes[name]["log_prob"]
        before = before[list(perm)] if before.shape == (N,) else before
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10, msg=name)


def test_local_sticks_of_a_square_story_are_permuted_too():
    # guards the test above: relabelling without permuting the latents does change the density
    story, values = a_story(bias="node"), latents({"bias": "node"})
    moved = log_density(story, a_graph().relabel((1, 0, 3, 2)), values)
    assert abs(moved.item() - log_density(story, a_graph(), values).item()) > 0.1


def with_and_without_a_hidden_edge(features):
    X = X_BINARY if features else None
    with_edge = Graph(N, [[0, 0, 2, 0], [1, 2, 3, 3]], features=X).hide([[0], [3]])
    without = Graph(N, EDGES, features=X).hide([[0], [3]])
    return with_edge, without


def test_the_truth_of_a_hidden_dyad_changes_no_density(options):
    options.pop("features", None)
    story, values = a_story(**options), latents(options)
    with_edge, without = with_and_without_a_hidden_edge(False)
    assert log_density(story, with_edge, values) == log_density(story, without, values)


def test_the_truth_of_a_hidden_dyad_changes_no_gradient():
    story, values = a_story(), latents({})
    gradients = []
    for graph in with_and_without_a_hidden_edge(False):
        gradients.append(torch.autograd.grad(log_density(story, graph, values), story.parameters()))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_a_hidden_dyad_is_not_an_absent_one():
    story, values = a_story(), latents({})
    hidden, absent = a_graph(missing=[[0], [3]]), a_graph(missing=None)
    difference = log_density(story, absent, values) - log_density(story, hidden, values)
    f = story.f(torch.from_numpy(B * R)).detach().numpy()
    expected = -np.logaddexp(0, f[0] @ f[3])  # log p(A_03 = 0)
    assert difference.item() == pytest.approx(expected, rel=1e-8)


def test_the_gradient_by_the_embedding_of_a_node_without_observed_dyads_is_zero():
    story = a_story(decoder=())
    values = latents({})
    values["strengths"].requires_grad_()
    graph = a_graph(missing=[[0, 1, 2], [3, 3, 3]])
    trace = trace_of(story, graph, values)
    (gradient,) = torch.autograd.grad(trace.nodes["edges"]["log_prob"], values["strengths"])
    assert torch.equal(gradient[3], torch.zeros(K, dtype=torch.float64))
    assert gradient[:3].any()


# -- draws from the prior ---------------------------------------------------------------------------

DRAWS = 40_000


def prior(**options):
    options.setdefault("decoder", ())
    torch.manual_seed(11)
    story = DGLFRM(2, options.pop("truncation", 1), 2.0, **options)
    with torch.no_grad(), pyro.plate("draws", DRAWS, dim=-2):
        trace = poutine.trace(story).get_trace()
    return {
        name: site["value"].squeeze()
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
    }


def z_score(x, expected):
    x = x.double().numpy()
    return (x.mean() - expected) / (x.std() / math.sqrt(len(x)))


@pytest.mark.parametrize(("sticks", "both"), [("global", 1 / 2), ("local", 4 / 9)])
def test_share_of_links_of_a_story_that_can_be_integrated(sticks, both):
    # K = 1, f the identity, z = b: p = sigmoid(1) when both nodes are members, else 1/2;
    # P(both) = E[v^2] = alpha / (alpha + 2) with one stick, (alpha / (alpha + 1))^2 with two
    edges = prior(strengths=False, sticks=sticks)["edges"]
    expected = 0.5 + (1 / (1 + math.exp(-1)) - 0.5) * both
    assert largest(z_score(edges[:, 0, 1], expected)) < LIMIT


def test_share_of_links_with_strengths_is_one_half():
    # z_0 z_1 is symmetric about 0
    assert largest(z_score(prior(truncation=3)["edges"][:, 0, 1], 0.5)) < LIMIT


def test_share_of_links_with_biases():
    # b = 0 makes the logit c + e_0 + e_1 ~ Normal(0, 0.8^2 + 2 * 0.6^2); f = 0 through a zero decoder
    story = DGLFRM(2, 1, 2.0, decoder=(1,), bias="node", bias_scale=(0.8, 0.6))
    with torch.no_grad():
        for p in story.parameters():
            p.zero_()
        with pyro.plate("draws", DRAWS, dim=-2):
            trace = poutine.trace(story).get_trace()
    edges = trace.nodes["edges"]
    logits = edges["fn"].dense_logits()[:, 0, 0, 1].double()
    variance = 0.8**2 + 2 * 0.6**2
    assert largest(z_score(logits, 0.0)) < LIMIT
    assert largest(z_score(logits**2, variance)) < LIMIT


@pytest.mark.parametrize("site", ["strengths", "bias", "node_bias"])
def test_moments_of_normal_sites(site):
    scale = {"strengths": 1.0, "bias": 3.0, "node_bias": 0.5}[site]
    x = prior(bias="node", bias_scale=(3.0, 0.5))[site].flatten()
    assert largest(z_score(x, 0.0)) < LIMIT
    assert largest(z_score(x**2, scale**2)) < LIMIT


def test_drawn_graphs_are_simple():
    story = DGLFRM(30, 4)
    A = story()
    assert set(A.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(A, A.T)
    assert not A.diagonal().any()


def test_an_option_changes_the_default_only_where_asked():
    assert a_story().edge_weights(a_graph()) == (1.0, 1.0)


# -- errors -----------------------------------------------------------------------------------------


def test_a_directed_graph():
    arcs = Graph(N, EDGES, directed=True, title="citations")
    with pytest.raises(ValueError, match="undirected graphs; 'citations' is directed"):
        a_story()(arcs)


def test_a_story_with_features_and_a_graph_without():
    with pytest.raises(ValueError, match=r"graph 'graph' has none: add them with graph.with_feat"):
        a_story(features="normal")(a_graph())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sticks": "shared"}, "sticks is one of 'global', 'local', not 'shared'"),
        ({"bias": "edge"}, "bias is one of 'none', 'global', 'node', not 'edge'"),
        ({"features": "poisson", "num_features": 3}, "features is one of None, 'bernoulli'"),
        ({"features": "normal"}, "features and num_features are given together, or neither"),
        ({"num_features": 3}, "features and num_features are given together, or neither"),
        ({"truncation": 0}, "truncation is the number of communities, at least 1, not 0"),
        ({"alpha": 0.0}, "alpha is a positive concentration, not 0.0"),
        ({"alpha": math.nan}, "alpha is a positive concentration, not nan"),
        ({"class_weight": "equal"}, "class_weight is None, 'balanced' or a number, not 'equal'"),
    ],
)
def test_options_outside_of_what_is_listed(options, message):
    with pytest.raises(ValueError, match=message):
        DGLFRM(N, **options)


def test_balancing_a_graph_without_edges():
    story = a_story(class_weight="balanced")
    with pytest.raises(ValueError, match="0 of 6 are present"):
        story(Graph(N, [[], []], allow_empty=True))
