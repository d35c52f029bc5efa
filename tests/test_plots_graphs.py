"""Pictures of whole graphs: kinds of adjacency, generated graphs, sets of them, and films of their construction."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from scipy import sparse

import graphlore as gl
from graphlore import plots
from graphlore.plots.film import _NEW

pytestmark = pytest.mark.usefixtures("pictures_closed")


def shown(panel: Any, image: int = 0) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(panel.images[image].get_array(), dtype=float), np.nan)


# --- adjacency ------------------------------------------------------------------------------------


def test_directed_adjacency_has_tails_in_rows_and_missing_arcs_one_way() -> None:
    graph = gl.Graph(3, [[0, 2], [1, 0]], missing=[[1], [2]], directed=True)
    left, _ = plots.adjacency(graph, np.full((3, 3), 0.5), np.arange(3))
    nan = np.nan
    np.testing.assert_array_equal(shown(left), [[nan, 1, 0], [0, nan, nan], [1, 0, nan]])
    marked = np.argwhere(~np.ma.getmaskarray(left.images[1].get_array()))
    assert marked.tolist() == [[1, 2]]
    assert left.get_ylabel().startswith("tail")
    assert left.get_xlabel().startswith("head")


def test_bipartite_adjacency_is_one_side_by_the_other() -> None:
    parts = [0, 1, 0, 1, 1]
    graph = gl.Graph(5, [[0, 2, 2], [1, 3, 4]], parts=parts)
    p = np.arange(25.0).reshape(5, 5) / 25
    p = (p + p.T) / 2
    left, right = plots.adjacency(graph, p, np.array([4, 2, 0, 3, 1]))
    # rows 2, 0; columns 4, 3, 1
    np.testing.assert_array_equal(shown(left), [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(shown(right), p[np.ix_([2, 0], [4, 3, 1])], rtol=1e-6)
    assert left.get_ylabel() == "first side, 2 nodes"
    assert left.get_xlabel() == "other side, 3 nodes"


def test_weighted_adjacency_is_drawn_by_its_weights() -> None:
    graph = gl.Graph(4, [[0, 1], [1, 2]], weights=[2.0, -1.0])
    means = np.full((4, 4), 0.25)
    left, right = plots.adjacency(graph, means, np.arange(4), weighted=True)
    seen = shown(left)
    assert seen[0, 1] == seen[1, 0] == 2.0
    assert seen[1, 2] == -1.0
    low, high = left.images[0].get_clim()
    assert low == -high < 0  # zero is in the middle of a diverging map
    assert left.images[0].norm is right.images[0].norm
    assert shown(plots.adjacency(graph, means, np.arange(4))[0])[1, 2] == 1.0
    with pytest.raises(ValueError, match="needs a graph with weights"):
        plots.adjacency(gl.data.karate(), np.zeros((34, 34)), weighted=True)


def test_a_sparse_graph_of_3000_nodes_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    pairs = np.unique(np.sort(rng.integers(0, 3000, (3000, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].T
    graph = gl.Graph(3000, pairs)
    left, right = plots.generated(graph, graph, order=np.arange(3000))
    np.testing.assert_array_equal(left.images[0].get_array(), right.images[0].get_array())
    counts = np.asarray(left.images[0].get_array())
    assert counts.sum() == 2 * pairs.shape[1]  # both halves of the matrix
    assert counts.shape == (250, 250)
    i, j = pairs[:, 0] // 12
    assert counts[i, j] >= 1
    # a cell with one edge is clearly not paper
    one = left.images[0].cmap(left.images[0].norm(1.0))
    assert np.linalg.norm(np.array(one[:3]) - 1.0) > 0.3


# --- generated graphs -----------------------------------------------------------------------------


def test_several_generated_graphs_in_any_form_stand_beside_the_observed_one() -> None:
    graph = gl.Graph(4, [[0, 1, 2], [1, 2, 3]])
    first = np.zeros((4, 4), int)
    first[0, 3] = first[3, 0] = 1
    second = np.ones((4, 4), int) - np.eye(4, dtype=int)
    forms: list[Any] = [
        [first, second],
        np.stack([first, second]),
        [sparse.csr_array(first), sparse.csr_array(second)],
        [gl.Graph(4, [[0], [3]]), gl.Graph(4, np.array(np.triu_indices(4, 1)))],
    ]
    for samples in forms:
        panels = plots.generated(graph, samples)
        titles = [panel.get_title(loc="left").split(",")[0] for panel in panels]
        assert titles == ["Observed: 3 edges", "Generated: 1 edges", "Generated: 6 edges"]
        places = [np.asarray(panel.collections[-1].get_offsets()) for panel in panels]
        np.testing.assert_array_equal(places[0], places[2])
        (line,) = panels[1].collections[0].get_segments()
        np.testing.assert_allclose(line, places[0][[0, 3]])
    assert len(plots.generated(graph, [first] * 6)) == 7


def test_generated_refuses_other_nodes_and_nothing() -> None:
    graph = gl.data.karate()
    with pytest.raises(ValueError, match="5 nodes, not 34"):
        plots.generated(graph, [gl.Graph(5, [[0], [1]])])
    with pytest.raises(ValueError, match=r"shape \(5, 5\)"):
        plots.generated(graph, np.zeros((5, 5)))
    with pytest.raises(ValueError, match="samples is empty"):
        plots.generated(graph, [])


def test_density_of_a_bipartite_graph_is_over_pairs_across() -> None:
    graph = gl.Graph(5, [[0, 2, 2], [1, 3, 4]], parts=[0, 1, 0, 1, 1])
    panels = plots.generated(graph, graph)
    assert "density 0.5" in panels[0].get_title(loc="left")  # 3 of 2 x 3


def test_arcs_have_heads_and_edges_have_none() -> None:
    from matplotlib.quiver import Quiver

    arcs = gl.Graph(3, [[0, 2], [1, 0]], directed=True)
    panel = plots.generated(arcs, arcs)[0]
    (heads,) = [c for c in panel.collections if isinstance(c, Quiver)]
    places = np.asarray(panel.collections[-1].get_offsets())
    way = places[[1, 0]] - places[[0, 2]]
    np.testing.assert_allclose(np.stack([heads.U, heads.V], 1), 0.12 * way)
    edges = gl.Graph(3, [[0, 0], [1, 2]])
    assert not any(isinstance(c, Quiver) for c in plots.generated(edges, edges)[0].collections)


def test_sets_of_graphs_stand_in_two_rows_by_size() -> None:
    observed, drawn = gl.data.cycles(9, range(5, 9), seed=0), gl.data.trees(3, seed=0)
    panels = plots.generated_set(observed, drawn, count=4)
    assert panels.shape == (2, 4)
    sizes = [int(p.get_title(loc="left").split()[0]) for p in panels[0]]
    assert sizes == sorted(sizes)
    for panel, size in zip(panels[0], sizes, strict=True):
        assert len(panel.collections[-1].get_offsets()) == size
        assert panel.get_title(loc="left").endswith(f"{size} edges")  # a cycle
    assert not panels[1, 3].collections
    assert "3 of 3 graphs" in panels[1, 0].texts[0].get_text()
    with pytest.raises(ValueError, match="two nodes or more"):
        plots.generated_set(observed, [])
    with pytest.raises(ValueError, match="at least 1"):
        plots.generated_set(observed, drawn, count=0)


def test_graphs_of_one_node_are_counted_and_not_drawn() -> None:
    drawn = gl.data.GraphSet([1, 3, 1], [[0, 1], [1, 2]], [0, 0, 2, 2])
    panels = plots.generated_set(gl.data.cycles(4, seed=0), drawn, count=2)
    assert (
        panels[1, 0].texts[0].get_text() == "Generated: 1 of 3 graphs; 2 of one node are not drawn"
    )
    assert panels[1, 0].get_title(loc="left") == "\n\n3 nodes, 2 edges"


# --- film strip -----------------------------------------------------------------------------------


def test_frames_show_what_stands_and_what_is_new() -> None:
    # a path 0 - 1 - 2 - 3 and an edge 0 - 3, built 2, 1, 3, 0
    graph = gl.Graph(4, [[0, 1, 2, 0], [1, 2, 3, 3]])
    order = torch.tensor([2, 1, 3, 0, 4, 5])  # a row of a batch, padded
    panels = plots.film_strip(graph, order, places=np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    told = [panel.get_title(loc="left") for panel in panels]
    assert told == ["1 node, 0 edges", "2 nodes, 1 edge", "3 nodes, 2 edges", "4 nodes, 4 edges"]
    old, new = (panels[3].collections[k].get_segments() for k in (0, 1))
    as_sets = [{frozenset(map(tuple, line)) for line in part} for part in (old, new)]
    place = {0: (0.0, 0.0), 1: (1.0, 0.0), 2: (1.0, 1.0), 3: (0.0, 1.0)}
    assert as_sets[0] == {frozenset((place[1], place[2])), frozenset((place[2], place[3]))}
    assert as_sets[1] == {frozenset((place[0], place[1])), frozenset((place[0], place[3]))}
    nodes = panels[2].collections[2]
    red = [tuple(c) == to_rgba(_NEW) for c in nodes.get_facecolors()]
    assert [place[n] for n in (1, 2, 3)] == [tuple(x) for x in nodes.get_offsets()]
    assert red == [False, False, True]


def test_a_long_film_is_cut_to_evenly_chosen_frames() -> None:
    graph = gl.data.planted_partition([1500, 1500], np.full((2, 2), 0.001), seed=0)
    order = np.random.default_rng(0).permutation(3000)
    panels = plots.film_strip(
        graph, order, frames=5, places=np.random.default_rng(1).random((3000, 2))
    )
    counts = [int(p.get_title(loc="left").split()[0].replace(",", "")) for p in panels]
    assert counts == [1, 751, 1500, 2250, 3000]
    edges = panels[-1].get_title(loc="left").split(", ")[1]
    assert edges == f"{graph.num_edges:,} edges"
    new = [len(panel.collections[1].get_segments()) for panel in panels]
    assert sum(new) == graph.num_edges  # each edge is new once


def test_the_numbering_is_the_order_of_a_generated_graph() -> None:
    cycle = gl.data.cycles(1, [6])[0]
    by_number = [p.get_title(loc="left") for p in plots.film_strip(cycle)]
    given = [p.get_title(loc="left") for p in plots.film_strip(cycle, np.arange(6))]
    assert by_number == given


@pytest.mark.parametrize(
    ("order", "match"),
    [
        ([0, 1, 1], "each of the 3 nodes once"),
        ([0, 1], "must be 3 integers"),
        ([0, 1, 3, 2], "each of the 3 nodes once"),
        ([0.0, 1.0, 2.0], "must be 3 integers"),
        ([[0, 1, 2]], "one row of a batch"),
    ],
)
def test_an_order_must_be_one_of_all_nodes(order: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        plots.film_strip(gl.Graph(3, [[0, 1], [1, 2]]), np.array(order))


def test_a_film_needs_frames_and_places_for_all() -> None:
    graph = gl.Graph(3, [[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="at least 2 frames"):
        plots.film_strip(graph, frames=1)
    with pytest.raises(ValueError, match="places have shape"):
        plots.film_strip(graph, places=np.zeros((2, 2)))
