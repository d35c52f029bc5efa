"""MCMC: densities, conditional draws and moves one by one; chains against enumeration; the form of the result."""

from __future__ import annotations

from unittest import mock

import arviz as az
import numpy as np
import pyro
import pytest
import torch
import xarray as xr
from chance import LIMIT, largest
from pyro import poutine
from pyro.infer import MCMC
from torch.nn import functional as F

from graphlore.data import Graph, karate
from graphlore.inference import (
    GibbsNUTS,
    enumerate_posterior,
    fit_mcmc,
    mcmc_diagnostics,
    posterior_predictive_check,
)
from graphlore.inference.gibbs import draw_bits, draw_categories
from graphlore.inference.joint import Joint
from graphlore.inference.mcmc import _power
from graphlore.inference.relabel import permute_blocks, swap_communities
from graphlore.models import DGLFRM, GAE, LFRM, SBM, VGAE, Concrete

EDGES = [[0, 0, 2, 1], [1, 2, 3, 4]]
WEIGHTS = {"poisson": [2.0, 1.0, 3.0, 1.0], "normal": [0.7, -1.2, 0.4, 2.0]}
KINDS = {
    "undirected": {"missing": [[0], [3]]},
    "directed": {"directed": True, "missing": [[3, 1], [0, 2]]},
    "bipartite": {"parts": [0, 1, 1, 0, 0], "missing": [[3], [1]]},
}


def a_graph(kind="undirected", likelihood="bernoulli", **others):
    return Graph(5, EDGES, weights=WEIGHTS.get(likelihood), **KINDS[kind], **others)


CASES = {
    f"{name} {kind} {likelihood} {bias}": (make, kind, likelihood, bias)
    for name, make, kind, likelihood, bias in [
        ("SBM", SBM, "undirected", "bernoulli", "none"),
        ("SBM", SBM, "directed", "bernoulli", "none"),
        ("SBM", SBM, "bipartite", "poisson", "node"),
        ("SBM", SBM, "undirected", "bernoulli", "node"),
        ("SBM", SBM, "directed", "normal", "none"),
        ("LFRM", LFRM, "undirected", "bernoulli", "global"),
        ("LFRM", LFRM, "directed", "poisson", "node"),
        ("LFRM", LFRM, "bipartite", "normal", "none"),
        ("DGLFRM", DGLFRM, "undirected", "bernoulli", "node"),
    ]
}


@pytest.fixture(params=list(CASES))
def joint(request):
    make, kind, likelihood, bias = CASES[request.param]
    options = {"likelihood": likelihood, "bias": bias, "bias_scale": (1.0, 1.0)}
    graph = a_graph(kind, likelihood)
    if make is DGLFRM:
        options |= {"features": "bernoulli", "num_features": 3, "num_classes": 2, "decoder": (4,)}
        features = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
        graph = a_graph(features=features, labels=[0, 1, -1, 1, 0])
    else:
        options |= {"kind": kind}
    torch.manual_seed(3)
    return Joint(make(5, 3, **options), graph)


def test_the_log_density_is_that_of_the_trace(joint):
    for _ in range(3):
        values = joint.draw()
        trace = poutine.trace(poutine.condition(joint.story, values)).get_trace(joint.graph)
        expected = float(trace.log_prob_sum())
        assert float(joint.log_density(values)) == pytest.approx(expected, rel=1e-10)


def test_a_sweep_takes_the_best_value_of_every_node_in_turn(joint):
    """The largest of the log conditionals plus given Gumbel noise, node by node, from the joint density alone."""
    name = (joint.categories + joint.bits)[0]
    draw = draw_categories if joint.categories else draw_bits
    generator = torch.Generator().manual_seed(5)
    changed = 0
    for _ in range(4):
        values = joint.draw()
        noise = torch.rand(3, 3, 5, generator=generator, dtype=torch.float64) + 0.1
        queue = list(noise if joint.categories else noise[:, :2])

        def exponential_(_, queue=queue):
            return queue.pop(0)

        with mock.patch.object(torch.Tensor, "exponential_", exponential_):
            found = draw(joint, values, name)
        expected = values[name].clone()
        for column in range(1 if joint.categories else 3):
            gumbel = -torch.log(noise[column])
            for n in range(5):
                scores = []
                for value in range(3 if joint.categories else 2):
                    tried = expected.clone()
                    tried[(n,) if joint.categories else (n, column)] = value
                    density = joint.log_density({**values, name: tried})
                    scores.append(float(density + gumbel[value, n]))
                best = int(np.argmax(scores))
                expected[(n,) if joint.categories else (n, column)] = best
        assert torch.equal(found, expected)
        changed += int((found != values[name]).sum())
    assert changed > 0


