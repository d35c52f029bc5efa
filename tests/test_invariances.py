"""What must not matter: numbers of nodes and communities, orders of edges, tiles, batches, padding, devices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyro import poutine

from graphlore import models
from graphlore.data import Graph, GraphSet
from graphlore.guides import Destructor, removals
from graphlore.inference import Recipe, log_prob_ordered
from graphlore.models import SGGN, SGVAE
from graphlore.models.base import graph_kind

K = 3
SEEDS = st.integers(0, 2**32 - 1)
KINDS = {
    "SBM": ("undirected", "directed", "bipartite"),
    "LFRM": ("undirected", "directed", "bipartite"),
}
STORIES = [
    *({"name": "SBM", "num_blocks": K, "likelihood": law, "bias": bias}
      for law in ("bernoulli", "poisson", "normal") for bias in ("none", "node")),
    *({"name": "LFRM", "truncation": K, **o} for o in (
        {}, {"sticks": "local"}, {"affinity": "diagonal"}, {"bias": "node", "sticks": "local"},
        {"class_weight": "balanced"}, {"likelihood": "poisson", "bias": "node"},
        {"likelihood": "normal", "bias": "global"})),
    *({"name": name, "dimension": K, **o} for name in ("VGAE", "GAE") for o in (
        {}, {"bias": "node"}, {"class_weight": "balanced"}, {"likelihood": "poisson", "bias": "global"},
        {"likelihood": "normal", "bias": "global"}, {"num_classes": 3})),
    *({"name": "DGLFRM", "truncation": K, "decoder": [4], **o} for o in (
        {"sticks": "local"}, {"strengths": False, "bias": "node"}, {"features": "bernoulli", "bias": "global"},
        {"features": "normal"})),
]  # fmt: skip
GUIDES = {
    "SBM": ({"amortised": False, "initial": "flat"}, {"hidden": [4], "initial": "flat"}),
    "LFRM": ({"amortised": False}, {"hidden": [4]}, {"name": "MeanField", "hidden": [4]}),
    "VGAE": ({"amortised": False}, {"hidden": [4]}),
    "GAE": ({"hidden": [4]},),
    "DGLFRM": ({"hidden": [4]}, {"name": "MeanField", "hidden": [4, 4]}, {"amortised": False}),
}
# no shrinking: the cases are small, and a seed has nothing to shrink to
few = settings(
    max_examples=30, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
)


@st.composite
def cases(draw, guides=False):
    """(a recipe, a graph that it is for, a permutation of its nodes), numbers drawn under a seed."""
    story = draw(st.sampled_from(STORIES))
    kind = draw(st.sampled_from(KINDS.get(story["name"], ("undirected",))))
    n = draw(
        st.sampled_from([7, 8, 11])
    )  # no other size in sight, so that a first dimension of n is one of nodes
    rng = np.random.default_rng(draw(SEEDS))
    parts = np.arange(n) % 2 if kind == "bipartite" else None
    i, j = np.indices((n, n))
    dyads = i != j if kind == "directed" else i < j
    if parts is not None:
        parts = rng.permutation(parts)
        dyads &= parts[:, None] != parts
    pairs = rng.permutation(np.stack(np.nonzero(dyads)), axis=1)
    edges = pairs[:, : int(rng.integers(1, pairs.shape[1]))]
    hidden = pairs[:, 1:-1][
        :, rng.random(pairs.shape[1] - 2) < 0.2
    ]  # an edge and a non-edge stay observed
    law = story.get("likelihood", "bernoulli")
    weights = {
        "poisson": rng.integers(1, 5, edges.shape[1]),
        "normal": 1 + rng.random(edges.shape[1]),
    }
    features = (
        rng.random((n, 2)) < 0.5 if story.get("features") != "normal" else rng.normal(size=(n, 2))
    )
    graph = Graph(
        n, edges, weights=weights.get(law), parts=parts, missing=hidden, directed=kind == "directed",
        features=features, labels=rng.integers(-1, 3, n), allow_empty=True,
    )  # fmt: skip
    guide = draw(st.sampled_from(GUIDES[story["name"]]))
    if story["name"] in ("LFRM", "DGLFRM"):
        story = {**story, "sticks": "local" if guide.get("name") == "MeanField" else "global"}
    recipe = Recipe(story=story, guide=guide, fit={"seed": int(rng.integers(1000))})
    return recipe, graph, rng.permutation(n)


def traced(module, graph, values=None):
    found = poutine.trace(module if values is None else poutine.condition(module, data=values))
    found = found.get_trace(graph)
    found.compute_log_prob()
    return found


def latents(trace):
    """{name: (value, whether it has a row a node)} of what was drawn."""
    return {
        name: (site["value"].detach(), any(f.name == "nodes" for f in site["cond_indep_stack"]))
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and name != "nodes"
    }


def moved(values, order):
    return {name: x[order] if of_nodes else x for name, (x, of_nodes) in values.items()}


def told(recipe, graph):
    """The story alone, in float64; guides take a while to make."""
    options = {k: v for k, v in recipe.story.items() if k != "name"}
    name = recipe.story["name"]
    if name in ("SBM", "LFRM"):
        options["kind"] = graph_kind(graph)
    if "features" in options:
        options["num_features"] = graph.features.shape[1]
    torch.manual_seed(recipe.fit["seed"])
    return getattr(models, name)(graph.num_nodes, **options).double()


def drawn(story, graph):
    """Latents from the prior, those of the graph's own size."""
    return {n: (x.double() if x.is_floating_point() else x, of) for n, (x, of) in
            latents(poutine.trace(story).get_trace(graph)).items()}  # fmt: skip


