"""Tables over pairs of communities: symmetric ones from their free entries, k <= l, or free ones."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["free_entries", "pair_table", "times_table"]


def free_entries(size: int, symmetric: bool) -> int:
    """How many free entries a (size, size) table has."""
    return size * (size + 1) // 2 if symmetric else size * size


def pair_table(entries: Tensor, size: int, symmetric: bool) -> Tensor:
    """(..., P) -> (..., size, size). Symmetric: entries are those of the upper triangle, row by row."""
    if not symmetric:
        return entries.unflatten(-1, (size, size))
    i, j = torch.triu_indices(size, size, device=entries.device)
    place = torch.empty(size, size, dtype=torch.int64, device=entries.device)
    place[i, j] = place[j, i] = torch.arange(i.numel(), device=entries.device)
    return entries[..., place]


def times_table(memberships: Tensor, table: Tensor) -> Tensor:
    """What node m is to the other end of its dyads, T z_m: (..., N, K) from (..., N, K) and (..., K, K).

    The table of a batch of draws is (..., 1, K, K): where nodes stand at dimension -2, it has its own 1.
    """
    if table.dim() == 2:
        return memberships @ table.mT
    return (memberships.unsqueeze(-3) @ table.mT).squeeze(-3)
