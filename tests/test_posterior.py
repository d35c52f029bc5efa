"""The posterior in ArviZ form: its groups, its densities, its draws, its checks."""

from __future__ import annotations

import json
from unittest import mock

import arviz as az
import matplotlib as mpl
import networkx as nx
import numpy as np
import pytest
import torch
from chance import LEVEL, LIMIT, largest, smallest
from scipy import stats

from graphlore.data import Graph, karate
from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import draws as draws_module
from graphlore.inference import fit, from_netcdf, posterior_predictive_check
from graphlore.inference import groups as groups_module
from graphlore.inference import statistics as statistics_module
from graphlore.inference.statistics import STATISTICS as ALL
from graphlore.inference.statistics import (
    block_adjacency,
    graph_statistics,
    p_value,
    weight_statistics,
)
from graphlore.models import DGLFRM
from graphlore.models.sticks import activation_logits

mpl.use("Agg")

KARATE = karate()
# those of presence; a graph without weights has no others
STATISTICS = {k: v for k, v in ALL.items() if k not in weight_statistics(np.ones(1), 1)}
HIDDEN = [[0, 0, 5, 9], [1, 9, 20, 30]]  # an edge and three other dyads
OBSERVED = KARATE.hide(HIDDEN)
K, DRAWS = 4, 60
GROUPS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data", "constant_data")


def a_fit(graph=OBSERVED, guide=StructuredMeanField, steps=60, options=None, **story):
    torch.manual_seed(3)
    told = DGLFRM(graph.num_nodes, K, **{"decoder": (), "bias": "node", **story})
    return fit(
        told,
        guide(told, graph, hidden=(8,)),
        graph,
        steps=steps,
        learning_rate=0.05,
        seed=7,
        **(options or {}),
    )


@pytest.fixture(scope="module")
def fitted():
    return a_fit()


@pytest.fixture(scope="module")
def posterior(fitted):
    return fitted.posterior(DRAWS)


def test_groups_dimensions_and_types(posterior):
    groups = posterior.groups() if callable(posterior.groups) else posterior.groups
    assert set(GROUPS) <= {g.strip("/") for g in groups}
    expected = {
        ("posterior", "sticks"): (("chain", "draw", "community"), np.float32),
        ("posterior", "memberships"): (("chain", "draw", "node", "community"), np.int8),
        ("posterior", "strengths"): (("chain", "draw", "node", "community"), np.float32),
        ("posterior", "bias"): (("chain", "draw"), np.float32),
        ("posterior", "node_bias"): (("chain", "draw", "node"), np.float32),
        ("posterior_predictive", "degree"): (("chain", "draw", "node"), np.integer),
        ("posterior_predictive", "edges"): (("chain", "draw", "dyad"), np.int8),
        ("posterior_predictive", "triangles"): (("chain", "draw"), np.floating),
        ("log_likelihood", "edges"): (("chain", "draw", "dyad"), np.float32),
        ("observed_data", "edges"): (("dyad",), np.int8),
        ("observed_data", "degree"): (("node",), np.integer),
        ("constant_data", "dyad_i"): (("dyad",), np.integer),
        ("constant_data", "dyad_j"): (("dyad",), np.integer),
        ("constant_data", "labels"): (("node",), np.integer),
    }
    for (group, name), (dims, kind) in expected.items():
        variable = posterior[group][name]
        assert variable.dims == dims, (group, name)
        assert np.issubdtype(variable.dtype, kind), (group, name)
    sizes = dict(posterior.posterior.sizes)
    assert sizes == {"chain": 1, "draw": DRAWS, "node": 34, "community": K}
    assert set(STATISTICS) <= set(posterior.posterior_predictive)
    assert set(STATISTICS) <= set(posterior.observed_data)
    assert not (set(ALL) - set(STATISTICS)) & set(posterior.observed_data)


