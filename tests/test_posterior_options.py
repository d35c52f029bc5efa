"""Draws of the prior, units of the log-likelihood, the numbers of communities."""

from __future__ import annotations

import json
from unittest import mock

import arviz as az
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from chance import LEVEL, LIMIT, largest, smallest
from scipy import stats

from graphlore import plots
from graphlore.data import Graph, GraphError, karate, planted_partition, sample_dyads
from graphlore.guides import AmortisedCategorical, StructuredMeanField
from graphlore.inference import (
    align_posterior,
    compare,
    fit,
    from_netcdf,
    posterior_predictive_check,
    prior_predictive,
)
from graphlore.inference import groups as groups_module
from graphlore.inference._arviz import to_arviz
from graphlore.inference.statistics import STATISTICS, weight_statistics
from graphlore.models import DGLFRM, LFRM, SBM, VGAE

mpl.use("Agg")

KARATE = karate()
OBSERVED = KARATE.hide([[0, 0, 5, 9], [1, 9, 20, 30]])
K = 3


def a_fit(seed=7, **options):
    torch.manual_seed(3)
    story = DGLFRM(34, K, decoder=(), bias="node")
    guide = StructuredMeanField(story, OBSERVED, hidden=(8,))
    return fit(story, guide, OBSERVED, steps=40, learning_rate=0.05, seed=seed, **options)


@pytest.fixture(scope="module")
def fitted():
    return a_fit()


def groups_of(data):
    names = data.groups() if callable(data.groups) else data.groups
    return {name.strip("/") for name in names} - {""}


# -- prior ------------------------------------------------------------------------------------------


def test_the_prior_is_that_of_the_story():
    alpha, n = 2.0, 1500
    story = DGLFRM(34, K, alpha=alpha, decoder=(), bias="node", bias_scale=(2.0, 0.5))
    found = prior_predictive(story, OBSERVED, n, predictive_draws=1, seed=5).prior
    x = {name: found[name].values[0].astype(float) for name in found.data_vars}
    laws = {
        "sticks": stats.beta(alpha, 1),
        "bias": stats.norm(0, 2.0),
        "node_bias": stats.norm(0, 0.5),
        "strengths": stats.norm(0, 1),
    }
    assert set(x) == {*laws, "memberships"}
    for name, law in laws.items():
        assert smallest(stats.kstest(x[name].ravel()[:4000], law.cdf).pvalue) > LEVEL, name
    pi = np.cumprod(x["sticks"], -1)[:, None]
    p = np.broadcast_to(pi, x["memberships"].shape)
    z = (x["memberships"] - p).sum((0, 1)) / np.sqrt((p * (1 - p)).sum((0, 1)))
    assert largest(z) < LIMIT


def test_prior_graphs_follow_the_probabilities_of_their_draws():
    story = DGLFRM(34, K, decoder=(), bias="node", bias_scale=(1.0, 0.5), class_weight="balanced")
    data = prior_predictive(story, OBSERVED, 300)
    x = {name: data.prior[name].values[0].astype(float) for name in data.prior.data_vars}
    i, j = data.constant_data.dyad_i.values, data.constant_data.dyad_j.values
    z = x["memberships"] * x["strengths"]
    s = (z[:, i] * z[:, j]).sum(-1) + x["bias"][:, None]
    p = 1 / (1 + np.exp(-s - x["node_bias"][:, i] - x["node_bias"][:, j]))
    y = data.prior_predictive.edges.values[0]
    assert y.shape == (300, 557)
    assert largest((y - p).sum() / np.sqrt((p * (1 - p)).sum())) < LIMIT
    by_draw = (y - p).sum(1) / np.sqrt((p * (1 - p)).sum(1))
    law, total = stats.chi2(300), (by_draw**2).sum()
    assert smallest(2.0 * min(law.cdf(total), law.sf(total))) > LEVEL
    np.testing.assert_allclose(data.prior_predictive.density.values[0], y.mean(1))


