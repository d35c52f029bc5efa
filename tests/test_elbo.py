"""The gradient estimator against enumeration: every configuration of the memberships, each with its probability.

A configuration is forced on the guide's sites (which stay latent), the estimator's gradient is taken, and the sum
weighted by q must be the derivative of the ELBO written out as a finite sum. Reparameterised latents share one fixed
noise, so that nothing is left to chance and tolerances are those of float64.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceGraph_ELBO
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.nn import functional as F

from graphlore.data import Graph, karate
from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import DyadicELBO, InferenceError
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import DGLFRM, DyadicBernoulli

pytestmark = pytest.mark.filterwarnings("ignore:Found (vars|non-auxiliary vars|auxiliary vars)")

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


class Force(Messenger):
    """Give latent sites these values, as if they had been drawn (what a draw depends on included)."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]] + 0 * msg["fn"](), True


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


ESTIMATORS = [
    {"local": local, "analytic_kl": closed, "kl_weight": weight}
    for local, closed, weight in itertools.product([True, False], [True, False], [1.0, 0.5])
]


def name_of(options):
    return "-".join(f"{name}={value}" for name, value in options.items())


# -- (a) the expected gradient ----------------------------------------------------------------------


EACH = [(v, e) for v in VARIANTS for e in ESTIMATORS if v == "everything" or e["kl_weight"] == 0.5]


@pytest.mark.parametrize(
    ("variant", "estimator"), EACH, ids=lambda x: x if isinstance(x, str) else name_of(x)
)
def test_expected_gradient_is_the_enumerated_one(variant, estimator):
    story = Story(**VARIANTS[variant])
    guide = Guide(story)
    expected = enumerated_gradient(
        story, guide, kl_weight=estimator["kl_weight"], closed=estimator["analytic_kl"]
    )
    assert_same(expected_estimate(DyadicELBO(**estimator), story, guide)[0], expected)


@pytest.mark.parametrize("local", [True, False])
def test_expected_gradient_with_four_nodes(local):
    story = Story(4, features=True)
    guide = Guide(story)
    got, _ = expected_estimate(DyadicELBO(local=local), story, guide)
    assert_same(got, enumerated_gradient(story, guide))


def test_the_enumerated_gradient_is_not_small():
    # what the tests above would miss otherwise
    story = Story(**VARIANTS["everything"])
    gradients = enumerated_gradient(story, Guide(story))
    assert all(grad.abs().max() > 1e-3 for grad in gradients.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_local_expectations_are_the_enumerated_gradient(variant):
    story = Story(**VARIANTS[variant])
    guide = Guide(story, strengths_given_memberships=False)
    got, _ = expected_estimate(LocalExpectationELBO(), story, guide)
    assert_same(got, enumerated_gradient(story, guide))


def test_local_expectations_of_memberships_that_move_the_guide_of_the_strengths():
    # q(r | b): a flip of b changes KL(q(r | b) || p(r)) too, and where r is
    story = Story(strengths=True)
    guide = Guide(story, strengths_given_memberships=True)
    got, _ = expected_estimate(LocalExpectationELBO(), story, guide)
    assert_same(got, enumerated_gradient(story, guide))


def test_local_expectations_on_sampled_columns_have_the_mean_of_all():
    story = Story(5, features=True)
    guide = Guide(story)
    params = parameters(guide)
    b = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]], dtype=torch.float64)

    def estimate(elbo):
        loss = elbo.differentiable_loss(story, Force({"memberships": b})(guide))
        return gradient(loss, params)["Guide.logits"]

    exact, sampled = estimate(LocalExpectationELBO()), LocalExpectationELBO(columns=2)
    grads = torch.stack([estimate(sampled) for _ in range(500)])
    assert (grads.std(0) > 0.01).all()  # columns are sampled indeed
    z = (grads.mean(0) - exact) / (grads.std(0) / math.sqrt(500))
    assert z.abs().max() < 4.5