def test_coordinates_are_names_and_communities(posterior):
    assert list(posterior.posterior.node.values) == list(KARATE.names)
    assert list(posterior.posterior.community.values) == list(range(K))
    picked = posterior.posterior.memberships.sel(node="Mr. Hi", community=0)
    assert picked.dims == ("chain", "draw")
    assert list(posterior.constant_data.labels.values) == KARATE.labels.tolist()


def test_nodes_without_names_are_numbered():
    graph = Graph(5, [[0, 1, 2], [1, 2, 3]])
    found = a_fit(graph, steps=1).posterior(2)
    assert list(found.posterior.node.values) == [0, 1, 2, 3, 4]
    assert "labels" not in found.constant_data


def test_memberships_are_zero_or_one_and_strengths_are_not_masked(posterior):
    b = posterior.posterior.memberships.values
    assert set(np.unique(b)) == {0, 1}
    assert (posterior.posterior.strengths.values != 0).all()


@pytest.mark.parametrize(
    ("guide", "story", "sites", "sticks"),
    [
        (MeanField, {"sticks": "local"}, {"sticks", "memberships", "strengths"}, ("node",)),
        (StructuredMeanField, {"strengths": False}, {"sticks", "memberships"}, ()),
    ],
)
def test_the_latents_are_those_of_the_story(guide, story, sites, sticks):
    found = a_fit(guide=guide, steps=1, bias="none", **story).posterior(3).posterior
    assert set(found.data_vars) == sites
    assert found.sticks.dims == ("chain", "draw", *sticks, "community")


def test_one_draw_has_the_same_dimensions(fitted):
    found = fitted.posterior(1)
    assert found.posterior.memberships.shape == (1, 1, 34, K)
    assert found.posterior.sticks.shape == (1, 1, K)
    assert found.posterior.bias.shape == (1, 1)
    assert found.log_likelihood.edges.shape == (1, 1, 557)


def test_bad_numbers_of_draws_are_refused(fitted):
    with pytest.raises(ValueError, match="draws must be at least 1, not 0"):
        fitted.posterior(0)


def test_fewer_graphs_than_draws(fitted):
    found = fitted.posterior(9, predictive_draws=4)
    assert found.posterior.sizes["draw"] == found.log_likelihood.sizes["draw"] == 9
    assert found.posterior_predictive.sizes["draw"] == 4
    assert fitted.posterior(3, predictive_draws=5).posterior_predictive.sizes["draw"] == 3


# -- densities --------------------------------------------------------------------------------------


def _logits(posterior, i, j):
    """(draws, dyads) from the stored draws and the story's equations, decoder the identity."""
    p = posterior.posterior
    z = p.memberships.values[0].astype(np.float64)
    if "strengths" in p:
        z = z * p.strengths.values[0]
    s = (z[:, i] * z[:, j]).sum(-1)
    if "bias" in p:
        s = s + p.bias.values[0][:, None]
    if "node_bias" in p:
        e = p.node_bias.values[0]
        s = s + e[:, i] + e[:, j]
    return s


@pytest.mark.parametrize(
    "story",
    [
        {},
        {"bias": "global"},
        {"bias": "none", "strengths": False},
        {"class_weight": "balanced"},
    ],
    ids=["node", "global", "binary", "tempered"],
)
def test_the_log_likelihood_is_that_of_the_stored_draws(story):
    found = a_fit(steps=20, **story).posterior(25)
    i, j = found.constant_data.dyad_i.values, found.constant_data.dyad_j.values
    s = _logits(found, i, j)
    y = KARATE.dense_adjacency().numpy()[i, j]
    expected = np.where(y == 1, -np.logaddexp(0, -s), -np.logaddexp(0, s))
    np.testing.assert_allclose(found.log_likelihood.edges.values[0], expected, atol=2e-5)
    assert len(i) == 557


