"""The log joint density of a story and a small graph, as MCMC asks for it: dense, in float64, at given latents."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to

from ..data import Graph
from ..models.base import NodeStory
from ..models.dyadic import Dyadic
from ..models.vgae import GAE
from .elbo import Site, is_node_bits
from .expectation import is_node_category

__all__ = ["Joint", "Values"]

Values = dict[str, Tensor]


class Joint:
    """log p(A, latents) of a story, with what changes when a node's own latents do.

    Arguments:
        story: a node-level story; a float64 copy is used. The weights of its networks stay as they are.
        graph: what is observed.

    Attributes:
        categories, bits: names of the sites that draw a category, or bits, for every node.
        continuous: names of the other latent sites.

    Raises:
        ValueError: a story that is relaxed, tempered, or has no posterior.
        GraphError: a graph too large for dense (N, N) matrices.
    """

    def __init__(self, story: NodeStory, graph: Graph) -> None:
        _check(story)
        self.story = copy.deepcopy(story).cpu().double().eval().requires_grad_(False)
        self.observe(graph)
        with torch.no_grad():
            sites = dict(self._latents(poutine.trace(self.story).get_trace(self.graph)))
        self.categories = [n for n, s in sites.items() if is_node_category(s)]
        self.bits = [n for n, s in sites.items() if is_node_bits(s)]
        discrete = {*self.categories, *self.bits}
        self.continuous = [n for n in sites if n not in discrete]
        self.transforms = {n: biject_to(sites[n]["fn"].support) for n in self.continuous}

    def observe(self, graph: Graph) -> None:
        """Take another graph of the same nodes as observed."""
        self.story.check_graph(graph)
        graph = graph.to("cpu")
        if graph.features is not None:
            graph = graph._replace(features=graph.features.double())
        self.graph = graph
        weighted = self.story.likelihood != "bernoulli" and graph.weights is not None
        self.observed = graph.observed_mask()
        dense = graph.weighted_adjacency.to_dense() if weighted else graph.dense_adjacency()
        self.edges = dense.double() * self.observed
        # every dyad once, in the order of its ends that the factors take
        self.once = self.observed if graph.directed else self.observed.triu(1)
        if graph.parts is not None:
            self.once = self.observed & (graph.parts == 0).unsqueeze(-1)

    def draw(self, values: Values | None = None) -> Values:
        """Latents from the prior, given some of them."""
        with torch.no_grad():
            trace = poutine.trace(poutine.condition(self.story, values or {})).get_trace(self.graph)
        return {
            n: trace.nodes[n]["value"] for n in (*self.categories, *self.bits, *self.continuous)
        }

    def trace(self, values: Values) -> Trace:
        return poutine.trace(poutine.condition(self.story, values)).get_trace(self.graph)

    def log_density(self, values: Values) -> Tensor:
        """log p(A, latents), in nats, with gradient."""
        trace = self.trace(values)
        total = self._log_edges(trace.nodes["edges"]["fn"])
        for name, site in _sites(trace):
            if name != "edges":
                total = total + _log_prob(site).sum()
        return total

    def of_nodes(self, name: str, candidates: Tensor, values: Values) -> tuple[Tensor, Dyadic]:
        """What node n's own latents decide, for candidate values (V, N, ...) of one site.

        Returns:
            (log density of the sites of the node, (V, N); the law of the edges, of whose factors row n is node n's).
        """
        with pyro.plate("candidates", len(candidates), dim=-2):
            trace = self.trace({**values, name: candidates})
        own: Tensor | float = 0.0
        for other, site in _sites(trace):
            if other != "edges" and any(f.name == "nodes" for f in site["cond_indep_stack"]):
                own = own + _log_prob(site)
        assert isinstance(own, Tensor)
        return own, trace.nodes["edges"]["fn"]

    def _log_edges(self, edges: Dyadic) -> Tensor:
        left, right = edges.factors()
        s, x = left @ right.mT, self.edges
        density = edges._present_gain(s, x) * (x != 0) - edges.precision * edges.cumulant(s)
        constant = edges._absent_constant()
        if constant is not None:
            density = density + constant
        return torch.where(self.once, density, 0.0).sum()

    @staticmethod
    def _latents(trace: Trace) -> Iterator[tuple[str, Site]]:
        for name, site in _sites(trace):
            if not site["is_observed"]:
                yield name, site


def _sites(trace: Trace) -> Iterator[tuple[str, Site]]:
    for name, site in trace.nodes.items():
        drawn = site["type"] == "sample" and not isinstance(site["fn"], _Subsample)
        if drawn and not site["infer"].get("_deterministic"):
            yield name, site


def _log_prob(site: Site) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])


def _check(story: Any) -> None:
    if not isinstance(story, NodeStory):
        raise ValueError(f"MCMC is for node-level stories, not {type(story).__name__}")
    if isinstance(story, GAE):
        raise ValueError("GAE has no prior, so it has no posterior: use VGAE")
    if getattr(story, "relaxation", None) is not None:
        raise ValueError(
            "MCMC draws exact memberships: tell the story without a relaxation (relaxation=None)"
        )
    if story.tempered_by:
        raise ValueError(
            f"the likelihood is tempered ({', '.join(story.tempered_by)}), so that draws would not be of the "
            "posterior of the story: leave that out"
        )
    if story.absent_sample is not None:
        raise ValueError("MCMC needs the density itself, not an estimate: leave out absent_sample")