def test_the_first_step_and_the_following_give_the_same():
    # the first runs under provenance tracking, the others on what it found
    story = Story(**VARIANTS["everything"])
    guide, elbo, params = Guide(story), DyadicELBO(), None
    params = parameters(story, guide)
    b, g = list(configurations(story))[37]
    first, second = (gradient(forced_loss(elbo, story, guide, b, g), params) for _ in range(2))
    assert_same(second, first, 1e-12)


def test_particles_are_averaged():
    story = Story(strengths=True)
    guide = Guide(story)
    params = parameters(story, guide)
    torch.manual_seed(3)
    together = gradient(DyadicELBO(num_particles=3).differentiable_loss(story, guide), params)
    torch.manual_seed(3)
    one = DyadicELBO()
    single = [gradient(one.differentiable_loss(story, guide), params) for _ in range(3)]
    assert_same(together, {n: sum(s[n] for s in single) / 3 for n in params}, 1e-12)


DRAWS = int(os.environ.get("GRAPHLORE_DRAWS", 2000))  # 100,000 for a proof by draws: minutes


def test_mean_gradient_of_draws():
    # through the guide's own sampler; thirteen numbers, each |z| < 4.5 with a fixed seed. The features depend on
    # the coin through drawn memberships alone
    story = Story(world=True, features=True)
    guide, elbo = Guide(story), DyadicELBO()
    params = parameters(guide)

    def flat(loss):
        return torch.cat([g.flatten() for g in gradient(loss, params).values()])

    expected = flat(-enumerated_elbo(story, guide))
    torch.manual_seed(0)
    grads = torch.stack([flat(elbo.differentiable_loss(story, guide)) for _ in range(DRAWS)])
    z = (grads.mean(0) - expected) / (grads.std(0) / math.sqrt(DRAWS))
    assert z.abs().max() < 4.5


def test_the_gradient_of_the_library_s_own_story_and_guide():
    # float32 throughout: GCN, sticks by one draw of the Kumaraswamy, q(b | v) structured, strengths, biases
    graph = Graph(3, [[0, 1], [1, 2]])
    story = DGLFRM(3, K, 1.5, decoder=(3,), bias="node")
    guide = StructuredMeanField(story, graph, hidden=(4,), baseline=None)
    params = {f"s.{n}": p for n, p in story.named_parameters()}
    params |= {f"g.{n}": p for n, p in guide.named_parameters()}
    elbo = DyadicELBO(analytic_kl=False)
    mean = {name: torch.zeros_like(p) for name, p in params.items()}
    value = torch.zeros(())
    for bits in itertools.product([0.0, 1.0], repeat=3 * K):
        b = torch.tensor(bits).reshape(3, K)
        torch.manual_seed(NOISE)
        forced = Force({"memberships": b})(guide)
        estimate = gradient(elbo.differentiable_loss(story, forced, graph), params)
        torch.manual_seed(NOISE)
        q = poutine.trace(Force({"memberships": b})(guide)).get_trace(graph)
        p = poutine.trace(poutine.replay(story, q)).get_trace(graph)
        q.compute_log_prob()
        weight = q.nodes["memberships"]["log_prob"].sum().exp()
        value = value - weight * (p.log_prob_sum() - q.log_prob_sum())
        for name, grad in estimate.items():
            mean[name] += weight.item() * grad
    assert_same(mean, gradient(value, params), 2e-4)


# -- (b) a wrong signal is caught -------------------------------------------------------------------


def test_half_of_the_signal_is_caught():
    story = Story(edges=HalfSignal)
    guide = Guide(story)
    got, _ = expected_estimate(DyadicELBO(), story, guide)
    assert largest_difference(got, enumerated_gradient(story, guide)) > 0.05


