r"""Message passing on many small graphs at once, and the gated sum: the parts that the sequential stories share.

References:
    | Gated Graph Sequence Neural Networks (Li, Tarlow, Brockschmidt, Zemel, ICLR 2016)
    | Learning Deep Generative Models of Graphs (Li, Vinyals, Dyer, Pascanu, Battaglia, 2018)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Arcs", "GatedSum", "PairScore", "Propagation", "mlp"]


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One hidden layer of rectified units."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class _Round(nn.Module):
    """The weights of one round of :class:`Propagation`."""

    def __init__(self, hidden: int, edge_types: int) -> None:
        super().__init__()
        self.source = nn.Linear(hidden, hidden)
        self.target = nn.Linear(hidden, hidden, bias=False)
        self.kind = nn.Embedding(edge_types, hidden)
        self.message = nn.Linear(hidden, hidden, bias=False)
        self.cell = nn.GRUCell(hidden, hidden)
        # States start out remembered: they pass through this cell in every step.
        with torch.no_grad():
            self.cell.bias_hh[hidden : 2 * hidden] += 2.0

    def joined(self) -> tuple[Tensor, ...]:
        """The weights, as few as will do, for :func:`_pass`."""
        # The first layer of the message network is a sum of a term of u, one of v and one of the edge, so it is
        # computed a node, not an edge; the second is linear, so it is applied to the sum over the neighbours, and
        # merged with what the cell makes of that.
        source, cell = self.source, self.cell
        ends = torch.cat([source.weight, self.target.weight])
        bias = torch.cat([source.bias, torch.zeros_like(source.bias)])
        arriving = cell.weight_ih @ self.message.weight
        return ends, bias, self.kind.weight, arriving, cell.weight_hh, cell.bias_ih, cell.bias_hh


def _pass(
    h: Tensor,
    source: Tensor,
    target: Tensor,
    kind: Tensor,
    loud: Tensor | None,
    *weights: Tensor,
) -> Tensor:
    """One round. index_select throughout: the gradient of h[index] is several times slower."""
    ends, bias, kinds, *cell = weights
    sends, hears = functional.linear(h, ends, bias).chunk(2, -1)
    message = sends.index_select(0, source) + hears.index_select(0, target)
    if len(kinds) > 1:
        message = message + kinds.index_select(0, kind - 1)
    message = message.relu()
    if loud is not None:
        message = message * loud.index_select(0, source)[:, None]
    arriving = torch.zeros_like(h).index_add(0, target, message)
    return torch.gru_cell(arriving, h, *cell)


class Propagation(nn.Module):
    r"""T rounds of message passing, each with its own parameters, all of them trained.

    .. math::
        m_{uv} = \mathrm{MLP}(h_u, h_v, h_{uv}), \qquad
        h_v \leftarrow \mathrm{GRU}\Big(\sum_{u \in N(v)} m_{uv},\; h_v\Big)

    Arguments:
        hidden: H, length of a node state.
        rounds: T.
        edge_types: number of edge types.
    """

    def __init__(self, hidden: int, rounds: int = 2, edge_types: int = 1) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(_Round(hidden, edge_types) for _ in range(rounds))

    def forward(
        self,
        h: Tensor,
        source: Tensor,
        target: Tensor,
        kind: Tensor,
        loud: Tensor | None = None,
    ) -> Tensor:
        """New node states.

        Arguments:
            h: (M, H) states of the nodes of all graphs.
            source, target: (E,) int64 arcs into the rows of ``h``, both directions of every edge.
            kind: (E,) int64 edge types from 1.
            loud: (M,) weights of the messages that a node sends; 1 if None.
        """
        return self.joined()(h, source, target, kind, loud)

    def joined(self) -> Callable[..., Tensor]:
        """The same map, its weights joined once for all the steps of a story."""
        weights = [cast(_Round, one).joined() for one in self.rounds]

        def propagate(
            h: Tensor,
            source: Tensor,
            target: Tensor,
            kind: Tensor,
            loud: Tensor | None = None,
        ) -> Tensor:
            for own in weights:
                h = _pass(h, source, target, kind, loud, *own)
            return h

        return propagate


class GatedSum(nn.Module):
    r"""The readout :math:`R(h_V) = \sum_v \sigma(g(h_v)) \odot F(h_v)`.

    Arguments:
        hidden: H, length of a node state.
        width: length of the state of the graph.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, width)
        self.value = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        """(..., width) what each node (..., H) adds to the sum."""
        return self.joined()(h)

    def joined(self) -> Callable[[Tensor], Tensor]:
        """The same map, its weights joined once for all the steps of a story."""
        weight = torch.cat([self.gate.weight, self.value.weight])
        bias = torch.cat([self.gate.bias, self.value.bias])

        def terms(h: Tensor) -> Tensor:
            gate, value = functional.linear(h, weight, bias).chunk(2, -1)
            return gate.sigmoid() * value

        return terms


class PairScore(nn.Module):
    """An MLP of (h_u, context), one context for many u; its first layer is computed once a node and once a context.

    Arguments:
        hidden: H, length of a node state and of the hidden layer.
        context: length of the context.
        outputs: numbers a pair.
    """

    def __init__(self, hidden: int, context: int, outputs: int) -> None:
        super().__init__()
        self.node = nn.Linear(hidden, hidden)
        self.context = nn.Linear(context, hidden, bias=False)
        self.out = nn.Linear(hidden, outputs)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """(t, B, outputs) from node states (t, B, H) and contexts (B, C)."""
        return self.out((self.node(h) + self.context(context)).relu())

    def pairs(self, h: Tensor, context: Tensor, which: Tensor) -> Tensor:
        """(P, outputs) from node states (P, H), contexts (C, ...) and the context of each node, (P,) int64."""
        return self.out((self.node(h) + self.context(context).index_select(0, which)).relu())


class Arcs(NamedTuple):
    """Both directions of the edges of A graphs, (E,) each: graph, ends and type."""

    graph: Tensor
    source: Tensor
    target: Tensor
    kind: Tensor

    @classmethod
    def none(cls, device: torch.device) -> Arcs:
        return cls(*torch.zeros((4, 0), dtype=torch.int64, device=device))

    def flat(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sources and targets as rows of (t, A, H) states without their first two dimensions, and types."""
        return self.source * count + self.graph, self.target * count + self.graph, self.kind

    def with_row(self, row: Tensor) -> Arcs:
        """With the edges (A, t) of the new node t."""
        graph, old = row.nonzero(as_tuple=True)
        return self.with_edges(graph, old, torch.full_like(old, row.shape[1]), row[graph, old])

    def with_edges(self, graph: Tensor, old: Tensor, new: Tensor, kind: Tensor) -> Arcs:
        """With edges between nodes ``old`` and ``new``, (E,) each."""
        parts = ((graph, graph), (old, new), (new, old), (kind, kind))
        return Arcs(*(torch.cat([mine, *more]) for mine, more in zip(self, parts, strict=True)))

    def only(self, stay: Tensor, count: int) -> Arcs:
        """Those of some of the ``count`` graphs, which are numbered anew."""
        place = stay.new_full((count,), -1)
        place[stay] = torch.arange(len(stay), device=stay.device)
        graph = place.index_select(0, self.graph)
        there = (graph >= 0).nonzero()[:, 0]
        return Arcs(*(x.index_select(0, there) for x in (graph, *self[1:])))