def test_moves_between_labellings(joint):
    values = joint.draw()
    before = float(joint.log_density(values))
    for _ in range(5):
        if joint.categories:
            moved = permute_blocks(joint.story, values)
            assert float(joint.log_density(moved)) == pytest.approx(before, rel=1e-10)
            together = values["membership"][:, None] == values["membership"]
            assert torch.equal(together, moved["membership"][:, None] == moved["membership"])
        else:
            with mock.patch.object(torch, "rand", return_value=torch.zeros(())):
                moved = swap_communities(joint, values)  # accepted, whatever the densities
            b, new = values["memberships"], moved["memberships"]
            assert sorted(map(tuple, b.T.tolist())) == sorted(map(tuple, new.T.tolist()))
            if "affinity" in values:
                table, swapped = (joint.story.table(v["affinity"]) for v in (values, moved))
                torch.testing.assert_close(new @ swapped @ new.T, b @ table @ b.T)
        values = moved
        before = float(joint.log_density(values))


def test_a_swap_is_accepted_as_often_as_metropolis_says():
    joint = Joint(LFRM(5, 2), a_graph())
    torch.manual_seed(0)
    values = joint.draw()
    values["memberships"] = torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1], [1, 0]]).double()
    values["sticks"] = torch.tensor([0.7, 0.6], dtype=torch.float64)
    # m = (3, 2) against (2, 3): the odds of pi_2 against those of pi_1
    ratio = (0.42 / 0.58) / (0.7 / 0.3)
    moved = sum(swap_communities(joint, values) is not values for _ in range(400))
    assert largest((moved / 400 - ratio) / np.sqrt(ratio * (1 - ratio) / 400)) < LIMIT


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0, [1, 1]), (1, [0.1, 1]), (6, [0.1, 0.4, 0.7, 1, 1, 1, 1])]
)
def test_no_draw_that_is_kept_is_annealed(warmup, expected):
    assert [_power(s, warmup) for s in range(len(expected))] == pytest.approx(expected)


def sweeps(story, graph, count, warmup=0, **options):
    torch.manual_seed(0)
    kernel = GibbsNUTS(story, **options)
    kernel.setup(warmup, graph)
    state, found = kernel.initial_params, []
    with pyro.validation_enabled(False):
        for step in range(count + max(warmup, 20)):
            if step == warmup:
                kernel.end_warmup()
            state = kernel.sample(state)
            if step >= max(warmup, 20):
                found.append(state)
    return {n: torch.stack([s[n] for s in found]) for n in state}


def z_scores(found, exact):
    """(mean - exact) in standard errors, corrected for autocorrelation, of quantities (draws, Q)."""
    found = found.reshape(len(found), -1).double().numpy()
    exact = np.asarray(exact).ravel()
    moving = found.std(0) > 0
    assert np.allclose(found[:, ~moving].mean(0), exact[~moving], atol=1e-2)
    data = xr.Dataset({"q": (("chain", "draw", "quantity"), found[None][..., moving])})
    error = az.mcse(data, method="mean")["q"].values
    return (found[:, moving].mean(0) - exact[moving]) / error


