"""Bad input to every reader, in short; ``make proof`` feeds them more. And, one by one, what that has found."""

from __future__ import annotations

import zipfile

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from proof import bad_input, fuzz, ways_in
from torch_geometric.data import Data

from graphlore.data import (
    Graph,
    GraphError,
    GraphSet,
    from_dense,
    from_edges,
    from_networkx,
    from_pyg,
    from_scipy,
    given_split,
    karate,
    read_graph,
    read_graphset,
    read_pairs,
)
from graphlore.inference import Fit, FitSettings, InferenceError, Recipe

PARTS = 4  # for as many workers


@pytest.mark.parametrize("part", range(PARTS))
def test_bad_input_is_read_soundly_or_refused_clearly(part, tmp_path):
    for reader in ways_in.readers(tmp_path)[part::PARTS]:
        tally = fuzz.fuzz(reader, max(6, round(25 * reader.share)))
        assert tally.refused > 0, reader.name


def test_the_property_can_fail():
    with pytest.raises(AssertionError, match="insides"):
        fuzz.assert_clear(ValueError("a.npz: KeyError while reading it"), "a.npz")
    with pytest.raises(AssertionError, match="does not name"):
        fuzz.assert_clear(ValueError("this is not the file"), "a.npz")
    with pytest.raises(AssertionError, match="no sentence"):
        fuzz.assert_clear(ValueError("'x'"), None)


@pytest.mark.parametrize("make", [Graph, GraphSet])
def test_valid_input_is_read(make):
    """What is damaged was whole before."""
    for options in ways_in.OPTIONS if make is Graph else ways_in.SETS:
        make(**options)


# -- what was found: archives -------------------------------------------------------------------------


def archive(path, **arrays):
    """An archive that is 3 nodes and 2 edges unless said otherwise; bytes are members as they are."""
    arrays = {"num_nodes": np.array(3), "edge_index": np.array([[0, 1], [1, 2]]), **arrays}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            content = array if isinstance(array, bytes) else bad_input.npy(array)
            file.writestr(f"{name}.npy", content)
    return path


