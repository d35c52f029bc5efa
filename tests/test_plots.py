"""Pictures and the report state what they should: orders, numbers, words, and nothing fetched."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
from markupsafe import Markup

from graphlore import plots
from graphlore.inference._arviz import to_arviz
from graphlore.plots.checks import format_p

STATISTICS = tuple(plots.STATISTICS)


@dataclass
class FakeGraph:
    """What pictures may use of a Graph."""

    num_nodes: int
    edge_index: np.ndarray
    missing: np.ndarray
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    title: str = "a graph"
    directed: bool = False


def karate() -> FakeGraph:
    network = nx.karate_club_graph()
    labels = np.array([network.nodes[n]["club"] != "Mr. Hi" for n in network]).astype(int)
    edges = np.array(sorted(tuple(sorted(edge)) for edge in network.edges)).T
    missing = np.array([[0, 4, 9, 20, 24], [9, 25, 30, 22, 26]])
    names = tuple(str(n + 1) for n in range(34))
    return FakeGraph(34, edges, missing, labels, ("Mr. Hi", "Officer"), names, "karate club")


def big(count: int = 3000, groups: int = 12, seed: int = 1) -> FakeGraph:
    rng = np.random.default_rng(seed)
    labels = rng.choice(groups, size=count, p=rng.dirichlet(np.full(groups, 4.0)))
    upper = np.triu_indices(count, 1)
    same = labels[upper[0]] == labels[upper[1]]
    activity = rng.gamma(3.0, 1 / 3.0, size=count)
    chance = np.where(same, 0.012, 0.0006) * activity[upper[0]] * activity[upper[1]]
    edges = np.array(upper)[:, rng.random(len(same)) < chance]
    held = np.array(upper)[:, rng.choice(len(same), size=min(2000, len(same) // 9), replace=False)]
    return FakeGraph(count, edges, held, labels, tuple(f"topic {k}" for k in range(groups)))


def statistics_of(matrix: np.ndarray, whole: bool = True) -> dict[str, float]:
    """Compute the scalar statistics of an adjacency matrix of shape (N, N)."""
    count = len(matrix)
    degree = matrix.sum(1)
    rough = {
        "density": float(degree.sum() / (count * (count - 1))),
        "degree_sd": float(degree.std()),
        "max_degree": int(degree.max()),
        "isolated": int((degree == 0).sum()),
    }
    network = nx.from_numpy_array(matrix)
    rough["components"] = nx.number_connected_components(network)
    if not whole:
        return rough
    return rough | {
        "triangles": sum(nx.triangles(network).values()) // 3,
        "transitivity": nx.transitivity(network),
        "assortativity": nx.degree_assortativity_coefficient(network),
    }


def fake_result(
    graph: FakeGraph, communities: int, draws: int, *, local: bool = False, seed: int = 0
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Make a posterior around the labels; return it, link probabilities and one generated graph."""
    rng = np.random.default_rng(seed)
    count, truncation = graph.num_nodes, communities + 4
    chance = np.full((count, truncation), 0.01)
    place = rng.permutation(communities)
    chance[np.arange(count), place[graph.labels % communities]] = rng.uniform(0.8, 1.0, count)
    second = rng.random(count) < 0.25
    other = place[rng.integers(communities, size=count)]
    chance[second, other[second]] = rng.uniform(0.4, 0.95, int(second.sum()))
    b = (rng.random((1, draws, count, truncation)) < chance).astype(np.int8)
    centre = rng.normal(size=(count, truncation)) + np.sign(rng.normal(size=truncation)) * 1.2
    r = (centre + 0.3 * rng.normal(size=(1, draws, count, truncation))).astype(np.float32)
    used = np.sort(chance.mean(0))[::-1]
    ratio = used / np.concatenate([[1.0], used[:-1]])
    shape = (1, draws, count, truncation) if local else (1, draws, truncation)
    v = np.clip(rng.beta(40 * ratio + 0.5, 40 * (1 - ratio) + 0.5, size=shape), 0.01, 1)

    known = chance @ chance.T
    observed = np.zeros((count, count), int)
    observed[graph.edge_index[0], graph.edge_index[1]] = 1
    observed |= observed.T
    degree = observed.sum(1)
    link = (0.15 + 0.85 * known) * np.sqrt(np.outer(degree + 0.5, degree + 0.5))
    link = np.clip(link * degree.sum() / link.sum(), 0, 0.95)
    link = (link + link.T) / 2
    np.fill_diagonal(link, np.nan)

    replicates, degrees, first = [], [], None
    for _ in range(draws):
        matrix = np.triu(rng.random((count, count)) < np.nan_to_num(link), 1).astype(int)
        matrix |= matrix.T
        first = matrix if first is None else first
        replicates.append(statistics_of(matrix, whole=count < 100))
        degrees.append(matrix.sum(1))
    seen = statistics_of(observed, whole=count < 100)
    posterior = {"sticks": v, "memberships": b, "strengths": r}
    predictive = {name: np.array([[row[name] for row in replicates]]) for name in seen}
    predictive["degree"] = np.array(degrees)[None]
    names = list(graph.names) if graph.names is not None else list(range(count))
    idata = to_arviz(
        {
            "posterior": posterior,
            "posterior_predictive": predictive,
            "observed_data": {**{k: np.array(v) for k, v in seen.items()}, "degree": degree},
        },
        {"node": names, "community": list(range(truncation))},
        {
            "sticks": ["node", "community"] if local else ["community"],
            "memberships": ["node", "community"],
            "strengths": ["node", "community"],
            "degree": ["node"],
            **{name: [] for name in seen},
        },
        {"story": "DGLFRM", "alpha": 2.0, "seed": 0, "tempered": "no"},
    )
    assert first is not None
    return idata, link, first


