"""Draws from a guide, many at once: one pass of the encoder, one plate over draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from ..data import Graph
from ..models.dyadic import Dyadic

__all__ = [
    "chunk_size",
    "conditioned_traces",
    "density_by_draw",
    "edge_distribution",
    "evaluation_mode",
    "guide_draws",
    "posterior_traces",
    "prior_traces",
]

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


def guide_draws(story: Any, guide: Any, graph: Graph, draws: int) -> dict[str, Tensor]:
    """Latents of a node-level story from its guide, by site: (draws, ...). Call in :func:`evaluation_mode`."""
    found: dict[str, list[Tensor]] = {name: [] for name in story.dims}
    chunk = chunk_size(graph, max(story.width, 1), draws)
    for trace in posterior_traces(story, guide, graph, draws, chunk):
        for name, dims in story.dims.items():
            value = trace.nodes[name]["value"]
            found[name].append(value if "node" in dims else value[:, 0])
    return {name: torch.cat(values) for name, values in found.items()}


def conditioned_traces(
    story: Any, graph: Graph, values: Mapping[str, Tensor], chunk: int
) -> Iterator[Trace]:
    """Traces of a node-level story at given latents (draws, ...), ``chunk`` draws at a time along dimension -2."""
    placed = {  # what is not a node's has the node plate's dimension too, of length 1
        n: v if "node" in story.dims[n] else v.unsqueeze(1) for n, v in values.items()
    }
    draws = len(next(iter(placed.values())))
    for start in range(0, draws, chunk):
        part = {n: v[start : start + chunk] for n, v in placed.items()}
        with pyro.plate("draws", min(chunk, draws - start), dim=-2):
            yield poutine.trace(poutine.condition(story, part)).get_trace(graph)


def density_by_draw(trace: Trace) -> Tensor:
    """log density of each draw, (draws,): everything that stands behind the plate of draws is summed."""
    trace.compute_log_prob()
    total: Tensor | float = 0.0
    for site in trace.nodes.values():
        density = site.get("log_prob")
        if torch.is_tensor(density) and density.dim() >= 2:  # a plate has a plain number
            total = total + density.sum(-1)
    assert isinstance(total, Tensor)
    return total


def edge_distribution(trace: Trace) -> Dyadic:
    """The exact likelihood of a trace's edges: batch shape (draws, 1), never tempered."""
    return trace.nodes["edges"]["fn"].untempered()
