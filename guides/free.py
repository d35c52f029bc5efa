"""Encoders of nodes: the convolutional one, or a free one that gives every node parameters of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data import DyadBatch, Graph
from .encoder import GCNEncoder

__all__ = ["FreeEncoder", "node_encoder"]


class FreeEncoder(nn.Module):
    """What a guide that is not amortised reads: a table of parameters for every head.

    It has the calls of :class:`~graphlore.guides.GCNEncoder`. It looks at no edges and is of one graph's nodes only;
    the variational optimum over it is that of the family itself, without what amortisation costs.

    Arguments:
        graph: whose nodes it is for.
        heads: length of each output.
    """

    def __init__(self, graph: Graph, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.options: dict[str, Any] = {}
        self.num_nodes = graph.num_nodes
        self.heads = nn.ParameterDict(
            {name: nn.Parameter(0.1 * torch.randn(graph.num_nodes, k)) for name, k in heads.items()}
        )

    def forward(self, graph: Graph) -> tuple[dict[str, Tensor], None]:
        """({head: (N, size)}, None): there is no hidden layer."""
        whole = graph.whole if isinstance(graph, DyadBatch) else graph
        if whole.num_nodes != self.num_nodes:
            raise ValueError(
                f"this guide has parameters for {self.num_nodes} nodes, the graph has {whole.num_nodes}: other nodes "
                "need an amortised guide with inputs='features'"
            )
        if isinstance(graph, DyadBatch):
            return {name: x.index_select(0, graph.nodes) for name, x in self.heads.items()}, None
        return dict(self.heads.items()), None

    def start(self, head: str, level: float, spread: float) -> None:
        """Have a head give ``level`` at the start, and its own values times ``spread`` around it."""
        with torch.no_grad():
            self.heads[head].mul_(spread).add_(level)

    def imitate(self, head: str, graph: Graph, values: Tensor) -> None:
        """Have a head start at given values, (N, size)."""
        with torch.no_grad():
            self.heads[head].copy_(values)

    def scatter(self, head: str, graph: Graph, spread: float) -> None:
        """Have every column of a head start with mean 0 and standard deviation ``spread`` over the nodes."""
        with torch.no_grad():
            x = self.heads[head].normal_()
            x.sub_(x.mean(0)).mul_(spread / x.std(0))


def node_encoder(
    graph: Graph, heads: Mapping[str, int], amortised: bool, options: dict[str, Any]
) -> GCNEncoder | FreeEncoder:
    """The encoder of a guide.

    Raises:
        ValueError: options of the convolutional encoder for a guide that has none.
    """
    if amortised:
        return GCNEncoder(graph, heads, **options)
    if options:
        raise ValueError(
            f"amortised=False has no encoder: {', '.join(sorted(options))} would do nothing; leave it out"
        )
    return FreeEncoder(graph, heads)
