"""Values and gradients without NaN or infinity in float32: long truncations, cold temperatures, huge logits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.special import log_expit
from torch.nn import functional as F

from graphlore.data import Graph
from graphlore.guides import Kumaraswamy, StructuredMeanField
from graphlore.inference import DyadicELBO
from graphlore.models import (
    DGLFRM,
    Concrete,
    DyadicBernoulli,
    LogitConcrete,
    NodeBlockDyads,
    SubsampledDyads,
    activation_logits,
)
from graphlore.models.blocks import BlockBernoulli

LONG = 200
FAR = 1e4


def assert_finite(*tensors):
    for x in tensors:
        assert x is not None
        assert x.dtype == torch.float32
        assert torch.isfinite(x).all()


# -- sticks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "d"), list(itertools.product([1e-3, 0.03, 1.0, 30.0, 1e3], repeat=2))
)
def test_memberships_given_two_hundred_drawn_sticks(c, d):
    c, d = (torch.full((LONG,), x, requires_grad=True) for x in (c, d))
    v = Kumaraswamy(c, d).rsample()
    logits = activation_logits(v)
    members = (torch.arange(LONG) < torch.arange(0, 50)[:, None]).float()
    density = -F.binary_cross_entropy_with_logits(logits.expand(50, LONG), members)
    assert_finite(v, logits, density, *torch.autograd.grad(density, (c, d)))
    assert (logits.diff() <= 0).all()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("raw", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("relaxation", [None, Concrete(0.05)], ids=["exact", "relaxed"])
def test_a_fit_of_two_hundred_communities_at_extreme_sticks(alpha, raw, relaxation):
    graph = Graph(5, [[0, 0, 1], [1, 2, 4]])
    story = DGLFRM(5, LONG, alpha, decoder=(4,), relaxation=relaxation)
    guide = StructuredMeanField(story, graph, amortised=False, relaxation=relaxation)
    with torch.no_grad():
        guide.stick_c_raw.fill_(raw)
        guide.stick_d_raw.fill_(-raw)
        guide.free_head("membership_logits").copy_(
            torch.tensor([-FAR, FAR, 0.0, -50.0, 50.0])[:, None]
        )
    loss = DyadicELBO().differentiable_loss(story, guide, graph)
    parameters = [*story.parameters(), *guide.parameters()]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert_finite(loss, *(g for g in grads if g is not None))
    assert sum(g is not None for g in grads) >= len(parameters) - 1


# -- Concrete densities ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0, 5.0])
def test_concrete_densities_and_their_gradients_anywhere(temperature):
    ends = torch.tensor([-FAR, -88.0, -1.0, 0.0, 1.0, 88.0, FAR])
    logits = ends.repeat_interleave(len(ends)).requires_grad_()
    y = (ends.repeat(len(ends)) / temperature).requires_grad_()
    density = LogitConcrete(temperature, logits).log_prob(y)
    by_logits, by_y = torch.autograd.grad(density.sum(), (logits, y))
    assert_finite(density, by_logits, by_y)
    # log t + d - 2 log(1 + e^d)
    d = logits.detach().double() - temperature * y.detach().double()
    expected = np.log(temperature) + log_expit(d.numpy()) + log_expit(-d.numpy())
    np.testing.assert_allclose(density.detach(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_logits, -torch.tanh(d / 2), atol=1e-4)
    np.testing.assert_allclose(by_y, temperature * torch.tanh(d / 2), atol=1e-4 * temperature)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("logit", [-FAR, 0.0, FAR])
def test_a_relaxed_divergence_through_its_own_draws(temperature, logit):
    logits = torch.full((3000,), logit, requires_grad=True)
    prior = torch.zeros(3000, requires_grad=True)
    q, p = LogitConcrete(temperature, logits), LogitConcrete(0.05, prior)
    y = q.rsample()
    divergence = (q.log_prob(y) - p.log_prob(y)).sum()
    relaxed = torch.sigmoid(y)
    loss = divergence + (relaxed @ relaxed) / 3000
    assert_finite(y, relaxed, divergence, *torch.autograd.grad(loss, (logits, prior)))


# -- sums of log-sigmoids ----------------------------------------------------------------------------

N = 9
LEVELS = torch.tensor([100.0, -100.0, 100.0, -100.0, 0.0, 1e-3, 3.0, -3.0, 30.0])
SIDES = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 1])
MISSING = {
    "undirected": torch.tensor([[0, 1], [3, 2]]),
    "directed": torch.tensor([[0, 3], [3, 0]]),
    "bipartite": torch.tensor([[0], [3]]),
}


def a_value(kind):
    value = torch.zeros(N, N)
    value[0, 1] = value[1, 2] = value[4, 5] = value[2, 3] = 1.0  # logits of -1e4, and of 0
    return value if kind == "directed" else value + value.T


def exact(kind, s, value, weights):
    """The sum from its definition, in float64."""
    i, j = np.indices((N, N))
    side = SIDES.numpy()
    dyads = {"undirected": i < j, "directed": i != j}.get(kind)
    if kind == "bipartite":
        dyads = (side[i] == 0) & (side[j] == 1)
    dyads[*MISSING[kind].numpy()] = False
    x = value.double().numpy()
    terms = weights[1] * x * log_expit(s) + weights[0] * (1 - x) * log_expit(-s)
    return float(terms[dyads].sum())


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.6, 4.5)])
@pytest.mark.parametrize("tile", [1, 4, 512])
@pytest.mark.parametrize("kind", list(MISSING))
def test_dyads_with_logits_of_ten_thousand(kind, tile, weights):
    left = LEVELS[:, None].clone().requires_grad_()
    right = None if kind == "undirected" else LEVELS[:, None].clone().requires_grad_()
    bias = torch.tensor([1.0, -1.0] * 4 + [0.0]).requires_grad_()
    leaves = [x for x in (left, right, bias) if x is not None]
    d = DyadicBernoulli(
        left,
        right,
        bias,
        missing=MISSING[kind],
        directed=kind == "directed",
        parts=SIDES if kind == "bipartite" else None,
        weights=weights,
        tile=tile,
    )
    value = a_value(kind)
    if kind == "bipartite":
        value = value * (SIDES[:, None] != SIDES)
    density, nodes = d.log_prob(value), d.node_log_prob(value)
    turn = torch.arange(1.0, N + 1)
    for y in (density, (nodes * turn).sum()):
        assert_finite(*torch.autograd.grad(y, leaves, retain_graph=True))
    assert_finite(density, nodes, d.incident_log_prob(value))
    b = bias.detach().double().numpy()
    s = np.outer(LEVELS.double(), LEVELS.double())
    s = s + b[:, None] + (0.0 if kind == "directed" else b)
    assert density.item() == pytest.approx(exact(kind, s, value, weights), rel=1e-6)
    assert nodes.sum().item() == pytest.approx(density.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["undirected", "directed"])
@pytest.mark.parametrize(
    ("law", "options"),
    [
        (SubsampledDyads, {"num_absent": 3}),
        (NodeBlockDyads, {"block": 4}),
        (NodeBlockDyads, {"block": N}),
    ],
)
def test_sampled_dyads_with_logits_of_ten_thousand(law, options, kind):
    left = LEVELS[:, None].clone().requires_grad_()
    right = LEVELS[:, None].clone().requires_grad_() if kind == "directed" else None
    value = a_value(kind)
    directed = kind == "directed"
    for _ in range(20):
        d = law(left, right, missing=MISSING[kind], directed=directed, **options)
        density, nodes = d.log_prob(value), d.node_log_prob(value)
        leaves = [x for x in (left, right) if x is not None]
        grads = torch.autograd.grad(density + nodes.square().mean().sqrt(), leaves)
        assert_finite(density, nodes, d.incident_log_prob(value), *grads)


@pytest.mark.parametrize("hard", [True, False])
def test_blocks_with_logits_of_ten_thousand(hard):
    table = torch.tensor([[FAR, -FAR, 0.0], [-FAR, FAR, 88.0], [0.0, 88.0, -FAR]]).requires_grad_()
    z = F.one_hot(torch.arange(N) % 3, 3).float()
    z = (z if hard else torch.softmax(3.0 * z, -1)).requires_grad_()
    d = BlockBernoulli(z, table, missing=MISSING["undirected"])
    value = a_value("undirected")
    density, nodes = d.log_prob(value), d.node_log_prob(value)
    grads = torch.autograd.grad(density + nodes.square().mean().sqrt(), (z, table))
    assert_finite(density, nodes, *grads)
    if hard:
        s = (z.detach() @ table.detach() @ z.detach().T).double().numpy()
        assert density.item() == pytest.approx(exact("undirected", s, value, (1.0, 1.0)), rel=1e-6)