CSR = {
    "x_indices": np.array([0, 1]),
    "x_indptr": np.array([0, 1, 2, 2]),
    "x_shape": np.array([3, 2]),
}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"edge_index": bad_input.npy([[0, 1]], "(2, 500000000000)")},
            r"says shape .* but there are 16 bytes",
        ),
        ({"labels": bad_input.npy([0], "(-1, 2)")}, r"impossible shape"),
        ({"labels": b"hello"}, r"labels\.npy: no NumPy array"),
        ({"labels": np.array([{}, 1, 2])}, r"Python objects.*allow_pickle=False"),
        ({"num_nodes": np.array([2, 2])}, r"num_nodes must be one whole number"),
        ({"num_nodes": np.array(np.inf)}, r"num_nodes must be one whole number"),
        (
            {"num_nodes": np.array(2**31 - 1)},
            r"only 2 edges: all but a few nodes would be isolated",
        ),
        ({"directed": np.array("yes")}, r"directed must be one whole number"),
        ({**CSR, "x_indices": np.array([0, 99])}, r"damaged sparse matrix"),
        # once wrote past the end of an array, in compiled code
        ({**CSR, "x_indptr": np.array([0, 2**30, 2, 2])}, r"damaged sparse matrix"),
        ({**CSR, "x_shape": np.array([3])}, r"CSR features do not fit"),
        ({"x_indptr": np.array([0, 1, 2, 2])}, r"without x_indices, x_shape"),
        ({"labels": np.array([0, 1, 2**62])}, r"labels go up to"),
        ({"labels": np.array([0, 1, 2**64 - 1], np.uint64)}, r"labels go up to"),
        ({"names": np.array(["a", "b", "c\x00d"])}, r"null character"),
    ],
)
def test_archives(arrays, words, tmp_path):
    with pytest.raises(GraphError, match=r"a\.npz: .*" + words):
        read_graph(archive(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize("what", ["pickle", "flipped", "cut", "twice", "bomb", "empty"])
@pytest.mark.parametrize(
    "read", [read_graph, read_graphset, lambda path: given_split(karate(), path)]
)
def test_damaged_archives(what, read, tmp_path, monkeypatch):
    path = archive(tmp_path / "a.npz")
    data = bytearray(path.read_bytes())
    if what == "pickle":
        data = bytearray(b"\x80\x04]q\x00.")
    elif what == "flipped":
        data[data.index(b"NUMPY", 40) + 1 if data.count(b"NUMPY") > 1 else 60] ^= 255
    elif what == "cut":
        del data[-20:]
    elif what == "empty":
        data.clear()
    path.write_bytes(data)
    if what == "twice":
        with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("num_nodes.npy", bad_input.npy(7))
    if what == "bomb":
        monkeypatch.setattr("graphlore.data.numpy_files._LARGE", 10_000)
        archive(path, x=np.zeros((3, 100_000)))
    words = {"bomb": "zip bomb", "twice": "two members"}.get(what, "archive|damaged")
    with pytest.raises(GraphError, match=rf"a\.npz.*({words})"):
        read(path)


def test_a_large_archive_that_is_no_bomb_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("graphlore.data.numpy_files._LARGE", 1000)
    x = np.random.default_rng(0).random((3, 200))
    assert read_graph(archive(tmp_path / "a.npz", x=x)).features.shape == (3, 200)
    path = tmp_path / "b.npz"
    np.savez(path, num_nodes=3, edge_index=[[0], [1]], x=np.zeros((3, 1000)))
    assert read_graph(path).features.shape == (3, 1000), "as the message says"


def test_a_damaged_scipy_archive(tmp_path):
    matrix = sp.csr_array(karate().dense_adjacency().numpy())
    matrix.indptr[3] = 2**30
    sp.save_npz(tmp_path / "a.npz", matrix)
    with pytest.raises(GraphError, match=r"a\.npz: .*damaged sparse matrix|not a well-formed"):
        read_graph(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "number", [np.array(np.inf), np.array(1j), np.array([2, 2]), np.array("34")]
)
def test_splits_of_no_number_of_nodes(number, tmp_path):
    arrays = ways_in.arrays_written(ways_in.SPLIT.save)
    with pytest.raises(GraphError, match="num_nodes must be one whole number"):
        given_split(karate(), {**arrays, "num_nodes": number})


@pytest.mark.parametrize("options", [{"header": True}, {"sep": ","}])
def test_options_of_text_for_other_files(options, tmp_path):
    with pytest.raises(GraphError, match=r"is for edge lists, and a\.npz is none"):
        read_graph(archive(tmp_path / "a.npz"), **options)


# -- what was found: text -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", bad_input.XML_BOMBS)
@pytest.mark.parametrize("suffix", [".graphml", ".gexf"])
def test_xml_bombs(name, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text(bad_input.XML_BOMBS[name])
    with pytest.raises(
        GraphError, match=r"document type definition|within each other|not a well-formed|no graph"
    ):
        read_graph(path)
    if "ENTITY" in bad_input.XML_BOMBS[name]:
        with pytest.raises(GraphError, match="document type definition"):
            read_graph(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.npy", bad_input.npy([0], "(1000000000000,)"), r"says shape .* but there are 8 bytes"),
        (
            "a.mtx",
            b"%%MatrixMarket matrix coordinate real general\n9 9 1000000000000\n1 2 1\n",
            r"too many for",
        ),
        (
            "a.mtx",
            b"%%MatrixMarket matrix array real general\n1000000 1000000\n1\n",
            r"too many for",
        ),
        (
            "a.mtx",
            b"%%MatrixMarket matrix coordinate real general\n2000000000 2000000000 1\n1 2 1\n",
            r"isolated",
        ),
        ("a.gml", b"graph [ " * 3000, r"not a well-formed \.gml"),
        ("a.csv", b"0,1\n1,2147483646\n", r"isolated.*compact=True"),
        ("a.csv", b"a," + b"x" * 200_000 + b"\na,b\n", r"columns cannot be told apart"),
        ("a.csv", "a,b\n".encode("utf-16"), r"not a UTF-8 text file"),
    ],
)
def test_texts(name, text, words, tmp_path):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(GraphError, match=rf"{name}: .*{words}") as told:
        read_graph(tmp_path / name)
    assert len(str(told.value)) < 500


def test_ids_of_more_digits_than_a_number_has_are_names(tmp_path):
    (tmp_path / "a.csv").write_text(f"{'1' * 40},{'2' * 40}\n{'2' * 40},{'3' * 40}\n")
    assert read_graph(tmp_path / "a.csv").names == tuple(c * 40 for c in "123")


def test_pairs(tmp_path):
    (tmp_path / "a.csv").write_text(f"Mr. Hi,{'9' * 5000}\n")
    with pytest.raises(GraphError, match=r"a\.csv: line 1: 'karate' has no node '999") as told:
        read_pairs(tmp_path / "a.csv", karate())
    assert len(str(told.value)) < 300
    (tmp_path / "a.csv").write_text("a," + "x" * 200_000)
    with pytest.raises(GraphError, match=r"a\.csv: .*told apart"):
        read_pairs(tmp_path / "a.csv", karate())


# -- what was found: values ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": np.full((3, 1), 1e39)}, "NaN or infinite"),
        ({"features": sp.csr_array(np.full((3, 1), 1e39))}, "NaN or infinite"),
        ({"directed": np.array([], bool)}, "directed must be True or False"),
        ({"clean": np.ones(2)}, "clean must be True or False"),
        ({"label_names": ["a", "\udc80"], "labels": [0, 0, 1]}, "half a surrogate"),
        ({"labels": [[0], [1, 2], [3]]}, "labels must be a vector"),
    ],
)
def test_graphs(options, words):
    with pytest.raises(GraphError, match=words):
        Graph(3, [[0, 1], [1, 2]], **options)


