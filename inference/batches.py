"""What a step of a fit is told of: the whole graph, or a batch of its dyads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..data import DyadBatches, Graph
from ..guides.encoder import GCNEncoder
from ..models import NodeStory
from .defaults import MANY_DYADS
from .settings import FitSettings

__all__ = ["told_of"]

_log = logging.getLogger(__name__)


def told_of(story: Any, guide: Any, graph: Graph, settings: FitSettings) -> Callable[[], Graph]:
    """A function that gives what the next step is told of.

    Raises:
        ValueError: batches for a story, guide or graph that takes none.
    """
    if not settings.batch_edges:
        if _visits_many(story, graph):
            _log.warning(
                "%s: every step visits all %s dyads; batch_edges=8192, or a story with absent_sample, draws some of "
                "them with exact weights",
                graph.title,
                f"{graph.num_dyads:,}",
            )
        return lambda: graph
    story.check_graph(graph)
    story.check_batches()
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
    sizes = (settings.batch_edges, settings.batch_nodes, settings.batch_neighbours)
    return DyadBatches(graph, *sizes).draw


def _visits_many(story: Any, graph: Graph) -> bool:
    sampled = getattr(story, "absent_sample", None) is not None
    takes_batches = isinstance(story, NodeStory) and story.takes_batches
    return takes_batches and not sampled and graph.num_dyads > MANY_DYADS
