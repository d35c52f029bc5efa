"""The Graph value: what it refuses, its normal form, and what it can say of itself."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import graphlore
from graphlore.data import Graph, GraphError, karate

PATH = [[0, 1, 2], [1, 2, 3]]  # 0 - 1 - 2 - 3


def lopsided() -> np.ndarray:
    mask = np.ones((4, 4), dtype=bool)
    mask[0, 2] = False
    return mask


BAD = {
    "range": ({"edge_index": [[0, 1], [1, 7]]}, r"1 edge out of range: \(1, 7\).*0 to 3"),
    "negative": ({"edge_index": [[0, -1], [1, 2]]}, r"out of range: \(-1, 2\)"),
    "float": ({"edge_index": [[0.0], [1.5]]}, r"integer node ids, got dtype float64.*astype"),
    "whole floats": ({"edge_index": torch.tensor([[0.0], [1.0]])}, r"integer.*float32"),
    "names": ({"edge_index": [["a"], ["b"]]}, r"integer.*from_edges"),
    "bools": ({"edge_index": [[True], [False]]}, r"integer.*bool.*from_dense"),
    "ragged": ({"edge_index": [[0, 1], [1]]}, r"not a rectangular"),
    "pairs": ({"edge_index": [[0, 1], [1, 2], [2, 3]]}, r"shape \(2, n\), got \(3, 2\).*pairs"),
    "vector": ({"edge_index": [0, 1]}, r"shape \(2, n\), got \(2,\)"),
    "sparse": ({"edge_index": torch.eye(4).to_sparse()}, r"sparse tensor.*from_scipy"),
    "loop": ({"edge_index": [[0, 1], [1, 1]]}, r"1 self-loop \(at node 1\).*clean=True"),
    "both": (
        {"edge_index": [[0, 0, 1, 2], [0, 1, 0, 3]]},
        r"1 self-loop .* and 1 repeated edge \(of \(0, 1\)\)",
    ),
    "two-way": ({"edge_index": [[0, 1], [1, 0]]}, r"both directions"),
    "empty": ({"edge_index": [[], []]}, r"Empty graph: 4 nodes and no edge.*allow_empty"),
    "no nodes": ({"num_nodes": 0}, r"Empty graph: num_nodes is 0"),
    "one node": ({"num_nodes": 1}, r"at least two nodes"),
    "odd count": ({"num_nodes": 4.0}, r"num_nodes must be a whole number"),
    "true count": ({"num_nodes": True}, r"num_nodes must be a whole number"),
    "nan": ({"features": [[0.0], [np.nan], [1.0], [np.inf]]}, r"2 values.*NaN.*nodes 1, 3"),
    "sparse nan": (
        {"features": sp.csr_array(np.diag([1.0, 1.0, np.nan, 1.0]))},
        r"1 value.*NaN.*nodes 2",
    ),
    "few features": ({"features": np.zeros((3, 2))}, r"features.*\(4, D\).*got \(3, 2\)"),
    "flat features": ({"features": np.zeros(4)}, r"features.*\(4, D\).*got \(4,\)"),
    "word features": ({"features": [["a"]] * 4}, r"features must be a numeric"),
    "few labels": ({"labels": [0, 1]}, r"labels must have shape \(4,\).*got \(2,\)"),
    "word labels": ({"labels": ["a", "b", "a", "b"]}, r"labels must be integers.*label_names"),
    "low labels": ({"labels": [0, -2, 1, 0]}, r"1 label below -1 \(nodes 1\)"),
    "few words": ({"labels": [0, 1, 2, 0], "label_names": ["a", "b"]}, r"2 words.*go up to 2"),
    "few names": ({"names": ["a"]}, r"names must have length 4, got 1"),
    "same names": ({"names": ["a", "b", "a", "c"]}, r"1 duplicate: 'a'"),
    "one name": ({"names": 5}, r"sequence of words, got 5"),
    "one string": ({"names": "abcd"}, r"sequence of words"),
    "feature names": (
        {"features": np.zeros((4, 2)), "feature_names": ["a"]},
        r"feature_names must have length 2",
    ),
    "lone feature names": ({"feature_names": ["a"]}, r"without features"),
    "two masks": ({"missing": [[0], [2]], "observed": np.ones((4, 4), bool)}, r"not both"),
    "diagonal": ({"missing": [[0], [0]]}, r"missing has 1 pair of a node with itself"),
    "missing range": ({"missing": [[0], [9]]}, r"missing dyad out of range: \(0, 9\)"),
    "mask shape": ({"observed": np.ones((3, 4), bool)}, r"mask.*\(4, 4\), got \(3, 4\)"),
    "mask dtype": ({"observed": np.ones((4, 4))}, r"mask.*boolean.*float64"),
    "mask counts": ({"observed": np.full((4, 4), 2)}, r"besides 0 and 1"),
    "lopsided": ({"observed": lopsided()}, r"not symmetric: 1 pair differ \(\(0, 2\)\)"),
    "hides all": ({"observed": np.eye(4, dtype=bool)}, r"hides everything: all 6 dyads"),
    "hides edges": ({"missing": PATH}, r"All 3 edges lie in missing dyads"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case: str) -> None:
    options, words = BAD[case]
    options = {"num_nodes": 4, "edge_index": PATH, **options}
    with pytest.raises(GraphError, match=words) as caught:
        Graph(**options)
    assert "\n" not in str(caught.value)


def test_graph_error_is_a_value_error() -> None:
    assert issubclass(GraphError, ValueError)
    assert graphlore.Graph is Graph


def test_clean_drops_loops_and_repeats() -> None:
    graph = Graph(4, [[2, 0, 1, 1, 3], [1, 1, 0, 1, 3]], clean=True)
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    with pytest.raises(GraphError, match="Empty graph"):
        Graph(4, [[2], [2]], clean=True)


def test_edgeless_graph_when_meant() -> None:
    graph = Graph(3, [[], []], allow_empty=True)
    assert (graph.num_edges, graph.num_dyads, graph.density) == (0, 3, 0.0)
    assert graph.adjacency.to_dense().sum() == 0


def test_normal_form_and_dtypes() -> None:
    graph = Graph(4, np.array([[3, 1], [2, 0]], dtype=np.uint8), labels=np.int32([0, 1, -1, 0]))
    assert graph.edge_index.tolist() == [[0, 2], [1, 3]]
    assert graph.edge_index.dtype == graph.missing.dtype == torch.int64
    assert graph.missing.shape == (2, 0)
    assert graph.labels is not None
    assert graph.labels.dtype == torch.int64


def test_missing_dyads_are_neither_edges_nor_non_edges() -> None:
    by_list = Graph(4, PATH, missing=[[1, 3, 3], [0, 0, 0]])
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[[0, 1, 0, 3], [1, 0, 3, 0]] = False
    for observed in (mask, mask.numpy(), mask.long().numpy(), sp.csr_array(mask.numpy())):
        by_mask = Graph(4, PATH, observed=observed)
        assert by_mask.fingerprint() == by_list.fingerprint()
    assert by_list.missing.tolist() == [[0, 0], [1, 3]]
    assert by_list.edge_index.tolist() == [[1, 2], [2, 3]]
    assert by_list.num_dyads == 4
    assert by_list.density == 0.5
    assert torch.equal(by_list.observed_mask(), mask & ~torch.eye(4, dtype=torch.bool))
    assert by_list.observed_pairs().tolist() == [[0, 1, 1, 2], [2, 2, 3, 3]]
    assert (
        by_list.hide([[2], [1]]).fingerprint()
        == Graph(4, PATH, missing=[[0, 0, 1], [1, 3, 2]]).fingerprint()
    )
    with pytest.raises(GraphError, match="hides everything"):
        by_list.hide(by_list.observed_pairs())
    with pytest.raises(GraphError, match="dyads dyad out of range"):
        by_list.hide([[0], [4]])


def test_karate_facts() -> None:
    graph = karate()
    assert (graph.num_nodes, graph.num_edges, graph.num_dyads) == (34, 78, 561)
    assert graph.density == pytest.approx(78 / 561)
    assert graph.labels is not None
    assert torch.bincount(graph.labels).tolist() == [17, 17]
    assert graph.label_names == ("Mr. Hi", "Officer")
    assert graph.degrees.dtype == torch.int64
    assert graph.degrees[[0, 33, 32, 11]].tolist() == [16, 17, 12, 1]
    assert graph.degrees.sum() == 2 * 78
    assert repr(graph) == "Graph('karate': 34 nodes, 78 edges, 2 classes)"


def test_karate_is_the_public_one(shared_data: object) -> None:
    other = graphlore.data.read_graph(f"{shared_data}/classic/karate.npz")
    assert torch.equal(other.edge_index, karate().edge_index)
    assert torch.equal(other.labels, karate().labels)


def test_other_forms() -> None:
    graph = Graph(4, PATH)
    both = graph.both_directions()
    assert both.tolist() == [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]
    adjacency = graph.adjacency
    assert adjacency.is_coalesced()
    assert torch.equal(adjacency.indices(), both)
    dense = graph.dense_adjacency()
    assert dense.dtype == torch.float32
    assert torch.equal(dense, dense.T)
    assert torch.equal(dense.sum(0).long(), graph.degrees)


def test_directed() -> None:
    graph = Graph(3, [[1, 0], [0, 1]], directed=True, missing=[[2], [0]])
    assert graph.num_edges == 2
    assert graph.num_dyads == 5
    assert graph.degrees.tolist() == [2, 2, 0]
    assert graph.both_directions().tolist() == graph.edge_index.tolist() == [[0, 1], [1, 0]]
    assert not graph.observed_mask()[2, 0]
    assert graph.observed_mask()[0, 2]
    assert graph.observed_pairs().shape == (2, 5)
    with pytest.raises(GraphError, match="1 repeated edge"):
        Graph(3, [[1, 1], [0, 0]], directed=True)


def test_immutable() -> None:
    edges = torch.tensor(PATH)
    features = torch.ones(4, 2)
    graph = Graph(4, edges, features=features)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.title = "other"  # type: ignore[misc]
    before = graph.fingerprint()
    edges[0, 0] = 3
    features[0] = 7
    assert graph.fingerprint() == before


def test_copies_and_pickles() -> None:
    graph = karate().hide([[0], [1]])
    assert graph.adjacency is graph.adjacency
    for other in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph)), graph.to("cpu")):
        assert other.fingerprint() == graph.fingerprint()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_moves_to_the_device() -> None:
    graph = Graph(4, PATH, features=torch.eye(4).to_sparse(), labels=[0, 1, 0, 1])
    there = graph.to("cuda")
    assert there.device.type == there.adjacency.device.type == "cuda"
    assert there.hide([[0], [1]]).subgraph([1, 2, 3]).device.type == "cuda"
    assert Graph(4, torch.tensor(PATH).cuda()).missing.device.type == "cuda"
    assert there.fingerprint() == there.to("cpu").fingerprint() == graph.fingerprint()


def test_features_dense_and_sparse() -> None:
    x = np.eye(4, 3)
    dense = Graph(4, PATH, features=x.astype(int))
    sparse = [
        Graph(4, PATH, features=f)
        for f in (
            sp.csr_matrix(x),
            torch.tensor(x).to_sparse(),
            torch.tensor(x).to_sparse_csr(),
        )
    ]
    assert dense.features is not None
    assert dense.features.dtype == torch.float32
    for graph in sparse:
        assert graph.features is not None
        assert graph.features.is_coalesced()
        assert graph.features.dtype == torch.float32
        assert graph.fingerprint() == dense.fingerprint()
    assert Graph(4, PATH).with_features(x).fingerprint() == dense.fingerprint()
    assert dense.with_features(None).fingerprint() == Graph(4, PATH).fingerprint()
    with pytest.raises(GraphError, match="NaN"):
        dense.with_features(x * np.nan)


def test_subgraph_and_relabel() -> None:
    graph = Graph(
        4,
        PATH,
        features=sp.csr_array(np.diag([1.0, 2.0, 3.0, 4.0])),
        labels=[0, 1, 2, -1],
        names=["a", "b", "c", "d"],
        missing=[[0], [2]],
    )
    part = graph.subgraph([2, 0, 1])
    assert part.names == ("c", "a", "b")
    assert part.edge_index.tolist() == [[0, 1], [2, 2]]
    assert part.missing.tolist() == [[0], [1]]
    assert part.features is not None
    assert part.features.to_dense()[0].tolist() == [0, 0, 3, 0]
    assert graph.subgraph(torch.tensor([True, True, False, True])).names == ("a", "b", "d")
    perm = [3, 1, 0, 2]
    back = np.argsort(perm)
    assert graph.relabel(perm).relabel(back).fingerprint() == graph.fingerprint()
    for nodes, words in (
        ([0, 0], "Repeated"),
        ([0, 9], "out of range: 9"),
        ([0], "at least two"),
        ([0, 2], "hides everything"),
        ([0.5, 1.0], "integer ids"),
        (["a", "b"], "integer ids"),
    ):
        with pytest.raises(GraphError, match=words):
            graph.subgraph(nodes)
    with pytest.raises(GraphError, match="permutation"):
        graph.relabel([0, 0, 1, 2])


def test_large_graphs_stay_sparse() -> None:
    graph = Graph(10**6, [[0, 5], [999_999, 7]], missing=[[1], [2]])
    assert graph.num_dyads == 10**6 * (10**6 - 1) // 2 - 1
    assert graph.adjacency.shape == (10**6, 10**6)
    with pytest.raises(GraphError, match="use edge_index, missing and adjacency"):
        graph.dense_adjacency()
    with pytest.raises(GraphError, match="missing="):
        Graph(10**6, [[0], [1]], observed=sp.coo_array((10**6, 10**6), dtype=bool))


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    n = draw(st.integers(2, 12))
    dyads = [(i, j) for i in range(n) for j in range(i)]
    return n, draw(st.lists(st.sampled_from(dyads), min_size=1, unique=True))


@settings(max_examples=50, deadline=None)
@given(edge_lists(), st.randoms(use_true_random=False))
def test_any_edge_list_has_one_normal_form(case: tuple, random: object) -> None:
    n, edges = case
    graph = Graph(n, np.array(edges).T)
    row, col = graph.edge_index
    assert bool((row < col).all())
    keys = row * n + col
    assert bool((keys[1:] > keys[:-1]).all())
    assert set(zip(row.tolist(), col.tolist(), strict=True)) == {(j, i) for i, j in edges}
    shuffled = [edge[::-1] if random.random() < 0.5 else edge for edge in edges]  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Graph(n, np.array(shuffled).T).fingerprint() == graph.fingerprint()
    assert graph.adjacency.to_dense().sum() == 2 * graph.num_edges
    assert graph.observed_pairs().shape[1] == graph.num_dyads
