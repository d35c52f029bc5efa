"""Graphs drawn from a story: from its prior, or from the posterior predictive of a fit."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ..data import Graph
from .draws import edge_distribution, evaluation_mode, posterior_traces

__all__ = ["generate_posterior", "generate_prior"]


def generate_prior(story: Any, count: int = 1, num_nodes: int | None = None) -> list[Graph]:
    """Graphs from the prior; the weights of networks are the story's current ones.

    Arguments:
        num_nodes: nodes of each graph; the story's own number if None.
    """
    before = story.num_nodes
    story.num_nodes = before if num_nodes is None else num_nodes
    try:
        with evaluation_mode(story):
            return [_prior_graph(story, i) for i in range(count)]
    finally:
        story.num_nodes = before


def generate_posterior(story: Any, guide: Any, graph: Graph, count: int = 1) -> list[Graph]:
    """Graphs from the posterior predictive, one for each posterior draw; nodes keep names and labels."""
    found: list[Graph] = []
    with evaluation_mode(story, guide):
        for trace in posterior_traces(story, guide, graph, count, 1):
            pairs = edge_distribution(trace).one(0).sample_edges()
            found.append(
                _graph(graph.num_nodes, pairs, f"{graph.title}, draw {len(found)}", like=graph)
            )
    return found


def _prior_graph(story: Any, index: int) -> Graph:
    adjacency = poutine.trace(story).get_trace().nodes["edges"]["value"]
    pairs = adjacency.indices() if adjacency.is_sparse else adjacency.nonzero().T
    return _graph(adjacency.shape[0], pairs[:, pairs[0] < pairs[1]], f"prior draw {index}")


def _graph(num_nodes: int, pairs: Tensor, title: str, like: Graph | None = None) -> Graph:
    extra: dict[str, Any] = {}
    if like is not None:
        extra = {"names": like.names, "labels": like.labels, "label_names": like.label_names}
    order = torch.argsort(pairs[0] * num_nodes + pairs[1])
    return Graph(num_nodes, pairs[:, order], title=title, allow_empty=True, **extra)
