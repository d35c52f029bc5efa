"""The constructor and the destructor of SGVAE against plain loops, padding, and enumeration of orders."""

from __future__ import annotations

from itertools import permutations

import pyro.poutine as poutine
import pytest
import torch
from pyro.infer.tracegraph_elbo import TrackNonReparam
from pyro.ops.provenance import get_provenance
from torch.nn.functional import log_softmax, logsigmoid

from graphlore.data import GraphSet, cycles
from graphlore.guides import Destructor, Reordered, removals
from graphlore.models import SGVAE

TYPED = GraphSet(
    [4, 1, 2, 3],
    [[0, 1, 0, 0, 0], [1, 2, 3, 1, 2]],
    [0, 3, 3, 4, 5],
    edge_types=[2, 1, 1, 2, 1],
    node_types=[0, 1, 2, 0, 1, 1, 2, 0, 0, 2],
)


def story_and_guide(seed: int = 0, **options) -> tuple[SGVAE, Destructor]:
    torch.manual_seed(seed)
    story = SGVAE(5, 3, edge_types=2, node_types=3).double()
    guide = Destructor(story, hidden=4, **options).double()
    return story, guide


# -- the stories again, in plain loops over nodes and edges ----------------------------------------


def propagate(
    prop,
    h: list[torch.Tensor],
    edges: torch.Tensor,
    left: list[int],
    loud: dict[int, torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    for one in prop.rounds:
        new = list(h)
        for v in left:
            total = torch.zeros_like(h[v])
            for u in left:
                if kind := int(edges[u, v]):
                    inner = one.source(h[u]) + one.target(h[v])
                    if one.kind.num_embeddings > 1:
                        inner = inner + one.kind.weight[kind - 1]
                    weight = 1.0 if loud is None else loud.get(u, 1.0)
                    total = total + weight * one.message(inner.relu())
            new[v] = one.cell(total[None], h[v][None])[0]
        h = new
    return h


def gated(readout, h: list[torch.Tensor]) -> torch.Tensor:
    return sum(torch.sigmoid(readout.gate(x)) * readout.value(x) for x in h)


def constructor_by_hand(
    story: SGVAE, z: torch.Tensor, edges: torch.Tensor, types: torch.Tensor
) -> torch.Tensor:
    """log p(x | z) of one graph, nodes in the order given."""
    n = len(edges)
    h = [torch.cat([z, z.new_zeros(story.hidden - story.latent)])]
    total = z.new_zeros(())
    for t in range(1, n + 1):
        h = propagate(story.prop, h, edges, list(range(t)))
        graph = gated(story.readout, h)
        logit = story.f_an(graph)[0]
        if t == n:
            total = total + logsigmoid(-logit)
            break
        total = total + logsigmoid(logit)
        new = story.r_init(graph)
        for u in range(t):
            inner = story.f_ae.node(h[u]) + story.f_ae.context(torch.cat([new, graph]))
            total = total + log_softmax(story.f_ae.out(inner.relu()), -1)[edges[t, u]]
        h = [*h, new]
    if story.f_type is not None:
        for v in range(n):
            total = total + log_softmax(story.f_type(h[v]), -1)[types[v]]
    return total


def destructor_by_hand(guide: Destructor, edges, types, removed: list[int]):
    """log q(pi | x) of one graph, and the state that z is read from."""
    n = len(edges)
    h = [guide.start.weight[types[v]] for v in range(n)]
    left, total, whole = list(range(n)), torch.zeros((), dtype=torch.float64), None
    loud: dict[int, torch.Tensor] = {}  # of nodes that a soft destructor removed, what is left
    for r in removed:
        h = propagate(guide.prop, h, edges, list(range(n)) if guide.soft else left, loud)
        if whole is None and guide.readout is not None:
            whole = gated(guide.readout, h)
        scores = torch.stack([guide.f_r(h[v])[0] for v in left])
        log_q = log_softmax(scores, 0)[left.index(r)]
        total = total + log_q
        left.remove(r)
        share = log_q.exp() if guide.soft else 1.0
        for v in range(n) if guide.soft else left:
            if guide.parting is not None and (kind := int(edges[r, v])):
                h[v] = h[v] + share * guide.parting.weight[kind - 1]
        loud[r] = 1.0 - log_q.exp()
    if guide.readout is not None:
        return total, gated(guide.readout, h) if whole is None else whole
    return total, h[left[0]]


def log_probs(program, *args) -> tuple[torch.Tensor, poutine.Trace]:
    """Per-graph sum of all log-probabilities but that of z."""
    trace = poutine.trace(program).get_trace(*args)
    trace.compute_log_prob()
    sites = [
        s for n, s in trace.nodes.items() if s["type"] == "sample" and "log_prob" in s and n != "z"
    ]
    rows = [s["log_prob"] if s["log_prob"].ndim else s["log_prob"][None] for s in sites]
    rows = [r for r in rows if r.shape == (len(args[0]),)]
    return sum(rows), trace


@pytest.mark.parametrize("width", [4, 7])
def test_constructor_by_hand(width: int) -> None:
    story, _ = story_and_guide()
    batch = TYPED.batch(width=width)
    z = torch.randn(4, 3, dtype=torch.float64)
    total, trace = log_probs(poutine.condition(story, data={"z": z}), batch)
    for g, n in enumerate(TYPED.num_nodes.tolist()):
        hand = constructor_by_hand(story, z[g], batch.edges[g, :n, :n], batch.node_types[g, :n])
        assert total[g].item() == pytest.approx(hand.item(), abs=1e-12)
    prior = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
    assert torch.allclose(trace.nodes["z"]["log_prob"], prior)


@pytest.mark.parametrize("source", ["last", "readout"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("width", "parting"), [(4, True), (6, True), (4, False)])
def test_destructor_by_hand(source: str, soft: bool, width: int, parting: bool) -> None:
    _, guide = story_and_guide(source=source, parting=parting, soft=soft)
    batch = TYPED.batch(width=width)
    total, trace = log_probs(guide, batch)
    order = trace.nodes["_RETURN"]["value"]
    for g, n in enumerate(TYPED.num_nodes.tolist()):
        removed = order[g, :n].flip(0).tolist()
        assert sorted(removed) == list(range(n))
        assert order[g, n:].tolist() == list(range(n, width))
        assert [int(trace.nodes[f"remove_{t}"]["value"][g]) for t in range(1, n)] == removed[:-1]
        edges, types = batch.edges[g, :n, :n], batch.node_types[g, :n]
        hand, state = destructor_by_hand(guide, edges, types, removed[:-1])
        assert total[g].item() == pytest.approx(hand.item(), abs=1e-12)
        law = guide.law(state)
        assert torch.allclose(law.base_dist.loc, trace.nodes["z"]["fn"].base_dist.loc[g])
        assert torch.allclose(law.base_dist.scale, trace.nodes["z"]["fn"].base_dist.scale[g])


def test_a_soft_destructor_that_is_sure_is_a_hard_one() -> None:
    _, soft = story_and_guide(soft=True)
    with torch.no_grad():
        soft.f_r[2].weight.mul_(1e6)
    _, hard = story_and_guide()
    hard.load_state_dict(soft.state_dict())
    batch = TYPED.batch()
    ours, theirs = (log_probs(guide, batch)[1] for guide in (soft, hard))
    assert torch.equal(ours.nodes["_RETURN"]["value"], theirs.nodes["_RETURN"]["value"])
    means = [trace.nodes["z"]["fn"].base_dist.loc for trace in (ours, theirs)]
    assert torch.allclose(*means, atol=1e-12)


def test_scores_learn_from_later_states_of_a_soft_destructor() -> None:
    """With z read from the last node, its mean moves with the scores of the removals only if they are soft."""
    for soft in (False, True):
        _, guide = story_and_guide(soft=soft)
        trace = poutine.trace(guide).get_trace(TYPED.batch())
        mean = trace.nodes["z"]["fn"].base_dist.loc.sum()
        (slope,) = torch.autograd.grad(mean, guide.f_r[0].weight, allow_unused=True)
        assert (slope is not None and float(slope.norm()) > 0) == soft


def test_orders_sum_to_one() -> None:
    _, guide = story_and_guide()
    order = torch.tensor(list(permutations(range(4))))
    batch = TYPED.batch([0]).repeat(24)
    total, trace = log_probs(poutine.condition(guide, data=removals(order, batch.num_nodes)), batch)
    assert torch.equal(trace.nodes["_RETURN"]["value"], order)
    assert total.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_draws_score_as_drawn() -> None:
    """The density of a draw, as it was drawn and as an observed batch."""
    story, _ = story_and_guide(seed=3)
    drawn = poutine.trace(story).get_trace(None, 50)
    batch = drawn.nodes["_RETURN"]["value"]
    assert int(batch.num_nodes.max()) > 4
    drawn.compute_log_prob()
    z = drawn.nodes["z"]["value"]
    again, _ = log_probs(poutine.condition(story, data={"z": z}), batch)
    names = [n for n in drawn.nodes if n.startswith(("add", "edges_", "node_types"))]
    assert torch.allclose(again, sum(drawn.nodes[n]["log_prob"] for n in names))


def test_draws_stop_at_max_nodes() -> None:
    story, _ = story_and_guide()
    story.max_nodes = 3
    torch.nn.init.constant_(story.f_an[2].bias, 50.0)
    assert story(num_graphs=5).num_nodes.tolist() == [3] * 5
    torch.nn.init.constant_(story.f_an[2].bias, -50.0)
    batch = story(num_graphs=5)
    assert batch.edges.shape == (5, 1, 1)


def test_point_is_the_last_state() -> None:
    torch.manual_seed(0)
    story = SGVAE(4)
    guide = Destructor(story, latent="point")
    batch = cycles(3, [3, 5]).batch()
    trace = poutine.trace(guide).get_trace(batch)
    trace.compute_log_prob()
    assert torch.equal(trace.nodes["z"]["log_prob"], torch.zeros(3))
    assert trace.nodes["z"]["value"].requires_grad


def test_every_parameter_learns() -> None:
    story, guide = story_and_guide()
    pair = Reordered(story, guide)
    batch = TYPED.batch().repeat(5)
    guide_trace = poutine.trace(pair.guide).get_trace(batch)
    model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(batch)
    (model_trace.log_prob_sum() - guide_trace.log_prob_sum()).backward()
    for module in (story, guide):
        silent = [
            n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
        ]
        assert silent == []


def test_removals_reach_the_likelihood() -> None:
    """TraceGraph_ELBO finds what depends on a removal by provenance: the order must not lose it."""
    story, guide = story_and_guide()
    pair = Reordered(story, guide)
    batch = TYPED.batch()
    with TrackNonReparam():
        guide_trace = poutine.trace(pair.guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(batch)
        model_trace.compute_log_prob()
    reached = set().union(
        *(get_provenance(s["log_prob"]) for n, s in model_trace.nodes.items() if "log_prob" in s)
    )
    assert {"remove_1", "remove_2", "remove_3"} <= reached


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SGVAE(0), "hidden is a number"),
        (lambda: SGVAE(4, 5), "does not fit into h_0"),
        (lambda: Destructor(SGVAE(4), latent="delta"), "latent"),
        (
            lambda: Destructor(SGVAE(4), hidden=3, latent="point"),
            "needs source='last' and hidden=4",
        ),
        (lambda: SGVAE(4)(TYPED.batch()), "edge type 2; the story has 1"),
        (lambda: SGVAE(4, edge_types=2)(TYPED.batch()), "node type 2; the story has 1"),
        (lambda: SGVAE(4, node_types=2)(cycles(2).batch()), "the graphs have none"),
        (
            lambda: Reordered(SGVAE(4), Destructor(SGVAE(4))).model(cycles(2).batch()),
            "run it first",
        ),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
