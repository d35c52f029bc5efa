"""Densities from a sample of absent dyads: means over all samples, variances by their formulas, uniform draws."""

from __future__ import annotations

import itertools
import math

import pyro
import pytest
import torch
from chance import LIMIT, largest
from memory import LargestTensor
from pyro import poutine
from pyro.ops.provenance import get_provenance, track_provenance

from graphlore.data import karate
from graphlore.guides import StructuredMeanField
from graphlore.inference import DyadicELBO, fit, seeded
from graphlore.models import DGLFRM, DyadicBernoulli, NodeBlockDyads, SubsampledDyads
from graphlore.models.cumulants import softplus

FORMS = ["symmetric", "bias", "arcs"]
WEIGHTS = (0.6, 4.5)


class Case:
    """A graph of a few nodes with missing dyads, and factors that require a gradient."""

    def __init__(self, form, n=6):
        rng = torch.Generator().manual_seed(5)
        self.directed = form == "arcs"

        def normal(*shape):
            x = torch.randn(*shape, generator=rng, dtype=torch.float64)
            return x.requires_grad_()

        self.leaves = [normal(n, 3)]
        if form == "bias":
            self.leaves += [normal(n)]
        if form == "arcs":
            self.leaves += [normal(n, 3), normal(n), normal(n)]
        dyads = torch.ones(n, n).fill_diagonal_(0.0)
        dyads = (dyads if self.directed else dyads.triu(1)).nonzero().T
        order = torch.randperm(dyads.shape[1], generator=rng)
        third = dyads.shape[1] // 3
        self.present = dyads[:, order[:third].sort().values]
        self.missing = dyads[:, order[third : third + 2].sort().values]
        self.absent = dyads[:, order[third + 2 :].sort().values]
        self.value = torch.zeros(n, n, dtype=torch.float64)
        self.value[*self.present] = 1.0
        if not self.directed:
            self.value += self.value.T.clone()

    def make(self, kind=DyadicBernoulli, **options):
        left, *rest = self.leaves
        names = ["right", "left_bias", "right_bias"] if self.directed else ["left_bias"]
        return kind(
            left,
            **dict(zip(names, rest, strict=False)),
            missing=self.missing,
            weights=WEIGHTS,
            directed=self.directed,
            **options,
        )


def read(case, d):
    """Value, shares and signals of the nodes, gradients of value and of weighted shares, in one vector."""
    total, nodes = d.log_prob(case.value), d.node_log_prob(case.value)
    turn = torch.arange(1.0, nodes.shape[-1] + 1, dtype=nodes.dtype)
    gradients = [
        g
        for y in (total, (nodes * turn).sum())
        for g in torch.autograd.grad(y, case.leaves, retain_graph=True, allow_unused=True)
        if g is not None
    ]
    parts = [total, nodes, d.incident_log_prob(case.value), *gradients]
    return torch.cat([x.detach().reshape(-1) for x in parts])


def with_sample(case, pairs):
    d = case.make(SubsampledDyads, num_absent=pairs.shape[1])
    d._drawn = (d.present(case.value), pairs)
    return d


# -- absent dyads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_absent", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_mean_over_all_samples_is_exact(form, num_absent):
    case = Case(form, n=4 if num_absent == 2 and form == "arcs" else 5)
    samples = itertools.product(range(case.absent.shape[1]), repeat=num_absent)
    found = [read(case, with_sample(case, case.absent[:, list(s)])) for s in samples]
    expected = read(case, case.make())
    torch.testing.assert_close(torch.stack(found).mean(0), expected, rtol=1e-10, atol=1e-10)
    assert torch.stack(found).std(0).max() > 0.01  # single samples do differ