def test_missing_dyads_are_in_no_group(posterior):
    i, j = posterior.constant_data.dyad_i.values, posterior.constant_data.dyad_j.values
    stored = set(zip(i.tolist(), j.tolist(), strict=True))
    hidden = set(zip(*HIDDEN, strict=True))
    everything = {(a, b) for a in range(34) for b in range(a + 1, 34)}
    assert stored == everything - hidden
    assert len(i) == len(stored) == 561 - 4
    assert posterior.log_likelihood.sizes["dyad"] == posterior.observed_data.sizes["dyad"] == 557
    edges = set(zip(*KARATE.edge_index.tolist(), strict=True)) - hidden
    y = posterior.observed_data.edges.values
    assert {d for d, e in zip(zip(i.tolist(), j.tolist(), strict=True), y, strict=True) if e} == (
        edges
    )


def test_predictive_graphs_leave_missing_dyads_out_of_degrees_and_statistics(posterior):
    """As the observed graph does: degree and density are those of the observed dyads alone."""
    i, j = posterior.constant_data.dyad_i.values, posterior.constant_data.dyad_j.values
    drawn = posterior.posterior_predictive
    for draw in range(5):
        a = np.zeros((34, 34))
        a[i, j] = drawn.edges.values[0, draw]
        graph = nx.from_numpy_array(a + a.T)
        degrees = [graph.degree[n] for n in range(34)]
        np.testing.assert_array_equal(drawn.degree.values[0, draw], degrees)
        assert drawn.density.values[0, draw] == pytest.approx(a.sum() / 557)
        triangles = sum(nx.triangles(graph).values()) / 3
        assert drawn.triangles.values[0, draw] == pytest.approx(triangles)
    assert posterior.observed_data.density.item() == pytest.approx(77 / 557)
    assert posterior.observed_data.degree.values[0] == 15  # 16 links, one of them hidden


def test_predictive_edges_follow_the_probabilities_of_the_same_draws(fitted):
    """Given the latents, edges are Bernoulli: residuals over all dyads and draws are a z-score."""
    found = fitted.posterior(300, seed=2)
    i, j = found.constant_data.dyad_i.values, found.constant_data.dyad_j.values
    p = 1 / (1 + np.exp(-_logits(found, i, j)))
    y = found.posterior_predictive.edges.values[0]
    z = (y - p).sum() / np.sqrt((p * (1 - p)).sum())
    assert largest(z) < LIMIT
    by_dyad = (y - p).sum(0) / np.sqrt((p * (1 - p)).sum(0))
    assert abs(by_dyad).max() < 5.5
    law, total = stats.chi2(len(by_dyad)), (by_dyad**2).sum()
    assert smallest(2.0 * min(law.cdf(total), law.sf(total))) > LEVEL


def test_large_graphs_have_log_likelihoods_by_node(fitted):
    by_dyad = fitted.posterior(6, seed=1)
    with mock.patch.object(groups_module, "_DYAD_LIMIT", 556):
        by_node = fitted.posterior(6, seed=1)
    assert by_node.log_likelihood.edges.dims == ("chain", "draw", "node")
    assert "edges" not in by_node.posterior_predictive
    assert "edges" not in by_node.observed_data
    assert "dyad_i" not in getattr(by_node, "constant_data", {})
    np.testing.assert_array_equal(by_node.posterior.memberships, by_dyad.posterior.memberships)
    i, j = by_dyad.constant_data.dyad_i.values, by_dyad.constant_data.dyad_j.values
    one = by_dyad.log_likelihood.edges.values[0]
    halves = np.zeros((6, 34))
    for draw in range(6):
        np.add.at(halves[draw], i, one[draw] / 2)
        np.add.at(halves[draw], j, one[draw] / 2)
    np.testing.assert_allclose(by_node.log_likelihood.edges.values[0], halves, atol=2e-4)
    with mock.patch.object(groups_module, "_DYAD_LIMIT", 557):
        assert "edges" in fitted.posterior(1).posterior_predictive


# -- ArviZ ------------------------------------------------------------------------------------------