def assert_same_sites(after, before, order, rtol):
    for name, site in before.nodes.items():
        if "log_prob" in site and site["type"] == "sample":
            expected, found = site["log_prob"], after.nodes[name]["log_prob"]
            rows = expected.ndim and any(f.name == "nodes" for f in site["cond_indep_stack"])
            expected = expected[order] if rows else expected
            torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol, msg=name)


# -- one graph ------------------------------------------------------------------------------------------


@few
@given(cases())
def test_numbers_of_nodes_do_not_matter_to_a_story(case):
    """Site by site, and the share of every node in the likelihood."""
    recipe, graph, order = case
    story = told(recipe, graph)
    values = drawn(story, graph)
    before = traced(story, graph, moved(values, slice(None)))
    after = traced(story, graph.relabel(order), moved(values, order))
    assert_same_sites(after, before, torch.from_numpy(order), 1e-9)
    nodes = [
        t.nodes["edges"]["fn"].node_log_prob(t.nodes["edges"]["value"]) for t in (before, after)
    ]
    torch.testing.assert_close(nodes[1], nodes[0][order], rtol=1e-9, atol=1e-9)


def test_a_permutation_of_the_graph_alone_does_matter():
    """Guards the test above."""
    graph = Graph(5, [[0, 0, 0], [1, 2, 3]])
    story = told(Recipe(story=STORIES[0], fit={"seed": 0}), graph)
    values = {
        "membership": torch.tensor([0, 1, 1, 1, 2]),
        "block_probs": torch.linspace(0.1, 0.9, 6).double(),
    }
    a, b = (traced(story, g, values) for g in (graph, graph.relabel([4, 3, 2, 1, 0])))
    assert abs(a.nodes["edges"]["log_prob_sum"] - b.nodes["edges"]["log_prob_sum"]) > 0.1


@few
@given(cases())
def test_numbers_of_nodes_do_not_matter_to_a_guide(case):
    """Terms of the ELBO at draws of the guide; the parameters that a guide has for every node go along."""
    recipe, graph, order = case
    story, guide = recipe.build(graph)
    other = copy.deepcopy(guide)
    rows = torch.from_numpy(order)
    state = {
        k: v[rows] if v.shape[:1] == (graph.num_nodes,) else v
        for k, v in guide.state_dict().items()
    }
    other.load_state_dict(state)
    q = traced(guide, graph)
    values = latents(q)
    renumbered = graph.relabel(order)
    if recipe.story["name"] == "GAE":  # a point, which is the same up to rounding
        point = traced(other, renumbered).nodes["embedding"]["value"]
        torch.testing.assert_close(point, values["embedding"][0][order], rtol=2e-4, atol=2e-4)
        return
    assert_same_sites(traced(other, renumbered, moved(values, order)), q, rows, 2e-4)
    p, p_moved = (
        traced(story, g, moved(values, o)) for g, o in ((graph, slice(None)), (renumbered, order))
    )
    assert_same_sites(p_moved, p, rows, 2e-4)


