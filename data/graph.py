"""One graph as a value: validated once, immutable, unobserved dyads kept apart from zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .dyads import (
    DENSE_LIMIT,
    check_across,
    dyad_keys,
    dyads_of,
    missing_from_mask,
    normal_dyads,
    normal_edges,
    normal_parts,
)
from .fingerprint import fingerprint_of
from .selection import check_selection, fields_of_selection
from .validation import (
    GraphError,
    flags,
    node_count,
    node_ids,
    normal_features,
    normal_labels,
    normal_title,
    normal_words,
    plural,
    words_of_labels,
)

__all__ = ["Graph", "GraphError"]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Graph:
    """A simple graph, its unobserved dyads, and what is known of its nodes.

    A value: validated when made, never changed after (treat its tensors as read-only). Two graphs
    with equal content have equal :meth:`fingerprint`; ``==`` is identity.

    Attributes:
        num_nodes: N, isolated nodes included; ids are 0 .. N-1.
        edge_index: (2, E) int64, the observed present edges, sorted, without loops or repeats.
            Undirected: each edge once, smaller id first. Directed: the arcs, row 0 to row 1.
        missing: (2, H) int64, the unobserved dyads in the same normal form. A dyad here is
            neither an edge nor a non-edge.
        weights: (E,) float32 weights or counts of the edges, finite and not zero, or None. Zero
            is the value of an observed dyad without an edge.
        parts: (N,) int64 of 0 and 1, the sides of a bipartite graph, or None. Dyads of a bipartite
            graph, observed or missing, are the pairs across; pairs within a side do not exist.
        features: (N, D) float32, dense or coalesced sparse COO, or None.
        labels: (N,) int64 classes, -1 for unlabelled, or None.
        names: N distinct node names, or None.
        label_names: Words for the classes, or None.
        feature_names: D words for the feature columns, or None.
        directed: Whether the dyads are ordered pairs.
        title: A short name for messages and pictures.
    """

    num_nodes: int
    edge_index: Tensor
    missing: Tensor
    weights: Tensor | None
    parts: Tensor | None
    features: Tensor | None
    labels: Tensor | None
    names: tuple[str, ...] | None
    label_names: tuple[str, ...] | None
    feature_names: tuple[str, ...] | None
    directed: bool
    title: str

    def __init__(
        self,
        num_nodes: int,
        edge_index: Any,
        *,
        weights: Any = None,
        parts: Any = None,
        features: Any = None,
        labels: Any = None,
        names: Sequence[Any] | None = None,
        label_names: Sequence[Any] | None = None,
        feature_names: Sequence[Any] | None = None,
        missing: Any = None,
        observed: Any = None,
        directed: bool = False,
        title: str = "graph",
        clean: bool = False,
        allow_empty: bool = False,
    ) -> None:
        """Validates everything and brings it to normal form.

        Args:
            num_nodes: Number of nodes, at least two.
            edge_index: (2, E) integer array-like or tensor. Undirected edges may come in either
                order of their ends; both orders of one edge count as a repeat.
            weights: (E,) numbers, one per column of ``edge_index`` as given.
            parts: (N,) integers 0 and 1, the sides of a bipartite graph, in any order of nodes.
            features: (N, D) array-like, SciPy sparse, or tensor (dense or sparse).
            labels: (N,) integers, -1 for unlabelled.
            names: N distinct node names.
            label_names: Words for the classes 0, 1, ...
            feature_names: D words for the columns of ``features``.
            missing: (2, H) unobserved dyads. Edges given there are dropped from ``edge_index``:
                their value is not observed.
            observed: The alternative to ``missing``: an (N, N) boolean mask (array, tensor or
                SciPy sparse), True where the dyad is observed. The diagonal is ignored, and so are the
                pairs within a side of a bipartite graph.
            directed: Whether the edges are arcs.
            title: A short name.
            clean: Drop self-loops and repeats instead of refusing them. The weights of repeats
                add up, also those of one undirected edge that is listed in both directions.
            allow_empty: Let a graph without any edge through (simulators need it).

        Raises:
            GraphError: On any input that is not a simple graph with at least one observed dyad.
        """
        count = node_count(num_nodes)
        directed, clean, allow_empty = flags(
            directed=directed, clean=clean, allow_empty=allow_empty
        )
        edges, strengths = normal_edges(edge_index, count, directed, clean, weights)
        device = edges.device
        sides = None if parts is None else normal_parts(parts, count, directed).to(device)
        check_across(edges, sides, "edge")
        if missing is not None and observed is not None:
            raise GraphError("Give either missing or observed, not both: they say the same thing.")
        hidden = torch.empty((2, 0), dtype=torch.int64)
        if observed is not None:
            hidden = missing_from_mask(observed, count, directed, sides)
        elif missing is not None:
            hidden = normal_dyads(missing, count, directed, "missing", sides)
        classes = None if labels is None else normal_labels(labels, count).to(device)
        values: dict[str, Any] = {
            "num_nodes": count,
            "edge_index": edges,
            "missing": hidden.to(device),
            "weights": strengths,
            "parts": sides,
            "features": None if features is None else normal_features(features, count).to(device),
            "labels": classes,
            "names": None if names is None else normal_words(names, "names", count, True),
            "label_names": words_of_labels(label_names, classes),
            "feature_names": None,
            "directed": directed,
            "title": normal_title(title),
        }
        if feature_names is not None:
            if features is None:
                raise GraphError("feature_names were given without features.")
            width = values["features"].shape[1]
            values["feature_names"] = normal_words(feature_names, "feature_names", width, False)
        if edges.shape[1] == 0 and not allow_empty:
            raise GraphError(
                f"Empty graph: {count} nodes and no edge (after dropping self-loops, if any were "
                "dropped); if that is meant, pass allow_empty=True."
            )
        object.__setattr__(self, "__dict__", values)
        self._drop_hidden_edges(allow_empty)

    def _drop_hidden_edges(self, allow_empty: bool) -> None:
        """Last step of construction: edges in missing dyads are unobserved."""
        if not self.missing.shape[1]:
            return
        self._check_something_observed()
        keys = dyad_keys(self.edge_index, self.num_nodes)
        seen = ~torch.isin(keys, dyad_keys(self.missing, self.num_nodes))
        if not bool(seen.any()) and not allow_empty:
            raise GraphError(
                f"All {keys.numel()} edges lie in missing dyads: nothing but non-edges is "
                "observed. Hide fewer, or pass allow_empty=True if that is meant."
            )
        self.__dict__.update(self._edges_where(seen))

    def _edges_where(self, keep: Tensor) -> dict[str, Tensor | None]:
        """The fields that list edges, with only some of them, (E,) mask or ids."""
        return {
            "edge_index": self.edge_index[:, keep],
            "weights": None if self.weights is None else self.weights[keep],
        }

    def _check_something_observed(self) -> None:
        if self.num_dyads <= 0:
            raise GraphError(
                f"The mask hides everything: all {self.missing.shape[1]} dyads are missing, "
                "so there is nothing to learn from. True means observed, not hidden."
            )

    def _replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed, for values known to be in normal form."""
        new = object.__new__(Graph)
        for field in fields(self):
            new.__dict__[field.name] = changes.get(field.name, getattr(self, field.name))
        return new

    def __repr__(self) -> str:
        words = [
            f"{self.title!r}: {plural(self.num_nodes, 'node')}",
            plural(self.num_edges, "arc" if self.directed else "edge"),
        ]
        if self.weights is not None:
            words.append("weighted")
        if self.parts is not None:
            words.append("bipartite {} + {}".format(*self._sides))
        if self.missing.shape[1]:
            words.append(plural(self.missing.shape[1], "missing dyad"))
        if self.features is not None:
            words.append(plural(self.features.shape[1], "feature"))
        if self.labels is not None:
            words.append(plural(int(torch.unique(self.labels[self.labels >= 0]).numel()), "class"))
        return f"Graph({', '.join(words)})".replace("classs", "classes")

    # -- counts ---------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.edge_index.device

    @property
    def num_edges(self) -> int:
        """E, the observed present edges (arcs if directed)."""
        return self.edge_index.shape[1]

    @property
    def num_dyads(self) -> int:
        """How many dyads are observed: all of them less the missing ones.

        N(N-1)/2 in all, N(N-1) if directed, n0 n1 with n0 and n1 nodes on the sides if bipartite.
        """
        if self.parts is not None:
            return math.prod(self._sides) - self.missing.shape[1]
        pairs = self.num_nodes * (self.num_nodes - 1)
        return (pairs if self.directed else pairs // 2) - self.missing.shape[1]

    @property
    def density(self) -> float:
        """Edges over observed dyads."""
        return self.num_edges / self.num_dyads

    @cached_property
    def degrees(self) -> Tensor:
        """(N,) int64 observed degrees, without weights; directed: in-degree plus out-degree."""
        return torch.bincount(self.edge_index.flatten(), minlength=self.num_nodes)

    @cached_property
    def _sides(self) -> tuple[int, int]:
        """How many nodes each side of a bipartite graph has."""
        assert self.parts is not None
        ones = int(self.parts.sum())
        return self.num_nodes - ones, ones

    # -- other forms ----------------------------------------------------------------------------

    @cached_property
    def _arcs(self) -> Tensor:
        if self.directed:
            return self.edge_index
        both = torch.cat([self.edge_index, self.edge_index.flip(0)], dim=1)
        return dyads_of(torch.sort(dyad_keys(both, self.num_nodes)).values, self.num_nodes)

    def both_directions(self) -> Tensor:
        """(2, 2E) int64, every edge in both directions, sorted, as PyG layers want it.

        Directed: the arcs themselves, (2, E).
        """
        return self._arcs

    @cached_property
    def adjacency(self) -> Tensor:
        """(N, N) float32 coalesced sparse COO of the observed edges, symmetric if undirected.

        All entries are 1, also in a weighted graph.
        """
        return self._matrix(torch.ones(self._arcs.shape[1], device=self.device))

    @cached_property
    def weighted_adjacency(self) -> Tensor:
        """(N, N) float32 coalesced sparse COO of the weights, symmetric if undirected.

        That of a graph without weights is :attr:`adjacency`.
        """
        if self.weights is None:
            return self.adjacency
        if self.directed:
            return self._matrix(self.weights)
        both = torch.cat([self.edge_index, self.edge_index.flip(0)], dim=1)
        return self._matrix(self.weights.repeat(2)[dyad_keys(both, self.num_nodes).argsort()])

    def _matrix(self, values: Tensor) -> Tensor:
        """The sparse (N, N) matrix with these values at the arcs."""
        return torch.sparse_coo_tensor(
            self._arcs,
            values,
            (self.num_nodes, self.num_nodes),
            is_coalesced=True,
            check_invariants=False,  # sorted and in range by construction
        )

    def _check_small(self, what: str) -> None:
        if self.num_nodes**2 > DENSE_LIMIT:
            raise GraphError(
                f"{what} would hold {self.num_nodes} x {self.num_nodes} entries; for a graph of "
                "this size use edge_index, missing and adjacency, which are sparse."
            )

    def dense_adjacency(self) -> Tensor:
        """(N, N) float32 of 0 and 1; missing dyads are 0 here, see :meth:`observed_mask`.

        Raises:
            GraphError: If the graph is too large for it.
        """
        self._check_small("dense_adjacency")
        return self.adjacency.to_dense()

    def observed_mask(self) -> Tensor:
        """(N, N) bool, True where the dyad is observed; False on the diagonal and within a side.

        Raises:
            GraphError: If the graph is too large for it.
        """
        self._check_small("observed_mask")
        if self.parts is None:
            mask = ~torch.eye(self.num_nodes, dtype=torch.bool, device=self.device)
        else:
            mask = self.parts[:, None] != self.parts
        mask[self.missing[0], self.missing[1]] = False
        if not self.directed:
            mask[self.missing[1], self.missing[0]] = False
        return mask

    def observed_pairs(self) -> Tensor:
        """(2, num_dyads) int64, every observed dyad once, sorted (undirected: i < j).

        Raises:
            GraphError: If the graph is too large for it.
        """
        mask = self.observed_mask()
        return (mask if self.directed else mask.triu(1)).nonzero().T.contiguous()

    # -- new graphs from this one ---------------------------------------------------------------

    def to(self, device: torch.device | str) -> Graph:
        """The same graph with its tensors on ``device`` (itself if they are there already)."""
        if torch.empty(0, device=device).device == self.device:
            return self
        names = ("edge_index", "missing", "weights", "parts", "features", "labels")
        tensors = {name: getattr(self, name) for name in names}
        return self._replace(**{n: t.to(device) for n, t in tensors.items() if t is not None})

    def hide(self, dyads: Any) -> Graph:
        """This graph with more dyads unobserved; edges among them leave ``edge_index``.

        Args:
            dyads: (2, H) integer array-like; undirected pairs in either order.

        Raises:
            GraphError: If a dyad is out of range, on the diagonal or within a side of a bipartite
                graph, or if nothing stays observed.
        """
        more = normal_dyads(dyads, self.num_nodes, self.directed, "dyads", self.parts)
        more = more.to(self.device)
        keys = torch.unique(dyad_keys(torch.cat([self.missing, more], dim=1), self.num_nodes))
        seen = ~torch.isin(dyad_keys(self.edge_index, self.num_nodes), keys)
        new = self._replace(missing=dyads_of(keys, self.num_nodes), **self._edges_where(seen))
        new._check_something_observed()
        return new

    def with_features(self, features: Any, feature_names: Sequence[Any] | None = None) -> Graph:
        """This graph with other features, (N, D) (``None`` takes them away).

        Raises:
            GraphError: If the shape is wrong or a value is not finite.
        """
        if features is None:
            return self._replace(features=None, feature_names=None)
        new = normal_features(features, self.num_nodes).to(self.device)
        words = None
        if feature_names is not None:
            words = normal_words(feature_names, "feature_names", new.shape[1], False)
        return self._replace(features=new, feature_names=words)

    def with_labels(self, labels: Any, label_names: Sequence[Any] | None = None) -> Graph:
        """This graph with other labels, (N,) integers (``None`` takes them away).

        Raises:
            GraphError: If the shape or a value is wrong, or a class has no word.
        """
        if labels is None and label_names is not None:
            raise GraphError("label_names were given without labels.")
        new = None if labels is None else normal_labels(labels, self.num_nodes).to(self.device)
        return self._replace(labels=new, label_names=words_of_labels(label_names, new))

    def keep_labels(self, nodes: Any) -> Graph:
        """This graph with labels at these nodes only, as for semi-supervised classification.

        Args:
            nodes: (M,) integer ids or an (N,) boolean mask; all others become -1, unlabelled.

        Raises:
            GraphError: If the graph has no labels, or on unknown ids.
        """
        if self.labels is None:
            raise GraphError("keep_labels needs labels; this graph has none (see with_labels).")
        ids = node_ids(nodes, self.num_nodes, "nodes", self.device)
        labels = torch.full_like(self.labels, -1)
        labels[ids] = self.labels[ids]
        return self._replace(labels=labels)

    def subgraph(self, nodes: Any) -> Graph:
        """The induced subgraph: new node k is old node ``nodes[k]``, with all it carries.

        Args:
            nodes: (M,) distinct integer ids in the order wanted, or an (N,) boolean mask.

        Raises:
            GraphError: On repeated or unknown ids, fewer than two nodes, only one side of a
                bipartite graph, or if no dyad among them is observed.
        """
        ids = node_ids(nodes, self.num_nodes, "nodes", self.device)
        check_selection(self, ids)
        new = self._replace(**fields_of_selection(self, ids))
        new._check_something_observed()
        return new

    def relabel(self, perm: Any) -> Graph:
        """The same graph with its nodes in another order: new node i is old node ``perm[i]``.

        Raises:
            GraphError: If ``perm`` is not a permutation of 0 .. N-1.
        """
        ids = node_ids(perm, self.num_nodes, "perm", self.device)
        if not torch.equal(ids.sort().values, torch.arange(self.num_nodes, device=self.device)):
            raise GraphError(f"perm must be a permutation of 0 .. {self.num_nodes - 1}.")
        return self._replace(**fields_of_selection(self, ids))

    def fingerprint(self) -> str:
        """sha256 (hex) of the content: everything but the title and the device.

        Dense and sparse features with the same non-zero values have the same fingerprint.
        """
        return fingerprint_of(self)
