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
    from_biadjacency,
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
    assert "weights are ignored; weight='weight' reads them" in caplog.text
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
    assert "edge_weight is ignored; weight='edge_weight' reads" in caplog.text
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
    refuses(
        2.5 * TRIANGLE, r"6 entries besides 0 and 1 \(such as 2.5\).*weighted=True.*binarize=True"
    )
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


# -- weights and sides ------------------------------------------------------------------------

WEIGHTS = np.array([[0, 2.5, 0], [2.5, 0, -1], [0, -1, 0]])
KINDS = {
    "weighted": Graph(4, [[0, 1, 2], [1, 2, 3]], weights=[2.5, 3, -1]),
    "bipartite": Graph(4, [[0, 1, 2], [1, 2, 3]], parts=[0, 1, 0, 1]),
    "both": Graph(4, [[0, 1, 2], [1, 2, 3]], weights=[2.5, 3, -1], parts=[0, 1, 0, 1]),
    "arcs": Graph(4, [[0, 1, 2], [1, 0, 3]], weights=[2.5, 3, -1], directed=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_round_trip(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    graph = KINDS[kind]
    weighted, sided = graph.weights is not None, graph.parts is not None
    other = to_networkx(graph)
    back = from_networkx(other, weight="weight" if weighted else None, bipartite=sided)
    assert back.fingerprint() == graph.fingerprint()
    data = to_pyg(graph)
    back = from_pyg(data, weight="edge_weight" if weighted else None)
    assert back.fingerprint() == graph.fingerprint()
    assert not caplog.records
    assert from_networkx(other).fingerprint() == bare(graph)
    assert ("weights are ignored" in caplog.text) == weighted
    assert ("attribute bipartite is ignored; bipartite=True reads it" in caplog.text) == sided
    back = from_dense(graph.weighted_adjacency, weighted=True, directed=graph.directed)
    plain = Graph(4, graph.edge_index, weights=back.weights, directed=graph.directed)
    assert back.fingerprint() == plain.fingerprint()
    assert torch.equal(
        back.weights,
        graph.weights if weighted else torch.ones(3),  # type: ignore[arg-type]
    )


def test_pyg_weights_are_those_of_its_arcs() -> None:
    data = to_pyg(KINDS["both"])
    i, j = data.edge_index
    assert torch.equal(data.edge_weight, KINDS["both"].weighted_adjacency.to_dense()[i, j])
    assert data.parts.tolist() == [0, 1, 0, 1]


def test_networkx_weights() -> None:
    g = nx.MultiGraph()
    g.add_edge("b", "a", count=2)
    g.add_edge("b", "c", count=5)
    g.add_edge("a", "b", count=3)
    graph = from_networkx(g, weight="count", clean=True)
    assert graph.names == ("b", "a", "c")
    assert graph.weights is not None
    assert graph.weights.tolist() == [5.0, 5.0]
    g.add_edge("c", "a")
    with pytest.raises(GraphError, match=r"1 of 4 edges lack the attribute 'count'.*are: count"):
        from_networkx(g, weight="count", clean=True)
    with pytest.raises(GraphError, match="4 of 4 edges lack the attribute 'weight'"):
        from_networkx(g, weight="weight")
    with pytest.raises(GraphError, match=r"2 of 2 nodes lack the attribute 'bipartite'.*none"):
        from_networkx(nx.path_graph(2), bipartite=True)
    wrong = nx.complete_bipartite_graph(2, 2)
    wrong.add_edge(0, 1)
    with pytest.raises(GraphError, match=r"1 edge within one side.*\(0, 1\)"):
        from_networkx(wrong, bipartite=True)
    women = nx.davis_southern_women_graph()  # Davis, Gardner, Gardner 1941: 18 women, 14 events
    graph = from_networkx(women, bipartite=True)
    assert repr(graph) == "Graph('graph': 32 nodes, 89 edges, bipartite 18 + 14)"
    assert graph.num_dyads == 18 * 14


def test_pyg_weights() -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    column = torch.tensor([[2.0], [2.0], [3.0], [3.0]])
    graph = from_pyg(Data(edge_index=edges, edge_attr=column, num_nodes=3), weight="edge_attr")
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert graph.weights is not None
    assert graph.weights.tolist() == [2.0, 3.0]  # the directions agree, they do not add up
    half = Data(edge_index=edges[:, [1, 2, 3]], edge_weight=column[1:, 0], num_nodes=3)
    graph = from_pyg(half, weight="edge_weight", directed=False)
    assert graph.weights is not None
    assert graph.weights.tolist() == [2.0, 3.0]
    twice = Data(edge_index=edges[:, [0, 0, 1, 2]], edge_weight=torch.tensor([1, 1, 2, 7]))
    twice.num_nodes = 3
    graph = from_pyg(twice, weight="edge_weight", clean=True, directed=False)
    assert graph.weights is not None
    assert graph.weights.tolist() == [2.0, 7.0]  # 1 + 1 from 0 to 1, 2 back
    differ = Data(edge_index=edges, edge_weight=torch.tensor([1.0, 2, 3, 3]), num_nodes=3)
    with pytest.raises(GraphError, match=r"1 edge with another weight in each direction: \(0, 1\)"):
        from_pyg(differ, weight="edge_weight")
    arcs = from_pyg(differ, weight="edge_weight", directed=True)
    assert arcs.weights is not None
    assert arcs.weights.tolist() == [1.0, 2.0, 3.0, 3.0]
    with pytest.raises(GraphError, match="no tensor 'edge_attr'"):
        from_pyg(differ, weight="edge_attr")
    wide = Data(edge_index=edges, edge_attr=torch.ones(4, 2), num_nodes=3)
    with pytest.raises(GraphError, match=r"shape \(4, 2\), not one number per edge"):
        from_pyg(wide, weight="edge_attr")
    one_way = Data(edge_index=edges[:, [0, 3]], parts=torch.tensor([0, 1, 0]), num_nodes=3)
    assert not from_pyg(one_way).directed


@pytest.mark.parametrize("convert", [from_dense, lambda a, **kw: from_scipy(sp.csr_array(a), **kw)])
def test_weighted_matrices(convert: object) -> None:
    graph = convert(WEIGHTS, weighted=True)  # type: ignore[operator]
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert graph.weights.tolist() == [2.5, -1.0]
    nearly = WEIGHTS.copy()
    nearly[1, 0] += 1e-9
    assert convert(nearly, weighted=True).fingerprint() == graph.fingerprint()  # type: ignore[operator]
    looped = WEIGHTS + np.eye(3)
    assert convert(looped, weighted=True, clean=True).fingerprint() == graph.fingerprint()  # type: ignore[operator]
    arcs = convert(np.triu(WEIGHTS), weighted=True, directed=True)  # type: ignore[operator]
    assert arcs.weighted_adjacency.to_dense().tolist() == np.triu(WEIGHTS).tolist()
    assert convert(WEIGHTS, binarize=True).weights is None  # type: ignore[operator]
    assert convert(TRIANGLE, weighted=True).weights.tolist() == [1.0, 1.0, 1.0]  # type: ignore[operator]
    unequal = WEIGHTS.copy()
    unequal[2, 1] = 4
    for matrix, options, words in (
        (unequal, {"weighted": True}, r"not symmetric: 1 pair differ \(\(1, 2\)\); symmetrise"),
        (np.triu(WEIGHTS), {"weighted": True}, r"2 pairs differ.*one triangle only"),
        (WEIGHTS, {"weighted": True, "binarize": True}, r"weighted=True or binarize=True"),
        (looped, {"weighted": True}, r"3 self-loops"),
        (WEIGHTS * 1e39, {"weighted": True}, r"2 weights NaN or infinite in float32"),
    ):
        with pytest.raises(GraphError, match=words):
            convert(matrix, **options)  # type: ignore[operator]


def test_scipy_entries_stored_twice_add_up() -> None:
    parts = (np.array([100, 100, 100], dtype=np.int8), ([0, 0, 1], [1, 1, 0]))
    matrix = sp.coo_array(parts, shape=(2, 2))
    arcs = from_scipy(matrix, weighted=True, directed=True)
    assert arcs.weights is not None
    assert arcs.weights.tolist() == [200.0, 100.0]  # not wrapped around in int8
    assert matrix.nnz == 3
    csr = sp.csr_array((np.array([1.0, 0.0, 1.0]), [1, 2, 0], [0, 2, 3, 3]), shape=(3, 3))
    assert from_scipy(csr).num_edges == 1
    assert csr.nnz == 3  # the matrix given is as it was


BLOCK = np.array([[1, 0, 0], [1, 0, 1]])


def test_biadjacency() -> None:
    want = Graph(5, [[0, 1, 1], [2, 2, 4]], parts=[0, 0, 1, 1, 1])
    for block in (
        BLOCK,
        BLOCK.tolist(),
        BLOCK.astype(bool),
        torch.tensor(BLOCK),
        torch.tensor(BLOCK).to_sparse(),
        sp.csr_matrix(BLOCK),
        sp.coo_array(BLOCK),
    ):
        assert from_biadjacency(block).fingerprint() == want.fingerprint()
    assert from_biadjacency(3 * BLOCK, binarize=True).fingerprint() == want.fingerprint()
    graph = from_biadjacency(BLOCK * [[2], [-4]], weighted=True, names=list("abxyz"))
    assert graph.weights is not None
    assert graph.weights.tolist() == [2.0, -4.0, -4.0]
    assert graph.names == tuple("abxyz")
    square = from_biadjacency(np.eye(2))
    assert square.parts is not None
    assert square.edge_index.tolist() == [[0, 1], [2, 3]]
    mask = np.ones((2, 3), dtype=bool)
    mask[0, 1] = mask[1, 2] = False
    for observed in (mask, torch.from_numpy(mask), sp.csr_array(mask)):
        part = from_biadjacency(BLOCK, observed=observed)
        assert part.fingerprint() == want.hide([[0, 1], [3, 4]]).fingerprint()
    assert from_biadjacency(BLOCK, missing=[[0, 1], [3, 4]]).fingerprint() == part.fingerprint()


@pytest.mark.parametrize(
    ("matrix", "options", "words"),
    [
        (2 * BLOCK, {}, r"biadjacency matrix has 3 entries besides 0 and 1.*weighted=True"),
        (np.ones(3), {}, r"shape \(n0, n1\), got \(3,\)"),
        (np.ones((0, 3)), {}, r"shape \(n0, n1\), got \(0, 3\)"),
        ([["a"]], {}, r"biadjacency matrix must hold numbers"),
        ([[1, 0], [1]], {}, r"biadjacency matrix is not rectangular"),
        ([[1, np.nan]], {}, r"NaN"),
        (np.zeros((2, 3)), {}, r"Empty graph: 5 nodes"),
        (BLOCK, {"directed": True}, r"undirected here"),
        (BLOCK, {"observed": np.ones((5, 5), bool)}, r"shape \(2, 3\), got \(5, 5\)"),
        (BLOCK, {"observed": BLOCK == 0, "missing": [[0], [2]]}, r"not both"),
        (BLOCK, {"missing": [[0], [1]]}, r"within one side"),
        (BLOCK, {"weighted": True, "binarize": True}, r"weighted=True or binarize=True"),
    ],
)
def test_bad_biadjacency(matrix: object, options: dict, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        from_biadjacency(matrix, **options)


def test_from_edges_keeps_weights_beside_their_pairs() -> None:
    graph = from_edges([("cy", "al"), ("bo", "al")], weights=[3, 4])
    assert graph.edge_index.tolist() == [[0, 0], [1, 2]]
    assert graph.weights is not None
    assert graph.weights.tolist() == [4.0, 3.0]
    compact = from_edges(np.array([[7, 5], [2, 5]]), compact=True, weights=[1, 2], parts=[0, 1, 0])
    assert compact.edge_index.tolist() == [[0, 1], [1, 2]]
    assert compact.weights is not None
    assert compact.weights.tolist() == [2.0, 1.0]
