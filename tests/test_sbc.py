"""Simulation-based calibration: right posteriors pass, planted faults are found and named, bands hold what they say.

A right inference fails at level t with a probability of at most t over seeds; seeds are fixed, and right ones must keep
above 1e-6. Planted faults must fall below it.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from chance import LEVEL, LIMIT, largest, smallest
from scipy import stats

from graphlore.data import Graph
from graphlore.guides import AmortisedCategorical
from graphlore.inference import (
    SBC,
    FitSettings,
    InferenceError,
    enumerate_posterior,
    fit_mcmc,
    prior_draw,
    sbc,
    sbc_fit,
    sbc_mcmc,
    sbc_statistics,
    seeded,
)
from graphlore.inference.prior import prior_values
from graphlore.inference.uniformity import holm, rank_band, rank_shape, uniformity_p_value
from graphlore.models import DGLFRM, LFRM, SBM, VGAE
from graphlore.models.block_sums import block_sums

RIGHT, WRONG = LEVEL, LEVEL


# -- uniformity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("simulations", "draws"), [(40, 9), (30, 50), (100, 3)])
def test_p_values_of_uniform_ranks_are_exact(simulations, draws):
    rng = np.random.default_rng(0)
    p = np.array(
        [uniformity_p_value(rng.integers(draws + 1, size=simulations), draws) for _ in range(1000)]
    )
    for level in (0.01, 0.05, 0.2, 0.5):
        # P(p <= t) is the largest attained probability that is at most t
        attained = p[p <= level].max(initial=0.0)
        error = math.sqrt(max(attained, 0.005) / 1000)
        assert largest(((p <= level).mean() - attained) / error) < LIMIT
        assert attained <= level
        assert attained > 0.6 * level  # the statistic has many values: the test is not idle


def test_p_value_by_hand():
    # one rank in 0..1 of two simulations: counts of zeros 0, 1, 2 with 1/4, 1/2, 1/4
    assert uniformity_p_value(np.array([0, 0]), 1) == pytest.approx(0.5)
    assert uniformity_p_value(np.array([0, 1]), 1) == pytest.approx(1.0)


@pytest.mark.parametrize(("simulations", "draws", "level"), [(60, 19, 0.05), (120, 59, 0.1)])
def test_bands_hold_uniform_ranks_and_agree_with_the_p_value(simulations, draws, level):
    low, high = rank_band(simulations, draws, level)
    rng = np.random.default_rng(1)
    ranks = rng.integers(draws + 1, size=(4000, simulations))
    shares = np.stack([(ranks <= j).mean(1) for j in range(draws)], 1)
    leave = ((shares < low - 1e-12) | (shares > high + 1e-12)).any(1)
    assert largest(max(leave.mean() - level, 0.0) / math.sqrt(level / 4000)) < LIMIT
    assert leave.mean() > 0.6 * level
    p = np.array([uniformity_p_value(r, draws) for r in ranks[:300]])
    np.testing.assert_array_equal(leave[:300], p <= level)


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.5])), [0.08, 0.03, 0.5])
    np.testing.assert_allclose(holm(np.array([0.4, 0.3])), [0.6, 0.6])
    assert holm(np.array([])).shape == (0,)


@pytest.mark.parametrize(
    ("law", "bias", "spread"),
    [
        (stats.beta(0.5, 0.5), 0, 1),
        (stats.beta(3, 3), 0, -1),
        (stats.beta(3, 1), 1, None),
        (stats.beta(1, 3), -1, None),
        (stats.uniform(), 0, 0),
    ],
    ids=["U", "hump", "low draws", "high draws", "uniform"],
)
def test_shapes(law, bias, spread):
    u = law.rvs(200, random_state=0)
    found = rank_shape(np.floor(20 * u).astype(int), 19)
    for value, sign in zip(found, (bias, spread), strict=True):
        if sign is not None:
            assert abs(value) < 3.5 if sign == 0 else sign * value > 4


def test_shapes_are_standardised():
    ranks = np.random.default_rng(2).integers(8, size=(4000, 50))
    found = np.array([rank_shape(r, 7) for r in ranks])
    assert largest(found.mean(0) * math.sqrt(4000)) < LIMIT
    assert largest((found.std(0) - 1.0) * math.sqrt(2 * 4000)) < LIMIT


# -- a conjugate toy ----------------------------------------------------------------------------------------------


def coins(data=None):
    """Ten tosses of a coin."""
    rate = pyro.sample("rate", dist.Beta(torch.tensor(2.0), torch.tensor(3.0)).to_event(0))
    with pyro.plate("tosses", 10):
        return pyro.sample("tosses_", dist.Bernoulli(rate), obs=data)


def toss(seed):
    rate = torch.distributions.Beta(2.0, 3.0).sample().double()
    return {"rate": rate}, torch.bernoulli(rate.expand(10)).float()


def posterior_of_coins(widen=1.0, shift=0.0, flipped=False):
    def fit_one(data, seed):
        heads = float(data.sum())
        if flipped:
            heads = 10.0 - heads
        a, b = 2.0 + heads, 13.0 - heads
        mean, scale = a / (a + b), (a + b) / widen**2
        a, b = mean * scale, (1.0 - mean) * scale
        draws = torch.distributions.Beta(a, b).sample((60,)).double() + shift
        return {"rate": draws.clamp(1e-6, 1.0 - 1e-6)}

    return fit_one


def of_coins(latents, data):
    rate = latents["rate"]
    heads = data.sum()
    log_prior = torch.distributions.Beta(2.0, 3.0).log_prob(rate)
    return {
        "log_joint": log_prior + heads * rate.log() + (10 - heads) * (-rate).log1p(),
        "rate": rate,
    }


def run(fit_one, **options):
    options = {"simulations": 100, "draws": 49, "seed": 3, "progress": False} | options
    story = options.pop("story", coins)
    if story is coins:  # all draws at once, which a program may not know
        options = {"simulate": toss, "statistics": of_coins} | options
    return sbc(story, fit_one, **options)


def test_a_conjugate_posterior_passes():
    found = run(posterior_of_coins())
    assert list(found.ranks.data_vars) == ["log_joint", "rate"]
    assert smallest(found.p_values()["p_holm"].min()) > RIGHT
    assert found.uniform(RIGHT)
    assert "No statistic of 2 is off" in found.verdict(RIGHT)
    assert found.ranks["rate"].dtype.kind == "i"
    assert 0 <= int(found.ranks["rate"].min()) <= int(found.ranks["rate"].max()) <= 49
    assert found.failed == {}


@pytest.mark.parametrize(
    ("fault", "words", "statistic"),
    [
        ({"widen": 0.4}, "over-confident", "rate"),
        ({"widen": 3.0}, "under-confident", "rate"),
        ({"shift": 0.12}, "too high: truths lie below", "rate"),
        ({"shift": -0.12}, "too low: truths lie above", "rate"),
        ({"flipped": True}, "over-confident", "rate"),
    ],
)
def test_faults_of_the_toy_are_found_and_named(fault, words, statistic):
    found = run(posterior_of_coins(**fault), simulations=200)
    row = found.summary().loc[statistic]
    assert row["p_holm"] < WRONG
    assert words in row["verdict"]
    assert not found.uniform()
    assert words in found.verdict()


def test_the_prior_for_a_posterior_is_found_by_what_looks_at_the_data():
    def fit_one(data, seed):
        return {"rate": torch.distributions.Beta(2.0, 3.0).sample((49,)).double()}

    found = run(fit_one, simulations=300)
    table = found.p_values()
    assert smallest(table.loc["rate", "p"]) > RIGHT  # the prior is calibrated
    assert table.loc["log_joint", "p_holm"] < WRONG


# -- block models, against the exact posterior --------------------------------------------------------------------


def exact_draws(story, power=1.0, narrow=1.0, seen=None, draws=40):
    """fit_one that draws from the enumerated posterior; ``seen`` is what it takes the graph for."""

    def fit_one(graph, seed):
        graph = graph if seen is None else seen(graph)
        exact = enumerate_posterior(story, graph)
        p = exact.probabilities**power
        z = exact.configurations[torch.multinomial(p / p.sum(), draws, replacement=True)]
        x = torch.ones(graph.num_edges, dtype=torch.float64)
        edges, exposure = torch.func.vmap(lambda one: block_sums(graph, one, x))(z.double())
        a, b = story.block_prior
        table = dist.Beta(narrow * (a + edges), narrow * (b + exposure - edges)).sample()
        weights = dist.Dirichlet(story.alpha + z.sum(1)).sample()
        return {
            "membership": z.argmax(-1),
            "community_weights": weights,
            story.table_site: table,
        }

    return fit_one


def half_of_the_dyads(graph):
    """What a node sees whose row holds its later neighbours only, if half of the rows are lost."""
    pairs = graph.observed_pairs()
    return graph._replace(
        edge_index=graph.edge_index[:, graph.edge_index[0] >= 2], missing=pairs[:, pairs[0] < 2]
    )


def block_model():
    return SBM(6, 2, 1.5).double()


def test_the_exact_posterior_of_a_block_model_passes():
    story = block_model()
    found = run(exact_draws(story), story=story, draws=39)
    assert smallest(found.p_values()["p_holm"].min()) > RIGHT
    assert {
        "log_joint",
        "log_likelihood",
        "communities",
        "largest",
        "shared",
        "shared 0-1",
        "link 0-1",
        "link 4-5",
        "link_mean",
        "link_sd",
        "weights_squared",
    } <= set(found.ranks.data_vars)
    assert found.ties["communities"] > 0.5  # discrete, and yet uniform
    assert max(found.autocorrelation.values()) < 0.1


@pytest.mark.parametrize(
    ("fault", "seen_by"),
    [
        ({"narrow": 20.0}, "link_mean"),
        ({"power": 0.0}, "communities"),
        ({"seen": half_of_the_dyads}, "log_likelihood"),
    ],
    ids=["narrow table", "any memberships", "half of the dyads"],
)
def test_faults_of_a_block_model_are_found(fault, seen_by):
    story = block_model()
    found = run(exact_draws(story, **fault), story=story, draws=39, simulations=150)
    assert found.p_values().loc[seen_by, "p_holm"] < WRONG, found.summary()


def test_the_prior_of_a_block_model_is_found_by_its_likelihood_alone():
    story = block_model()
    found = run(lambda graph, seed: prior_values(story, 39)[0], story=story, draws=39)
    p = found.p_values()
    assert p.loc["log_likelihood", "p_holm"] < WRONG
    blind = ["communities", "largest", "shared", "weights_squared", "link_mean", "link 0-1"]
    assert smallest(p.loc[blind, "p"]) > RIGHT  # whatever the graph: the prior is calibrated


def test_numbers_of_communities_change_nothing():
    story = block_model()
    truth, graph = prior_draw(story, 1)
    draws = exact_draws(story)(graph, 0)
    renumbered = {
        "membership": 1 - draws["membership"],
        "community_weights": draws["community_weights"].flip(-1),
        "block_probs": draws["block_probs"].flip(-1),
    }
    statistics = sbc_statistics(story)
    one, other = statistics(draws, graph), statistics(renumbered, graph)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-12, atol=1e-12)
    runs = [
        run(lambda g, s, d=d: d, story=story, simulate=lambda s: (truth, graph), simulations=10)
        for d in (
            {n: v.repeat(2, *[1] * (v.dim() - 1)) for n, v in d.items()}
            for d in (draws, renumbered)
        )
    ]
    pd.testing.assert_frame_equal(runs[0].to_dataframe(), runs[1].to_dataframe())


def test_statistics_by_hand():
    story = SBM(4, 3)
    graph = Graph(4, [[0, 1], [1, 2]])
    W = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], dtype=torch.float64)
    pi = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    latents = {
        "membership": torch.tensor([[0, 0, 2, 2]]),
        "community_weights": pi,
        "block_probs": W,
    }
    found = {
        n: float(v) for n, v in sbc_statistics(story, [[0, 1], [1, 2]])(latents, graph).items()
    }
    p = np.array([0.1, 0.3, 0.3, 0.3, 0.3, 0.6])  # 01, 02, 03, 12, 13, 23
    seen = np.array([1, 0, 0, 1, 0, 0])
    log_likelihood = float(np.log(np.where(seen, p, 1 - p)).sum())
    prior = math.log(2.0) + math.log(
        0.2**2 * 0.5**2
    )  # Dirichlet(1, 1, 1) has density 2, Beta(1, 1) 1
    assert found["log_likelihood"] == pytest.approx(log_likelihood)
    assert found["log_joint"] == pytest.approx(log_likelihood + prior)
    assert found["link_mean"] == pytest.approx(p.mean())
    assert found["link_sd"] == pytest.approx(p.std())
    assert (found["link 0-1"], found["link 1-2"]) == pytest.approx((0.1, 0.3))
    assert (found["shared 0-1"], found["shared 1-2"]) == (1.0, 0.0)
    assert (found["communities"], found["largest"]) == (2.0, 2.0)
    assert found["shared"] == pytest.approx(2 / 6)
    assert found["weights_squared"] == pytest.approx(0.38)


def test_statistics_of_overlapping_communities():
    story = LFRM(3, 2, bias="global")
    latents, graph = prior_draw(story, 0)
    latents |= {
        "memberships": torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64),
        "sticks": torch.tensor([0.5, 0.4], dtype=torch.float64),
    }
    found = sbc_statistics(story)({n: v[None] for n, v in latents.items()}, graph)
    assert float(found["memberships"]) == pytest.approx(1.0)
    assert float(found["shared"]) == pytest.approx(1 / 3)
    assert float(found["activation"]) == pytest.approx(0.5 + 0.2)
    assert float(found["bias"]) == float(latents["bias"])
    assert float(found["largest"]) == 2.0


# -- inferences as users have them --------------------------------------------------------------------------------


def test_chains_and_their_arviz_data():
    story = SBM(5, 2)
    found = run(sbc_mcmc(story, draws=30, warmup=10), story=story, simulations=10, draws=15)
    assert smallest(found.p_values()["p_holm"].min()) > RIGHT
    # tables are laid out in ArviZ data; they come back as the entries that the story draws
    truth, graph = prior_draw(story, int(found.ranks["seed"][3]))
    seed = int(found.ranks["fit_seed"][3])
    posterior = fit_mcmc(story, graph, draws=30, warmup=10, chains=1, seed=seed, progress=False)
    table = posterior.posterior["block_probs"].values[0, ::2]
    entries = torch.as_tensor(np.stack([table[:, 0, 0], table[:, 0, 1], table[:, 1, 1]], -1))
    z = torch.as_tensor(posterior.posterior["membership"].values[0, ::2])
    pi = torch.as_tensor(posterior.posterior["community_weights"].values[0, ::2])
    values = {"membership": z, "community_weights": pi, "block_probs": entries}
    statistics = sbc_statistics(story)
    draws = statistics(values, graph)["log_joint"]
    true = statistics({n: v[None] for n, v in truth.items()}, graph)["log_joint"]
    assert int(found.ranks["log_joint"][3]) == int((draws < true).sum())


def test_fits_of_a_guide():
    story = SBM(5, 2)
    before = {n: v.clone() for n, v in story.state_dict().items()}
    free = partial(AmortisedCategorical, amortised=False)
    fit_one = sbc_fit(story, free, steps=3, gradient="expectation")
    found = run(fit_one, story=story, simulations=10, draws=9)
    assert found.simulations == 10
    assert (found.draws, found.ranks.attrs["draws"]) == (9, 9)
    again = run(fit_one, story=story, simulations=10, draws=9)
    pd.testing.assert_frame_equal(found.to_dataframe(), again.to_dataframe())
    for name, value in story.state_dict().items():
        assert torch.equal(value, before[name])
    other = run(fit_one, story=story, simulations=10, draws=9, seed=4)
    assert not found.to_dataframe().equals(other.to_dataframe())


@pytest.mark.parametrize(
    "story",
    [
        SBM(5, 2, kind="bipartite", sides=(2, 3)),
        SBM(5, 2, likelihood="poisson", kind="directed", bias="node"),
        LFRM(5, 2, likelihood="normal", bias="node"),
        DGLFRM(5, 2, decoder=(3,), features="bernoulli", num_features=4, num_classes=2),
        DGLFRM(5, 2, decoder=(3,), sticks="local", class_weight="balanced"),
        VGAE(5, 2, bias="global"),
    ],
    ids=["bipartite", "counts", "weights", "features", "tempered", "vgae"],
)
def test_draws_of_the_prior_rank_among_themselves(story):
    """With data that nothing is learnt from, the prior is the posterior of everything but the likelihood."""
    _, graph = prior_draw(story, 5)

    def simulate(seed):
        return prior_draw(story, seed)[0], graph

    def fit_one(data, seed):
        return prior_values(story, 19)[0]

    found = run(fit_one, story=story, simulate=simulate, simulations=20, draws=19)
    assert smallest(found.p_values()["p_holm"].min()) > RIGHT


def test_a_program_of_ones_own():
    def story(graph=None):
        p = pyro.sample("density", dist.Beta(torch.tensor(1.0), torch.tensor(1.0)))
        n = 6 if graph is None else graph.num_nodes
        if graph is not None:
            y = graph.dense_adjacency().triu(1)
            pyro.factor("edges", y.sum() * p.log() + (15 - y.sum()) * torch.log1p(-p))
            return
        upper = torch.bernoulli(p.expand(n, n)).triu(1)
        pyro.sample("edges", dist.Delta(upper + upper.T).to_event(2))

    def fit_one(graph, seed):
        e = graph.num_edges
        return {"density": torch.distributions.Beta(1.0 + e, 16.0 - e).sample((50,))}

    found = run(fit_one, story=story, simulations=60, draws=19)
    assert list(found.ranks.data_vars) == ["log_joint", "density"]
    assert smallest(found.p_values()["p_holm"].min()) > RIGHT


def test_own_statistics_and_constants():
    def statistics(latents, graph):
        return {
            "odds": latents["rate"] / (1 - latents["rate"]),
            "one": torch.ones(len(latents["rate"])),
        }

    found = run(posterior_of_coins(), statistics=statistics)
    assert list(found.ranks.data_vars) == ["odds", "one"]
    table = found.summary()
    assert math.isnan(table.loc["one", "p"])
    assert table.loc["one", "verdict"] == "never moves: says nothing"
    assert table.loc["one", "ties"] == 1.0
    assert "No statistic of 1" in found.verdict(RIGHT)


def test_autocorrelated_draws_are_told():
    def fit_one(data, seed):
        draws = posterior_of_coins()(data, seed)["rate"][:10]
        return {"rate": draws.repeat_interleave(5)}

    found = run(fit_one)
    assert found.autocorrelation["rate"] > 0.5
    assert "thin more" in found.verdict()


def test_a_failed_simulation_names_its_seeds():
    def fails(data, seed):
        raise ArithmeticError("no optimum")

    with pytest.raises(
        InferenceError, match=r"simulation 0 failed: ArithmeticError: no optimum .*seed"
    ) as error:
        run(fails)
    assert isinstance(error.value.__cause__, ArithmeticError)

    seen = []

    def fails_once(data, seed):
        seen.append((data, seed))
        if len(seen) == 5:
            raise ArithmeticError("no optimum")
        return posterior_of_coins()(data, seed)

    found = run(fails_once)
    assert found.simulations == 99
    ((seed, message),) = found.failed.items()
    with seeded(seed):
        _, data = toss(seed)
    assert torch.equal(data, seen[4][0])
    assert f"fit_one(graph, {seen[4][1]})" in message
    assert "1 more simulations failed" in found.verdict()


def test_a_failure_is_no_statistic():
    with pytest.raises(InferenceError, match="'x' is not a number for some draw"):
        run(
            posterior_of_coins(),
            statistics=lambda latents, graph: {"x": latents["rate"] * float("nan")},
        )
    with pytest.raises(InferenceError, match=r"'x' must be a number a draw, \(50,\), not \(\)"):
        run(posterior_of_coins(), statistics=lambda latents, graph: {"x": 1.0})
    with pytest.raises(InferenceError, match=r"gave 60 draws of 'rate', draws=99"):
        run(posterior_of_coins(), draws=99)
    with pytest.raises(InferenceError, match=r"lack the latents \['rate'\]"):
        run(lambda data, seed: {})
    with pytest.raises(InferenceError, match="draws of 'rate' are"):
        run(lambda data, seed: {"rate": torch.ones(50, 2)})
    with pytest.raises(InferenceError, match="not float"):
        run(lambda data, seed: 1.0)
    with pytest.raises(InferenceError, match="draw latents and graph yourself"):
        run(posterior_of_coins(), story=lambda graph=None: pyro.sample("x", dist.Normal(0.0, 1.0)))


def test_refusals():
    with pytest.raises(ValueError, match="simulations must be a whole number, at least 10"):
        run(posterior_of_coins(), simulations=5)
    with pytest.raises(ValueError, match="draws must be a whole number, at least 3"):
        run(posterior_of_coins(), draws=2.0)
    with pytest.raises(ValueError, match="settings or options"):
        sbc_fit(SBM(4, 2), AmortisedCategorical, FitSettings(), steps=3)
    with pytest.raises(ValueError, match="pairs are dyads"):
        sbc_statistics(coins, [[0], [1]])
    with pytest.raises(ValueError, match="num_nodes and missing"):
        prior_draw(coins, num_nodes=3)


def test_a_prior_draw_is_of_its_seed_and_leaves_no_trace():
    story = DGLFRM(5, 2, decoder=(3,), features="normal", num_features=4, num_classes=3)
    state = torch.get_rng_state()
    (one, graph), (other, same) = prior_draw(story, 7), prior_draw(story, 7)
    assert torch.equal(state, torch.get_rng_state())
    assert graph.fingerprint() == same.fingerprint()
    assert all(torch.equal(one[n], other[n]) for n in one)
    assert set(one) == set(story.dims)
    assert graph.features.shape == (5, 4)
    assert graph.labels.shape == (5,)
    wider, hidden = prior_draw(story, 7, num_nodes=8, missing=[[0], [1]])
    assert wider["memberships"].shape == (8, 2)
    assert hidden.missing.tolist() == [[0], [1]]


def test_the_picture_shows_what_the_table_says():
    import matplotlib.pyplot as plt

    from graphlore import plots

    found = run(posterior_of_coins(widen=0.4), simulations=200)
    ax = plots.sbc(found)
    named = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "rate" in named
    assert "statistics off" in ax.get_title(loc="left")
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 51]
    assert len(lines) == 2
    ranks = found.ranks["rate"].values
    expected = (ranks <= 24).mean() - 0.5
    assert any(line.get_ydata()[25] == pytest.approx(expected) for line in lines)
    plt.close(ax.figure)
    fine = run(posterior_of_coins())
    _, ax = plt.subplots()
    assert plots.sbc(fine, ax, statistics=["rate"], level=RIGHT) is ax
    assert "no statistic is off" in ax.get_title(loc="left")
    plt.close(ax.figure)
    with pytest.raises(KeyError, match="no statistic"):
        plots.sbc(fine, statistics=["rates"])
    still = SBC(fine.ranks, fine.draws, dict.fromkeys(fine.ties, 1.0), fine.autocorrelation)
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.sbc(still)
