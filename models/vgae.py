r"""VGAE and GAE: the variational graph auto-encoder, and its deterministic limit.

.. math::
    z_i \sim \mathrm{Normal}(0, I_D), \qquad A_{ij} \sim \mathrm{Bernoulli}(\sigma(z_i^\top z_j)), \quad i < j

and, when the story is told with labels, :math:`y_i \sim \mathrm{Categorical}(\mathrm{softmax}(g(z_i)))`, which makes
it a semi-supervised classifier: nodes without a label are missing data.

References:
    | Variational Graph Auto-Encoders (Kipf and Welling, NeurIPS workshop on Bayesian deep learning, 2016)
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor

from ..data import Graph
from .base import NodeStory, check_count, node_plate

__all__ = ["GAE", "VGAE"]


class VGAE(NodeStory):
    """The story of the variational graph auto-encoder.

    Sites: ``embedding`` (N, D); ``bias`` (), ``node_bias`` (N,), ``edge_scale`` () when asked for; ``edges`` (N, N),
    the adjacency matrix; ``labels`` (N,) with ``num_classes``. The plate ``nodes`` is at dimension -1.

    Arguments:
        num_nodes: N of a graph drawn from the prior; a graph passed to the story brings its own.
        dimension: D.
        others: likelihood, bias, bias_scale, class_weight, absent_sample, num_classes and label_weight of
            :class:`~graphlore.models.base.NodeStory`. (Kipf and Welling reweight: class_weight="balanced".)

    Raises:
        ValueError: an option outside of what is listed; a directed or bipartite graph, whose dyads an inner product
            cannot tell.
    """

    decodes_labels = True

    def __init__(self, num_nodes: int, dimension: int = 16, **others: Any) -> None:
        super().__init__("vgae", num_nodes, **others)
        check_count("dimension", dimension, "the length of an embedding")
        self.width = self.dimension = dimension
        self.dims |= {"embedding": ("node", "dimension")}
        shared = {k: v for k, v in self.options.items() if k not in ("kind", "sides")}
        self.options = {**shared, "dimension": dimension}
        self.g = self.classifier(dimension)

    def forward(self, graph: Graph | None = None) -> Tensor:
        """Tell the story, given the edges (and labels) of ``graph``; without one, draw a graph from the prior.

        Returns:
            the adjacency matrix (N, N).
        """
        self.check_graph(graph)
        num_nodes = self.num_nodes if graph is None else graph.num_nodes
        c = self.sample_global_bias()
        tau = self.sample_edge_scale()
        with node_plate(graph, num_nodes):
            z = pyro.sample("embedding", self.prior())
            node_bias = self.sample_node_bias(c, num_nodes)
            if self.g is not None:
                self.sample_labels(graph, self.g(z))
        edges = self.dyads(graph, z, node_bias=node_bias, scale=tau)
        return pyro.sample("edges", edges, obs=self.observed_edges(graph))

    def prior(self) -> dist.TorchDistribution:
        """p(z_i)."""
        zero = self.bias_scale.new_zeros(self.dimension)
        return dist.Normal(zero, zero + 1.0).to_event(1)

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        first = f"z_n ~ Normal(0, I_D), D = {self.dimension}   `embedding`"
        return "\n".join([first, *self.edge_equations("z_n^T z_m"), *self.label_equations()])


class GAE(VGAE):
    """The graph auto-encoder: VGAE without a cost of the embeddings, for a guide that is a point.

    Draws from the prior are those of VGAE; its density is left out of the objective, which is the likelihood alone.

    Arguments: as for :class:`VGAE`.
    """

    def prior(self) -> dist.TorchDistribution:
        return super().prior().mask(False)

    def equations(self) -> str:
        lines = super().equations().split("\n")
        return "\n".join(
            [f"z_n is a point, no prior counted, D = {self.dimension}   `embedding`", *lines[1:]]
        )
