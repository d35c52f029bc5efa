"""Graphs in and out: the :class:`Graph` value, converters, files, datasets and splits."""

from __future__ import annotations

from .anything import as_graph
from .convert import (
    from_dense,
    from_edges,
    from_networkx,
    from_pyg,
    from_scipy,
    to_networkx,
    to_pyg,
)
from .datasets import karate, load, planetoid
from .files import read_graph, write_npz
from .graph import Graph
from .graphbatch import GraphBatch
from .graphfamilies import cycles, grids, trees
from .graphset import GraphSet, read_graphset
from .orders import NodeOrder, canonical_orders, random_orders
from .splits import Split, given_split, random_split
from .validation import GraphError

__all__ = [
    "Graph",
    "GraphBatch",
    "GraphError",
    "GraphSet",
    "NodeOrder",
    "Split",
    "as_graph",
    "canonical_orders",
    "cycles",
    "from_dense",
    "from_edges",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "given_split",
    "grids",
    "karate",
    "load",
    "planetoid",
    "random_orders",
    "random_split",
    "read_graph",
    "read_graphset",
    "to_networkx",
    "to_pyg",
    "trees",
    "write_npz",
]
