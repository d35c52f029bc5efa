"""The guides: sites and shapes of the story, gradients everywhere, an encoder blind to what is held out."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from chance import LIMIT, largest
from pyro import poutine
from pyro.distributions import Beta
from scipy import integrate, special
from torch.distributions import kl_divergence

from graphlore.data import Graph, karate, random_split
from graphlore.guides import (
    GCNEncoder,
    Kumaraswamy,
    MeanField,
    StructuredMeanField,
    normalised_adjacency,
)
from graphlore.guides.convolution import Adjacency
from graphlore.inference import DyadicELBO
from graphlore.models import DGLFRM, Concrete

K, D = 3, 5
RELAXED = Concrete(0.5)


def a_graph(features="binary", title="graph"):
    """Karate with features in [0, 1] and some hidden dyads."""
    rng = np.random.default_rng(1)
    X = (rng.random((34, D)) < 0.4).astype(float)
    graph = karate().hide([[0, 0, 5, 7], [1, 33, 9, 20]])
    return graph.with_features(X) if features else graph


def a_pair(
    guide=MeanField, *, relaxation=None, features=None, hidden=(8,), guide_options=None, **o
):
    graph = a_graph(features)
    o |= {"features": features, "num_features": D if features else None, "decoder": (6, 4)}
    story = DGLFRM(graph.num_nodes, K, 1.5, relaxation=relaxation, **o)
    options = {"hidden": hidden, **(guide_options or {})}
    return story, guide(story, graph, relaxation=relaxation, **options), graph


COMBINATIONS = [
    dict(zip(("guide", "sticks", "strengths", "bias", "features", "relaxation"), c, strict=True))
    for c in itertools.product(
        [MeanField, StructuredMeanField],
        ["global", "local"],
        [True, False],
        ["none", "global", "node"],
        [None, "bernoulli", "normal"],
        [None, RELAXED],
    )
    if not (c[0] is StructuredMeanField and c[1] == "local")
]


def name_of(c):
    words = {None: "none", RELAXED: "relaxed", MeanField: "mean", StructuredMeanField: "structured"}
    return "-".join(str(words.get(x, x)) for x in c.values())


def described(trace, observed):
    """Shape and plates of every sample site that is a latent."""
    out = {}
    for name, site in trace.nodes.items():
        latent = site["type"] == "sample" and name != "nodes"
        if latent and not site["infer"].get("_deterministic") and name not in observed:
            plates = tuple((f.name, f.dim, f.size) for f in site["cond_indep_stack"])
            shapes = tuple(site["value"].shape), tuple(site["fn"].event_shape)
            out[name] = (*shapes, tuple(site["fn"].batch_shape), plates)
    return out


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_sites_are_the_latents_of_the_story(combination):
    story, guide, graph = a_pair(**combination)
    guide_trace = poutine.trace(guide).get_trace(graph)
    story_trace = poutine.trace(story).get_trace(graph)
    expected = described(story_trace, {"edges", "features"})
    assert described(guide_trace, set()) == expected
    assert "sticks" in expected


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_every_parameter_receives_a_gradient(combination):
    story, guide, graph = a_pair(**combination, hidden=(8, 6), guide_options={"baseline": "neural"})
    DyadicELBO()(story, guide)(graph).backward()
    without = {
        f"{part}.{name}"
        for part, module in (("story", story), ("guide", guide))
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.any()
    }
    if combination["relaxation"]:  # nothing is scored, so that no baseline is needed
        without = {n for n in without if not n.startswith("guide.baseline_network")}
    assert not without


@pytest.mark.parametrize("relaxation", [None, RELAXED], ids=["exact", "relaxed"])
@pytest.mark.parametrize("guide", [MeanField, StructuredMeanField])
def test_gradients_are_finite(guide, relaxation):
    story, guide, graph = a_pair(guide, relaxation=relaxation, bias="node", features="normal")
    DyadicELBO()(story, guide)(graph).backward()
    parameters = [*story.parameters(), *guide.parameters()]
    assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)


# -- the encoder ------------------------------------------------------------------------------------


def outputs(encoder, graph):
    with torch.no_grad():
        heads, h = encoder.eval()(graph)
    return {**heads, "hidden": h}


def an_encoder(graph, **options):
    return GCNEncoder(graph, {"a": 2, "b": 3}, **{"hidden": (8, 6), **options})


ENCODERS = {
    "features": {"inputs": "features"},
    "one-hot": {"inputs": "one-hot"},
    "both": {"inputs": "both"},
    "scaled, normed": {"inputs": "features", "feature_scaling": "tf-idf", "layer_norm": True},
}


@pytest.fixture(params=ENCODERS.values(), ids=ENCODERS.keys())
def encoder_options(request):
    return dict(request.param)


def test_normalised_adjacency():
    graph = a_graph()
    A = graph.dense_adjacency().numpy() + np.eye(34)
    scale = 1 / np.sqrt(A.sum(1))
    expected = scale[:, None] * A * scale[None, :]
    np.testing.assert_allclose(normalised_adjacency(graph).to_dense(), expected, rtol=1e-5)


@pytest.mark.parametrize("directed", [False, True])
def test_gradients_go_back_along_the_edges(directed):
    arcs = torch.tensor([[0, 0, 1, 2, 4], [1, 2, 3, 3, 0]])
    graph = Graph(5, arcs, directed=directed)
    encoder = GCNEncoder(graph, {"a": 2}, hidden=(3, 4)).double()
    found, _ = encoder(graph)
    (found["a"] ** 2).sum().backward()
    L = normalised_adjacency(graph).to_dense().double()
    assert torch.equal(L, L.T) is not directed
    w = {name: p.detach().requires_grad_() for name, p in encoder.named_parameters()}
    leaky = partial(torch.nn.functional.leaky_relu, negative_slope=0.2)
    h = leaky(L @ w["from_identity.weight"])
    h = leaky(L @ h @ w["convolutions.0.lin.weight"].T + w["convolutions.0.bias"])
    expected = L @ h @ w["heads.a.lin.weight"].T + w["heads.a.bias"]
    torch.testing.assert_close(found["a"], expected)
    (expected**2).sum().backward()
    for name, p in encoder.named_parameters():
        torch.testing.assert_close(p.grad, w[name].grad, msg=name)


def test_a_product_with_a_part_of_the_nodes_has_its_transpose_as_gradient():
    dense = torch.tensor([[0.0, 2.0, 0.0, -1.0], [3.0, 0.0, 0.5, 0.0]], dtype=torch.float64)
    way = Adjacency.of(dense.to_sparse_csr())
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(way @ x, dense @ x)
    assert torch.autograd.gradcheck(way.__matmul__, x)
    assert Adjacency.of(way.matrix.float()).to(torch.float64).transposed.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_products_of_every_precision_are_those_of_dense_matrices(dtype):
    dense = torch.randint(-3, 4, (5, 4)) * torch.bernoulli(torch.full((5, 4), 0.5))
    dense[2] = 0  # a node without neighbours
    way = Adjacency.of(dense.to(dtype).to_sparse_csr())
    # small whole numbers, which every precision adds up exactly; columns of a matrix stored by rows
    x = torch.randint(-3, 4, (3, 4)).to(dtype).mT.requires_grad_()
    found = way @ x
    assert torch.equal(found.double(), dense.double() @ x.double())
    weight = torch.randint(-3, 4, (5, 3)).to(dtype)
    (found * weight).sum().backward()
    assert torch.equal(x.grad.double(), dense.double().mT @ weight.double())


def test_the_network_by_hand():
    # one hidden layer, features: L leaky(L X W1 + b1) W2 + b2, L the normalised adjacency
    graph = a_graph()
    encoder = GCNEncoder(graph, {"a": 2}, hidden=(4,))
    w = {name: p.detach().double().numpy() for name, p in encoder.named_parameters()}
    A = graph.dense_adjacency().numpy() + np.eye(34)
    L = A / np.sqrt(np.outer(A.sum(1), A.sum(1)))
    h = L @ graph.features.numpy() @ w["from_features.lin.weight"].T + w["from_features.bias"]
    h = np.where(h > 0, h, 0.2 * h)
    expected = L @ h @ w["heads.a.lin.weight"].T + w["heads.a.bias"]
    np.testing.assert_allclose(outputs(encoder, graph)["a"], expected, atol=1e-5)


def test_shapes_of_outputs(encoder_options):
    graph = a_graph()
    shapes = {
        n: tuple(x.shape) for n, x in outputs(an_encoder(graph, **encoder_options), graph).items()
    }
    assert shapes == {"a": (34, 2), "b": (34, 3), "hidden": (34, 6)}


def test_no_held_out_edge_carries_a_message(encoder_options):
    split = random_split(a_graph(), seed=2)
    X = split.full.features
    never_there = Graph(34, split.train.edge_index, features=X)  # nothing missing, nothing known
    encoder = an_encoder(split.train, **encoder_options)
    expected = outputs(encoder, never_there)
    for name, got in outputs(encoder, split.train).items():
        torch.testing.assert_close(got, expected[name], rtol=0, atol=0)


def test_an_observed_edge_carries_a_message(encoder_options):
    split = random_split(a_graph(), seed=2)
    encoder = an_encoder(split.train, **encoder_options)
    full, train = outputs(encoder, split.full)["a"], outputs(encoder, split.train)["a"]
    assert not torch.allclose(full, train)


def test_the_truth_of_a_hidden_dyad_changes_no_output(encoder_options):
    graph = a_graph()
    i, j = graph.edge_index[:, 3].tolist()
    edges = torch.cat((graph.edge_index[:, :3], graph.edge_index[:, 4:]), 1)
    with_edge = graph.hide([[i], [j]])
    without = Graph(34, edges, features=graph.features, missing=graph.missing).hide([[i], [j]])
    encoder = an_encoder(graph, **encoder_options)
    assert torch.equal(outputs(encoder, with_edge)["a"], outputs(encoder, without)["a"])


@pytest.mark.parametrize("name", ["features", "scaled, normed"])
def test_names_of_nodes_do_not_matter_to_features(name):
    graph = a_graph()
    encoder = an_encoder(graph, **ENCODERS[name])
    perm = torch.randperm(34)
    before, after = outputs(encoder, graph), outputs(encoder, graph.relabel(perm))
    for head in before:
        torch.testing.assert_close(after[head], before[head][perm], rtol=1e-4, atol=1e-5)


def test_one_hot_inputs_tell_nodes_apart():
    # rows 14 and 15: two members of the karate club with the same two neighbours
    graph = karate()
    out = outputs(an_encoder(graph, inputs="one-hot"), graph)["a"]
    assert not torch.allclose(out[14], out[15])


def test_features_reach_nodes_never_seen():
    graph, other = a_graph(), a_graph().subgraph(range(3, 30))
    assert outputs(an_encoder(graph), other)["a"].shape == (27, 2)


@pytest.mark.parametrize("inputs", ["one-hot", "both"])
def test_one_hot_inputs_refuse_another_number_of_nodes(inputs):
    encoder = an_encoder(a_graph(), inputs=inputs)
    message = (
        r"know 34 nodes, the graph has 20: unseen nodes need an encoder with inputs='features'"
    )
    with pytest.raises(ValueError, match=message):
        encoder(a_graph().subgraph(range(20)))


def test_auto_takes_features_where_there_are_any():
    assert (an_encoder(a_graph()).inputs, an_encoder(karate()).inputs) == ("features", "one-hot")


def test_dropout_is_off_in_evaluation():
    graph = a_graph()
    encoder = an_encoder(graph, dropout=0.5, input_dropout=0.5, edge_dropout=0.5)
    assert torch.equal(outputs(encoder, graph)["a"], outputs(encoder, graph)["a"])


@pytest.mark.parametrize("rate", ["dropout", "input_dropout", "edge_dropout"])
def test_dropout_is_on_in_training(rate):
    graph = a_graph()
    encoder = an_encoder(graph, **{rate: 0.5}).train()
    assert not torch.equal(encoder(graph)[0]["a"], encoder(graph)[0]["a"])


def test_sparse_and_dense_features_give_the_same():
    X = torch.zeros(34, 40)
    X[torch.arange(34), torch.arange(34) % 40] = 1.0
    dense, sparse = karate().with_features(X), karate().with_features(X.to_sparse_coo())
    encoder = an_encoder(dense)
    torch.testing.assert_close(outputs(encoder, dense)["a"], outputs(encoder, sparse)["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "degrees"}, "inputs is auto, features, one-hot or both, not 'degrees'"),
        ({"hidden": ()}, "hidden needs the width of at least one layer"),
        ({"dropout": 1.0}, "dropout is a probability below 1, not 1.0"),
        ({"edge_dropout": -0.1}, "edge_dropout is a probability below 1, not -0.1"),
    ],
)
def test_encoder_options_outside_of_what_is_listed(options, message):
    with pytest.raises(ValueError, match=message):
        an_encoder(a_graph(), **options)


def test_features_asked_for_that_are_not_there():
    with pytest.raises(ValueError, match="graph 'karate' has no features: use inputs='one-hot'"):
        an_encoder(karate(), inputs="features")


@pytest.mark.parametrize(("columns", "have"), [(D + 1, str(D + 1)), (None, "none")])
def test_features_of_another_length(columns, have):
    X = None if columns is None else torch.ones(34, columns)
    with pytest.raises(ValueError, match=f"built for {D} features, the graph has {have}"):
        an_encoder(a_graph())(a_graph().with_features(X))


# -- the guides -------------------------------------------------------------------------------------


def test_mean_field_memberships_do_not_look_at_the_sticks():
    _, guide, graph = a_pair(MeanField)
    site = poutine.trace(guide).get_trace(graph).nodes["memberships"]
    expected = outputs(guide.encoder, graph)["membership_logits"]
    torch.testing.assert_close(site["fn"].base_dist.logits, expected)


@pytest.mark.parametrize("relaxation", [None, RELAXED], ids=["exact", "relaxed"])
def test_structured_memberships_given_the_sticks(relaxation):
    _, guide, graph = a_pair(StructuredMeanField, relaxation=relaxation)
    trace = poutine.trace(guide).get_trace(graph)
    v = trace.nodes["sticks"]["value"].detach().double().numpy()
    pi = np.cumprod(v)
    encoded = outputs(guide.encoder, graph)["membership_logits"].double().numpy()
    site = trace.nodes["memberships" if relaxation is None else "membership_logits"]
    got = site["fn"].base_dist.logits.detach()
    np.testing.assert_allclose(got, encoded + np.log(pi) - np.log1p(-pi), rtol=1e-4, atol=1e-5)


def test_strengths_are_normal_with_what_the_encoder_says():
    _, guide, graph = a_pair(MeanField)
    heads = outputs(guide.encoder, graph)
    q = poutine.trace(guide).get_trace(graph).nodes["strengths"]["fn"].base_dist
    torch.testing.assert_close(q.loc, heads["strength_loc"])
    torch.testing.assert_close(q.scale, heads["strength_log_scale"].exp())


def test_sticks_start_at_the_prior():
    # Kumaraswamy(alpha, 1) = Beta(alpha, 1)
    _, guide, graph = a_pair(MeanField)
    q = poutine.trace(guide).get_trace(graph).nodes["sticks"]["fn"].base_dist
    torch.testing.assert_close(q.c, torch.full((K,), 1.5))
    torch.testing.assert_close(q.d, torch.ones(K))


def test_extreme_log_scales_are_kept_finite():
    _, guide, graph = a_pair(MeanField)
    with torch.no_grad():
        guide.encoder.heads["strength_log_scale"].bias.fill_(1e4)
    q = poutine.trace(guide).get_trace(graph).nodes["strengths"]["fn"].base_dist
    assert torch.isfinite(q.scale).all()


def test_the_structured_guide_refuses_local_sticks():
    with pytest.raises(ValueError, match="tell the story with sticks='global', or use MeanField"):
        a_pair(StructuredMeanField, sticks="local")


def test_an_unknown_baseline():
    with pytest.raises(ValueError, match="baseline is None, 'decaying' or 'neural', not 'mean'"):
        a_pair(guide_options={"baseline": "mean"})


# -- Kumaraswamy ------------------------------------------------------------------------------------

SHAPES = list(itertools.product([0.2, 1.0, 3.0, 40.0], [0.3, 1.0, 2.5, 30.0]))


def double(*numbers):
    return [torch.tensor(x, dtype=torch.float64) for x in numbers]


@pytest.mark.parametrize(("c", "d"), SHAPES)
def test_kumaraswamy_density_integrates_to_one(c, d):
    # in t = logit v, where no density has a pole: dv = v (1 - v) dt
    q = Kumaraswamy(*double(c, d))

    def integrand(t):
        v = special.expit(t)
        return q.log_prob(torch.tensor(v, dtype=torch.float64)).exp().item() * v * (1 - v)

    # beyond 35, 1 - v has no digits in float64: the closed tail P(v > x) = (1 - x^c)^d is added
    total = integrate.quad(integrand, -200, 0, limit=300)[0]
    total += integrate.quad(integrand, 0, 30, limit=300)[0]
    tail = (-math.expm1(c * math.log1p(-special.expit(-30.0)))) ** d
    assert total + tail == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("c", "d"), SHAPES)
def test_kumaraswamy_density_by_hand(c, d):
    v = np.array([0.03, 0.4, 0.5, 0.93])
    expected = c * d * v ** (c - 1) * (1 - v**c) ** (d - 1)
    got = Kumaraswamy(*double(c, d)).log_prob(torch.from_numpy(v)).exp()
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize(("c", "d"), SHAPES)
def test_kumaraswamy_mean(c, d):
    # E v^n = d B(1 + n / c, d)
    mean = Kumaraswamy(*double(c, d)).mean.item()
    assert mean == pytest.approx(d * special.beta(1 + 1 / c, d), rel=1e-8)


@pytest.mark.parametrize("c", [0.3, 1.0, 18.7, 1e3])
@pytest.mark.parametrize("d", [1e-3, 1.0, 9.9, 10.1, 624.0, 1e6, 1e24])
def test_kumaraswamy_mean_in_float32(c, d):
    # a share of 5 % of 4,000 nodes is matched by c = 18.7 and d = 1.3e24
    q = Kumaraswamy(torch.tensor(c), torch.tensor(d, requires_grad=True))
    expected = math.exp(math.log(d) + special.betaln(1 + 1 / c, d))
    assert q.mean.item() == pytest.approx(expected, rel=2e-5)
    q.mean.backward()
    assert torch.isfinite(q.d.grad)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("c", "d"), SHAPES)
def test_kumaraswamy_moments_of_draws(c, d, power):
    v = Kumaraswamy(*double(c, d)).rsample((40_000,)).numpy() ** power
    expected = d * special.beta(1 + power / c, d)
    assert largest((v.mean() - expected) / (v.std() / math.sqrt(v.size))) < LIMIT


def kl_by_quadrature(c, d, alpha):
    """E_u[log q(v) - log p(v)], v the quantile of u, in log terms that stay exact at both ends."""

    def integrand(u):
        log_v = math.log(-math.expm1(math.log(u) / d)) / c
        log_q = math.log(c * d) + (c - 1) * log_v + (d - 1) / d * math.log(u)
        return log_q - math.log(alpha) - (alpha - 1) * log_v

    # each half has its logarithmic pole at an end
    halves = ((0, 0.5), (0.5, 1))
    return sum(integrate.quad(integrand, *h, limit=300, epsabs=1e-11)[0] for h in halves)


ALPHAS = np.logspace(-1, 2, 10)
ENDS = list(itertools.product([1e-3, 0.03, 1.0, 20.0, 1e3], repeat=2))


@pytest.mark.parametrize(("c", "d"), [*SHAPES, *ENDS])
def test_kumaraswamy_divergence_from_the_prior(c, d):
    kl = kl_divergence(Kumaraswamy(*double(c, d)), Beta(torch.from_numpy(ALPHAS), double(1.0)[0]))
    # alpha is outside of the integrals: two of them are enough for all
    one, two = kl_by_quadrature(c, d, 1.0), kl_by_quadrature(c, d, 2.0) + math.log(2.0)
    expected = one + (ALPHAS - 1.0) * (two - one) - np.log(ALPHAS)
    np.testing.assert_allclose(kl, expected, rtol=1e-7, atol=1e-8)


def values_and_slopes(dtype):
    """KL over the whole grid, and its derivatives by c, d and alpha."""
    side = np.logspace(-3, 3, 19)
    grid = np.stack(np.meshgrid(side, side, ALPHAS)).reshape(3, -1)
    c, d, alpha = (torch.from_numpy(x).to(dtype).requires_grad_() for x in grid)
    kl = kl_divergence(Kumaraswamy(c, d), Beta(alpha, torch.ones_like(alpha)))
    return [x.detach().double() for x in (kl, *torch.autograd.grad(kl.sum(), (c, d, alpha)))]


def test_the_divergence_keeps_its_digits_in_float32():
    # with digamma(d) + 1 / d it would lose them for small d: 5 parts in a thousand, and a tenth of the slope
    for got, expected in zip(
        values_and_slopes(torch.float32), values_and_slopes(torch.float64), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0, 100.0])
def test_divergence_of_the_prior_from_itself_is_zero(alpha):
    kl = kl_divergence(Kumaraswamy(*double(alpha, 1.0)), Beta(*double(alpha, 1.0)))
    assert kl.item() == pytest.approx(0.0, abs=1e-12)


def test_divergence_from_another_beta_is_not_claimed():
    with pytest.raises(NotImplementedError, match="closed only for the stick-breaking prior"):
        kl_divergence(Kumaraswamy(*double(1.0, 1.0)), Beta(*double(1.0, 2.0)))


@pytest.mark.parametrize(("c", "d"), [*itertools.product([1e-3, 1.0, 1e3], repeat=2)])
def test_kumaraswamy_is_finite_in_float32_at_the_extremes(c, d):
    c, d = (torch.full((500,), x, requires_grad=True) for x in (c, d))
    q = Kumaraswamy(c, d)
    v = q.rsample()
    density, kl = q.log_prob(v), kl_divergence(q, Beta(torch.tensor(2.0), torch.tensor(1.0)))
    assert ((v > 0) & (v < 1)).all()
    assert torch.isfinite(density).all()
    assert torch.isfinite(kl).all()
    (density.sum() + kl.sum() + v.sum()).backward()
    assert torch.isfinite(c.grad).all()
    assert torch.isfinite(d.grad).all()


@pytest.mark.parametrize("value", [0.0, 1e-38, 1.0])
def test_kumaraswamy_log_prob_is_finite_at_the_ends(value):
    q = Kumaraswamy(torch.tensor([0.1, 1.0, 50.0]), torch.tensor([0.1, 1.0, 50.0]))
    assert torch.isfinite(q.log_prob(torch.full((3,), value))).all()


def test_kumaraswamy_broadcasts_and_expands():
    q = Kumaraswamy(torch.ones(3, 1), torch.ones(2)).expand([5, 3, 2])
    assert q.batch_shape == (5, 3, 2)
    assert q.rsample((4,)).shape == (4, 5, 3, 2)
