"""Link-prediction splits: held-out dyads, present and absent, are missing while training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .archives import read_arrays, write_arrays
from .dyads import normal_dyads
from .graph import Graph
from .numpy_files import scalar
from .validation import GraphError, as_array, few, few_pairs, plural

__all__ = ["Split", "given_split", "random_split", "sample_absent", "sample_dyads"]

_log = logging.getLogger(__name__)
_GIVEN = ("train_edges", "val_edges", "test_edges", "val_edges_false", "test_edges_false")


@dataclass(frozen=True, eq=False)
class Split:
    """A graph cut for link prediction.

    Attributes:
        full: The graph as it was.
        train: The same graph with all held-out dyads missing, the absent ones too.
        val_edges, test_edges: (2, n) int64 held-out edges (undirected: i < j).
        val_non_edges, test_non_edges: (2, n) int64 held-out non-edges.
    """

    full: Graph
    train: Graph
    val_edges: Tensor
    val_non_edges: Tensor
    test_edges: Tensor
    test_non_edges: Tensor

    def __repr__(self) -> str:
        return (
            f"Split({self.full.title!r}: {self.train.num_edges} train, "
            f"{self.val_edges.shape[1]} + {self.val_non_edges.shape[1]} validation, "
            f"{self.test_edges.shape[1]} + {self.test_non_edges.shape[1]} test dyads)"
        )

    def save(self, path: str | Path) -> Path:
        """Write the pairs as an npz file that :func:`given_split` reads back with the full graph.

        Raises:
            GraphError: If the file cannot be written.
        """
        arrays = {
            "train_edges": _without(self.full.edge_index, self.train.missing, self.full.num_nodes),
            "val_edges": self.val_edges,
            "test_edges": self.test_edges,
            "val_edges_false": self.val_non_edges,
            "test_edges_false": self.test_non_edges,
        }
        columns = {name: pairs.cpu().numpy().T for name, pairs in arrays.items()}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return write_arrays(path, {"num_nodes": self.full.num_nodes, **columns})

    def pairs(self, part: Literal["val", "test"]) -> tuple[Tensor, Tensor]:
        """The held-out dyads of one part and their truth.

        Args:
            part: ``"val"`` or ``"test"``.

        Returns:
            Pairs, (2, m) int64, edges first; targets, (m,) float32, 1 for an edge.

        Raises:
            GraphError: If ``part`` is another word.
        """
        if part not in ("val", "test"):
            raise GraphError(f"part must be 'val' or 'test', got {part!r}.")
        present, absent = getattr(self, f"{part}_edges"), getattr(self, f"{part}_non_edges")
        targets = torch.zeros(present.shape[1] + absent.shape[1], device=present.device)
        targets[: present.shape[1]] = 1.0
        return torch.cat([present, absent], dim=1), targets


def _without(pairs: Tensor, hidden: Tensor, num_nodes: int) -> Tensor:
    return pairs[:, ~torch.isin(pairs[0] * num_nodes + pairs[1], hidden[0] * num_nodes + hidden[1])]


def _np_keys(pairs: Tensor, num_nodes: int) -> np.ndarray:
    array = pairs.cpu().numpy()
    return array[0] * num_nodes + array[1]


def _pairs_of(keys: np.ndarray, like: Graph) -> Tensor:
    keys = np.sort(keys)
    return torch.from_numpy(np.stack(np.divmod(keys, like.num_nodes))).to(like.device)


def _sample_non_edges(graph: Graph, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` distinct keys of observed non-edges, uniformly and in random order."""
    n = graph.num_nodes
    taken = np.sort(
        np.concatenate([_np_keys(graph.edge_index, n), _np_keys(graph.missing, n)])
    )  # observed edges and missing dyads are disjoint and sorted each
    free = graph.num_dyads - graph.num_edges
    if count > free:
        raise GraphError(
            f"Not enough non-edges: the split needs {count}, but the graph has only {free} "
            "observed ones. Use smaller shares, or a graph that is less dense."
        )
    return _sample_besides(graph, taken, count, rng)


def sample_dyads(graph: Graph, count: int, seed: int = 0) -> Tensor:
    """A uniform sample of the observed dyads without replacement, sorted, (2, count) int64.

    Raises:
        GraphError: If the graph has fewer observed dyads.
    """
    if not 1 <= count <= graph.num_dyads:
        raise GraphError(
            f"A sample is of 1 to {graph.num_dyads} dyads, those that are observed, not of {count}."
        )
    missing = _np_keys(graph.missing, graph.num_nodes)
    return _pairs_of(
        _sample_besides(graph, missing, count, np.random.default_rng(seed)), like=graph
    )


