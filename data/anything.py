"""One door for whatever holds a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sp
from torch import Tensor

from .convert import from_networkx, from_pyg
from .datasets import load
from .graph import Graph
from .matrices import from_dense, from_scipy
from .validation import GraphError

__all__ = ["as_graph"]


def as_graph(source: Any, **options: Any) -> Graph:
    """A graph from whatever holds one.

    Args:
        source: A :class:`Graph` (returned as it is), a NetworkX graph, a SciPy sparse or dense
            (NumPy, torch) adjacency matrix, a PyG ``Data``, or a dataset name or file path.
        **options: Passed on to the function for that form.

    Raises:
        GraphError: If the form is not known, or that function refuses it.
    """
    if isinstance(source, Graph):
        if options:
            raise GraphError(f"A Graph is taken as it is; it has no use for {', '.join(options)}.")
        return source
    if isinstance(source, str | Path):
        return load(source, **options)
    if isinstance(source, nx.Graph):
        return from_networkx(source, **options)
    if sp.issparse(source):
        return from_scipy(source, **options)
    if isinstance(source, np.ndarray | Tensor):
        return from_dense(source, **options)
    if hasattr(source, "edge_index") and hasattr(source, "num_nodes"):
        return from_pyg(source, **options)
    raise GraphError(
        f"Cannot read a graph from {type(source).__name__}; known are Graph, NetworkX graphs, "
        "SciPy sparse and NumPy or torch dense adjacency matrices, PyG Data, dataset names and "
        "file paths. Lists of pairs go through from_edges."
    )
