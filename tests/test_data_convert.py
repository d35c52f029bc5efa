"""Converters: round trips, and what each refuses."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data, HeteroData

from graphlore.data import (
    Graph,
    GraphError,
    as_graph,
    from_dense,
    from_edges,
    from_networkx,
    from_pyg,
    from_scipy,
    karate,
    to_networkx,
    to_pyg,
)

TRIANGLE = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def bare(graph: Graph) -> str:
    """Fingerprint of the edges alone."""
    return Graph(graph.num_nodes, graph.edge_index, directed=graph.directed).fingerprint()


def test_networkx_round_trip() -> None:
    graph = karate()
    other = to_networkx(graph)
    assert other.nodes[0] == {"name": "Mr. Hi", "label": "Mr. Hi"}
    back = from_networkx(other, label_attribute="label", name_attribute="name")
    assert back.fingerprint() == graph.fingerprint()
    assert back.title == "karate"
    directed = Graph(3, [[1, 2], [0, 0]], directed=True)
    assert from_networkx(to_networkx(directed)).fingerprint() == directed.fingerprint()


def test_networkx_attributes_and_order(caplog: pytest.LogCaptureFixture) -> None:
    g = nx.Graph()
    g.add_node("c", kind=2)
    g.add_edge("b", "c", weight=3.0)
    g.add_edge("c", "a")
    graph = from_networkx(g, label_attribute="kind")
    assert graph.names == ("c", "b", "a")
    assert graph.labels is not None
    assert graph.labels.tolist() == [2, -1, -1]
    assert "weights are ignored" in caplog.text
    with pytest.raises(GraphError, match=r"No node has the attribute 'club'; there are: kind"):
        from_networkx(g, label_attribute="club")
    assert from_networkx(nx.path_graph(3)).names is None


def test_networkx_multigraph_and_loops() -> None:
    g = nx.MultiGraph([(0, 1), (0, 1), (1, 1)])
    with pytest.raises(GraphError, match=r"1 self-loop .* and 1 repeated edge"):
        from_networkx(g)
    assert from_networkx(g, clean=True).num_edges == 1
    with pytest.raises(GraphError, match="Empty graph: num_nodes is 0"):
        from_networkx(nx.Graph())


def test_networkx_has_no_place_for_missing(caplog: pytest.LogCaptureFixture) -> None:
    to_networkx(karate().hide([[0], [1]]))
    assert "1 missing dyad left out" in caplog.text


def test_pyg_round_trip() -> None:
    graph = Graph(
        5, [[0, 1], [1, 4]], features=torch.rand(5, 3), labels=[0, 1, 1, -1, 0], missing=[[2], [3]]
    )
    data = to_pyg(graph)
    assert data.is_undirected()
    assert data.edge_index.shape == (2, 4)
    assert from_pyg(data).fingerprint() == graph.fingerprint()
    arcs = Graph(3, [[1, 0], [0, 2]], directed=True)
    assert from_pyg(to_pyg(arcs)).fingerprint() == arcs.fingerprint()


def test_pyg_directions() -> None:
    one_way = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    assert from_pyg(one_way).directed
    assert from_pyg(one_way, directed=False).edge_index.tolist() == [[0, 1], [1, 2]]
    half = Data(edge_index=torch.tensor([[0, 1, 2], [1, 0, 1]]), num_nodes=3)
    assert from_pyg(half, directed=False).num_edges == 2
    twice = Data(edge_index=torch.tensor([[0, 0], [1, 1]]), num_nodes=3)
    with pytest.raises(GraphError, match="1 repeated edge"):
        from_pyg(twice, directed=False)
    assert from_pyg(twice, directed=False, clean=True).num_edges == 1
    loop = Data(edge_index=torch.tensor([[0, 1, 1], [1, 0, 1]]), num_nodes=3)
    with pytest.raises(GraphError, match="1 self-loop"):
        from_pyg(loop)


def test_pyg_odd_parts(caplog: pytest.LogCaptureFixture) -> None:
    edges = torch.tensor([[0, 1], [1, 0]])
    data = Data(edge_index=edges, num_nodes=2, y=torch.tensor([0.5]), edge_weight=torch.ones(2))
    graph = from_pyg(data)
    assert graph.labels is None
    assert "y of shape" in caplog.text
    assert "edge_weight is ignored" in caplog.text
    assert (
        from_pyg(Data(edge_index=edges, y=torch.tensor([[1], [0]]), num_nodes=2)).labels is not None
    )
    with pytest.raises(GraphError, match="homogeneous"):
        from_pyg(HeteroData())
    with pytest.raises(GraphError, match="edge_index"):
        from_pyg(Data(x=torch.ones(2, 1)))


def test_matrix_round_trips() -> None:
    graph = karate()
    dense = graph.dense_adjacency()
    for back in (
        from_dense(dense),
        from_dense(dense.bool()),
        from_dense(dense.to_sparse()),
        from_dense(dense.numpy().tolist()),
        from_scipy(sp.csr_matrix(dense.numpy())),
        from_scipy(sp.coo_array(dense.numpy())),
    ):
        assert back.fingerprint() == bare(graph)
    arcs = Graph(3, [[1, 0], [0, 2]], directed=True)
    back = from_dense(arcs.dense_adjacency(), directed=True)
    assert back.fingerprint() == arcs.fingerprint()


@pytest.mark.parametrize("convert", [from_dense, lambda a, **kw: from_scipy(sp.csr_array(a), **kw)])
def test_bad_matrices(convert: object) -> None:
    def refuses(matrix: np.ndarray, words: str, **options: bool) -> None:
        with pytest.raises(GraphError, match=words):
            convert(matrix, **options)  # type: ignore[operator]

    refuses(TRIANGLE[:2], "must be square")
    refuses(2.5 * TRIANGLE, r"6 entries besides 0 and 1 \(such as 2.5\).*Weights.*binarize=True")
    refuses(np.triu(TRIANGLE), r"not symmetric: 3 pairs differ.*one triangle only.*A \+ A.T")
    lopsided = TRIANGLE.copy()
    lopsided[0, 2] = 0
    refuses(lopsided, r"1 pair differ \(\(0, 2\)\)")
    refuses(TRIANGLE + np.eye(3, dtype=int), r"3 self-loops \(at nodes 0, 1, 2\)")
    refuses(np.where(TRIANGLE, np.nan, 0), "NaN")
    refuses(np.zeros((3, 3)), "Empty graph")
    assert convert(2.5 * TRIANGLE, binarize=True).num_edges == 3  # type: ignore[operator]
    assert convert(TRIANGLE + np.eye(3, dtype=int), clean=True).num_edges == 3  # type: ignore[operator]
    assert convert(lopsided, directed=True).num_edges == 5  # type: ignore[operator]


def test_from_edges_ids(caplog: pytest.LogCaptureFixture) -> None:
    assert from_edges([(0, 1), (2, 1)]).edge_index.tolist() == [[0, 1], [1, 2]]
    assert from_edges(torch.tensor([[0, 1], [2, 1]]), num_nodes=5).num_nodes == 5
    assert not caplog.records
    graph = from_edges(np.array([[1, 2], [2, 7]]))
    assert graph.num_nodes == 8
    assert "5 ids of 0 .. 7 occur in no edge" in caplog.text
    compact = from_edges(np.array([[1, 2], [2, 7]]), compact=True)
    assert compact.names == ("1", "2", "7")
    assert compact.edge_index.tolist() == [[0, 1], [1, 2]]


def test_from_edges_names() -> None:
    graph = from_edges([("cy", "al"), ("bo", "al")])
    assert graph.names == ("al", "bo", "cy")
    assert graph.edge_index.tolist() == [[0, 0], [1, 2]]
    placed = from_edges([("cy", "al")], names=["cy", "di", "al"])
    assert placed.num_nodes == 3
    assert placed.edge_index.tolist() == [[0], [2]]
    assert from_edges([("b", 1), (1, "a")]).names == ("b", "1", "a")
    assert from_edges([((0, 0), (0, 1))]).names == ("(0, 0)", "(0, 1)")


@pytest.mark.parametrize(
    ("edges", "options", "words"),
    [
        ([(0, 1), (1, 0)], {}, "both directions: clean=True keeps one"),
        ([(0, 1), (1,)], {}, r"1 of 2 entries of the edge list are not pairs: \(1,\)"),
        (5, {}, "iterable of pairs, got int"),
        ("ab", {}, r"2 of 2 entries .* not pairs"),
        (np.zeros((2, 5), int), {}, r"shape \(E, 2\), got \(2, 5\).*edge_index"),
        ([], {}, "give num_nodes"),
        ([(0.5, 1.0)], {}, "neither an integer id nor a name"),
        ([([0], [1])], {}, "hashable"),
        ([("a", "x")], {"names": ["a", "b"]}, r"1 node .* not among the names: 'x'"),
        ([("a", "b")], {"num_nodes": 3}, "names="),
        ([(0, 3)], {"num_nodes": 3}, "out of range"),
    ],
)
def test_from_edges_refuses(edges: object, options: dict, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        from_edges(edges, **options)


def test_as_graph() -> None:
    graph = karate()
    assert as_graph(graph) is graph
    dense = graph.dense_adjacency()
    for source in (
        to_networkx(Graph(34, graph.edge_index)),
        dense,
        dense.numpy(),
        sp.csr_array(dense.numpy()),
        to_pyg(Graph(34, graph.edge_index)),
    ):
        assert as_graph(source).fingerprint() == bare(graph)
    assert as_graph("karate").fingerprint() == graph.fingerprint()
    with pytest.raises(GraphError, match="no use for clean"):
        as_graph(graph, clean=True)
    with pytest.raises(GraphError, match="Cannot read a graph from dict"):
        as_graph({})
    with pytest.raises(GraphError, match="edge_index"):
        as_graph(graph.edge_index)
