"""Removal moves: communities that the bound does without are emptied, which no small step would do.

Gradient steps keep a community that is of no use: two blocks that share the nodes of one, or a feature that moves no
edge. To be rid of it, all its nodes must leave at once. So every now and then the removal of each community is tried
(its nodes leave it, or join another block), and kept where the ELBO is higher for it. The bound never falls by more
than the noise of its estimate, and the story's own prior decides how many communities are left.

References:
    | Memoized online variational inference for Dirichlet process mixture models (Hughes and Sudderth, 2013): the
      merges of mixtures, of which this is the form for graphs
"""

from __future__ import annotations

from typing import Any

import torch

from ..data import Graph
from .elbo import DyadicELBO, InferenceError
from .expectation import ExpectationELBO
from .run import Run

__all__ = ["check_removals", "remove_communities"]

_DRAWS = 10  # of the bound; the same random numbers before and after a removal


def check_removals(guide: Any) -> None:
    """Refuse a guide that cannot take communities away.

    Raises:
        ValueError: not a guide of SBM or LFRM with ``amortised=False``.
    """
    if not getattr(guide, "can_remove", False):
        raise ValueError(
            "remove_every is for the guides of SBM and LFRM with amortised=False (and exact memberships): leave it "
            "out, or give the guide amortised=False"
        )


def remove_communities(run: Run, graph: Graph) -> int:
    """Keep the removal that raises the bound most, until none does; returns how many were kept."""
    story = run.story
    guide: Any = run.guide  # one that has the moves: see check_removals
    kept = 0
    with torch.no_grad():
        bound = _bound(story, guide, graph)
        while True:
            now = {k: v.clone() for k, v in guide.state_dict().items()}
            best = None
            for community, into in guide.removals(graph):
                guide.remove(graph, community, into)
                proposed = _bound(story, guide, graph)
                if proposed > bound:
                    bound = proposed
                    best = {k: v.clone() for k, v in guide.state_dict().items()}
                guide.load_state_dict(now)
            if best is None:
                break
            guide.load_state_dict(best)
            kept += 1
    if kept:
        run.forget_momentum()
    return kept


def _bound(story: Any, guide: Any, graph: Graph) -> float:
    """The ELBO (nats), averaged over the same draws at every call."""
    total = 0.0
    with torch.random.fork_rng(devices=[graph.device] if graph.device.type == "cuda" else []):
        torch.manual_seed(0)
        elbo: DyadicELBO = ExpectationELBO()
        for _ in range(_DRAWS):
            try:
                elbo.differentiable_loss(story, guide, graph)
            except InferenceError:
                if not isinstance(elbo, ExpectationELBO):
                    raise
                elbo = DyadicELBO()  # memberships that cannot be summed out are drawn
                elbo.differentiable_loss(story, guide, graph)
            total += elbo.last["elbo"]
    return total / _DRAWS