@pytest.mark.parametrize(
    "story",
    [
        DGLFRM(34, K, relaxation=None),
        LFRM(34, K, bias="global"),
        SBM(34, K),
        SBM(34, K, bias="node"),
        VGAE(34, 4, bias="node"),
        SBM(34, K, likelihood="poisson"),
        SBM(34, K, likelihood="normal"),
    ],
    ids=lambda s: f"{type(s).__name__}-{s.likelihood}-{s.bias}",
)
def test_every_story_has_a_prior_in_arviz_form(story, tmp_path):
    before = torch.random.get_rng_state()
    data = prior_predictive(story, KARATE, 6, predictive_draws=4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert groups_of(data) == {"prior", "prior_predictive", "observed_data", "constant_data"}
    for name, dims in story.dims.items():
        assert data.prior[name].dims == ("chain", "draw", *dims), name
        assert data.prior[name].shape[:2] == (1, 6)
    assert data.prior_predictive.edges.shape == (1, 4, 561)
    checks = posterior_predictive_check(data)
    weights = set(weight_statistics(np.ones(1), 1))
    presence = set(STATISTICS) - weights
    expected = {"bernoulli": presence, "poisson": presence | weights, "normal": weights}
    assert {c.statistic for c in checks} == expected[story.likelihood]
    assert data.attrs["inference"] == "draws from the prior"
    assert data.attrs["graph_fingerprint"] == KARATE.fingerprint()
    again = prior_predictive(story, KARATE, 6, predictive_draws=4)
    other = prior_predictive(story, KARATE, 6, predictive_draws=4, seed=1)
    for name in data.prior.data_vars:
        np.testing.assert_array_equal(data.prior[name], again.prior[name])
    assert any((data.prior[n] != other.prior[n]).any() for n in data.prior.data_vars)
    data.to_netcdf(str(tmp_path / "prior.nc"))
    read = from_netcdf(tmp_path / "prior.nc")
    assert groups_of(read) == groups_of(data)
    read.close()


def test_pictures_of_a_posterior_take_a_prior():
    data = prior_predictive(DGLFRM(34, K, bias="global"), OBSERVED, 30)
    panels = plots.posterior_predictive(data)
    assert len(panels) == len([n for n in STATISTICS if n in data.observed_data])
    labels = [text.get_text() for text in plots.sticks(data).get_legend().get_texts()]
    assert "prior of π, 90%" in labels
    assert not any("posterior" in label for label in labels)
    plots.degrees(data)
    plots.memberships(data, OBSERVED)
    plt.close("all")


def test_a_posterior_can_have_its_prior_beside_it(fitted):
    alone, both = fitted.posterior(9), fitted.posterior(9, prior=5)
    assert groups_of(both) == groups_of(alone) | {"prior", "prior_predictive"}
    assert both.prior.sizes["draw"] == both.prior_predictive.sizes["draw"] == 5
    for name in alone.posterior.data_vars:  # which does not change it
        np.testing.assert_array_equal(alone.posterior[name], both.posterior[name])
        assert both.prior[name].dims == both.posterior[name].dims
    checks = posterior_predictive_check(both)  # of the posterior, where there is one
    assert checks == posterior_predictive_check(alone)


def test_fewer_graphs_are_drawn_from_the_prior_of_large_ones():
    """A prior makes dense graphs too, which take long to look at."""
    for nodes, graphs in ((200, 110), (201, 100), (1001, 20)):
        data = prior_predictive(SBM(nodes, 1), Graph(nodes, [[0], [1]]), 110)
        assert data.prior.sizes["draw"] == 110
        assert data.prior_predictive.sizes["draw"] == graphs


def test_bad_priors_are_refused(fitted):
    with pytest.raises(ValueError, match="draws must be at least 1"):
        prior_predictive(SBM(34, 2), KARATE, 0)
    with pytest.raises(ValueError, match="story of directed graphs"):
        prior_predictive(SBM(34, 2, kind="directed"), KARATE)
    with pytest.raises(ValueError, match="prior is a number of draws"):
        fitted.posterior(2, prior=-1)


# -- units ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (Graph(8, [[0, 1, 2], [1, 2, 3]], missing=[[0, 4], [5, 6]]), 7),
        (Graph(8, [[0, 1, 2], [1, 2, 3]], directed=True), 9),
        (Graph(9, [[0, 1], [4, 5]], parts=[0] * 4 + [1] * 5, missing=[[0], [8]]), 5),
        (Graph(40, [[0, 1, 2], [1, 2, 3]]), 15),  # drawn by rejection
    ],
    ids=["missing", "directed", "bipartite", "large"],
)
def test_a_sample_of_dyads_is_uniform(graph, count):
    n, draws = graph.num_nodes, 3000
    every = graph.observed_pairs()
    keys = (every[0] * n + every[1]).numpy()
    hits = np.zeros(len(keys))
    for seed in range(draws):
        pairs = sample_dyads(graph, count, seed)
        found = (pairs[0] * n + pairs[1]).numpy()
        assert len(found) == count == len(np.unique(found))
        assert (np.diff(found) > 0).all()
        hits[np.searchsorted(keys, found)] += np.isin(found, keys)
    assert hits.sum() == draws * count
    p = count / len(keys)
    z = (hits - draws * p) / np.sqrt(draws * p * (1 - p))
    assert largest(z) < LIMIT
    # without replacement the hits of a draw sum up: one degree of freedom less, and z is wider for it
    law, total = stats.chi2(len(keys) - 1), (z**2).sum() * (1 - 1 / len(keys))
    assert smallest(2.0 * min(law.cdf(total), law.sf(total))) > LEVEL
    assert torch.equal(sample_dyads(graph, graph.num_dyads), every)
    with pytest.raises(GraphError, match=f"not of {graph.num_dyads + 1}"):
        sample_dyads(graph, graph.num_dyads + 1)


