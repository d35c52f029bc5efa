"""Every story on a GPU: nothing stays behind on the CPU, fits resume there, results come back. Skipped without CUDA."""

from __future__ import annotations

import pytest
import torch

import graphlore as gl
from graphlore.data import cycles, karate, random_split
from graphlore.inference import Fit, Recipe, fit_ordered, fit_recipe, fit_sequential

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"
)

BATCH = {"batch_edges": 16, "batch_nodes": 12, "batch_neighbours": 3}
RECIPES = {
    **{
        f"{model}, {gradient}": Recipe.default(model).override(fit={"gradient": gradient})
        for model in ("dglfrm", "lfrm")
        for gradient in ("local_expectation", "dyadic", "disarm", "concrete", "straight_through")
    },
    **{model: Recipe.default(model) for model in ("dglfrm-b", "sbm", "vgae", "gae")},
    "dglfrm, batches": Recipe.default("dglfrm").override(fit={"gradient": "concrete", **BATCH}),
    "dglfrm, sampled": Recipe.default("dglfrm", absent_sample=100),
    "vgae, TF32": Recipe.default("vgae").override(fit={"matmul_precision": "high"}),
}


def devices(module):
    return {x.device.type for x in module.state_dict().values()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_fit_is_on_the_card_from_end_to_end(name, tmp_path):
    split = random_split(karate(), 0.1, 0.1)
    short = {"steps": 6, "kl_warmup": 0, "validate_every": 3, "device": "cuda"}
    fit = fit_recipe(RECIPES[name].override(fit=short), split, progress=False)
    assert devices(fit.story) == devices(fit.guide) == {"cuda"}
    assert fit.graph.device.type == "cuda"
    assert all(torch.isfinite(torch.tensor(fit.history["elbo"])))
    assert 0 <= fit.evaluate(split, draws=5).auc <= 1
    assert fit.posterior(10)["posterior"].sizes["node"] == 34
    fit.save(tmp_path)
    there = Fit.load(tmp_path)
    for x, y in zip(there.guide.parameters(), fit.guide.parameters(), strict=True):
        assert torch.equal(x.cpu(), y.cpu())


@pytest.mark.parametrize("batches", [{}, BATCH])
def test_a_fit_resumes_on_the_card_to_the_same_end(batches, tmp_path):
    short = {
        "steps": 20,
        "checkpoint_every": 5,
        "device": "cuda",
        "gradient": "concrete",
        **batches,
    }
    recipe = Recipe.default("dglfrm").override(fit=short)
    through = fit_recipe(recipe, karate(), progress=False)

    class Stop(Exception):
        pass

    def stop(step, history):
        if step == 12:
            raise Stop

    with pytest.raises(Stop):
        fit_recipe(recipe, karate(), folder=tmp_path, callbacks=[stop], progress=False)
    resumed = fit_recipe(recipe, karate(), folder=tmp_path, resume=True, progress=False)
    torch.testing.assert_close(
        torch.tensor(resumed.history["elbo"]), torch.tensor(through.history["elbo"])
    )


def test_sequential_stories_train_on_the_card():
    graphs = cycles(8, range(4, 8))
    story = gl.models.SGVAE(hidden=8).to("cuda")
    guide = gl.guides.Destructor(story).to("cuda")
    found = fit_sequential(story, guide, graphs, epochs=2)
    assert devices(story) == devices(guide) == {"cuda"}
    assert all(torch.isfinite(torch.tensor(found.history["elbo"])))
    ordered = gl.models.SGGN(hidden=8).to("cuda")
    history = fit_ordered(ordered, graphs, epochs=2).history
    assert devices(ordered) == {"cuda"}
    assert all(torch.isfinite(torch.tensor(history["log_prob"])))
