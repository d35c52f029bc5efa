"""Sets of graphs: normal form, batches, round trips, refusals, the families."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

from graphlore.data import (
    Graph,
    GraphError,
    GraphSet,
    catalogue_of_sets,
    cycles,
    grids,
    holds_set,
    karate,
    load_set,
    read_graphset,
    trees,
    write_graphset,
    write_npz,
)
from graphlore.data.fingerprint import fingerprint_of_set

TYPED = GraphSet(
    [3, 1, 4],
    [[1, 0, 3, 1], [0, 2, 0, 2]],
    [0, 2, 2, 4],
    edge_types=[2, 1, 3, 1],
    node_types=[0, 1, 2, 5, 0, 0, 1, 1],
    labels=[7, -1, 7],
)


def test_normal_form_and_batch() -> None:
    assert TYPED.edge_index.tolist() == [[0, 0, 0, 1], [1, 2, 3, 2]]
    assert TYPED.edge_types.tolist() == [2, 1, 3, 1]
    assert (TYPED.num_edge_types, TYPED.num_node_types) == (3, 6)
    batch = TYPED.batch()
    expected = torch.zeros(3, 4, 4, dtype=torch.int64)
    for g, u, v, kind in ((0, 0, 1, 2), (0, 0, 2, 1), (2, 0, 3, 3), (2, 1, 2, 1)):
        expected[g, u, v] = expected[g, v, u] = kind
    assert torch.equal(batch.edges, expected)
    assert batch.mask.tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4]
    assert batch.node_types.tolist() == [[0, 1, 2, 0], [5, 0, 0, 0], [0, 0, 1, 1]]
    assert batch.labels.tolist() == [7, -1, 7]
    assert "GraphSet('graphs': 3 graphs, 1 to 4 nodes, 4 edges in all" in repr(TYPED)


def same(a: GraphSet, b: GraphSet) -> bool:
    names = ("num_nodes", "edge_index", "edge_ptr", "edge_types", "node_types", "labels")
    pairs = [(getattr(a, n), getattr(b, n)) for n in names]
    return all((x is None and y is None) or torch.equal(x, y) for x, y in pairs)


def test_selection_agrees_with_batch() -> None:
    part = TYPED[torch.tensor([2, 0])]
    whole, some = TYPED.batch(), part.batch()
    assert torch.equal(some.edges, whole.edges[[2, 0]])
    assert torch.equal(some.node_types, whole.node_types[[2, 0]])
    assert same(TYPED[1:], TYPED[torch.tensor([False, True, True])])
    assert torch.equal(TYPED.batch([1], width=3).edges, torch.zeros(1, 3, 3, dtype=torch.int64))


def test_round_trips() -> None:
    assert same(GraphSet.from_batch(TYPED.batch(width=6)), TYPED)
    back = GraphSet.from_networkx(TYPED.to_networkx())
    assert torch.equal(back.edge_index, TYPED.edge_index)
    assert torch.equal(back.edge_types, TYPED.edge_types)
    assert torch.equal(back.node_types, TYPED.node_types)
    two = GraphSet.from_graphs([karate(), karate().relabel(torch.arange(33, -1, -1))])
    for graph, again in zip(
        [karate(), karate().relabel(torch.arange(33, -1, -1))], two, strict=True
    ):
        assert torch.equal(graph.edge_index, again.edge_index)
        assert torch.equal(graph.labels, again.labels)
    with pytest.raises(GraphError, match="at least two nodes"):
        TYPED[1]


def test_reorder_is_relabel() -> None:
    graph = karate()
    order = torch.randperm(34)
    moved = GraphSet.from_graphs([graph]).batch(width=40)
    moved = moved.reorder(torch.cat([order, torch.arange(34, 40)])[None])
    again = GraphSet.from_batch(moved)[0]
    assert torch.equal(again.edge_index, graph.relabel(order).edge_index)
    assert torch.equal(again.labels, graph.labels[order])


def test_distinct_graphs_and_which_each_equals() -> None:
    batch = TYPED.batch()
    three = batch.repeat(3)
    three.edges[4, 0, 1] = three.edges[4, 1, 0] = 1  # graph 1 again, but for an edge
    three.node_types[8, 3] = 2  # graph 2 again, but for a type
    found, which = three.distinct()
    assert which.tolist() == [0, 1, 2, 0, 3, 2, 0, 1, 4]
    for part in ("edges", "num_nodes", "node_types"):
        assert torch.equal(getattr(found, part)[which], getattr(three, part))


def test_repeat_and_select() -> None:
    batch = TYPED.batch()
    twice = batch.repeat(2)
    assert torch.equal(twice.select(torch.tensor([1, 4])).edges, batch.edges[[1, 1]])
    assert torch.equal(twice.num_nodes, torch.tensor([3, 1, 4, 3, 1, 4]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [[], []], [0]), "empty set"),
        (([3], [[0], [3]], [0, 1]), "1 edge out of range, in graphs 0"),
        (([2, 2], [[0, 1], [1, 1]], [0, 1, 2]), "1 edge self-loop, in graphs 1"),
        (([3], [[0, 1], [1, 0]], [0, 2]), "Repeated edges in graphs 0"),
        (([3], [[0], [1]], [0, 2]), "edge_ptr must run from 0 to the 1 edges"),
        (([3, 3], [[0], [1]], [0, 1]), "edge_ptr must be a vector of 3 integers"),
        (([0], [[], []], [0, 0]), "num_nodes must be at least 1"),
        (([3], [[0.5], [1.0]], [0, 1]), "edge_index must hold integer node ids"),
    ],
)
def test_refusals(arguments: tuple, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        GraphSet(*arguments)


def test_more_refusals() -> None:
    with pytest.raises(GraphError, match="edge_types must be at least 1"):
        GraphSet([2], [[0], [1]], [0, 1], edge_types=[0])
    with pytest.raises(GraphError, match="node_types must be a vector of 2"):
        GraphSet([2], [[0], [1]], [0, 1], node_types=[0])
    with pytest.raises(GraphError, match="more than 2"):
        TYPED.batch(width=2)
    with pytest.raises(GraphError, match="wholly observed"):
        GraphSet.from_graphs([karate().hide([[0], [5]])])
    with pytest.raises(GraphError, match="cannot fill"):
        TYPED.split((0.98, 0.02))
    with pytest.raises(GraphError, match="sum to 1"):
        TYPED.split((0.5, 0.1))


def test_split_is_a_partition() -> None:
    graphs = cycles(100, range(3, 103), seed=3)
    parts = graphs.split((0.7, 0.2, 0.1), seed=1)
    assert [len(p) for p in parts] == [70, 20, 10]
    together = torch.cat([p.num_nodes for p in parts]).sort().values
    assert torch.equal(together, graphs.num_nodes.sort().values)
    assert torch.equal(parts[0].num_nodes, graphs.split((0.7, 0.2, 0.1), seed=1)[0].num_nodes)


def test_families() -> None:
    rings = cycles(200, range(5, 15), seed=0)
    assert all(nx.is_isomorphic(g, nx.cycle_graph(len(g))) for g in rings.to_networkx())
    assert set(rings.num_nodes.tolist()) == set(range(5, 15))
    assert torch.equal(rings.num_nodes, cycles(200, range(5, 15), seed=0).num_nodes)
    assert all(nx.is_tree(g) for g in trees(50, range(2, 9), seed=0).to_networkx())
    assert [g.num_edges for g in grids([2], [3, 4])] == [7, 10]
    with pytest.raises(GraphError, match="sizes >= 3"):
        cycles(3, [2])


def test_trees_are_uniform() -> None:
    """The 16 labelled trees on four nodes, by chi-square (15 degrees of freedom, p = 1e-6 at 57.5)."""
    drawn = trees(3200, [4], seed=5)
    seen: dict[str, int] = {}
    for pairs in drawn.edge_index.T.reshape(-1, 3, 2).tolist():
        seen[str(pairs)] = seen.get(str(pairs), 0) + 1
    assert len(seen) == 16
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 57.5


def test_files(shared_data: Path, tmp_path: Path) -> None:
    rings = read_graphset(shared_data / "graphsets" / "sgvae_cycles.npz")
    assert (len(rings), int(rings.num_nodes.sum())) == (100, 960)
    assert all(g.degrees.eq(2).all() for g in rings)
    mutag = read_graphset(shared_data / "graphsets" / "mutag.npz", node_types="node_labels")
    assert (mutag.num_node_types, mutag.labels.unique().tolist()) == (7, [0, 2])
    assert isinstance(mutag[0], Graph)
    with pytest.raises(GraphError, match="lacks bond_order; it holds edge_index"):
        read_graphset(shared_data / "graphsets" / "mutag.npz", edge_types="bond_order")
    np.savez(
        tmp_path / "typed.npz",
        num_nodes=[3],
        edge_index=[[0, 1], [1, 2]],
        edge_ptr=[0, 2],
        bond=[4, 2],
    )
    assert read_graphset(tmp_path / "typed.npz", edge_types="bond").edge_types.tolist() == [2, 1]
    with pytest.raises(GraphError, match="can be read"):
        read_graphset(tmp_path / "nothing.npz")


def test_empty_lists_are_no_edges() -> None:
    graphs = GraphSet([2, 1], [[], []], [0, 0, 0])
    assert graphs.batch().edges.tolist() == [[[0, 0], [0, 0]]] * 2


def test_written_sets_are_read_as_they_were(tmp_path: Path) -> None:
    """Types that leave gaps too, which a reader that numbers them anew would close."""
    graphs = GraphSet(
        [3, 1],
        [[0, 1], [1, 2]],
        [0, 2, 2],
        edge_types=[4, 1],
        node_types=[0, 5, 2, 2],
        labels=[-1, 7],
        title="two of them",
    )
    for some in (graphs, trees(20, seed=3)):
        again = read_graphset(write_graphset(some, tmp_path / "set.npz"))
        assert fingerprint_of_set(again) == fingerprint_of_set(some)
        assert again.title == some.title


def test_sets_by_name(tmp_path: Path) -> None:
    for name, facts in catalogue_of_sets().items():
        graphs = load_set(name)
        assert holds_set(name)
        assert fingerprint_of_set(graphs) == fingerprint_of_set(load_set(name.upper()))
        edges = graphs.edge_ptr.diff()
        for told, values in (("nodes", graphs.num_nodes), ("edges", edges)):
            assert facts[told] == f"{int(values.min())} to {int(values.max())}"
        assert (facts["graphs"], graphs.title) == (len(graphs), name)
    file = write_graphset(cycles(3), tmp_path / "rings.npz")
    assert holds_set(file)
    assert len(load_set(file)) == 3
    one = write_npz(karate(), tmp_path / "one.npz")
    assert not holds_set(one)
    assert not holds_set("karate")
    for given, message in (
        ("cicles", "Unknown set of graphs 'cicles'; known: cycles, trees, grids.*mean 'cycles'"),
        (one, "one.npz lacks edge_ptr; .* A set of graphs has num_nodes, edge_index, edge_ptr"),
        (tmp_path / "none.npz", "no file .*none.npz"),
    ):
        with pytest.raises(GraphError, match=message):
            load_set(given)
    (tmp_path / "edges.csv").write_text("0,1\n")
    with pytest.raises(GraphError, match=r"edges\.csv is no \.npz file"):
        load_set(tmp_path / "edges.csv")
    with pytest.raises(GraphError, match="takes no such option"):
        load_set("cycles", node_types="atoms")
