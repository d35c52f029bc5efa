"""Simulators: what is certain of their graphs, and z-tests of what is not."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from chance import LIMIT, largest

from graphlore.data import (
    Graph,
    GraphError,
    kesten_stigum,
    planted_features,
    planted_partition,
    simulate,
    symmetric_partition,
    to_networkx,
)


def z(successes: float, trials: float, prob: float) -> float:
    return (successes - trials * prob) / math.sqrt(trials * prob * (1 - prob))


def by_block(graph: Graph, num_blocks: int) -> np.ndarray:
    """(K, K) numbers of edges (undirected: k <= l) or arcs."""
    assert graph.labels is not None
    ends = graph.labels[graph.edge_index].numpy()
    if not graph.directed:
        ends = np.sort(ends, axis=0)
    counts = np.zeros((num_blocks, num_blocks), dtype=int)
    np.add.at(counts, (ends[0], ends[1]), 1)
    return counts


def test_certain_blocks() -> None:
    cliques = planted_partition([2, 3], np.eye(2))
    assert cliques.edge_index.tolist() == [[0, 2, 2, 3], [1, 3, 4, 4]]
    assert cliques.labels is not None
    assert cliques.labels.tolist() == [0, 0, 1, 1, 1]
    assert not cliques.directed
    across = to_networkx(planted_partition([2, 3], 1 - np.eye(2)))
    assert nx.is_isomorphic(across, nx.complete_bipartite_graph(2, 3))
    arcs = planted_partition([1, 2], [[0, 1], [0, 0]], directed=True)
    assert arcs.edge_index.tolist() == [[0, 0], [1, 2]]
    full = planted_partition(torch.tensor([2, 1]), torch.ones(2, 2), directed=True)
    assert full.num_edges == full.num_dyads == 6
    assert planted_partition([3, 3], np.zeros((2, 2))).num_edges == 0


@pytest.mark.parametrize("directed", [False, True])
def test_block_probabilities(directed: bool) -> None:
    sizes = np.array([20, 30, 10])
    probs = np.array([[0.5, 0.1, 0.3], [0.1, 0.2, 0.05], [0.3, 0.05, 0.9]])
    if directed:
        probs[0, 1], probs[2, 1] = 0.4, 0.7
    draws = 40
    graphs = [planted_partition(sizes, probs, directed=directed, seed=s) for s in range(draws)]
    counts = sum(by_block(graph, 3) for graph in graphs)
    dyads = np.outer(sizes, sizes)
    np.fill_diagonal(dyads, sizes * (sizes - 1) if directed else sizes * (sizes - 1) // 2)
    for k in range(3):
        for l in range(3) if directed else range(k, 3):  # noqa: E741
            assert largest(z(counts[k, l], draws * dyads[k, l], probs[k, l])) < LIMIT, (k, l)
    if directed:  # both arcs of a dyad are independent
        both = [
            int((g.dense_adjacency() * g.dense_adjacency().T)[:20, 20:50].sum()) for g in graphs
        ]
        assert largest(z(sum(both), draws * 600, 0.4 * 0.1)) < LIMIT


def test_draws_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = symmetric_partition(60, 3, 5.0, 0.1, seed=2)
    features = planted_features(30, np.eye(2), membership_prob=0.4, directed=True, seed=1)[0]
    for piece in (1, 7 * 60, 10**9):
        monkeypatch.setattr(simulate, "_PIECE", piece)
        assert symmetric_partition(60, 3, 5.0, 0.1, seed=2).fingerprint() == whole.fingerprint()
        again = planted_features(30, np.eye(2), membership_prob=0.4, directed=True, seed=1)[0]
        assert again.fingerprint() == features.fingerprint()
    assert symmetric_partition(60, 3, 5.0, 0.1, seed=3).fingerprint() != whole.fingerprint()


def test_degree_propensities() -> None:
    rng = np.random.default_rng(0)
    sizes, probs = [15, 25], np.array([[0.3, 0.05], [0.05, 0.2]])
    theta = rng.uniform(0.2, 1.8, size=40)
    blocks = np.repeat([0, 1], sizes)
    exact = np.outer(theta, theta) * probs[blocks][:, blocks]
    np.fill_diagonal(exact, 0.0)
    draws = 200
    degrees = sum(
        planted_partition(sizes, probs, degree_propensities=theta, seed=s).degrees.numpy()
        for s in range(draws)
    )
    mean, variance = draws * exact.sum(1), draws * (exact * (1 - exact)).sum(1)
    assert largest((degrees - mean) / np.sqrt(variance)) < LIMIT
    alone = planted_partition([3, 3], np.ones((2, 2)), degree_propensities=[0, 1, 1, 1, 1, 1])
    assert alone.degrees.tolist() == [0, 4, 4, 4, 4, 4]
    # 2 * 2 * 0.3 = 1.2 only where two different nodes have 2
    planted_partition([2, 1], 0.3 * np.eye(2), degree_propensities=[2, 0.5, 2])
    with pytest.raises(GraphError, match=r"goes up to 1\.2"):
        planted_partition([2, 1], 0.3 * np.eye(2), degree_propensities=[2, 2, 1])
    with pytest.raises(GraphError, match=r"goes up to 1\.2"):
        planted_partition([2, 1], np.full((2, 2), 0.3), degree_propensities=[2, 0, 2])


def test_symmetric_partition() -> None:
    n, k, c, epsilon, draws = 300, 3, 6.0, 0.25, 30
    # c_in (1 + 2 / 4) / 3 = 6
    c_in, c_out = 12.0, 3.0
    counts = np.zeros((k, k))
    edges = 0
    for seed in range(draws):
        graph = symmetric_partition(n, k, c, epsilon, seed=seed)
        assert graph.labels is not None
        assert torch.bincount(graph.labels).tolist() == [100, 100, 100]
        counts += by_block(graph, k)
        edges += graph.num_edges
    inside, outside = np.trace(counts), counts.sum() - np.trace(counts)
    assert largest(z(inside, draws * 3 * 100 * 99 / 2, c_in / n)) < LIMIT
    assert largest(z(outside, draws * 3 * 100 * 100, c_out / n)) < LIMIT
    mean_degree = 2 * edges / n / draws
    error = 2 / n / draws * math.sqrt(edges)
    assert largest((mean_degree - (c - c_in / n)) / error) < LIMIT


def test_kesten_stigum() -> None:
    # c_in = 5, c_out = 1: 16 / (2 * 6)
    assert kesten_stigum(2, 3.0, 0.2) == pytest.approx(4 / 3)
    # Decelle et al. 2011: epsilon at the threshold is (sqrt(c) - 1) / (sqrt(c) - 1 + K)
    for k, c in ((4, 16.0), (2, 3.0), (5, 7.5)):
        edge = (math.sqrt(c) - 1) / (math.sqrt(c) - 1 + k)
        assert kesten_stigum(k, c, edge) == pytest.approx(1.0)
    # all edges inside: the mean degree itself; no blocks: no signal
    assert kesten_stigum(3, 7.0, 0.0) == pytest.approx(7.0)
    assert kesten_stigum(3, 7.0, 1.0) == 0.0


def test_spectrum_sees_the_blocks() -> None:
    """Far above the threshold, the leading eigenvectors are functions of the block."""
    graph = symmetric_partition(600, 2, 30.0, 0.1)
    assert kesten_stigum(2, 30.0, 0.1) > 15
    values, vectors = torch.linalg.eigh(graph.dense_adjacency())
    assert graph.labels is not None
    agree = ((vectors[:, -2] > 0) == graph.labels.bool()).float().mean().item()
    assert max(agree, 1 - agree) > 0.97
    # second eigenvalue (c_in - c_out) / 2 + c / that, up to fluctuations of order one
    signal = 30.0 * 0.9 / 1.1
    assert values[-2].item() == pytest.approx(signal + 30.0 / signal, abs=1.5)


def test_certain_features() -> None:
    b = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 1]])
    graph, memberships = planted_features(5, 200 * np.eye(2), memberships=b, bias=-100.0)
    assert memberships.dtype == torch.bool
    assert memberships.tolist() == b.astype(bool).tolist()
    share = b @ b.T > 0
    np.fill_diagonal(share, False)
    assert torch.equal(graph.dense_adjacency(), torch.from_numpy(share).float())
    one_way = planted_features(
        5, [[0, 200], [0, 0]], memberships=torch.tensor(b).bool(), bias=-100.0, directed=True
    )[0]
    arcs = np.outer(b[:, 0], b[:, 1])
    np.fill_diagonal(arcs, 0)
    assert one_way.dense_adjacency().tolist() == arcs.tolist()


@pytest.mark.parametrize("directed", [False, True])
def test_feature_probabilities(directed: bool) -> None:
    """Edges at each value of the logit, over graphs with the memberships that were drawn."""
    affinity = np.array([[2.0, -1.0], [0.5 if directed else -1.0, 1.0]])
    bias, prob, draws, n = -1.5, [0.3, 0.6], 30, 40
    seen: dict[float, list[int]] = {}
    members = np.zeros(2)
    for seed in range(draws):
        graph, memberships = planted_features(
            n, affinity, membership_prob=prob, bias=bias, directed=directed, seed=seed
        )
        b = memberships.double().numpy()
        members += b.sum(0)
        logits = b @ affinity @ b.T + bias
        i, j = graph.observed_pairs().numpy()
        edges = graph.dense_adjacency().numpy()[i, j]
        for logit in np.unique(logits[i, j]):
            here = logits[i, j] == logit
            total = seen.setdefault(float(logit), [0, 0])
            total[0] += int(edges[here].sum())
            total[1] += int(here.sum())
    assert len(seen) == (7 if directed else 4)  # by hand: the values of b_i' Lambda b_j
    for logit, (successes, trials) in seen.items():
        assert largest(z(successes, trials, 1 / (1 + math.exp(-logit)))) < LIMIT, logit
    for k in range(2):
        assert largest(z(members[k], draws * n, prob[k])) < LIMIT


BAD = {
    "sizes": (lambda: planted_partition([2.0, 3.0], np.eye(2)), r"sizes must be whole numbers"),
    "no sizes": (lambda: planted_partition([], np.eye(0)), r"sizes must be"),
    "empty block": (lambda: planted_partition([2, 0], np.eye(2)), r"at least one"),
    "one node": (lambda: planted_partition([1], [[0.5]]), r"at least two nodes"),
    "shape": (lambda: planted_partition([2, 3], np.eye(3)), r"shape \(2, 2\), got \(3, 3\)"),
    "range": (lambda: planted_partition([2, 3], 2 * np.eye(2)), r"from 0 to 2"),
    "lopsided": (lambda: planted_partition([2, 3], [[0, 1], [0, 0]]), r"must be symmetric"),
    "nan": (lambda: planted_partition([2, 3], [[0, np.nan], [np.nan, 0]]), r"NaN"),
    "propensities": (
        lambda: planted_partition([2, 3], np.eye(2), degree_propensities=[1, 1]),
        r"shape \(5,\), got \(2,\)",
    ),
    "negative": (
        lambda: planted_partition([2], [[0.5]], degree_propensities=[1, -1]),
        r"at least 0",
    ),
    "seed": (lambda: planted_partition([2], [[0.5]], seed=-1), r"seed must be a whole number"),
    "unequal": (lambda: symmetric_partition(10, 3, 2.0, 0.1), r"num_nodes=12"),
    "dense": (lambda: symmetric_partition(9, 3, 8.0, 0.0), r"24 / 9.*smaller mean_degree"),
    "epsilon": (lambda: symmetric_partition(9, 3, 2.0, -0.1), r"epsilon must be"),
    "infinite": (lambda: kesten_stigum(3, 2.0, math.inf), r"epsilon has values.*infinite"),
    "blocks": (lambda: kesten_stigum(0, 2.0, 0.1), r"num_blocks must be"),
    "no degree": (lambda: kesten_stigum(2, 0.0, 0.1), r"mean_degree is 0"),
    "affinity": (lambda: planted_features(5, np.ones((2, 3)), membership_prob=0.5), r"square"),
    "lopsided affinity": (
        lambda: planted_features(5, [[0, 1], [0, 0]], membership_prob=0.5),
        r"affinity must be symmetric",
    ),
    "neither": (lambda: planted_features(5, np.eye(2)), r"Give one of"),
    "both": (
        lambda: planted_features(5, np.eye(2), membership_prob=0.5, memberships=np.ones((5, 2))),
        r"Give one of",
    ),
    "memberships": (
        lambda: planted_features(5, np.eye(2), memberships=np.ones((4, 2))),
        r"memberships must have shape \(5, 2\)",
    ),
    "fractions": (
        lambda: planted_features(2, np.eye(2), memberships=[[0.5, 0], [1, 1]]),
        r"booleans, or 0 and 1",
    ),
    "probabilities": (
        lambda: planted_features(5, np.eye(2), membership_prob=[0.5] * 3),
        r"one number or 2",
    ),
    "bias": (lambda: planted_features(5, np.eye(2), membership_prob=0.5, bias=math.nan), r"bias"),
    "words": (lambda: planted_features(5, [["a"]], membership_prob=0.5), r"must be numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests(case: str) -> None:
    call, words = BAD[case]
    with pytest.raises(GraphError, match=words):
        call()