def test_arviz_summarises(posterior):
    table = az.summary(posterior, var_names=["sticks", "bias"])
    assert len(table) == K + 1
    drawn = posterior.posterior.bias.values
    assert float(table.loc["bias", "mean"]) == pytest.approx(drawn.mean(), abs=0.006)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_arviz_compares_by_leave_one_out(posterior):
    loo = az.loo(posterior, var_name="edges")
    assert loo.n_data_points == 557
    elpd = getattr(loo, "elpd_loo", None) or loo.elpd
    log_likelihood = posterior.log_likelihood.edges.values[0].astype(float)
    # elpd_loo <= lppd, and lppd by hand from the stored draws
    lppd = (np.logaddexp.reduce(log_likelihood, 0) - np.log(DRAWS)).sum()
    assert lppd - 60 < elpd < lppd


def test_arviz_plots_the_predictive_check(posterior):
    import matplotlib.pyplot as plt

    if hasattr(az, "plot_ppc"):  # ArviZ 0
        axes = az.plot_ppc(posterior, var_names=["degree"], random_seed=0)
        assert np.atleast_1d(axes).ravel()[0].has_data()
    else:
        assert az.plot_ppc_dist(posterior, var_names=["degree"]) is not None
    plt.close("all")


def test_it_goes_through_netcdf(posterior, tmp_path):
    posterior.to_netcdf(str(tmp_path / "p.nc"))
    again = from_netcdf(tmp_path / "p.nc")
    for group in GROUPS:
        one, two = getattr(posterior, group), getattr(again, group)
        assert set(one.data_vars) == set(two.data_vars)
        for name in one.data_vars:
            assert two[name].dims == one[name].dims
            assert two[name].dtype == one[name].dtype
            np.testing.assert_array_equal(one[name].values, two[name].values)
        assert list(two.coords) == list(one.coords)
    assert list(again.posterior.node.values) == list(KARATE.names)
    assert dict(again.attrs) == dict(posterior.attrs)
    again.close()


def test_attributes_state_how_it_was_made(fitted, posterior):
    attrs = posterior.attrs
    assert attrs["seed"] == 7
    assert attrs["story"] == "DGLFRM"
    assert attrs["guide"] == "StructuredMeanField"
    assert (attrs["tempered"], attrs["objective"]) == ("no", "ELBO")
    assert attrs["graph"] == "karate"
    assert attrs["graph_fingerprint"] == OBSERVED.fingerprint() != KARATE.fingerprint()
    assert json.loads(attrs["story_options"])["truncation"] == K
    assert json.loads(attrs["guide_options"])["hidden"] == [8]
    assert (attrs["steps"], attrs["learning_rate"], attrs["best_step"]) == (60, 0.05, -1)
    assert attrs["torch"] == torch.__version__
    assert set(fitted.settings.to_dict()) <= set(attrs)


@pytest.mark.parametrize(
    ("story", "options", "says"),
    [
        ({"class_weight": "balanced"}, {}, "yes: class_weight=balanced"),
        ({"class_weight": 3.0}, {}, "yes: class_weight=3.0"),
        ({}, {"kl_weight": 0.5}, "yes: kl_weight=0.5"),
        (
            {"class_weight": 2.0},
            {"kl_weight": 0.5},
            "yes: class_weight=2.0, kl_weight=0.5",
        ),
        ({}, {"kl_warmup": 5}, "no"),
    ],
)
def test_a_tempered_fit_says_so(story, options, says):
    attrs = a_fit(steps=1, options=options, **story).posterior(1).attrs
    assert attrs["tempered"] == says
    assert attrs["objective"] == ("ELBO" if says == "no" else "tempered ELBO")


def test_the_same_seed_gives_the_same_draws(fitted, posterior):
    again = fitted.posterior(DRAWS)
    other = fitted.posterior(DRAWS, seed=8)
    for group in GROUPS[:3]:
        for name in getattr(posterior, group).data_vars:
            one = getattr(posterior, group)[name].values
            np.testing.assert_array_equal(one, getattr(again, group)[name].values)
    assert (other.posterior.strengths.values != posterior.posterior.strengths.values).any()
    # what is observed does not depend on it
    assert other.observed_data.identical(again.observed_data) or all(
        (other.observed_data[n] == again.observed_data[n]).all() for n in STATISTICS
    )


