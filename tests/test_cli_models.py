"""The command line tells every story, of weighted, directed and labelled graphs too."""

from __future__ import annotations

import json

import pytest
from command_line import ok

from graphlore.data import karate
from graphlore.inference import Fit, InferenceError, Recipe, fit, from_netcdf

FEW = ["--steps", "3", "--draws", "8", "--quiet"]


@pytest.mark.parametrize(
    ("model", "story", "size", "latents"),
    [
        ("lfrm", "LFRM", "truncation", {"sticks", "memberships", "affinity", "bias"}),
        ("sbm", "SBM", "num_blocks", {"community_weights", "block_probs", "membership"}),
        ("vgae", "VGAE", "dimension", {"embedding", "bias"}),
        ("gae", "GAE", "dimension", {"embedding", "bias"}),
    ],
)
def test_every_model_writes_a_run_that_loads(tmp_path, model, story, size, latents):
    ok("fit", "karate", "--model", model, "--truncation", "3", "--out", tmp_path / "r", *FEW)
    settings = json.loads((tmp_path / "r" / "settings.json").read_text())
    assert (settings["story"]["name"], settings["story"][size]) == (story, 3)
    posterior = from_netcdf(tmp_path / "r" / "posterior.nc")
    assert set(posterior.posterior.data_vars) == latents
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000
    assert Fit.load(tmp_path / "r").graph.num_nodes == 34
    ok("generate", tmp_path / "r", "--out", tmp_path / "g", "--count", "2")
    ok("generate", tmp_path / "r", "--out", tmp_path / "p", "--count", "2", "--from", "prior")


@pytest.mark.parametrize(
    ("options", "gradient"),
    [
        ({}, "expectation"),
        ({"bias": "node"}, "local_expectation"),
        ({"bias": "node", "likelihood": "poisson"}, "expectation"),
    ],
)
def test_degree_correction_takes_the_gradient_that_can_do_it(options, gradient):
    recipe = Recipe.default("sbm", **options)
    assert recipe.settings.gradient == gradient
    story, guide = recipe.build(karate())
    fit(story, guide, karate(), steps=2, gradient=gradient)
    if gradient == "local_expectation":
        with pytest.raises(InferenceError, match="use gradient='local_expectation'"):
            fit(story, guide, karate(), steps=2, gradient="expectation")


def test_counts_of_a_file_with_a_third_column(tmp_path):
    rows = ["a,b,3", "b,c,1", "c,d,2", "a,c,5", "d,e,1", "e,f,4", "d,f,2"]
    (tmp_path / "calls.csv").write_text("\n".join(["source,target,calls", *rows]) + "\n")
    options = ["--model", "sbm", "--truncation", "2", "--likelihood", "poisson", "--weights"]
    ok("fit", tmp_path / "calls.csv", "--out", tmp_path / "r", *options, *FEW)
    fit = Fit.load(tmp_path / "r")
    assert fit.graph.weights.tolist() == [3.0, 5.0, 1.0, 2.0, 1.0, 2.0, 4.0]
    posterior = from_netcdf(tmp_path / "r" / "posterior.nc")
    assert float(posterior.observed_data["total_weight"].values.item()) == 18.0
    assert "block_rates" in posterior.posterior


def test_arcs_are_told_by_a_directed_block_model(tmp_path):
    (tmp_path / "arcs.csv").write_text("source,target\n0,1\n1,2\n2,0\n3,0\n3,4\n4,5\n")
    options = ["--model", "sbm", "--truncation", "2", "--directed"]
    ok("fit", tmp_path / "arcs.csv", "--out", tmp_path / "r", *options, *FEW)
    assert Fit.load(tmp_path / "r").story.kind == "directed"


def test_labels_are_classified_where_asked_for(tmp_path):
    ok("fit", "karate", "--model", "vgae", "--classify", "--out", tmp_path / "r", *FEW)
    fit = Fit.load(tmp_path / "r")
    assert fit.story.num_classes == 2
    labels = fit.encode(fit.graph, draws=5).labels
    assert labels.shape == (34, 2)
    assert labels.sum(1).sub(1).abs().max() < 1e-5


def test_a_guide_without_an_encoder(tmp_path):
    ok("fit", "karate", "--free", "--out", tmp_path / "r", *FEW)
    settings = json.loads((tmp_path / "r" / "settings.json").read_text())
    assert settings["guide"]["amortised"] is False
    assert "hidden" not in settings["guide"]


def test_a_guide_of_another_story_is_refused():
    with pytest.raises(ValueError, match=r"no guide 'MeanField'; known are Amortised.* for SBM"):
        ok("fit", "karate", "--model", "sbm", "--guide", "mean-field", *FEW)
