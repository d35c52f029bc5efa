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
    ],
    ids=["karate", "missing", "directed", "dense", "sparse", "edgeless"],
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
    assert ("columns after the second (weight) are ignored" in caplog.text) == ("weights" in name)


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