def fake_history(steps: int = 2000, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    at = np.arange(1, steps + 1)
    curve = -215.0 - 2000 * np.exp(-at / 60) - 40 * np.exp(-at / 500)
    checks = at[99::100]
    return {
        "step": at.tolist(),
        "elbo": (curve + 9 * rng.standard_t(4, size=steps)).tolist(),
        "active_communities": (
            1.3 + 3 * np.exp(-at / 300) + 0.05 * rng.normal(size=steps)
        ).tolist(),
        "seconds": (0.01 * at).tolist(),
        "val_step": checks.tolist(),
        "val_auc": (0.86 - 0.3 * np.exp(-checks / 400)).tolist(),
        "val_ap": (0.71 - 0.4 * np.exp(-checks / 500)).tolist(),
        "best_step": 1600,
    }


@pytest.fixture(scope="module")
def club() -> tuple[FakeGraph, Any, np.ndarray, np.ndarray]:
    graph = karate()
    return graph, *fake_result(graph, 4, 100)


pytestmark = pytest.mark.usefixtures("pictures_closed")


# --- orders ---------------------------------------------------------------------------------------


def test_node_order_groups_blocks_and_sorts_by_weight() -> None:
    rng = np.random.default_rng(3)
    block = rng.permutation(np.repeat([0, 1, 2], [5, 20, 10]))
    weights = np.full((35, 3), 0.02)
    weights[np.arange(35), block] = rng.uniform(0.6, 1.0, 35)
    order = plots.node_order(weights)
    assert sorted(order) == list(range(35))
    # The most used community comes first, and every community is one unbroken run.
    assert list(block[order]) == [1] * 20 + [2] * 10 + [0] * 5
    own = weights[order, block[order]]
    for k in (0, 1, 2):
        assert (np.diff(own[block[order] == k]) <= 1e-9).all()


def test_node_order_sees_blocks_below_a_community_that_everyone_shares() -> None:
    rng = np.random.default_rng(4)
    second = rng.permutation(np.repeat([1, 2], 15))
    weights = np.full((30, 3), 0.03)
    weights[:, 0] = rng.uniform(0.97, 1.0, 30)
    weights[np.arange(30), second] = rng.uniform(0.95, 1.0, 30)
    runs = np.count_nonzero(np.diff(second[plots.node_order(weights)]))
    assert runs == 1


def test_node_order_is_the_same_from_a_result_and_from_its_means(club: Any) -> None:
    _, idata, _, _ = club
    means = idata.posterior["memberships"].mean(("chain", "draw")).values
    alone = {"posterior": {"memberships": idata.posterior["memberships"].values}}
    without = to_arviz(alone, {}, {"memberships": ["node", "community"]}, {})
    np.testing.assert_array_equal(plots.node_order(without), plots.node_order(means))


def test_with_strengths_nodes_of_one_sign_stand_together(club: Any) -> None:
    _, idata, _, _ = club
    means = (idata.posterior["memberships"] * idata.posterior["strengths"]).mean(("chain", "draw"))
    embedding = means.values[plots.node_order(idata)]
    signed = np.concatenate((np.maximum(embedding, 0), np.maximum(-embedding, 0)), axis=1)
    groups = signed.argmax(1)
    # each group is one run: as many changes as groups, less one
    assert (np.diff(groups) != 0).sum() == len(set(groups)) - 1


def test_drawing_order_drops_inactive_communities(club: Any) -> None:
    _, idata, _, _ = club
    order = plots.drawing_order(idata)
    use = idata.posterior["memberships"].mean(("chain", "draw", "node")).values
    assert set(order.communities) == {0, 1, 2, 3}
    assert order.dropped == 4
    assert (np.diff(use[order.communities]) <= 0).all()
    ax = plots.memberships(idata)
    assert "4 of 8 communities; 4 inactive" in ax.get_title(loc="left")


def test_spectral_order_separates_two_cliques_in_shuffled_order() -> None:
    rng = np.random.default_rng(0)
    side = rng.permutation(np.repeat([0, 1], 10))
    matrix = (side[:, None] == side[None]).astype(float)
    matrix[0, :] = matrix[:, 0] = 1.0
    order = plots.spectral_order(matrix)
    runs = np.count_nonzero(np.diff(side[order][side[order] >= 0]))
    assert runs <= 3
    assert sorted(order) == list(range(20))


# --- latents --------------------------------------------------------------------------------------


def test_memberships_draws_the_means_in_node_order(club: Any) -> None:
    graph, idata, _, _ = club
    ax = plots.memberships(idata, graph)
    order = plots.drawing_order(idata)
    means = idata.posterior["memberships"].mean(("chain", "draw")).values
    np.testing.assert_allclose(
        ax.images[0].get_array(), means[np.ix_(order.nodes, order.communities)]
    )
    shown = [tick.get_text() for tick in ax.get_yticklabels()]
    assert shown == [graph.names[node] for node in order.nodes]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["Mr. Hi", "Officer"]


def test_strengths_counts_only_draws_with_membership(club: Any) -> None:
    graph, idata, _, _ = club
    b, r = (idata.posterior[name].values for name in ("memberships", "strengths"))
    order = plots.drawing_order(idata)
    expected = (b * r).mean((0, 1))[np.ix_(order.nodes, order.communities)]
    image = plots.strengths(idata, graph).images[0]
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-5, atol=1e-6)
    low, high = image.get_clim()
    assert low == -high