@pytest.mark.parametrize("kind", list(KINDS))
def test_chains_of_block_models_against_enumeration(kind):
    graph = a_graph(kind)
    sides = (3, 2) if kind == "bipartite" else None
    story = SBM(5, 2, 0.8, kind=kind, sides=sides)
    exact = enumerate_posterior(story, graph)
    z = F.one_hot(sweeps(story, graph, 800)["membership"], 2).double()
    shared = z @ z.mT
    assert largest(z_scores(shared, exact.co_memberships)) < LIMIT
    assert largest(z_scores(z, exact.memberships)) < LIMIT
    number = F.one_hot(z.any(1).sum(-1), 3)
    assert largest(z_scores(number, exact.num_communities)) < LIMIT


def test_chains_of_lfrm_against_enumeration():
    graph = Graph(4, [[0, 0, 1, 2], [1, 2, 2, 3]], missing=[[0], [3]])
    story = LFRM(4, 2, 1.2)
    exact = enumerate_posterior(story, graph, tolerance=1e-5)
    b = sweeps(story, graph, 300, warmup=40, max_tree_depth=2)["memberships"]
    assert largest(z_scores(b, exact.memberships)) < LIMIT
    assert largest(z_scores(b @ b.mT, exact.co_memberships)) < LIMIT
    number = F.one_hot((b > 0).any(1).sum(-1), 3)
    assert largest(z_scores(number, exact.num_communities)) < LIMIT


KARATE = karate()


@pytest.fixture(scope="module")
def posterior():
    story = SBM(34, 2)
    state = torch.get_rng_state()
    found = fit_mcmc(story, KARATE, draws=40, warmup=20, chains=2, seed=3, predictive_draws=10)
    assert torch.equal(state, torch.get_rng_state())
    assert story.alpha.dtype == torch.float32  # a copy was used
    return found


def test_groups_and_dimensions(posterior):
    expected = {
        ("posterior", "community_weights"): ("chain", "draw", "community"),
        ("posterior", "block_probs"): ("chain", "draw", "community", "community_to"),
        ("posterior", "membership"): ("chain", "draw", "node"),
        ("posterior_predictive", "degree"): ("chain", "draw", "node"),
        ("posterior_predictive", "edges"): ("chain", "draw", "dyad"),
        ("log_likelihood", "edges"): ("chain", "draw", "dyad"),
        ("sample_stats", "lp"): ("chain", "draw"),
        ("observed_data", "edges"): ("dyad",),
        ("constant_data", "dyad_i"): ("dyad",),
    }
    for (group, name), dims in expected.items():
        assert posterior[group][name].dims == dims
    sizes = dict(posterior.posterior.sizes)
    assert sizes == {"chain": 2, "draw": 40, "node": 34, "community": 2, "community_to": 2}
    assert posterior.posterior_predictive.sizes["draw"] == 10
    assert list(posterior.posterior.node.values) == list(KARATE.names)
    assert posterior.attrs["inference"] == "MCMC"
    assert np.isfinite(posterior.sample_stats.lp).all()
    assert posterior_predictive_check(posterior)[0].statistic == "density"


def test_the_log_likelihood_is_that_of_the_draw(posterior):
    draw = posterior.posterior.isel(chain=1, draw=7)
    table, z = draw.block_probs.values, draw.membership.values
    i, j = posterior.constant_data.dyad_i.values, posterior.constant_data.dyad_j.values
    p, x = table[z[i], z[j]], posterior.observed_data.edges.values
    expected = np.where(x == 1, np.log(p), np.log1p(-p))
    found = posterior.log_likelihood.edges.isel(chain=1, draw=7).values
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    joint = Joint(SBM(34, 2), KARATE)
    values = {
        "membership": torch.tensor(z),
        "community_weights": torch.tensor(draw.community_weights.values),
        "block_probs": torch.tensor(table[np.triu_indices(2)]),
    }
    lp = float(posterior.sample_stats.lp.isel(chain=1, draw=7))
    assert float(joint.log_density(values)) == pytest.approx(lp, rel=1e-10)