def test_a_random_sample_of_dyads_is_part_of_all_of_them(fitted):
    every, some = fitted.posterior(6), fitted.posterior(6, unit=100)
    pairs = [tuple(d.constant_data[n].values for n in ("dyad_i", "dyad_j")) for d in (every, some)]
    place = np.searchsorted(pairs[0][0] * 34 + pairs[0][1], pairs[1][0] * 34 + pairs[1][1])
    assert len(np.unique(place)) == 100
    np.testing.assert_array_equal(pairs[0][0][place], pairs[1][0])
    np.testing.assert_array_equal(pairs[0][1][place], pairs[1][1])
    for group in ("log_likelihood", "posterior_predictive", "observed_data"):
        one, two = every[group]["edges"].values[..., place], some[group]["edges"].values
        np.testing.assert_allclose(one, two, atol=1e-6)
    told = {"log_likelihood_unit": "dyad, of a random sample"}
    told |= {"observed_dyads": 557, "kept_dyads": 100}
    assert {name: some.attrs[name] for name in told} == told
    told = {"log_likelihood_unit": "dyad", "observed_dyads": 557, "kept_dyads": 557}
    assert {name: every.attrs[name] for name in told} == told
    other = a_fit(seed=8, kl_weight=0.5).posterior(
        3, unit=100
    )  # the same dyads, so that fits compare
    np.testing.assert_array_equal(other.constant_data.dyad_i, some.constant_data.dyad_i)
    np.testing.assert_array_equal(other.constant_data.dyad_j, some.constant_data.dyad_j)
    assert fitted.posterior(2, unit=10_000).attrs["kept_dyads"] == 557


