"""Dyads of a graph, checked and brought into normal form: edges with their weights, missing dyads, sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .validation import (
    GraphError,
    as_array,
    check_not_mostly_isolated,
    checked_sparse,
    few,
    few_pairs,
    plural,
)

__all__ = [
    "DENSE_LIMIT",
    "SAME_WEIGHT",
    "as_pairs",
    "boolean_mask",
    "check_across",
    "check_range",
    "dyad_keys",
    "dyads_of",
    "missing_from_mask",
    "normal_dyads",
    "normal_edges",
    "normal_parts",
    "orient",
]

# Above this many dyads the N x N conveniences would take gigabytes, so they refuse.
DENSE_LIMIT = 200_000_000
# Weights of the two directions of an edge that were meant to be equal differ by less, relatively.
SAME_WEIGHT = 1e-6


def as_pairs(value: Any, what: str) -> Tensor:
    """Array-like of shape (2, n) with integer ids -> (2, n) int64 tensor (device kept)."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise GraphError(
                f"{what} must be a dense (2, n) array of node ids, got a sparse tensor; "
                "for an adjacency matrix use from_dense or from_scipy."
            )
        tensor = value.detach()
        kind = "b" if tensor.dtype == torch.bool else "i"
        if tensor.is_floating_point() or tensor.is_complex():
            kind = "f"
        shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise GraphError(f"{what} is not a rectangular array of node ids: {error}") from None
        kind, shape, dtype = array.dtype.kind, array.shape, str(array.dtype)
    if 0 in shape:  # [] and [[], []] have no dtype of their own
        device = value.device if isinstance(value, Tensor) else None
        return torch.empty((2, 0), dtype=torch.int64, device=device)
    if kind not in "iu":
        hint = {
            "f": "convert whole numbers with .astype(int) / .long()",
            "b": "an adjacency matrix goes through from_dense, a mask through observed=",
        }.get(kind, "node names go through from_edges")
        raise GraphError(f"{what} must hold integer node ids, got dtype {dtype}; {hint}.")
    if len(shape) != 2 or shape[0] != 2:
        hint = " It looks like a list of pairs: use from_edges, or transpose it." * (
            len(shape) == 2 and shape[1] == 2
        )
        raise GraphError(f"{what} must have shape (2, n), got {shape}.{hint}")
    if isinstance(value, Tensor):
        return tensor.to(torch.int64)
    return torch.from_numpy(array.astype(np.int64))


def check_range(pairs: Tensor, num_nodes: int, what: str) -> None:
    bad = ((pairs < 0) | (pairs >= num_nodes)).any(0)
    if bool(bad.any()):
        raise GraphError(
            f"{plural(int(bad.sum()), what)} out of range: {few_pairs(pairs[:, bad])}; "
            f"node ids run from 0 to {num_nodes - 1} (num_nodes={num_nodes}). "
            "Ids that start at 1, or have gaps, go through from_edges(..., compact=True)."
        )


def dyad_keys(pairs: Tensor, num_nodes: int) -> Tensor:
    """One int64 per ordered pair; its order is the lexicographic order of the pairs."""
    return pairs[0] * num_nodes + pairs[1]


def dyads_of(keys: Tensor, num_nodes: int) -> Tensor:
    return torch.stack([torch.div(keys, num_nodes, rounding_mode="floor"), keys % num_nodes])


def orient(pairs: Tensor, directed: bool) -> Tensor:
    return pairs if directed else torch.stack([pairs.amin(0), pairs.amax(0)])


def _given_weights(value: Any, pairs: Tensor) -> Tensor:
    """One weight per given edge, (E,) float64 (so that sums of repeats do not depend on order)."""
    array = as_array(value, "weights must be a vector of numbers")
    if array.shape != (pairs.shape[1],):
        raise GraphError(
            f"weights must have shape ({pairs.shape[1]},), one per edge as given, "
            f"got {tuple(array.shape)}."
        )
    if array.size and array.dtype.kind not in "iuf":
        raise GraphError(f"weights must be real numbers, got dtype {array.dtype}.")
    weights = torch.from_numpy(array.astype(np.float64)).to(pairs.device)
    _check_weights(weights, pairs)
    return weights


def _check_weights(weights: Tensor, pairs: Tensor) -> None:
    """Refuses what float32 makes NaN, infinite or zero."""
    single = weights.to(torch.float32)
    for bad, what, hint in (
        (~torch.isfinite(single), "NaN or infinite", "drop the edge, or name its dyad in missing"),
        (single == 0, "zero", "an observed dyad without an edge is the zero, so leave it out"),
    ):
        if bool(bad.any()):
            raise GraphError(
                f"{plural(int(bad.sum()), 'weight')} {what} in float32 (of the edges "
                f"{few_pairs(pairs[:, bad])}); {hint}."
            )


