"""What cannot fit in memory is refused before it starts, with what would."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphlore.data import Graph, karate
from graphlore.inference import Fit, InferenceError, Recipe, fit, fit_recipe, memory
from graphlore.inference.memory import default_draws, draws_bytes
from graphlore.inference.posterior import predictive_number
from graphlore.models import DGLFRM

GIB, MIB = 2**30, 2**20


def ring(n, **options):
    i = np.arange(n)
    return Graph(n, np.stack([i, (i + 1) % n]), **options)


@pytest.fixture
def free(monkeypatch):
    """Set how much memory there is."""

    def put(size):
        monkeypatch.setattr(memory, "available_bytes", lambda *_: size)

    return put


def a_pair(graph, model="dglfrm", **tables):
    recipe = Recipe.default(model, **tables.pop("story", {})).override(fit={"kl_warmup": 0})
    recipe = recipe.override(**{"fit": {"steps": 1, **tables.pop("fit", {})}, **tables})
    return (*recipe.build(graph), graph, recipe.settings)


def test_what_is_counted_for_a_fit():
    """By hand: 300 nodes, truncation 5, one hidden layer of 8, a decoder of 32 and 16."""
    graph = ring(300)
    tables = {"guide": {"hidden": [8]}, "fit": {"averaging": 0.9, "num_particles": 2}}
    story, guide, _, settings = a_pair(graph, story={"truncation": 5}, **tables)
    trained = sum(p.numel() for m in (story, guide) for p in m.parameters())
    kept = sum(x.numel() for m in (story, guide) for x in m.state_dict().values())
    heads = sum(head.out_channels for head in guide.encoder.heads.values())
    assert memory.fit_bytes(story, guide, graph, settings) == {
        "gradients and moments of the weights": 4 * (3 * trained + 2 * kept),
        "latents of the nodes": 4 * 4 * 2 * 300 * 5,
        "the encoder's layers": 4 * 300 * (16 + 2 * heads),
        "messages along edges": (600 + 300) * 20,
        "prices of flipped memberships": 4 * 5 * 300 * (5 + 32),
    }


def test_a_fit_in_batches_is_counted_by_the_nodes_of_a_batch():
    graph = ring(1000)
    batches = {"batch_edges": 20, "batch_nodes": 30, "gradient": "dyadic"}
    story, guide, _, settings = a_pair(graph, story={"truncation": 5}, fit=batches)
    found = memory.fit_bytes(story, guide, graph, settings)
    assert found["latents of the nodes"] == 4 * 4 * 70 * 5
    assert found["messages along edges"] == (2 * 20 + 70) * 20
    few = ring(40)
    story, guide, _, settings = a_pair(few, story={"truncation": 5}, fit=batches)
    assert memory.fit_bytes(story, guide, few, settings)["latents of the nodes"] == 4 * 4 * 40 * 5


@pytest.mark.parametrize(
    ("tables", "features", "advice"),
    [
        ({"story": {"truncation": 60}}, 0, "gradient='dyadic'"),
        ({"fit": {"gradient": "dyadic", "num_particles": 500}}, 0, "num_particles=1"),
        ({"fit": {"gradient": "dyadic"}}, 4000, "inputs='one-hot'"),
        ({"story": {"absent_sample": 10**8}, "fit": {"gradient": "dyadic"}}, 0, "absent_sample"),
        ({"guide": {"hidden": [3000]}, "fit": {"gradient": "dyadic"}}, 0, "narrower hidden"),
    ],
)
def test_a_fit_that_cannot_fit_says_so_before_it_starts(tables, features, advice, free, tmp_path):
    x = sp.eye_array(5000, features, format="csr") if features else None
    story, guide, graph, settings = a_pair(ring(5000, features=x), **tables)
    before = {k: v.clone() for k, v in guide.state_dict().items()}
    total = sum(memory.fit_bytes(story, guide, graph, settings).values())
    assert total > 64 * MIB
    free(total - 1)
    says = (
        rf"the fit takes at least [\d,.]+ [MG]iB of memory on cpu, .* [MG]iB are free: .*{advice}"
    )
    with pytest.raises(InferenceError, match=says):
        fit(story, guide, graph, settings, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert all(torch.equal(before[k], v) for k, v in guide.state_dict().items())
    free(total)
    memory.check_fit_memory(story, guide, graph, settings)
    free(None)  # not known
    memory.check_fit_memory(story, guide, graph, settings)


def test_small_fits_are_never_asked_about(free):
    free(0)
    fit_recipe(Recipe.default("sbm", num_blocks=2).override(fit={"steps": 1}), karate())


def test_a_posterior_says_how_many_draws_would_fit(free):
    graph = ring(1500)
    found = Fit(*a_pair(graph), {})
    free(100 * MIB)
    with pytest.raises(
        InferenceError, match=r"a posterior of 9,000 draws .* take draws=(\d+)"
    ) as told:
        found.posterior(9000)
    fitting = int(str(told.value).rpartition("draws=")[2].split(",")[0])
    bits, real = 10, 4 * (10 + 1)  # a node's memberships; its strengths and log-likelihood
    assert 100 * MIB / (2 * 1500 * (bits + real)) == pytest.approx(fitting, rel=0.2)
    needs = memory.draws_bytes(found.story, graph, fitting, 100, "node")
    assert 99 * MIB < sum(needs.values()) <= 100 * MIB


def test_a_dense_matrix_says_what_to_ask_for_instead(free):
    found = Fit(*a_pair(ring(3500), "vgae"), {})
    free(80 * MIB)
    with pytest.raises(InferenceError, match=r"all link probabilities .* N x N .*probability_rows"):
        found.link_probabilities(draws=1)
    assert found.link_probabilities([[0], [1]], draws=1).shape == (1,)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_control_group_counts(version, tmp_path):
    """Of a container: limit less use, and the caches that the kernel would give up."""
    told = tmp_path / "cgroup"
    told.write_text("5:cpu:/a\n4:memory:/job\n" if version == 1 else "0::/job\n")
    group = tmp_path / ("memory/job" if version == 1 else "job")
    group.mkdir(parents=True)
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if version == 1
        else ("memory.max", "memory.current", "inactive_file")
    )
    (group / names[0]).write_text(f"{8 * GIB}\n")
    (group / names[1]).write_text(f"{6 * GIB}\n")
    (group / "memory.stat").write_text(f"cache 1\n{names[2]} {GIB}\n")
    assert memory._of_group(tmp_path, told) == 3 * GIB
    (group / names[0]).write_text("max\n")
    assert memory._of_group(tmp_path, told) is None
    assert memory._of_group(tmp_path, tmp_path / "none") is None


def test_this_machine_says_how_much_there_is():
    assert 2**20 < memory.available_bytes("cpu") < 2**50
    assert memory.available_bytes("meta") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_says_how_much_there_is():
    before = memory.available_bytes("cuda")
    held = torch.empty(2**28, device="cuda")
    assert before - memory.available_bytes("cuda") >= held.nbytes


def test_fewer_draws_are_kept_of_a_large_graph():
    story = DGLFRM(81_306, 64, decoder=(), bias="node")
    large = Graph(81_306, torch.tensor([[0], [1]]))
    draws = default_draws(story, large)
    assert 20 <= draws < 500
    assert sum(draws_bytes(story, large, draws, 0, "auto").values()) <= 2 << 30
    middle = Graph(30_000, torch.tensor([[0], [1]]))  # whose densities are had
    draws = default_draws(DGLFRM(30_000, 2), middle)
    assert draws * middle.num_dyads <= 10**11
    assert draws < 500
    assert default_draws(DGLFRM(34, 10), karate()) == 500
    assert predictive_number(large, draws, None) == 6
    assert predictive_number(karate(), 500, None) == 500
    assert default_draws(DGLFRM(10**7, 64), Graph(10**7, torch.tensor([[0], [1]]))) == 20