@pytest.mark.parametrize("local", [False, True])
def test_sticks_shows_products_of_sticks_and_the_prior_mean(local: bool) -> None:
    graph = karate()
    idata, _, _ = fake_result(graph, 3, 30, local=local)
    ax = plots.sticks(idata, alpha=3.0)
    prior = next(line for line in ax.get_lines() if line.get_label() == "prior mean")
    np.testing.assert_allclose(prior.get_ydata(), 0.75 ** np.arange(1, 8))
    v = idata.posterior["sticks"].values
    pi = np.cumprod(v, axis=-1).reshape(-1, 7)
    middle = ax.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(middle, np.quantile(pi, 0.5, axis=0))
    share = idata.posterior["memberships"].values.mean((0, 1, 2))
    np.testing.assert_allclose(ax.containers[1].lines[0].get_ydata(), share)


def test_sticks_takes_alpha_from_the_result_and_does_without(club: Any) -> None:
    _, idata, _, _ = club
    assert "α = 2" in plots.sticks(idata).get_title(loc="left")
    bare = idata.copy()
    bare.attrs = {}
    assert "α" not in plots.sticks(bare).get_title(loc="left")


# --- training -------------------------------------------------------------------------------------


def test_running_median_ignores_one_spike() -> None:
    curve = np.zeros(50)
    curve[20] = 1e9
    assert (plots.running_median(curve, window=5) == 0).all()