@few
@given(cases(), SEEDS)
def test_numbers_of_communities_do_not_matter_to_the_edges(case, seed):
    """Of SBM, to anything at all."""
    recipe, graph, _ = case
    name = recipe.story["name"]
    if name == "DGLFRM":  # a network reads the embedding, by place
        recipe = recipe.override(story={"decoder": ()})
    story = told(recipe, graph)
    values = moved(drawn(story, graph), slice(None))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(K))
    if name in ("DGLFRM", "LFRM"):
        values.pop("embedding", None)  # follows from the others
    renamed = dict(values)
    for site in {"memberships", "strengths", "embedding"} & set(values):
        renamed[site] = values[site][:, order]
    for site in ("affinity", "block_probs", "block_rates", "block_means"):
        if site in values:
            renamed[site] = renumbered_table(values[site], order, graph)
    if name == "SBM":
        renamed["membership"] = order.argsort()[values["membership"]]
        renamed["community_weights"] = values["community_weights"][order]
    before, after = (traced(story, graph, v) for v in (values, renamed))
    sites = before.nodes if name == "SBM" else ["edges"]
    a, b = (
        sum(float(t.nodes[s]["log_prob_sum"]) for s in sites if "log_prob_sum" in t.nodes[s])
        for t in (before, after)
    )
    assert b == pytest.approx(a, rel=1e-9, abs=1e-9)


def renumbered_table(entries, order, graph):
    """Entries of a table of communities, rows and columns in another order."""
    if len(entries) == K:
        return entries[order]
    if len(entries) == K * K:
        return entries.view(K, K)[order][:, order].flatten()
    table = entries.new_zeros(K, K)
    upper = torch.triu_indices(K, K)
    table[upper[0], upper[1]] = entries
    table = table.triu() + table.triu(1).mT
    return table[order][:, order][upper[0], upper[1]]


