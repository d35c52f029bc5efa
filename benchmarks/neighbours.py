"""Scores of node pairs from the neighbours they share: what a latent variable model of a graph has to beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

import graphlore as gl
from graphlore.guides.spectral import undirected_weights

__all__ = ["SCORES"]

_PAIRS = 500  # whose paths are counted at once


def _in_parts(
    pairs: np.ndarray, score: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    parts = np.array_split(pairs, max(1, pairs.shape[1] // _PAIRS), axis=1)
    return np.concatenate([np.asarray(score(i, j)).ravel() for i, j in parts])


def common_neighbours(graph: gl.data.Graph, pairs: np.ndarray) -> np.ndarray:
    """How many neighbours the ends of pairs (2, P) share."""
    a = undirected_weights(graph)
    return _in_parts(pairs, lambda i, j: a[i].multiply(a[j]).sum(1))


def adamic_adar(graph: gl.data.Graph, pairs: np.ndarray) -> np.ndarray:
    """The same, a neighbour of degree d counting 1 / log d (Adamic and Adar 2003)."""
    a = undirected_weights(graph)
    weighed = (a @ sp.diags_array(1.0 / np.log(np.maximum(a.sum(1), 2.0)))).tocsr()
    return _in_parts(pairs, lambda i, j: weighed[i].multiply(a[j]).sum(1))


def katz(graph: gl.data.Graph, pairs: np.ndarray, beta: float = 0.0005) -> np.ndarray:
    """Walks of two to four steps, those of k counting beta^k (Katz 1953, cut off)."""
    a = undirected_weights(graph)

    def score(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        one, two = a[i], a[i] @ a
        other, other_two = a[j], a[j] @ a
        walks = (one.multiply(other), two.multiply(other), two.multiply(other_two))
        return sum(beta ** (k + 2) * w.sum(1) for k, w in enumerate(walks))

    return _in_parts(pairs, score)


SCORES = {"common neighbours": common_neighbours, "Adamic-Adar": adamic_adar, "Katz": katz}
