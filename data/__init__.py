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
from .datasets import catalogue, karate, load, planetoid
from .dyad_batch import DyadBatch, DyadBatches
from .edgelists import EdgeList, parse_edge_list, read_pairs
from .files import read_graph, write_npz
from .graph import Graph
from .graphbatch import GraphBatch
from .graphfamilies import cycles, grids, trees
from .graphset import GraphSet
from .graphset_files import (
    catalogue_of_sets,
    holds_set,
    load_set,
    read_graphset,
    write_graphset,
)
from .matrices import from_biadjacency, from_dense, from_scipy
from .orders import NodeOrder, canonical_orders, random_orders
from .simulate import kesten_stigum, planted_features, planted_partition, symmetric_partition
from .splits import Split, given_split, random_split, sample_absent, sample_dyads
from .validation import GraphError

__all__ = [
    "DyadBatch",
    "DyadBatches",
    "EdgeList",
    "Graph",
    "GraphBatch",
    "GraphError",
    "GraphSet",
    "NodeOrder",
    "Split",
    "as_graph",
    "canonical_orders",
    "catalogue",
    "catalogue_of_sets",
    "cycles",
    "from_biadjacency",
    "from_dense",
    "from_edges",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "given_split",
    "grids",
    "holds_set",
    "karate",
    "kesten_stigum",
    "load",
    "load_set",
    "parse_edge_list",
    "planetoid",
    "planted_features",
    "planted_partition",
    "random_orders",
    "random_split",
    "read_graph",
    "read_graphset",
    "read_pairs",
    "sample_absent",
    "sample_dyads",
    "symmetric_partition",
    "to_networkx",
    "to_pyg",
    "trees",
    "write_graphset",
    "write_npz",
]