# -- draws against the guide ------------------------------------------------------------------------


def _z(mean, p, n):
    return (mean - p) / np.sqrt(np.clip(p * (1 - p), 1e-12, None) / n)


def test_mean_field_memberships_have_the_guides_probabilities():
    found = a_fit(guide=MeanField, steps=40, bias="global")
    n = 3000
    b = found.posterior(n, predictive_draws=1).posterior.memberships.values[0].astype(float)
    with torch.no_grad():
        heads, _ = found.guide.encoder(OBSERVED)
    p = torch.sigmoid(heads["membership_logits"]).double().numpy()
    z = _z(b.mean(0), p, n)
    usual = (p * n > 10) & ((1 - p) * n > 10)
    assert usual.sum() > 60
    assert largest(z[usual]) < LIMIT
    law, total = stats.chi2(usual.sum()), (z[usual] ** 2).sum()
    assert smallest(2.0 * min(law.cdf(total), law.sf(total))) > LEVEL


def test_structured_memberships_follow_the_sticks_of_their_draw(fitted):
    n = 2000
    drawn = fitted.posterior(n, predictive_draws=1).posterior
    b = drawn.memberships.values[0].astype(float)
    v = torch.as_tensor(drawn.sticks.values[0])
    with torch.no_grad():
        heads, _ = fitted.guide.encoder(OBSERVED)
        logits = heads["membership_logits"] + activation_logits(v)[:, None]
    p = torch.sigmoid(logits).double().numpy()
    z = (b - p).sum(0) / np.sqrt((p * (1 - p)).sum(0).clip(1e-9))
    usual = (p.sum(0) > 10) & ((1 - p).sum(0) > 10)
    assert usual.sum() > 60
    assert largest(z[usual]) < LIMIT
    # and not only on average: within the upper half of draws by stick 0 too
    upper = v[:, 0].numpy() > np.median(v[:, 0].numpy())
    z = (b - p)[upper].sum() / np.sqrt((p * (1 - p))[upper].sum())
    assert largest(z) < LIMIT
    # the sticks themselves vary: their mean is that of the guide's Kumaraswamy
    c, d = (
        torch.nn.functional.softplus(x).detach().double().numpy()
        for x in (fitted.guide.stick_c_raw, fitted.guide.stick_d_raw)
    )
    from scipy.special import beta

    mean, second = d * beta(1 + 1 / c, d), d * beta(1 + 2 / c, d)
    z = (v.double().numpy().mean(0) - mean) / np.sqrt((second - mean**2) / n)
    assert largest(z) < LIMIT


def test_normal_latents_have_the_guides_moments(fitted):
    n = 3000
    drawn = fitted.posterior(n, predictive_draws=1).posterior
    with torch.no_grad():
        heads, _ = fitted.guide.encoder(OBSERVED)
    cases = [
        ("strengths", heads["strength_loc"], heads["strength_log_scale"]),
        ("node_bias", heads["node_bias_loc"][:, 0], heads["node_bias_log_scale"][:, 0]),
        ("bias", fitted.guide.bias_loc, fitted.guide.bias_log_scale),
    ]
    for name, loc, log_scale in cases:
        mu, sigma = loc.detach().double().numpy(), log_scale.detach().double().exp().numpy()
        x = drawn[name].values[0].astype(float)
        assert largest((x.mean(0) - mu) / (sigma / np.sqrt(n))) < LIMIT, name
        ratio = x.var(0) / sigma**2
        assert largest((ratio - 1) / np.sqrt(2 / n)) < LIMIT, name