def test_elbo_limits_are_not_set_by_the_start() -> None:
    history = fake_history()
    history["elbo"][0] = -1e7
    ax = plots.elbo(history)
    low, high = ax.get_ylim()
    assert low > -1000
    assert high < 0
    end = np.median(history["elbo"][-101:])
    assert f"{end:,.1f}".replace("-", "−") in ax.get_title(loc="left")
    best = 0.86 - 0.3 * math.exp(-1600 / 400)
    assert f"best: area under ROC {best:.3f}" in ax.figure.axes[1].get_title(loc="left")


def test_elbo_of_a_fit_marks_the_step_that_validation_chose() -> None:
    columns = fake_history(300)
    best = columns.pop("best_step")
    assert best not in columns["val_step"]
    fit = SimpleNamespace(history=columns, best_step=200)
    ax = plots.elbo(fit)
    below = ax.figure.axes[1]
    for panel in (ax, below):
        (line,) = [x for x in panel.get_lines() if x.get_label() == "best step 200"]
        assert line.get_xdata()[0] == 200
    marks = {float(x.get_xdata()[0]): float(x.get_ydata()[0]) for x in below.get_lines()
             if x.get_markersize() == 9}  # fmt: skip
    at = columns["val_step"].index(200)
    assert marks == {200.0: columns["val_ap"][at]}  # the last of the two scores drawn
    assert "best: area under ROC" in below.get_title(loc="left")
    assert f"{columns['val_auc'][at]:.3f}" in below.get_title(loc="left")


def test_elbo_without_steps_is_by_epochs() -> None:
    assert plots.elbo({"elbo": [-3.0, -2.0, -1.0]}).get_xlabel() == "epoch"


def test_elbo_draws_into_given_axes() -> None:
    figure, mine = plt.subplots()
    assert plots.elbo(fake_history(200), mine) is mine
    assert {axes.get_ylabel() for axes in figure.axes} == {"ELBO (nats)", "validation score"}


def test_elbo_survives_infinities() -> None:
    ax = plots.elbo({"step": [1, 2, 3], "elbo": [-math.inf, math.nan, -3.0]})
    assert np.isfinite(ax.get_ylim()).all()


# --- graphs ---------------------------------------------------------------------------------------


def test_adjacency_has_one_order_one_colour_scale_and_marks_missing_dyads(club: Any) -> None:
    graph, idata, link, _ = club
    order = plots.node_order(idata)
    left, right = plots.adjacency(graph, link, order)
    assert left.images[0].norm is right.images[0].norm
    seen = np.ma.filled(left.images[0].get_array(), np.nan)
    assert np.nansum(seen) == 2 * graph.edge_index.shape[1]
    np.testing.assert_allclose(
        np.ma.filled(right.images[0].get_array(), np.nan),
        link[np.ix_(order, order)],
        rtol=1e-6,
    )
    marked = ~np.ma.getmaskarray(left.images[1].get_array())
    pairs = {tuple(sorted(order[[i, j]])) for i, j in np.argwhere(marked)}
    assert pairs == {tuple(pair) for pair in graph.missing.T}


def test_block_means_leave_out_what_is_missing() -> None:
    from graphlore.plots.graphs import block_means

    matrix = np.arange(16.0).reshape(4, 4)
    matrix[0, 0] = np.nan
    matrix[2:, 2:] = np.nan
    means = block_means(matrix, 2)
    np.testing.assert_allclose(means, [[10 / 3, 4.5], [10.5, np.nan]])


