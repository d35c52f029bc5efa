"""Batches of dyads: the mean over all of them is exact, sampled neighbourhoods, fits that are told of batches."""

from __future__ import annotations

import itertools

import pytest
import small_blocks
import torch
from chance import LIMIT, largest
from force import Force
from torch.distributions import Bernoulli, kl_divergence

from graphlore.data import DyadBatches, Graph, GraphError, karate, random_split
from graphlore.guides import AmortisedNormal, GCNEncoder, StructuredMeanField, normalised_adjacency
from graphlore.inference import DisarmELBO, DyadicELBO, Fit, FitSettings, fit
from graphlore.inference.batches import told_of
from graphlore.inference.local_expectation import LocalExpectationELBO, _dyadic_change
from graphlore.models import DGLFRM, LFRM, SBM, VGAE, BatchDyads, DyadicBernoulli
from graphlore.models.sticks import activation_logits

N, DOUBLE = 6, {"dtype": torch.float64}
WEIGHTS = (0.6, 4.5)


def a_graph(directed=False):
    edges = [[0, 0, 1, 2, 3, 4], [1, 4, 3, 5, 4, 5]]
    missing = [[0, 1, 2], [2, 2, 4]]
    if directed:
        edges = [[0, 1, 1, 3, 5, 4], [1, 0, 3, 2, 4, 0]]
    x = torch.arange(2.0 * N).reshape(N, 2) / 5 - 1
    return Graph(
        N,
        edges,
        missing=missing,
        directed=directed,
        features=x,
        labels=[0, 1, -1, 1, 0, 2],
    )


def every_batch(batches):
    """All blocks with all choices of one edge from each of the P parts, which are equally long."""
    graph = batches.graph
    parts = torch.arange(graph.num_edges).chunk(batches.edges)
    assert len({len(p) for p in parts}) == 1
    for block in itertools.combinations(range(graph.num_nodes), batches.nodes):
        for drawn in itertools.product(*(p.tolist() for p in parts)):
            yield batches.of(torch.tensor(drawn), torch.tensor(block))


def factors(directed):
    rng = torch.Generator().manual_seed(3)
    sizes = [(N, 3), (N, 3), (N,), (N,)] if directed else [(N, 3), (N,)]
    return [torch.randn(*s, generator=rng, **DOUBLE).requires_grad_() for s in sizes]


def named(values, directed):
    names = ["left", "right", "left_bias", "right_bias"] if directed else ["left", "left_bias"]
    return dict(zip(names, values, strict=True))


def read(d, value, nodes, leaves):
    """Density, shares and signals of all nodes, gradients of the density and of weighted shares."""
    total, split = d.log_prob(value), d.node_log_prob(value)
    turn = torch.arange(1.0, N + 1, **DOUBLE)[nodes]
    by = [torch.autograd.grad(y, leaves, retain_graph=True) for y in (total, (split * turn).sum())]
    to_all = torch.zeros(2, N, **DOUBLE)
    to_all[:, nodes] = torch.stack((split.detach(), d.incident_log_prob(value)))
    return torch.cat(
        [total.detach()[None], to_all.flatten(), *(g.flatten() for b in by for g in b)]
    )


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("edges", "nodes"), [(2, 3), (3, 4)])
def test_the_mean_over_all_batches_is_the_density(directed, edges, nodes):
    graph, leaves = a_graph(directed), factors(directed)
    exact = DyadicBernoulli(
        **named(leaves, directed), missing=graph.missing, directed=directed, weights=WEIGHTS
    )
    expected = read(exact, graph.adjacency.double(), torch.arange(N), leaves)
    found = []
    for batch in every_batch(DyadBatches(graph, edges, nodes)):
        here = [x[batch.nodes] for x in leaves]
        d = BatchDyads(**named(here, directed), batch=batch, weights=WEIGHTS)
        found.append(read(d, batch.adjacency, batch.nodes, leaves))
    found = torch.stack(found)
    torch.testing.assert_close(found.mean(0), expected, rtol=1e-10, atol=1e-10)
    assert found.std(0).min() > 1e-3  # single batches do differ