def test_chunks_of_draws_have_the_same_law_and_other_numbers(fitted):
    n = 400
    whole = fitted.posterior(n, seed=1)
    # a chunk of 7 draws: 400 = 57 * 7 + 1
    width = 1 + 557 // 34
    with mock.patch.object(draws_module, "_ELEMENTS", 7 * 34 * width):
        chunked = fitted.posterior(n, seed=1)
    for group in ("posterior", "log_likelihood", "posterior_predictive"):
        assert chunked[group].sizes["draw"] == n
    assert not np.array_equal(whole.posterior.strengths, chunked.posterior.strengths)
    for group, name in [
        ("posterior", "memberships"),
        ("posterior", "strengths"),
        ("posterior", "sticks"),
        ("posterior", "bias"),
        ("posterior_predictive", "edges"),
        ("posterior_predictive", "degree"),
        ("posterior_predictive", "triangles"),
    ]:
        a, b = (x[group][name].values[0].astype(float) for x in (whole, chunked))
        spread = np.sqrt((a.var(0) + b.var(0)) / n)
        varies = spread > np.sqrt(2 * 0.03 / n) * (1 if name in ("memberships", "edges") else 0)
        assert varies.any()
        z = ((a.mean(0) - b.mean(0)) / np.where(spread > 0, spread, 1))[varies]
        assert largest(z) < LIMIT, name


# -- checks -----------------------------------------------------------------------------------------


def test_the_check_is_the_one_by_hand(posterior):
    checks = posterior_predictive_check(posterior)
    assert [c.statistic for c in checks] == list(STATISTICS)
    for check in checks:
        drawn = posterior.posterior_predictive[check.statistic].values.ravel().astype(float)
        observed = posterior.observed_data[check.statistic].values.item()
        above = sum(1.0 for d in drawn if d > observed * (1 + 1e-9) + 1e-12)
        ties = sum(1.0 for d in drawn if abs(d - observed) <= 1e-9 * abs(observed) + 1e-12)
        assert check.observed == observed
        assert check.draws == DRAWS
        assert check.p_value == pytest.approx((above + ties / 2) / DRAWS), check.statistic
        assert check.mean == pytest.approx(drawn.mean(), rel=1e-5)
        np.testing.assert_allclose(
            (check.low, check.high), np.quantile(drawn, [0.05, 0.95]), rtol=1e-5
        )
        assert check.meaning == STATISTICS[check.statistic]


@pytest.mark.parametrize("at_once", [4_000_000, 1, 2 * 34**2])
def test_equal_graphs_are_ties_for_every_statistic(at_once):
    """Predictive graphs that are the observed graph: p = 1/2 throughout, whatever is drawn at once."""

    class Same:
        """Edge distribution of which every draw is the observed graph."""

        directed = False

        def one(self, draw):
            return self

        def sample_entries(self):
            return OBSERVED.edge_index, torch.ones(OBSERVED.num_edges)

        def some(self, draws):
            self.count = draws.stop - draws.start
            return self

        def sample(self):
            return OBSERVED.dense_adjacency().expand(self.count, -1, -1)

    groups = groups_module.DrawGroups.of(DGLFRM(OBSERVED.num_nodes, K), OBSERVED, 3)
    with mock.patch.object(groups_module, "_ENTRIES", at_once):
        groups._predict(Same(), 3)
    drawn = {k: np.concatenate(v) for k, v in groups.predictive.items()}
    observed, _ = groups.observed()
    assert drawn["edges"].shape == (3, 557)
    np.testing.assert_array_equal(drawn["edges"], np.tile(observed["edges"], (3, 1)))
    np.testing.assert_array_equal(drawn["degree"], np.tile(observed["degree"], (3, 1)))
    p = {k: p_value(drawn[k], observed[k].item()) for k in STATISTICS}
    assert p == dict.fromkeys(STATISTICS, 0.5)


def test_checks_are_a_table_in_a_notebook(posterior):
    checks = posterior_predictive_check(posterior)
    table = checks.table
    assert list(table.index) == list(STATISTICS)
    assert list(table.columns) == ["observed", "mean", "low", "high", "p_value", "draws", "meaning"]
    assert table.loc["density", "observed"] == pytest.approx(77 / 557)
    assert "<td>edges per dyad</td>" in checks._repr_html_()


