"""What the guides of node-level stories have in common: an encoder, and factors of biases and of the weights' scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..data import Graph
from ..models.base import NodeStory
from .free import FreeEncoder, node_encoder

__all__ = ["NodeGuide", "inverse_softplus", "positive_scale"]


class NodeGuide(PyroModule):
    """A guide whose node-level factors are read off an encoder, amortised or free.

    q(c) = Normal, q(e_n) = Normal and q(tau) = LogNormal, for the biases and the likelihood that the story has. c
    starts at the natural parameter of the mean edge: the log odds of a link, the log rate of a count, the mean weight.

    Arguments:
        story: whose latents are sampled.
        graph: what the encoder is built for.
        heads: length of each output of the encoder. Those named ``*_log_scale`` start narrow, at -2, so that the
            likelihood can make out the means.
        amortised: a graph convolutional network over all nodes; False gives every node parameters of its own.
        encoder: options of :class:`~graphlore.guides.GCNEncoder`.
    """

    @classmethod
    def restarted(cls, story: type, options: Mapping[str, Any], start: int) -> dict[str, Any]:
        """What to change in the options for another start of the same fit, where the seed alone would not give one.

        Arguments:
            story: class of the story.
            options: of the first start.
            start: which one, from 1.
        """
        return {}

    def __init__(
        self,
        story: NodeStory,
        graph: Graph,
        heads: Mapping[str, int],
        amortised: bool,
        encoder: dict[str, Any],
    ) -> None:
        super().__init__("guide")
        self.bias, self.likelihood = story.bias, story.likelihood
        heads = dict(heads)
        if story.bias == "node":
            heads |= {"node_bias_loc": 1, "node_bias_log_scale": 1}
        self.encoder = node_encoder(graph, heads, amortised, encoder)
        for name in heads:
            if name.endswith("log_scale"):
                self.encoder.start(name, -2.0, 0.1)
        self.options: dict[str, Any] = {**self.encoder.options, "amortised": amortised}
        level, scale = _mean_edge(story, graph)
        if story.bias == "node" and story.likelihood != "normal" and not amortised:
            self.encoder.imitate("node_bias_loc", graph, _degree_biases(graph))
        if "bias" in story.dims:
            self.bias_loc = nn.Parameter(torch.tensor(level))
            self.bias_log_scale = nn.Parameter(torch.tensor(-2.0))
        if story.likelihood == "normal":
            self.edge_scale_loc = nn.Parameter(torch.tensor(math.log(scale)))
            self.edge_scale_log_scale = nn.Parameter(torch.tensor(-3.0))

    def free_head(self, name: str) -> nn.Parameter:
        """The parameters (N, size) that a guide with ``amortised=False`` has for a head."""
        assert isinstance(self.encoder, FreeEncoder)
        return self.encoder.heads[name]

    def sample_global_bias(self) -> None:
        """Site `bias`."""
        if hasattr(self, "bias_loc"):
            pyro.sample("bias", dist.Normal(self.bias_loc, positive_scale(self.bias_log_scale)))

    def sample_edge_scale(self) -> Tensor | None:
        """Site `edge_scale`."""
        if self.likelihood != "normal":
            return None
        scale = positive_scale(self.edge_scale_log_scale)
        return pyro.sample("edge_scale", dist.LogNormal(self.edge_scale_loc, scale))

    def sample_node_bias(self, heads: dict[str, Tensor]) -> Tensor | None:
        """Site `node_bias`, inside the node plate."""
        if self.bias != "node":
            return None
        loc, log_scale = heads["node_bias_loc"], heads["node_bias_log_scale"]
        q = dist.Normal(loc.squeeze(-1), positive_scale(log_scale).squeeze(-1))
        return pyro.sample("node_bias", q)


def _degree_biases(graph: Graph) -> Tensor:
    """Logarithms of the degrees (of the strengths, where edges count), of mean 0: (N, 1)."""
    x = (
        torch.ones(graph.num_edges, device=graph.device)
        if graph.weights is None
        else graph.weights.float()
    )
    degree = torch.zeros(graph.num_nodes, device=graph.device)
    for ends in graph.edge_index:
        degree.index_add_(0, ends, x)
    log_degree = torch.log(degree + 1.0)
    return (log_degree - log_degree.mean())[:, None]


def _mean_edge(story: NodeStory, graph: Graph) -> tuple[float, float]:
    """(natural parameter of the mean edge, standard deviation of the weights)."""
    if story.likelihood == "bernoulli":
        return math.log(max(graph.num_edges, 1) / graph.num_dyads), 1.0
    weights = torch.ones(graph.num_edges) if graph.weights is None else graph.weights
    mean = float(weights.sum()) / graph.num_dyads
    if story.likelihood == "poisson":
        return math.log(max(mean, 0.5 / graph.num_dyads)), 1.0
    variance = float((weights**2).sum()) / graph.num_dyads - mean**2
    return mean, max(math.sqrt(max(variance, 0.0)), 1e-3)


def positive_scale(log_scale: Tensor) -> Tensor:
    return torch.exp(log_scale.clamp(-10.0, 5.0))


def inverse_softplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))
