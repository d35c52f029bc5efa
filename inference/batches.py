"""What a step of a fit is told of: the whole graph, or a batch of its dyads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..data import DyadBatches, Graph
from ..guides.encoder import GCNEncoder
from .settings import FitSettings

__all__ = ["told_of"]


def told_of(story: Any, guide: Any, graph: Graph, settings: FitSettings) -> Callable[[], Graph]:
    """A function that gives what the next step is told of.

    Raises:
        ValueError: batches for a story, guide or graph that takes none.
    """
    if not settings.batch_edges:
        return lambda: graph
    if getattr(story, "absent_sample", None) is not None:
        raise ValueError(
            "batch_edges and absent_sample both draw the absent dyads: tell the story with absent_sample=None"
        )
    encoder = getattr(guide, "encoder", None)
    if isinstance(encoder, GCNEncoder) and encoder.edge_dropout:
        raise ValueError(
            "batches are encoded through sampled neighbours, in place of edge dropout: give batch_neighbours, and a "
            "guide with edge_dropout=0"
        )
    batches = DyadBatches(
        graph, settings.batch_edges, settings.batch_nodes, settings.batch_neighbours
    )
    story.check_graph(batches.draw())
    return batches.draw
