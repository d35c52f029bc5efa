"""Held-out pairs: weighted calibration by hand, curves, and one call from a fit and its split."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

import graphlore as gl
from graphlore import plots

pytestmark = pytest.mark.usefixtures("pictures_closed")


@pytest.fixture(scope="module")
def split() -> gl.data.Split:
    return gl.data.random_split(gl.data.karate(), val=0.1, test=0.3, seed=0)


@pytest.fixture(scope="module")
def fit(split: gl.data.Split) -> Any:
    recipe = gl.inference.Recipe.default("sbm", num_blocks=2).override(fit={"steps": 30})
    return gl.inference.fit_recipe(recipe, split, progress=False)


def test_weighted_calibration_by_hand() -> None:
    p, y = [0.1, 0.1, 0.5, 0.5], [0, 1, 0, 1]
    # an edge stands for 2 dyads, a pair without one for 8
    w = np.where(y, 2.0, 8.0)
    table = plots.reliability(p, y, bins=2, weights=w)
    np.testing.assert_allclose(table.predicted, [0.1, 0.5])
    np.testing.assert_allclose(table.observed, [0.2, 0.2])
    np.testing.assert_allclose(table.mass, [0.5, 0.5])
    assert table.ece == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    plain = plots.reliability(p, y, bins=2)
    # the odds of the interval are those of the sample times 2 / 8
    for end in ("low", "high"):
        sample, weighted = getattr(plain, end), getattr(table, end)
        np.testing.assert_allclose(weighted / (1 - weighted), sample / (1 - sample) / 4)
    ax = plots.calibration(p, y, bins=2, weights=w, log=False)
    assert "4 dyads, 2 bins, 20.00% edges" in ax.get_title(loc="left")
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), [0.2, 0.2])


def test_weights_undo_the_sampling_of_pairs() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 8, 400_000)
    y = rng.random(p.size) < p
    chosen = np.concatenate([np.flatnonzero(y)[:5000], np.flatnonzero(~y)[:5000]])
    w = np.where(y[chosen], y.sum() / 5000, (~y).sum() / 5000)
    weighted = plots.reliability(p[chosen], y[chosen], weights=w)
    inside = (weighted.low <= weighted.predicted) & (weighted.predicted <= weighted.high)
    assert inside.sum() >= 6  # of 10 intervals of 90 %
    assert weighted.ece < 0.01
    assert plots.reliability(p[chosen], y[chosen]).ece > 0.2


def test_what_cannot_be_calibrated_or_ranked_is_refused() -> None:
    counts = [0, 1, 3]
    for draw in (plots.calibration, plots.roc, plots.precision_recall):
        with pytest.raises(ValueError, match="targets are 0"):
            draw([0.1, 0.2, 0.3], counts)
    with pytest.raises(ValueError, match="equal for all edges"):
        plots.calibration([0.1, 0.2, 0.3], [1, 1, 0], weights=[1.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="2 weights"):
        plots.calibration([0.1, 0.2, 0.3], [1, 1, 0], weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="3 scores, but 2 targets"):
        plots.roc([0.1, 0.2, 0.3], [0, 1])
    assert plt.get_fignums() == []


def test_precision_with_weights_is_that_of_the_whole_graph() -> None:
    scores, y = [0.9, 0.8, 0.2], [1, 0, 0]
    ax = plots.precision_recall(scores, y, weights=np.where(y, 1.0, 10.0))
    chance = ax.get_lines()[0].get_ydata()[0]
    assert chance == pytest.approx(1 / 21)
    lowest = min(ax.get_lines()[1].get_ydata())
    assert lowest == pytest.approx(1 / 21)  # everything retrieved


def test_one_call_shows_what_evaluate_scores(fit: Any, split: gl.data.Split) -> None:
    panels = plots.link_prediction(fit, split, draws=100)
    scores = fit.evaluate(split, draws=100)
    assert f"area = {scores.auc:.3f}" in panels[0].get_title(loc="left")
    assert f"average precision = {scores.ap:.3f}" in panels[1].get_title(loc="left")
    full = split.full
    assert f"{full.density:.2%} edges" in panels[2].get_title(loc="left")
    targets, probabilities, weights = plots.held_out_pairs(fit, split, draws=100)
    pairs, truth = split.pairs("test")
    np.testing.assert_array_equal(targets, truth)
    np.testing.assert_allclose(probabilities, fit.link_probabilities(pairs, 100), rtol=1e-6)
    assert weights.sum() == pytest.approx(full.num_dyads)
    again = plots.held_out(targets, probabilities, weights)
    assert again[2].get_title(loc="left") == panels[2].get_title(loc="left")


def test_pairs_that_the_fit_has_seen_are_refused(fit: Any, split: gl.data.Split) -> None:
    other = gl.data.random_split(split.full, val=0.1, test=0.3, seed=1)
    with pytest.raises(ValueError, match="it has seen"):
        plots.link_prediction(fit, other)
    empty = gl.data.random_split(split.full, val=0.2, test=0.0, seed=1)
    with pytest.raises(ValueError, match="no test pairs"):
        plots.held_out_pairs(fit, empty)


def test_weights_have_no_link_probabilities() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array(np.triu_indices(12, 1))
    graph = gl.Graph(12, pairs, weights=rng.normal(size=pairs.shape[1]))
    story = gl.models.SBM(12, 2, likelihood="normal")
    guide = gl.guides.AmortisedCategorical(story, graph, amortised=False)
    fitted = gl.inference.fit(story, guide, graph, steps=2, gradient="expectation", progress=False)
    split = gl.data.random_split(gl.data.karate(), seed=0)
    with pytest.raises(ValueError, match="every dyad a weight"):
        plots.link_prediction(fitted, split)
