"""Graphs from adjacency and biadjacency matrices, with or without weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from .dyads import SAME_WEIGHT, boolean_mask
from .graph import Graph
from .validation import (
    GraphError,
    as_array,
    check_not_mostly_isolated,
    checked_sparse,
    few,
    few_pairs,
    node_count,
    plural,
)

__all__ = ["from_biadjacency", "from_dense", "from_scipy"]


def _dense(array: Any, what: str) -> np.ndarray:
    """Array-like or tensor (dense or sparse) -> an array of numbers."""
    matrix = as_array(array, f"The {what} is not rectangular")
    _check_numbers(matrix.dtype, what)
    return (
        matrix.astype(np.float32) if matrix.dtype == np.float16 else matrix
    )  # SciPy knows no half


def _check_numbers(dtype: np.dtype, what: str) -> None:
    if dtype.kind not in "biuf":
        raise GraphError(f"The {what} must hold numbers, got dtype {dtype}.")


def _entries(matrix: Any, weighted: bool, binarize: bool, what: str) -> sp.coo_array:
    """The non-zero entries, each once, float64; all 1 unless ``weighted``."""
    if weighted and binarize:
        raise GraphError("Give weighted=True or binarize=True: keep the weights or drop them.")
    _check_numbers(matrix.dtype, what)
    coo = checked_sparse(matrix, what)
    check_not_mostly_isolated(sum(coo.shape) // 2, coo.nnz)
    parts = (coo.data.astype(np.float64), (coo.row, coo.col))
    csr = sp.csr_array(parts, shape=coo.shape)  # own arrays; sums what is stored twice
    csr.eliminate_zeros()
    if not np.isfinite(csr.data).all():
        raise GraphError(
            f"The {what} has NaN or infinite entries; put 0 there and mask them: observed=."
        )
    odd = csr.data[csr.data != 1]
    if odd.size and not (weighted or binarize):
        raise GraphError(
            f"The {what} has {odd.size} entries besides 0 and 1 (such as "
            f"{few(np.unique(odd)[:6].tolist())}): weighted=True keeps them as weights, "
            "binarize=True takes every non-zero as an edge."
        )
    if not weighted:
        csr.data[:] = 1.0
    return csr.tocoo()


def from_scipy(
    matrix: Any,
    *,
    directed: bool = False,
    weighted: bool = False,
    binarize: bool = False,
    clean: bool = False,
    **kw: Any,
) -> Graph:
    """A graph from an (N, N) SciPy sparse adjacency matrix.

    Args:
        matrix: Any SciPy sparse matrix or array; symmetric unless ``directed`` (weights up to a
            relative 1e-6, of which the upper triangle is kept). Entries stored twice add up.
        directed: Read entry (i, j) as the arc from i to j.
        weighted: Take the non-zeros as the weights of the edges.
        binarize: Take every non-zero as an edge, whatever its weight.
        clean: Drop the diagonal instead of refusing it.
        **kw: As for :class:`Graph`.

    Raises:
        GraphError: If the matrix is not square, not symmetric, has a diagonal, or has entries
            besides 0 and 1 and neither ``weighted`` nor ``binarize`` is set.
    """
    if not sp.issparse(matrix):
        raise GraphError(f"from_scipy wants a SciPy sparse matrix, got {type(matrix).__name__}.")
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise GraphError(f"An adjacency matrix must be square, got shape {matrix.shape}.")
    node_count(matrix.shape[0])
    coo = _entries(matrix, weighted, binarize, "adjacency matrix")
    rows, cols, values = coo.row.astype(np.int64), coo.col.astype(np.int64), coo.data
    if not directed:
        _check_symmetric(coo)
        upper = rows <= cols  # the diagonal stays in, to be refused or cleaned
        rows, cols, values = rows[upper], cols[upper], values[upper]
    return Graph(
        coo.shape[0],
        np.stack([rows, cols]),
        weights=values if weighted else None,
        directed=directed,
        clean=clean,
        **kw,
    )


def _check_symmetric(coo: sp.coo_array) -> None:
    csr = coo.tocsr()
    size = abs(csr)
    excess = sp.triu(abs(csr - csr.T) - SAME_WEIGHT * size.maximum(size.T), 1).tocoo()
    differ = excess.data > 0
    if not differ.any():
        return
    pairs = np.stack([excess.row[differ], excess.col[differ]]).astype(np.int64)
    pairs = pairs[:, np.lexsort(pairs[::-1])]
    one_sided = not (coo.row > coo.col).any() or not (coo.row < coo.col).any()
    hint = "it holds one triangle only: pass A + A.T" if one_sided else "symmetrise it"
    raise GraphError(
        f"The adjacency matrix is not symmetric: {plural(pairs.shape[1], 'pair')} differ "
        f"({few_pairs(torch.from_numpy(pairs))}); {hint}, or directed=True for arcs."
    )


def from_dense(array: Any, **options: Any) -> Graph:
    """A graph from an (N, N) adjacency matrix, array-like or tensor (dense or sparse).

    Options and errors are those of :func:`from_scipy`.
    """
    matrix = _dense(array, "adjacency matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        hint = " For an edge_index use Graph(num_nodes, edge_index)." * (matrix.shape[:1] == (2,))
        raise GraphError(f"An adjacency matrix must be square, got shape {matrix.shape}.{hint}")
    return from_scipy(sp.coo_array(matrix), **options)


def from_biadjacency(
    matrix: Any,
    *,
    weighted: bool = False,
    binarize: bool = False,
    observed: Any = None,
    **kw: Any,
) -> Graph:
    """A bipartite graph from its (n0, n1) biadjacency matrix: rows are side 0, columns side 1.

    Row i becomes node i, column j node n0 + j; labels, names and features of :class:`Graph` are
    in that order.

    Args:
        matrix: Array-like, tensor or SciPy sparse. Entries stored twice add up.
        weighted: Take the non-zeros as the weights of the edges.
        binarize: Take every non-zero as an edge, whatever its weight.
        observed: (n0, n1) boolean mask (array, tensor or SciPy sparse), True where the dyad is
            observed.
        **kw: As for :class:`Graph` (``names``, ``labels``, ``missing``, ...).

    Raises:
        GraphError: If it is no matrix of numbers, or has entries besides 0 and 1 and neither
            ``weighted`` nor ``binarize`` is set, and for :class:`Graph`'s reasons.
    """
    what = "biadjacency matrix"
    given = matrix if sp.issparse(matrix) else _dense(matrix, what)
    if len(given.shape) != 2 or 0 in given.shape:
        raise GraphError(f"A biadjacency matrix must have shape (n0, n1), got {given.shape}.")
    coo = _entries(given, weighted, binarize, what)
    first, second = coo.shape
    if observed is not None:
        if kw.get("missing") is not None:
            raise GraphError("Give either missing or observed, not both: they say the same thing.")
        rows, cols = np.nonzero(~boolean_mask(observed, (first, second)))
        kw["missing"] = np.stack([rows, cols + first])
    return Graph(
        first + second,
        np.stack([coo.row.astype(np.int64), coo.col.astype(np.int64) + first]),
        weights=coo.data if weighted else None,
        parts=np.repeat([0, 1], [first, second]),
        **kw,
    )
