"""Predictions and their scores: probabilities, ranking, calibration, generated graphs, unseen nodes."""

from __future__ import annotations

import json
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from chance import LIMIT, largest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from graphlore.data import Graph, karate, random_split
from graphlore.guides import MeanField, StructuredMeanField
from graphlore.inference import evaluate as evaluate_module
from graphlore.inference import fit, generate_prior, predict, seeded
from graphlore.inference.evaluate import natural_weights
from graphlore.inference.metrics import (
    calibration_bins,
    calibration_scores,
    hits_at,
    ranking_scores,
)
from graphlore.models import DGLFRM, Concrete

KARATE = karate()
SPLIT = random_split(KARATE, val=0.1, test=0.15, seed=2)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(3)
    story = DGLFRM(34, 5, decoder=(), bias="node")
    guide = StructuredMeanField(story, SPLIT.train, hidden=(8,))
    return fit(story, guide, SPLIT.train, steps=150, learning_rate=0.05)


@pytest.fixture(scope="module")
def evaluated(fitted):
    return fitted.evaluate(SPLIT, draws=60, seed=5)


def all_pairs(n=34):
    return torch.triu_indices(n, n, 1)


# -- link probabilities -----------------------------------------------------------------------------


def test_the_matrix_of_probabilities_is_symmetric_with_an_empty_diagonal(fitted):
    p = fitted.link_probabilities(draws=20)
    assert p.shape == (34, 34)
    assert torch.equal(p.diagonal(), torch.zeros(34))
    torch.testing.assert_close(p, p.T)
    off = p[~torch.eye(34, dtype=torch.bool)]
    assert 0 < off.min() < 0.2 < 0.5 < off.max() < 1


def test_given_pairs_are_entries_of_the_matrix(fitted):
    p = fitted.link_probabilities(draws=20, seed=1)
    pairs = all_pairs()[:, ::7]
    got = fitted.link_probabilities(pairs, draws=20, seed=1)
    torch.testing.assert_close(got, p[pairs[0], pairs[1]], rtol=1e-5, atol=1e-6)
    turned = fitted.link_probabilities(pairs.flip(0).tolist(), draws=20, seed=1)
    torch.testing.assert_close(turned, got, rtol=1e-5, atol=1e-6)


def test_they_are_the_mean_over_the_draws_of_the_posterior(fitted):
    """The same seed draws the same latents: probabilities from the stored ones, by the story's equations."""
    draws = fitted.posterior(30, seed=4).posterior
    z = draws.memberships.values[0] * draws.strengths.values[0].astype(float)
    e = draws.node_bias.values[0].astype(float)
    s = np.einsum("dik,djk->dij", z, z) + e[:, :, None] + e[:, None, :]
    s += draws.bias.values[0][:, None, None]
    p = (1 / (1 + np.exp(-s))).mean(0)
    np.fill_diagonal(p, 0)
    got = fitted.link_probabilities(draws=30, seed=4).numpy()
    np.testing.assert_allclose(got, p, atol=2e-6)


def test_blocks_of_rows_do_not_change_the_matrix(fitted):
    whole = fitted.link_probabilities(draws=9)
    with mock.patch.object(predict, "probability_rows", partial(predict.probability_rows, rows=7)):
        torch.testing.assert_close(fitted.link_probabilities(draws=9), whole)


def test_chunks_of_draws_agree_up_to_monte_carlo_error(fitted):
    draws, pairs = 400, all_pairs()
    whole = fitted.link_probabilities(pairs, draws=draws)
    with mock.patch.object(predict, "_PAIRS", 561 * 3):
        chunked = fitted.link_probabilities(pairs, draws=draws)
    assert not torch.equal(whole, chunked)
    # a mean of draws in [0, 1]: the variance of one is at most p (1 - p)
    p = 0.5 * (whole + chunked)
    bound = 5 * torch.sqrt(2 * p * (1 - p) / draws)
    assert ((whole - chunked).abs() <= bound).all()