def normal_edges(
    value: Any, num_nodes: int, directed: bool, clean: bool, weights: Any = None
) -> tuple[Tensor, Tensor | None]:
    """Edges in normal form and their float32 weights, if any, which are added up over repeats.

    One error for self-loops and repeats together unless ``clean``.
    """
    pairs = as_pairs(value, "edge_index")
    check_range(pairs, num_nodes, "edge")
    given = None if weights is None else _given_weights(weights, pairs)
    loops = pairs[0] == pairs[1]
    arcs = pairs[:, ~loops]
    keys, place, counts = torch.unique(
        dyad_keys(orient(arcs, directed), num_nodes), return_inverse=True, return_counts=True
    )
    check_not_mostly_isolated(num_nodes, keys.numel())
    normal = dyads_of(keys, num_nodes)
    num_loops, num_repeats = int(loops.sum()), arcs.shape[1] - keys.numel()
    if (num_loops or num_repeats) and not clean:
        parts = []
        if num_loops:
            nodes = torch.unique(pairs[0, loops]).tolist()
            word = "node" if len(nodes) == 1 else "nodes"
            parts.append(f"{plural(num_loops, 'self-loop')} (at {word} {few(nodes)})")
        if num_repeats:
            parts.append(
                f"{plural(num_repeats, 'repeated edge')} (of {few_pairs(normal[:, counts > 1])})"
            )
        kept = "one of each" if given is None else "one of each, with the sum of the weights"
        hint = "clean=True drops them."
        if not directed and num_repeats == keys.numel() and bool((counts == 2).all()):
            hint = (
                f"Every edge comes twice, as in a list of both directions: clean=True keeps {kept}, "
                "directed=True reads arcs."
            )
        elif num_repeats and given is not None:
            hint = f"clean=True drops loops and keeps {kept}."
        raise GraphError(f"The edges have {' and '.join(parts)}; a simple graph has none. {hint}")
    if given is None:
        return normal, None
    total = torch.zeros(keys.numel(), dtype=torch.float64, device=keys.device)
    total.index_add_(0, place, given[~loops])
    _check_weights(total, normal)
    return normal, total.to(torch.float32)


def normal_parts(value: Any, num_nodes: int, directed: bool) -> Tensor:
    """Sides of a bipartite graph, (N,) int64 of 0 and 1, both of them there."""
    if directed:
        raise GraphError("A bipartite graph is undirected here: give parts or directed=True.")
    array = as_array(value, "parts must be a vector of 0 and 1")
    if array.shape != (num_nodes,):
        raise GraphError(
            f"parts must have shape ({num_nodes},), the side of each node, "
            f"got {tuple(array.shape)}."
        )
    if array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise GraphError("parts must hold the integers 0 and 1, the side of each node.")
    if np.unique(array).size < 2:
        raise GraphError(
            f"All nodes are on side {int(array[0])}: a bipartite graph has nodes on both sides, "
            "and dyads only between them."
        )
    return torch.from_numpy(array.astype(np.int64))


def check_across(pairs: Tensor, parts: Tensor | None, what: str) -> None:
    """Refuses pairs within a side of a bipartite graph."""
    if parts is None:
        return
    within = parts[pairs[0]] == parts[pairs[1]]
    if bool(within.any()):
        raise GraphError(
            f"{plural(int(within.sum()), what)} within one side of the bipartite graph: "
            f"{few_pairs(pairs[:, within])}; every dyad joins side 0 to side 1. Correct parts, "
            "or leave them out if there is one kind of node."
        )


def normal_dyads(
    value: Any, num_nodes: int, directed: bool, what: str, parts: Tensor | None = None
) -> Tensor:
    """Dyads in normal form. Repeats are harmless in a set of dyads, the diagonal is not one."""
    pairs = as_pairs(value, what)
    check_range(pairs, num_nodes, f"{what} dyad")
    loops = pairs[0] == pairs[1]
    if bool(loops.any()):
        raise GraphError(
            f"{what} has {plural(int(loops.sum()), 'pair')} of a node with itself "
            f"({few_pairs(pairs[:, loops])}); the diagonal is no dyad, leave it out."
        )
    check_across(pairs, None if parts is None else parts.to(pairs.device), f"{what} dyad")
    return dyads_of(torch.unique(dyad_keys(orient(pairs, directed), num_nodes)), num_nodes)


def boolean_mask(observed: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask of observed dyads, of whatever form, as a boolean array of this shape."""
    if sp.issparse(observed):
        mask: Any = sp.csr_array(checked_sparse(observed, "mask of observed dyads"))
        if mask.shape == shape and shape[0] * shape[1] > DENSE_LIMIT:
            raise GraphError(
                f"The mask of observed dyads has {shape[0]} x {shape[1]} entries, too many to "
                "complement; give the unobserved dyads as missing=(2, H) instead."
            )
    else:
        mask = as_array(observed, "observed is not a rectangular mask")
    if mask.shape != shape:
        raise GraphError(
            f"The mask of observed dyads must have shape ({shape[0]}, {shape[1]}), "
            f"got {tuple(mask.shape)}."
        )
    if mask.dtype.kind not in "biu":
        raise GraphError(
            f"The mask of observed dyads must be boolean (True = observed), got dtype {mask.dtype}."
        )
    if sp.issparse(mask):
        mask = mask.toarray()
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise GraphError(
                "The mask of observed dyads has values besides 0 and 1; give booleans."
            )
        mask = mask.astype(bool)
    return mask


def missing_from_mask(
    observed: Any, num_nodes: int, directed: bool, parts: Tensor | None = None
) -> Tensor:
    """A mask of observed dyads (True = observed) -> the dyads that are missing, (2, H) int64.

    Entries that are no dyad, the diagonal and those within a side, may be anything.
    """
    mask = boolean_mask(observed, (num_nodes, num_nodes))
    if parts is not None:
        sides = parts.cpu().numpy()
        mask = mask | (sides[:, None] == sides)
    if not directed:
        rows, cols = np.nonzero(np.triu(mask != mask.T, 1))
        if rows.size:
            shown = few(list(zip(rows[:6].tolist(), cols[:6].tolist(), strict=True)))
            raise GraphError(
                f"The mask of observed dyads is not symmetric: {plural(rows.size, 'pair')} "
                f"differ ({shown}). Use mask & mask.T, or directed=True."
            )
    hidden = ~mask
    np.fill_diagonal(hidden, False)
    rows, cols = np.nonzero(hidden if directed else np.triu(hidden, 1))
    return torch.from_numpy(np.stack([rows, cols]).astype(np.int64))
