"""DGLFRM in small, with every configuration of its discrete latents: the ELBO and its gradient as finite sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from force import Force as AnyForce
from pyro import poutine
from torch import nn
from torch.nn import functional as F

from graphlore.models import DyadicBernoulli

K = 2
NOISE = 7  # the seed of the reparameterised latents


def draw(*shape, scale=1.0, seed=0):
    rng = np.random.default_rng((17, seed, *shape))
    return nn.Parameter(torch.from_numpy(np.array(scale * rng.normal(size=shape))))


class HalfSignal(DyadicBernoulli):
    """What a plate over rows would do: half of every dyad's reward is lost."""

    def incident_log_prob(self, value):
        return 0.5 * super().incident_log_prob(value)


class Story(nn.Module):
    """DGLFRM with fixed sticks in small: memberships and all, some, or none of the other kinds of site."""

    def __init__(self, num_nodes=3, *, strengths=False, features=False, world=False, edges=None):
        super().__init__()
        self.num_nodes, self.edges = num_nodes, edges or DyadicBernoulli
        self.strengths, self.features, self.world = strengths, features, world
        self.prior, self.core = draw(K, seed=1), draw(K, 3, scale=1.5, seed=2)
        self.node_bias = draw(num_nodes, seed=3)
        if features:
            self.loadings = draw(K, 2, seed=4)
        if world:  # one coin for the whole graph, which moves the prior and the logits
            self.world_prior, self.shift, self.move = draw(seed=5), draw(K, seed=6), draw(seed=7)
        rng = np.random.default_rng(3)
        A = np.triu(rng.random((num_nodes, num_nodes)) < 0.5, 1)
        A[0, 1], A[0, 2] = True, False  # both kinds of dyad, whatever the size
        self.A = torch.from_numpy((A | A.T).astype(float))
        self.X = torch.from_numpy(rng.normal(size=(num_nodes, 2)))
        self.missing = torch.tensor([[1], [2]])

    def forward(self):
        shift = move = 0.0
        if self.world:
            g = pyro.sample("world", dist.Bernoulli(logits=self.world_prior))
            shift, move = g * self.shift, g * self.move
        with pyro.plate("nodes", self.num_nodes, dim=-1):
            prior = dist.Bernoulli(logits=self.prior + shift)
            z = pyro.sample("memberships", prior.to_event(1))
            if self.strengths:
                standard = dist.Normal(z.new_zeros(K), z.new_ones(K))
                z = z * pyro.sample("strengths", standard.to_event(1))
            if self.features:
                X = dist.Normal(z @ self.loadings, 1.0).to_event(1)
                pyro.sample("features", X, obs=self.X)
        f, bias = z @ self.core, self.node_bias + move
        if f.dim() > 2:  # flips of a bit stand in a plate of their own
            f, bias = f.unsqueeze(-3), bias.expand(1, -1)
        options = {"left_bias": bias, "missing": self.missing, "weights": (0.8, 1.7)}
        pyro.sample("edges", self.edges(f, **options), obs=self.A)


class Guide(nn.Module):
    def __init__(self, story, *, baseline=None, strengths_given_memberships=True):
        super().__init__()
        self.story, self.infer = (story,), {"baseline": baseline} if baseline else {}
        n = story.num_nodes
        self.logits = draw(n, K, seed=8)
        if story.world:
            self.world_logit, self.turn = draw(seed=9), draw(n, K, seed=10)
        if story.strengths:
            self.loc, self.log_scale = draw(n, K, seed=11), draw(n, K, scale=0.3, seed=12)
            self.pull = draw(n, K, seed=13) if strengths_given_memberships else None

    def forward(self):
        (story,) = self.story
        logits = self.logits
        if story.world:
            g = pyro.sample("world", dist.Bernoulli(logits=self.world_logit))
            logits = logits + g * self.turn
        with pyro.plate("nodes", story.num_nodes, dim=-1):
            q = dist.Bernoulli(logits=logits).to_event(1)
            b = pyro.sample("memberships", q, infer=self.infer)
            if story.strengths:
                loc = self.loc if self.pull is None else self.loc + b * self.pull
                q = dist.Normal(loc, self.log_scale.exp())
                pyro.sample("strengths", q.to_event(1))


VARIANTS = {
    "memberships alone": {},
    "strengths": {"strengths": True},
    "features": {"features": True},
    "a global coin": {"world": True},
    "everything": {"strengths": True, "features": True, "world": True},
}


class Force(AnyForce):
    """What a draw depends on is kept, too."""

    def value(self, msg):
        return super().value(msg) + 0 * msg["fn"]()


