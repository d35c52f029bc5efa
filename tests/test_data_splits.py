"""Link-prediction splits: counts, disjointness, truth, and held-out dyads that are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from chance import LEVEL, smallest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from graphlore.data import (
    Graph,
    GraphError,
    Split,
    given_split,
    karate,
    random_split,
    read_graph,
    sample_absent,
)


def as_set(pairs: Tensor) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in pairs.T.tolist()}


def check(split: Split) -> None:
    """What is true of every split without negatives that are edges."""
    full, train = split.full, split.train
    parts = [split.val_edges, split.val_non_edges, split.test_edges, split.test_non_edges]
    held_out = [as_set(part) for part in parts]
    assert sum(map(len, held_out)) == sum(p.shape[1] for p in parts) == len(set().union(*held_out))
    assert all(p.dtype == torch.int64 for p in parts)
    edges, hidden = as_set(full.edge_index), as_set(full.missing)
    assert held_out[0] | held_out[2] <= edges
    assert not (held_out[1] | held_out[3]) & (edges | hidden)
    assert as_set(train.missing) == hidden.union(*held_out)
    assert as_set(train.edge_index) == edges - held_out[0] - held_out[2]
    if not full.directed:
        assert all(bool((p[0] < p[1]).all()) for p in parts)


def random_graph(n: int, p: float, seed: int, directed: bool = False, hide: float = 0.0) -> Graph:
    rng = np.random.default_rng(seed)
    dense = rng.random((n, n)) < p
    mask = rng.random((n, n)) < hide
    if not directed:
        dense, mask = np.triu(dense, 1), np.triu(mask, 1)
    np.fill_diagonal(dense, False)
    np.fill_diagonal(mask, False)
    return Graph(
        n,
        np.stack(np.nonzero(dense)),
        missing=np.stack(np.nonzero(mask)),
        directed=directed,
        allow_empty=True,
    )


@pytest.mark.parametrize("hide", [0.0, 0.3])
@pytest.mark.parametrize("directed", [False, True])
def test_random_split(directed: bool, hide: float) -> None:
    graph = random_graph(120, 0.05, 0, directed, hide)
    split = random_split(graph, seed=3)
    check(split)
    edges = graph.num_edges
    assert split.val_edges.shape == split.val_non_edges.shape == (2, int(0.05 * edges))
    assert split.test_edges.shape == split.test_non_edges.shape == (2, int(0.10 * edges))
    assert split.train.num_edges == edges - int(0.05 * edges) - int(0.10 * edges)


def test_seeded() -> None:
    first, again, other = (random_split(karate(), seed=seed) for seed in (1, 1, 2))
    assert first.train.fingerprint() == again.train.fingerprint()
    assert torch.equal(first.test_non_edges, again.test_non_edges)
    assert first.train.fingerprint() != other.train.fingerprint()


def test_pairs() -> None:
    split = random_split(karate())
    pairs, targets = split.pairs("test")
    assert pairs.shape == (2, 14)
    assert targets.dtype == torch.float32
    truth = karate().dense_adjacency()[pairs[0], pairs[1]]
    assert torch.equal(truth, targets)
    assert targets.sum() == 7
    with pytest.raises(GraphError, match="'val' or 'test', got 'train'"):
        split.pairs("train")  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 30), st.floats(0.2, 0.6), st.integers(0, 99), st.booleans())
def test_any_split(n: int, p: float, seed: int, directed: bool) -> None:
    graph = random_graph(n, p, seed, directed, hide=0.1)
    if graph.num_edges >= 10 and graph.num_dyads > 2 * graph.num_edges:
        check(random_split(graph, 0.2, 0.3, seed))


def test_non_edges_are_uniform() -> None:
    """Both ways to draw give every non-edge the same chance."""
    graph = karate()
    free = graph.num_dyads - graph.num_edges
    for test, draws in ((0.05, 1500), (0.9, 100)):  # rejection; enumeration
        counts = torch.zeros(34, 34)
        for seed in range(draws):
            i, j = random_split(graph, 0.0, test, seed).test_non_edges
            counts[i, j] += 1
        absent = counts[(graph.dense_adjacency() == 0) & torch.ones(34, 34).triu(1).bool()]
        assert absent.numel() == free
        expected = int(78 * test) * draws / free
        chi2 = ((absent - expected) ** 2 / expected).sum() / (1 - int(78 * test) / free)
        law = stats.chi2(free - 1)
        assert smallest(2.0 * min(law.cdf(chi2), law.sf(chi2))) > LEVEL


def test_bad_shares() -> None:
    with pytest.raises(GraphError, match="Shares"):
        random_split(karate(), 0.5, 0.5)
    with pytest.raises(GraphError, match=r"No validation edges: a share of 0\.001 of 78 edges"):
        random_split(karate(), 0.001, 0.1)
    complete = Graph(6, torch.triu_indices(6, 6, 1)[:, :-1])
    with pytest.raises(GraphError, match=r"Not enough non-edges: the split needs 4, .* only 1"):
        random_split(complete, 0.2, 0.2)
    assert random_split(karate(), val=0.0).val_edges.shape == (2, 0)


def toy() -> dict[str, np.ndarray]:
    return {
        "train_edges": np.array([[0, 1], [1, 2]]),
        "val_edges": np.array([[3, 2]]),
        "test_edges": np.array([[3, 4]]),
        "val_edges_false": np.array([[4, 0], [0, 4]]),
        "test_edges_false": np.array([[2, 1], [0, 3]]),
    }


PATH = Graph(5, [[0, 1, 2, 3], [1, 2, 3, 4]])


def test_given_split(caplog: pytest.LogCaptureFixture) -> None:
    split = given_split(PATH, toy())
    check(split)
    assert split.val_non_edges.tolist() == [[0], [4]]
    assert split.test_non_edges.tolist() == [[0], [3]]
    assert split.train.edge_index.tolist() == [[0, 1], [1, 2]]
    assert "1 negative that" in caplog.text
    assert "(1, 2)" in caplog.text
    kept = given_split(PATH, toy(), false_edges="keep")
    assert kept.test_non_edges.tolist() == [[0, 1], [3, 2]]
    assert kept.train.fingerprint() == split.train.fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_edges": np.array([[0, 1]])}, r"1 edge only in the graph \(\(1, 2\)\)"),
        ({"test_edges": np.array([[0, 4]])}, "1 edge only in the split.*1 edge only in the graph"),
        ({"val_edges": np.array([[0, 1]])}, "more than one part"),
        ({"val_edges": np.array([2, 3, 4])}, r"val_edges must have shape \(n, 2\)"),
        ({"val_edges_false": np.array([[0, 9]])}, "val_edges_false dyad out of range"),
        ({"num_nodes": np.array(9)}, "9 nodes, this one has 5"),
    ],
)
def test_given_split_is_checked(change: dict, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        given_split(PATH, toy() | change)


def test_given_split_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="lacks val_edges, test_edges"):
        given_split(PATH, {"train_edges": np.zeros((0, 2))})
    with pytest.raises(GraphError, match="Could not read"):
        given_split(PATH, tmp_path / "none.npz")
    with pytest.raises(GraphError, match="'drop' or 'keep'"):
        given_split(PATH, toy(), false_edges="maybe")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="does not observe"):
        given_split(PATH.hide([[0], [4]]), toy())


def test_cora_split(shared_data: Path) -> None:
    cora = read_graph(shared_data / "planetoid_npz/cora.npz")
    path = shared_data / "splits/cora_split0.npz"
    split = given_split(cora, path)
    check(split)
    assert split.train.num_edges == 4488
    assert (split.val_edges.shape[1], split.test_edges.shape[1]) == (263, 527)
    assert (split.val_non_edges.shape[1], split.test_non_edges.shape[1]) == (262, 526)
    assert (2001, 2335) in as_set(split.train.edge_index)  # a false negative, a training edge
    kept = given_split(cora, path, false_edges="keep")
    assert (kept.val_non_edges.shape[1], kept.test_non_edges.shape[1]) == (263, 527)
    assert (145, 2622) in as_set(kept.test_non_edges)


def test_random_split_of_cora(shared_data: Path) -> None:
    split = random_split(read_graph(shared_data / "planetoid_npz/cora.npz"))
    check(split)
    assert split.train.num_edges == 4488
    assert (split.val_edges.shape[1], split.test_edges.shape[1]) == (263, 527)


@pytest.mark.parametrize("directed", [False, True])
def test_absent_dyads_are_sampled_among_non_edges_alone(directed):
    graph = Graph(6, [[0, 1, 2], [1, 2, 3]], missing=[[0, 4], [5, 5]], directed=directed)
    every = graph.num_dyads - 3
    found = sample_absent(graph, every)
    seen = set(map(tuple, found.T.tolist()))
    observed = set(map(tuple, graph.observed_pairs().T.tolist()))
    assert len(seen) == every
    assert seen == observed - set(map(tuple, graph.edge_index.T.tolist()))
    some = [tuple(map(tuple, sample_absent(graph, 2, seed=s).T.tolist())) for s in range(20)]
    assert len(set(some)) > 10
    assert all(set(s) <= seen and len(set(s)) == 2 for s in some)
    with pytest.raises(GraphError, match=f"1 to {every} absent dyads"):
        sample_absent(graph, every + 1)