def test_the_signal_of_the_other_nodes_is_not_needed_but_that_of_the_own_is():
    class NoSignal(DyadicBernoulli):
        def incident_log_prob(self, value):
            return 0.0 * super().incident_log_prob(value)

    story = Story(edges=NoSignal)
    guide = Guide(story)
    got, _ = expected_estimate(DyadicELBO(), story, guide)
    assert largest_difference(got, enumerated_gradient(story, guide)) > 0.1


# -- (c) variance -----------------------------------------------------------------------------------


def total_variance(estimator, draws=250):
    story = Story(30)
    guide, elbo = Guide(story), estimator
    params = parameters(guide)
    torch.manual_seed(1)
    grads = [gradient(elbo.differentiable_loss(story, guide), params) for _ in range(draws)]
    return torch.stack([g["Guide.logits"] for g in grads]).var(0).sum().item()


def test_local_credit_has_a_fifth_of_the_variance_at_most():
    assert total_variance(DyadicELBO(local=False)) > 5 * total_variance(DyadicELBO(local=True))


def test_a_closed_divergence_adds_no_variance():
    light, heavy = (total_variance(DyadicELBO(kl_weight=w), 50) for w in (1.0, 1000.0))
    assert heavy == pytest.approx(light, rel=1e-6)


def test_an_open_divergence_adds_variance():
    light, heavy = (
        total_variance(DyadicELBO(analytic_kl=False, kl_weight=w), 50) for w in (1, 1e3)
    )
    assert heavy > 20 * light


# -- (d) baselines ----------------------------------------------------------------------------------


