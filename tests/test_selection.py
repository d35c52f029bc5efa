"""How many communities: removal moves, starts by factorisation, truncation, comparison of stories."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats

import graphlore as gl
from graphlore.guides.factorisation import factorised_communities
from graphlore.guides.kumaraswamy import Kumaraswamy, matching_beta
from graphlore.guides.smoothing import smoothed_vectors
from graphlore.inference.removal import _bound, remove_communities
from graphlore.inference.run import Run
from graphlore.inference.training import _estimator


def three_blocks(seed: int = 0) -> gl.data.Graph:
    return gl.data.planted_partition([20] * 3, 0.03 + 0.47 * np.eye(3), seed=seed)


def blocks_recipe(blocks: int | str, **fit: object) -> gl.inference.Recipe:
    return gl.inference.Recipe(
        story={"name": "SBM", "num_blocks": blocks, "alpha": 0.1},
        guide={"amortised": False},
        fit={"gradient": "expectation", "steps": 100, "learning_rate": 0.1, **fit},
    )


def test_matching_beta_has_the_moments_of_log_v() -> None:
    a, b = torch.tensor([40.0, 2.0, 3.0, 102.0]), torch.tensor([110.0, 1.0, 40.0, 1.0])
    c, d = matching_beta(a, b)
    # log v / d log u by quadrature of the quantile function: v = (1 - (1 - u)^(1/d))^(1/c)
    u = (np.arange(400_000) + 0.5) / 400_000
    for k in range(4):
        log_v = np.log(-np.expm1(np.log1p(-u) / float(d[k]))) / float(c[k])
        log_beta = np.log(stats.beta.ppf(u, float(a[k]), float(b[k])))
        assert log_v.mean() == pytest.approx(log_beta.mean(), rel=1e-3)
        assert log_v.std() == pytest.approx(log_beta.std(), rel=1e-2)
    assert c[1] == pytest.approx(2.0, rel=1e-4)
    assert d[1] == pytest.approx(1.0, rel=1e-4)
    assert Kumaraswamy(c, d).mean[1] == pytest.approx(2 / 3, rel=1e-4)


def test_overlapping_communities_are_the_members_of_two_cliques() -> None:
    members = torch.zeros(14, 2)
    members[:8, 0] = members[6:, 1] = 1.0  # nodes 6 and 7 belong to both
    dense = (members @ members.T > 0) & ~torch.eye(14, dtype=torch.bool)
    graph = gl.data.Graph(14, dense.triu().nonzero().T)
    found = factorised_communities(graph, 2).float()
    assert torch.equal(found, members) or torch.equal(found, members.flip(1))


def test_a_factorised_start_draws_the_members_that_it_found() -> None:
    """On a graph of 2,000 nodes sticks are so sure of the shares that their d is of the order of 1e20."""
    graph = gl.data.planted_partition([40] * 50, np.eye(50) * 0.5, seed=0)
    story = gl.models.LFRM(2000, 50, 20.0)
    guide = gl.guides.StructuredMeanField(story, graph, amortised=False)
    members = factorised_communities(graph, 50)
    drawn = torch.stack(
        [
            poutine.trace(guide).get_trace(graph).nodes["memberships"]["value"].mean(0)
            for _ in range(20)
        ]
    ).mean(0)
    # a probability of 0.8 for members, and of 1/50 for the others
    share = members.float().mean(0)
    assert members.sum() > 1500
    torch.testing.assert_close(drawn, 0.8 * share + 0.02 * (1.0 - share), atol=0.01, rtol=0.15)


def test_smoothed_vectors_are_random_ones_averaged_over_walks() -> None:
    """A triangle with a tail of two nodes, and a node alone."""
    graph = gl.data.Graph(6, torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 4]]))
    a = graph.dense_adjacency().double()
    degree = a.sum(1)
    around = a / (degree[:, None] * degree).sqrt().clamp(min=1.0)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(5)).double()
    for _ in range(5):
        z = torch.nn.functional.normalize(around @ z, dim=1)
    found = smoothed_vectors(graph, 3, seed=5)
    torch.testing.assert_close(found.double(), z, atol=1e-5, rtol=0.0)
    assert not found[5].any()


@pytest.mark.parametrize("amortised", [False, True])
def test_a_smoothed_start_tells_links_from_other_dyads(amortised: bool) -> None:
    graph = three_blocks()
    with gl.inference.seeded(0):
        story = gl.models.DGLFRM(60, 16, decoder=())
        guide = gl.guides.StructuredMeanField(story, graph, initial="smoothed", amortised=amortised)
        trace = poutine.trace(guide).get_trace(graph)
    z = trace.nodes["strengths"]["value"]
    block = torch.arange(60) // 20
    s, same = z @ z.T, block[:, None] == block
    assert s[same].mean() > s[~same].mean() + 4.0
    assert trace.nodes["memberships"]["value"].mean() > 0.7
    if not amortised:
        loc = guide.free_head("strength_loc")
        torch.testing.assert_close(loc, 4.0 * smoothed_vectors(graph, 16))


@pytest.mark.parametrize("model", ["LFRM", "DGLFRM"])
def test_a_smoothed_start_needs_strengths(model: str) -> None:
    options = {"strengths": False} if model == "DGLFRM" else {}
    story = getattr(gl.models, model)(60, 4, **options)
    with pytest.raises(ValueError, match="'smoothed' is of strengths"):
        gl.guides.MeanField(story, three_blocks(), initial="smoothed")


def test_other_starts_of_lfrm_are_scattered_unless_one_was_chosen() -> None:
    recipe = gl.inference.Recipe.default("lfrm")
    assert recipe.restart(1) == {"membership_spread": 1.0}
    assert recipe.override(guide={"initial": "factorised"}).restart(1) == {}
    smoothed = recipe.override(guide={"initial": "smoothed", "initial_seed": 4})
    assert smoothed.restart(2) == {"initial_seed": 6}
    assert gl.inference.Recipe.default("dglfrm").restart(1) == {}
    assert gl.inference.Recipe.default("sbm").restart(1) == {"initial": "random"}


def test_an_edgeless_graph_has_no_first_communities() -> None:
    graph = gl.data.Graph(5, torch.zeros(2, 0, dtype=torch.int64), allow_empty=True)
    assert not factorised_communities(graph, 3).any()


def test_joining_blocks_adds_their_probabilities_and_leaves_the_others() -> None:
    graph = three_blocks()
    _, guide = blocks_recipe(4).build(graph)
    before = guide._probabilities().clone()
    guide.remove(graph, 1, 3)
    after = guide._probabilities()
    assert torch.allclose(after[:, 3], before[:, 1] + before[:, 3], atol=1e-5)
    assert torch.allclose(after[:, [0, 2]], before[:, [0, 2]], atol=1e-5)
    assert (after[:, 1] < 1e-5).all()


def test_a_block_cut_in_two_is_joined_again_and_true_blocks_are_not() -> None:
    graph = three_blocks()
    story, guide = blocks_recipe(4).build(graph)
    cut = graph.labels.clone()
    cut[:10] = 3  # half of block 0
    q = torch.nn.functional.one_hot(cut, 4).float() * 0.97 + 0.01
    with torch.no_grad():
        guide.encoder.heads["membership_logits"].copy_((q / q.sum(1, keepdim=True)).log())
    settings = blocks_recipe(4).settings
    run = Run.start(story, guide, _estimator(settings), settings)
    bound = _bound(story, guide, graph)
    assert remove_communities(run, graph) == 1
    assert _bound(story, guide, graph) > bound
    labels = guide._probabilities().argmax(1).numpy()
    assert gl.inference.overlap_with(labels, graph.labels.numpy()) == 1.0


@pytest.mark.parametrize("affinity", ["full", "diagonal"])
@pytest.mark.parametrize("kind", ["undirected", "directed"])
def test_an_emptied_community_takes_its_affinities_along(affinity: str, kind: str) -> None:
    graph = three_blocks()
    if kind == "directed":
        graph = gl.data.Graph(graph.num_nodes, graph.edge_index, directed=True)
    recipe = gl.inference.Recipe(
        story={"name": "LFRM", "truncation": 3, "affinity": affinity, "affinity_scale": 2.0},
        guide={"amortised": False},
    )
    _, guide = recipe.build(graph)
    with torch.no_grad():
        guide.affinity_loc.copy_(torch.arange(1.0, 1.0 + guide.affinity_loc.numel()))
    table, members = guide._affinities(guide.affinity_loc), guide._expected_members()
    guide.remove(graph, 0)
    order = [1, 2] if members[:, 1].sum() >= members[:, 2].sum() else [2, 1]
    after = guide._affinities(guide.affinity_loc)
    assert torch.equal(after[:2, :2], table[order][:, order])
    assert not after[2].any()
    assert not after[:, 2].any()
    scales = guide._affinities(guide.affinity_log_scale)
    assert scales[2, 2] == pytest.approx(math.log(2.0))
    kept = guide._expected_members()
    assert torch.allclose(kept[:, :2], members[:, order], atol=1e-3)
    assert (kept[:, 2] < 1e-3).all()


def test_the_number_of_blocks_is_found() -> None:
    graph = three_blocks()
    fit = gl.inference.fit_recipe(blocks_recipe(6, remove_every=20), graph, progress=False)
    number = gl.inference.number_of_communities(fit.posterior(100, 1))
    assert (number.low, number.mode, number.high) == (3, 3, 3)
    labels = fit.encode(graph).memberships.argmax(1).numpy()
    assert gl.inference.overlap_with(labels, graph.labels.numpy()) >= 0.95
    assert gl.inference.truncation_warning(fit) is None


def test_overlapping_communities_and_their_number_are_found() -> None:
    graph, truth = gl.data.planted_features(
        80, 5.0 * np.eye(3), membership_prob=0.3, bias=-3.5, seed=1
    )
    recipe = gl.inference.Recipe(
        story={"name": "LFRM", "truncation": 6, "bias": "global", "affinity_scale": 3.0},
        guide={"amortised": False},
        fit={"gradient": "local_expectation", "steps": 300, "learning_rate": 0.1},
    ).override(fit={"remove_every": 60})
    fit = gl.inference.fit_recipe(recipe, graph, progress=False)
    assert gl.inference.matched_auc(fit.encode(graph).memberships.numpy(), truth.numpy()) >= 0.95
    assert abs(gl.inference.number_of_communities(fit.posterior(100, 1)).mean - 3) <= 1


def test_too_few_blocks_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit = gl.inference.fit_recipe(blocks_recipe(2), three_blocks(), progress=False)
    told = gl.inference.truncation_warning(fit)
    assert told is not None
    assert "all 2 communities" in told
    assert "num_blocks=4" in told
    assert [r.getMessage() for r in caplog.records if "communities" in r.getMessage()] == [
        f"planted partition: {told}"
    ]


def test_memberships_in_nearly_all_communities_are_told_of_as_such() -> None:
    graph = three_blocks()
    story = gl.models.DGLFRM(graph.num_nodes, 4, alpha=8.0)
    guide = gl.guides.MeanField(story, graph, amortised=False, initial="smoothed")
    fit = gl.inference.fit(story, guide, graph, steps=2, progress=False)
    told = gl.inference.truncation_warning(fit)
    assert told is not None
    assert "of the 4 communities on average" in told


def test_a_prior_that_fills_all_blocks_is_not_warned_of() -> None:
    recipe = blocks_recipe(2).override(story={"alpha": 1.0})
    fit = gl.inference.fit_recipe(recipe, three_blocks(), progress=False)
    assert gl.inference.truncation_warning(fit) is None


def test_auto_doubles_until_blocks_are_left_over() -> None:
    graph = gl.data.planted_partition([15] * 5, 0.02 + 0.68 * np.eye(5), seed=0)
    fit = gl.inference.fit_recipe(blocks_recipe("auto"), graph, progress=False)
    assert fit.story.num_blocks == 8
    assert fit.settings.remove_every == 20
    assert gl.inference.number_of_communities(fit.posterior(100, 1)).mode == 5


def test_auto_is_refused_where_it_means_nothing() -> None:
    recipe = gl.inference.Recipe(story={"name": "VGAE", "dimension": "auto"})
    with pytest.raises(ValueError, match="dimension='auto' is not known"):
        gl.inference.fit_recipe(recipe, three_blocks(), progress=False)


def test_removals_are_refused_where_there_can_be_none() -> None:
    recipe = gl.inference.Recipe.default().override(fit={"remove_every": 10, "steps": 20})
    with pytest.raises(ValueError, match="remove_every is for"):
        gl.inference.fit_recipe(recipe, three_blocks(), progress=False)


def test_compare_prefers_two_blocks_to_one_on_karate() -> None:
    graph = gl.data.karate()
    fits = {
        str(k): gl.inference.fit_recipe(blocks_recipe(k), graph, progress=False) for k in (1, 2)
    }
    with pytest.warns(UserWarning, match="k-hat above 0.7"):
        table = gl.inference.compare(fits, draws=200)
    assert list(table.index) == ["2", "1"]


def test_compare_refuses_different_graphs_and_a_single_fit() -> None:
    a, b = (
        gl.inference.fit_recipe(blocks_recipe(2, steps=2), g, progress=False)
        for g in (three_blocks(0), three_blocks(1))
    )
    with pytest.raises(ValueError, match="different graphs"):
        gl.inference.compare({"a": a, "b": b})
    with pytest.raises(ValueError, match="two fits or more"):
        gl.inference.compare({"a": a})
