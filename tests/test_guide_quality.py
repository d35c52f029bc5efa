"""k-hat of a guide: low, with the exact evidence, for the posterior itself; high where weights cannot mend it."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from chance import LIMIT, largest
from scipy import stats
from torch import nn
from torch.nn import functional as F

from graphlore.data import Graph, karate
from graphlore.guides import AmortisedCategorical, AmortisedNormal
from graphlore.inference import (
    Fit,
    FitSettings,
    GuideQuality,
    enumerate_posterior,
    fit,
    guide_quality,
)
from graphlore.inference._arviz import pareto_smoothed
from graphlore.models import SBM, VGAE
from graphlore.models.block_sums import block_sums

GRAPH = Graph(5, [[0, 0, 1, 2], [1, 2, 2, 3]])


class Together(dist.TorchDistribution):
    """Memberships of all nodes from a table of configurations, as a site of the node plate: log q is shared out."""

    arg_constraints: ClassVar[dict] = {}
    support = dist.constraints.nonnegative_integer

    def __init__(self, z, log_p, batch_shape):
        self.z, self.log_p = z, log_p
        super().__init__(torch.Size(batch_shape))

    def expand(self, batch_shape, _instance=None):
        return Together(self.z, self.log_p, batch_shape)

    def index(self, value):
        return (value * 2 ** torch.arange(value.shape[-1])).sum(-1)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008
        shape = (*sample_shape, *self.batch_shape[:-1])
        drawn = torch.distributions.Categorical(logits=self.log_p).sample(shape)
        return self.z[drawn]

    def log_prob(self, value):
        place = torch.empty(len(self.z), dtype=torch.int64)
        place[self.index(self.z)] = torch.arange(len(self.z))
        n = value.shape[-1]
        return (self.log_p[place[self.index(value)]] / n)[..., None].expand(value.shape)


class Exact(nn.Module):
    """q(z) the enumerated posterior to a power, q(W | z) and q(pi | z) conjugate, W narrowed."""

    options: ClassVar[dict] = {}

    def __init__(self, story, graph, power=1.0, narrow=1.0):
        super().__init__()
        exact = enumerate_posterior(story, graph)
        z = exact.configurations.argmax(-1)
        self.q = Together(z, torch.log_softmax(power * exact.probabilities.log(), 0), (len(z[0]),))
        self.story, self.narrow = [story], narrow  # in a list: no part of this module

    def forward(self, graph):
        story = self.story[0]
        with pyro.plate("nodes", graph.num_nodes, dim=-1):
            z = pyro.sample("membership", self.q)
        one_hot = F.one_hot(z, 2).double()
        x = torch.ones(graph.num_edges, dtype=torch.float64)
        flat = one_hot.reshape(-1, *one_hot.shape[-2:])
        edges, exposure = torch.func.vmap(lambda one: block_sums(graph, one, x))(flat)
        a, b = story.block_prior
        shape = (*z.shape[:-1], 1, 3) if z.dim() > 1 else (3,)
        first, second = (a + edges).reshape(shape), (b + exposure - edges).reshape(shape)
        sizes = one_hot.sum(-2, keepdim=z.dim() > 1)
        pyro.sample("community_weights", dist.Dirichlet(story.alpha + sizes))
        table = dist.Beta(self.narrow * first, self.narrow * second).to_event(1)
        pyro.sample("block_probs", table)


def quality(guide=None, draws=2000, **options):
    story = SBM(5, 2).double()
    guide = Exact(story, GRAPH, **options)
    fitted = Fit(story, guide, GRAPH, FitSettings(), {})
    return guide_quality(fitted, draws), enumerate_posterior(story, GRAPH).log_evidence


def test_the_posterior_itself():
    found, log_evidence = quality()
    assert isinstance(found, GuideQuality)
    assert found.k_hat == 0.0
    assert found.trusted
    assert found.log_evidence == pytest.approx(log_evidence, abs=1e-9)
    assert found.elbo == pytest.approx(log_evidence, abs=1e-9)
    assert found.effective_draws == pytest.approx(2000)
    assert found.draws == 2000
    assert "correct the guide easily" in found.meaning
    assert "K! = 0.7 nats" in found.meaning


def test_close_to_the_posterior():
    found, log_evidence = quality(power=0.8, narrow=0.8)
    assert found.k_hat < 0.5
    assert found.trusted
    # sd of the mean weight, from how many draws they are worth
    error = math.sqrt(1 / found.effective_draws - 1 / 2000)
    assert 0.001 < error < 0.05
    assert largest((found.log_evidence - log_evidence) / error) < LIMIT
    assert log_evidence - 3.0 < found.elbo < log_evidence
    assert 100 < found.effective_draws < 2000


def test_too_narrow():
    # the weights of Beta(20 a, 20 b) for Beta(a, b) have the tail index 1 - 1 / 20 or more
    found, log_evidence = quality(narrow=20.0)
    assert found.k_hat > 0.7
    assert not found.trusted
    assert found.elbo < log_evidence
    assert "do not trust" in found.meaning or "mean nothing" in found.meaning
    assert "13 latent numbers" not in found.meaning
    assert "10 latent numbers" in found.meaning  # 5 memberships, 3 entries of the table, 2 weights


@pytest.mark.parametrize("k", [0.2, 0.6, 1.3])
def test_smoothing_finds_the_tail_and_keeps_the_scale(k):
    rng = np.random.default_rng(0)
    raw = np.log(stats.genpareto(k).rvs(20_000, random_state=rng) + 1.0) + 7.0
    before = raw.copy()
    smoothed, found = pareto_smoothed(raw.copy())
    np.testing.assert_array_equal(raw, before)
    assert found == pytest.approx(k, abs=0.15)
    least = raw.argmin()
    back = smoothed + raw[least] - smoothed[least]
    body = raw < np.quantile(raw, 0.9)
    np.testing.assert_allclose(back[body], raw[body], atol=1e-9)
    assert back.max() <= raw.max() + 1e-9


@pytest.mark.parametrize(("draws", "threshold"), [(100, 0.5), (1000, 2 / 3), (5000, 0.7)])
def test_thresholds(draws, threshold):
    found, _ = quality(draws=draws, narrow=0.9)
    assert found.threshold == pytest.approx(threshold)
    assert f"threshold {threshold:.2f} for {draws:,} draws" in found.meaning


def test_a_fit_is_asked_without_a_trace_and_of_the_story_as_told():
    graph = karate()
    story = VGAE(34, 2, class_weight="balanced")
    fitted = fit(story, AmortisedNormal(story, graph), graph, steps=2, progress=False)
    state = torch.get_rng_state()
    found, same = guide_quality(fitted, 200), guide_quality(fitted, 200)
    assert found == same
    assert torch.equal(state, torch.get_rng_state())
    assert guide_quality(fitted, 200, seed=5) != found
    assert found.k_hat > 1.0  # 68 latents, two steps from the start
    assert not found.trusted
    assert "cannot correct the guide, with any number of draws" in found.meaning
    assert "68 latent numbers" in found.meaning
    assert "above 1 is the rule" in found.meaning
    assert "tempered (class_weight=balanced)" in found.meaning
    assert "Modes that no draw" in found.meaning
    assert story.class_weight == "balanced"
    plain = VGAE(34, 2)
    plain.load_state_dict(story.state_dict())
    fitted.story = plain
    assert guide_quality(fitted, 200).elbo == found.elbo


def test_the_evidence_of_one_numbering():
    """A guide that keeps to one of two numberings misses half of the evidence, and k-hat does not tell."""
    edges = [(i, j) for i in range(8) for j in range(i) if (i < 4) == (j < 4)]
    graph = Graph(8, np.array(edges).T)
    story = SBM(8, 2).double()
    guide = AmortisedCategorical(story, graph, amortised=False).double()
    options = {"steps": 120, "learning_rate": 0.05, "gradient": "expectation"}
    fitted = fit(story, guide, graph, progress=False, **options)
    found = guide_quality(fitted, 4000)
    assert found.k_hat < 0.5
    missing = enumerate_posterior(story, graph).log_evidence - found.log_evidence
    error = math.sqrt(1 / found.effective_draws - 1 / 4000)
    assert error < 0.01
    # the other numbering has a little of the posterior near this one too
    assert largest(max(abs(missing - math.log(2)) - 0.03, 0.0) / error) < LIMIT


def test_refusals():
    story = SBM(5, 2)
    fitted = Fit(story, AmortisedCategorical(story, GRAPH), GRAPH, FitSettings(), {})
    with pytest.raises(ValueError, match="at least 100"):
        guide_quality(fitted, 50)
    with pytest.raises(ValueError, match="node-level story, not SBM"):
        guide_quality(story)
