"""Graphs with weights, graphs with two sides, and labels that are partly hidden."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from chance import LEVEL, smallest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from graphlore.data import (
    Graph,
    GraphError,
    given_split,
    karate,
    random_split,
)

PATH = [[0, 1, 2], [1, 2, 3]]  # 0 - 1 - 2 - 3
SIDES = [0, 1, 0, 1, 1]
ACROSS = [[1, 0, 2], [0, 4, 3]]  # 0 - 1, 0 - 4, 2 - 3


def weighted_graph(n: int, seed: int, directed: bool = False) -> Graph:
    """Weights that name their edge: 100 i + j for the edge or arc (i, j), from a shuffled list."""
    rng = np.random.default_rng(seed)
    pairs = np.stack(np.nonzero(np.ones((n, n)) - np.eye(n)))
    if not directed:
        pairs = pairs[:, pairs[0] < pairs[1]]
    pairs = pairs[:, rng.permutation(pairs.shape[1])[: rng.integers(2, pairs.shape[1])]]
    weights = 100.0 * pairs[0] + pairs[1]
    if not directed:
        pairs = np.where(rng.random(pairs.shape[1]) < 0.5, pairs, pairs[::-1])
    return Graph(n, pairs, weights=weights, directed=directed)


def names_its_edges(graph: Graph) -> bool:
    i, j = graph.edge_index
    return graph.weights is not None and torch.equal(graph.weights, (100.0 * i + j).float())


# -- weights ----------------------------------------------------------------------------------


def test_weights_follow_the_normal_form() -> None:
    graph = Graph(4, [[3, 1, 2], [2, 0, 1]], weights=[7, 0.5, -2])
    assert graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert graph.weights is not None
    assert graph.weights.tolist() == [0.5, -2.0, 7.0]
    assert graph.weights.dtype == torch.float32
    assert repr(graph) == "Graph('graph': 4 nodes, 3 edges, weighted)"
    assert graph.weighted_adjacency.is_coalesced()
    assert graph.weighted_adjacency is graph.weighted_adjacency
    assert graph.weighted_adjacency.to_dense().tolist() == [
        [0.0, 0.5, 0.0, 0.0],
        [0.5, 0.0, -2.0, 0.0],
        [0.0, -2.0, 0.0, 7.0],
        [0.0, 0.0, 7.0, 0.0],
    ]
    assert graph.adjacency.to_dense().tolist() == Graph(4, PATH).adjacency.to_dense().tolist()
    assert graph.degrees.tolist() == [1, 2, 2, 1]
    bare = Graph(4, PATH)
    assert bare.weighted_adjacency is bare.adjacency
    arcs = Graph(3, [[1, 0, 2], [0, 1, 0]], weights=torch.tensor([3, 2, 1]), directed=True)
    assert arcs.weighted_adjacency.to_dense().tolist() == [[0, 2, 0], [3, 0, 0], [1, 0, 0]]


def test_repeated_counts_add_up() -> None:
    pairs, weights = [[0, 1, 0, 2, 2], [1, 0, 1, 1, 2]], [1, 2, 4, 8, 16]
    graph = Graph(3, pairs, weights=weights, clean=True)
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert graph.weights is not None
    assert graph.weights.tolist() == [7.0, 8.0]
    arcs = Graph(3, pairs, weights=weights, clean=True, directed=True)
    assert arcs.edge_index.tolist() == [[0, 1, 2], [1, 0, 1]]
    assert arcs.weights is not None
    assert arcs.weights.tolist() == [5.0, 2.0, 8.0]
    with pytest.raises(GraphError, match=r"1 weight zero in float32 \(of the edges \(0, 1\)\)"):
        Graph(2, [[0, 1], [1, 0]], weights=[1.0, -1.0], clean=True)


def test_weights_of_missing_dyads_go() -> None:
    graph = Graph(4, [[2, 0, 1], [3, 1, 2]], weights=[3.0, 1.0, 2.0], missing=[[2], [1]])
    assert graph.edge_index.tolist() == [[0, 2], [1, 3]]
    assert graph.weights is not None
    assert graph.weights.tolist() == [1.0, 3.0]
    hidden = graph.hide([[1], [0]])
    assert hidden.weights is not None
    assert hidden.weights.tolist() == [3.0]
    assert hidden.edge_index.tolist() == [[2], [3]]


@pytest.mark.parametrize("directed", [False, True])
@settings(max_examples=25, deadline=None)
@given(st.integers(4, 9), st.integers(0, 999))
def test_weights_stay_with_their_edges(directed: bool, n: int, seed: int) -> None:
    """Against dense matrices: hide, subgraph, relabel."""
    graph = weighted_graph(n, seed, directed)
    assert names_its_edges(graph)
    dense = graph.weighted_adjacency.to_dense()
    assert directed or torch.equal(dense, dense.T)
    assert int((dense != 0).sum()) == graph.num_edges * (1 if directed else 2)
    assert names_its_edges(
        graph.hide(graph.edge_index[:, 1:2].flip(0) if not directed else [[0], [1]])
    )
    perm = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(graph.relabel(perm).weighted_adjacency.to_dense(), dense[perm][:, perm])
    some = perm[: n - 1]
    assert torch.equal(graph.subgraph(some).weighted_adjacency.to_dense(), dense[some][:, some])


BAD_WEIGHTS = {
    "few": ([1.0, 2.0], r"weights must have shape \(3,\), one per edge as given, got \(2,\)"),
    "matrix": (np.ones((3, 1)), r"got \(3, 1\)"),
    "ragged": ([[1.0], [1.0, 2.0], [3.0]], r"weights must be a vector of numbers"),
    "words": (["a", "b", "c"], r"weights must be real numbers, got dtype <U1"),
    "bools": ([True, True, True], r"real numbers, got dtype bool"),
    "complex": (torch.tensor([1j, 1j, 1j]), r"real numbers, got dtype complex"),
    "nan": ([1.0, np.nan, np.inf], r"2 weights NaN or infinite.*\(1, 2\), \(2, 3\).*missing"),
    "zero": ([1.0, 0.0, 2.0], r"1 weight zero.*\(1, 2\).*observed dyad without an edge"),
    "too large": ([1.0, 1e39, 2.0], r"1 weight NaN or infinite in float32"),
    "too small": ([1.0, 1e-60, 2.0], r"1 weight zero in float32"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(case: str) -> None:
    weights, words = BAD_WEIGHTS[case]
    with pytest.raises(GraphError, match=words) as caught:
        Graph(4, PATH, weights=weights)
    assert "\n" not in str(caught.value)


def test_both_directions_are_named_as_a_sum() -> None:
    both = [[0, 1], [1, 0]]
    with pytest.raises(GraphError, match=r"both directions.*the sum of the weights"):
        Graph(2, both, weights=[1.0, 1.0])
    with pytest.raises(GraphError, match=r"1 repeated edge.*the sum of the weights"):
        Graph(3, [[0, 1, 1], [1, 0, 2]], weights=[1.0, 1.0, 1.0])


# -- fingerprints -----------------------------------------------------------------------------


def test_fingerprints() -> None:
    # Runs of earlier versions have these in their files.
    assert karate().fingerprint().startswith("85b6196ba2f41ca75bcba5ad08c2802fe9a57a16e8814ddc")
    arcs = Graph(3, [[1, 0], [0, 2]], directed=True, features=[[1.0], [0.0], [2.0]])
    assert arcs.fingerprint().startswith("c2928ff99ffd1158189ea9b475f4807050a3dc773d65a4d1")
    graphs = [
        Graph(5, ACROSS),
        Graph(5, ACROSS, weights=[1, 1, 1]),
        Graph(5, ACROSS, weights=[1, 1, 2]),
        Graph(5, ACROSS, weights=[1, 1, 2.25]),
        Graph(5, ACROSS, parts=SIDES),
        Graph(5, ACROSS, parts=[0, 1, 1, 0, 1]),
        Graph(5, ACROSS, parts=SIDES, weights=[1, 1, 2]),
    ]
    assert len({graph.fingerprint() for graph in graphs}) == len(graphs)
    for graph in graphs:
        assert copy.deepcopy(graph).fingerprint() == graph.fingerprint()
    shuffled = Graph(5, [[2, 1, 0], [3, 0, 4]], weights=[2, 1, 1])
    assert shuffled.fingerprint() == graphs[2].fingerprint()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_kinds_on_the_device() -> None:
    graph = Graph(5, ACROSS, parts=SIDES, weights=[1, 1, 2], labels=[0, 1, 0, 1, 0])
    there = graph.to("cuda")
    assert there.weights is not None
    assert there.parts is not None
    assert there.weights.device.type == there.parts.device.type == "cuda"
    assert there.weighted_adjacency.device.type == "cuda"
    for change in (
        lambda g: g.hide([[0], [1]]),
        lambda g: g.subgraph([4, 3, 2, 0]),
        lambda g: g.keep_labels([1, 2]),
        lambda g: random_split(g, 0.0, 0.4, 1).train,
    ):
        assert change(there).to("cpu").fingerprint() == change(graph).fingerprint()
    made = Graph(5, torch.tensor(ACROSS).cuda(), parts=SIDES, weights=[1, 1, 2], missing=[[2], [1]])
    assert made.device.type == "cuda"
    assert made.num_dyads == 5


# -- bipartite --------------------------------------------------------------------------------


def test_bipartite_dyads_are_pairs_across() -> None:
    graph = Graph(5, ACROSS, parts=SIDES, weights=[3, 4, 5])
    assert graph.parts is not None
    assert graph.parts.dtype == torch.int64
    assert graph.edge_index.tolist() == [[0, 0, 2], [1, 4, 3]]
    assert graph.num_dyads == 6
    assert graph.density == 0.5
    across = [[0, 1], [0, 3], [0, 4], [1, 2], [2, 3], [2, 4]]
    assert graph.observed_pairs().T.tolist() == across
    mask = torch.zeros(5, 5, dtype=torch.bool)
    for i, j in across:
        mask[i, j] = mask[j, i] = True
    assert torch.equal(graph.observed_mask(), mask)
    assert repr(graph) == "Graph('graph': 5 nodes, 3 edges, weighted, bipartite 2 + 3)"
    less = graph.hide([[4, 4], [0, 2]])
    assert less.num_dyads == 4
    assert less.density == 0.5
    assert less.weights is not None
    assert less.weights.tolist() == [3.0, 5.0]
    assert less.observed_pairs().T.tolist() == [[0, 1], [0, 3], [1, 2], [2, 3]]
    with pytest.raises(GraphError, match="hides everything: all 6 dyads"):
        graph.hide(graph.observed_pairs())


def test_bipartite_masks_say_nothing_within_a_side() -> None:
    want = Graph(5, ACROSS, parts=SIDES, missing=[[3, 4], [0, 2]])
    mask = np.ones((5, 5), dtype=bool)
    mask[[0, 3, 2, 4], [3, 0, 4, 2]] = False
    other = mask.copy()
    other[0, 2] = other[1, 4] = other[3, 3] = False  # within a side, and not symmetric
    for observed in (mask, other, torch.from_numpy(other), sp.csr_array(other)):
        assert Graph(5, ACROSS, parts=SIDES, observed=observed).fingerprint() == want.fingerprint()
    other[0, 1] = False
    with pytest.raises(GraphError, match=r"not symmetric: 1 pair differ \(\(0, 1\)\)"):
        Graph(5, ACROSS, parts=SIDES, observed=other)


def test_bipartite_selections() -> None:
    graph = Graph(5, ACROSS, parts=SIDES, weights=[3, 4, 5])
    part = graph.subgraph([4, 2, 0])
    assert part.parts is not None
    assert part.parts.tolist() == [1, 0, 0]
    assert part.edge_index.tolist() == [[0], [2]]
    assert part.num_dyads == 2
    perm = [3, 1, 4, 0, 2]
    moved = graph.relabel(perm)
    assert moved.num_dyads == 6
    assert moved.relabel(np.argsort(perm)).fingerprint() == graph.fingerprint()
    for nodes in ([1, 3, 4], [0, 2]):
        with pytest.raises(GraphError, match="nodes of both sides"):
            graph.subgraph(nodes)


BAD_SIDES = {
    "edge": ({"edge_index": [[0, 0], [1, 2]]}, r"1 edge within one side.*\(0, 2\).*side 0 to"),
    "missing": ({"missing": [[4], [3]]}, r"1 missing dyad within one side.*\(4, 3\)"),
    "directed": ({"directed": True}, r"undirected here"),
    "one side": ({"parts": [1] * 5}, r"All nodes are on side 1"),
    "three": ({"parts": [0, 1, 2, 0, 1]}, r"integers 0 and 1"),
    "floats": ({"parts": [0.0, 1.0, 0.0, 1.0, 1.0]}, r"integers 0 and 1"),
    "words": ({"parts": list("ababb")}, r"integers 0 and 1"),
    "few": ({"parts": [0, 1]}, r"parts must have shape \(5,\).*got \(2,\)"),
    "ragged": ({"parts": [[0], [0, 1]]}, r"parts must be a vector"),
}


@pytest.mark.parametrize("case", BAD_SIDES)
def test_bad_sides(case: str) -> None:
    options, words = BAD_SIDES[case]
    options = {"edge_index": ACROSS, "parts": SIDES, **options}
    with pytest.raises(GraphError, match=words) as caught:
        Graph(5, **options)
    assert "\n" not in str(caught.value)


def test_hide_refuses_pairs_within_a_side() -> None:
    with pytest.raises(GraphError, match=r"1 dyads dyad within one side.*\(0, 2\)"):
        Graph(5, ACROSS, parts=SIDES).hide([[0], [2]])


# -- splits of bipartite graphs ---------------------------------------------------------------


def two_sided(n: int, seed: int, hide: float = 0.0) -> Graph:
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.arange(n) % 3 == 0).astype(int)
    across = np.triu(parts[:, None] != parts, 1)
    dense, hidden = across & (rng.random((n, n)) < 0.2), across & (rng.random((n, n)) < hide)
    return Graph(n, np.stack(np.nonzero(dense)), missing=np.stack(np.nonzero(hidden)), parts=parts)


def across(graph: Graph, pairs: Tensor) -> bool:
    assert graph.parts is not None
    return bool((graph.parts[pairs[0]] != graph.parts[pairs[1]]).all())


@pytest.mark.parametrize(("test", "hide"), [(0.1, 0.0), (0.1, 0.3), (0.8, 0.1)])
def test_negatives_are_across(test: float, hide: float) -> None:
    graph = two_sided(40, 5, hide)
    for seed in range(5):
        split = random_split(graph, 0.1, test, seed)
        negatives = torch.cat([split.val_non_edges, split.test_non_edges], dim=1)
        assert negatives.shape[1] == int(0.1 * graph.num_edges) + int(test * graph.num_edges)
        assert across(graph, negatives)
        assert bool((negatives[0] < negatives[1]).all())
        assert bool(graph.observed_mask()[negatives[0], negatives[1]].all())
        assert not graph.dense_adjacency()[negatives[0], negatives[1]].any()
        keys = negatives[0] * 40 + negatives[1]
        assert torch.unique(keys).numel() == keys.numel()
        assert split.train.parts is graph.parts
        assert split.train.num_dyads == graph.num_dyads - 2 * keys.numel()


def test_negatives_across_are_uniform() -> None:
    """Both ways to draw give every non-edge across the same chance."""
    graph = two_sided(20, 2)
    free = graph.num_dyads - graph.num_edges
    for test, draws in ((0.15, 1500), (0.9, 400)):  # rejection; enumeration
        size = int(graph.num_edges * test)
        assert (4 * size <= free) == (test < 0.5)
        counts = torch.zeros(20, 20)
        for seed in range(draws):
            i, j = random_split(graph, 0.0, test, seed).test_non_edges
            counts[i, j] += 1
        absent = counts[graph.observed_mask().triu(1) & (graph.dense_adjacency() == 0)]
        assert absent.numel() == free
        assert counts.sum() == absent.sum() == size * draws
        expected = size * draws / free
        chi2 = ((absent - expected) ** 2 / expected).sum() / (1 - size / free)
        law = stats.chi2(free - 1)
        assert smallest(2.0 * min(law.cdf(chi2), law.sf(chi2))) > LEVEL


def test_given_splits_of_bipartite_graphs(tmp_path: Path) -> None:
    graph = two_sided(30, 1)
    split = random_split(graph, 0.1, 0.2, seed=4)
    path = split.save(tmp_path / "split.npz")
    back = given_split(graph, path)
    assert back.train.fingerprint() == split.train.fingerprint()
    assert graph.parts is not None
    same = (graph.parts == 0).nonzero()[:2, 0]
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["test_edges_false"] = same[None].numpy()
    with pytest.raises(GraphError, match="1 test_edges_false dyad within one side"):
        given_split(graph, arrays)


def test_too_few_pairs_across() -> None:
    complete = Graph(5, [[0, 0, 0, 2, 2], [1, 3, 4, 1, 3]], parts=SIDES)
    with pytest.raises(GraphError, match=r"needs 2, but the graph has only 1 observed"):
        random_split(complete, 0.0, 0.5)


# -- labels -----------------------------------------------------------------------------------


def test_keep_labels() -> None:
    graph = karate()
    assert graph.labels is not None
    few = graph.keep_labels([33, 0, 0])
    assert few.labels is not None
    assert few.labels.nonzero().numel() == 33  # node 0 has class 0, the others 1 or -1
    assert few.labels[[0, 33]].tolist() == [0, 1]
    assert int((few.labels == -1).sum()) == 32
    assert few.label_names == graph.label_names
    mask = torch.zeros(34, dtype=torch.bool)
    mask[[0, 33]] = True
    for nodes in (mask, mask.numpy(), mask.tolist(), np.array([33, 0])):
        assert graph.keep_labels(nodes).fingerprint() == few.fingerprint()
    assert graph.keep_labels(range(34)).fingerprint() == graph.fingerprint()
    assert few.keep_labels([0, 1]).labels.tolist() == [0] + [-1] * 33  # type: ignore[union-attr]
    assert repr(graph.keep_labels([])) == "Graph('karate': 34 nodes, 78 edges, 0 classes)"
    assert int((graph.labels == -1).sum()) == 0  # the graph itself is as it was
    with pytest.raises(GraphError, match="out of range: 34"):
        graph.keep_labels([34])
    with pytest.raises(GraphError, match=r"boolean mask, got shape \(3,\)"):
        graph.keep_labels([True, False, True])
    with pytest.raises(GraphError, match="this graph has none"):
        Graph(4, PATH).keep_labels([0])


def test_with_labels() -> None:
    graph = Graph(4, PATH)
    labelled = graph.with_labels([0, 1, -1, 1], ["a", "b"])
    same = Graph(4, PATH, labels=[0, 1, -1, 1], label_names=["a", "b"])
    assert labelled.fingerprint() == same.fingerprint()
    assert labelled.with_labels(None).fingerprint() == graph.fingerprint()
    assert labelled.with_labels([1, 1, 1, 1]).label_names is None
    with pytest.raises(GraphError, match=r"1 words.*go up to 1"):
        graph.with_labels([0, 1, 0, 0], ["a"])
    with pytest.raises(GraphError, match=r"labels must have shape \(4,\)"):
        graph.with_labels([0, 1])
    with pytest.raises(GraphError, match="without labels"):
        labelled.with_labels(None, ["a", "b"])