@few
@given(cases(), SEEDS)
def test_the_order_of_edges_and_tiles_do_not_matter(case, seed):
    """Edges shuffled, flipped and (with half of the weight each) repeated; dyads in tiles of any size."""
    recipe, graph, _ = case
    rng = np.random.default_rng(seed)
    edges = graph.edge_index.numpy()
    twice = np.concatenate([edges, edges], axis=1)
    weights = None if graph.weights is None else np.tile(graph.weights.numpy() / 2, 2)
    if not graph.directed:
        flipped = rng.random(twice.shape[1]) < 0.5
        twice = np.where(flipped, twice[::-1], twice)
    order = rng.permutation(twice.shape[1])
    again = Graph(
        graph.num_nodes,
        twice[:, order],
        weights=None if weights is None else weights[order],
        parts=graph.parts,
        missing=graph.missing[:, torch.randperm(graph.missing.shape[1])],
        features=graph.features,
        labels=graph.labels,
        directed=graph.directed,
        clean=True,
        allow_empty=True,
    )
    assert again.fingerprint() == graph.fingerprint()
    story = told(recipe, graph)
    values = moved(drawn(story, graph), slice(None))
    site = traced(story, graph, values).nodes["edges"]
    expected = site["fn"].log_prob(site["value"])
    for tile in (1, int(rng.integers(2, graph.num_nodes + 2))):
        site["fn"].tile = tile
        torch.testing.assert_close(
            site["fn"].log_prob(site["value"]), expected, rtol=1e-9, atol=1e-9
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@few
@given(cases())
def test_the_device_does_not_matter(case):
    recipe, graph, _ = case
    story = told(recipe, graph)
    values = moved(drawn(story, graph), slice(None))
    here = traced(story, graph, values).log_prob_sum()
    there = traced(story.to("cuda"), graph.to("cuda"), {k: v.to("cuda") for k, v in values.items()})
    torch.testing.assert_close(there.log_prob_sum().cpu(), here, rtol=1e-9, atol=1e-9)


# -- many graphs ----------------------------------------------------------------------------------------


@st.composite
def sets_of_graphs(draw):
    rng = np.random.default_rng(draw(SEEDS))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    edges, counts, types = [], [0], []
    for n in sizes:
        pairs = np.stack(np.triu_indices(n, 1))
        kept = pairs[:, rng.random(pairs.shape[1]) < 0.6]
        edges.append(kept)
        counts.append(kept.shape[1])
        types.append(rng.integers(3, size=n))
    return GraphSet(
        sizes,
        np.concatenate(edges, axis=1),
        np.cumsum(counts),
        edge_types=rng.integers(1, 3, sum(counts)),
        node_types=np.concatenate(types),
    ), rng


def sggn(batch):
    torch.manual_seed(0)
    return log_prob_ordered(SGGN(4, edge_types=2, node_types=3).double(), batch)


def by_graph(trace):
    return sum(
        s["log_prob"] for s in trace.nodes.values() if s["type"] == "sample" and "log_prob" in s
    )


def sgvae(batch):
    """log p at latents that a graph has by its own content, so that they go where it goes."""
    torch.manual_seed(0)
    story = SGVAE(5, 3, edge_types=2, node_types=3).double()
    content = batch.edges.sum((1, 2)).double()[:, None] + batch.num_nodes[:, None]
    return by_graph(
        traced(story, batch, {"z": torch.sin(content * torch.arange(1.0, 4.0).double())})
    )


def destructor(batch, order=None):
    """log q of an order of removals, of nothing but the discrete choices."""
    torch.manual_seed(0)
    guide = Destructor(SGVAE(5, 3, edge_types=2, node_types=3).double(), hidden=4).double()
    if order is None:
        order = torch.arange(batch.width).expand(len(batch), -1)
    trace = traced(guide, batch, removals(order, batch.num_nodes))
    return sum(s["log_prob"] for n, s in trace.nodes.items() if n.startswith("remove"))


@pytest.mark.parametrize("density", [sggn, sgvae, destructor])
@settings(few, max_examples=5)
@given(sets_of_graphs())
def test_batches_and_padding_do_not_matter(density, given_set):
    graphs, rng = given_set
    if density is destructor:  # of one node there is nothing to remove
        graphs = graphs[
            [g for g, n in enumerate(graphs.num_nodes.tolist()) if n > 1] or slice(None)
        ]
        if int(graphs.num_nodes.min()) == 1:
            return
    together = density(graphs.batch())
    order = rng.permutation(len(graphs))
    torch.testing.assert_close(density(graphs.batch(order)), together[order], rtol=1e-9, atol=1e-9)
    wider = graphs.batch(width=int(graphs.num_nodes.max()) + int(rng.integers(1, 3)))
    torch.testing.assert_close(density(wider), together, rtol=1e-9, atol=1e-9)
    for g in range(len(graphs)):
        alone = density(graphs.batch([g]))
        torch.testing.assert_close(alone, together[g : g + 1], rtol=1e-9, atol=1e-9)


@settings(few, max_examples=8)
@given(sets_of_graphs())
def test_numbers_of_nodes_do_not_matter_to_a_destructor(given_set):
    """The same removals of the same nodes, whatever their numbers."""
    graphs, rng = given_set
    if int(graphs.num_nodes.max()) == 1:
        return
    batch = graphs.batch()
    width = batch.width
    rows = [np.r_[rng.permutation(n), n:width] for n in graphs.num_nodes.tolist()]
    order = torch.from_numpy(np.stack(rows))
    torch.testing.assert_close(
        destructor(batch.reorder(order)), destructor(batch, order), rtol=1e-9, atol=1e-9
    )