@pytest.mark.parametrize("directed", [False, True])
def test_a_batch_is_what_it_says(directed):
    graph = a_graph(directed)
    present = set(map(tuple, graph.edge_index.T.tolist()))
    hidden = set(map(tuple, graph.missing.T.tolist()))
    for batch in every_batch(DyadBatches(graph, 2, 4)):
        ids = batch.nodes.tolist()
        assert len(set(ids)) == len(ids) == batch.num_nodes == len(batch.node_weights)
        assert {(ids[i], ids[j]) for i, j in batch.edge_index.T.tolist()} <= present
        block = set(ids[: batch.block])
        within = {d for d in present | hidden if set(d) <= block}
        taken = [(ids[i], ids[j]) for i, j in batch.taken.T.tolist()]
        if not directed:
            taken = [tuple(sorted(d)) for d in taken]
        assert len(taken) == len(within)
        assert set(taken) == within
        assert batch.node_weights.tolist() == [N / 4] * 4 + [0.0] * (len(ids) - 4)
        assert torch.equal(batch.features, graph.features[batch.nodes])
        assert torch.equal(batch.labels, graph.labels[batch.nodes])


def test_edges_are_drawn_one_from_each_part_and_all_alike():
    graph, draws = karate(), 4000
    batches = DyadBatches(graph, 10, 5)
    keys = graph.edge_index[0] * 34 + graph.edge_index[1]
    counts = torch.zeros(78)
    for _ in range(draws):
        batch = batches.draw()
        i, j = batch.nodes[batch.edge_index]
        places = torch.searchsorted(keys, i * 34 + j)
        # part k of the 78 edges is from 7.8 k to 7.8 (k + 1)
        after_its_start = places + 1 - 7.8 * torch.arange(10)
        assert ((after_its_start > 0) & (after_its_start < 8.8)).all()
        counts.index_add_(0, places, torch.ones(10))
    p = 10 / 78
    assert largest((counts - draws * p) / (draws * p * (1 - p)) ** 0.5) < LIMIT


class OfNodes(Force):
    """Values of all nodes, of which a batch takes its own."""

    nodes: torch.Tensor

    def value(self, msg):
        x = self.values[msg["name"]]
        return x[self.nodes] if msg["cond_indep_stack"] else x


def test_the_mean_over_all_batches_is_the_objective():
    graph = a_graph()
    torch.manual_seed(2)
    story = DGLFRM(
        N, 3, decoder=(4,), bias="node", features="normal", num_features=2, num_classes=3
    )
    guide = StructuredMeanField(story, graph, amortised=False)
    story.double(), guide.double()
    graph = Graph(
        N, graph.edge_index, missing=graph.missing, features=graph.features, labels=graph.labels
    )
    forced = OfNodes({
        "sticks": torch.tensor([0.9, 0.6, 0.3], **DOUBLE),
        "bias": torch.tensor(-0.7, **DOUBLE),
        "memberships": torch.randint(2, (N, 3)).double(),
        "strengths": torch.randn(N, 3, **DOUBLE),
        "node_bias": torch.randn(N, **DOUBLE),
    })  # fmt: skip

    def told(where, nodes):
        forced.nodes = nodes

        def run(x):
            with forced:
                return guide(x)

        elbo = DyadicELBO()
        loss = elbo.differentiable_loss(story, run, where)
        return torch.tensor([loss.item(), elbo.last["likelihood"], elbo.last["kl"]])

    expected = told(graph, torch.arange(N))
    found = torch.stack([told(b, b.nodes) for b in every_batch(DyadBatches(graph, 2, 3))])
    torch.testing.assert_close(found.mean(0), expected, rtol=1e-5, atol=1e-4)
    assert found.std(0).min() > 0.05


