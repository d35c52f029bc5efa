"""The guides of VGAE and GAE: Normal embeddings, or points, from a graph convolutional network."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist

from ..data import Graph
from ..models.base import node_plate
from ..models.vgae import VGAE
from .base import NodeGuide, positive_scale

__all__ = ["AmortisedNormal", "AmortisedPoint"]


class AmortisedNormal(NodeGuide):
    """q(z_i) = Normal(mu_i, diag sigma_i^2), from a two-layer GCN. Guide of VGAE.

    Arguments:
        story: whose latents are sampled.
        graph: what the encoder is built for.
        amortised: False gives every node factors of its own in place of an encoder.
        encoder: options of :class:`~graphlore.guides.GCNEncoder`: hidden, inputs, dropout, ...

    References:
        | Variational Graph Auto-Encoders (Kipf and Welling, 2016), section 2
    """

    def __init__(
        self, story: VGAE, graph: Graph, *, amortised: bool = True, **encoder: Any
    ) -> None:
        D = story.dimension
        heads = {"embedding_loc": D, "embedding_log_scale": D}
        super().__init__(story, graph, heads, amortised, encoder)

    def forward(self, graph: Graph) -> None:
        """Sample the latents of ``graph``; sites and plates are those of the story."""
        heads, _ = self.encoder(graph)
        self.sample_global_bias()
        self.sample_edge_scale()
        with node_plate(graph, graph.num_nodes):
            pyro.sample("embedding", self.embedding(heads))
            self.sample_node_bias(heads)

    def embedding(self, heads: dict[str, Any]) -> dist.TorchDistribution:
        """q(z) from the heads of the encoder."""
        scale = positive_scale(heads["embedding_log_scale"])
        return dist.Normal(heads["embedding_loc"], scale).to_event(1)


class AmortisedPoint(AmortisedNormal):
    """q(z_i) is all at one point, mu_i: the guide of GAE.

    Arguments: as for :class:`AmortisedNormal`.
    """

    def embedding(self, heads: dict[str, Any]) -> dist.TorchDistribution:
        return dist.Delta(heads["embedding_loc"], event_dim=1)
