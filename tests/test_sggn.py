"""SGGN against plain loops, its own draws, and enumeration; orders of nodes."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from chance import LIMIT, largest
from torch.nn.functional import log_softmax, logsigmoid

from graphlore.data import GraphError, GraphSet, canonical_orders, cycles, random_orders
from graphlore.inference import fit_ordered, log_prob_ordered, marginal_over_orders
from graphlore.models import SGGN

TYPED = GraphSet(
    [4, 1, 2, 3],
    [[0, 1, 0, 2, 0, 0, 0], [1, 2, 3, 3, 1, 1, 2]],
    [0, 4, 4, 5, 7],
    edge_types=[2, 1, 1, 2, 1, 2, 1],
    node_types=[0, 1, 2, 0, 1, 1, 2, 0, 0, 2],
)


def story_of(seed: int = 0) -> SGGN:
    torch.manual_seed(seed)
    return SGGN(4, edge_types=2, node_types=3).double()


def by_hand(story: SGGN, edges: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
    """log p of one graph in the order given, node by node and edge by edge."""
    joined: list[tuple[int, int, int]] = []

    def propagate(h: list[torch.Tensor]) -> list[torch.Tensor]:
        for one in story.prop.rounds:
            new = []
            for v in range(len(h)):
                total = torch.zeros_like(h[v])
                for a, b, kind in joined:
                    if v in (a, b):
                        u = a + b - v
                        inner = one.source(h[u]) + one.target(h[v]) + one.kind.weight[kind - 1]
                        total = total + one.message(inner.relu())
                new.append(one.cell(total[None], h[v][None])[0])
            h = new
        return h

    def read(h: list[torch.Tensor]) -> torch.Tensor:
        zero = torch.zeros(2 * story.hidden, dtype=torch.float64)
        return sum((torch.sigmoid(story.readout.gate(x)) * story.readout.value(x) for x in h), zero)

    h: list[torch.Tensor] = []
    total = torch.zeros((), dtype=torch.float64)
    n = len(edges)
    for t in range(n + 1):
        h = propagate(h)
        graph = read(h)
        logits = story.f_an(graph)
        logits = logits[:-1] if t == 0 else logits
        total = total + log_softmax(logits, 0)[types[t] if t < n else story.node_types]
        if t == n:
            return total
        h = [*h, story.r_init(torch.cat([graph, story.embed.weight[types[t]]]))]
        wanted = [u for u in range(t) if edges[t, u]]
        free = list(range(t))
        for u in [*wanted, None]:
            if not free:
                break
            more = story.f_ae(torch.cat([graph, h[t]]))[0]
            total = total + logsigmoid(more if u is not None else -more)
            if u is None:
                break
            inner = [(story.f_s.node(h[w]) + story.f_s.context(h[t])).relu() for w in free]
            scores = torch.stack([story.f_s.out(x) for x in inner])
            total = (
                total
                + log_softmax(scores.flatten(), 0).view_as(scores)[free.index(u), edges[t, u] - 1]
            )
            free.remove(u)
            joined.append((u, t, int(edges[t, u])))
            h = propagate(h)
            graph = read(h)
    return total


@pytest.mark.parametrize("width", [4, 6])
def test_by_hand(width: int) -> None:
    story = story_of()
    batch = TYPED.batch(width=width)
    total = log_prob_ordered(story, batch)
    for g, n in enumerate(TYPED.num_nodes.tolist()):
        hand = by_hand(story, batch.edges[g, :n, :n], batch.node_types[g, :n])
        assert total[g].item() == pytest.approx(hand.item(), abs=1e-12)


def test_draws_are_simple_and_possible() -> None:
    story = story_of(seed=4)
    story.max_nodes = 8
    with torch.no_grad():
        batch = story(num_graphs=200)
    assert torch.equal(batch.edges, batch.edges.mT)
    assert not batch.edges.diagonal(dim1=1, dim2=2).any()
    assert len(GraphSet.from_batch(batch)) == 200
    assert torch.isfinite(log_prob_ordered(story, batch.select(batch.num_nodes < 8))).all()


def test_draws_come_as_often_as_they_should() -> None:
    """Two nodes: all four (type, type) pairs and three edges, against frequencies (z-tests)."""
    torch.manual_seed(3)
    # the end of a graph with two nodes is drawn before the third would be, so a cap of three changes nothing
    story = SGGN(3, edge_types=2, node_types=2, max_nodes=3).double()
    count = 20000
    with torch.no_grad():
        drawn = story(num_graphs=count)
    two = drawn.num_nodes == 2
    for a in range(2):
        for b in range(2):
            for e in range(3):
                graph = GraphSet([2], [[0], [1]] if e else [[], []], [0, int(e > 0)],
                                 edge_types=[e] if e else None, node_types=[a, b])  # fmt: skip
                p = float(log_prob_ordered(story, graph.batch()).detach().exp())
                kinds, edges = drawn.node_types[:, :2], drawn.edges[:, 0, 1]
                seen = float((two & (kinds[:, 0] == a) & (kinds[:, 1] == b) & (edges == e)).sum())
                assert largest((seen - count * p) / math.sqrt(count * p * (1 - p))) < LIMIT


def test_every_parameter_learns() -> None:
    story = story_of()
    log_prob_ordered(story, TYPED.batch()).sum().backward()
    assert [
        n for n, p in story.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ] == []


def test_marginal_over_orders() -> None:
    """Twenty-four orders of four nodes, summed, against sampled ones."""
    story = story_of()
    graph = TYPED[:1]
    orders = torch.tensor(list(permutations(range(4))))
    values = log_prob_ordered(story, graph.batch().repeat(24).reorder(orders)).detach()
    exact = float(values.logsumexp(0))
    spread = float((values - values.logsumexp(0)).exp().mul(24).std())
    copies = graph[torch.zeros(50, dtype=torch.int64)]
    error = spread / math.sqrt(50 * 100)
    sampled = marginal_over_orders(story, copies, 100)
    assert largest((float(sampled.exp().mean().log()) - exact) / error) < LIMIT


def test_fit_climbs() -> None:
    graphs = cycles(20, [3, 4], seed=0)
    torch.manual_seed(0)
    fit = fit_ordered(SGGN(8, rounds=1), graphs, epochs=60, batch_size=20, learning_rate=0.02)
    history = fit.history
    assert history["log_prob"][0] < -4
    assert -1.2 < history["log_prob"][-1] < -0.6  # two lengths: at best -log 2 for even shares


@pytest.mark.parametrize("order", ["given", "breadth-first"])
def test_the_first_objective_of_a_fit_is_the_mean_log_prob(order: str) -> None:
    """With graphs that occur several times."""
    graphs = TYPED[torch.tensor([0, 3, 0, 2, 0, 3])]
    story = story_of()
    batch = graphs.batch().reorder(canonical_orders(graphs, order))
    expected = float(log_prob_ordered(story, batch).detach().mean())
    fit = fit_ordered(story, graphs, order, epochs=1, batch_size=6)
    assert fit.history["log_prob"][0] == pytest.approx(expected, rel=1e-12)


# -- orders ----------------------------------------------------------------------------------------


def test_canonical_orders() -> None:
    house = [(0, 4), (4, 1), (1, 3), (3, 0), (0, 2)]
    apart = [(0, 2), (1, 3)]
    graphs = GraphSet([5, 5], torch.tensor(house + apart).T, [0, 5, 7])
    assert canonical_orders(graphs).tolist() == [[0, 2, 3, 4, 1], [0, 2, 1, 3, 4]]
    assert canonical_orders(graphs, "depth-first").tolist() == [[0, 2, 3, 1, 4], [0, 2, 1, 3, 4]]
    assert canonical_orders(graphs, "given").tolist() == [[0, 1, 2, 3, 4]] * 2
    with pytest.raises(GraphError, match="not 'random'"):
        canonical_orders(graphs, "random")


def test_random_orders_are_uniform() -> None:
    """Chi-square of six orders (5 degrees of freedom, p = 1e-6 at 36), the padding in its place."""
    batch = cycles(1, [3], seed=0).batch(width=5).repeat(6000)
    orders = random_orders(batch)
    assert orders[:, 3:].tolist() == [[3, 4]] * 6000
    counts = orders[:, :3].unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 36


def test_refusals() -> None:
    with pytest.raises(ValueError, match="edge type 2; the story has 1"):
        log_prob_ordered(SGGN(3, node_types=3), TYPED.batch())
    with pytest.raises(ValueError, match="rounds is a number"):
        SGGN(3, rounds=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "widest-first"}, "not 'widest-first'"),
        ({"epochs": 0}, "epochs is the number of passes over the graphs, at least 1, not 0"),
        ({"batch_size": 0}, "batch_size is the number of graphs a step, at least 1, not 0"),
        ({"learning_rate": 0.0}, "learning_rate is positive, not 0.0"),
        ({"clip": -1.0}, "clip is positive, not -1.0"),
    ],
)
def test_fit_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_ordered(SGGN(3), cycles(2, [3], seed=0), **options)


def test_more_refusals() -> None:
    with pytest.raises(ValueError, match="edge type 2; the story has 1"):
        fit_ordered(SGGN(3, node_types=3), TYPED)
    with pytest.raises(ValueError, match="orders is the number of sampled orders"):
        marginal_over_orders(SGGN(3, edge_types=2, node_types=3), TYPED, 0)