def test_the_unit_can_be_chosen(fitted):
    found = fitted.posterior(3, unit="node")
    assert found.log_likelihood.edges.dims == ("chain", "draw", "node")
    assert found.attrs["log_likelihood_unit"] == "node"
    with mock.patch.object(groups_module, "_DYAD_LIMIT", 10):
        found = fitted.posterior(3, unit="dyad")
    assert found.log_likelihood.edges.shape == (1, 3, 557)


def test_a_posterior_without_densities(fitted):
    found = fitted.posterior(3, unit="none")
    assert not hasattr(found, "log_likelihood")
    assert found.attrs["log_likelihood_unit"] == "none"
    assert found.attrs["kept_dyads"] == 0
    every = fitted.posterior(3)
    np.testing.assert_array_equal(found.posterior.memberships, every.posterior.memberships)


def test_what_auto_is_depends_on_the_number_of_dyads(fitted):
    for most, unit in ((556, "none"), (557, "node")):
        with (
            mock.patch.object(groups_module, "_DYAD_LIMIT", 0),
            mock.patch.object(groups_module, "MANY_DYADS", most),
        ):
            assert fitted.posterior(2).attrs["log_likelihood_unit"] == unit
            if unit == "none":
                with pytest.raises(ValueError, match=r"557 dyads.*unit=20_000"):
                    compare({"one": fitted, "other": fitted}, 2)


def test_bad_units_are_refused(fitted):
    for unit in ("edge", 1, 0, -5, True, None, 2.5):
        with pytest.raises(ValueError, match="unit "):
            fitted.posterior(2, unit=unit)
    with (
        mock.patch.object(groups_module, "_NUMBERS", 1000),
        pytest.raises(ValueError, match=r"of 557 dyads by 4 draws .*\(unit=20_000\)"),
    ):
        fitted.posterior(4, unit="dyad")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_comparison_by_sample_is_scaled_up_to_all_dyads(fitted):
    fits = {"one": fitted, "two": a_fit(kl_weight=0.5)}
    table = compare(fits, 200, unit=250)
    scale = 557 / 250
    loos = {
        name: az.loo(f.posterior(200, 1, unit=250), pointwise=True, var_name="edges")
        for name, f in fits.items()
    }
    column = "elpd_loo" if hasattr(loos["one"], "elpd_loo") else "elpd"
    elpd = {name: float(getattr(loo, column)) * scale for name, loo in loos.items()}
    for name, loo in loos.items():
        assert float(table.loc[name, column]) == pytest.approx(elpd[name], rel=0.01)
        assert float(table.loc[name, "se"]) == pytest.approx(float(loo.se) * scale, rel=0.05)
    assert list(table.index) == sorted(elpd, key=lambda name: -elpd[name])
    difference = abs(elpd["one"] - elpd["two"])
    assert float(table["elpd_diff"].abs().max()) == pytest.approx(difference, rel=0.05, abs=2)
    assert float(table["weight"].sum()) == pytest.approx(1.0, abs=0.02)


# -- ArviZ's pictures of checks -----------------------------------------------------------------------


def test_arviz_draws_statistics_as_checks(fitted):
    posterior = fitted.posterior(80)
    names = ["triangles", "clustering", "label_assortativity"]
    if hasattr(az, "plot_bpv"):  # ArviZ 0
        axes = az.plot_bpv(posterior, var_names=names, kind="t_stat", t_stat="mean")
        for ax, name in zip(np.ravel(axes), names, strict=True):
            observed = posterior.observed_data[name].item()
            shown = float(ax.get_legend().get_texts()[0].get_text().removeprefix("bpv="))
            below = (posterior.posterior_predictive[name].values <= observed).mean()
            assert shown == pytest.approx(below, abs=0.006)
            at = [x for line in ax.get_lines() for x in np.atleast_1d(line.get_xdata())]
            assert observed in at
    else:
        found = az.plot_ppc_tstat(posterior, var_names=names)
        assert set(names) <= set(found.viz["observed_tstat"].data_vars)
    plt.close("all")


