"""Graphs of several sizes as padded tensors, for the sequential stories."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .validation import GraphError

__all__ = ["GraphBatch"]


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """G undirected graphs padded to n nodes: node i of graph g exists if ``i < num_nodes[g]``.

    Attributes:
        edges: (G, n, n) int64, symmetric: 0 no edge, k the edge type k; zero on the diagonal and on the padding.
        num_nodes: (G,) int64.
        node_types: (G, n) int64, zero on the padding, or None.
        labels: (G,) int64 graph labels, or None.
    """

    edges: Tensor
    num_nodes: Tensor
    node_types: Tensor | None = None
    labels: Tensor | None = None

    @property
    def num_graphs(self) -> int:
        """G."""
        return self.edges.shape[0]

    @property
    def width(self) -> int:
        """n, to which the graphs are padded."""
        return self.edges.shape[-1]

    @property
    def mask(self) -> Tensor:
        """(G, n) bool, True where a node exists."""
        return torch.arange(self.width, device=self.edges.device) < self.num_nodes[:, None]

    def __len__(self) -> int:
        return self.num_graphs

    def to(self, device: torch.device | str) -> GraphBatch:
        """The same batch on ``device``."""
        return self._map(lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> GraphBatch:
        """The whole batch ``times`` over, (times G) graphs: graph g again at g + G, g + 2G, ..."""
        return self._map(lambda tensor: tensor.repeat(times, *[1] * (tensor.ndim - 1)))

    def select(self, graphs: Tensor) -> GraphBatch:
        """Some of the graphs, by (M,) ids or a (G,) mask; the padding stays."""
        return self._map(lambda tensor: tensor[graphs])

    def distinct(self) -> tuple[GraphBatch, Tensor]:
        """The graphs that differ from all before them in edges, types or number of nodes, as they are numbered, and
        which of these every graph equals, (G,) int64. Labels are left out."""
        parts = [self.edges.flatten(1), self.num_nodes[:, None]]
        if self.node_types is not None:
            parts.append(self.node_types)
        seen: dict[bytes, int] = {}
        first: list[int] = []
        which: list[int] = []
        for graph, row in enumerate(torch.cat(parts, 1).cpu().numpy()):
            key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            if key not in seen:
                seen[key] = len(first)
                first.append(graph)
            which.append(seen[key])
        device = self.edges.device
        found = replace(self.select(torch.tensor(first, device=device)), labels=None)
        return found, torch.tensor(which, device=device)

    def pad(self, width: int) -> GraphBatch:
        """The same graphs padded to ``width`` nodes.

        Raises:
            GraphError: If a graph has more nodes than that.
        """
        if width < int(self.num_nodes.max()):
            raise GraphError(f"A graph has {int(self.num_nodes.max())} nodes, more than {width}.")
        more = width - self.width
        edges = torch.nn.functional.pad(self.edges, (0, more, 0, more))
        types = self.node_types
        if types is not None:
            types = torch.nn.functional.pad(types, (0, more))
        return GraphBatch(edges, self.num_nodes, types, self.labels)

    def reorder(self, order: Tensor) -> GraphBatch:
        """Every graph with its nodes in another order.

        Args:
            order: (G, n) int64, a permutation a graph that leaves the padding where it is: new node i is old node
                ``order[g, i]``.
        """
        edges = self.edges.gather(1, order[:, :, None].expand_as(self.edges))
        edges = edges.gather(2, order[:, None, :].expand_as(edges))
        types = None if self.node_types is None else self.node_types.gather(1, order)
        return GraphBatch(edges, self.num_nodes, types, self.labels)

    def _map(self, change: object) -> GraphBatch:
        values = (self.edges, self.num_nodes, self.node_types, self.labels)
        return GraphBatch(*(None if v is None else change(v) for v in values))  # type: ignore
