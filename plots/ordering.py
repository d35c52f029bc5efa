"""In which order nodes and communities are drawn, so that blocks can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from . import _read

ACTIVE = 0.5  # a community is active if some node's mean membership reaches this ...
SHARE = 0.05  # ... or if its mean membership over all nodes reaches this
_NEAR = 0.05  # memberships this close to a node's highest count as a tie


@dataclass(frozen=True)
class Order:
    """A drawing order for a matrix of nodes by communities.

    Attributes:
        nodes: Node numbers in drawing order, shape ``(N,)``.
        communities: Numbers of the communities that are drawn, most used first, shape ``(C,)``.
        dropped: How many communities are inactive.
    """

    nodes: np.ndarray
    communities: np.ndarray
    dropped: int


def _memberships(source: Any) -> np.ndarray:
    """Return mean memberships of shape ``(N, K)`` from a result or a matrix."""
    if _read.group(source, "posterior") is not None:
        return _read.mean_memberships(source)
    weights = np.asarray(source, dtype=float)
    if weights.ndim != 2:
        raise ValueError(f"expected nodes by communities, got an array of shape {weights.shape}")
    return weights


def drawing_order(source: Any, threshold: float = ACTIVE) -> Order:
    """Order nodes and communities so that blocks can be seen.

    Communities are sorted by total use. Nodes are sorted by their dominant community (the one of
    highest mean membership; of two within 0.05, the more used one), then by the pattern of further
    communities they belong to, then by weight. This is the left-ordered form of the Indian buffet
    process, read from posterior means. With strengths, nodes are sorted by the community and the
    sign that they load on most.

    Args:
        source: An ArviZ result with ``memberships`` or ``membership``, or mean memberships of shape ``(N, K)``.
        threshold: A community is active if some node's mean membership is at least this, or if
            its mean over all nodes is at least 0.05.

    Returns:
        The order.
    """
    weights = np.nan_to_num(_memberships(source))
    nodes: np.ndarray | None = None
    loaded = [_read.has(source, "posterior", name) for name in ("memberships", "strengths")]
    if all(loaded):
        nodes = _signed_order(_read.mean_product(source, "memberships", "strengths"))
    by_use = np.argsort(-weights.sum(axis=0), kind="stable")
    active = (weights.max(axis=0, initial=0.0) >= threshold) | (weights.mean(axis=0) >= SHARE)
    used = [int(k) for k in by_use if active[k]]
    communities = np.array(used if used else list(by_use), dtype=int)
    sorted_weights = weights[:, communities]
    # a community that nearly everyone belongs to alike says nothing about whom to put together
    telling = sorted_weights - np.minimum(sorted_weights.min(axis=0, initial=1.0), 1.0)
    highest = telling.max(axis=1, initial=0.0)
    dominant = (telling >= highest[:, None] - _NEAR).argmax(axis=1)
    belongs = sorted_weights >= 0.5
    heaviest = np.take_along_axis(sorted_weights, dominant[:, None], axis=1)[:, 0]
    # np.lexsort: the last key is the first to decide.
    keys = [-sorted_weights.sum(axis=1), -np.round(heaviest, 6)]
    keys += [~belongs[:, k] for k in reversed(range(belongs.shape[1]))]
    if nodes is None:
        nodes = np.lexsort([*keys, dominant])
    return Order(nodes, communities, weights.shape[1] - len(used) if used else 0)


def _signed_order(embedding: np.ndarray) -> np.ndarray:
    """Order nodes by the community and the sign that they load on most, strongest first.

    With strengths, two groups may share a community and differ in sign: membership alone would mix them.
    """
    signed = np.concatenate((np.maximum(embedding, 0.0), np.maximum(-embedding, 0.0)), axis=1)
    dominant = signed.argmax(axis=1)
    by_use = np.argsort(np.argsort(-signed.sum(axis=0), kind="stable"), kind="stable")
    # the two signs of a community stand apart: all positive groups first
    return np.lexsort([-signed.max(axis=1), by_use[dominant], dominant >= embedding.shape[1]])


def node_order(source: Any) -> np.ndarray:
    """Order nodes so that communities form blocks in a matrix.

    Args:
        source: An ArviZ result with ``memberships`` or ``membership``, or mean memberships of shape ``(N, K)``.

    Returns:
        Node numbers in drawing order, shape ``(N,)``: grouped by dominant community (most used
        first), then by further memberships, then by falling weight.
    """
    return drawing_order(source).nodes


def spectral_order(matrix: Any) -> np.ndarray:
    """Order nodes by the second eigenvector of the normalised matrix, where no posterior helps.

    Args:
        matrix: Adjacency or link probabilities, dense or SciPy sparse, shape ``(N, N)``; NaN
            counts as 0, and the matrix is made symmetric.

    Returns:
        Node numbers in drawing order, shape ``(N,)``.
    """
    if not sparse.issparse(matrix):
        matrix = np.nan_to_num(np.asarray(matrix, dtype=np.float64))
    weights = (matrix + matrix.T) / 2.0
    count = weights.shape[0]
    degree = np.asarray(weights.sum(axis=1), dtype=float).ravel()
    if count < 4 or not degree.any():
        return np.argsort(-degree, kind="stable")
    # A little mass everywhere joins separate components and keeps isolated nodes in.
    extra = 0.05 * degree.mean() / count
    scale = 1.0 / np.sqrt(degree + extra * count)

    def normalised(vector: np.ndarray) -> np.ndarray:
        scaled = scale * np.asarray(vector).ravel()
        return scale * (weights @ scaled + extra * scaled.sum())

    operator = LinearOperator((count, count), matvec=normalised, dtype=np.float64)
    values, vectors = eigsh(operator, k=2, which="LA", v0=1.0 + np.arange(count) / count)
    second = vectors[:, np.argsort(values)[0]] * scale
    return np.argsort(second, kind="stable")
