"""Orders of nodes, canonical and random, in which a sequential story is told of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import networkx as nx
import torch
from torch import Tensor

from .graphbatch import GraphBatch
from .graphset import GraphSet
from .validation import GraphError

__all__ = ["NodeOrder", "canonical_orders", "random_orders"]

NodeOrder = Literal["breadth-first", "depth-first", "given"]


def canonical_orders(graphs: GraphSet, kind: NodeOrder = "breadth-first") -> Tensor:
    """(G, n) int64 orders for :meth:`GraphBatch.reorder`, n the largest number of nodes.

    Args:
        graphs: G graphs.
        kind: "breadth-first" or "depth-first" from node 0, neighbours by their number, components by their smallest
            node; "given" keeps the numbering.

    Raises:
        GraphError: On an unknown kind.
    """
    walks: dict[str, Callable[[nx.Graph, int], Iterator[tuple[int, int]]]] = {
        "breadth-first": lambda graph, root: nx.bfs_edges(graph, root, sort_neighbors=sorted),
        "depth-first": lambda graph, root: nx.dfs_edges(graph, root, sort_neighbors=sorted),
    }
    if kind not in (*walks, "given"):
        raise GraphError(f"An order is breadth-first, depth-first or given, not {kind!r}.")
    width = int(graphs.num_nodes.max())
    orders = torch.arange(width).repeat(len(graphs), 1)
    if kind == "given":
        return orders
    for g, graph in enumerate(graphs.to_networkx()):
        order: dict[int, None] = {}  # a set that keeps the order
        for root in graph:
            if root not in order:
                order.update(dict.fromkeys([root, *(v for _, v in walks[kind](graph, root))]))
        orders[g, : len(graph)] = torch.tensor(list(order))
    return orders


def random_orders(batch: GraphBatch) -> Tensor:
    """(G, n) int64, for each graph one of its n! orders, all equally likely (torch's global generator)."""
    keys = torch.rand(batch.mask.shape, device=batch.edges.device)
    place = torch.arange(batch.width, device=keys.device)
    return torch.where(batch.mask, keys, 1.0 + place).argsort(1)
