"""The graph convolutional network that amortises the node-level guides."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from ..data import Graph

__all__ = ["GCNEncoder", "normalised_adjacency"]

Inputs = Literal["auto", "features", "one-hot", "both"]


class GCNEncoder(nn.Module):
    """Graph convolutions shared by all heads, then one more convolution a head.

    Hidden layers are GCNConv, leaky ReLU (slope 0.2) and dropout, as in the paper; the last convolution is linear.
    Only observed edges carry messages.

    Arguments:
        graph: what the encoder is built for: the length of its features, and N for one-hot inputs.
        heads: length of each output.
        hidden: widths of the shared layers, at least one.
        inputs: node inputs: "features", "one-hot" (an own embedding for each node, which ties the encoder to these
            nodes), "both", or "auto": features if there are any.
        dropout: probability of zeroing an input or hidden value in training.

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
        dropout: float = 0.0,
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
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, not {dropout}")
        self.inputs, self.dropout_rate = inputs, dropout
        self.from_features = self.from_identity = None
        if inputs != "one-hot":
            assert graph.features is not None
            self.num_features = graph.features.shape[1]
            self.from_features = GCNConv(self.num_features, hidden[0], normalize=False)
        if inputs != "features":
            # GCNConv of one-hot rows is the propagation of a table of embeddings
            self.from_identity = nn.Embedding(graph.num_nodes, hidden[0])
            nn.init.xavier_uniform_(self.from_identity.weight)
        self.convolutions = nn.ModuleList(
            GCNConv(a, b, normalize=False) for a, b in zip(hidden, hidden[1:], strict=False)
        )
        self.heads = nn.ModuleDict(
            {name: GCNConv(hidden[-1], size, normalize=False) for name, size in heads.items()}
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, graph: Graph) -> tuple[dict[str, Tensor], Tensor]:
        """({head: (N, size)}, the last hidden layer (N, hidden))."""
        adjacency = normalised_adjacency(graph)
        h: Tensor | float = 0.0
        if self.from_features is not None:
            h = h + self.from_features(self._dropped_features(graph), adjacency)
        if self.from_identity is not None:
            if graph.num_nodes != self.from_identity.num_embeddings:
                raise ValueError(
                    f"one-hot inputs know {self.from_identity.num_embeddings} nodes, the graph has "
                    f"{graph.num_nodes}: unseen nodes need an encoder with inputs='features'"
                )
            h = h + adjacency @ self.from_identity.weight
        h = nn.functional.leaky_relu(h, 0.2)
        for convolution in self.convolutions:
            h = nn.functional.leaky_relu(convolution(self.dropout(h), adjacency), 0.2)
        dropped = self.dropout(h)
        return {name: head(dropped, adjacency) for name, head in self.heads.items()}, h

    def _dropped_features(self, graph: Graph) -> Tensor:
        if graph.features is None or graph.features.shape[1] != self.num_features:
            have = "none" if graph.features is None else str(graph.features.shape[1])
            raise ValueError(
                f"the encoder was built for {self.num_features} features, the graph has {have}"
            )
        x = _feature_rows(graph)
        if not (self.training and self.dropout_rate):
            return x
        if x.layout == torch.sparse_csr:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                return torch.sparse_csr_tensor(
                    x.crow_indices(), x.col_indices(), self.dropout(x.values()), x.shape
                )
        return self.dropout(x)


# Both are functions of the graph alone, needed in every step, and live as long as the graph does.
_adjacencies: WeakKeyDictionary[Graph, Tensor] = WeakKeyDictionary()
_features: WeakKeyDictionary[Graph, Tensor] = WeakKeyDictionary()


def normalised_adjacency(graph: Graph) -> Tensor:
    """D^-1/2 (A + I) D^-1/2 of the observed edges, (N, N) sparse CSR (Kipf and Welling 2017)."""
    if graph not in _adjacencies:
        index, weight = gcn_norm(graph.both_directions(), num_nodes=graph.num_nodes)
        size = (graph.num_nodes, graph.num_nodes)
        with warnings.catch_warnings():  # torch calls its CSR support a beta at every use
            warnings.simplefilter("ignore", UserWarning)
            _adjacencies[graph] = (
                torch.sparse_coo_tensor(index, weight, size).coalesce().to_sparse_csr()
            )
    return _adjacencies[graph]


def _feature_rows(graph: Graph) -> Tensor:
    """The features as the first convolution wants them: CSR where at most one value in ten is not zero."""
    if graph not in _features:
        x = graph.features
        assert x is not None
        filled = x._nnz() if x.layout == torch.sparse_coo else int(torch.count_nonzero(x))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _features[graph] = (
                x.to_dense().to_sparse_csr() if filled <= 0.1 * x.numel() else x.to_dense()
            )
    return _features[graph]
