"""Many graphs as one value: validated once, immutable, padded into batches on demand."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from .dyads import as_pairs, orient
from .graph import Graph
from .graphbatch import GraphBatch
from .validation import GraphError, as_array, few, normal_title, plural

__all__ = ["GraphSet"]

_log = logging.getLogger(__name__)
_MOST_NODES = 10_000_000  # of a graph; batches have a square of it
_MOST_TYPES = 1_000_000  # of nodes or of edges; they count from 0 or 1


@dataclass(frozen=True, eq=False, repr=False, init=False)
class GraphSet(Sequence[Graph]):
    """Simple undirected graphs, each a draw of one law; every dyad is observed.

    A value: validated when made, never changed after (treat its tensors as read-only). ``graphs[g]`` is a
    :class:`Graph`; a slice, ids or a mask give a :class:`GraphSet`.

    Attributes:
        num_nodes: (G,) int64, each at least 1.
        edge_index: (2, sum of E) int64, the edges of all graphs one after the other, ids local to the graph, each
            edge once, smaller id first, sorted.
        edge_ptr: (G + 1,) int64; graph g has the columns ``edge_ptr[g]:edge_ptr[g + 1]``.
        edge_types: (sum of E,) int64 from 1, or None: one type, 1. (0 is no edge.)
        node_types: (sum of N,) int64 from 0, the nodes of all graphs one after the other, or None.
        labels: (G,) int64 graph labels, or None.
        title: A short name for messages.
    """

    num_nodes: Tensor
    edge_index: Tensor
    edge_ptr: Tensor
    edge_types: Tensor | None
    node_types: Tensor | None
    labels: Tensor | None
    title: str

    def __init__(
        self,
        num_nodes: Any,
        edge_index: Any,
        edge_ptr: Any,
        *,
        edge_types: Any = None,
        node_types: Any = None,
        labels: Any = None,
        title: str = "graphs",
    ) -> None:
        """Validates everything and brings every graph to normal form.

        Args:
            num_nodes: (G,) integers.
            edge_index: (2, sum of E) integers, the ends of an edge in either order.
            edge_ptr: (G + 1,) integers from 0 to sum of E, never falling.
            edge_types: (sum of E,) integers, at least 1.
            node_types: (sum of N,) integers, at least 0.
            labels: (G,) integers.
            title: A short name.

        Raises:
            GraphError: On shapes that do not fit, ids out of range, self-loops, repeats, or an empty set.
        """
        sizes = _integers(num_nodes, "num_nodes", None, least=1, most=_MOST_NODES)
        count = sizes.numel()
        if count == 0:
            raise GraphError("An empty set: a GraphSet needs at least one graph.")
        ptr = _integers(edge_ptr, "edge_ptr", count + 1, least=0)
        edges = as_pairs(edge_index, "edge_index")
        total = edges.shape[1]
        if int(ptr[0]) != 0 or int(ptr[-1]) != total or bool((ptr.diff() < 0).any()):
            raise GraphError(f"edge_ptr must run from 0 to the {total} edges without falling.")
        edges = orient(edges, False)
        graph = torch.repeat_interleave(torch.arange(count), ptr.diff())
        for wrong, what in (
            ((edges[0] < 0) | (edges[1] >= sizes[graph]), "out of range"),
            (edges[0] == edges[1], "self-loop"),
        ):
            if bool(wrong.any()):
                raise GraphError(
                    f"{plural(int(wrong.sum()), 'edge')} {what}, in graphs {few(graph[wrong].tolist())}."
                )
        offset = torch.cat([sizes.new_zeros(1), sizes.square().cumsum(0)])
        keys, place = (offset[graph] + edges[0] * sizes[graph] + edges[1]).sort()
        if bool((keys.diff() == 0).any()):
            twice = graph[place[1:][keys.diff() == 0]].tolist()
            raise GraphError(f"Repeated edges in graphs {few(twice)}; list every edge once.")
        kinds = None
        if edge_types is not None:
            kinds = _integers(edge_types, "edge_types", total, least=1, most=_MOST_TYPES)[place]
        values: dict[str, Any] = {
            "num_nodes": sizes,
            "edge_index": edges[:, place],
            "edge_ptr": ptr,
            "edge_types": kinds,
            "node_types": None,
            "labels": None,
            "title": normal_title(title),
        }
        if node_types is not None:
            values["node_types"] = _integers(
                node_types, "node_types", int(sizes.sum()), least=0, most=_MOST_TYPES
            )
        if labels is not None:
            values["labels"] = _integers(labels, "labels", count, least=None)
        object.__setattr__(self, "__dict__", values)

    # -- from and to other forms ------------------------------------------------------------------

    @classmethod
    def from_graphs(cls, graphs: Iterable[Graph], title: str = "graphs") -> GraphSet:
        """A set of :class:`Graph` values; their labels become node types where every graph has all of them.

        Raises:
            GraphError: If a graph is directed, weighted, bipartite, or has missing dyads.
        """
        graphs = list(graphs)
        for g, graph in enumerate(graphs):
            if (
                graph.directed
                or graph.weights is not None
                or graph.missing.shape[1]
                or graph.parts is not None
            ):
                raise GraphError(
                    f"Graph {g} ({graph!r}) is not simple, undirected and wholly observed."
                )
        typed = bool(graphs) and all(
            g.labels is not None and bool((g.labels >= 0).all()) for g in graphs
        )
        if not typed and any(g.labels is not None for g in graphs):
            _log.warning("node labels left out: not every graph has one for every node")
        return cls(
            [g.num_nodes for g in graphs],
            torch.cat([g.edge_index.cpu() for g in graphs], 1) if graphs else np.empty((2, 0), int),
            np.cumsum([0, *(g.num_edges for g in graphs)]),
            node_types=torch.cat([g.labels.cpu() for g in graphs if g.labels is not None])
            if typed
            else None,
            title=title,
        )

    @classmethod
    def from_networkx(cls, graphs: Iterable[nx.Graph], title: str = "graphs") -> GraphSet:
        """A set of NetworkX graphs, nodes in their order; node attribute and edge attribute ``type`` are kept.

        Raises:
            GraphError: If a graph is directed or not simple, or has types for some nodes or edges only.
        """
        graphs = list(graphs)
        ends: list[tuple[int, int]] = []
        kinds: list[Any] = []
        types: list[Any] = []
        for g, graph in enumerate(graphs):
            if graph.is_directed() or graph.is_multigraph():
                raise GraphError(f"Graph {g} is directed or has parallel edges.")
            place = {node: i for i, node in enumerate(graph)}
            ends += [(place[u], place[v]) for u, v in graph.edges()]
            kinds += [kind for _, _, kind in graph.edges(data="type")]
            types += [kind for _, kind in graph.nodes(data="type")]
        for name, values in (("edge", kinds), ("node", types)):
            if any(v is None for v in values) and any(v is not None for v in values):
                raise GraphError(f"Some {name}s have the attribute 'type', others do not.")
        return cls(
            [len(graph) for graph in graphs],
            np.array(ends, dtype=np.int64).reshape(-1, 2).T,
            np.cumsum([0, *(graph.number_of_edges() for graph in graphs)]),
            edge_types=kinds if kinds and kinds[0] is not None else None,
            node_types=types if types and types[0] is not None else None,
            title=title,
        )

    @classmethod
    def from_batch(cls, batch: GraphBatch, title: str = "graphs") -> GraphSet:
        """The graphs of a padded batch, for example of draws from a story."""
        batch = batch.to("cpu")
        g, u, v = batch.edges.triu(1).nonzero(as_tuple=True)
        counts = torch.bincount(g, minlength=len(batch))
        types, kinds = batch.node_types, batch.edges[g, u, v]
        return cls(
            batch.num_nodes,
            torch.stack([u, v]),
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            edge_types=kinds if bool((kinds > 1).any()) else None,
            node_types=None if types is None else types[batch.mask],
            labels=batch.labels,
            title=title,
        )

    def to_networkx(self) -> list[nx.Graph]:
        """NetworkX graphs on 0 .. n-1; node and edge types, where there are any, as the attribute ``type``."""
        out = []
        nodes = self.node_ptr.tolist()
        for g, (n, pairs, kinds) in enumerate(self._rows()):
            graph = nx.Graph()
            graph.add_nodes_from(range(n))
            graph.add_edges_from(pairs)
            if self.edge_types is not None:
                nx.set_edge_attributes(graph, dict(zip(pairs, kinds, strict=True)), "type")
            if self.node_types is not None:
                types = self.node_types[nodes[g] : nodes[g + 1]].tolist()
                nx.set_node_attributes(graph, dict(enumerate(types)), "type")
            out.append(graph)
        return out

    def batch(self, graphs: Any = None, width: int | None = None) -> GraphBatch:
        """Padded tensors of the graphs with these ids, in this order (all of them if None).

        Args:
            graphs: (M,) ids or a (G,) mask.
            width: Number of nodes to pad to; the largest of the graphs if None.
        """
        chosen = self if graphs is None else self[graphs]
        assert isinstance(chosen, GraphSet)
        most = int(chosen.num_nodes.max())
        edges = torch.zeros((len(chosen), most, most), dtype=torch.int64)
        g = torch.repeat_interleave(torch.arange(len(chosen)), chosen.edge_ptr.diff())
        u, v = chosen.edge_index
        kinds = torch.ones_like(u) if chosen.edge_types is None else chosen.edge_types
        edges[g, u, v] = kinds
        edges[g, v, u] = kinds
        batch = GraphBatch(edges, chosen.num_nodes, None, chosen.labels)
        if chosen.node_types is not None:
            types = torch.zeros((len(chosen), most), dtype=torch.int64)
            types[batch.mask] = chosen.node_types
            batch = GraphBatch(edges, chosen.num_nodes, types, chosen.labels)
        return batch if width is None else batch.pad(width)

    # -- a sequence -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.num_nodes.numel()

    def __getitem__(self, which: Any) -> Any:
        """Graph ``which`` as a :class:`Graph` (an integer), or a set of some graphs (slice, ids, mask)."""
        if isinstance(which, int | np.integer):
            return self._graph(range(len(self))[int(which)])
        if isinstance(which, slice):
            which = torch.arange(len(self))[which]
        ids = torch.as_tensor(which)
        ids = ids.nonzero()[:, 0] if ids.dtype == torch.bool else ids.long()
        return GraphSet(
            self.num_nodes[ids],
            self.edge_index[:, _columns(self.edge_ptr, ids)],
            torch.cat([ids.new_zeros(1), self.edge_ptr.diff()[ids].cumsum(0)]),
            edge_types=None
            if self.edge_types is None
            else self.edge_types[_columns(self.edge_ptr, ids)],
            node_types=None
            if self.node_types is None
            else self.node_types[_columns(self.node_ptr, ids)],
            labels=None if self.labels is None else self.labels[ids],
            title=self.title,
        )

    def __iter__(self) -> Iterator[Graph]:
        return (self._graph(g) for g in range(len(self)))

    def __repr__(self) -> str:
        low, high = int(self.num_nodes.min()), int(self.num_nodes.max())
        words = [
            plural(len(self), "graph"),
            f"{low} to {high} nodes",
            f"{self.edge_index.shape[1]} edges in all",
        ]
        if self.node_types is not None:
            words.append(plural(self.num_node_types, "node type"))
        if self.edge_types is not None:
            words.append(plural(self.num_edge_types, "edge type"))
        return f"GraphSet({self.title!r}: {', '.join(words)})"

    @cached_property
    def node_ptr(self) -> Tensor:
        """(G + 1,) int64; graph g has the rows ``node_ptr[g]:node_ptr[g + 1]`` of ``node_types``."""
        return torch.cat([self.num_nodes.new_zeros(1), self.num_nodes.cumsum(0)])

    @property
    def num_edge_types(self) -> int:
        """The largest edge type, 1 where edges have none."""
        if self.edge_types is None or not self.edge_types.numel():
            return 1
        return int(self.edge_types.max())

    @property
    def num_node_types(self) -> int:
        """One more than the largest node type, 1 where nodes have none."""
        return 1 if self.node_types is None else int(self.node_types.max()) + 1

    def split(
        self, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
    ) -> tuple[GraphSet, ...]:
        """Disjoint sets in random order with these shares of the graphs, every part at least one graph.

        Raises:
            GraphError: If the fractions do not sum to one, or a part would be empty.
        """
        if any(f <= 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
            raise GraphError(f"fractions must be positive and sum to 1, got {tuple(fractions)}.")
        ends = [round(end * len(self)) for end in np.cumsum([0.0, *fractions])]
        if any(a == b for a, b in itertools.pairwise(ends)):
            raise GraphError(
                f"{plural(len(self), 'graph')} cannot fill parts of {tuple(fractions)}."
            )
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return tuple(self[order[a:b]] for a, b in itertools.pairwise(ends))

    def _rows(self) -> Iterator[tuple[int, list[tuple[int, int]], list[int]]]:
        """Nodes, edges and edge types of every graph."""
        ptr, pairs = self.edge_ptr.tolist(), self.edge_index.T.tolist()
        kinds = [1] * len(pairs) if self.edge_types is None else self.edge_types.tolist()
        for g, n in enumerate(self.num_nodes.tolist()):
            part = slice(ptr[g], ptr[g + 1])
            yield n, [(u, v) for u, v in pairs[part]], kinds[part]

    def _graph(self, g: int) -> Graph:
        labels = self.node_types
        return Graph(
            int(self.num_nodes[g]),
            self.edge_index[:, self.edge_ptr[g] : self.edge_ptr[g + 1]],
            labels=None if labels is None else labels[self.node_ptr[g] : self.node_ptr[g + 1]],
            title=f"{self.title}[{g}]",
            allow_empty=True,
        )


def _columns(ptr: Tensor, ids: Tensor) -> Tensor:
    """Where the entries of graphs ``ids`` stand in an array with the bounds ``ptr``."""
    counts = ptr.diff()[ids]
    before = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) + torch.repeat_interleave(ptr[ids] - before, counts)


def _integers(
    value: Any, what: str, length: int | None, least: int | None, most: int = 2**62
) -> Tensor:
    """A vector of integers of this length, none below ``least`` or above ``most``."""
    array = as_array(value, f"{what} must be a vector of integers")
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or length not in (None, array.size):
        size = "" if length is None else f"{length} "
        raise GraphError(
            f"{what} must be a vector of {size}integers, got shape {array.shape}, dtype {array.dtype}."
        )
    if least is not None and array.size and array.min() < least:
        where = np.flatnonzero(array < least)[:6].tolist()
        raise GraphError(f"{what} must be at least {least}; it is less at {few(where)}.")
    if array.size and int(array.max()) > most:
        where = np.flatnonzero(array > most)[:6].tolist()
        raise GraphError(f"{what} must be at most {most}; it is more at {few(where)}.")
    return torch.from_numpy(array.astype(np.int64))
