"""Guides of SBM, LFRM and VGAE: their sites, where they start, and globals that are the optimum given q(z)."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from by_hand import KINDS, LIKELIHOODS, planted, small_graph
from chance import LIMIT, largest
from pyro import poutine
from torch.distributions import kl_divergence

from graphlore.data import Graph
from graphlore.guides import (
    AmortisedCategorical,
    AmortisedNormal,
    AmortisedPoint,
    FreeEncoder,
    GCNEncoder,
    MeanField,
    StructuredMeanField,
    spectral_blocks,
)
from graphlore.inference import DyadicELBO, Recipe
from graphlore.models import DGLFRM, GAE, LFRM, SBM, VGAE


def a_pair(family, amortised=True, kind="undirected", graph=None, story=None, **options):
    graph = small_graph(kind, options.get("likelihood", "bernoulli")) if graph is None else graph
    teller, told = {
        AmortisedCategorical: (SBM, (6, 3)),
        AmortisedNormal: (VGAE, (6, 2)),
        AmortisedPoint: (GAE, (6, 2)),
        MeanField: (LFRM, (6, 3)),
        StructuredMeanField: (LFRM, (6, 3)),
    }[family]
    if teller in (SBM, LFRM):
        options["kind"] = kind
    story = teller(*told, **options)
    encoder = {"hidden": (4,)} if amortised else {}
    return story, family(story, graph, amortised=amortised, **encoder), graph


def latents(module, graph):
    nodes = poutine.trace(module).get_trace(graph).nodes
    return {
        name: (tuple(s["value"].shape), tuple(f.name for f in s["cond_indep_stack"]))
        for name, s in nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and name != "nodes"
    }


CASES = [
    *(
        (AmortisedCategorical, k, lh, b)
        for k in KINDS
        for lh in LIKELIHOODS
        for b in ("none", "node")
    ),
    *((MeanField, k, lh, b) for k in KINDS for lh in LIKELIHOODS for b in ("global", "node")),
    (StructuredMeanField, "directed", "poisson", "node"),
    (AmortisedNormal, "undirected", "normal", "node"),
    (AmortisedNormal, "undirected", "poisson", "global"),
    (AmortisedPoint, "undirected", "bernoulli", "node"),
]


@pytest.mark.parametrize("amortised", [True, False])
@pytest.mark.parametrize(("family", "kind", "likelihood", "bias"), CASES)
def test_sites_plates_and_shapes_are_those_of_the_story(family, kind, likelihood, bias, amortised):
    story, guide, graph = a_pair(family, amortised, kind, likelihood=likelihood, bias=bias)
    assert latents(guide, graph) == latents(story, graph)
    assert type(guide.encoder) is (GCNEncoder if amortised else FreeEncoder)
    assert guide.options["amortised"] == amortised


def test_a_free_guide_has_no_encoder_to_set():
    graph = small_graph()
    for story, family in ((SBM(6), AmortisedCategorical), (VGAE(6), AmortisedNormal)):
        with pytest.raises(
            ValueError, match="amortised=False has no encoder: hidden would do nothing"
        ):
            family(story, graph, amortised=False, hidden=(4,))
    with pytest.raises(ValueError, match="a neural baseline reads the encoder's hidden layer"):
        MeanField(LFRM(6), graph, amortised=False, baseline="neural")


def test_a_free_guide_is_of_one_graph_s_nodes():
    _, guide, _ = a_pair(AmortisedNormal, amortised=False)
    with pytest.raises(ValueError, match="parameters for 6 nodes, the graph has 30"):
        guide(planted()[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": "sideways"}, "initial is 'spectral', 'random' or 'flat', not 'sideways'"),
        ({"baseline": "neural"}, "baseline is None or 'decaying', not 'neural'"),
        ({"confidence": 0.2}, "confidence is a probability between 1 / K and 1, not 0.2"),
        ({"confidence": 1.0}, "confidence is a probability between 1 / K and 1, not 1.0"),
    ],
)
def test_options_outside_of_what_is_listed(options, message):
    with pytest.raises(ValueError, match=message):
        AmortisedCategorical(SBM(6, 3), small_graph(), **options)


# -- globals given q(z) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "bias"), [("bernoulli", "none"), ("poisson", "node"), ("normal", "none")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_conjugate_globals_are_the_optimum_given_q(kind, likelihood, bias):
    """The bound over q(W) and q(pi) has zero slope at what the guide takes, and is lower around it."""
    graph = small_graph(kind, likelihood)
    prior = (0.5, 1.5)
    story = SBM(6, 3, kind=kind, likelihood=likelihood, bias=bias, block_prior=prior).double()
    torch.manual_seed(2)
    q = torch.softmax(torch.randn(6, 3, dtype=torch.float64), -1)
    e = 0.5 * torch.randn(6, dtype=torch.float64) if bias == "node" else None
    tau = torch.tensor(0.7, dtype=torch.float64) if likelihood == "normal" else None
    taken = story.table_given(graph, q, e, tau).base_dist
    law = type(taken)
    names = (
        list(taken.arg_constraints)
        if law is not dist.Beta
        else ["concentration1", "concentration0"]
    )
    a, b = (torch.tensor(x, dtype=torch.float64) for x in prior)
    value = story.observed_edges(graph).to(torch.float64)
    # E[log p(A | z, W)] is linear in what the edges' law needs of W: log odds and log(1 - W), log W and W, W and W^2
    size = len(getattr(taken, names[0]))

    def likelihood_at(natural, cumulant):
        """With means of the natural parameter and of the cumulant in the place of those of one W."""
        zero = torch.zeros(size, dtype=torch.float64)
        edges = story._edges(graph, q, story.table(zero), e, tau)
        edges.table = story.table(natural)
        edges.right = q @ edges.table.mT
        kappa = story.table(cumulant)
        edges.cumulant = lambda _: kappa
        return edges.log_prob(value)

    def bound(*parameters):
        posterior = law(**dict(zip(names, parameters, strict=True)))
        if likelihood == "bernoulli":
            c1, c0 = parameters
            both = torch.digamma(c1 + c0)
            natural, cumulant = torch.digamma(c1) - torch.digamma(c0), both - torch.digamma(c0)
        elif likelihood == "poisson":
            shape, rate = parameters
            natural, cumulant = torch.digamma(shape) - rate.log(), shape / rate
        else:
            loc, scale = parameters
            natural, cumulant = loc, 0.5 * (loc**2 + scale**2)
        of_prior = law(a.expand(size), b.expand(size))
        return likelihood_at(natural, cumulant) - kl_divergence(posterior, of_prior).sum()

    parameters = [getattr(taken, n).detach().clone().requires_grad_() for n in names]
    best = bound(*parameters)
    for slope in torch.autograd.grad(best, parameters):
        assert slope.abs().max() < 1e-10
    for factor in (0.9, 1.1):
        moved = [p.detach() * (factor if n == 0 else 1.0) + 0.0 for n, p in enumerate(parameters)]
        assert bound(*moved) < best - 1e-4

    alpha = story.weights_given(q).concentration.clone().requires_grad_()
    pi = dist.Dirichlet(alpha)
    mean_log = torch.digamma(alpha) - torch.digamma(alpha.sum())
    flat = dist.Dirichlet(torch.ones(3, dtype=torch.float64))
    total = (q * mean_log).sum() - kl_divergence(pi, flat)
    assert torch.autograd.grad(total, alpha)[0].abs().max() < 1e-10


# -- where guides start ------------------------------------------------------------------------------


def agreement(found, truth):
    return max((found == truth).mean(), (found != truth).mean())


@pytest.mark.parametrize("by_angle", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_partition_is_seen_in_the_spectrum(kind, by_angle):
    graph, truth = planted(kind, n=120)
    found = spectral_blocks(graph, 2, by_angle=by_angle)
    assert found.shape == (120,)
    assert found.dtype == torch.int64
    assert agreement(found.numpy(), truth) > 0.95
    assert torch.equal(found, spectral_blocks(graph, 2, by_angle=by_angle)), "the seed is in it"


def test_blocks_that_avoid_each_other_are_seen_too():
    rng = np.random.default_rng(1)
    z = np.arange(120) % 2
    p = np.where(z[:, None] == z, 0.05, 0.4)
    edges = np.stack(np.nonzero(np.triu(rng.random((120, 120)) < p, 1)))
    assert agreement(spectral_blocks(Graph(120, edges), 2).numpy(), z) > 0.95


def test_degrees_are_taken_out_by_angle():
    rng = np.random.default_rng(1)
    n, z = 200, np.arange(200) % 2
    theta = np.where(np.arange(n) < 40, 3.0, 0.7)  # hubs of both groups
    p = np.minimum(1.0, theta[:, None] * theta * np.where(z[:, None] == z, 0.2, 0.02))
    graph = Graph(n, np.stack(np.nonzero(np.triu(rng.random((n, n)) < p, 1))))
    assert agreement(spectral_blocks(graph, 2, by_angle=True).numpy(), z) > 0.95


def test_graphs_too_small_or_empty_for_a_spectrum():
    assert spectral_blocks(Graph(3, [[0], [1]]), 1).tolist() == [0, 0, 0]
    assert spectral_blocks(Graph(2, [[0], [1]]), 2).tolist() == [0, 0]
    assert spectral_blocks(Graph(5, [[], []], allow_empty=True), 2).tolist() == [0] * 5
    assert spectral_blocks(Graph(4, [[0, 1, 2], [1, 2, 3]]), 6).max() < 4


@pytest.mark.parametrize("amortised", [True, False])
def test_memberships_start_at_the_spectral_blocks(amortised):
    graph, _ = planted()
    story = SBM(30, 2)
    encoder = {"hidden": (16,)} if amortised else {}
    guide = AmortisedCategorical(story, graph, amortised=amortised, confidence=0.9, **encoder)
    with torch.no_grad():
        q = torch.softmax(guide.encoder(graph)[0]["membership_logits"], -1)
    blocks = spectral_blocks(graph, 2)
    assert torch.equal(q.argmax(1), blocks)
    if amortised:  # a short regression: near
        assert abs(q.amax(1).mean() - 0.9) < 0.1
        assert all(p.grad is None or not p.grad.any() for p in guide.parameters())
    else:
        torch.testing.assert_close(q.gather(1, blocks[:, None]), torch.full((30, 1), 0.9))


def test_a_random_start_is_even_over_blocks():
    graph, _ = planted(n=300)
    guide = AmortisedCategorical(SBM(300, 3), graph, amortised=False, initial="random")
    counts = guide.encoder.heads["membership_logits"].argmax(1).bincount(minlength=3)
    assert largest((counts - 100) / (300 * 2 / 9) ** 0.5) < LIMIT


@pytest.mark.parametrize("amortised", [True, False])
def test_spread_of_memberships(amortised):
    graph, _ = planted()
    encoder = {"hidden": (8,)} if amortised else {}
    guide = MeanField(LFRM(30, 4), graph, amortised=amortised, membership_spread=2.0, **encoder)
    logits = guide.encoder(graph)[0]["membership_logits"]
    torch.testing.assert_close(logits.std(0), torch.full((4,), 2.0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits.mean(0), torch.zeros(4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("amortised", [True, False])
def test_scales_start_narrow(amortised):
    _, guide, graph = a_pair(AmortisedNormal, amortised, bias="node")
    heads = guide.encoder(graph)[0]
    for name in ("embedding_log_scale", "node_bias_log_scale"):
        assert (heads[name] + 2.0).abs().max() < 0.5, name
    assert heads["embedding_loc"].abs().max() > 0.01


def test_start_of_a_free_head():
    torch.manual_seed(0)
    encoder = FreeEncoder(small_graph(), {"a": 3})
    before = encoder.heads["a"].detach().clone()
    encoder.start("a", -2.0, 0.1)
    torch.testing.assert_close(encoder.heads["a"].detach(), 0.1 * before - 2.0)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_bias_starts_at_the_mean_edge(likelihood):
    graph = small_graph("undirected", likelihood)
    story = DGLFRM(6, 3, likelihood=likelihood, bias="global")
    guide = MeanField(story, graph, hidden=(4,))
    mean = graph.weighted_adjacency.to_dense().triu(1).sum().item() / graph.num_dyads
    expected = {"normal": mean}.get(likelihood, np.log(abs(mean)))
    assert guide.bias_loc.item() == pytest.approx(expected, rel=1e-5)
    if likelihood == "normal":
        pairs = graph.observed_pairs()
        x = graph.weighted_adjacency.to_dense()[pairs[0], pairs[1]]
        assert guide.edge_scale_loc.exp().item() == pytest.approx(
            x.std(correction=0).item(), rel=1e-5
        )


def test_affinities_start_assortative():
    for kind, expected in (
        ("undirected", [1, 0, 0, 1, 0, 1]),
        ("directed", [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ):
        _, guide, _ = a_pair(MeanField, kind=kind)
        assert guide.affinity_loc.tolist() == expected
    guide = MeanField(LFRM(6, 3, affinity="diagonal"), small_graph())
    assert guide.affinity_loc.tolist() == [1, 1, 1]


@pytest.mark.parametrize("amortised", [True, False])
@pytest.mark.parametrize("family", [AmortisedCategorical, MeanField, AmortisedNormal])
def test_every_parameter_receives_a_gradient(family, amortised):
    story, guide, graph = a_pair(family, amortised, bias="node", likelihood="normal")
    DyadicELBO().differentiable_loss(story, guide, graph).backward()
    lost = [n for n, p in guide.named_parameters() if p.grad is None or not p.grad.any()]
    assert not lost


# -- recipes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SBM", "LFRM"])
def test_a_recipe_tells_the_story_of_the_graph_s_kind_and_sides(name):
    recipe = Recipe(story={"name": name}, guide={"amortised": False})
    for kind in KINDS:
        graph = small_graph(kind)
        story, guide = recipe.build(graph)
        assert story.kind == kind
        assert story.sides == ((3, 3) if kind == "bipartite" else None)
        assert latents(guide, graph) == latents(story, graph)
        story()  # the prior can be drawn from
