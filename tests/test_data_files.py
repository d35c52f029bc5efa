"""Files and datasets by name: round trips, sniffing, and errors that name the line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch

from graphlore.data import (
    Graph,
    GraphError,
    as_graph,
    karate,
    load,
    planetoid,
    read_graph,
    to_networkx,
    write_npz,
)

EDGES = [[0, 0, 1], [1, 2, 2]]


@pytest.mark.parametrize(
    "graph",
    [
        karate(),
        karate().hide([[0, 5], [1, 9]]),
        Graph(3, [[1, 0, 2], [0, 1, 0]], directed=True, missing=[[2], [1]], title="arcs"),
        Graph(3, EDGES, features=np.eye(3), feature_names=["x", "y", "z"], labels=[0, -1, 2]),
        Graph(3, EDGES, features=sp.csr_array(np.eye(3, 5))),
        Graph(3, [[], []], allow_empty=True),
        Graph(3, EDGES, weights=[0.1, -2, 3]),
        Graph(3, [[1, 0, 2], [0, 1, 0]], weights=[0.1, -2, 3], directed=True),
        Graph(4, [[3, 1], [1, 2]], parts=[0, 0, 1, 1], weights=[7, 2], missing=[[3], [0]]),
    ],
    ids=[
        "karate",
        "missing",
        "directed",
        "dense",
        "sparse",
        "edgeless",
        "weighted",
        "weighted arcs",
        "bipartite",
    ],
)
def test_npz_round_trip(graph: Graph, tmp_path: Path) -> None:
    back = read_graph(write_npz(graph, tmp_path / "graph"))
    assert back.fingerprint() == graph.fingerprint()
    assert back.title == graph.title
    if graph.features is not None:
        assert back.features is not None
        assert back.features.is_sparse == graph.features.is_sparse


def test_npz_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"writes \.npz"):
        write_npz(karate(), tmp_path / "karate.csv")
    with pytest.raises(GraphError, match="Could not write"):
        write_npz(karate(), tmp_path / "nowhere" / "karate.npz")


TEXTS = {
    "plain.csv": "0,1\n0,2\n1,2\n",
    "header.csv": "Source,Target\r\n0,1\r\n0,2\r\n1,2\r\n",
    "any_header.csv": "x1,x2\n0,1\n0,2\n1,2\n",
    "weights.csv": "source,target,weight\n0,1,0.5\n0,2,1\n1,2,9\n",
    "semicolon.csv": "0; 1\n0; 2\n1; 2\n",
    "tabs.tsv": "0\t1\n0\t2\n1\t2\n",
    "snap.txt": "# Nodes: 3 Edges: 3\n# FromNodeId\tToNodeId\n0\t1\n0\t2\n\n1\t2\n",
    "bom.edges": "\ufeff% konect\n0 1\n 0  2 \n1 2",
}


@pytest.mark.parametrize("name", TEXTS)
def test_edge_lists(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).write_text(TEXTS[name], encoding="utf-8", newline="")
    graph = read_graph(tmp_path / name)
    assert graph.edge_index.tolist() == EDGES
    assert graph.names is None
    assert graph.title == name.split(".")[0]
    note = "columns after the second (weight) are ignored; weights=True reads the third"
    assert (note in caplog.text) == ("weights" in name)


def test_edge_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text('from,to\n"Doe, Jo",al\nal,bo b\n')
    graph = as_graph(path)
    assert graph.names == ("Doe, Jo", "al", "bo b")
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert read_graph(path, header=False).num_nodes == 5


def test_csv_round_trip(tmp_path: Path) -> None:
    graph = karate()
    path = tmp_path / "karate.csv"
    np.savetxt(path, graph.edge_index.T.numpy(), fmt="%d", delimiter=",")
    assert torch.equal(read_graph(path).edge_index, graph.edge_index)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "0,1\n0\n", r"a\.csv: line 2 is malformed: '0'"),
        ("a.txt", "# note\n\n0 1\n1 2\n3\n", r"line 5 is malformed"),
        ("a.csv", "0,1\n1,\n", r"line 2 is malformed"),
        ("a.csv", "0,1\n1,2\n2,x\n", r"line 3 is malformed: '2,x'.*integer ids"),
        ("a.csv", "0,1\n1,2.5\n2,3\n", r"line 2 is malformed"),
        ("a.csv", "# nothing\n", r"has no edges"),
        ("a.csv", "source,target\n", r"header and no edges"),
        ("a.csv", "0,1\n1,0\n", r"both directions.*clean=True"),
        ("a.csv", "1,1\n1,2\n", r"self-loop"),
        ("a.gml", "graph [ node", r"not a well-formed \.gml"),
        ("a.graphml", "<graphml>", r"not a well-formed \.graphml"),
        ("a.mtx", "hello", r"not a well-formed \.mtx"),
        ("a.npz", "hello", r"not a well-formed \.npz"),
        ("a.xlsx", "", r"Unknown kind of file 'a\.xlsx'.*\.csv.*\.npz.*\.gml"),
    ],
)
def test_malformed_files(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(GraphError, match=words):
        read_graph(tmp_path / name)


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="No such file"):
        read_graph(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(GraphError, match="is a folder"):
        read_graph(tmp_path / "folder.csv")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GraphError, match="not a UTF-8 text file"):
        read_graph(binary)
    if os.geteuid():  # root may read anything
        binary.chmod(0)
    else:
        monkeypatch.setattr(Path, "open", _denied)
    with pytest.raises(GraphError, match="No permission to read"):
        read_graph(binary)


def _denied(*_: object, **__: object) -> None:
    raise PermissionError


def test_no_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", edge_index=np.array([{}], dtype=object), num_nodes=2)
    with pytest.raises(GraphError, match="allow_pickle=False"):
        read_graph(tmp_path / "evil.npz")


def test_npz_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, something=1)
    with pytest.raises(GraphError, match=r"lacks edge_index .* it holds something"):
        read_graph(path)
    np.savez(path, edge_index=EDGES, num_nodes=[3], edge_ptr=[0, 3])
    with pytest.raises(GraphError, match="set of graphs"):
        read_graph(path)
    np.savez(path, edge_index=EDGES, num_nodes=3)
    with pytest.raises(GraphError, match="no arc_index"):
        read_graph(path, directed=True)


def test_matrix_files(tmp_path: Path) -> None:
    adjacency = karate().dense_adjacency().numpy()
    np.save(tmp_path / "dense.npy", adjacency)
    np.save(tmp_path / "edge_index.npy", karate().edge_index.numpy())
    np.save(tmp_path / "pairs.npy", karate().edge_index.numpy().T)
    scipy.io.mmwrite(tmp_path / "sparse.mtx", sp.csr_matrix(adjacency))
    sp.save_npz(tmp_path / "sparse.npz", sp.csr_matrix(adjacency))
    for name in ("dense.npy", "edge_index.npy", "pairs.npy", "sparse.mtx", "sparse.npz"):
        assert torch.equal(read_graph(tmp_path / name).edge_index, karate().edge_index)


def test_networkx_files(tmp_path: Path) -> None:
    graph = karate()
    named = nx.relabel_nodes(to_networkx(graph), dict(enumerate(graph.names or ())))
    plain = nx.Graph()
    for node, data in named.nodes(data=True):
        plain.add_node(node, club=data["label"])
    plain.add_edges_from(named.edges)
    nx.write_gml(plain, tmp_path / "karate.gml")
    nx.write_graphml(plain, tmp_path / "karate.graphml")
    nx.write_gexf(plain, tmp_path / "karate.gexf")
    for suffix in ("gml", "graphml", "gexf"):
        back = read_graph(tmp_path / f"karate.{suffix}", label_attribute="club")
        assert back.fingerprint() == graph.fingerprint(), suffix


def test_load(tmp_path: Path) -> None:
    assert load("Karate").num_edges == 78
    assert load(write_npz(karate(), tmp_path / "k.npz")).num_edges == 78
    with pytest.raises(
        GraphError, match=r"Unknown dataset 'karatte'; known: karate, cora.*'karate'"
    ):
        load("karatte")
    with pytest.raises(GraphError, match="No such file"):
        load("karate.csv")
    with pytest.raises(GraphError, match="Did you mean 'citeseer'"):
        planetoid("citseer")


def test_shared_conventions(shared_data: Path) -> None:
    cora = read_graph(shared_data / "planetoid_npz/cora.npz")
    assert (cora.num_nodes, cora.num_edges) == (2708, 5278)
    assert cora.features is not None
    assert cora.features.is_sparse
    assert cora.features.shape == (2708, 1433)
    blogs = shared_data / "classic/polblogs.npz"
    assert read_graph(blogs).num_edges == 16715
    assert read_graph(blogs, directed=True, clean=True).directed
    with pytest.raises(GraphError, match="self-loop"):
        read_graph(blogs, directed=True)
    with pytest.raises(GraphError, match=r"duplicate.*names=None"):
        read_graph(shared_data / "nips/yeast_pajek.npz")
    assert read_graph(shared_data / "nips/yeast_pajek.npz", names=None).num_edges == 6646


def test_planetoid_agrees_with_its_copy(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "planetoid/Cora/raw", tmp_path / "Cora/raw")
    graph = planetoid("Cora", root=tmp_path)
    copy = read_graph(shared_data / "planetoid_npz/cora.npz")
    assert graph.fingerprint() == copy.fingerprint()
    assert graph.title == "cora"


# -- weights ----------------------------------------------------------------------------------

WEIGHTED_TEXTS = {
    "third.csv": ("1,2,9\n0,1,0.5\n2,0,1e0\n", True),
    "header.csv": ("source,target,weight\n0,1,0.5\n0,2,1\n1,2,9\n", True),
    "named.csv": ("a node, another, day, hits\n0, 1, 4, 0.5\n0, 2, 5, 1\n2, 1, 6, 9\n", "hits"),
    "space.txt": ("# a comment\n0 1  0.5\n0 2  1\n1 2  9\n", True),
    "words.tsv": ("from\tto\tn\na\tb\t0.5\na\tc\t1\nb\tc\t9\n", "n"),
}


@pytest.mark.parametrize("name", WEIGHTED_TEXTS)
def test_weighted_edge_lists(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text, weights = WEIGHTED_TEXTS[name]
    (tmp_path / name).write_text(text)
    graph = as_graph(tmp_path / name, weights=weights)
    assert graph.edge_index.tolist() == EDGES
    assert graph.weights is not None
    assert graph.weights.tolist() == [0.5, 1.0, 9.0]
    note = "columns after the second (day) are ignored, except for the weights"
    assert (note in caplog.text) == (name == "named.csv")
    assert bool(caplog.records) == (name == "named.csv")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (
            "0,1,2\n1,2\n",
            {"weights": True},
            r"line 2 is malformed: '1,2' has no number in column 3",
        ),
        ("# c\n0,1,x\n", {"weights": True}, r"line 2 is malformed: '0,1,x' has no number"),
        ("0,1\n1,2\n", {"weights": True}, r"line 1 is malformed"),
        ("s,t,w\n0,1,0\n", {"weights": True}, r"1 weight zero"),
        ("s,t,w\n0,1,nan\n", {"weights": True}, r"1 weight NaN"),
        ("s,t,w\n0,1,2\n", {"weights": "v"}, r"no column 'v' for the weights.*'s, t, w'"),
        ("s,t,w\n0,1,2\n", {"weights": "s"}, r"no column 's' for the weights"),
        ("s,t,w\n0,1,2\n", {"weights": "w", "header": False}, r"no column 'w'"),
        ("0,1,2\n1,0,2\n", {"weights": True}, r"both directions.*sum of the weights"),
        ("0,1,2\n", {"weights": [2.0]}, r"weights must be True, False or a word, got list"),
    ],
)
def test_bad_weighted_edge_lists(text: str, options: dict, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(GraphError, match=words):
        read_graph(tmp_path / "a.csv", **options)


def test_repeated_lines_of_counts_add_up(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1,2\n1,0,3\n1,2,1\n")
    graph = read_graph(tmp_path / "a.csv", weights=True, clean=True)
    assert graph.weights is not None
    assert graph.weights.tolist() == [5.0, 1.0]


def test_weights_of_archives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.npz"
    arrays = {"edge_index": EDGES, "num_nodes": 3, "edge_weight": np.float32([1, 2, 3])}
    np.savez(path, **arrays, other=np.array([4, 5, 6]))
    with caplog.at_level("INFO"):
        assert read_graph(path).weights is None
    assert "edge_weight is ignored; weights=True reads it" in caplog.text
    for weights, want in ((True, [1.0, 2.0, 3.0]), ("other", [4.0, 5.0, 6.0])):
        graph = read_graph(path, weights=weights)
        assert graph.weights is not None
        assert graph.weights.tolist() == want
    with pytest.raises(GraphError, match="no hits to read weights from"):
        read_graph(path, weights="hits")
    # an undirected reading of directed weights has none, as nobody said how arcs become edges
    arcs = Graph(3, [[0, 1, 1], [1, 0, 2]], weights=[1, 2, 3], directed=True)
    write_npz(arcs, path)
    assert (
        read_graph(path, directed=False).fingerprint() == Graph(3, [[0, 1], [1, 2]]).fingerprint()
    )
    with pytest.raises(GraphError, match="no edge_weight"):
        read_graph(path, directed=False, weights=True)


def test_weights_of_other_files(tmp_path: Path) -> None:
    graph = Graph(3, EDGES, weights=[0.5, 2, 9])
    matrix = sp.csr_matrix(graph.weighted_adjacency.to_dense().numpy())
    np.save(tmp_path / "a.npy", matrix.toarray())
    np.save(tmp_path / "pairs.npy", np.array(EDGES).T)
    scipy.io.mmwrite(tmp_path / "a.mtx", matrix)
    sp.save_npz(tmp_path / "a.npz", matrix)
    nx.write_gml(to_networkx(graph), tmp_path / "a.gml")
    for suffix in ("npy", "mtx", "npz", "gml"):
        path = tmp_path / f"a.{suffix}"
        back = read_graph(path, weights=True, **({"names": None} if suffix == "gml" else {}))
        assert back.fingerprint() == graph.fingerprint(), suffix
        if suffix != "gml":
            with pytest.raises(GraphError, match=r"besides 0 and 1.*weighted=True"):
                read_graph(path)
            with pytest.raises(GraphError, match="a matrix has no 'w'"):
                read_graph(path, weights="w")
    with pytest.raises(GraphError, match="pairs without weights"):
        read_graph(tmp_path / "pairs.npy", weights=True)
    with pytest.raises(GraphError, match="3 of 3 edges lack the attribute 'count'"):
        read_graph(tmp_path / "a.gml", weights="count")


def test_public_weights(shared_data: Path) -> None:
    """Coappearances in Les Miserables (Knuth 1993); the weights sum to 820."""
    lesmis = read_graph(shared_data / "classic/lesmis.npz", weights=True)
    assert lesmis.weights is not None
    assert float(lesmis.weights.sum()) == 820.0
    i, j = lesmis.edge_index[:, lesmis.weights.argmax()].tolist()
    assert lesmis.names is not None
    assert {lesmis.names[i], lesmis.names[j]} == {"Cosette", "Valjean"}  # 31 scenes together
    assert float(lesmis.weights.max()) == 31.0
    faculty = read_graph(shared_data / "classic/uk_faculty.npz", directed=True, weights=True)
    assert faculty.weights is not None
    assert faculty.weights.shape == (817,)
