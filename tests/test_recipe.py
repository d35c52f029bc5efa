"""Recipes: from a file to a story, a guide and settings, and back."""

from __future__ import annotations

import inspect
import json
from unittest import mock

import numpy as np
import pytest
import torch

from graphlore import guides
from graphlore.data import Graph, karate, random_split
from graphlore.guides import GCNEncoder, MeanField, StructuredMeanField
from graphlore.inference import (
    Fit,
    FitSettings,
    InferenceError,
    Recipe,
    SetRecipe,
    fit,
    fit_recipe,
    restarts,
)
from graphlore.models import DGLFRM, NodeStory

KARATE = karate()
TOML = """
[story]
truncation = 6
alpha = 1.5
decoder = [8, 4]
bias = "node"
bias_scale = [3.0, 0.5]
class_weight = "balanced"

[guide]
name = "StructuredMeanField"
hidden = [12, 6]
dropout = 0.25
baseline = "neural"

[fit]
steps = 3
seed = 5
gradient = "concrete"
concrete_temperatures = [0.4, 0.8]
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


def test_an_empty_recipe_is_the_default_of_everything():
    recipe = Recipe()
    story, guide = recipe.build(KARATE)
    assert isinstance(story, DGLFRM)
    assert isinstance(guide, StructuredMeanField)
    assert story.options == DGLFRM(34).options
    assert recipe.settings == FitSettings()


def test_a_toml_file_is_read(toml):
    recipe = Recipe.read(toml)
    story, guide = recipe.build(KARATE)
    assert story.truncation == 6
    assert story.alpha.item() == 1.5
    assert story.options["decoder"] == (8, 4)
    assert story.bias == "node"
    assert story.bias_scale.tolist() == [3.0, 0.5]
    assert story.class_weight == "balanced"
    assert guide.options["hidden"] == (12, 6)
    assert guide.options["dropout"] == 0.25
    assert guide.options["baseline"] == "neural"
    settings = FitSettings(steps=3, seed=5, gradient="concrete", concrete_temperatures=(0.4, 0.8))
    assert recipe.settings == settings


def test_a_table_that_is_not_there_is_empty(tmp_path):
    (tmp_path / "r.toml").write_text("[fit]\nsteps = 9\n")
    recipe = Recipe.read(tmp_path / "r.toml")
    assert recipe == Recipe(fit={"steps": 9})


def test_settings_of_a_run_are_a_recipe(toml, tmp_path):
    """settings.json of a run builds the same modules again: same seed, same weights, same options."""
    recipe = Recipe.read(toml)
    story, guide = recipe.build(KARATE)
    start = {k: v.clone() for k, v in (story.state_dict() | guide.state_dict()).items()}
    fit(story, guide, KARATE, recipe.settings).save(tmp_path / "run")
    again = Recipe.read(tmp_path / "run" / "settings.json")
    assert again.settings == recipe.settings
    story_2, guide_2 = again.build(KARATE)
    assert story_2.options == story.options
    assert guide_2.options == guide.options
    built = story_2.state_dict() | guide_2.state_dict()
    assert built.keys() == start.keys()
    assert all(torch.equal(built[k], start[k]) for k in start)


@pytest.mark.parametrize("features", ["bernoulli", "normal"])
def test_restoring_gives_modules_that_the_weights_fit(features, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, size=(34, 7))
    graph = KARATE.with_features(x.astype(float))
    recipe = Recipe(
        story={"features": features, "sticks": "local", "truncation": 3},
        guide={"name": "MeanField", "feature_scaling": "tf-idf", "inputs": "both"},
        fit={"steps": 1},
    )
    story, guide = recipe.build(graph)
    assert story.options["num_features"] == 7
    run = fit(story, guide, graph, recipe.settings).save(tmp_path)
    restored_story, restored_guide = Recipe.read(run / "settings.json").restore(graph)
    assert isinstance(restored_guide, MeanField)
    restored_story.load_state_dict(story.state_dict())
    restored_guide.load_state_dict(guide.state_dict())
    assert restored_story.options == story.options
    assert restored_guide.options == guide.options


def test_a_recipe_of_one_graph_builds_for_another(tmp_path):
    """The number of nodes is that of the graph at hand, not that of the run the file came from."""
    story, guide = Recipe(fit={"steps": 1}).build(KARATE)
    run = fit(story, guide, KARATE, steps=1).save(tmp_path)
    small = Graph(5, [[0, 1, 2], [1, 2, 3]])
    story, guide = Recipe.read(run / "settings.json").build(small)
    assert story.num_nodes == 5
    assert guide.encoder.from_identity.num_embeddings == 5
    with torch.no_grad():
        guide(small)


def test_building_starts_at_the_columns_of_the_graph():
    x = np.zeros((34, 3))
    x[:17, 0] = 1.0
    x[:, 2] = 4.0
    graph = KARATE.with_features(x)
    story, _ = Recipe(story={"features": "normal"}).build(graph)
    torch.testing.assert_close(story.feature_decoder.bias.detach(), torch.tensor([0.5, 0.0, 4.0]))


def test_building_draws_weights_under_the_seed_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    one, two, other = (
        Recipe(fit={"seed": seed}).build(KARATE)[1].state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    name = "encoder.from_identity.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])


def test_overrides_replace_options_and_keep_the_others(toml):
    recipe = Recipe.read(toml)
    changed = recipe.override(fit={"steps": 100}, story={"bias": "none"}, guide={})
    assert changed.settings.steps == 100
    assert changed.settings.seed == 5
    assert changed.story["bias"] == "none"
    assert changed.story["truncation"] == 6
    assert changed.guide == recipe.guide
    assert recipe.settings.steps == 3, "the recipe itself is as it was"
    assert recipe.override() == recipe


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"story": {"colour": 1}}, r"unknown story option\(s\) colour; known are .*truncation"),
        ({"guide": {"hiden": 1}}, r"unknown guide option\(s\) hiden; known are .*hidden"),
        ({"fit": {"stepz": 1}}, r"unknown fit setting\(s\) stepz; known are .*, steps,"),
        (
            {"story": {"name": "Saga"}},
            "there is no story 'Saga'; known are DGLFRM, LFRM, SBM, VGAE",
        ),
        (
            {"guide": {"name": "Oracle"}},
            "there is no guide 'Oracle'; known are StructuredMeanField, MeanField for DGLFRM",
        ),
        (
            {"story": {"name": "SBM"}, "guide": {"name": "MeanField"}},
            "there is no guide 'MeanField'; known are AmortisedCategorical for SBM",
        ),
        ({"fit": {"steps": 0}}, "steps must be at least 1"),
        ({"story": {"z": 1, "a": 2}}, r"option\(s\) a, z;"),
    ],
)
def test_unknown_options_are_named_with_the_known_ones(tables, says):
    with pytest.raises(ValueError, match=says):
        Recipe(**tables)
    with pytest.raises(ValueError, match=says):
        Recipe().override(**tables)


@pytest.mark.parametrize("recipe", [Recipe(), SetRecipe({"name": "SGVAE"})])
def test_a_table_that_no_recipe_has_is_named(recipe):
    with pytest.raises(
        ValueError, match=r"unknown table\(s\) settings; known are fit, guide, story"
    ):
        recipe.override(settings={"steps": 100})
    with pytest.raises(ValueError, match=r"unknown table\(s\) name"):  # one of an option alone
        recipe.override(name={})


def test_a_table_in_a_file_that_no_recipe_has_is_named(tmp_path):
    (tmp_path / "r.toml").write_text("[fits]\nsteps = 100")
    with pytest.raises(InferenceError, match=r"r.toml: unknown table\(s\) fits; known are fit"):
        Recipe.read(tmp_path / "r.toml")


def test_every_option_of_the_classes_is_known():
    own, common = (set(inspect.signature(c).parameters) for c in (DGLFRM, NodeStory))
    for name in (own | common) - {"relaxation", "others", "name"}:
        Recipe(story={name: None})
    for name in set(inspect.signature(GCNEncoder).parameters) - {"graph", "heads"}:
        Recipe(guide={name: None})
    Recipe(guide={"baseline": None})
    Recipe(fit=FitSettings().to_dict())


def test_a_wrong_value_is_refused_when_built():
    with pytest.raises(ValueError, match="bias is one of 'none', 'global', 'node', not 'some'"):
        Recipe(story={"bias": "some"}).build(KARATE)
    with pytest.raises(ValueError, match="sticks='global'"):
        Recipe(story={"sticks": "local"}).build(KARATE)


@pytest.mark.parametrize("table", [{"story": {"truncation": "six"}}, {"story": {"alpha": "two"}}])
def test_a_value_of_a_wrong_kind_is_a_value_error(table):
    with pytest.raises(ValueError, match=r"truncation|alpha"):
        Recipe(**table).build(KARATE)


def test_features_are_asked_for_that_the_graph_does_not_have():
    with pytest.raises(ValueError, match="features"):
        Recipe(story={"features": "bernoulli"}).build(KARATE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", "[fit\nsteps = 1"),
        ("r.json", '{"fit": '),
        ("r.toml", b"\xff\xfe\x00"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InferenceError, match=rf"{name} is no readable recipe"):
        Recipe.read(path)


def test_no_file_is_named(tmp_path):
    with pytest.raises(InferenceError, match=r"there is no file .*nowhere.toml"):
        Recipe.read(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("name", "text"), [("r.json", "[1, 2]"), ("r.json", "3"), ("r.toml", "fit = 3")]
)
def test_a_file_without_tables_is_refused_in_words(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises((InferenceError, ValueError), match=r"recipe|table"):
        Recipe.read(tmp_path / name)


def test_a_json_recipe_is_what_the_toml_one_is(toml, tmp_path):
    import tomllib

    (tmp_path / "r.json").write_text(json.dumps(tomllib.loads(TOML)))
    assert Recipe.read(tmp_path / "r.json") == Recipe.read(toml)


# -- restarts ---------------------------------------------------------------------------------------

SMALL = Recipe(
    story={"truncation": 3, "decoder": [], "bias": "global"},
    guide={"hidden": [8]},
    fit={"steps": 30, "learning_rate": 0.05, "seed": 4},
)


def test_one_start_is_a_plain_fit():
    plain = fit(*SMALL.build(KARATE), KARATE, SMALL.settings)
    assert fit_recipe(SMALL, KARATE).history["elbo"] == plain.history["elbo"]


def test_of_several_starts_the_best_is_kept_with_its_seed():
    single = [fit_recipe(SMALL.override(fit={"seed": s}), KARATE) for s in (4, 5, 6, 7)]
    scores = [f.history["elbo"][-1] for f in single]  # a twentieth of 30 steps is the last one
    assert [restarts.final_score(f) for f in single] == scores
    best = int(np.argmax(scores))
    found = fit_recipe(SMALL, KARATE, 4)
    assert found.settings.seed == 4 + best
    assert found.history["elbo"] == single[best].history["elbo"]
    assert torch.equal(
        found.link_probabilities(draws=3, seed=0), single[best].link_probabilities(draws=3, seed=0)
    )


def test_with_held_out_pairs_validation_tells_starts_apart():
    split = random_split(KARATE, val=0.2, test=0.1)
    recipe = SMALL.override(fit={"validate_every": 5})
    single = [fit_recipe(recipe.override(fit={"seed": s}), split) for s in (4, 5, 6)]
    scores = [
        max((a + b) / 2 for a, b in zip(f.history["val_auc"], f.history["val_ap"], strict=True))
        for f in single
    ]
    found = fit_recipe(recipe, split, 3)
    assert found.settings.seed == 4 + int(np.argmax(scores))


def test_a_start_is_scored_by_the_state_it_returns():
    """Validations before the warm-up ends are no candidates for the result, and must not rank starts either."""
    split = random_split(KARATE, val=0.2, test=0.1)
    recipe = SMALL.override(fit={"validate_every": 5, "kl_warmup": 20})
    found = fit_recipe(recipe, split)
    found.history["val_auc"][0] = found.history["val_ap"][0] = 1.0  # step 4 of a warm-up of 20
    at = found.history["val_step"].index(found.best_step)
    own = (found.history["val_auc"][at] + found.history["val_ap"][at]) / 2
    assert own < 1.0
    assert restarts.final_score(found) == own


def test_starts_of_a_block_model_after_the_first_are_at_random_blocks():
    plan = Recipe(
        story={"name": "SBM", "num_blocks": 2},
        guide={"amortised": False},
        fit={"gradient": "expectation", "steps": 2},
    )
    starts = []

    def spy(story, guide, *others, **options):
        starts.append(guide.options["initial"])
        return fit(story, guide, *others, **options)

    with mock.patch.object(restarts, "fit", side_effect=spy):
        fit_recipe(plan, KARATE, 3, progress=False)
    assert starts == ["spectral", "random", "random"]


def test_starts_are_counted_from_one():
    with pytest.raises(ValueError, match="restarts must be at least 1, not 0"):
        fit_recipe(SMALL, KARATE, 0)


def test_of_several_starts_those_that_are_done_are_not_done_again(tmp_path):
    """The second is stopped: the first is kept, the second goes on, the third begins."""
    recipe = SMALL.override(fit={"checkpoint_every": 10})
    whole = fit_recipe(recipe, KARATE, 3)
    steps = []

    def stop(step, _):
        steps.append(step)
        if len(steps) == 30 + 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_recipe(recipe, KARATE, 3, folder=tmp_path, callbacks=[stop])
    again = []
    options = {
        "folder": tmp_path,
        "resume": True,
        "callbacks": [lambda step, _: again.append(step)],
    }
    found = fit_recipe(recipe, KARATE, 3, **options)
    assert again == [*range(10, 30), *range(30)]
    assert found.settings.seed == whole.settings.seed
    assert found.history["elbo"] == whole.history["elbo"]
    again.clear()
    assert fit_recipe(recipe, KARATE, 3, **options).history["elbo"] == whole.history["elbo"]
    assert again == [], "the end of every start is kept"


def test_a_search_for_the_number_of_blocks_goes_on_where_it_was(tmp_path):
    recipe = Recipe.default("sbm", num_blocks="auto").override(
        fit={"steps": 20, "checkpoint_every": 5}
    )
    whole = fit_recipe(recipe, KARATE)

    def stop(step, _):
        if step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_recipe(recipe, KARATE, folder=tmp_path, callbacks=[stop])
    again = []
    callbacks = [lambda step, _: again.append(step)]
    found = fit_recipe(recipe, KARATE, folder=tmp_path, resume=True, callbacks=callbacks)
    assert again[:10] == list(range(10, 20))
    assert found.story.num_blocks == whole.story.num_blocks
    assert found.history["elbo"] == whole.history["elbo"]


@pytest.mark.parametrize("restarts", [1, 2])
def test_resuming_needs_a_checkpoint(tmp_path, restarts):
    with pytest.raises(InferenceError, match=r"no file .*checkpoint.safetensors"):
        fit_recipe(SMALL, KARATE, restarts, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs the folder"):
        fit_recipe(SMALL, KARATE, restarts, resume=True)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("sbm", {"num_blocks": 3}),
        ("sbm", {"num_blocks": 2, "bias": "node"}),
        ("lfrm", {"truncation": 3}),
    ],
)
def test_loading_a_fit_does_not_start_it_anew(tmp_path, monkeypatch, model, options):
    """Weights that are read replace any start: nothing is clustered or factorised for them."""
    start = {} if model == "sbm" else {"initial": "spectral"}
    recipe = Recipe.default(model, **options).override(
        guide=start, fit={"steps": 2, "kl_warmup": 0}
    )
    fitted = fit_recipe(recipe, karate())
    fitted.save(tmp_path)

    def refuse(*_, **__):
        raise AssertionError("started anew")

    for module in (guides.categorical, guides.mean_field):
        monkeypatch.setattr(module, "spectral_blocks", refuse)
    with pytest.raises(AssertionError, match="started anew"):
        recipe.build(karate())
    again = Fit.load(tmp_path)
    assert again.guide.options == fitted.guide.options
    assert again.guide.options["initial"] == "spectral"
    assert torch.equal(fitted.link_probabilities(draws=3), again.link_probabilities(draws=3))


def edges_of(num_nodes, **options):
    i = torch.arange(num_nodes - 1)
    return Graph(num_nodes, torch.stack((i, i + 1)), **options)


@pytest.mark.parametrize("model", ["dglfrm", "lfrm"])
def test_a_large_graph_is_fitted_in_batches_by_default(model):
    small, large = edges_of(30_000), edges_of(33_000)
    assert Recipe.default(model, small) == Recipe.default(model)
    recipe = Recipe.default(model, large, truncation=3)
    assert recipe.settings.batch_edges == 16384
    assert recipe.settings.steps == 3_000
    assert recipe.story["truncation"] == 3
    assert recipe.guide["amortised"] is False
    parts = (torch.arange(33_000) % 2).long()
    others = [(edges_of(33_000, parts=parts), {}), (large, {"likelihood": "poisson"})]
    others += [(large, {"absent_sample": 5})]
    for graph, story in others:
        assert Recipe.default(model, graph, **story) == Recipe.default(model, **story)
    assert Recipe.default("sbm", large) == Recipe.default("sbm")


@pytest.mark.parametrize("model", ["dglfrm", "lfrm"])
def test_the_default_of_large_graphs_fits_saves_and_loads(model, monkeypatch, tmp_path):
    monkeypatch.setattr("graphlore.inference.defaults.MANY_DYADS", 100)
    recipe = Recipe.default(model, KARATE, truncation=5).override(fit={"steps": 4})
    found = fit_recipe(recipe, random_split(KARATE, seed=0))
    assert found.guide.options["initial"] == ("smoothed" if model == "dglfrm" else "factorised")
    found.save(tmp_path)
    again = Fit.load(tmp_path)
    assert torch.equal(found.link_probabilities(draws=3), again.link_probabilities(draws=3))