@pytest.mark.parametrize("directed", [False, True])
def test_a_flip_is_priced_on_the_batch(directed):
    graph, K = a_graph(directed), 2
    story = LFRM(N, K, bias="node", class_weight=3.0, kind="directed" if directed else "undirected")
    torch.manual_seed(4)
    entries = torch.randn(story.num_affinities)
    b, bias = torch.randint(2, (N, K)).float(), torch.randn(N)
    batch = DyadBatches(graph, 3, 4).draw()

    def law(members):
        right = members @ story.table(entries).mT
        return story.dyads(batch, members, right, bias[batch.nodes].expand(members.shape[:-1]))

    here = b[batch.nodes]
    value = batch.adjacency
    flips = torch.eye(K)
    flipped = (here - flips[:, None]).abs()
    change = _dyadic_change(law(here), law(flipped), value, columns=100)
    for k, n in itertools.product(range(K), range(batch.num_nodes)):
        moved = here.clone()
        moved[n, k] = 1.0 - moved[n, k]
        expected = law(moved).log_prob(value) - law(here).log_prob(value)
        torch.testing.assert_close(change[k, n], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("elbo", [DyadicELBO, LocalExpectationELBO, DisarmELBO])
def test_what_nodes_stand_for_weighs_their_costs_and_not_their_score(elbo):
    """Doubled weights of nodes add the divergence's gradient once more, and change nothing else."""
    story, graph = LFRM(4, 2, bias="node").double(), small_blocks.a_graph("undirected", "bernoulli")
    guide = small_blocks.Table(story)
    batch = DyadBatches(graph, edges=1, nodes=3).of(torch.tensor([2]), torch.tensor([0, 2, 3]))

    def gradient(times):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(batch.__dict__, "node_weights", times * batch.node_weights)
            torch.manual_seed(6)
            return small_blocks.gradient(elbo(), story, guide, batch)

    q = Bernoulli(logits=guide.logits)
    prior = Bernoulli(logits=activation_logits(small_blocks.STICKS).expand(4, 2))
    weights = torch.zeros(4, **DOUBLE).index_add(0, batch.nodes, batch.node_weights.double())
    kl = (weights[:, None] * kl_divergence(q, prior)).sum()
    expected = torch.autograd.grad(-kl, guide.logits)[0]
    torch.testing.assert_close(gradient(2.0) - gradient(1.0), expected)


# -- neighbourhoods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", ["one-hot", "features", "both"])
@pytest.mark.parametrize("hidden", [(5,), (5, 4, 3)])
@pytest.mark.parametrize("directed", [False, True])
def test_all_neighbours_give_what_the_whole_graph_gives(inputs, hidden, directed):
    torch.manual_seed(0)
    dense = torch.rand(30, 40) * (torch.rand(30, 40) < 0.05)
    arcs = torch.randint(30, (2, 60))
    graph = Graph(30, arcs, features=dense, directed=directed, clean=True)
    encoder = GCNEncoder(graph, {"a": 3, "b": 1}, hidden=hidden, inputs=inputs).eval()
    batch = DyadBatches(graph, 4, 3, neighbours=30).draw()
    heads, h = encoder(batch)
    all_heads, all_h = encoder(graph)
    for name in heads:
        torch.testing.assert_close(heads[name], all_heads[name][batch.nodes])
    torch.testing.assert_close(h, all_h[batch.nodes])
    gradients = [
        torch.autograd.grad(x.square().sum(), list(encoder.parameters()), allow_unused=True)
        for x in (heads["a"], all_heads["a"][batch.nodes])
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_mean_over_sampled_neighbours_is_the_convolution():
    graph, draws = karate(), 4000
    batches = DyadBatches(graph, 1, 2, neighbours=3)
    hub = torch.tensor([33, 0])
    exact = normalised_adjacency(graph).to_dense()[hub]
    total = torch.zeros(2, 2, 34)
    for _ in range(draws):
        around = batches.around(hub, 1)
        (adjacency,) = around.adjacencies
        assert adjacency.values().numel() == 2 * (3 + 1)  # three neighbours and itself
        row = torch.zeros(2, 34).index_add_(1, around.nodes, adjacency.to_dense())
        total += torch.stack((row, row**2))
    mean, square = total / draws
    moving = square - mean**2 > 1e-6
    torch.testing.assert_close(mean[~moving], exact[~moving])
    error = ((square - mean**2) / draws).sqrt()
    assert moving.sum() == 17 + 16  # the degrees
    assert largest(((mean - exact) / error)[moving]) < LIMIT


def test_layers_read_no_more_than_they_need():
    batch = DyadBatches(karate(), 2, 2, neighbours=2).draw()
    around = batch.neighbourhood(3)
    shapes = [tuple(a.shape) for a in around.adjacencies]
    assert shapes[-1][0] == batch.num_nodes
    assert shapes[0][1] == len(around.nodes) == len(set(around.nodes.tolist()))
    assert [s[1] for s in shapes[1:]] == [s[0] for s in shapes[:-1]]
    assert torch.equal(around.nodes[: batch.num_nodes], batch.nodes)


# -- fits --------------------------------------------------------------------------------------------


def a_pair(graph, **options):
    torch.manual_seed(0)
    story = DGLFRM(graph.num_nodes, 4, decoder=(8,), bias="global")
    return story, StructuredMeanField(story, graph, **{"hidden": [8], **options})


BATCHES = {"batch_edges": 16, "batch_nodes": 12, "batch_neighbours": 3}


@pytest.mark.parametrize("gradient", ["dyadic", "local_expectation", "disarm", "concrete"])
def test_a_fit_on_batches_learns_the_graph(gradient):
    split = random_split(karate(), 0.1, 0.1)
    found = fit(*a_pair(split.train), split, steps=40, gradient=gradient, **BATCHES, progress=False)
    again = fit(*a_pair(split.train), split, steps=40, gradient=gradient, **BATCHES, progress=False)
    assert found.history["elbo"] == again.history["elbo"]
    assert found.graph is split.train
    assert found.posterior(10)["posterior"].sizes["node"] == 34


def test_a_fit_on_batches_resumes_to_the_same_end(tmp_path):
    graph = karate()
    options = {"steps": 30, "checkpoint_every": 10, **BATCHES, "progress": False}
    through = fit(*a_pair(graph), graph, **options)

    class Stop(Exception):
        pass

    def stop(step, history):
        if step == 22:
            raise Stop

    with pytest.raises(Stop):
        fit(*a_pair(graph), graph, folder=tmp_path, callbacks=[stop], **options)
    resumed = fit(*a_pair(graph), graph, folder=tmp_path, resume=True, **options)
    assert resumed.history["elbo"] == through.history["elbo"]
    for x, y in zip(resumed.guide.parameters(), through.guide.parameters(), strict=True):
        assert torch.equal(x, y)
    resumed.save(tmp_path)
    assert Fit.load(tmp_path).settings.batch_edges == 16


def test_a_free_guide_and_vgae_take_batches():
    graph = karate()
    story = VGAE(34, 3, bias="node")
    guide = AmortisedNormal(story, graph, amortised=False)
    found = fit(story, guide, graph, steps=5, **BATCHES, progress=False)
    assert len(found.history["elbo"]) == 5


def test_the_average_objective_is_that_of_the_whole_graph():
    graph = karate()
    story = VGAE(34, 3, bias="global")
    torch.manual_seed(0)
    guide = AmortisedNormal(story, graph, amortised=False)
    batches, elbo = DyadBatches(graph, 13, 8), DyadicELBO()
    torch.manual_seed(1)
    losses = {
        name: torch.tensor(
            [elbo.differentiable_loss(story, guide, told()).item() for _ in range(k)]
        )
        for name, told, k in (("some", batches.draw, 1500), ("all", lambda: graph, 500))
    }
    error = sum(x.var() / len(x) for x in losses.values()) ** 0.5
    assert largest((losses["some"].mean() - losses["all"].mean()) / error) < LIMIT


def test_a_large_graph_in_whole_steps_is_told_what_it_costs(caplog):
    i = torch.arange(40_000)
    ring = Graph(40_000, torch.stack((i, (i + 1) % 40_000)), title="ring")
    settings = FitSettings()
    assert told_of(DGLFRM(40_000, 2), None, ring, settings)() is ring
    assert caplog.messages == [
        "ring: every step visits all 799,980,000 dyads; batch_edges=8192, or a story with absent_sample, draws some of "
        "them with exact weights"
    ]
    told_of(DGLFRM(40_000, 2, absent_sample=10), None, ring, settings)
    told_of(SBM(40_000, 2), None, ring, settings)
    told_of(DGLFRM(34, 2), None, karate(), settings)
    assert len(caplog.messages) == 1


def test_what_takes_no_batches_says_so():
    graph = karate()
    with pytest.raises(ValueError, match="SBM takes no batches of dyads"):
        SBM(34, 2)(DyadBatches(graph, 5, 5).draw())
    two_sides = Graph(4, [[0, 1], [2, 3]], parts=[0, 0, 1, 1])
    with pytest.raises(GraphError, match="not made of bipartite graphs"):
        DyadBatches(two_sides, 1, 2)
    with pytest.raises(GraphError, match="without edges"):
        DyadBatches(Graph(4, [[], []], allow_empty=True), 1, 2)
    for sizes, message in (
        ((0, 2), "edges of a batch: at least 1"),
        ((1, 1), "nodes of a batch: at least 2"),
        ((1, 2, 0), "neighbours of a batch: at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DyadBatches(graph, *sizes)
    story = LFRM(34, 2, likelihood="poisson")
    guide = StructuredMeanField(story, graph, hidden=[4])
    with pytest.raises(ValueError, match="batches are for Bernoulli edges"):
        fit(story, guide, graph, **BATCHES, progress=False)
    story = LFRM(34, 2, absent_sample=50)
    guide = StructuredMeanField(story, graph, hidden=[4])
    with pytest.raises(ValueError, match="absent_sample=None"):
        fit(story, guide, graph, **BATCHES, progress=False)
    with pytest.raises(ValueError, match="edge_dropout=0"):
        fit(*a_pair(graph, edge_dropout=0.5), graph, **BATCHES, progress=False)
