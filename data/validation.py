"""What is known of nodes, checked and brought into normal form; every refusal is one clear :class:`GraphError`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

__all__ = [
    "GraphError",
    "as_array",
    "check_not_mostly_isolated",
    "checked_sparse",
    "few",
    "few_pairs",
    "flags",
    "node_count",
    "node_ids",
    "normal_features",
    "normal_labels",
    "normal_title",
    "normal_words",
    "plural",
    "short",
    "words_of_labels",
]

_MAX_NODES = 2**31
_MANY_NODES = 10_000_000
_MAX_CLASSES = 1_000_000
_SHOWN = 60  # characters of an item in a message


class GraphError(ValueError):
    """Bad graph input; the message says what is wrong, where, and what to do about it."""


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def flags(**given: Any) -> list[bool]:
    """The truth of options, by name, in their order."""
    found = []
    for name, value in given.items():
        try:
            found.append(bool(value))
        except (ValueError, TypeError, RuntimeError):
            raise GraphError(f"{name} must be True or False, got {short(repr(value))}.") from None
    return found


def few(items: Sequence[Any], limit: int = 5) -> str:
    """The first few offenders, for a message."""
    shown = ", ".join(short(item) for item in items[:limit])
    return shown + (", ..." if len(items) > limit else "")


def short(item: Any) -> str:
    """An item as it can stand in a message, however long it is."""
    text = str(item)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


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


def check_not_mostly_isolated(num_nodes: int, entries: int) -> None:
    """Refuses ids that are arbitrary numbers: everything done with a graph takes memory for every node."""
    if num_nodes > _MANY_NODES and num_nodes > 1000 * entries:
        raise GraphError(
            f"num_nodes={num_nodes}, but only {plural(entries, 'edge')}: all but a few nodes would be isolated. If the "
            "ids are arbitrary numbers, number them anew with from_edges(..., compact=True)."
        )


def checked_sparse(matrix: Any, what: str) -> sp.coo_array:
    """A SciPy sparse matrix as COO, its insides checked: compiled code trusts them, and writes where they say.

    Raises:
        GraphError: If its arrays do not fit together.
    """
    try:
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
        coo = sp.coo_array(matrix)
        if coo.nnz and any(
            int(c.min()) < 0 or int(c.max()) >= n
            for c, n in zip(coo.coords, coo.shape, strict=True)
        ):
            raise ValueError("indices out of range")
    except (ValueError, TypeError) as error:
        raise GraphError(f"The {what} is a damaged sparse matrix: {error}.") from None
    return coo


def node_ids(value: Any, num_nodes: int, what: str, device: torch.device) -> Tensor:
    """Integer ids, or an (N,) boolean mask, of some nodes -> (M,) int64 ids in the order given."""
    try:
        ids = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise GraphError(f"{what} must be a vector of integer ids: {error}.") from None
    if ids.dtype == torch.bool and ids.shape == (num_nodes,):
        return ids.nonzero()[:, 0]
    if ids.shape == (0,):  # an empty list has no dtype of its own
        ids = ids.long()
    if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex() or ids.ndim != 1:
        raise GraphError(
            f"{what} must be a vector of integer ids or a ({num_nodes},) boolean mask, "
            f"got shape {tuple(ids.shape)}, dtype {ids.dtype}."
        )
    ids = ids.long()
    unknown = ids[(ids < 0) | (ids >= num_nodes)]
    if unknown.numel():
        raise GraphError(
            f"{plural(unknown.numel(), 'node')} out of range: {few(unknown.tolist())}; "
            f"ids run from 0 to {num_nodes - 1}."
        )
    return ids


def normal_features(value: Any, num_nodes: int) -> Tensor:
    """Features as an own float32 tensor, (N, D), dense or coalesced sparse COO."""
    if sp.issparse(value):
        coo = checked_sparse(value, "matrix of features")
        if len(coo.shape) != 2 or coo.dtype.kind not in "biuf":
            raise GraphError(
                f"features must be a numeric (N, D) matrix, got shape {coo.shape}, dtype {coo.dtype}."
            )
        indices = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        data = torch.from_numpy(_single(coo.data))
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
            tensor = torch.from_numpy(_single(array))
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


def as_array(value: Any, wanted: str) -> np.ndarray:
    """Array-like or tensor, dense or sparse, as an array; ``wanted`` says what it should have been.

    Raises:
        GraphError: If it is ragged, or of a kind that NumPy does not know.
    """
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            return (value if value.layout == torch.strided else value.to_dense()).numpy()
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise GraphError(f"{wanted}: {error}.") from None


def _single(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused later
        return np.ascontiguousarray(array.astype(np.float32))


def normal_labels(value: Any, num_nodes: int) -> Tensor:
    array = as_array(value, "labels must be a vector of integers")
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
    if int(array.max()) >= _MAX_CLASSES:
        raise GraphError(
            f"labels go up to {int(array.max())}; classes count from 0, and there can be {_MAX_CLASSES} of them. If "
            "the labels are arbitrary numbers, number them anew (numpy.unique(..., return_inverse=True))."
        )
    return torch.from_numpy(array.astype(np.int64))


def normal_title(value: Any) -> str:
    """A title that can be written to a file and shown."""
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def normal_words(value: Any, what: str, length: int | None, unique: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        raise GraphError(
            f"{what} must be a sequence of words, got the single string {short(repr(value))}."
        )
    try:
        words = tuple(str(word) for word in value)
    except TypeError:
        raise GraphError(f"{what} must be a sequence of words, got {short(repr(value))}.") from None
    odd = [word for word in words if not _is_text(word)]
    if odd:
        raise GraphError(
            f"{what} has {plural(len(odd), 'word')} with a null character or half a surrogate pair, which no file "
            f"keeps: {few([repr(word) for word in odd])}."
        )
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


def _is_text(word: str) -> bool:
    return "\x00" not in word and not any("\ud800" <= c <= "\udfff" for c in word)


def words_of_labels(value: Any, labels: Tensor | None) -> tuple[str, ...] | None:
    """Names of the classes, one for each that the labels use."""
    if value is None:
        return None
    words = normal_words(value, "label_names", None, True)
    top = -1 if labels is None else int(labels.max())
    if top >= len(words):
        raise GraphError(
            f"label_names has {len(words)} words, but the labels go up to {top}: give one word "
            "per class."
        )
    return words