def configurations(story):
    """(memberships (N, K), world () or None) of every configuration."""
    n = story.num_nodes
    for bits in itertools.product([0.0, 1.0], repeat=n * K):
        b = torch.tensor(bits, dtype=torch.float64).reshape(n, K)
        for g in [0.0, 1.0] if story.world else [None]:
            yield b, None if g is None else torch.tensor(g, dtype=torch.float64)


def log_bernoulli(x, logits):
    return x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)


def log_normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - torch.log(scale) - 0.5 * math.log(2 * math.pi)


def log_q_discrete(guide, b, g):
    """log q of a configuration."""
    logits = guide.logits if g is None else guide.logits + g * guide.turn
    total = log_bernoulli(b, logits).sum()
    return total if g is None else total + log_bernoulli(g, guide.world_logit)


def noise_of(guide):
    """The standard normals behind the strengths under the fixed seed."""
    (story,) = guide.story
    if not story.strengths:
        return None
    b, g = next(configurations(story))
    torch.manual_seed(NOISE)
    forced = Force({"memberships": b, "world": g})
    with torch.no_grad(), forced:
        q = poutine.trace(guide).get_trace().nodes["strengths"]
    return (q["value"] - q["fn"].base_dist.loc) / q["fn"].base_dist.scale


def log_likelihood(story, b, g, r):
    """log p(A, X | latents): dyad by dyad, from the definition."""
    z = b if r is None else b * r
    f = z @ story.core
    move = 0.0 if g is None else g * story.move
    total = 0.0
    for i, j in itertools.combinations(range(story.num_nodes), 2):
        if (i, j) != (1, 2):
            s = f[i] @ f[j] + story.node_bias[i] + story.node_bias[j] + 2 * move
            present, absent = 1.7 * F.logsigmoid(s), 0.8 * F.logsigmoid(-s)
            total = total + (present if story.A[i, j] else absent)
    if story.features:
        total = total + log_normal(story.X, z @ story.loadings, torch.tensor(1.0)).sum()
    return total


def log_prior_discrete(story, b, g):
    logits = story.prior if g is None else story.prior + g * story.shift
    total = log_bernoulli(b, logits.expand_as(b)).sum()
    return total if g is None else total + log_bernoulli(g, story.world_prior)


def enumerated_elbo(story, guide, *, kl_weight=1.0, closed=True, likelihood=True):
    """The ELBO as a finite sum, given the noise; ``closed`` takes the divergence of the strengths in closed form."""
    noise, total = noise_of(guide), 0.0
    for b, g in configurations(story):
        log_q, divergence, r = log_q_discrete(guide, b, g), 0.0, None
        divergence = log_q - log_prior_discrete(story, b, g)
        if story.strengths:
            loc = guide.loc if guide.pull is None else guide.loc + b * guide.pull
            scale = guide.log_scale.exp()
            r = loc + scale * noise
            if closed:
                kl = 0.5 * (scale**2 + loc**2 - 1) - torch.log(scale)
            else:
                kl = log_normal(r, loc, scale) - log_normal(r, 0.0, torch.ones_like(r))
            divergence = divergence + kl.sum()
        value = -kl_weight * divergence
        if likelihood:
            value = value + log_likelihood(story, b, g, r)
        total = total + log_q.exp() * value
    return total


def parameters(*modules):
    return {f"{type(m).__name__}.{n}": p for m in modules for n, p in m.named_parameters()}


def gradient(loss, params):
    grads = torch.autograd.grad(loss, params.values(), allow_unused=True)
    return {
        name: torch.zeros_like(p) if grad is None else grad
        for (name, p), grad in zip(params.items(), grads, strict=True)
    }


def enumerated_gradient(story, guide, **options):
    return gradient(-enumerated_elbo(story, guide, **options), parameters(story, guide))


def forced_loss(elbo, story, guide, b, g=None):
    torch.manual_seed(NOISE)
    values = {"memberships": b, "world": g}
    return elbo.differentiable_loss(story, Force(values)(guide))


def expected_estimate(elbo, story, guide, before=lambda elbo: None):
    """(sum of q times the estimator's gradient, sum of q times its ELBO) over all configurations."""
    params = parameters(story, guide)
    mean, value = {name: torch.zeros_like(p) for name, p in params.items()}, 0.0
    for b, g in configurations(story):
        before(elbo)
        loss = forced_loss(elbo, story, guide, b, g)
        weight = log_q_discrete(guide, b, g).exp().item()
        for name, grad in gradient(loss, params).items():
            mean[name] += weight * grad
        value -= weight * loss.item()
    return mean, value


def assert_same(got, expected, tolerance=1e-9):
    assert got.keys() == expected.keys()
    for name, grad in expected.items():
        difference = (got[name] - grad).abs().max().item()
        assert difference < tolerance, f"{name}: off by {difference}"


def largest_difference(got, expected):
    return max((got[name] - grad).abs().max().item() for name, grad in expected.items())
