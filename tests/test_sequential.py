"""Bounds, gradients and training of the sequential stories, against enumeration of orders and quadrature of z."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from chance import LIMIT, largest
from pyro.infer import TraceGraph_ELBO
from small_orders import (
    PAW,
    SMALL,
    exact_elbo,
    gradient,
    pair_of,
)
from torch import Tensor

from graphlore.data import GraphSet, cycles
from graphlore.guides import Destructor, Reordered
from graphlore.inference import (
    SequentialSettings,
    exact_log_likelihood,
    fit_sequential,
    importance_log_likelihood,
    log_automorphisms,
)
from graphlore.inference.sequential_terms import surrogate, trace_terms
from graphlore.models import SGVAE


def check_unbiased(draws: list[Tensor], exact: Tensor) -> None:
    """z-tests of 48 random projections of the mean gradient, and of its part along the exact one."""
    directions = torch.randn(
        48, exact.numel(), generator=torch.Generator().manual_seed(0), dtype=exact.dtype
    )
    directions = torch.cat([directions, exact[None]])
    off = (torch.stack(draws) - exact) @ directions.T
    z = off.mean(0) / (off.std(0) / math.sqrt(len(draws)))
    assert exact.norm() > 0.1
    assert largest(z, len(draws)) < LIMIT, z


@pytest.mark.parametrize(
    ("baseline", "beta", "source", "options"),
    [
        ("step", 1.0, "last", {}),
        ("order", 0.6, "last", {}),
        ("none", 1.0, "readout", {}),
        ("step", 0.3, "readout", {}),
        ("step", 1.0, "last", {"soft": True}),
        ("guide", 1.0, "last", {"baseline": "neural"}),
        ("guide", 1.0, "last", {"baseline": "decaying", "soft": True}),
    ],
)
def test_gradient_is_unbiased(baseline: str, beta: float, source: str, options: dict) -> None:
    # near-uniform removals would hide a reward that does not look ahead: its bias is 8 % here, and 2 % without contrast
    pair = pair_of(source, contrast=6.0, **options)
    exact = gradient(exact_elbo(pair, SMALL, beta), pair)
    many = SMALL.batch().repeat(100)
    draws = []
    for _ in range(80):
        terms = trace_terms(pair, many, 3)
        draws.append(gradient(surrogate(terms, kl_weight=beta, baseline=baseline), pair))
    check_unbiased(draws, exact)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [None, "decaying", "neural"])
def test_trace_graph_elbo_has_the_same_expectation(baseline: str | None) -> None:
    pair = pair_of(baseline=baseline)
    exact = gradient(exact_elbo(pair, SMALL), pair)
    many = SMALL.batch().repeat(100)
    draws = []
    for _ in range(80):
        _, loss = TraceGraph_ELBO()._loss_and_surrogate_loss(pair.model, pair.guide, (many,), {})
        draws.append(-gradient(loss, pair) / len(many))
    check_unbiased(draws, exact)


def test_baselines_take_noise_away() -> None:
    """Variance of the gradient of the removal scores, whose level the baseline takes out of the reward."""
    pair = pair_of()
    many = SMALL.batch().repeat(20)
    noise = {}
    for baseline in ("none", "order", "step"):
        rows = []
        for _ in range(40):
            value = surrogate(trace_terms(pair, many, 4), baseline=baseline)
            grads = torch.autograd.grad(value, list(pair.destructor.f_r[2].parameters())[:1])
            rows.append(grads[0].flatten())
        noise[baseline] = float(torch.stack(rows).var(0).sum())
    assert noise["step"] < 0.5 * noise["none"], noise
    assert noise["order"] < 0.5 * noise["none"], noise


@pytest.mark.parametrize("baseline", ["decaying", "neural"])
def test_baselines_of_the_guide_come_near_to_the_mean_reward(baseline: str) -> None:
    """The mean square of reward less baseline falls to about the variance of the rewards."""
    pair = pair_of(baseline=baseline)
    many = cycles(40, [4], seed=0).batch()
    own = [p for name, p in pair.named_parameters() if "baseline" in name]
    ascent = torch.optim.Adam(own, 0.03, maximize=True) if own else None
    for _ in range(150):
        terms = trace_terms(pair, many, 2)
        value = surrogate(terms, baseline="guide")
        if ascent is not None:
            ascent.zero_grad()
            value.backward(inputs=own)
            ascent.step()
    spent = terms.log_removals.flip(0).cumsum(0).flip(0)
    reward = (terms.log_likelihood + terms.log_prior - terms.log_latent - spent).detach()
    expected = terms.average[: len(reward), None, None] if terms.learned is None else terms.learned
    error = (reward - expected).square().mean((1, 2))
    assert (error < 1.3 * reward.var((1, 2))).all()
    assert (error < 0.2 * reward.square().mean((1, 2))).all()


def test_information_of_separate_and_of_equal_components() -> None:
    """log G where every graph has its own place, zero where all have the same law."""
    pair = pair_of("readout")
    head = pair.destructor.head[2]
    graphs = cycles(8, [3, 4], seed=0)
    graphs = graphs[torch.cat([(graphs.num_nodes == n).nonzero()[:2, 0] for n in (3, 4)])]
    with torch.no_grad():
        head.weight.zero_()
        terms = trace_terms(pair, graphs.batch(), 200)
        assert (terms.log_latent - terms.log_mixture()).abs().max() < 1e-9
        head.weight.normal_(std=400.0)
        head.weight[1] = 0.0
        head.bias[1] = -20.0  # scale at its floor
        terms = trace_terms(pair, graphs.batch(), 200)
    assert (terms.log_latent - terms.log_mixture()).mean().item() == pytest.approx(
        math.log(2), abs=1e-6
    )


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["last", "readout"])
def test_elbo_below_iwae_below_exact(source: str) -> None:
    pair = pair_of(source)
    graphs = GraphSet.from_networkx([nx.path_graph(2), nx.path_graph(3), PAW, nx.cycle_graph(4)])
    exact = exact_log_likelihood(pair.story, graphs)
    assert exact.sequence.mean() > exact_elbo(pair, graphs).item()
    fine = importance_log_likelihood(pair, graphs, 4000)
    error = fine.effective_draws.reciprocal().sqrt()
    assert (error < 0.1).all()
    assert largest((fine.sequence - exact.sequence) / error) < LIMIT
    # means over the graphs and many copies of them: E[ELBO] < E[IWAE of five draws] < exact
    copies = graphs[torch.arange(4).repeat(1200)]
    elbo, five = (
        importance_log_likelihood(pair, copies, draws, defence=0.0).sequence.view(1200, 4).mean(1)
        for draws in (1, 5)
    )
    error = {
        name: LIMIT * float(v.std()) / math.sqrt(1200)
        for name, v in (("elbo", elbo), ("five", five))
    }
    assert elbo.mean() + error["elbo"] < five.mean() - error["five"]
    assert five.mean() + error["five"] < exact.sequence.mean()
    off = elbo.mean().item() - exact_elbo(pair, graphs).item()
    assert largest(LIMIT * off / error["elbo"]) < LIMIT


def test_class_measure_is_the_frequency_of_draws() -> None:
    pair = pair_of(seed=2)
    classes = [
        nx.empty_graph(1),
        nx.empty_graph(2),
        nx.path_graph(2),
        nx.empty_graph(3),
        nx.path_graph(3),
    ]
    graphs = GraphSet.from_networkx([*classes, nx.complete_graph(3)])
    p = exact_log_likelihood(pair.story, graphs).isomorphism_class.exp()
    count = 40000
    drawn = pair.story(num_graphs=count)
    edges = drawn.edges.sum((1, 2)) // 2
    wanted = zip(graphs.num_nodes.tolist(), graphs.edge_ptr.diff().tolist(), strict=True)
    seen = torch.tensor([float(((drawn.num_nodes == n) & (edges == e)).sum()) for n, e in wanted])
    assert (seen > 100).all()
    z = (seen - count * p) / (count * p * (1 - p)).sqrt()
    assert largest(z) < LIMIT


def test_measures() -> None:
    graphs = GraphSet.from_networkx([nx.path_graph(3), nx.cycle_graph(5), PAW, nx.star_graph(4)])
    expected = [math.log(k) for k in (2, 10, 2, 24)]
    assert log_automorphisms(graphs).tolist() == pytest.approx(expected)
    typed = GraphSet([3], [[0, 1], [1, 2]], [0, 2], node_types=[0, 1, 2])
    assert log_automorphisms(typed).tolist() == [0.0]
    exact = exact_log_likelihood(pair_of().story, SMALL)
    assert (exact.sequence - exact.labelled).tolist() == pytest.approx([math.log(6), math.log(24)])
    assert (exact.sequence - exact.isomorphism_class).tolist() == pytest.approx(
        [math.log(2), math.log(2)]
    )


def test_bounds_refuse() -> None:
    story = SGVAE(3)
    point = Reordered(story, Destructor(story, latent="point"))
    with pytest.raises(ValueError, match="a destructor with latent='normal'"):
        importance_log_likelihood(point, SMALL)
    with pytest.raises(ValueError, match="at most six nodes"):
        exact_log_likelihood(story, SMALL)
    with pytest.raises(ValueError, match="0 <= defence < 1"):
        importance_log_likelihood(pair_of(), SMALL, defence=1.0)


# -- training --------------------------------------------------------------------------------------


def test_fit_climbs_and_repeats() -> None:
    graphs = cycles(12, [3, 4], seed=0)

    def run() -> list[float]:
        torch.manual_seed(0)
        story = SGVAE(8, 2, rounds=1)
        guide = Destructor(story, rounds=1, source="readout")
        fit = fit_sequential(
            story,
            guide,
            graphs,
            epochs=40,
            batch_size=12,
            warmup=0,
            learning_rate=0.02,
            information=0.5,
        )
        assert fit.attributes()["objective_is_elbo"] is False
        return fit.history["elbo"]

    first = run()
    assert first == run()
    # the bound cannot pass the entropy of two lengths plus the mean of log 2n
    best = -math.log(2) + float((2.0 * graphs.num_nodes).log().mean())
    assert first[0] < -3.0
    assert -1.0 < np.mean(first[-5:]) < best + 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is positive"),
        ({"batch_size": 0}, "batch_size is None or at least 1"),
        ({"baseline": "decaying"}, "baseline is 'step'"),
        ({"orders": 1}, "needs at least two orders"),
    ],
)
def test_settings_refuse(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequentialSettings(**options)


def test_fit_refuses_a_baseline_that_the_guide_lacks() -> None:
    story = SGVAE(4, 1)
    with pytest.raises(ValueError, match="baseline='neural'"):
        fit_sequential(story, Destructor(story), cycles(3, [3]), baseline="guide")


def test_fit_refuses_foreign_types() -> None:
    story = SGVAE(3)
    with pytest.raises(ValueError, match="edge type 2; the story has 1"):
        fit_sequential(story, Destructor(story), GraphSet([2], [[0], [1]], [0, 1], edge_types=[2]))
