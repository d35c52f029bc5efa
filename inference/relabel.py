"""Moves between the labellings of communities, under which the likelihood does not change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .joint import Joint, Values

__all__ = ["permute_blocks", "swap_communities"]


def permute_blocks(story: Any, values: Values) -> Values:
    """Renumber the blocks of a block model at random: its prior and likelihood are the same for every numbering.

    References:
        | Markov chain Monte Carlo estimation of classical and dynamic switching and mixture models
          (Frühwirth-Schnatter, JASA 2001)
    """
    order = torch.randperm(story.num_blocks)  # the new block a is the old block order[a]
    table = story.table_site
    return {
        **values,
        "membership": order.argsort()[values["membership"]],
        "community_weights": values["community_weights"][order],
        table: _permuted(story, values[table], order),
    }


def swap_communities(joint: Joint, values: Values) -> Values:
    """Propose that two communities change places, with all that is theirs but their sticks; Metropolis.

    Where the likelihood does not care for the numbers of communities, as in LFRM, the sticks decide.
    """
    K = joint.story.width
    if K < 2:
        return values
    first, second = torch.randperm(K)[:2].tolist()
    order = torch.arange(K)
    order[first], order[second] = second, first
    proposed = dict(values)
    for name in ("memberships", "strengths"):
        if name in values:
            proposed[name] = values[name][..., order]
    if "affinity" in values:
        proposed["affinity"] = _permuted(joint.story, values["affinity"], order)
    with torch.no_grad():
        change = joint.log_density(proposed) - joint.log_density(values)
    return proposed if float(torch.rand(())) < float(change.clamp(max=0.0).exp()) else values


def _permuted(story: Any, entries: Tensor, order: Tensor) -> Tensor:
    """Free entries of a table whose rows and columns are taken in another order."""
    K = len(order)
    place = story.table(torch.eye(len(entries))).flatten(1).argmax(1)  # where an entry stands
    return story.table(entries)[order][:, order][place // K, place % K]
