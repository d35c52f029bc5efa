r"""LFRM: the latent feature relational model, or overlapping stochastic block model.

A node has any number of features (communities); every pair of features moves the log odds of an edge by an affinity.

.. math::
    v_k &\sim \mathrm{Beta}(\alpha, 1), \quad \pi_k = \textstyle\prod_{j \le k} v_j, \quad
        b_{nk} \sim \mathrm{Bernoulli}(\pi_k) \\
    \Lambda_{kl} = \Lambda_{lk} &\sim \mathrm{Normal}(0, \sigma_\lambda^2), \quad
        A_{nm} \sim \mathrm{Bernoulli}(\sigma(b_n^\top \Lambda b_m)), \quad n < m

References:
    | Nonparametric Latent Feature Models for Link Prediction (Miller, Griffiths and Jordan, NIPS 2009)
"""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..data import Graph
from .affinities import free_entries, pair_table, times_table
from .base import Kind, NodeStory, check_choice, check_count, check_positive, node_plate
from .concrete import Concrete, LogitConcrete, StraightThrough
from .sticks import activation_logits

__all__ = ["LFRM"]


class LFRM(NodeStory):
    """The story of the latent feature relational model.

    Sites: ``sticks`` (K,) or (N, K) when local; ``memberships`` (N, K) in {0, 1}; ``affinity``, the free entries of
    Lambda: k <= l of an undirected graph, (K(K+1)/2,), row by row, else all, (K^2,); ``bias`` (), ``node_bias`` (N,),
    ``edge_scale`` () when asked for; ``edges`` (N, N), the adjacency matrix. The plate ``nodes`` is at dimension -1.
    :meth:`table` lays Lambda out as a (K, K) matrix. Directed: Lambda_kl is from k to l.

    Arguments:
        num_nodes: N of a graph drawn from the prior; a graph passed to the story brings its own.
        truncation: K, the largest number of communities.
        alpha: concentration of the IBP; a node has about sum_k (alpha / (alpha + 1))^k communities.
        affinity_scale: sigma_lambda, on the scale of s_ij (log odds).
        affinity: "full" is Lambda; "diagonal" has nothing off its diagonal: communities that attract or repel, no more.
        sticks: "global", one v for all nodes; "local", v_nk per node (what the mean-field guide pairs with).
        relaxation: relax memberships to binary Concrete at this temperature; StraightThrough() leaves them exact.
        others: kind, sides, likelihood, bias, bias_scale, class_weight and absent_sample of
            :class:`~graphlore.models.base.NodeStory`.

    Raises:
        ValueError: an option outside of what is listed; a graph of another kind.
    """

    kinds = ("undirected", "directed", "bipartite")
    has_strengths = False

    def __init__(
        self,
        num_nodes: int,
        truncation: int = 20,
        alpha: float = 2.0,
        *,
        affinity_scale: float = 1.0,
        affinity: Literal["full", "diagonal"] = "full",
        sticks: Literal["global", "local"] = "global",
        kind: Kind = "undirected",
        relaxation: Concrete | StraightThrough | None = None,
        **others: Any,
    ) -> None:
        super().__init__("lfrm", num_nodes, kind=kind, **others)
        check_choice("sticks", sticks, ("global", "local"))
        check_choice("affinity", affinity, ("full", "diagonal"))
        check_count("truncation", truncation, "the number of communities")
        check_positive("alpha", alpha, "a positive concentration")
        check_positive("affinity_scale", affinity_scale)
        self.truncation = self.width = truncation
        self.sticks_placement, self.relaxation = sticks, relaxation
        self.affinity_form, self.symmetric = affinity, kind == "undirected"
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("affinity_scale", torch.tensor(float(affinity_scale)))
        self.alpha: Tensor
        self.affinity_scale: Tensor
        placed = ("community",) if sticks == "global" else ("node", "community")
        pairs = ("community",) if affinity == "diagonal" else ("community", "community_to")
        self.dims |= {"sticks": placed, "memberships": ("node", "community"), "affinity": pairs}
        shared = {k: v for k, v in self.options.items() if k not in ("num_classes", "label_weight")}
        self.options = {
            **shared,
            "truncation": truncation,
            "alpha": alpha,
            "affinity_scale": affinity_scale,
            "affinity": affinity,
            "sticks": sticks,
        }

    @property
    def num_affinities(self) -> int:
        """Free entries of Lambda."""
        if self.affinity_form == "diagonal":
            return self.truncation
        return free_entries(self.truncation, self.symmetric)

    def forward(self, graph: Graph | None = None) -> Tensor:
        """Tell the story, given the edges of ``graph``; without one, draw a graph from the prior.

        Returns:
            the adjacency matrix (N, N).
        """
        self.check_graph(graph)
        num_nodes, K = (self.num_nodes if graph is None else graph.num_nodes), self.truncation
        stick_prior = dist.Beta(self.alpha.expand(K), self.alpha.new_ones(K)).to_event(1)
        zero = self.alpha.new_zeros(self.num_affinities)

        if self.sticks_placement == "global":
            v = pyro.sample("sticks", stick_prior)
        entries = pyro.sample("affinity", dist.Normal(zero, self.affinity_scale).to_event(1))
        c = self.sample_global_bias()
        tau = self.sample_edge_scale()
        with node_plate(graph, num_nodes):
            if self.sticks_placement == "local":
                v = pyro.sample("sticks", stick_prior)
            logit_pi = activation_logits(v)
            if isinstance(self.relaxation, Concrete):
                relaxed = LogitConcrete(self.relaxation.temperature, logit_pi)
                y = pyro.sample("membership_logits", relaxed.to_event(1))
                b = pyro.deterministic("memberships", torch.sigmoid(y), event_dim=1)
            else:
                b = pyro.sample("memberships", dist.Bernoulli(logits=logit_pi).to_event(1))
            node_bias = self.sample_node_bias(c, num_nodes)

        # s_nm = b_n'(Lambda b_m)
        edges = self.dyads(graph, b, times_table(b, self.table(entries)), node_bias, tau)
        return pyro.sample("edges", edges, obs=self.observed_edges(graph))

    def table(self, entries: Tensor) -> Tensor:
        """Lambda as a matrix: (..., P) -> (..., K, K)."""
        if self.affinity_form == "diagonal":
            return torch.diag_embed(entries)
        return pair_table(entries, self.truncation, self.symmetric)

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        local = self.sticks_placement == "local"
        k = "_{nk}" if local else "_k"
        entry = "Lambda_{kl} = Lambda_{lk}" if self.symmetric else "Lambda_{kl}"
        entry = "Lambda_{kk}" if self.affinity_form == "diagonal" else entry
        lines = [
            f"v{k} ~ Beta({self.alpha.item():g}, 1)   `sticks`, k = 1..{self.truncation}",
            f"pi{k} = prod_{{j <= k}} v_{'{nj}' if local else 'j'}",
            f"b_{{nk}} ~ Bernoulli(pi{k})   `memberships`",
            f"{entry} ~ Normal(0, {self.affinity_scale.item():g}^2)   `affinity`",
        ]
        return "\n".join([*lines, *self.edge_equations("b_n^T Lambda b_m")])