class Network(nn.Module):
    """A baseline per node of a fixed input."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = draw(2, seed=20), draw(seed=21)

    def forward(self, x):
        return x @ self.weight + self.bias


def test_a_decaying_average_keeps_the_expected_gradient():
    story = Story(features=True)
    guide = Guide(story, baseline={"use_decaying_avg_baseline": True, "baseline_beta": 0.7})
    state = {"memberships": torch.tensor([-3.0, 1.0, 8.0], dtype=torch.float64)}
    got, _ = expected_estimate(
        DyadicELBO(), story, guide, before=lambda elbo: elbo.averages.set_extra_state(state)
    )
    assert_same(got, enumerated_gradient(story, guide))


def test_a_decaying_average_takes_part():
    # guards the test above: another state gives another gradient of one draw
    story = Story()
    guide, elbo = Guide(story, baseline={"use_decaying_avg_baseline": True}), DyadicELBO()
    params, grads = parameters(guide), []
    for level in (0.0, 5.0):
        state = {"memberships": torch.full((3,), level, dtype=torch.float64)}
        elbo.averages.set_extra_state(state)
        grads.append(gradient(forced_loss(elbo, story, guide, torch.ones(3, K).double()), params))
    assert largest_difference(*grads) > 0.1


def network_baseline(network):
    x = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    return {"nn_baseline": network, "nn_baseline_input": x}


@pytest.mark.parametrize("decaying", [False, True])
def test_a_neural_baseline_keeps_the_expected_gradient(decaying):
    story = Story(features=True)
    baseline = network_baseline(Network()) | {"use_decaying_avg_baseline": decaying}
    guide = Guide(story, baseline=baseline)
    state = {"memberships": torch.tensor([-3.0, 1.0, 8.0], dtype=torch.float64)} if decaying else {}
    got, _ = expected_estimate(
        DyadicELBO(), story, guide, before=lambda elbo: elbo.averages.set_extra_state(state)
    )
    assert_same(got, enumerated_gradient(story, guide))


def test_a_neural_baseline_is_fitted_to_the_signal_of_each_node():
    # its loss is the sum over nodes of (own dyads - baseline)^2, the divergence being closed
    story, network = Story(), Network()
    guide = Guide(story, baseline=network_baseline(network))
    b = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    got = gradient(forced_loss(DyadicELBO(), story, guide, b), parameters(network))
    whole = log_likelihood(story, b, None, None)
    with torch.no_grad():
        f = b @ story.core
        s = f @ f.T + story.node_bias[:, None] + story.node_bias[None, :]
        own = story.A * 1.7 * F.logsigmoid(s) + (1 - story.A) * 0.8 * F.logsigmoid(-s)
        own[[0, 1, 2, 1, 2], [0, 1, 2, 2, 1]] = 0.0
        signal = own.sum(1)
    assert signal.sum().item() == pytest.approx(2 * whole.item())
    baseline = network(network_baseline(network)["nn_baseline_input"])
    assert_same(got, gradient(((signal - baseline) ** 2).sum(), parameters(network)))


def test_averages_are_the_estimator_s_and_follow_their_rule():
    story = Story()
    baseline = {"use_decaying_avg_baseline": True, "baseline_beta": 0.75}
    guide, elbo = Guide(story, baseline=baseline), DyadicELBO()
    b = torch.zeros(3, K, dtype=torch.float64)
    forced_loss(elbo, story, guide, b)
    first = elbo.averages.get_extra_state()["memberships"]
    forced_loss(elbo, story, guide, b + 1)
    second = elbo.averages.get_extra_state()["memberships"]
    alone = DyadicELBO()  # its first average is the signal itself
    forced_loss(alone, story, guide, b + 1)
    signal = alone.averages.get_extra_state()["memberships"]
    torch.testing.assert_close(second, 0.75 * first + 0.25 * signal)


def test_averages_are_not_in_the_global_store():
    story = Story()
    guide, elbo = Guide(story, baseline={"use_decaying_avg_baseline": True}), DyadicELBO()
    elbo.differentiable_loss(story, guide)
    assert set(elbo.averages.get_extra_state()) == {"memberships"}
    assert not list(pyro.get_param_store().keys())


def test_a_graph_of_another_size_starts_the_averages_anew():
    elbo, options = DyadicELBO(), {"use_decaying_avg_baseline": True}
    for size in (4, 7, 4):
        story = Story(size)
        elbo.differentiable_loss(story, Guide(story, baseline=options))
        assert elbo.averages.get_extra_state()["memberships"].shape == (size,)


def test_unknown_baseline_options():
    story = Story()
    guide = Guide(story, baseline={"use_decaying_average": True})
    with pytest.raises(InferenceError, match=r"site 'memberships': \['use_decaying_average'\]"):
        DyadicELBO().differentiable_loss(story, guide)


def test_a_baseline_of_another_shape():
    story = Story()
    guide = Guide(story, baseline={"baseline_value": torch.zeros(3, 1)})
    with pytest.raises(InferenceError, match=r"has shape \(3, 1\), its learning signal \(3,\)"):
        DyadicELBO().differentiable_loss(story, guide)


# -- (e) the value ----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_expected_value_is_the_enumerated_elbo(estimator):
    story = Story(**VARIANTS["everything"])
    guide = Guide(story)
    _, value = expected_estimate(DyadicELBO(**estimator), story, guide)
    expected = enumerated_elbo(
        story, guide, kl_weight=estimator["kl_weight"], closed=estimator["analytic_kl"]
    )
    assert value == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_the_elbo_is_below_the_evidence_by_the_divergence_from_the_posterior(seed):
    story = Story(features=True)
    guide = Guide(story)
    torch.manual_seed(seed)
    with torch.no_grad():
        guide.logits.normal_(0, 3)
    joint, log_q = [], []
    for b, _ in configurations(story):
        joint.append(log_prior_discrete(story, b, None) + log_likelihood(story, b, None, None))
        log_q.append(log_q_discrete(guide, b, None))
    joint, log_q = torch.stack(joint).detach(), torch.stack(log_q).detach()
    evidence = torch.logsumexp(joint, 0)
    gap = (log_q.exp() * (log_q - (joint - evidence))).sum().item()
    _, value = expected_estimate(DyadicELBO(), story, guide)
    assert value < evidence.item()
    assert evidence.item() - value == pytest.approx(gap, rel=1e-9)


def test_what_is_kept_of_the_last_evaluation():
    story = Story()
    guide, elbo = Guide(story), DyadicELBO()
    b = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    loss = forced_loss(elbo, story, guide, b)
    assert elbo.last["likelihood"] == pytest.approx(log_likelihood(story, b, None, None).item())
    assert elbo.last["likelihood"] - elbo.last["kl"] == pytest.approx(-loss.item())
    assert elbo.last["active"] == pytest.approx(1.0)


# -- (f) pairs that do not fit ----------------------------------------------------------------------


def test_a_site_the_guide_lacks():
    story = Story(strengths=True)
    with pytest.raises(
        InferenceError, match=r"not in the guide \['strengths'\], not in the story none"
    ):
        DyadicELBO().differentiable_loss(story, Guide(Story()))


def test_a_site_the_story_lacks():
    with pytest.raises(
        InferenceError, match=r"not in the guide none, not in the story \['strengths'\]"
    ):
        DyadicELBO().differentiable_loss(Story(), Guide(Story(strengths=True)))


def leaves_the_tensors(story, how):
    """The story with its memberships taken out of the tensors on their way to the edges."""

    def model():
        with pyro.plate("nodes", story.num_nodes, dim=-1):
            b = pyro.sample("memberships", dist.Bernoulli(logits=story.prior).to_event(1))
        pyro.sample("edges", DyadicBernoulli(how(b) @ story.core), obs=story.A)

    return model


def written_into_a_buffer(b):
    out = torch.zeros(3, K, dtype=torch.float64)
    for i in range(3):
        out[i] = b[i]
    return out


@pytest.mark.parametrize(
    "how",
    [
        lambda b: torch.tensor([[x.item() for x in row] for row in b], dtype=torch.float64),
        lambda b: torch.tensor(b.tolist(), dtype=torch.float64),
        written_into_a_buffer,
    ],
    ids=["item", "tolist", "buffer"],
)
def test_values_taken_out_of_the_tensors(how):
    story = Story()
    with pytest.raises(InferenceError, match=r"discrete site\(s\) \['memberships'\]"):
        DyadicELBO().differentiable_loss(leaves_the_tensors(story, how), Guide(story))


def test_values_that_stay_in_the_tensors_pass():
    # guards the test above: the same story without the loss of provenance
    story = Story()
    DyadicELBO().differentiable_loss(leaves_the_tensors(story, lambda b: b), Guide(story))


def test_a_story_that_changes_its_sites_is_checked_anew():
    elbo, story = DyadicELBO(), Story()
    elbo.differentiable_loss(story, Guide(story))
    with pytest.raises(InferenceError, match="strengths"):
        elbo.differentiable_loss(Story(strengths=True), Guide(story))


def test_an_auxiliary_site_of_the_guide_counts_with_its_density():
    # u ~ Normal(0, 1) in the guide alone: -log q(u) enters the ELBO, as in Pyro
    story = Story()
    inner = Guide(story)

    def guide():
        standard = dist.Normal(torch.zeros((), dtype=torch.float64), 1.0)
        pyro.sample("u", standard, infer={"is_auxiliary": True})
        inner()

    b = torch.ones(3, K, dtype=torch.float64)
    values = {"u": torch.tensor(2.0, dtype=torch.float64), "memberships": b}
    loss = DyadicELBO().differentiable_loss(story, Force(values)(guide))
    plain = DyadicELBO().differentiable_loss(story, Force(values)(inner))
    log_q_u = -2.0 - 0.5 * math.log(2 * math.pi)
    assert loss.item() == pytest.approx(plain.item() + log_q_u)


def test_masked_edges_send_no_signal():
    # without a likelihood all that is left is the closed divergence, which has no noise
    story = Story()
    guide = Guide(story)

    def model():
        with poutine.mask(mask=False):
            story()

    def masked_guide():
        with poutine.mask(mask=False):
            guide()

    params = parameters(guide)
    b = torch.ones(3, K, dtype=torch.float64)
    got = gradient(forced_loss(DyadicELBO(), model, masked_guide, b), params)
    assert_same(got, {name: torch.zeros_like(p) for name, p in params.items()})


def test_two_plates_with_the_nodes_outside_keep_the_expected_gradient():
    # communities in a plate at -1 and nodes at -2, N = K = 2, where shapes alone would not tell
    story = Story()
    story.num_nodes, story.A = 2, story.A[:2, :2]
    guide = Guide(story)
    guide.logits = draw(2, K, seed=30)

    def plates():
        return pyro.plate("nodes", 2, dim=-2), pyro.plate("communities", K, dim=-1)

    def model():
        nodes, communities = plates()
        with nodes, communities:
            b = pyro.sample("memberships", dist.Bernoulli(logits=story.prior))
        pyro.sample("edges", DyadicBernoulli(b @ story.core), obs=story.A)

    def two_plate_guide():
        nodes, communities = plates()
        with nodes, communities:
            pyro.sample("memberships", dist.Bernoulli(logits=guide.logits))

    params, value = parameters(guide), 0.0
    mean = {name: torch.zeros_like(p) for name, p in params.items()}
    elbo = DyadicELBO()
    for b, _ in configurations(story):
        log_q = log_q_discrete(guide, b, None)
        f = b @ story.core
        s = f[0] @ f[1]
        likelihood = F.logsigmoid(s if story.A[0, 1] else -s)
        divergence = log_q - log_prior_discrete(story, b, None)
        value = value - log_q.exp() * (likelihood - divergence)
        loss = elbo.differentiable_loss(model, Force({"memberships": b})(two_plate_guide))
        for name, grad in gradient(loss, params).items():
            mean[name] += log_q.exp().item() * grad
    assert_same(mean, gradient(value, params))


# -- (g) in Pyro's own loops ------------------------------------------------------------------------


def losses_fall(losses):
    return np.mean(losses[-15:]) < np.mean(losses[:5]) - 10


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, DyadicELBO])
@pytest.mark.parametrize("guide", [MeanField, StructuredMeanField])
def test_a_hand_written_svi_lowers_the_loss(guide, elbo):
    graph = karate()
    story = DGLFRM(34, 6, decoder=(8,))
    q = guide(story, graph, hidden=(16,))
    svi = SVI(story, q, pyro.optim.Adam({"lr": 0.02}), elbo())
    assert losses_fall([svi.step(graph) for _ in range(80)])


def test_a_hand_written_loop_of_torch_lowers_the_loss():
    graph = karate()
    story = DGLFRM(34, 6, decoder=(8,))
    module = DyadicELBO()(story, MeanField(story, graph, hidden=(16,)))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.02)
    losses = []
    for _ in range(80):
        optimiser.zero_grad()
        loss = module(graph)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses_fall(losses)


# -- (h) importing ----------------------------------------------------------------------------------

IMPORT = """
import json
import numpy, pyro, torch, torch_geometric
def state():
    return {
        "pyro": {k: repr(v) for k, v in pyro.settings.get().items()},
        "validate": torch.distributions.Distribution._validate_args,
        "store": sorted(pyro.get_param_store().keys()),
        "stack": len(pyro.poutine.runtime._PYRO_STACK),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "anomaly": torch.is_anomaly_enabled(),
        "torch seed": torch.initial_seed(),
        "torch random": torch.get_rng_state().tolist(),
        "numpy random": repr(numpy.random.get_state()),
    }
before = state()
import graphlore
from graphlore import Graph, data, guides, inference, models, plots
print(json.dumps([before, state()]))
"""


@pytest.fixture(scope="module")
def around_import():
    run = [sys.executable, "-c", IMPORT]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


def test_importing_changes_no_global_setting(around_import):
    before, after = around_import
    assert after == before


def test_importing_the_package_alone_loads_neither_torch_nor_pyro():
    code = "import sys, graphlore; print(*sorted({'torch', 'pyro'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
