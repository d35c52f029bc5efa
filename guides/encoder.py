"""The graph convolutional network that amortises the node-level guides."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import DyadBatch, Graph
from ..data.sparse import by_rows, quietly, some_rows
from .convolution import Adjacency, Convolution, normalised

__all__ = ["GCNEncoder", "normalised_adjacency"]

_IMITATION_STEPS = 100

Inputs = Literal["auto", "features", "one-hot", "both"]


class GCNEncoder(nn.Module):
    """Graph convolutions shared by all heads, then one more convolution a head.

    A hidden layer is a graph convolution, activation and dropout; the last one is linear. Only observed edges carry
    messages.

    Arguments:
        graph: what the encoder is built for: the length of its features, and N for one-hot inputs.
        heads: length of each output.
        hidden: widths of the shared layers, at least one.
        inputs: node inputs: "features", "one-hot" (an own embedding for each node, which ties the encoder to these
            nodes), "both", or "auto": features if there are any.
        feature_scaling: "tf-idf" weighs binary or count features by inverse document frequency in ``graph`` and gives
            every node unit length; None takes features as they are.
        activation: "leaky_relu" (slope 0.2, the paper's) or "elu".
        layer_norm: normalise the first hidden layer of every node.
        dropout: probability of zeroing a hidden value in training.
        input_dropout: the same for features.
        edge_dropout: probability that an edge carries no message in a training step. The likelihood keeps all edges.

    Raises:
        ValueError: an unknown option; features asked for that the graph does not have.
    """

    def __init__(
        self,
        graph: Graph,
        heads: Mapping[str, int],
        *,
        hidden: Sequence[int] = (64,),
        inputs: Inputs = "auto",
        feature_scaling: Literal["tf-idf"] | None = None,
        activation: Literal["leaky_relu", "elu"] = "leaky_relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if inputs == "auto":
            inputs = "one-hot" if graph.features is None else "features"
        if inputs not in ("features", "one-hot", "both"):
            raise ValueError(f"inputs is auto, features, one-hot or both, not {inputs!r}")
        if inputs != "one-hot" and graph.features is None:
            raise ValueError(
                f"inputs={inputs!r}, but graph {graph.title!r} has no features: use inputs='one-hot'"
            )
        if not hidden:
            raise ValueError("hidden needs the width of at least one layer")
        if feature_scaling not in (None, "tf-idf"):
            raise ValueError(f"feature_scaling is None or 'tf-idf', not {feature_scaling!r}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(_ACTIVATIONS)}, not {activation!r}")
        rates = {"dropout": dropout, "input_dropout": input_dropout, "edge_dropout": edge_dropout}
        for name, rate in rates.items():
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} is a probability below 1, not {rate}")
        self.options: dict[str, Any] = {
            "hidden": tuple(hidden),
            "inputs": inputs,
            "feature_scaling": feature_scaling,
            "activation": activation,
            "layer_norm": layer_norm,
            **rates,
        }
        self.inputs, self.input_dropout, self.edge_dropout = inputs, input_dropout, edge_dropout
        self.activation = _ACTIVATIONS[activation]
        self.from_features = self.from_identity = None
        if inputs != "one-hot":
            assert graph.features is not None
            self.num_features = graph.features.shape[1]
            self.from_features = Convolution(self.num_features, hidden[0])
            scale = _inverse_document_frequency(graph.features) if feature_scaling else None
            self.register_buffer("feature_scale", scale)
        if inputs != "features":
            # a convolution of one-hot rows is the propagation of a table of embeddings
            self.from_identity = nn.Embedding(graph.num_nodes, hidden[0])
            nn.init.xavier_uniform_(self.from_identity.weight)
        self.norm = nn.LayerNorm(hidden[0]) if layer_norm else nn.Identity()
        self.convolutions = nn.ModuleList(Convolution(a, b) for a, b in pairwise(hidden))
        self.heads = nn.ModuleDict(
            {name: Convolution(hidden[-1], size) for name, size in heads.items()}
        )
        self.dropout = nn.Dropout(dropout)
        self.feature_scale: Tensor | None
        self._rows: WeakKeyDictionary[Graph, Tensor] = WeakKeyDictionary()

    def forward(self, graph: Graph) -> tuple[dict[str, Tensor], Tensor]:
        """({head: (N, size)}, the last hidden layer (N, hidden)); of a batch, those of its nodes.

        A batch is read through sampled neighbourhoods.
        """
        dtype = next(self.parameters()).dtype
        depth = len(self.convolutions) + 2
        if isinstance(graph, DyadBatch):
            around = graph.neighbourhood(depth)
            graph, nodes = graph.whole, around.nodes
            ways = [Adjacency.of(a) for a in around.adjacencies]
        else:
            nodes, ways = None, [self._adjacency(graph)] * depth
        first, *others, last = (way.to(dtype) for way in ways)
        entering = []
        if self.from_features is not None:
            entering.append(self.from_features(self._features(graph, nodes).to(dtype), first))
        if self.from_identity is not None:
            if graph.num_nodes != self.from_identity.num_embeddings:
                raise ValueError(
                    f"one-hot inputs know {self.from_identity.num_embeddings} nodes, the graph has "
                    f"{graph.num_nodes}: unseen nodes need an encoder with inputs='features'"
                )
            table = self.from_identity.weight
            entering.append(first @ (table if nodes is None else table.index_select(0, nodes)))
        h = self.norm(self.activation(sum(entering[1:], start=entering[0])))
        for convolution, way in zip(self.convolutions, others, strict=True):
            h = self.activation(convolution(self.dropout(h), way))
        dropped = self.dropout(h)
        # one product for all heads: a gradient of many columns, where each alone would add to all of h
        ends = {name: cast(Convolution, head) for name, head in self.heads.items()}
        weight = torch.cat([head.lin.weight for head in ends.values()])
        sizes = [head.out_channels for head in ends.values()]
        parts = (last @ F.linear(dropped, weight)).split(sizes, 1)
        heads = {
            name: part + head.bias for (name, head), part in zip(ends.items(), parts, strict=True)
        }
        return heads, h[: last.matrix.shape[0]]

    def start(self, head: str, level: float, spread: float) -> None:
        """Have a head give about ``level`` at the start, and its own values times ``spread`` around it."""
        convolution: Any = self.heads[head]
        with torch.no_grad():
            convolution.lin.weight.mul_(spread)
            convolution.bias.fill_(level)

    def scatter(self, head: str, graph: Graph, spread: float) -> None:
        """Have every column of a head start with mean 0 and standard deviation ``spread`` over the nodes."""
        convolution: Any = self.heads[head]
        training = self.training
        self.eval()
        with torch.no_grad():
            convolution.lin.weight.mul_(
                (spread / self(graph)[0][head].std(0).clamp(min=1e-6))[:, None]
            )
            convolution.bias.sub_(self(graph)[0][head].mean(0))
        self.train(training)

    def imitate(self, head: str, graph: Graph, values: Tensor) -> None:
        """Have a head start near given values, (N, size), by a short regression that moves all layers."""
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        for _ in range(_IMITATION_STEPS):
            optimizer.zero_grad()
            F.mse_loss(self(graph)[0][head], values).backward()
            optimizer.step()
        self.zero_grad()

    def _adjacency(self, graph: Graph) -> Adjacency:
        if not (self.training and self.edge_dropout):
            return _adjacency_of(graph)
        kept = torch.rand(graph.num_edges, device=graph.edge_index.device) >= self.edge_dropout
        one_way = graph.edge_index[:, kept]
        return _normalised(
            one_way if graph.directed else torch.cat((one_way, one_way.flip(0)), 1), graph
        )

    def _features(self, graph: Graph, nodes: Tensor | None) -> Tensor:
        """What enters the first convolution, of some nodes or all, scaled and with dropout.

        Sparse CSR if few values are not zero.
        """
        if graph.features is None or graph.features.shape[1] != self.num_features:
            have = "none" if graph.features is None else str(graph.features.shape[1])
            raise ValueError(
                f"the encoder was built for {self.num_features} features, the graph has {have}"
            )
        if graph not in self._rows:
            self._rows[graph] = _feature_rows(graph.features, self.feature_scale)
        x = self._rows[graph]
        if nodes is not None:
            x = some_rows(x, nodes) if x.layout == torch.sparse_csr else x[nodes]
        if not (self.training and self.input_dropout):
            return x
        if x.layout != torch.sparse_csr:
            return F.dropout(x, self.input_dropout)
        values = F.dropout(x.values(), self.input_dropout)
        return by_rows(x.crow_indices(), x.col_indices(), values, (x.shape[0], x.shape[1]))

    def __deepcopy__(self, memo: dict[int, Any]) -> GCNEncoder:
        # the cache is by graph object: a copy starts with an empty one
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        state = {k: v for k, v in self.__dict__.items() if k != "_rows"}
        new.__dict__.update(copy.deepcopy(state, memo))
        new._rows = WeakKeyDictionary()
        return new


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.2),
    "elu": F.elu,
}

# A function of the graph alone, needed in every step; lives as long as the graph does.
_adjacencies: WeakKeyDictionary[Graph, Adjacency] = WeakKeyDictionary()


def normalised_adjacency(graph: Graph) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of the observed edges, (N, N) sparse CSR."""
    return _adjacency_of(graph).matrix


def _adjacency_of(graph: Graph) -> Adjacency:
    if graph not in _adjacencies:
        _adjacencies[graph] = _normalised(graph.both_directions(), graph)
    return _adjacencies[graph]


def _normalised(arcs: Tensor, graph: Graph) -> Adjacency:
    matrix = normalised(arcs, graph.num_nodes)
    return Adjacency.of(matrix) if graph.directed else Adjacency.symmetric(matrix)


def _inverse_document_frequency(features: Tensor) -> Tensor:
    present = (features.to_dense() != 0).sum(0).clamp(min=1)
    return torch.log(features.shape[0] / present)


def _feature_rows(features: Tensor, scale: Tensor | None) -> Tensor:
    x = features.to_dense()
    if scale is not None:
        x = F.normalize(x * scale, dim=1)
    sparse = torch.count_nonzero(x) <= 0.1 * x.numel()
    return quietly(x.to_sparse_csr) if sparse else x
