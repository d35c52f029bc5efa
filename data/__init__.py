"""Graphs in and out: the :class:`Graph` value, converters, files, datasets, simulators and splits."""

from __future__ import annotations

from .anything import as_graph
from .convert import (
    from_edges,
    from_networkx,
    from_pyg,
    to_networkx,
    to_pyg,
)
from .datasets import karate, load, planetoid
from .files import read_graph, write_npz
from .graph import Graph
from .matrices import from_biadjacency, from_dense, from_scipy
from .simulate import kesten_stigum, planted_features, planted_partition, symmetric_partition
from .splits import Split, given_split, random_split
from .validation import GraphError

__all__ = [
    "Graph",
    "GraphError",
    "Split",
    "as_graph",
    "from_biadjacency",
    "from_dense",
    "from_edges",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "given_split",
    "karate",
    "kesten_stigum",
    "load",
    "planetoid",
    "planted_features",
    "planted_partition",
    "random_split",
    "read_graph",
    "symmetric_partition",
    "to_networkx",
    "to_pyg",
    "write_npz",
]
