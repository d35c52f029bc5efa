"""Metrics of drawn graphs and of the latent, against hand computations and laws that are known."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch

from graphlore.data import GraphSet, cycles, trees
from graphlore.guides import Destructor, Reordered
from graphlore.inference import (
    isomorphism_classes,
    latent_metrics,
    mmd,
    mutual_information,
    novelty,
    orbit_counts,
    principal_axis,
    steer,
    uniqueness,
    valid,
)
from graphlore.models import SGVAE


def named(*graphs: nx.Graph) -> GraphSet:
    return GraphSet.from_networkx([nx.convert_node_labels_to_integers(g) for g in graphs])


FEW = named(
    nx.cycle_graph(5),
    nx.path_graph(5),
    nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)),
    nx.grid_2d_graph(3, 4),
    nx.grid_2d_graph(2, 2),
    nx.complete_graph(5),
    nx.ladder_graph(6),
    nx.circular_ladder_graph(6),
    nx.empty_graph(1),
)


def test_valid() -> None:
    assert valid(FEW, "cycle").nonzero()[0].tolist() == [0, 4]
    assert valid(FEW, "tree").nonzero()[0].tolist() == [1, 8]
    assert valid(FEW, "grid").nonzero()[0].tolist() == [3, 4, 6]
    assert valid(FEW, "planar").nonzero()[0].tolist() == [0, 1, 3, 4, 6, 7, 8]
    with pytest.raises(ValueError, match="family is one of cycle, tree, grid, planar"):
        valid(FEW, "rings")


def test_a_grid_with_an_edge_moved_is_none() -> None:
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3))
    graph.remove_edge(0, 1)
    graph.add_edge(0, 4)
    assert valid(named(graph), "grid").tolist() == [False]


def test_classes() -> None:
    # the 6-cycle and two triangles have equal Weisfeiler-Lehman hashes: the exact test parts them
    graphs = named(
        nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.star_graph(5)
    )
    moved = GraphSet.from_graphs([g.relabel([3, 1, 4, 0, 5, 2]) for g in graphs])
    first, second = isomorphism_classes(graphs, moved)
    assert first.tolist() == second.tolist() == [0, 1, 2]
    typed = GraphSet([2, 2, 2], [[0, 0, 0], [1, 1, 1]], [0, 1, 2, 3], node_types=[0, 1, 1, 0, 0, 0])
    assert isomorphism_classes(typed)[0].tolist() == [0, 0, 1]
    bonds = GraphSet([2, 2], [[0, 0], [1, 1]], [0, 1, 2], edge_types=[1, 2])
    assert isomorphism_classes(bonds)[0].tolist() == [0, 1]


def test_number_of_tree_classes() -> None:
    """There are three trees on five nodes up to isomorphism."""
    drawn = trees(150, [5], seed=0)
    assert uniqueness(drawn) == 3 / 150
    assert novelty(drawn, drawn[:1]) == pytest.approx(
        1 - np.mean(isomorphism_classes(drawn)[0] == isomorphism_classes(drawn)[0][0])
    )
    assert novelty(drawn, drawn) == 0.0


def test_mmd_by_hand() -> None:
    """Degree histograms of a path and of a cycle of four: (0, 1/2, 1/2) and (0, 0, 1)."""
    path, ring = named(nx.path_graph(4)), named(nx.cycle_graph(4))
    expected = 2 - 2 * math.exp(-(0.5**2) / 2)
    assert mmd(path, ring, "degree") == pytest.approx(expected)
    assert mmd(path, ring, "degree", "emd") == pytest.approx(
        expected
    )  # half the mass moves one degree
    # cliques have clustering 1, trees 0: total variation 1, width 0.1
    assert mmd(named(nx.complete_graph(4)), path, "clustering") == pytest.approx(
        2 - 2 * math.exp(-50)
    )
    # an edge has eigenvalues 0 and 2, a triangle 0 and 3/2 twice: masses (1/2, 0, 1/2) and (1/3, 2/3, 0)
    edge, triangle = named(nx.path_graph(2)), named(nx.complete_graph(3))
    assert mmd(edge, triangle, "spectral") == pytest.approx(2 - 2 * math.exp(-((2 / 3) ** 2) / 2))


#: of a connected graph of 2 to 4 nodes, by its sorted degrees: the orbit of a node of each degree
ORBITS = {
    (1, 1): {1: 0},
    (1, 1, 2): {1: 1, 2: 2},
    (2, 2, 2): {2: 3},
    (1, 1, 2, 2): {1: 4, 2: 5},
    (1, 1, 1, 3): {1: 6, 3: 7},
    (2, 2, 2, 2): {2: 8},
    (1, 2, 2, 3): {1: 9, 2: 10, 3: 11},
    (2, 2, 3, 3): {2: 12, 3: 13},
    (3, 3, 3, 3): {3: 14},
}


def test_orbits_are_those_of_all_small_subgraphs() -> None:
    graphs = [nx.gnp_random_graph(9, p, seed=s) for s, p in enumerate((0.2, 0.5, 0.8))]
    graphs += [nx.complete_graph(5), nx.empty_graph(1)]
    expected = np.zeros((len(graphs), 15))
    for g, graph in enumerate(graphs):
        for size in (2, 3, 4):
            for chosen in itertools.combinations(graph, size):
                part = graph.subgraph(chosen)
                if nx.is_connected(part):
                    degrees = [d for _, d in part.degree()]
                    for d in degrees:
                        expected[g, ORBITS[tuple(sorted(degrees))][d]] += 1 / len(graph)
    np.testing.assert_allclose(orbit_counts(named(*graphs)), expected, atol=1e-12)


def test_mmd_of_orbits_by_hand() -> None:
    # per node a triangle has 2 edges and one triangle; an edge has one edge
    edge, triangle = named(nx.path_graph(2)), named(nx.complete_graph(3))
    assert mmd(edge, triangle, "orbit") == pytest.approx(2 - 2 * math.exp(-(1.0**2) / 1800))
    assert mmd(edge, triangle, "orbit", "emd") == pytest.approx(2 - 2 * math.exp(-2.0 / 1800))


def test_mmd_of_sets() -> None:
    """The mean over all pairs, against a double loop."""
    a, b = cycles(4, [5, 6], seed=0), trees(3, [4, 7], seed=1)
    assert mmd(a, a, "spectral") == pytest.approx(0.0, abs=1e-12)

    def histogram(g: nx.Graph) -> np.ndarray:
        return np.bincount([d for _, d in g.degree()], minlength=10) / len(g)

    def mean(x: GraphSet, y: GraphSet) -> float:
        rows = [(histogram(p), histogram(q)) for p in x.to_networkx() for q in y.to_networkx()]
        return float(np.mean([np.exp(-(np.abs(p - q).sum() ** 2) / 8) for p, q in rows]))

    assert mmd(a, b, "degree") == pytest.approx(mean(a, a) + mean(b, b) - 2 * mean(a, b))
    with pytest.raises(ValueError, match="statistic is one of"):
        mmd(a, b, "motif")
    with pytest.raises(ValueError, match="kernel is"):
        mmd(a, b, "degree", "rbf")


# -- the latent ------------------------------------------------------------------------------------


def stand_in(law) -> object:
    """Draws graphs without edges whose sizes follow ``law(z)``."""

    def draw(story: SGVAE, z: torch.Tensor) -> GraphSet:
        sizes = law(z[:, 0])
        return GraphSet(sizes, np.empty((2, 0), int), np.zeros(len(sizes) + 1, int))

    return draw


def test_mutual_information_of_known_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    story = SGVAE(2, 1)
    by_size = {"classes": lambda graphs: graphs.num_nodes.numpy()}
    quartile = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.25, 0.5, 0.75]))
    monkeypatch.setattr(
        latent_metrics, "draw_graphs", stand_in(lambda z: 1 + torch.bucketize(z, quartile))
    )
    told = mutual_information(story, 2000, 10)
    assert told.estimate == pytest.approx(math.log(4), abs=0.01)  # classes by isomorphism
    assert told.error < 0.01
    # no information: the plug-in value is (m - 1) / (2 draws) too large, the estimate is not
    monkeypatch.setattr(
        latent_metrics, "draw_graphs", stand_in(lambda z: torch.randint(1, 5, z.shape))
    )
    none = mutual_information(story, 2000, 30, **by_size)
    assert none.plug_in == pytest.approx(3 / 60, abs=0.01)
    assert abs(none.estimate) < 0.01
    assert none.entropy == pytest.approx(math.log(4), abs=0.01)


def test_steering_of_known_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    story = SGVAE(2)
    monkeypatch.setattr(
        latent_metrics, "draw_graphs", stand_in(lambda z: (10 + 3 * z).round().long())
    )
    found = steer(story, torch.tensor([2.0, 0.0]), np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), draws=3)
    assert found.sizes.tolist() == [4, 7, 10, 13, 16]
    assert (found.spearman, found.span) == (pytest.approx(1.0), 12.0)
    assert found.spread.tolist() == [0.0] * 5
    flat = steer(story, torch.tensor([0.0, 1.0]), draws=3)
    assert (flat.spearman, flat.span) == (0.0, 0.0)


def test_standard_error_divides_by_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        latent_metrics, "draw_graphs", stand_in(lambda z: 1 + 2 * (torch.arange(len(z)) % 2))
    )
    found = steer(SGVAE(2), torch.ones(2), np.array([0.0]), draws=100)
    assert found.spread[0] == pytest.approx(math.sqrt(100 / 99) / 10)


def test_principal_axis() -> None:
    """Components that differ along (3, -4) only."""
    torch.manual_seed(0)
    story = SGVAE(4, 2)
    guide = Destructor(story, source="readout")
    head = guide.head[2]
    with torch.no_grad():
        head.weight.zero_()
        head.weight[:2] = torch.tensor([[3.0], [-4.0]]) * torch.rand(1, head.in_features)
        head.bias[2:] = -20.0
    axis = principal_axis(Reordered(story, guide), cycles(30, range(3, 8), seed=0))
    assert axis.abs().tolist() == pytest.approx([0.6, 0.8], abs=1e-3)
    assert axis.prod() < 0
