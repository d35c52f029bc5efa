"""Gradients of block memberships and of LFRM's bits against enumeration, whatever the edges' law and kind.

All other latents are forced to one fixed value, memberships to each of their configurations in turn; the estimator's
gradient, weighted by q, must be the derivative of the finite sum written out by hand. Nothing is left to chance.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from small_blocks import (
    DOUBLE,
    KINDS,
    STICKS,
    K,
    N,
    Table,
    a_graph,
    enumerated,
    expected,
    gradient,
    log_likelihood,
    weights,
)
from torch.distributions import Bernoulli, kl_divergence

from graphlore.guides import AmortisedCategorical, AmortisedNormal, MeanField
from graphlore.inference import DyadicELBO, InferenceError, fit
from graphlore.inference import local_expectation as module
from graphlore.inference.expectation import ExpectationELBO
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import LFRM, SBM, VGAE
from graphlore.models.sticks import activation_logits

pytestmark = pytest.mark.filterwarnings("ignore:Found (vars|non-auxiliary vars|auxiliary vars)")


def assert_close(found, truth):
    assert truth.abs().max() > 1e-2
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


LAWS = [("bernoulli", "none"), ("poisson", "none"), ("poisson", "node"), ("normal", "none")]
CORRECTED = [("bernoulli", "node"), ("normal", "node")]


def an_sbm(kind, law, bias):
    return SBM(N, K, kind=kind, likelihood=law, bias=bias).double()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("law", "bias"), LAWS)
def test_memberships_summed_out_have_the_enumerated_gradient(law, bias, kind, hidden):
    story, graph = an_sbm(kind, law, bias), a_graph(kind, law, hidden)
    guide = Table(story)
    truth = enumerated(story, guide, graph)
    draws = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 0, 0])
    estimator = ExpectationELBO()
    for z in (*draws, draws[0]):  # whichever draw is made, and however often
        assert_close(gradient(estimator, story, guide, graph, membership=z), truth)


def test_the_value_summed_out_is_the_enumerated_one():
    story, graph = an_sbm("directed", "poisson", "node"), a_graph("directed", "poisson")
    guide, estimator = Table(story), ExpectationELBO()
    gradient(estimator, story, guide, graph)
    likelihood = sum(
        w * log_likelihood(story, graph, z) for w, z, _ in weights(story, guide.logits)
    )
    assert estimator.last["likelihood"] == pytest.approx(likelihood.item(), rel=1e-12)
    assert estimator.last["elbo"] == pytest.approx(likelihood.item() - estimator.last["kl"])


@pytest.mark.parametrize("estimator", [DyadicELBO, LocalExpectationELBO])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("law", "bias"), LAWS + CORRECTED)
def test_sampled_blocks_have_the_enumerated_gradient_as_their_mean(law, bias, kind, estimator):
    story, graph = an_sbm(kind, law, bias), a_graph(kind, law)
    guide = Table(story)
    assert_close(expected(estimator(), story, guide, graph), enumerated(story, guide, graph))


@pytest.mark.parametrize("estimator", [DyadicELBO, LocalExpectationELBO])
def test_a_tempered_divergence(estimator):
    story, graph = an_sbm("undirected", "bernoulli", "none"), a_graph("undirected", "bernoulli")
    guide = Table(story)
    truth = enumerated(story, guide, graph, kl_weight=0.3)
    assert_close(expected(estimator(kl_weight=0.3), story, guide, graph), truth)
    assert_close(gradient(ExpectationELBO(kl_weight=0.3), story, guide, graph), truth)


def test_the_gain_of_a_category_does_not_depend_on_the_node_s_own_draw():
    story, graph = an_sbm("directed", "bernoulli", "node"), a_graph("directed", "bernoulli")
    guide, estimator = Table(story), LocalExpectationELBO()
    for n in range(N):
        found = []
        for k in range(K):
            z = torch.tensor([1, 0, 0, 1])
            z[n] = k
            found.append(gradient(estimator, story, guide, graph, membership=z)[n])
        torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


# -- LFRM --------------------------------------------------------------------------------------------

LFRMS = {
    "affinity": {},
    "diagonal": {"affinity": "diagonal"},
    "node bias": {"bias": "node"},
    "weighted": {"class_weight": 2.5, "bias": "global"},
    "counts": {"likelihood": "poisson", "bias": "node"},
    "weights": {"likelihood": "normal", "bias": "global"},
}


@pytest.mark.parametrize("kind", ["undirected", "bipartite"])
def test_local_expectations_of_lfrm_are_enumerated(kind):
    story = LFRM(N, K, 1.75, kind=kind).double()
    graph, guide = a_graph(kind, "bernoulli"), Table(story)
    assert_close(
        expected(LocalExpectationELBO(), story, guide, graph), enumerated(story, guide, graph)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LFRMS)
def test_the_gain_of_a_bit_is_the_difference_of_two_likelihoods(name, kind):
    """At one draw of the other bits; it does not look at the bit's own, so that its mean is the gradient."""
    story = LFRM(N, K, 1.75, kind=kind, **LFRMS[name]).double()
    graph = a_graph(kind, story.likelihood)
    guide = Table(story)
    prior = Bernoulli(logits=activation_logits(STICKS).expand(N, K))
    divergence = kl_divergence(Bernoulli(logits=guide.logits), prior).sum()
    truth = -torch.autograd.grad(divergence, guide.logits)[0]
    q = torch.sigmoid(guide.logits.detach())
    bits = [(1, 0), (1, 1), (0, 1), (1, 1)]
    for n, k in itertools.product(range(N), range(K)):
        one, zero = ([list(row) for row in bits] for _ in range(2))
        one[n][k], zero[n][k] = 1, 0
        gain = log_likelihood(story, graph, one) - log_likelihood(story, graph, zero)
        truth[n, k] += q[n, k] * (1 - q[n, k]) * gain
    found = gradient(
        LocalExpectationELBO(), story, guide, graph, memberships=torch.tensor(bits, **DOUBLE)
    )
    assert_close(found, truth)