def test_a_title_is_what_a_file_can_keep():
    assert Graph(2, [[0], [1]], title="a\x00\udc80").title == "a?"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edge_index": None}, "edge_index must hold integer node ids"),
        ({"num_nodes": [2**40]}, "num_nodes must be at most 10000000"),
        ({"node_types": [0, 2**62]}, "node_types must be at most"),
        ({"labels": np.array([2**64 - 1], np.uint64)}, "labels must be at most"),
    ],
)
def test_sets_of_graphs(options, words):
    with pytest.raises(GraphError, match=words):
        GraphSet(**{"num_nodes": [2], "edge_index": [[0], [1]], "edge_ptr": [0, 1], **options})


def test_arrays_that_are_read_backwards():
    edges = np.array([[0, 1], [1, 2]])
    assert torch.equal(GraphSet([3], edges[:, ::-1], [0, 2]).edge_index, torch.tensor(edges))


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([[0, 2**64]], "less than"),
        ([[0, np.float16(1)]], "neither an integer id nor a name"),
        ([[0, 1j]], "neither an integer id nor a name"),
    ],
)
def test_lists_of_pairs(edges, words):
    with pytest.raises(GraphError, match=words):
        from_edges(edges)


def test_networkx_graphs():
    net = nx.path_graph(3)
    net.graph["name"] = np.array([])
    assert from_networkx(net).title == "graph"
    nx.set_node_attributes(net, 2**70, "label")
    with pytest.raises(GraphError, match="labels must be integers"):
        from_networkx(net, label_attribute="label")


@pytest.mark.filterwarnings("error")
def test_pyg_data():
    assert from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 0]]))).num_nodes == 2
    with pytest.raises(GraphError, match="does not say how many nodes"):
        from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 0]], dtype=torch.uint64)))


def test_matrices():
    matrix = sp.csr_array(karate().dense_adjacency().numpy())
    matrix.indices[0] = 99
    with pytest.raises(GraphError, match="damaged sparse matrix"):
        from_scipy(matrix)
    half = karate().dense_adjacency().numpy().astype(np.float16)
    assert from_dense(half).fingerprint() == Graph(34, karate().edge_index).fingerprint()
    with pytest.raises(GraphError, match="isolated"):
        from_scipy(sp.coo_array(([1], ([0], [1])), shape=(10**9, 10**9)), directed=True)


def test_settings_and_recipes(tmp_path):
    with pytest.raises(ValueError, match="table of names and values"):
        FitSettings.from_dict(None)
    with pytest.raises(ValueError, match="guide is a table"):
        Recipe(guide=None)
    with pytest.raises(ValueError, match="there is no story"):
        Recipe(story={"name": []})
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InferenceError, match=r"a\.json is no readable recipe"):
        Recipe.read(path)
    path.write_text('{"fit": {"steps": 0}}')
    with pytest.raises(ValueError, match=r"a\.json: steps must be at least 1"):
        Recipe.read(path)


@pytest.mark.parametrize(
    "settings", ["[" * 100_000, '{"story": {}, "guide": {}, "fit": {}}', "null"]
)
def test_settings_of_a_run_that_are_none(settings, tmp_path):
    for name, content in ways_in.fit_files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "settings.json").write_text(settings)
    with pytest.raises(InferenceError, match=r"settings\.json"):
        Fit.load(tmp_path)