def test_no_pairs_have_no_probabilities(fitted):
    none = torch.empty((2, 0), dtype=torch.int64)
    assert fitted.link_probabilities(none, draws=2).shape == (0,)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([[0, 1, 2]], r"two rows of node ids, \(2, P\), not \(1, 3\)"),
        ([0, 1], r"\(2, P\), not \(2,\)"),
        ([[0], [34]], r"outside of 0\.\.33"),
        ([[-1], [3]], r"outside of 0\.\.33"),
    ],
)
def test_bad_pairs_are_refused(fitted, pairs, says):
    with pytest.raises(ValueError, match=says):
        fitted.link_probabilities(pairs)


def test_a_prediction_leaves_the_modules_in_their_mode(fitted):
    fitted.story.train()
    fitted.guide.train()
    try:
        fitted.link_probabilities(draws=1)
        assert fitted.story.training
        assert fitted.guide.training
    finally:
        fitted.story.eval()
        fitted.guide.eval()


# -- top links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [512, 5])
@pytest.mark.parametrize("among", ["missing", "absent", "all"])
@pytest.mark.parametrize("k", [1, 13])
def test_top_links_are_those_of_the_matrix(fitted, among, rows, k):
    p = fitted.link_probabilities(draws=25, seed=6)
    train = SPLIT.train
    allowed = torch.zeros(34, 34, dtype=torch.bool)
    if among != "absent":
        allowed[train.missing[0], train.missing[1]] = True
    if among != "missing":
        absent = (train.observed_mask() & (train.dense_adjacency() == 0)).triu(1)
        allowed |= absent
    expected = torch.topk(p[allowed], k).values
    with mock.patch.object(
        predict, "probability_rows", partial(predict.probability_rows, rows=rows)
    ):
        pairs, best = fitted.top_links(k, among, draws=25, seed=6)
    assert pairs.shape == (2, k)
    assert (pairs[0] < pairs[1]).all()
    assert allowed[pairs[0], pairs[1]].all()
    assert len(set(zip(*pairs.tolist(), strict=True))) == k
    torch.testing.assert_close(best, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(p[pairs[0], pairs[1]], best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("among", "count"),
    [("missing", 36), ("absent", 561 - 36 - 60), ("all", 561 - 60)],
)
def test_asking_for_more_links_than_there_are_gives_all(fitted, among, count):
    assert SPLIT.train.missing.shape[1] == 36
    assert SPLIT.train.num_edges == 60
    pairs, p = fitted.top_links(10_000, among, draws=3)
    assert pairs.shape == (2, count)
    assert (p[:-1] >= p[1:]).all()
    assert (p >= 0).all()


def test_a_graph_of_which_nothing_is_missing_has_no_missing_links(from_features):
    pairs, p = from_features[0].top_links(3, draws=2)
    assert pairs.shape == (2, 0)
    assert p.shape == (0,)


def test_among_is_one_of_three_words(fitted):
    with pytest.raises(ValueError, match="'missing', 'absent' or 'all', not 'hidden'"):
        fitted.top_links(3, "hidden")


# -- scores -----------------------------------------------------------------------------------------


def test_ranking_scores_are_those_of_scikit_learn(fitted, evaluated):
    pairs, truth = SPLIT.pairs("test")
    p = fitted.link_probabilities(pairs, draws=60, seed=5).numpy()
    assert evaluated.auc == pytest.approx(roc_auc_score(truth, p), abs=1e-12)
    assert evaluated.ap == pytest.approx(average_precision_score(truth, p), abs=1e-12)
    assert ranking_scores(torch.tensor(p), truth) == (evaluated.auc, evaluated.ap)
    assert evaluated.auc > 0.5


def test_the_other_part_has_its_own_scores(fitted, evaluated):
    val = fitted.evaluate(SPLIT, "val", draws=60, seed=5)
    pairs, truth = SPLIT.pairs("val")
    p = fitted.link_probabilities(pairs, draws=60, seed=5).numpy()
    assert val.part == "val"
    assert val.auc == pytest.approx(roc_auc_score(truth, p), abs=1e-12)
    with pytest.raises(ValueError, match="'val' or 'test'"):
        fitted.evaluate(SPLIT, "train")


def test_calibration_is_of_the_held_out_pairs_at_natural_weights(fitted, evaluated):
    pairs, truth = SPLIT.pairs("test")
    p = fitted.link_probabilities(pairs, draws=60, seed=5).double().numpy()
    y = truth.numpy()
    # 78 links stand behind 11 held-out ones, 483 non-links behind 11
    w = np.where(y == 1, 78 / 11, 483 / 11)
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert evaluated.log_loss == pytest.approx((w * loss).sum() / 561, rel=1e-6)
    assert evaluated.brier == pytest.approx((w * (p - y) ** 2).sum() / 561, rel=1e-6)
    gaps = 0.0
    for low in range(15):
        here = (np.floor(p * 15) == low) & (p < 1)
        gaps += abs((w[here] * (p[here] - y[here])).sum()) / 561
    assert evaluated.ece == pytest.approx(gaps, rel=1e-6)


def test_natural_weights_sum_to_links_and_non_links():
    _, truth = SPLIT.pairs("test")
    w = natural_weights(truth, KARATE)
    y = truth.numpy() == 1
    assert w[y].sum() == pytest.approx(78)
    assert w[~y].sum() == pytest.approx(561 - 78)
    assert len(set(w[y])) == len(set(w[~y])) == 1
    unequal = torch.tensor([1.0, 0, 0, 0])
    np.testing.assert_allclose(natural_weights(unequal, KARATE), [78, 161, 161, 161])


def test_natural_weights_of_a_graph_with_missing_dyads_sum_to_what_is_known():
    known = KARATE.hide([[0, 0], [1, 9]])
    w = natural_weights(torch.tensor([1.0, 0.0]), known)
    np.testing.assert_allclose(w, [77, 559 - 77])


def test_the_expected_number_of_edges_is_the_sum_of_the_probabilities(fitted, evaluated):
    with seeded(9):
        everything = evaluate_module._all_dyads(
            fitted.story, fitted.guide, SPLIT.train, KARATE, draws=40
        )
    p = fitted.link_probabilities(draws=40, seed=9).double()
    assert everything["expected_edges"] == pytest.approx(float(p.sum()) / 2, rel=1e-5)
    upper = p.triu(1)[tuple(all_pairs())].numpy()
    y = KARATE.dense_adjacency()[tuple(all_pairs())].numpy()
    scores = calibration_scores(upper, y)
    assert everything["log_loss_all"] == pytest.approx(scores["log_loss"], rel=1e-5)
    assert everything["ece_all"] == pytest.approx(scores["ece"], abs=1e-6)
    # the same through the front door, where other draws come before: up to their noise
    single = [float(fitted.link_probabilities(draws=1, seed=s).sum()) / 2 for s in range(60)]
    error = 5 * np.std(single) * np.sqrt(1 / 60 + 1 / 60)
    assert abs(evaluated.expected_edges - np.mean(single)) < error
    assert evaluated.edges == 78


def test_a_sample_of_all_dyads_scores_as_all_of_them_do(fitted):
    parts = (fitted.story, fitted.guide, SPLIT.train, KARATE)
    with seeded(9):
        every = evaluate_module._all_dyads(*parts, 40)
    with seeded(9):
        sampled = evaluate_module._sampled_dyads(*parts, 40)
    assert sampled == pytest.approx(every, rel=1e-5)


def test_large_graphs_are_scored_on_a_sample_with_its_weights(fitted, evaluated):
    with (
        mock.patch.object(evaluate_module, "_ALL_DYADS", 100),
        mock.patch.object(evaluate_module, "_SAMPLED", 70),
        mock.patch.object(evaluate_module, "_all_dyads", side_effect=AssertionError),
    ):
        found = fitted.evaluate(SPLIT, draws=60, seed=5)
    assert found.auc == evaluated.auc
    # 70 of 78 links and 70 of 483 non-links: the sum moves by what they happen to be
    assert found.expected_edges != evaluated.expected_edges
    assert found.expected_edges == pytest.approx(evaluated.expected_edges, rel=0.3)


def test_row_blocks_do_not_change_the_scores_of_all_dyads(fitted):
    with seeded(9):
        one = evaluate_module._all_dyads(fitted.story, fitted.guide, SPLIT.train, KARATE, 7)
    rows = partial(predict.probability_rows, rows=10)
    with seeded(9), mock.patch.object(evaluate_module, "probability_rows", rows):
        two = evaluate_module._all_dyads(fitted.story, fitted.guide, SPLIT.train, KARATE, 7)
    assert one == pytest.approx(two, rel=1e-6)


def test_active_communities_are_those_of_the_draws(fitted):
    found = fitted.active_communities(draws=50, seed=3)
    b = fitted.posterior(50, seed=3).posterior.memberships.values[0].astype(float)
    per_draw = b.sum(-1).mean(-1)
    assert found.mean == pytest.approx(per_draw.mean(), rel=1e-5)
    low, high = np.quantile(per_draw, [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-5)
    assert found.used == pytest.approx(b.any(1).sum(-1).mean(), rel=1e-5)


def test_an_evaluation_is_json(evaluated):
    found = json.loads(json.dumps(evaluated.to_dict()))
    assert found["part"] == "test"
    assert found["draws"] == 60
    assert set(found["hits"]) == {"10", "50", "100"}
    assert found["active"]["mean"] == evaluated.active.mean


def test_hits_by_hand():
    p = torch.tensor([0.95, 0.8, 0.6, 0.2, 0.9, 0.7, 0.5, 0.3])
    y = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
    assert [hits_at(k, p, y) for k in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 0.75, 1.0]
    shuffled = torch.randperm(8)
    assert hits_at(2, p[shuffled], y[shuffled]) == 0.5


def test_a_link_level_with_the_kth_non_link_is_no_hit():
    assert hits_at(1, torch.tensor([0.7, 0.8, 0.7]), torch.tensor([1.0, 1.0, 0.0])) == 0.5


def test_calibration_bins_by_hand():
    p, y = [0.1, 0.4, 0.6, 1.0], [0, 1, 1, 1]
    mean, frequency, share = calibration_bins(p, y, bins=2)
    np.testing.assert_allclose([mean, frequency, share], [[0.25, 0.8], [0.5, 1.0], [0.5, 0.5]])
    mean, frequency, share = calibration_bins(p, y, [1, 3, 2, 2], bins=2)
    np.testing.assert_allclose([mean, frequency, share], [[0.325, 0.8], [0.75, 1.0], [0.5, 0.5]])


def test_empty_bins_are_not_numbers_and_have_no_share():
    mean, frequency, share = calibration_bins([0.1, 0.2], [0, 1], bins=4)
    np.testing.assert_allclose(share, [1, 0, 0, 0])
    assert np.isnan(mean[1:]).all()
    assert np.isnan(frequency[1:]).all()
    assert mean[0] == pytest.approx(0.15)


def test_calibration_scores_by_hand():
    p, y, w = np.array([0.1, 0.4, 0.6, 1.0]), np.array([0, 0, 1, 1]), np.array([1.0, 3, 2, 2])
    plain, weighted = calibration_scores(p, y), calibration_scores(p, y, w)
    loss = -np.log([0.9, 0.6, 0.6, 1.0])
    assert plain["log_loss"] == pytest.approx(loss.mean())
    assert plain["brier"] == pytest.approx((0.01 + 0.16 + 0.16) / 4)
    assert plain["ece"] == pytest.approx((0.1 + 0.4 + 0.4) / 4)
    assert weighted["log_loss"] == pytest.approx((w * loss).sum() / 8)
    assert weighted["brier"] == pytest.approx((0.01 + 3 * 0.16 + 2 * 0.16) / 8)
    assert weighted["ece"] == pytest.approx((0.1 + 3 * 0.4 + 2 * 0.4) / 8)


def test_gaps_of_opposite_sign_cancel_within_a_bin_only():
    # 0.50 and 0.52 share an interval of 1/15, 0.50 and 0.60 do not
    assert calibration_scores([0.5, 0.52], [1, 0])["ece"] == pytest.approx(0.01)
    assert calibration_scores([0.5, 0.6], [1, 0])["ece"] == pytest.approx(0.55)


def test_weights_are_as_good_as_repeats():
    p, y = np.array([0.2, 0.7, 0.9]), np.array([0, 1, 0])
    times = [3, 1, 2]
    repeated = calibration_scores(np.repeat(p, times), np.repeat(y, times))
    assert calibration_scores(p, y, times) == pytest.approx(repeated)


def test_impossible_links_that_exist_cost_much_and_not_infinitely():
    assert calibration_scores([0.0], [0])["log_loss"] == 0.0
    assert calibration_scores([0.0], [1])["log_loss"] == pytest.approx(12 * np.log(10))


# -- nodes that were not seen -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def from_features():
    rng = np.random.default_rng(1)
    graph = KARATE.with_features(rng.normal(size=(34, 5)))
    torch.manual_seed(2)
    story = DGLFRM(34, 3, decoder=(), sticks="local", bias="global")
    guide = MeanField(story, graph, hidden=(8,), inputs="features")
    found = fit(story, guide, graph, steps=60, learning_rate=0.05)
    edges = np.unique(np.sort(rng.integers(0, 60, size=(200, 2)), 1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]].T
    return found, Graph(60, edges, features=rng.normal(size=(60, 5)), title="bigger")


@pytest.mark.parametrize("which", ["bigger", "smaller"])
def test_unseen_nodes_have_the_posterior_that_the_encoder_gives_them(from_features, which):
    found, graph = from_features
    graph = graph if which == "bigger" else graph.subgraph([4, 9, 30, 31, 50])
    draws = 3000
    encoded = found.encode(graph, draws=draws)
    with torch.no_grad():
        heads, _ = found.guide.encoder(graph)
    p = torch.sigmoid(heads["membership_logits"]).double()
    mu = heads["strength_loc"].double()
    sigma = heads["strength_log_scale"].double().exp()
    assert encoded.memberships.shape == encoded.embedding.shape == (graph.num_nodes, 3)
    usual = (p * draws > 20) & ((1 - p) * draws > 20)
    assert usual.sum() > 10
    z = (encoded.memberships - p) / torch.sqrt(p * (1 - p) / draws)
    assert largest(z[usual]) < LIMIT
    mean, variance = p * mu, p * (mu**2 + sigma**2) - (p * mu) ** 2
    z = (encoded.embedding - mean) / torch.sqrt(variance / draws)
    assert largest(z[usual]) < LIMIT
    # the standard deviation of a standard deviation is about sd sqrt((kurtosis - 1) / 4 n)
    ratio = encoded.embedding_sd[usual] / variance.sqrt()[usual]
    assert (ratio - 1).abs().max() < 0.35
    assert (ratio - 1).abs().mean() < 0.05


def test_encoding_does_not_touch_the_fit(from_features):
    found, graph = from_features
    before = found.link_probabilities(draws=4)
    found.encode(graph, draws=2)
    assert torch.equal(found.link_probabilities(draws=4), before)
    assert found.story.num_nodes == 34


def test_one_hot_inputs_refuse_other_nodes(fitted, from_features):
    with pytest.raises(ValueError, match="one-hot inputs know 34 nodes, the graph has 60"):
        fitted.encode(from_features[1])


def test_other_features_than_the_encoders_are_refused(from_features):
    found, graph = from_features
    with pytest.raises(ValueError, match="built for 5 features, the graph has 2"):
        found.encode(graph.with_features(np.zeros((60, 2))))
    with pytest.raises(ValueError, match="built for 5 features, the graph has none"):
        found.encode(graph.with_features(None))


# -- generated graphs -------------------------------------------------------------------------------


def _is_simple(graph):
    i, j = graph.edge_index
    keys = i * graph.num_nodes + j
    return bool((i < j).all()) and keys.unique().numel() == keys.numel() and not graph.directed


@pytest.mark.parametrize("source", ["posterior", "prior"])
def test_generated_graphs_are_simple_and_as_many_as_asked_for(fitted, source):
    graphs = fitted.generate(5, source, seed=1)
    assert len(graphs) == 5
    assert all(g.num_nodes == 34 and _is_simple(g) for g in graphs)
    # a bias of +-20 makes two prior draws empty or complete alike
    assert len({g.fingerprint() for g in graphs}) >= (5 if source == "posterior" else 3)
    assert len({g.title for g in graphs}) == 5
    assert all(g.missing.shape[1] == 0 for g in graphs)
    again = fitted.generate(5, source, seed=1)
    assert [g.fingerprint() for g in again] == [g.fingerprint() for g in graphs]
    other = fitted.generate(5, source, seed=2)
    assert [g.fingerprint() for g in other] != [g.fingerprint() for g in graphs]
    assert fitted.generate(0, source) == []


def test_graphs_from_the_posterior_keep_names_and_labels_and_those_from_the_prior_do_not(fitted):
    (posterior,), (prior,) = fitted.generate(1), fitted.generate(1, "prior")
    assert posterior.names == KARATE.names
    assert torch.equal(posterior.labels, KARATE.labels)
    assert prior.names is None
    assert prior.labels is None


def test_an_unknown_source_is_refused(fitted):
    with pytest.raises(ValueError, match="'posterior' or 'prior', not 'data'"):
        fitted.generate(1, "data")


def test_edges_of_generated_graphs_have_the_posterior_probabilities(fitted):
    """Hidden dyads too: the predictive is of the whole graph."""
    count, draws = 500, 5000
    graphs = fitted.generate(count, seed=3)
    frequency = sum(g.dense_adjacency() for g in graphs).double() / count
    p = fitted.link_probabilities(draws=draws, seed=4).double()
    i, j = all_pairs()
    p, frequency = p[i, j], frequency[i, j]
    z = (frequency - p) / torch.sqrt(p * (1 - p) * (1 / count + 1 / draws))
    usual = p * count > 5
    assert usual.sum() > 300
    assert largest(z[usual]) < LIMIT
    # correlated dyads widen this beyond a chi-square of its degrees
    assert 0.5 < (z[usual] ** 2).mean() < 2.0
    hidden = z.new_zeros(34, 34)
    hidden[i, j] = z
    m = SPLIT.train.missing
    assert (hidden[m[0], m[1]] ** 2).mean() < 2.5


def test_graphs_from_the_prior_have_the_density_of_the_story():
    """No bias, strengths symmetric about zero: a logit is as often positive as negative, so p = 1/2."""
    story = DGLFRM(12, 3, decoder=())
    with seeded(0):
        density = np.array([g.num_edges / 66 for g in generate_prior(story, 300)])
    assert density.std() > 0
    assert largest((density.mean() - 0.5) / (density.std() / np.sqrt(300))) < LIMIT


def test_graphs_from_the_prior_of_binary_memberships_match_the_sum_over_them():
    """K = 1: both in the community give sigmoid(1), else 1/2; E[pi^2] = alpha / (alpha + 2)."""
    alpha, n, count = 3.0, 6, 600
    story = DGLFRM(n, 1, alpha, decoder=(), strengths=False)
    p = 0.5 + (1 / (1 + np.exp(-1)) - 0.5) * alpha / (alpha + 2)
    with seeded(1):
        density = np.array([g.num_edges / 15 for g in generate_prior(story, count)])
    assert largest((density.mean() - p) / (density.std() / np.sqrt(count))) < LIMIT
    assert p > 0.6


def test_the_prior_can_have_another_number_of_nodes(fitted):
    with seeded(0):
        assert [g.num_nodes for g in generate_prior(fitted.story, 2, num_nodes=9)] == [9, 9]
    assert fitted.story.num_nodes == 34


def test_edgeless_graphs_are_graphs_too():
    graph = Graph(4, [[0, 1], [1, 2]])
    story = DGLFRM(4, 1, decoder=(), bias="global")
    guide = StructuredMeanField(story, graph, hidden=(4,))
    with torch.no_grad():
        guide.bias_loc.fill_(-200.0)
    found = fit(story, guide, graph, steps=1, learning_rate=1e-9)
    assert found.generate(2)[0].num_edges == 0


def test_a_fit_through_a_relaxation_predicts_with_exact_memberships():
    torch.manual_seed(0)
    story = DGLFRM(34, 3, decoder=(), strengths=False, relaxation=Concrete(0.5))
    guide = StructuredMeanField(story, KARATE, hidden=(4,), relaxation=Concrete(0.5))
    found = fit(story, guide, KARATE, steps=2, gradient="concrete")
    encoded = found.encode(KARATE, draws=1)
    assert set(encoded.memberships.unique().tolist()) <= {0.0, 1.0}


def test_scipy_agrees_on_the_average_precision_of_a_perfect_ranking():
    p, y = torch.tensor([0.9, 0.8, 0.2, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert ranking_scores(p, y) == (1.0, 1.0)
    assert ranking_scores(1 - p, y)[0] == 0.0
    # Mann-Whitney: the AUC is U over the number of pairs
    u = stats.mannwhitneyu([0.9, 0.3], [0.5, 0.1]).statistic
    p, y = torch.tensor([0.9, 0.3, 0.5, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert ranking_scores(p, y)[0] == u / 4 == 0.75