def test_generated_keeps_nodes_in_place_and_counts_edges(club: Any) -> None:
    graph, _, _, sample = club
    panels = plots.generated(graph, sample)
    left, right = (panel.collections[1].get_offsets() for panel in panels)
    np.testing.assert_array_equal(left, right)
    assert "Observed: 78 edges" in panels[0].get_title(loc="left")
    assert f"Generated: {sample.sum() // 2} edges" in panels[1].get_title(loc="left")
    gaps = np.linalg.norm(left[:, None] - left[None], axis=-1) + np.eye(len(left))
    assert gaps.min() > 0.05


def test_generated_and_adjacency_of_a_graph_beyond_drawing_links() -> None:
    graph = big(450, 4)
    graph.labels = None
    order = np.random.default_rng(0).permutation(450)
    sample = np.zeros((450, 450), int)
    sample[2, 7] = sample[7, 2] = 1
    panels = plots.generated(graph, sample, order=order)
    rank = np.argsort(order)
    cell = rank * 250 // 450
    filled = {tuple(place) for place in np.argwhere(panels[1].images[0].get_array())}
    assert filled == {(cell[2], cell[7]), (cell[7], cell[2])}
    left, _ = plots.adjacency(graph, np.full((450, 450), 0.01))
    assert left.images[0].get_array().shape == (100, 100)


def test_wrong_shapes_are_refused(club: Any) -> None:
    graph, _, link, sample = club
    with pytest.raises(ValueError, match="link_probabilities"):
        plots.adjacency(graph, link[:5, :5])
    with pytest.raises(ValueError, match="sample"):
        plots.generated(graph, sample[:5])
    with pytest.raises(ValueError, match="2 panels"):
        plots.generated(graph, sample, axes=[plt.subplots()[1]])


# --- checks ---------------------------------------------------------------------------------------


def test_p_value_counts_ties_half() -> None:
    assert plots.p_value([1, 2, 3, 4], 2.5) == 0.5
    assert plots.p_value([1, 2, 2, 4], 2) == pytest.approx(0.5)
    assert plots.p_value([1, 1, 1], 1) == 0.5
    assert plots.p_value([0, 0, 1, np.nan], 5) == 0.0
    assert math.isnan(plots.p_value([1.0, 2.0], math.nan))


def test_verdicts() -> None:
    assert plots.verdict(0.43) == "consistent with the model"
    assert plots.verdict(0.02, "triangles") == "the model understates the number of triangles"
    assert plots.verdict(0.97) == "the model overstates the statistic"
    assert plots.verdict(1.0, "max_degree") == "the model strongly overstates the largest degree"
    assert plots.verdict(math.nan) == "not defined for this graph"
    few = "the model overstates the largest degree in all 6 graphs drawn"
    assert plots.verdict(1.0, "max_degree", 6) == few
    assert plots.verdict(0.02, "max_degree", 50) == "the model understates the largest degree"
    with pytest.raises(ValueError, match="between 0 and 1"):
        plots.verdict(1.5)


@pytest.mark.parametrize(
    ("p", "draws", "words"),
    [
        (0.43, 6, "p = 0.43"),
        (0.0, 6, "p < 0.17"),
        (1.0, 6, "p > 0.83"),
        (1 / 12, 6, "p = 0.08"),
        (5 / 6 + 1 / 12, 6, "p = 0.92"),
        (0.0, 1000, "p < 0.01"),
        (0.0049, 1000, "p < 0.01"),
        (math.nan, 0, "p not defined"),
    ],
)
def test_p_values_are_no_finer_than_the_draws(p: float, draws: int, words: str) -> None:
    assert format_p(p, draws) == words


def test_p_values_in_titles_are_those_computed(club: Any) -> None:
    _, idata, _, _ = club
    panels = plots.posterior_predictive(idata)
    shown = [name for name in STATISTICS if name in idata.observed_data]
    assert len(panels) == len(shown) == 8
    for panel, name in zip(panels, shown, strict=True):
        values = idata.posterior_predictive[name].values.ravel()
        observed = idata.observed_data[name].values.item()
        p = np.mean(values > observed) + 0.5 * np.mean(values == observed)
        words = panel.get_title(loc="left").splitlines()[1]
        if 0.005 <= p <= 0.995:
            assert words == f"p = {p:.2f}"
        else:
            assert words == ("p < 0.01" if p < 0.5 else "p > 0.99")
        assert panel.get_lines()[0].get_xdata()[0] == observed