def test_seeds(posterior):
    options = {"draws": 40, "warmup": 20, "chains": 2, "predictive_draws": 10}
    again = fit_mcmc(SBM(34, 2), KARATE, seed=3, **options)
    other = fit_mcmc(SBM(34, 2), KARATE, seed=4, **options)
    for group in ("posterior", "posterior_predictive"):
        for name in posterior[group]:
            np.testing.assert_array_equal(posterior[group][name], again[group][name])
    assert not np.array_equal(posterior.sample_stats.lp, other.sample_stats.lp)
    lp = posterior.sample_stats.lp.values
    assert not np.array_equal(lp[0], lp[1])


def test_diagnostics(posterior):
    table = mcmc_diagnostics(posterior)
    rows = {"lp", "log_likelihood", "communities", "size_1", "size_2", "shared"}
    assert set(table.index) == rows
    assert set(table.columns) == {"mean", "sd", "r_hat", "ess_bulk", "ess_tail"}
    sizes = table.loc[["size_1", "size_2"], "mean"]
    assert sizes.sum() == pytest.approx(34.0)
    z = posterior.posterior.membership.values
    largest = np.stack([(z == 0).sum(-1), (z == 1).sum(-1)]).max(0)
    assert table.loc["size_1", "mean"] == pytest.approx(largest.mean())
    together = z[..., :, None] == z[..., None, :]
    pairs = together[..., *np.triu_indices(34, 1)].mean()
    assert table.loc["shared", "mean"] == pytest.approx(pairs, rel=1e-5)
    expected = float(az.rhat(xr.Dataset({"lp": posterior.sample_stats["lp"]}))["lp"])
    assert table.loc["lp", "r_hat"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least four draws"):
        mcmc_diagnostics(fit_mcmc(SBM(34, 2), KARATE, draws=2, warmup=0, chains=1))


@pytest.mark.parametrize(
    ("story", "sites"),
    [
        (LFRM(34, 2, bias="node"), {"sticks", "memberships", "affinity", "bias", "node_bias"}),
        (DGLFRM(34, 2, decoder=(3,)), {"sticks", "memberships", "strengths"}),
        (VGAE(34, 2, bias="global"), {"embedding", "bias"}),
    ],
)
def test_stories_with_continuous_latents(story, sites):
    found = fit_mcmc(story, KARATE, draws=4, warmup=3, chains=1, max_tree_depth=2, progress=False)
    assert set(found.posterior.data_vars) == sites
    assert found.sample_stats.diverging.dtype == bool
    if "memberships" in sites:
        assert set(np.unique(found.posterior.memberships)) <= {0, 1}
        assert found.posterior.memberships.dtype == np.int8
    assert {"lp", "log_likelihood"} <= set(mcmc_diagnostics(found).index)


def test_under_pyros_own_mcmc():
    mcmc = MCMC(GibbsNUTS(SBM(5, 2)), num_samples=6, warmup_steps=2, disable_progbar=True)
    mcmc.run(a_graph())
    samples = mcmc.get_samples()
    assert samples["membership"].shape == (6, 5)
    assert samples["block_probs"].shape == (6, 3)


def test_progress_is_shown_when_asked_for(capsys):
    fit_mcmc(SBM(5, 2), a_graph(), draws=5, warmup=5, chains=1, progress=True)
    assert "log joint" in capsys.readouterr().err
    fit_mcmc(SBM(5, 2), a_graph(), draws=5, warmup=5, chains=1, progress=False)
    assert capsys.readouterr().err == ""


def test_refusals():
    graph = a_graph()
    for options, words in (
        ({"draws": 0}, "draws must be a whole number, at least 1"),
        ({"warmup": -1}, "warmup must be a whole number, at least 0"),
        ({"chains": 1.5}, "chains must be a whole number"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_mcmc(SBM(5, 2), graph, **options)
    for story, words in (
        (LFRM(5, 2, relaxation=Concrete(0.5)), "without a relaxation"),
        (LFRM(5, 2, class_weight="balanced"), "tempered"),
        (LFRM(5, 2, absent_sample=3), "absent_sample"),
        (GAE(5, 2), "no prior"),
        (SBM(5, 2, kind="directed"), "story of directed graphs"),
        (torch.nn.Linear(2, 2), "node-level stories, not Linear"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_mcmc(story, graph)