def test_dyadic_credit_of_lfrm_is_enumerated():
    story = LFRM(N, K, 1.75, kind="directed", bias="node", likelihood="poisson").double()
    graph, guide = a_graph("directed", "poisson"), Table(story)
    assert_close(expected(DyadicELBO(), story, guide, graph), enumerated(story, guide, graph))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("story", ["sbm", "lfrm"])
def test_a_sample_of_other_ends_is_unbiased(story, columns, kind, monkeypatch):
    if story == "sbm":
        story, law = an_sbm(kind, "poisson", "node"), "poisson"
        values = {"membership": torch.tensor([1, 0, 0, 1])}
    else:
        story, law = LFRM(N, K, kind=kind).double(), "bernoulli"
        values = {"memberships": torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]], **DOUBLE)}
    guide, graph = Table(story), a_graph(kind, law)
    exact = gradient(LocalExpectationELBO(), story, guide, graph, **values)
    found = []
    subsets = [torch.tensor(c) for c in itertools.combinations(range(N), columns)]
    for chosen in subsets:
        monkeypatch.setattr(module, "_sample", lambda *_, chosen=chosen: chosen)
        found.append(gradient(LocalExpectationELBO(columns=columns), story, guide, graph, **values))
    assert torch.stack(found).std(0).max() > 1e-4
    torch.testing.assert_close(torch.stack(found).mean(0), exact, rtol=1e-10, atol=1e-10)


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "guide"),
    [
        (SBM(N, K, bias="node"), AmortisedCategorical),
        (SBM(N, K, bias="node", likelihood="normal"), AmortisedCategorical),
        (LFRM(N, K), MeanField),
        (VGAE(N, 2), AmortisedNormal),
    ],
    ids=["corrected", "corrected weights", "bits", "no memberships"],
)
def test_what_is_not_linear_in_memberships_is_refused(story, guide):
    graph = a_graph("undirected", story.likelihood)
    with pytest.raises(InferenceError, match="gradient='expectation' is for block memberships"):
        fit(story, guide(story, graph), graph, steps=1, gradient="expectation")