def sample_absent(graph: Graph, count: int, seed: int = 0) -> Tensor:
    """A uniform sample of the observed dyads without an edge, without replacement, sorted, (2, count) int64.

    Raises:
        GraphError: If the graph has fewer of them.
    """
    absent = graph.num_dyads - graph.num_edges
    if not 1 <= count <= absent:
        raise GraphError(f"A sample is of 1 to {absent} absent dyads, not of {count}.")
    taken = np.union1d(
        _np_keys(graph.missing, graph.num_nodes), _np_keys(graph.edge_index, graph.num_nodes)
    )
    rng = np.random.default_rng(seed)
    return _pairs_of(_sample_besides(graph, taken, count, rng), like=graph)


def _sample_besides(
    graph: Graph, taken: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """``count`` distinct keys of dyads that are not among those taken, uniformly and in random order."""
    n = graph.num_nodes
    total = graph.num_dyads + graph.missing.shape[1]
    free = total - taken.size
    if 4 * count > free or 2 * taken.size > total:
        # Rejection would stall, and in this case all dyads are not many more than the graph's own.
        keys = _all_keys(graph)
        return rng.choice(np.setdiff1d(keys, taken, assume_unique=True), count, replace=False)
    found = np.empty(0, dtype=np.int64)
    sides = None if graph.parts is None else _sides(graph)
    while found.size < count:
        tries = 2 * (count - found.size) + 64
        if sides is None:
            ends = rng.integers(0, n, size=(2, tries))
            ends = ends[:, ends[0] != ends[1]]
        else:
            ends = np.stack([side[rng.integers(0, side.size, size=tries)] for side in sides])
        if not graph.directed:
            ends = np.sort(ends, axis=0)
        keys = ends[0] * n + ends[1]
        if taken.size:
            place = np.minimum(np.searchsorted(taken, keys), taken.size - 1)
            keys = keys[taken[place] != keys]
        found = np.concatenate([found, keys])
        _, first = np.unique(found, return_index=True)
        found = found[np.sort(first)]
    return found[:count]


def _sides(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Node ids of the two sides of a bipartite graph."""
    assert graph.parts is not None
    parts = graph.parts.cpu().numpy()
    return np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)


def _all_keys(graph: Graph) -> np.ndarray:
    """Keys of all dyads, observed or not."""
    n = graph.num_nodes
    if graph.directed:
        keys = np.arange(n**2, dtype=np.int64)
        return keys[keys % (n + 1) != 0]
    if graph.parts is not None:
        rows, cols = (ends.ravel() for ends in np.meshgrid(*_sides(graph)))
        return np.minimum(rows, cols) * n + np.maximum(rows, cols)
    rows, cols = np.triu_indices(n, 1)
    return rows.astype(np.int64) * n + cols


def random_split(graph: Graph, val: float = 0.05, test: float = 0.10, seed: int = 0) -> Split:
    """Holds out shares of the edges and as many observed non-edges, all chosen uniformly.

    Args:
        graph: The graph; its missing dyads are left alone. Non-edges of a bipartite graph are
            pairs across its sides.
        val: Share of the edges for validation (rounded down).
        test: Share of the edges for the test (rounded down).
        seed: Seed of the choice; the same seed gives the same split.

    Raises:
        GraphError: On shares that are not in [0, 1), leave no training edge, or round to none;
            or if there are too few non-edges.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise GraphError(f"Shares must be >= 0 and sum to less than 1, got val={val}, test={test}.")
    edges = graph.num_edges
    # The small term undoes 0.29 * 100 = 28.999...
    num_val, num_test = (int(np.floor(edges * share + 1e-9)) for share in (val, test))
    for word, share, got in (("validation", val, num_val), ("test", test, num_test)):
        if share > 0 and got == 0:
            raise GraphError(
                f"No {word} edges: a share of {share} of {plural(edges, 'edge')} is less than one."
            )
    rng = np.random.default_rng(seed)
    present = rng.permutation(_np_keys(graph.edge_index, graph.num_nodes))
    absent = _sample_non_edges(graph, num_val + num_test, rng)
    parts = {
        "val_edges": _pairs_of(present[:num_val], graph),
        "val_non_edges": _pairs_of(absent[:num_val], graph),
        "test_edges": _pairs_of(present[num_val : num_val + num_test], graph),
        "test_non_edges": _pairs_of(absent[num_val:], graph),
    }
    return Split(full=graph, train=graph.hide(torch.cat(list(parts.values()), dim=1)), **parts)


def _read_given(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(source, Mapping):
        arrays = dict(source)
    else:
        try:
            arrays = read_arrays(source)
        except GraphError as error:
            raise GraphError(f"Could not read the split {source}: {error}") from error.__cause__
    lacking = [key for key in _GIVEN if key not in arrays]
    if lacking:
        raise GraphError(
            f"The split lacks {', '.join(lacking)}; it must have {', '.join(_GIVEN)}, each (n, 2)."
        )
    return arrays


def given_split(
    graph: Graph,
    source: str | Path | Mapping[str, Any],
    false_edges: Literal["drop", "keep"] = "drop",
) -> Split:
    """A published split, checked against the graph.

    Some published splits have "negatives" that are edges in truth. They are taken out of the
    evaluation pairs, or kept there to reproduce published numbers. Either way such a dyad stays
    as observed in training as the rest of the split has it: an edge for training stays one.

    Args:
        graph: The whole graph the split was made of.
        source: Path of an ``.npz`` file, or a mapping, with ``train_edges``, ``val_edges``,
            ``test_edges``, ``val_edges_false`` and ``test_edges_false``, each (n, 2) integers,
            ends in either order. Repeated negatives count once.
        false_edges: ``"drop"`` or ``"keep"`` the negatives that are edges.

    Raises:
        GraphError: If the arrays are lacking or malformed, if the positives overlap or are not
            exactly the graph's edges, if a negative is a missing dyad of the graph, or if a pair
            is within a side of a bipartite graph.
    """
    if false_edges not in ("drop", "keep"):
        raise GraphError(f"false_edges must be 'drop' or 'keep', got {false_edges!r}.")
    if isinstance(source, str | Path):
        try:
            return given_split(graph, _read_given(source), false_edges)
        except GraphError as error:
            raise GraphError(f"{Path(source).name}: {error}") from error.__cause__
    arrays = _read_given(source)
    n = graph.num_nodes
    of = n
    if "num_nodes" in arrays:
        of = scalar(as_array(arrays["num_nodes"], "num_nodes must be a number"), "num_nodes")
    if of != n:
        raise GraphError(f"The split is of a graph with {of} nodes, this one has {n}.")
    given: dict[str, np.ndarray] = {}
    for key in _GIVEN:
        array = as_array(arrays[key], f"{key} must have shape (n, 2)")
        if array.size and (array.ndim != 2 or array.shape[1] != 2):
            raise GraphError(f"{key} must have shape (n, 2), got {array.shape}.")
        pairs: Any = array.T if array.size else []
        dyads = normal_dyads(pairs, n, graph.directed, key, graph.parts)
        given[key] = _np_keys(dyads, n)
        repeats = len(array) - given[key].size
        if repeats:
            _log.info("%s: %s counted once", key, plural(repeats, "repeated dyad"))
    _check_positives(graph, given)

    edges = _np_keys(graph.edge_index, n)
    missing = _np_keys(graph.missing, n)
    absent: dict[str, np.ndarray] = {}
    for key in ("val_edges_false", "test_edges_false"):
        keys = given[key]
        unknown = np.intersect1d(keys, missing)
        if unknown.size:
            raise GraphError(
                f"{key} has {plural(unknown.size, 'dyad')} that this graph does not observe "
                f"({few_pairs(_pairs_of(unknown, graph))}); their truth is unknown."
            )
        wrong = np.intersect1d(keys, edges)
        if wrong.size:
            _log.warning(
                "%s: %s that are edges in truth (%s), %s",
                key,
                plural(wrong.size, "negative"),
                few_pairs(_pairs_of(wrong, graph)),
                "dropped" if false_edges == "drop" else "kept as negatives",
            )
        absent[key] = np.setdiff1d(keys, edges) if false_edges == "drop" else keys
    parts = {
        "val_edges": _pairs_of(given["val_edges"], graph),
        "val_non_edges": _pairs_of(absent["val_edges_false"], graph),
        "test_edges": _pairs_of(given["test_edges"], graph),
        "test_non_edges": _pairs_of(absent["test_edges_false"], graph),
    }
    true_absent = np.setdiff1d(np.concatenate(list(absent.values())), edges)
    hidden = np.concatenate([given["val_edges"], given["test_edges"], true_absent])
    return Split(full=graph, train=graph.hide(_pairs_of(hidden, graph)), **parts)


def _check_positives(graph: Graph, given: dict[str, np.ndarray]) -> None:
    positives = np.concatenate([given[key] for key in _GIVEN[:3]])
    union, counts = np.unique(positives, return_counts=True)
    if union.size < positives.size:
        pairs = few_pairs(_pairs_of(union[counts > 1], graph))
        raise GraphError(
            f"{plural(int((counts > 1).sum()), 'edge')} of the split in more than one part: "
            f"{pairs}; train, validation and test must be disjoint."
        )
    edges = _np_keys(graph.edge_index, graph.num_nodes)
    extra, lacking = np.setdiff1d(union, edges), np.setdiff1d(edges, union)
    if extra.size or lacking.size:
        parts = [
            f"{plural(keys.size, 'edge')} only in the {where} ({few_pairs(_pairs_of(keys, graph))})"
            for keys, where in ((extra, "split"), (lacking, "graph"))
            if keys.size
        ]
        raise GraphError(
            f"The split is not one of this graph ({graph.num_edges} edges): {few(parts)}."
        )
