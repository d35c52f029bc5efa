"""Graphs drawn from a story: from its prior, or from the posterior predictive of a fit."""

from __future__ import annotations

from typing import Any

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
            pairs, x = edge_distribution(trace).one(0).sample_entries()
            title = f"{graph.title}, draw {len(found)}"
            found.append(_graph(story, graph.num_nodes, pairs, x, title, like=graph))
    return found


def _prior_graph(story: Any, index: int) -> Graph:
    adjacency = poutine.trace(story).get_trace().nodes["edges"]["value"].to_sparse().coalesce()
    pairs, x = adjacency.indices(), adjacency.values()
    if story.kind != "directed":
        pairs, x = pairs[:, pairs[0] < pairs[1]], x[pairs[0] < pairs[1]]
    return _graph(story, adjacency.shape[0], pairs, x, f"prior draw {index}")


def _graph(
    story: Any, num_nodes: int, pairs: Tensor, x: Tensor, title: str, like: Graph | None = None
) -> Graph:
    extra: dict[str, Any] = {"directed": story.kind == "directed", "parts": story.parts_of(like)}
    if like is not None:
        extra |= {"names": like.names, "labels": like.labels, "label_names": like.label_names}
    if story.likelihood != "bernoulli":
        extra["weights"] = x
    return Graph(num_nodes, pairs, title=title, allow_empty=True, **extra)