# -- numbers of communities ---------------------------------------------------------------------------

SIZES = (6, 9, 20)


def blocks(kind="undirected"):
    if kind == "undirected":
        return planted_partition(list(SIZES), 0.05 + 0.7 * np.eye(3), seed=1)
    y = np.repeat(np.arange(3), SIZES)
    table = np.array([[0.7, 0.4, 0.05], [0.05, 0.7, 0.05], [0.2, 0.05, 0.6]])
    a = np.random.default_rng(0).random((35, 35)) < table[y][:, y]
    np.fill_diagonal(a, False)
    return Graph(35, np.stack(np.nonzero(a)), directed=True, labels=y)


def sbm_fit(kind="undirected"):
    graph = blocks(kind)
    torch.manual_seed(0)
    story = SBM(35, 3, alpha=0.5, kind=kind)
    guide = AmortisedCategorical(story, graph, amortised=False)
    return fit(story, guide, graph, steps=150, learning_rate=0.1, gradient="expectation", seed=0)


def likelihood_by_hand(data, graph):
    """(draws, dyads) from memberships and table as they are stored."""
    z, table = data.posterior.membership.values, data.posterior.block_probs.values
    z, table = z.reshape(-1, z.shape[-1]), table.reshape(-1, *table.shape[2:])
    i, j = data.constant_data.dyad_i.values, data.constant_data.dyad_j.values
    p = table[np.arange(len(z))[:, None], z[:, i], z[:, j]]
    return np.where(data.observed_data.edges.values == 1, np.log(p), np.log1p(-p))


@pytest.mark.parametrize("kind", ["undirected", "directed"])
def test_blocks_are_numbered_by_their_size(kind):
    found = sbm_fit(kind)
    with torch.no_grad():  # other numbers of the guide are no other numbers of the result
        logits = found.guide.free_head("membership_logits")
        for order in ([0, 1, 2], [2, 0, 1]):
            logits.copy_(logits[:, order].clone())
            q = torch.softmax(logits, -1)
            data = found.posterior(40)
            numbers = json.loads(data.attrs["communities_of_guide"])
            sizes = q.sum(0)[numbers]
            assert (sizes.diff() <= 0).all()
            assert sizes.round().tolist() == sorted(SIZES, reverse=True)
            assert "largest first" in data.attrs["communities_order"]
            z = data.posterior.membership.values[0]
            share = np.stack([(z == k).mean(0) for k in range(3)], 1)
            assert abs(share - q[:, numbers].numpy()).max() < 0.35
            assert [(z == k).sum(1).mean().round() for k in range(3)] == sorted(SIZES)[::-1]
            # weights and table are those of the same blocks
            np.testing.assert_allclose(
                likelihood_by_hand(data, found.graph),
                data.log_likelihood.edges.values[0],
                atol=1e-3,
            )
            weights = data.posterior.community_weights.values[0].mean(0)
            expected = (np.array([20, 9, 6]) + 0.5) / 36.5
            np.testing.assert_allclose(weights, expected, atol=0.05)
            encoded = found.encode(found.graph, draws=400).memberships
            np.testing.assert_allclose(encoded, q[:, numbers], atol=0.12)
            assert data.posterior.community.values.tolist() == [0, 1, 2]


def test_the_order_of_communities_is_said(fitted):
    assert "sticks" in fitted.posterior(1).attrs["communities_order"]
    assert "communities_of_guide" not in fitted.posterior(1).attrs
    assert "sticks" in prior_predictive(DGLFRM(34, 3), KARATE, 1).attrs["communities_order"]
    assert "as drawn" in prior_predictive(SBM(34, 3), KARATE, 1).attrs["communities_order"]
    assert "no communities" in prior_predictive(VGAE(34, 3), KARATE, 1).attrs["communities_order"]


