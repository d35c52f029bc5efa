"""Draws from a guide, many at once: one pass of the encoder, one plate over draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import nn

from ..data import Graph
from ..models.dyadic import Dyadic

__all__ = ["chunk_size", "edge_distribution", "evaluation_mode", "posterior_traces", "prior_traces"]

_ELEMENTS = 20_000_000  # numbers a chunk of draws may hold in one site


def chunk_size(graph: Graph, width: int, draws: int) -> int:
    """How many draws fit in one pass when a site has ``width`` numbers a node."""
    return max(1, min(draws, _ELEMENTS // max(1, graph.num_nodes * width)))


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """No gradients, no dropout; the training flags come back afterwards."""
    before = [m.training for m in modules]
    try:
        for m in modules:
            m.eval()
        with torch.no_grad(), pyro.get_param_store().scope():
            yield
    finally:
        for m, training in zip(modules, before, strict=True):
            m.train(training)


def posterior_traces(
    story: Callable[..., Any], guide: Callable[..., Any], graph: Graph, draws: int, chunk: int
) -> Iterator[Trace]:
    """Traces of the story replayed on draws of the guide, ``chunk`` draws at a time along dimension -2.

    The densities are not computed; the ``edges`` site carries its distribution. Call in :func:`evaluation_mode`.
    """
    for size in _chunks(draws, chunk):
        with pyro.plate("draws", size, dim=-2):
            guide_trace = poutine.trace(guide).get_trace(graph)
            yield poutine.trace(poutine.replay(story, guide_trace)).get_trace(graph)


def prior_traces(
    story: Callable[..., Any], graph: Graph, draws: int, chunk: int
) -> Iterator[Trace]:
    """Traces of the story with latents from its prior, otherwise as :func:`posterior_traces`.

    What is observed of the graph stays observed: only the latents, and so the law of the edges, are of the prior.
    """
    for size in _chunks(draws, chunk):
        with pyro.plate("draws", size, dim=-2):
            yield poutine.trace(story).get_trace(graph)


def _chunks(draws: int, chunk: int) -> Iterator[int]:
    for done in range(0, draws, chunk):
        yield min(chunk, draws - done)


def edge_distribution(trace: Trace) -> Dyadic:
    """The exact likelihood of a trace's edges: batch shape (draws, 1), never tempered."""
    return trace.nodes["edges"]["fn"].untempered()
