"""Input of a graph, checked and brought into normal form; every refusal is one clear :class:`GraphError`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

__all__ = [
    "DENSE_LIMIT",
    "GraphError",
    "as_pairs",
    "check_range",
    "dyad_keys",
    "dyads_of",
    "few",
    "few_pairs",
    "missing_from_mask",
    "node_count",
    "normal_dyads",
    "normal_edges",
    "normal_features",
    "normal_labels",
    "normal_words",
    "orient",
    "plural",
]

# Above this many dyads the N x N conveniences would take gigabytes, so they refuse.
DENSE_LIMIT = 200_000_000
_MAX_NODES = 2**31


class GraphError(ValueError):
    """Bad graph input; the message says what is wrong, where, and what to do about it."""


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def few(items: Sequence[Any], limit: int = 5) -> str:
    """The first few offenders, for a message."""
    shown = ", ".join(str(item) for item in items[:limit])
    return shown + (", ..." if len(items) > limit else "")


def few_pairs(pairs: Tensor, limit: int = 5) -> str:
    return few([tuple(p) for p in pairs[:, : limit + 1].T.tolist()], limit)


def node_count(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise GraphError(f"num_nodes must be a whole number, got {value!r}.")
    try:
        count = operator.index(value)
    except (TypeError, RuntimeError):
        raise GraphError(f"num_nodes must be a whole number, got {value!r}.") from None
    if count == 0:
        raise GraphError("Empty graph: num_nodes is 0; a graph needs at least two nodes.")
    if count < 2:
        raise GraphError(
            f"A graph needs at least two nodes, got num_nodes={count}: no dyad exists."
        )
    if count >= _MAX_NODES:
        raise GraphError(
            f"num_nodes={count} is too large (limit {_MAX_NODES - 1}); if the ids are arbitrary "
            "numbers, number them anew with from_edges(..., compact=True)."
        )
    return count


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
        except (ValueError, TypeError) as error:
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


def normal_edges(value: Any, num_nodes: int, directed: bool, clean: bool) -> Tensor:
    """Edges in normal form; one error for self-loops and repeats together unless ``clean``."""
    pairs = as_pairs(value, "edge_index")
    check_range(pairs, num_nodes, "edge")
    loops = pairs[0] == pairs[1]
    arcs = pairs[:, ~loops]
    keys, counts = torch.unique(dyad_keys(orient(arcs, directed), num_nodes), return_counts=True)
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
        hint = "clean=True drops them."
        if not directed and num_repeats == keys.numel() and bool((counts == 2).all()):
            hint = (
                "Every edge comes twice, as in a list of both directions: clean=True keeps one of "
                "each, directed=True reads arcs."
            )
        raise GraphError(f"The edges have {' and '.join(parts)}; a simple graph has none. {hint}")
    return normal


def normal_dyads(value: Any, num_nodes: int, directed: bool, what: str) -> Tensor:
    """Dyads in normal form. Repeats are harmless in a set of dyads, the diagonal is not one."""
    pairs = as_pairs(value, what)
    check_range(pairs, num_nodes, f"{what} dyad")
    loops = pairs[0] == pairs[1]
    if bool(loops.any()):
        raise GraphError(
            f"{what} has {plural(int(loops.sum()), 'pair')} of a node with itself "
            f"({few_pairs(pairs[:, loops])}); the diagonal is no dyad, leave it out."
        )
    return dyads_of(torch.unique(dyad_keys(orient(pairs, directed), num_nodes)), num_nodes)


def missing_from_mask(observed: Any, num_nodes: int, directed: bool) -> Tensor:
    """A mask of observed dyads (True = observed) -> the dyads that are missing, (2, H) int64."""
    if sp.issparse(observed):
        mask: Any = sp.csr_array(observed)
        if mask.shape == (num_nodes, num_nodes) and num_nodes**2 > DENSE_LIMIT:
            raise GraphError(
                f"The mask of observed dyads has {num_nodes} x {num_nodes} entries, too many to "
                "complement; give the unobserved dyads as missing=(2, H) instead."
            )
    elif isinstance(observed, Tensor):
        dense = observed.to_dense() if observed.layout != torch.strided else observed
        mask = dense.detach().cpu().numpy()
    else:
        try:
            mask = np.asarray(observed)
        except ValueError as error:
            raise GraphError(f"observed is not a rectangular mask: {error}") from None
    if mask.shape != (num_nodes, num_nodes):
        raise GraphError(
            f"The mask of observed dyads must have shape ({num_nodes}, {num_nodes}), "
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


def normal_features(value: Any, num_nodes: int) -> Tensor:
    """Features as an own float32 tensor, (N, D), dense or coalesced sparse COO."""
    if sp.issparse(value):
        coo = value.tocoo()
        indices = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        try:
            data = torch.from_numpy(coo.data.astype(np.float32))
        except (TypeError, ValueError):
            raise GraphError(f"features must be real numbers, got dtype {coo.dtype}.") from None
        tensor = torch.sparse_coo_tensor(indices, data, coo.shape, check_invariants=False)
    elif isinstance(value, Tensor):
        if value.is_complex():
            raise GraphError(f"features must be real numbers, got dtype {value.dtype}.")
        tensor = value.detach()
        if tensor.layout not in (torch.strided, torch.sparse_coo):
            tensor = tensor.to_sparse_coo()
        tensor = tensor.to(torch.float32, copy=True)
    else:
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"got dtype {array.dtype}")
            tensor = torch.from_numpy(array.astype(np.float32))
        except (TypeError, ValueError) as error:
            raise GraphError(f"features must be a numeric (N, D) array: {error}.") from None
    if tensor.ndim != 2 or tensor.shape[0] != num_nodes:
        raise GraphError(
            f"features must have shape ({num_nodes}, D), one row per node, "
            f"got {tuple(tensor.shape)}."
        )
    if tensor.is_sparse:
        tensor = tensor.coalesce()
    bad = ~torch.isfinite(tensor.values() if tensor.is_sparse else tensor)
    if bool(bad.any()):
        rows = tensor.indices()[0, bad] if tensor.is_sparse else bad.nonzero()[:, 0]
        nodes = torch.unique(rows).tolist()
        raise GraphError(
            f"features have {plural(int(bad.sum()), 'value')} that are NaN or infinite "
            f"(nodes {few(nodes)}); fill them in or drop those columns."
        )
    return tensor


def normal_labels(value: Any, num_nodes: int) -> Tensor:
    if isinstance(value, Tensor):
        array = value.detach().cpu().numpy()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise GraphError(f"labels must be a vector of integers: {error}") from None
    if array.shape != (num_nodes,):
        raise GraphError(
            f"labels must have shape ({num_nodes},), one per node, got {tuple(array.shape)}."
        )
    if array.dtype.kind not in "iu":
        raise GraphError(
            f"labels must be integers (-1 = unlabelled), got dtype {array.dtype}; number the "
            "classes and pass their words as label_names."
        )
    low = np.flatnonzero(array < -1) if array.dtype.kind == "i" else np.array([], int)
    if low.size:
        raise GraphError(
            f"{plural(low.size, 'label')} below -1 (nodes {few(low[:6].tolist())}); "
            "classes count from 0, and -1 means unlabelled."
        )
    return torch.from_numpy(array.astype(np.int64))


def normal_words(value: Any, what: str, length: int | None, unique: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        raise GraphError(f"{what} must be a sequence of words, got the single string {value!r}.")
    try:
        words = tuple(str(word) for word in value)
    except TypeError:
        raise GraphError(f"{what} must be a sequence of words, got {value!r}.") from None
    if length is not None and len(words) != length:
        raise GraphError(f"{what} must have length {length}, got {len(words)}.")
    if unique and len(set(words)) < len(words):
        seen: set[str] = set()
        twice = sorted({w for w in words if w in seen or seen.add(w)})  # type: ignore[func-returns-value]
        raise GraphError(
            f"{what} has {plural(len(twice), 'duplicate')}: {few([repr(w) for w in twice])}; "
            "every name must be its own. Tell them apart, or leave the names out (names=None)."
        )
    return words
