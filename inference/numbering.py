"""How communities are numbered: the order of a fit, in words, and one order for the draws of Markov chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor

from ..data import Graph
from .alignment import align_draws, relabel_draws
from .draws import evaluation_mode
from .seeds import seeded

__all__ = ["align_posterior", "fit_numbering", "order_in_words"]

_OVER = ("community", "community_to")


def fit_numbering(story: Any, guide: Any, graph: Graph) -> Tensor | None:
    """Which of the guide's communities comes first, second, ...: (K,); None where the story itself says it.

    The prior of a block model is the same for every numbering of the blocks, and the guide has one of them by the
    accident of its start: blocks are sorted by their expected number of members, the largest first. An Indian buffet
    process has its communities in the order of the sticks.
    """
    if "membership" not in story.dims:
        return None
    with seeded(0, graph.device), evaluation_mode(guide):
        q = poutine.trace(guide).get_trace(graph).nodes["membership"]["fn"].probs
    return q.sum(0, dtype=torch.float64).sort(descending=True, stable=True).indices


def order_in_words(story: Any, drawn: str) -> str:
    """How the communities of draws of a "fit", of "chains" or of the "prior" are numbered."""
    if not any(dim in _OVER for named in story.dims.values() for dim in named):
        return "the story has no communities"
    if drawn == "chains":
        return (
            "as drawn: the draws of one chain, and chains, may number the same communities differently (label "
            "switching); align_posterior gives them one numbering"
        )
    if "membership" not in story.dims:
        return "that of the sticks, which the prior tells apart: pi_1 > pi_2 > ..."
    if drawn == "prior":
        return "as drawn: the prior is the same for every numbering of the blocks"
    return (
        "by the expected number of members, the largest first: the prior is the same for every numbering of the blocks "
        "(the guide's own numbers: attribute communities_of_guide)"
    )


def align_posterior(posterior: Any, reference: ArrayLike | None = None) -> Any:
    """One numbering of the communities for all draws of all chains: undoes label switching.

    The draws are matched to each other, or to a reference, by :func:`align_draws`, and all that is listed by community
    goes along. Without a reference, communities are then sorted by their members, the largest first. Sticks have a
    meaning in their own order alone: in their place comes ``stick_probs``, pi_k = v_1 ... v_k, of the community.

    Arguments:
        posterior: ArviZ data whose group ``posterior`` has ``memberships`` (chain, draw, node, community) or
            ``membership`` (chain, draw, node). It is not changed.
        reference: (N, K) memberships or probabilities to match.

    Returns:
        a copy with the group ``posterior`` renumbered, and an attribute ``communities_order`` that says so.

    Raises:
        ValueError: a posterior without communities; a reference of another shape.
    """
    aligned = posterior.copy()
    group = aligned.posterior
    blocks = "membership" in group
    if not blocks and "memberships" not in group:
        raise ValueError(
            "the posterior has neither 'memberships' nor 'membership': only stories with communities have numbers to "
            "align"
        )
    if blocks:
        z = _flat(group["membership"].values, 1)[..., None] == np.arange(group.sizes["community"])
    else:
        z = _flat(group["memberships"].transpose("chain", "draw", "node", "community").values, 2)
    permutations = align_draws(z, reference)
    if reference is None:
        sizes = relabel_draws(z, permutations).sum((0, 1), dtype=np.float64)
        permutations = permutations[:, np.argsort(-sizes, kind="stable")]
    for name, variable in list(group.data_vars.items()):
        value = variable.values
        chains = value.shape[:2]
        if name == "membership":
            value = relabel_draws(_flat(value, 1), permutations)
        elif name == "sticks":
            value = np.cumprod(_flat(value, value.ndim - 2), axis=-1)
        else:
            value = _flat(value, value.ndim - 2)
        for axis, dim in enumerate(variable.dims[2:], start=1):
            if dim in _OVER:
                shape = [
                    len(value) if a == 0 else -1 if a == axis else 1 for a in range(value.ndim)
                ]
                value = np.take_along_axis(value, permutations.reshape(shape), axis=axis)
        # as an array with its coordinates: a DataTree takes nothing less
        renumbered = variable.copy(data=value.reshape(*chains, *value.shape[1:]))
        if name == "sticks":
            del group["sticks"]
        group["stick_probs" if name == "sticks" else name] = renumbered
    aligned.attrs["communities_order"] = (
        "aligned to a reference"
        if reference is not None
        else "aligned, the largest community first"
    )
    return aligned


def _flat(values: np.ndarray, kept: int) -> np.ndarray:
    """Chains laid end to end; the last dimensions are kept."""
    return values.reshape(-1, *values.shape[values.ndim - kept :])
