"""Graphs with a structure that was put there: blocks, and overlapping communities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from .graph import Graph
from .validation import GraphError, node_count

__all__ = ["kesten_stigum", "planted_features", "planted_partition", "symmetric_partition"]

# Dyads are drawn by rows of the adjacency matrix, so many numbers at a time.
_PIECE = 4_000_000


def _draw_edges(
    num_nodes: int,
    probs: Callable[[np.ndarray], np.ndarray],
    directed: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Independent edges, (2, E); ``probs(rows)`` gives the (len(rows), N) probabilities."""
    columns = np.arange(num_nodes)
    found = []
    step = max(1, _PIECE // num_nodes)
    for start in range(0, num_nodes, step):
        rows = columns[start : start + step]
        hit = rng.random((rows.size, num_nodes)) < probs(rows)
        hit &= columns != rows[:, None] if directed else columns > rows[:, None]
        i, j = np.nonzero(hit)
        found.append(np.stack([rows[i], j]))
    return np.concatenate(found, axis=1)


def _generator(seed: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise GraphError(f"seed must be a whole number, at least 0: {error}.") from None


def _numbers(value: Any, what: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GraphError(f"{what} must be numbers: {error}.") from None
    if shape is not None and array.shape != shape:
        raise GraphError(f"{what} must have shape {shape}, got {array.shape}.")
    if not np.isfinite(array).all():
        raise GraphError(f"{what} has values that are NaN or infinite.")
    return array


def _between_blocks(value: Any, what: str, num_blocks: int | None, directed: bool) -> np.ndarray:
    """A (K, K) matrix of numbers, symmetric unless directed."""
    array = _numbers(value, what, None if num_blocks is None else (num_blocks, num_blocks))
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise GraphError(f"{what} must be a square matrix, got shape {array.shape}.")
    if not directed and not np.array_equal(array, array.T):
        raise GraphError(f"{what} must be symmetric, or pass directed=True for arcs.")
    return array


def _check_probabilities(array: np.ndarray, what: str) -> None:
    if ((array < 0) | (array > 1)).any():
        raise GraphError(
            f"{what} must be probabilities, but goes from {array.min():g} to {array.max():g}."
        )


def _block_sizes(value: Any) -> np.ndarray:
    sizes = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not sizes.size or (sizes < 1).any():
        raise GraphError(f"sizes must be whole numbers of nodes, each at least one, got {value!r}.")
    return sizes.astype(np.int64)


def planted_partition(
    sizes: Any,
    block_probs: Any,
    *,
    directed: bool = False,
    degree_propensities: Any = None,
    seed: int = 0,
    title: str = "planted partition",
) -> Graph:
    """A graph of the stochastic block model with these blocks.

    The dyad (i, j) with i in block k and j in block l has an edge with probability
    ``theta_i theta_j block_probs[k, l]``, independently of the others; theta is 1 for all nodes,
    or the propensity of the node (the degree-corrected model, here with at most one edge a dyad).

    Sources: Holland, Laskey, Leinhardt, *Stochastic blockmodels: first steps*, Social Networks 5
    (1983) 109-137; Karrer, Newman, *Stochastic blockmodels and community structure in networks*,
    Physical Review E 83 (2011) 016107.

    Args:
        sizes: (K,) numbers of nodes. Nodes are numbered block by block.
        block_probs: (K, K) probabilities, symmetric unless ``directed``, where row k and column l
            are for arcs from block k to block l.
        directed: Draw arcs, (i, j) and (j, i) independently.
        degree_propensities: (N,) numbers theta, at least 0. With a mean of 1 in every block,
            ``block_probs`` stays the mean probability (up to the absent diagonal).
        seed: Seed of the draw; the same seed gives the same graph.
        title: A short name.

    Returns:
        A graph with the blocks as labels 0 .. K-1; it may have no edge.

    Raises:
        GraphError: If a size, probability or propensity is out of range, or a product of them is
            larger than 1.
    """
    counts = _block_sizes(sizes)
    n, k = int(counts.sum()), counts.size
    probs = _between_blocks(block_probs, "block_probs", k, directed)
    _check_probabilities(probs, "block_probs")
    blocks = np.repeat(np.arange(k), counts)
    theta = np.ones(n)
    if degree_propensities is not None:
        theta = _numbers(degree_propensities, "degree_propensities", (n,))
        if (theta < 0).any():
            raise GraphError("degree_propensities must be at least 0.")
        _check_products(theta, counts, probs)

    def rows_of(rows: np.ndarray) -> np.ndarray:
        return theta[rows, None] * theta * probs[blocks[rows]][:, blocks]

    edges = _draw_edges(n, rows_of, directed, _generator(seed))
    return Graph(n, edges, labels=blocks, directed=directed, title=title, allow_empty=True)


def _check_products(theta: np.ndarray, sizes: np.ndarray, probs: np.ndarray) -> None:
    """Refuses propensities that make a probability larger than 1, without looking at all dyads."""
    blocks = np.repeat(np.arange(sizes.size), sizes)
    ordered = theta[np.lexsort((theta, blocks))]
    last = np.cumsum(sizes) - 1
    largest, second = ordered[last], np.where(sizes > 1, ordered[last - 1], 0.0)
    products = np.outer(largest, largest)
    np.fill_diagonal(products, largest * second)  # two different nodes of one block
    top = float((products * probs).max())
    if top > 1:
        raise GraphError(
            f"theta_i theta_j block_probs goes up to {top:g}, and a probability only to 1: use "
            "smaller degree_propensities or block_probs."
        )


def _degrees_in_and_out(num_blocks: int, mean_degree: float, epsilon: float) -> tuple[float, float]:
    """c_in and c_out of the symmetric partition."""
    for name, value in (("mean_degree", mean_degree), ("epsilon", epsilon)):
        if _numbers(value, name, ()) < 0:
            raise GraphError(f"{name} must be at least 0, got {value!r}.")
    if not isinstance(num_blocks, int | np.integer) or num_blocks < 1:
        raise GraphError(f"num_blocks must be a whole number, at least 1, got {num_blocks!r}.")
    inner = num_blocks * mean_degree / (1 + (num_blocks - 1) * epsilon)
    return inner, epsilon * inner


def symmetric_partition(
    num_nodes: int, num_blocks: int, mean_degree: float, epsilon: float, *, seed: int = 0
) -> Graph:
    """The planted partition of community detection: K equal blocks, two probabilities.

    An edge has probability c_in / N inside a block and c_out / N between two, with
    ``epsilon = c_out / c_in`` and ``mean_degree`` c = (c_in + (K - 1) c_out) / K, the limit of
    the mean degree for large N (it is c - c_in / N here, as no node is its own neighbour). Whether
    the blocks can be found at all is said by :func:`kesten_stigum`.

    Source: Decelle, Krzakala, Moore, Zdeborová, *Asymptotic analysis of the stochastic block
    model for modular networks and its algorithmic applications*, Physical Review E 84 (2011)
    066106.

    Args:
        num_nodes: N, a multiple of ``num_blocks``.
        num_blocks: K.
        mean_degree: c.
        epsilon: 0 for separate blocks, 1 for none, above 1 for more edges between blocks.
        seed: Seed of the draw.

    Returns:
        An undirected graph with the blocks as labels.

    Raises:
        GraphError: If a number is out of range, the blocks cannot be equal, or a probability
            would be larger than 1.
    """
    inner, outer = _degrees_in_and_out(num_blocks, mean_degree, epsilon)
    num_nodes = node_count(num_nodes)
    if num_nodes % num_blocks:
        raise GraphError(
            f"{num_nodes} nodes do not make {num_blocks} equal blocks; take "
            f"num_nodes={num_nodes + num_blocks - num_nodes % num_blocks}, or planted_partition."
        )
    if max(inner, outer) > num_nodes:
        raise GraphError(
            f"c_in / N = {inner:g} / {num_nodes} and c_out / N = {outer:g} / {num_nodes} must not "
            "be larger than 1: use a smaller mean_degree or more nodes."
        )
    probs = np.full((num_blocks, num_blocks), outer / num_nodes)
    np.fill_diagonal(probs, inner / num_nodes)
    return planted_partition([num_nodes // num_blocks] * num_blocks, probs, seed=seed)


def kesten_stigum(num_blocks: int, mean_degree: float, epsilon: float) -> float:
    """Signal-to-noise ratio of :func:`symmetric_partition` for large sparse graphs.

    (c_in - c_out)^2 / (K (c_in + (K - 1) c_out)). Above 1, the Kesten-Stigum threshold, belief
    propagation and spectral methods find blocks that agree with the planted ones better than
    chance. Below 1 nothing can for K = 2, and no efficient method is known for more blocks. Source
    as there; the impossibility is of Mossel, Neeman, Sly, *Reconstruction and estimation in the
    planted partition model*, Probability Theory and Related Fields 162 (2015) 431-461.

    Args:
        num_blocks: K.
        mean_degree: c, above 0.
        epsilon: c_out / c_in.

    Raises:
        GraphError: If a number is out of range.
    """
    inner, outer = _degrees_in_and_out(num_blocks, mean_degree, epsilon)
    if mean_degree == 0:
        raise GraphError("mean_degree is 0: a graph without edges has neither signal nor noise.")
    return (inner - outer) ** 2 / (num_blocks * (inner + (num_blocks - 1) * outer))


def planted_features(
    num_nodes: int,
    affinity: Any,
    *,
    membership_prob: Any = None,
    memberships: Any = None,
    bias: float = 0.0,
    directed: bool = False,
    seed: int = 0,
    title: str = "planted features",
) -> tuple[Graph, Tensor]:
    """A graph of the latent feature relational model with these communities, which may overlap.

    The dyad (i, j) has an edge with probability sigmoid(b_i' Lambda b_j + bias), independently of
    the others given the binary memberships b.

    Source: Miller, Griffiths, Jordan, *Nonparametric latent feature models for link prediction*,
    NIPS 2009.

    Args:
        num_nodes: N.
        affinity: (K, K) numbers Lambda, symmetric unless ``directed``.
        membership_prob: A probability, or (K,) of them, with which a node is in a community,
            independently for all nodes and communities.
        memberships: The alternative: (N, K) memberships, booleans or 0 and 1.
        bias: Logit of an edge between nodes that have no community.
        directed: Draw arcs, (i, j) and (j, i) independently.
        seed: Seed of the memberships and the edges.
        title: A short name.

    Returns:
        The graph, which may have no edge, and its memberships, (N, K) bool.

    Raises:
        GraphError: If a shape or value is wrong, or not one of ``membership_prob`` and
            ``memberships`` is given.
    """
    strengths = _between_blocks(affinity, "affinity", None, directed)
    offset = float(_numbers(bias, "bias", ()))
    num_nodes = node_count(num_nodes)
    if (membership_prob is None) == (memberships is None):
        raise GraphError("Give one of membership_prob and memberships.")
    shape = (num_nodes, strengths.shape[0])
    rng = _generator(seed)
    if memberships is not None:
        given = _numbers(memberships, "memberships", shape)
        if not np.isin(given, (0, 1)).all():
            raise GraphError("memberships must be booleans, or 0 and 1.")
        chosen = given == 1
    else:
        probs = _numbers(membership_prob, "membership_prob")
        if probs.shape not in ((), shape[1:]):
            raise GraphError(
                f"membership_prob must be one number or {shape[1]}, one per community, got shape "
                f"{probs.shape}."
            )
        _check_probabilities(probs, "membership_prob")
        chosen = rng.random(shape) < probs
    b = chosen.astype(np.float64)

    def rows_of(rows: np.ndarray) -> np.ndarray:
        return expit(b[rows] @ strengths @ b.T + offset)

    edges = _draw_edges(num_nodes, rows_of, directed, rng)
    graph = Graph(num_nodes, edges, directed=directed, title=title, allow_empty=True)
    return graph, torch.from_numpy(chosen)