@pytest.mark.parametrize("form", FORMS)
def test_variance_over_all_samples_is_the_formula_s(form):
    case, m = Case(form, n=5), 2
    count = case.absent.shape[1]
    samples = itertools.product(range(count), repeat=m)
    found = [with_sample(case, case.absent[:, list(s)]).log_prob(case.value) for s in samples]
    spread = softplus(case.make().logits(case.absent)).var(correction=0)
    expected = WEIGHTS[0] ** 2 * count**2 / m * spread
    torch.testing.assert_close(torch.stack(found).var(correction=0), expected, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("form", FORMS)
def test_absent_dyads_are_drawn_uniformly_and_no_others(form):
    case, m, n = Case(form), 20_000, 6
    d = case.make(SubsampledDyads, num_absent=m)
    drawn = d.absent(d.present(case.value))
    assert drawn.shape == (2, m)
    counts = torch.bincount(drawn[0] * n + drawn[1], minlength=n * n)
    expected = torch.zeros(n * n)
    p = 1 / case.absent.shape[1]
    expected[case.absent[0] * n + case.absent[1]] = m * p
    assert (counts[expected == 0] == 0).all()
    z = (counts - expected)[expected > 0] / math.sqrt(m * p * (1 - p))
    assert largest(z) < LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_the_average_over_draws_approaches_the_exact_density_and_gradient(form):
    case, draws = Case(form), 600
    found = torch.stack(
        [read(case, case.make(SubsampledDyads, num_absent=4)) for _ in range(draws)]
    )
    spread = found.std(0)
    moving = spread > 1e-9  # shares of nodes without an absent dyad do not vary
    z = (found.mean(0) - read(case, case.make()))[moving] / (spread[moving] / draws**0.5)
    assert moving.sum() > 20
    assert largest(z) < LIMIT


def test_a_distribution_keeps_its_sample_and_another_draws_anew():
    case = Case("bias")
    d, other = (case.make(SubsampledDyads, num_absent=5) for _ in range(2))
    first = d.log_prob(case.value)
    assert d.log_prob(case.value) == first
    assert d.node_log_prob(case.value).sum().item() == pytest.approx(first.item(), rel=1e-12)
    assert d.incident_log_prob(case.value).sum().item() == pytest.approx(2 * first.item())
    assert other.log_prob(case.value) != first


def test_another_value_gets_its_own_absent_dyads():
    case = Case("symmetric")
    d = case.make(SubsampledDyads, num_absent=200)
    d.log_prob(case.value)
    empty = torch.zeros_like(case.value)
    drawn = set(map(tuple, d.absent(d.present(empty)).T.tolist()))
    assert drawn & set(map(tuple, case.present.T.tolist()))


def test_a_complete_graph_has_nothing_to_draw():
    left = torch.randn(5, 2, dtype=torch.float64)
    value = torch.ones(5, 5, dtype=torch.float64).fill_diagonal_(0.0)
    found = SubsampledDyads(left, num_absent=3).log_prob(value)
    torch.testing.assert_close(found, DyadicBernoulli(left).log_prob(value))


@pytest.mark.parametrize(
    ("kind", "options"), [(SubsampledDyads, {"num_absent": 4}), (NodeBlockDyads, {"block": 4})]
)
def test_draws_of_a_batch_share_the_sample(kind, options):
    case = Case("bias")
    left, bias = (torch.randn(3, *x.shape, dtype=x.dtype) for x in case.leaves)
    d = kind(left, left_bias=bias, missing=case.missing, weights=WEIGHTS, **options)
    found = d.log_prob(case.value)
    nodes = d.node_log_prob(case.value)
    assert found.shape == (3,)
    torch.testing.assert_close(nodes.sum(-1), found)
    for draw in range(3):
        one = d.one(draw)
        assert type(one) is kind
        one._drawn, one._nodes = getattr(d, "_drawn", None), getattr(d, "_nodes", None)
        torch.testing.assert_close(one.log_prob(case.value), found[draw])
    assert d.expand([2, 3]).log_prob(case.value).shape == (2, 3)
    exact = DyadicBernoulli(left, left_bias=bias, missing=case.missing)
    torch.testing.assert_close(d.untempered().log_prob(case.value), exact.log_prob(case.value))


@pytest.mark.parametrize(
    ("kind", "options"), [(SubsampledDyads, {"num_absent": 4}), (NodeBlockDyads, {"block": 4})]
)
@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
def test_provenance_reaches_the_density(kind, options, what):
    left = track_provenance(torch.randn(6, 2), frozenset({"site"}))
    assert get_provenance(getattr(kind(left, **options), what)(torch.zeros(6, 6))) == {"site"}


# -- blocks of nodes ---------------------------------------------------------------------------------


def with_block(case, nodes):
    d = case.make(NodeBlockDyads, block=len(nodes))
    d._nodes = torch.tensor(nodes)
    return d


@pytest.mark.parametrize("block", [2, 3, 5])
@pytest.mark.parametrize("form", FORMS)
def test_the_mean_over_all_blocks_is_exact(form, block):
    case = Case(form)
    found = [read(case, with_block(case, b)) for b in itertools.combinations(range(6), block)]
    expected = read(case, case.make())
    torch.testing.assert_close(torch.stack(found).mean(0), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_the_block_of_all_nodes_is_the_exact_density(form):
    case = Case(form)
    torch.testing.assert_close(
        read(case, case.make(NodeBlockDyads, block=6)), read(case, case.make())
    )


@pytest.mark.parametrize("block", [2, 3, 4])
@pytest.mark.parametrize("form", FORMS)
def test_variance_over_all_blocks_is_the_formula_s(form, block):
    case, n = Case(form), 6
    blocks = itertools.combinations(range(n), block)
    found = torch.stack([with_block(case, b).log_prob(case.value) for b in blocks])
    y = softplus(case.make().logits(case.absent)).tolist()
    weight = n * (n - 1) / (block * (block - 1))
    expected = 0.0
    for (d, a), (e, b) in itertools.product(zip(case.absent.T.tolist(), y, strict=True), repeat=2):
        u = len({*d, *e})
        together = math.perm(block, u) / math.perm(n, u)
        expected += WEIGHTS[0] ** 2 * a * b * (weight**2 * together - 1)
    assert found.var(correction=0).item() == pytest.approx(expected, rel=1e-9)


def test_blocks_are_uniform_subsets():
    d = [NodeBlockDyads(torch.zeros(6, 1), block=3) for _ in range(2000)]
    counts = torch.zeros(6, 6)
    for x in d:
        counts[x.nodes[:, None], x.nodes] += 1.0
    pair = torch.full((6, 6), 0.2).fill_diagonal_(0.5)
    z = (counts - 2000 * pair) / (2000 * pair * (1 - pair)).sqrt()
    assert largest(z) < LIMIT


# -- cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [(SubsampledDyads, {"num_absent": 10_000}), (NodeBlockDyads, {"block": 300})],
)
def test_memory_is_linear_in_the_edges(kind, options):
    n = 20_000
    left = (0.1 * torch.randn(n, 4)).requires_grad_()
    edges = torch.randint(n, (2, 10_000))
    edges = edges[:, edges[0] != edges[1]]
    both = torch.cat((edges, edges.flip(0)), 1)
    value = torch.sparse_coo_tensor(both, torch.ones(both.shape[1]), (n, n)).coalesce()
    with LargestTensor() as mode:
        d = kind(left, **options)
        (d.log_prob(value) + d.node_log_prob(value).sum()).backward()
    # lists of 10,000 dyads with 4 factors each, a block of 300 x 300; one row of dyads per node would be 400 million
    assert mode.largest <= 100_000


# -- in a story --------------------------------------------------------------------------------------


def pair(**options):
    graph = karate()
    with seeded(3):
        story = DGLFRM(graph.num_nodes, 4, 2.0, decoder=(8,), **options)
        guide = StructuredMeanField(story, graph, hidden=(8,), baseline=None)
    return story, guide, graph


def edges_of(story, graph):
    return poutine.trace(story).get_trace(graph).nodes["edges"]["fn"]


def test_a_story_tells_edges_by_a_sample_where_it_has_a_graph():
    story, _, graph = pair(absent_sample=40, class_weight="balanced", bias="global")
    d = edges_of(story, graph)
    assert type(d) is SubsampledDyads
    assert (d.num_absent, d.weights) == (40, story.edge_weights(graph))
    assert type(edges_of(story, None)) is DyadicBernoulli
    assert story.options["absent_sample"] == 40


def gradients(story, guide, graph, draws):
    """Gradients at fixed latents (the seed), averaged over draws of the sample of absent dyads alone."""
    guide_trace = poutine.trace(guide).get_trace(graph)
    elbo = DyadicELBO()
    found = []
    parameters = [*story.parameters(), *guide.parameters()]
    for _ in range(draws):
        replayed = poutine.replay(guide, guide_trace)
        loss = elbo.differentiable_loss(story, replayed, graph)
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        grads = [g.reshape(-1) for g in grads if g is not None]
        found.append(torch.cat([loss.detach().reshape(1), *grads]).double())
    return torch.stack(found)


def test_the_dyadic_estimator_stays_unbiased():
    # the same latents with and without the sample: what differs is the sample's noise, of mean zero
    draws = 400
    found = {}
    for sample in (None, 60):
        story, guide, graph = pair(absent_sample=sample, bias="global")
        with seeded(11):
            found[sample] = gradients(story, guide, graph, draws if sample else 1)
    exact, sampled = found[None][0], found[60]
    error = sampled.std(0) / draws**0.5
    moving = error > 1e-6 * exact.abs().clamp(min=1.0)
    z = (sampled.mean(0) - exact)[moving] / error[moving]
    assert moving.sum() > 100
    assert largest(z) < LIMIT
    torch.testing.assert_close(sampled.mean(0)[~moving], exact[~moving], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gradient", ["dyadic", "concrete", "local_expectation"])
def test_a_fit_on_samples_raises_the_bound(gradient):
    story, guide, graph = pair(absent_sample=100, bias="global")
    pyro.clear_param_store()
    result = fit(story, guide, graph, steps=150, seed=0, gradient=gradient, progress=False)
    bound = torch.tensor(result.history["elbo"])
    assert bound[-30:].mean() > bound[:10].mean() + 20.0


# -- errors ------------------------------------------------------------------------------------------


def test_a_sample_has_a_dyad_at_least():
    with pytest.raises(ValueError, match="num_absent is a number of dyads, at least 1, not 0"):
        SubsampledDyads(torch.zeros(3, 1), num_absent=0)
    with pytest.raises(ValueError, match="absent_sample is None or a number of dyads"):
        DGLFRM(34, absent_sample=0)


@pytest.mark.parametrize("block", [1, 7])
def test_a_block_is_of_two_nodes_to_all(block):
    with pytest.raises(ValueError, match=f"block is a number of nodes, 2 to 6, not {block}"):
        NodeBlockDyads(torch.zeros(6, 1), block=block)
