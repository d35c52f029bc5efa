"""Importance weights of a guide: what its draws say of the ELBO, of log p(A), and of how close the guide is."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..data import Graph
from .draws import chunk_size, density_by_draw, evaluation_mode
from .elbo import InferenceError
from .relaxation import exact_memberships
from .seeds import seeded

__all__ = ["log_importance_weights"]


def log_importance_weights(
    story: Any, guide: Any, graph: Graph, draws: int = 1000, seed: int = 0
) -> Tensor:
    r"""Draw from the guide and weigh: :math:`\log w = \log p(A, \theta) - \log q(\theta)`, in nats, (draws,).

    Their mean is the ELBO, a lower bound of log p(A); the logarithm of the mean of w is, in expectation, a tighter one
    (Burda, Grosse and Salakhutdinov 2016), and consistent where the weights have a finite variance.

    Arguments:
        draws: independent draws of the guide.
        seed: of the draws.

    Raises:
        ValueError: no draws asked for.
        InferenceError: a guide whose sites are not those of the story.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    found: list[Tensor] = []
    with (
        seeded(seed, graph.device),
        evaluation_mode(story, guide),
        exact_memberships(story, guide),
    ):
        chunk = chunk_size(graph, max(story.width, 1), draws)
        for start in range(0, draws, chunk):
            with pyro.plate("draws", min(chunk, draws - start), dim=-2):
                q = poutine.trace(guide).get_trace(graph)
                p = poutine.trace(poutine.replay(story, q)).get_trace(graph)
            if set(q.stochastic_nodes) != set(p.stochastic_nodes):
                raise InferenceError("the latent sites of story and guide are not the same")
            found.append(density_by_draw(p) - density_by_draw(q))
    return torch.cat(found)
