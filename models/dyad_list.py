"""All dyads of a graph in a list, row by row, and random members of it, in O(number drawn)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DyadList", "across", "sorted_draws", "thinned"]


@dataclass(frozen=True)
class DyadList:
    """The dyads of a graph, observed or not, in the order of their first end and then of their second.

    A bipartite graph's are in that of the node of side 0, then of side 1.

    Attributes:
        num_nodes: N.
        directed: whether (i, j) and (j, i) are two dyads; else i < j.
        parts: the side of every node of a bipartite graph, (N,), or None.
    """

    num_nodes: int
    directed: bool = False
    parts: Tensor | None = None

    def __len__(self) -> int:
        n = self.num_nodes
        if self.parts is not None:
            first = int((self.parts == 0).sum())
            return first * (n - first)
        return n * (n - 1) if self.directed else n * (n - 1) // 2

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """Ids of the nodes of either side of a bipartite graph."""
        assert self.parts is not None
        return (self.parts == 0).nonzero()[:, 0], (self.parts == 1).nonzero()[:, 0]

    def places(self, pairs: Tensor) -> Tensor:
        """Where dyads stand: (P,) from (2, P), of a bipartite graph with the node of side 0 first."""
        n, (i, j) = self.num_nodes, pairs
        if self.parts is not None:
            row, column = ((self.parts == side).cumsum(0) - 1 for side in (0, 1))
            return row[i] * len(self.sides[1]) + column[j]
        if self.directed:
            return i * (n - 1) + j - (j > i).long()
        return _row_starts(n, i) + j - i - 1

    def at(self, places: Tensor) -> Tensor:
        """The dyads that stand at sorted places: (2, P) from (P,), i < j unless directed."""
        n = self.num_nodes
        if self.parts is not None:
            sides = self.sides
            return across(sides, places // len(sides[1]), places % len(sides[1]))
        if self.directed:
            i, j = places // (n - 1), places % (n - 1)
            return torch.stack((i, j + (j >= i).long()))
        starts = _row_starts(n, torch.arange(n + 1, device=places.device))
        i = torch.repeat_interleave(torch.searchsorted(places, starts).diff())
        return torch.stack((i, places - starts[i] + i + 1))


def across(sides: tuple[Tensor, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    """Dyads of a bipartite graph, i < j, (2, P), by the places of their nodes in either side, (P,) each."""
    i, j = sides[0][rows], sides[1][columns]
    return torch.stack((torch.minimum(i, j), torch.maximum(i, j)))


def _row_starts(nodes: int, row: Tensor) -> Tensor:
    """How many of the dyads i < j have i below ``row``."""
    return row * (2 * nodes - row - 1) // 2


def sorted_draws(size: int, count: int, device: torch.device) -> Tensor:
    """So many independent uniform whole numbers below ``size``, sorted, without a sort: (count,) int64.

    The partial sums of exponential variables over the sum of one more are the order statistics of uniform ones.
    """
    steps = torch.empty(count + 1, dtype=torch.float64, device=device).exponential_()
    sums = steps.cumsum(0)
    return (sums[:-1] / sums[-1] * size).long().clamp_(max=size - 1)


def thinned(size: int, rate: float, device: torch.device) -> Tensor:
    """Whole numbers below ``size``, each there with probability ``rate`` and independently of the others, sorted.

    The gaps between them are geometric.
    """
    mean = size * rate
    count = math.ceil(
        mean + 8.0 * math.sqrt(mean) + 16.0
    )  # more than that come once in 10^15 times
    found = torch.full((1,), -1, dtype=torch.int64, device=device)
    while int(found[-1]) < size:
        gaps = torch.empty(count, dtype=torch.float64, device=device).exponential_()
        gaps = (gaps / -math.log1p(-rate)).long() + 1
        found = torch.cat((found, found[-1] + gaps.cumsum(0)))
    return found[1:][found[1:] < size]
