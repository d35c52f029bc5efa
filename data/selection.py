"""A graph's fields for some of its nodes, in an order of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .dyads import dyad_keys, dyads_of, orient
from .validation import GraphError, few

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["check_selection", "fields_of_selection"]


def check_selection(graph: Graph, ids: Tensor) -> None:
    """Refuses (M,) node ids that make no graph of their own."""
    unique, counts = torch.unique(ids, return_counts=True)
    if unique.numel() < ids.numel():
        raise GraphError(f"Repeated nodes in subgraph: {few(unique[counts > 1].tolist())}.")
    if ids.numel() < 2:
        raise GraphError("A subgraph needs at least two nodes.")
    if graph.parts is not None and torch.unique(graph.parts[ids]).numel() < 2:
        raise GraphError("A subgraph of a bipartite graph needs nodes of both sides.")


def fields_of_selection(graph: Graph, ids: Tensor) -> dict[str, Any]:
    """The fields that change when new node k is old node ``ids[k]``, in normal form."""
    place = torch.full((graph.num_nodes,), -1, device=graph.device)
    place[ids] = torch.arange(ids.numel(), device=graph.device)

    def moved(pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs that stay, in normal form, and which of the old ones they were."""
        new = place[pairs]
        stay = (new >= 0).all(0).nonzero()[:, 0]
        keys, order = dyad_keys(orient(new[:, stay], graph.directed), ids.numel()).sort()
        return dyads_of(keys, ids.numel()), stay[order]

    edges, which = moved(graph.edge_index)
    features = graph.features
    if features is not None:
        features = features.index_select(0, ids)
        features = features.coalesce() if features.is_sparse else features
    return {
        "num_nodes": ids.numel(),
        "edge_index": edges,
        "weights": None if graph.weights is None else graph.weights[which],
        "missing": moved(graph.missing)[0],
        "parts": None if graph.parts is None else graph.parts[ids],
        "features": features,
        "labels": None if graph.labels is None else graph.labels[ids],
        "names": None if graph.names is None else tuple(graph.names[i] for i in ids.tolist()),
    }
