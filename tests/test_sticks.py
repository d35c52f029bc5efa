"""The stick-breaking process: stable logits, and the prior's expectations against its own draws."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from chance import LIMIT, largest
from pyro import poutine

from graphlore.models import DGLFRM, activation_logits, activation_probabilities, expected_active

DRAWS = 20_000


def z_score(draws, expected):
    draws = np.asarray(draws, dtype=float)
    return (draws.mean(0) - expected) / (draws.std(0) / math.sqrt(len(draws)))


def prior_traces(num_nodes, **options):
    """The prior of the story, many graphs at once."""
    story = DGLFRM(num_nodes, **options)
    with torch.no_grad(), pyro.plate("draws", DRAWS, dim=-2):
        return poutine.trace(story).get_trace()


def test_probabilities_are_running_products():
    v = torch.tensor([[0.5, 0.5, 0.1], [1.0, 0.25, 1.0]], dtype=torch.float64)
    expected = [[0.5, 0.25, 0.025], [1.0, 0.25, 0.25]]
    np.testing.assert_allclose(activation_probabilities(v), expected, rtol=1e-14)


def test_logits_are_those_of_the_running_product():
    v = torch.rand(50, 12, dtype=torch.float64) * 0.98 + 0.01
    pi = np.cumprod(v.numpy(), axis=-1)
    np.testing.assert_allclose(activation_logits(v), np.log(pi) - np.log1p(-pi), rtol=1e-12)


def test_logits_near_one_keep_their_digits_in_float32():
    # 1 - pi = 2^-20: a float32 pi still holds it, log(1 - pi) computed naively from log pi does not
    v = torch.tensor([1.0 - 2.0**-20])
    expected = math.log1p(-(2.0**-20)) + 20 * math.log(2)
    assert activation_logits(v).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stick", [1.0, 1.0 - 1e-7, 0.5, 1e-38, 0.0])
def test_logits_are_finite_at_both_ends(stick, dtype):
    logits = activation_logits(torch.full((200,), stick, dtype=dtype))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stick", [1.0, 1.0 - 1e-7, 0.5, 1e-38])
def test_the_gradient_of_a_logit_is_finite(stick, dtype):
    v = torch.full((200,), stick, dtype=dtype, requires_grad=True)
    # the first logit alone: d logit / dv is up to 1e38 already
    activation_logits(v)[0].backward()
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("stick", [1.0, 1e-38])
def test_logits_at_the_ends_say_always_and_never(stick):
    p = torch.sigmoid(activation_logits(torch.full((200,), stick)))
    expected = 1.0 if stick == 1.0 else 0.0
    np.testing.assert_allclose(p, np.full(200, expected), atol=1e-6)


def test_activation_does_not_increase_with_k():
    assert (activation_logits(torch.rand(30, 200)).diff(dim=-1) <= 0).all()


def test_expected_active_by_hand():
    assert expected_active(1.0, 3) == pytest.approx(0.5 + 0.25 + 0.125, rel=1e-14)
    assert expected_active(2.0, 2) == pytest.approx(2 / 3 + 4 / 9, rel=1e-14)


def test_expected_active_of_a_long_truncation_is_alpha():
    assert expected_active(3.0, 500) == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.7, 2.0, 10.0])
def test_means_of_activation_probabilities(alpha):
    v = dist.Beta(torch.full((5,), alpha), torch.ones(5)).sample((DRAWS,))
    expected = (alpha / (alpha + 1)) ** np.arange(1, 6)
    assert largest(z_score(activation_probabilities(v), expected)) < LIMIT


@pytest.mark.parametrize("sticks", ["global", "local"])
@pytest.mark.parametrize(("alpha", "truncation"), [(0.5, 4), (2.0, 6), (5.0, 15)])
def test_the_sampler_has_the_expected_number_of_communities(alpha, truncation, sticks):
    trace = prior_traces(2, alpha=alpha, truncation=truncation, sticks=sticks)
    # the mean over the two nodes of one graph, which share the sticks: graphs are independent
    communities = trace.nodes["memberships"]["value"].sum(-1).mean(-1)
    assert communities.shape == (DRAWS,)
    assert largest(z_score(communities, expected_active(alpha, truncation))) < LIMIT


@pytest.mark.parametrize("sticks", ["global", "local"])
def test_every_community_has_its_own_expected_share(sticks):
    trace = prior_traces(2, alpha=2.0, truncation=5, sticks=sticks)
    shares = trace.nodes["memberships"]["value"].mean(-2)
    assert largest(z_score(shares, (2 / 3) ** np.arange(1, 6))) < LIMIT


@pytest.mark.parametrize(("sticks", "expected"), [("global", 1 / 2), ("local", 4 / 9)])
def test_nodes_share_global_sticks_only(sticks, expected):
    # P(b_0k = b_1k = 1), k = 1: E[v^2] = alpha / (alpha + 2) with one stick, E[v]^2 with two
    trace = prior_traces(2, alpha=2.0, truncation=1, sticks=sticks)
    both = trace.nodes["memberships"]["value"].prod(-2).squeeze(-1)
    assert largest(z_score(both, expected)) < LIMIT