def test_p_values_by_hand():
    assert p_value([1, 2, 3, 4], 2.5) == 0.5
    assert p_value([1, 2, 3, 4], 2) == 0.5 + 0.125
    assert p_value([5, 5], 5) == 0.5
    assert p_value([6, 7], 5) == 1.0
    assert p_value([1, 2], 5) == 0.0
    assert p_value([1, np.nan, 9], 5) == 0.5
    assert np.isnan(p_value([], 5))
    assert np.isnan(p_value([1.0], np.nan))


# -- statistics against NetworkX --------------------------------------------------------------------


def _networkx(graph, labels):
    degrees = np.array([d for _, d in graph.degree()], dtype=float)
    ends = [(graph.degree[a], graph.degree[b]) for a, b in graph.edges()]
    ends = np.array(ends + [e[::-1] for e in ends], dtype=float).reshape(-1, 2)
    varied = len(ends) and ends[:, 0].std() > 1e-9
    assortativity = nx.degree_pearson_correlation_coefficient(graph) if varied else 0.0
    largest = graph.subgraph(max(nx.connected_components(graph), key=len))
    lengths = [
        length
        for source, found in nx.all_pairs_shortest_path_length(graph)
        for target, length in found.items()
        if target != source
    ]
    labelled = graph.subgraph([n for n in graph if labels[n] >= 0]).copy()
    nx.set_node_attributes(labelled, {n: int(labels[n]) for n in labelled}, "label")
    among = {labels[n] for edge in labelled.edges() for n in edge}
    return {
        "density": nx.density(graph),
        "degree_sd": degrees.std(),
        "max_degree": degrees.max(),
        "triangles": sum(nx.triangles(graph).values()) / 3,
        "transitivity": nx.transitivity(graph),
        "clustering": nx.average_clustering(graph),
        "assortativity": assortativity,
        "label_assortativity": (
            nx.attribute_assortativity_coefficient(labelled, "label") if len(among) > 1 else 0.0
        ),
        "components": nx.number_connected_components(graph),
        "isolated": nx.number_of_isolates(graph),
        "largest_component": len(largest) / len(graph),
        "path_length": np.mean(lengths) if lengths else 0.0,
        "diameter": nx.diameter(largest),
        "spectral_radius": nx.adjacency_spectrum(graph).real.max(),
        "spectral_gap": nx.normalized_laplacian_spectrum(largest)[1] if len(largest) > 1 else 0.0,
    }


GRAPHS = {
    "no dyad": nx.empty_graph(2),
    "one dyad": nx.path_graph(2),
    "edgeless": nx.empty_graph(6),
    "one edge": nx.from_edgelist([(0, 1)], nx.empty_graph(3).__class__),
    "star": nx.star_graph(7),
    "complete": nx.complete_graph(5),
    "cycle": nx.cycle_graph(8),
    "two triangles": nx.disjoint_union(nx.complete_graph(3), nx.complete_graph(3)),
    "path and isolated": nx.disjoint_union(nx.path_graph(4), nx.empty_graph(2)),
    "karate": nx.Graph(nx.karate_club_graph().edges()),
    **{
        f"random {n} {p}": nx.gnp_random_graph(n, p, seed=n)
        for n, p in [
            (5, 0.3),
            (12, 0.1),
            (20, 0.2),
            (30, 0.05),
            (30, 0.5),
            (40, 0.9),
            (60, 0.08),
            (65, 0.03),
            (130, 0.02),
        ]
    },
}


def _statistics(graphs, labels=None, **options):
    """Those of graphs of as many nodes each, taken together."""
    n = len(graphs[0])
    pairs = [
        np.array(list(g.edges()), dtype=int).reshape(-1, 2).T + b * n for b, g in enumerate(graphs)
    ]
    adjacency = block_adjacency(np.concatenate(pairs, axis=1), n, len(graphs))
    return graph_statistics(adjacency, len(graphs), labels=labels, **options)


def _labels(n):
    return np.random.default_rng(n).integers(-1, 3, n)


