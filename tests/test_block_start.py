"""Starting the latent feature guides at a clustering: the numbers by hand, and what the options refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from graphlore.data import from_edges, karate, symmetric_partition
from graphlore.guides import MeanField, StructuredMeanField, spectral_blocks
from graphlore.guides.block_start import BlockStart
from graphlore.guides.spectral import _profile, undirected_weights
from graphlore.inference import overlap_with
from graphlore.models import DGLFRM, LFRM


def two_cliques():
    """Nodes 0-2 and 3-7 complete within, one edge between, one dyad (3, 4) not observed."""
    inside = [(i, j) for s in (range(3), range(3, 8)) for i in s for j in s if i < j]
    graph = from_edges([e for e in inside if e != (3, 4)] + [(2, 3)], num_nodes=8)
    return graph.hide([[3], [4]]), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("by_degree", [False, True])
def test_the_profile_likelihood_by_hand(by_degree):
    graph, blocks = two_cliques()
    a = undirected_weights(graph)
    theta = np.asarray(a.sum(1)).ravel() if by_degree else np.ones(8)
    size = [theta[:3].sum(), theta[3:].sum()]
    # edges within are counted from both ends: 3 and 9 of them, 1 between
    counts = {(0, 0): 6, (1, 1): 18, (0, 1): 1, (1, 0): 1}
    expected = sum(m * math.log(m / (size[r] * size[s])) for (r, s), m in counts.items())
    assert _profile(a, blocks.numpy(), theta) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("epsilon", "seed"), [(0.25, 1), (4.0, 0)])
def test_blocks_near_the_threshold_are_found(epsilon, seed):
    """The adjacency matrix alone has 0.37 of the first; the Bethe Hessian has not. The second are disassortative."""
    blocks, degree = (4, 10.0) if epsilon < 1 else (2, 8.0)
    graph = symmetric_partition(400, blocks, degree, epsilon, seed=seed)
    assert overlap_with(spectral_blocks(graph, blocks), graph.labels) > 0.7


def test_the_larger_block_comes_first():
    graph, blocks = two_cliques()
    start = BlockStart(graph, blocks, 3, by_degree=False)
    np.testing.assert_array_equal(start.one_hot.sum(0), [5, 3, 0])
    np.testing.assert_array_equal(start.blocks, [1, 1, 1, 0, 0, 0, 0, 0])


def test_affinities_against_the_mean_density():
    graph, blocks = two_cliques()
    edges = {(0, 0): 9, (0, 1): 1, (0, 2): 0, (1, 1): 3, (1, 2): 0, (2, 2): 0}
    dyads = {(0, 0): 9, (0, 1): 15, (0, 2): 0, (1, 1): 3, (1, 2): 0, (2, 2): 0}
    density = 13 / 27  # of the observed dyads
    expected = [math.log((edges[k] + 1) / (density * dyads[k] + 1)) for k in edges]
    got = BlockStart(graph, blocks, 3, by_degree=False).affinities()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_affinities_against_the_degrees():
    graph, blocks = two_cliques()
    start = BlockStart(graph, blocks, 2, by_degree=True)
    degree = np.array([2, 2, 3, 4, 3, 4, 4, 4]) + 0.5
    theta = degree / np.sqrt(26)
    np.testing.assert_allclose(start.node_bias, np.log(theta / np.sqrt(13 / 27)), rtol=1e-5)
    first, second = theta[3:], theta[:3]
    within = [(x.sum() ** 2 - (x**2).sum()) / 2 for x in (first, second)]
    x = [within[0] - theta[3] * theta[4], first.sum() * second.sum(), within[1]]
    expected = np.log(np.array([10, 2, 4]) / (np.array(x) + 1))
    np.testing.assert_allclose(start.affinities(), expected, rtol=1e-5)


def medians(c, d):
    return (1 - 0.5 ** (1 / d)) ** (1 / c)


def test_medians_of_the_sticks_multiply_to_the_shares():
    graph, blocks = two_cliques()
    c, d = BlockStart(graph, blocks, 2, by_degree=False).sticks()
    share = [(5 + 0.5) / 8, (3 + 0.5) / 8]
    np.testing.assert_allclose(torch.cumprod(medians(c, d), 0), share, rtol=1e-5)


@pytest.mark.parametrize("make", [MeanField, StructuredMeanField])
def test_a_node_starts_in_its_own_block(make):
    graph = karate()
    story = LFRM(34, 2, bias="node")
    guide = make(story, graph, initial="spectral", amortised=False)
    c, d = (torch.nn.functional.softplus(x) for x in (guide.stick_c_raw, guide.stick_d_raw))
    encoded = guide.encoder.heads["membership_logits"]
    p = torch.sigmoid(guide.membership_logits(encoded, medians(c, d)))
    assert torch.allclose(p.max(1).values, torch.sigmoid(torch.tensor(4.0)))
    assert torch.allclose(p.min(1).values, torch.sigmoid(torch.tensor(-5.0)), atol=1e-5)
    # the two clubs, but for the two or three members whom every spectral method disputes
    agree = (p.argmax(1) == graph.labels).float().mean()
    assert max(agree, 1 - agree) > 0.9
    table = story.table(guide.affinity_loc)
    assert (table.diagonal() > 0).all()
    assert table[0, 1] < 0


def test_diagonal_affinities_and_strengths_are_those_of_the_full_table():
    graph = karate()
    o = {"initial": "spectral", "amortised": False}
    full, diagonal = (LFRM(34, 3, bias="node", affinity=a) for a in ("full", "diagonal"))
    table = full.table(StructuredMeanField(full, graph, **o).affinity_loc)
    found = StructuredMeanField(diagonal, graph, **o).affinity_loc
    np.testing.assert_array_equal(found.detach(), table.diagonal().detach())
    story = DGLFRM(34, 3, decoder=(), bias="node")
    r = StructuredMeanField(story, graph, **o).encoder.heads["strength_loc"].detach()
    np.testing.assert_allclose((r @ r.T).max(1).values, (r**2).sum(1), rtol=1e-5)
    expected = table.diagonal().clamp(min=0.25).sqrt().detach()
    assert set(r[r > 0].tolist()) <= set(expected.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": "random"}, "initial is None or 'spectral'"),
        ({"initial": "spectral"}, "amortised=False"),
        ({"initial": "spectral", "amortised": False, "membership_spread": 1.0}, "spread"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        StructuredMeanField(LFRM(34, 3), karate(), **options)


def test_directed_graphs_are_refused():
    graph = from_edges([(0, 1), (1, 2), (2, 0), (2, 3)], directed=True)
    with pytest.raises(ValueError, match="undirected"):
        StructuredMeanField(LFRM(4, 2, kind="directed"), graph, initial="spectral", amortised=False)
