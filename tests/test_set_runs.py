"""Runs on sets of graphs: what they keep, and that what is read back is what was saved."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from graphlore.data import GraphSet, cycles, karate, trees
from graphlore.data.fingerprint import fingerprint_of_set
from graphlore.inference import (
    Fit,
    InferenceError,
    Recipe,
    SequentialFit,
    SetRecipe,
    encode_graphs,
    evaluate_set,
    family_of,
    fit_recipe,
    fit_set,
    importance_log_likelihood,
    isomorphism_classes,
    mmd,
    novelty,
    principal_axis,
    seeded,
    steer,
    uniqueness,
    valid,
)
from graphlore.plots import write_set_results

RINGS = cycles(12, [3, 4, 5], seed=1)
TYPED = GraphSet(
    [3, 2, 4] * 2,
    [[0, 1, 0, 0, 1, 2] * 2, [1, 2, 1, 1, 2, 3] * 2],
    [0, 2, 3, 6, 8, 9, 12],
    edge_types=[2, 1, 1, 2, 2, 1] * 2,
    node_types=[0, 1, 2, 0, 0, 1, 1, 2, 2] * 2,
    title="typed",
)


def short(model, graphs=RINGS, **fit):
    recipe = SetRecipe.default(model, graphs)
    # what an untrained story draws is large, and no two alike
    return recipe.override(
        story={"hidden": 6, "max_nodes": 6}, fit={"epochs": 3, "batch_size": 5, **fit}
    )


@pytest.fixture(scope="module", params=["sgvae", "sggn"])
def fitted(request):
    return fit_set(short(request.param), RINGS, progress=False)


@pytest.mark.parametrize("graphs", [RINGS, TYPED], ids=["rings", "typed"])
@pytest.mark.parametrize("model", ["sgvae", "sggn"])
def test_a_run_that_is_read_back_draws_the_same_graphs(model, graphs, tmp_path):
    fit = fit_set(short(model, graphs, seed=4), graphs, progress=False)
    again = SequentialFit.load(fit.save(tmp_path / "run"))
    assert (again.settings, again.history) == (fit.settings, fit.history)
    assert (again.attributes(), again.environment) == (fit.attributes(), fit.environment)
    assert fingerprint_of_set(again.graphs) == fingerprint_of_set(graphs)
    assert again.graphs.title == graphs.title
    assert fingerprint_of_set(again.generate(30)) == fingerprint_of_set(fit.generate(30))
    assert fingerprint_of_set(again.generate(30, 1)) != fingerprint_of_set(fit.generate(30))
    if model == "sgvae":
        with seeded(3):
            before = encode_graphs(fit.pair, graphs, 4)
        with seeded(3):
            assert torch.equal(encode_graphs(again.pair, graphs, 4), before)
    assert again.story.options["node_types"] == graphs.num_node_types
    assert again.story.options["edge_types"] == graphs.num_edge_types
    recipe = SetRecipe.read(tmp_path / "run" / "settings.json", graphs)
    assert recipe.settings == fit.settings
    same = fit_set(recipe, graphs, progress=False)
    assert {k: v for k, v in same.history.items() if k != "seconds"} == {
        k: v for k, v in fit.history.items() if k != "seconds"
    }


def test_a_stopped_fit_resumes_from_its_first_epoch_on(tmp_path, monkeypatch):
    from graphlore.inference.progress import ProgressBar

    def stop(self, history):
        if len(history["elbo"]) == 2:
            raise KeyboardInterrupt

    through = fit_set(short("sgvae"), RINGS, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "update_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_set(short("sgvae"), RINGS, folder=tmp_path, progress=False)
    resumed = fit_set(short("sgvae"), RINGS, folder=tmp_path, resume=True, progress=False)
    assert resumed.history["elbo"] == through.history["elbo"]
    assert fingerprint_of_set(resumed.generate(20)) == fingerprint_of_set(through.generate(20))


def test_a_run_of_one_graph_and_a_run_of_many_are_not_taken_for_each_other(fitted, tmp_path):
    fitted.save(tmp_path / "many")
    with pytest.raises(InferenceError, match=r"fit to a set of graphs: SequentialFit\.load"):
        Fit.load(tmp_path / "many")
    recipe = Recipe.default("sbm", num_blocks=2).override(fit={"steps": 2})
    fit_recipe(recipe, karate(), progress=False).save(tmp_path / "one")
    with pytest.raises(InferenceError, match=r"no fit to a set of graphs: Fit\.load"):
        SequentialFit.load(tmp_path / "one")
    fitted.graphs, kept = None, fitted.graphs
    with pytest.raises(ValueError, match="a run keeps its graphs"):
        fitted.save(tmp_path / "none")
    with pytest.raises(ValueError, match="nothing to compare"):
        evaluate_set(fitted, 5)
    fitted.graphs = kept


@pytest.mark.parametrize(
    "name", ["settings.json", "weights.safetensors", "history.json", "graphs.npz"]
)
def test_a_file_that_is_damaged_or_gone_is_named(fitted, tmp_path, name):
    folder = fitted.save(tmp_path / "run")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(InferenceError, match=name.replace(".", r"\.")):
        SequentialFit.load(folder)
    (folder / name).unlink()
    with pytest.raises(InferenceError, match=rf"no file .*{name}"):
        SequentialFit.load(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"story": {"name": "DGLFRM"}}, "no story 'DGLFRM' of many graphs; known are SGVAE, SGGN"),
        ({"story": {"name": "SGVAE", "width": 3}}, "unknown story option.* width"),
        ({"story": {"name": "SGGN"}, "guide": {"rounds": 1}}, "unknown guide option.* rounds"),
        ({"story": {"name": "SGGN"}, "fit": {"orders": 2}}, "unknown fit option.* orders"),
        ({"story": {"name": "SGVAE"}, "fit": {"epochs": "many"}}, "of the wrong kind"),
        ({"story": {"name": "SGVAE"}, "fit": 3}, "fit is a table"),
    ],
)
def test_a_recipe_refuses(table, message):
    with pytest.raises(ValueError, match=message):
        SetRecipe(**table)


def test_default_recipes_take_about_as_many_steps_whatever_the_size():
    for count in (30, 100, 1_000, 5_000):
        graphs = cycles(count, [3, 60], seed=0)
        for model, least, most in (("sgvae", 700, 1_400), ("sggn", 250, 520)):
            recipe = SetRecipe.default(model, graphs)
            settings = recipe.settings
            steps = settings.epochs * math.ceil(count / settings.batch_size)
            assert least <= steps <= most
            assert recipe.story["max_nodes"] == 120
    with pytest.raises(ValueError, match="no model 'vgae' of many graphs; known are sgvae, sggn"):
        SetRecipe.default("vgae", RINGS)


def test_an_evaluation_is_what_its_parts_say(fitted):
    found, drawn = evaluate_set(fitted, 60, seed=2)
    assert fingerprint_of_set(drawn) == fingerprint_of_set(fitted.generate(60, 2))
    assert found.family == "cycle"
    assert found.valid == valid(drawn, "cycle").mean()
    assert found.unique == uniqueness(drawn)
    assert found.novel == pytest.approx(novelty(drawn, RINGS))
    assert found.mmd == {name: mmd(drawn, RINGS, name) for name in found.mmd}
    share = np.bincount(RINGS.num_nodes.numpy())[3:] / len(RINGS)
    assert found.log_class_shares == pytest.approx((share * np.log(share)).sum())
    if fitted.guide is None:
        assert found.information is found.steering is found.log_class is None
        return
    assert found.information_of == "isomorphism class"
    assert 0 <= found.information.plug_in <= found.information.entropy + found.information.bias + 1
    with seeded(7):
        walk = steer(fitted.story, principal_axis(fitted.pair, RINGS), draws=30)
    assert len(walk.sizes) == len(found.steering.sizes)
    with seeded(7):
        told = importance_log_likelihood(fitted.pair, RINGS, 300).isomorphism_class.mean()
    assert found.log_class == pytest.approx(float(told), abs=0.5)


def test_information_is_about_sizes_where_classes_are_many():
    graphs = trees(80, range(9, 12), seed=0)
    assert len(np.unique(isomorphism_classes(graphs)[0])) > 50
    found, _ = evaluate_set(fit_set(short("sgvae", graphs, epochs=1), graphs, progress=False), 20)
    assert (found.information_of, found.log_class) == ("number of nodes", None)


def test_the_family_is_the_narrowest():
    assert family_of(RINGS) == "cycle"
    assert family_of(trees(9)) == "tree"
    square = cycles(2, [4])
    assert family_of(square) == "cycle"  # a grid of 2 x 2, too
    assert family_of(GraphSet([4, 2], [[0, 1, 0], [1, 2, 1]], [0, 2, 3])) is None


def test_results_hold_the_numbers_of_the_evaluation(fitted, tmp_path, pictures_closed):
    page, found = write_set_results(fitted, tmp_path, draws=40)
    told = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert told["evaluation"] == json.loads(json.dumps(found.to_dict()))
    assert told["evaluation"] == json.loads(json.dumps(evaluate_set(fitted, 40)[0].to_dict()))
    assert told["numbers"]["valid"] == round(found.valid, 4)
    column = "log_prob" if fitted.guide is None else "elbo"
    name = "log p" if fitted.guide is None else "ELBO"
    assert told["numbers"][name] == round(fitted.history[column][-1], 3)
    text = page.read_text(encoding="utf-8")
    assert ("Read this first" in text) is (fitted.guide is not None), "information and marginal"
    expected = {"epochs", "generated_set", "graph_sizes"}
    expected |= set() if fitted.guide is None else {"latent_map", "steering"}
    assert {p.stem for p in (tmp_path / "pictures").glob("*.png")} == expected
    assert text.count("data:image/png;base64,") == len(expected)
    for site in ("add_node_t", "edges_t" if fitted.guide is not None else "partner_t_k"):
        assert f"<code>{site}</code>" in text