@pytest.mark.parametrize("name", GRAPHS)
def test_statistics_are_those_of_networkx(name):
    graph = GRAPHS[name]
    n, labels = len(graph), _labels(len(graph))
    found = {k: v.item() for k, v in _statistics([graph], labels).items()}
    expected = _networkx(graph, labels)
    left_out = {"spectral_gap"} if n > 100 else set()
    left_out |= set() if (labels >= 0).any() else {"label_assortativity"}
    assert list(found) == [name for name in STATISTICS if name not in left_out]
    assert found == pytest.approx({k: expected[k] for k in found}, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 40, 64, 70, 129])
def test_statistics_of_many_graphs_at_once_are_those_of_each(n):
    """Empty, complete and broken graphs side by side: nothing of one graph is counted in another."""
    shares = (0.0, 1.5 / n, 0.02, 0.0, 0.1, *((1.0, 0.5, 1.0) if n < 100 else ()))
    graphs = [nx.gnp_random_graph(n, p, seed=seed) for seed, p in enumerate(shares)]
    together, labels = _statistics(graphs, _labels(n)), _labels(n)
    for b, graph in enumerate(graphs):
        expected = _networkx(graph, labels)
        found = {k: v[b] for k, v in together.items()}
        assert found == pytest.approx({k: expected[k] for k in found}, abs=1e-9), b


def test_paths_in_blocks_of_sources_and_triangles_by_dense_products_are_the_same():
    graphs = [nx.gnp_random_graph(150, p, seed=1) for p in (0.01, 0.03, 0.4)]
    with mock.patch.multiple(statistics_module, _WORDS_AT_ONCE=1, _SPARSE=0.0):
        one = _statistics(graphs)
    with mock.patch.object(statistics_module, "_SPARSE", np.inf):
        two = _statistics(graphs)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-12)


def test_what_costs_too_much_on_large_graphs_is_left_out():
    sizes = {100: set(), 101: {"spectral_gap"}, 500: {"spectral_gap"}}
    sizes[501] = sizes[1000] = {"spectral_gap", "path_length", "diameter"}
    sizes[1001] = {"spectral_gap", "path_length", "diameter", "spectral_radius"}
    for n, left_out in sizes.items():
        found = _statistics([nx.cycle_graph(n)], np.zeros(n, dtype=int))
        assert set(STATISTICS) - set(found) == left_out


def test_statistics_of_a_star_by_hand():
    star = nx.star_graph(4)
    labels = np.array([0, 0, 0, 1, -1])  # 2 of the 3 edges with labels are within one
    found = {k: v.item() for k, v in _statistics([star], labels).items()}
    assert found == pytest.approx(
        {
            "density": 0.4,
            "degree_sd": 1.2,
            "max_degree": 4,
            "triangles": 0,
            "transitivity": 0,
            "clustering": 0,
            "assortativity": -1,
            "label_assortativity": (2 / 3 - 26 / 36) / (1 - 26 / 36),
            "components": 1,
            "isolated": 0,
            "largest_component": 1,
            "path_length": (4 * 1 + 6 * 2) / 10,
            "diameter": 2,
            "spectral_radius": 2,
            "spectral_gap": 1,
        }
    )
    assert _statistics([star], num_dyads=8)["density"] == 0.5
    assert _statistics([star], num_edges=np.array([5]))["density"] == 0.5  # one is an arc both ways
    assert "label_assortativity" not in _statistics([star])
    assert "label_assortativity" not in _statistics([star], np.full(5, -1))


def test_weights_of_several_graphs_by_hand():
    found = weight_statistics(np.array([2.0, 4.0, -1.0]), 4, np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(found["total_weight"], [6, 0, -1])
    np.testing.assert_allclose(found["max_weight"], [4, 0, 0])
    sds = [np.std([2, 4, 0, 0]), 0, np.std([-1, 0, 0, 0])]
    np.testing.assert_allclose(found["weight_sd"], sds)


@pytest.mark.parametrize("n", [7, 23, 60, 61])
def test_assortativity_of_a_regular_graph_is_zero_not_noise(n):
    """Every degree is the same: the correlation is not defined, and rounding must not make it +-1."""
    assert _statistics([nx.cycle_graph(n)])["assortativity"] == 0.0