def test_degrees_shows_the_share_of_nodes_at_or_above(club: Any) -> None:
    _, idata, _, _ = club
    ax = plots.degrees(idata)
    observed = next(line for line in ax.get_lines() if line.get_label() == "observed")
    degree = idata.observed_data["degree"].values
    expected = [(degree >= d).mean() for d in range(degree.max() + 1)]
    np.testing.assert_allclose(observed.get_ydata(), expected)


def test_calibration_bins_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
    y = np.array([0, 1, 0, 0, 1, 1])
    table = plots.reliability(p, y, bins=3)
    np.testing.assert_allclose(table.predicted, [0.15, 0.35, 0.7])
    np.testing.assert_allclose(table.observed, [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(table.count, [2, 2, 2])
    assert table.ece == pytest.approx((0.35 + 0.35 + 0.3) / 3)
    assert "ECE = 0.3333" in plots.calibration(p, y, bins=3).get_title(loc="left")


def test_calibration_keeps_equal_predictions_together() -> None:
    table = plots.reliability([0.2] * 7 + [0.9], [0] * 7 + [1], bins=4)
    np.testing.assert_array_equal(table.count, [7, 1])
    assert table.ece == pytest.approx((7 * 0.2 + 0.1) / 8)


def test_calibration_of_calibrated_predictions_is_small_and_logarithmic_when_sparse() -> None:
    rng = np.random.default_rng(0)
    p = np.exp(rng.uniform(np.log(1e-4), np.log(0.05), 200_000))
    ax = plots.calibration(p, rng.random(p.size) < p)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert float(re.search(r"ECE = ([\d.]+)", ax.get_title(loc="left"))[1]) < 0.001  # type: ignore[index]


def test_ranking_curves_state_their_areas() -> None:
    y, s = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    assert "area = 0.750" in plots.roc(s, y).get_title(loc="left")
    assert "average precision = 0.833" in plots.precision_recall(s, y).get_title(loc="left")
    with pytest.raises(ValueError, match="both edges"):
        plots.roc(s, np.ones(4))


# --- all pictures, the report ---------------------------------------------------------------------

NAMES = [
    "elbo",
    "memberships",
    "communities",
    "strengths",
    "sticks",
    "embedding",
    "adjacency",
    "generated",
    "posterior_predictive",
    "degrees",
    "held_out",
]


@pytest.fixture(scope="module")
def pictures(club: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    graph, idata, link, sample = club
    folder = tmp_path_factory.mktemp("pictures")
    pairs = (np.array([0, 1, 0, 1]), np.array([0.1, 0.7, 0.3, 0.6]), None)
    history = fake_history(300)
    return plots.save_all(idata, history, graph, link, sample, folder, held_out=pairs, dpi=50)


def test_save_all_writes_each_picture_under_its_name(pictures: dict[str, Path]) -> None:
    assert list(pictures) == NAMES
    for name, path in pictures.items():
        assert path.name == f"{name}.png"
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert plt.get_fignums() == []


def test_save_all_leaves_out_what_a_story_does_not_have(tmp_path: Path) -> None:
    graph = karate()
    idata = to_arviz({"posterior": {"embedding": np.zeros((1, 3, 34, 2))}}, {}, {}, {})
    written = plots.save_all(idata, None, graph, np.full((34, 34), 0.1), None, tmp_path, dpi=40)
    assert list(written) == ["embedding", "adjacency"]
    bare = to_arviz({"posterior": {"bias": np.zeros((1, 3))}}, {}, {}, {})
    one_kind = (np.ones(4), np.full(4, 0.5), None)
    kept = plots.save_all(bare, None, graph, None, None, tmp_path, held_out=one_kind, dpi=40)
    assert kept == {}


def write(path: Path, pictures: dict[str, Path], **changes: Any) -> str:
    settings: dict[str, Any] = {
        "title": "DGLFRM on <karate>",
        "story": "v_k ~ Beta(alpha, 1)\nb_nk ~ Bernoulli(pi_k)",
        "settings": {"steps": 2000, "learning_rate": 0.01},
        "data": {"nodes": 34, "edges": 78},
        "numbers": [("ELBO", -216.1, "a lower bound on the log evidence, in nats")],
        "checks": [("triangles", 45, 22.1, 11, 38, 0.01, 200, "")],
        "pictures": {name: (path, f"Caption of {name}.") for name, path in pictures.items()},
        "reproduce": "graphlore fit --seed 0 && echo '<done>'",
        "warnings": ["the likelihood was tempered"],
    }
    return plots.write_report(path, **(settings | changes)).read_text(encoding="utf-8")


def test_report_stands_by_itself(tmp_path: Path, pictures: dict[str, Path]) -> None:
    page = write(tmp_path / "runs" / "report.html", pictures)
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    assert "<link" not in page
    sources = re.findall(r'<img src="([^"]*)" alt="([^"]+)"', page)
    assert len(sources) == page.count("<img") == len(NAMES)
    embedded = {base64.b64decode(source.split("base64,")[1]) for source, _ in sources}
    assert embedded == {path.read_bytes() for path in pictures.values()}
    assert str(tmp_path) not in page
    assert all(str(picture.parent) not in page for picture in pictures.values())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["report.html"]


def test_report_says_what_it_was_told(tmp_path: Path, pictures: dict[str, Path]) -> None:
    page = write(tmp_path / "report.html", pictures)
    assert "DGLFRM on &lt;karate&gt;" in page
    assert "&lt;done&gt;" in page
    assert '<html lang="en">' in page
    assert "−216.1" in page
    assert "the model understates the number of triangles" in page
    assert "0 of 1 checked statistics" in page
    assert "Beta(<i>α</i>, 1)" in page
    heads = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert heads == [
        "Read this first", "The numbers", "The story", "Data and settings", "The fit",
        "The posterior", "Checks against the data", "How to reproduce",
    ]  # fmt: skip
    figures = [int(n) for n in re.findall(r"<b>Figure (\d+)\.", page)]
    assert figures == list(range(1, len(NAMES) + 1))


@pytest.mark.parametrize(
    "story",
    [
        '<img src="https://example.org/x.png">',
        "<script>1</script>",
        '<p onclick="x()">',
        "<style>@import 'x'</style>",
    ],
)
def test_report_refuses_a_story_that_loads_something(tmp_path: Path, story: str) -> None:
    with pytest.raises(ValueError, match="load or run"):
        write(tmp_path / "report.html", {}, story=Markup(story))
    assert list(tmp_path.iterdir()) == []


def test_report_escapes_a_story_that_is_only_text(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", {}, story="src = data = <script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;" in page


def test_a_failed_report_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    old = write(path, {})
    with pytest.raises(FileNotFoundError):
        write(path, {"elbo": tmp_path / "nowhere.png"})
    assert path.read_text(encoding="utf-8") == old


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (
            r"A_{ij} \sim \mathrm{Bernoulli}(\pi_k)",
            "<i>A</i><sub><i>ij</i></sub> ∼ Bernoulli(<i>π</i><sub><i>k</i></sub>)",
        ),
        ("pi_k = prod_{j<=k} v_j", "<i>π</i><sub><i>k</i></sub> = ∏<sub><i>j</i>≤<i>k</i></sub> "
         "<i>v</i><sub><i>j</i></sub>"),
        ("s^2 = 1", "<i>s</i><sup>2</sup> = 1"),
        ("z_n ~ N `embedding`", "<i>z</i><sub><i>n</i></sub> ∼ <i>N</i> <code>embedding</code>"),
    ],
)  # fmt: skip
def test_formulas(text: str, html: str) -> None:
    assert str(plots.formula_html(text)) == f'<p class="formula">{html}</p>'