def shuffled(data, seed=0):
    """The same posterior with the communities of every draw numbered at random, in two chains."""
    rng = np.random.default_rng(seed)
    group = data.posterior
    draws, count = group.sizes["draw"], group.sizes["community"]
    orders = np.stack([rng.permutation(count) for _ in range(draws)])
    found, dims = {}, {}
    for name, variable in group.data_vars.items():
        x, dims[name] = variable.values[0].copy(), list(variable.dims[2:])
        for s, order in enumerate(orders):
            if name == "membership":
                x[s] = order.argsort()[x[s]]
            for axis, dim in enumerate(dims[name]):
                if dim in ("community", "community_to"):
                    x[s] = np.take(x[s], order, axis)
        found[name] = x.reshape(2, draws // 2, *x.shape[1:])
    coords = {"community": np.arange(count), "community_to": np.arange(count)}
    return to_arviz({"posterior": found}, coords, dims, dict(data.attrs)), orders


def test_switched_blocks_are_aligned_with_all_that_is_theirs():
    data = sbm_fit("directed").posterior(40)
    switched, _ = shuffled(data)
    before = switched.posterior.membership.values.copy()
    aligned = align_posterior(switched)
    np.testing.assert_array_equal(switched.posterior.membership.values, before)  # a copy
    expected, found = data.posterior, aligned.posterior
    for name in ("membership", "block_probs", "community_weights"):
        assert found[name].dims == expected[name].dims
        one = found[name].values.reshape(expected[name].shape)
        assert (one == expected[name].values).mean() > 0.97, name
    assert "aligned" in aligned.attrs["communities_order"]
    reference = np.eye(3)[np.repeat([0, 1, 2], SIZES)]  # the smallest first
    turned = align_posterior(switched, reference).posterior.membership.values
    assert (turned == np.repeat([0, 1, 2], SIZES)).mean() > 0.95


def test_overlapping_communities_are_aligned_and_sticks_become_probabilities():
    rng = np.random.default_rng(0)
    truth = np.zeros((20, 3), dtype=np.int8)
    truth[:14, 0] = truth[10:19, 1] = truth[[1, 15, 18], 2] = 1
    flips = rng.random((1, 30, 20, 3)) < 0.03
    v = rng.beta(3, 1, (1, 30, 3))
    variables = {
        "memberships": np.where(flips, 1 - truth, truth).astype(np.int8),
        "sticks": v,
        "affinity": rng.normal(size=(1, 30, 3, 3)),
        "bias": rng.normal(size=(1, 30)),
    }
    dims = {"memberships": ["node", "community"], "sticks": ["community"]}
    dims["affinity"] = ["community", "community_to"]
    data = to_arviz({"posterior": variables}, {"community": np.arange(3)}, dims, {})
    pi = np.cumprod(v, -1)
    switched, orders = shuffled(data)
    # sticks stay in their order in a chain that switches communities: undo theirs
    flat = switched.posterior.sticks.values.reshape(30, 3)
    switched.posterior["sticks"].values[:] = np.take_along_axis(flat, orders.argsort(1), 1).reshape(
        2, 15, 3
    )
    aligned = align_posterior(switched).posterior
    assert "sticks" not in aligned
    for name in ("memberships", "affinity", "bias"):
        x = aligned[name].values.reshape(variables[name].shape)
        np.testing.assert_array_equal(x, variables[name])
    found = aligned["stick_probs"].values.reshape(30, 3)
    # community k was number place[k] of its draw, and has the probability that stands there
    np.testing.assert_allclose(found, np.take_along_axis(pi[0], orders.argsort(1), 1))


def test_stories_without_communities_have_nothing_to_align():
    data = prior_predictive(VGAE(34, 3), KARATE, 2)
    alone = to_arviz({"posterior": {"bias": np.zeros((1, 3))}}, {}, {}, dict(data.attrs))
    with pytest.raises(ValueError, match="only stories with communities"):
        align_posterior(alone)
