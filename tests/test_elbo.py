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
from chance import LIMIT, largest
from pyro import poutine
from pyro.infer import SVI, TraceGraph_ELBO
from small_story import (
    NOISE,
    VARIANTS,
    Force,
    Guide,
    HalfSignal,
    K,
    Story,
    assert_same,
    configurations,
    draw,
    enumerated_elbo,
    enumerated_gradient,
    expected_estimate,
    forced_loss,
    gradient,
    largest_difference,
    log_likelihood,
    log_prior_discrete,
    log_q_discrete,
    parameters,
)
from torch import nn
from torch.nn import functional as F

from graphlore.data import Graph, karate
from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import DyadicELBO, InferenceError
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import DGLFRM, DyadicBernoulli

pytestmark = pytest.mark.filterwarnings("ignore:Found (vars|non-auxiliary vars|auxiliary vars)")


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
    assert largest(z) < LIMIT


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
    # through the guide's own sampler; thirteen numbers, each by a z-score. The features depend on
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
    assert largest(z) < LIMIT


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
