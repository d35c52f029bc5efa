r"""SBM: the stochastic block model. Every node belongs to one block; an edge depends on the blocks of its ends.

.. math::
    \pi &\sim \mathrm{Dirichlet}(\alpha 1_K), \quad z_i \sim \mathrm{Categorical}(\pi) \\
    W_{kl} = W_{lk} &\sim \mathrm{Beta}(a, b), \quad A_{ij} \sim \mathrm{Bernoulli}(z_i^\top W z_j), \quad i < j

Counts have rates instead, :math:`\omega_{kl} \sim \mathrm{Gamma}(a, b)` and :math:`A_{ij} \sim
\mathrm{Poisson}(\omega_{z_i z_j})`; real weights means, :math:`m_{kl} \sim \mathrm{Normal}(a, b^2)`. Degrees are
corrected by a bias of every node, e_i ~ Normal(0, s_e^2): on the log odds of a Bernoulli edge, and on the log rate of a
count, where it is the form of Karrer and Newman, :math:`\theta_i \theta_j \omega_{z_i z_j}` with theta = exp(e).

References:
    | Estimation and Prediction for Stochastic Blockstructures (Nowicki and Snijders, JASA 2001)
    | Stochastic blockmodels and community structure in networks (Karrer and Newman, 2011)
"""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from .affinities import free_entries, pair_table, times_table
from .base import Kind, Likelihood, NodeStory, check_count, check_positive, check_two, events_of
from .block_sums import block_sums
from .blocks import BlockBernoulli, BlockNormal, BlockPoisson
from .dyadic import Dyadic

__all__ = ["SBM"]

_PRIORS = {"bernoulli": (1.0, 1.0), "poisson": (1.0, 1.0), "normal": (0.0, 10.0)}
_TABLES = {"bernoulli": "block_probs", "poisson": "block_rates", "normal": "block_means"}


class SBM(NodeStory):
    """The story of the stochastic block model.

    Sites: ``community_weights`` (K,); ``block_probs`` (``block_rates`` of counts, ``block_means`` of weights), the free
    entries of the table W: k <= l of an undirected graph, (K(K+1)/2,), row by row, else all, (K^2,);
    ``membership`` (N,) in 0..K-1; ``node_bias`` (N,) and ``edge_scale`` () when asked for; ``edges`` (N, N). The plate
    ``nodes`` is at dimension -1. :meth:`table` lays W out as a (K, K) matrix. Directed: W_kl is from k to l. Bipartite:
    rows of W are blocks of side 0, columns blocks of side 1.

    Arguments:
        num_nodes: N of a graph drawn from the prior; a graph passed to the story brings its own.
        num_blocks: K.
        alpha: concentration of the Dirichlet; below 1 it is sparse, and blocks that are not needed stay empty.
        block_prior: (a, b) of Beta, of Gamma (shape, rate), or of Normal (mean, standard deviation); None takes (1, 1),
            (1, 1) or (0, 10).
        bias: "node" corrects for degrees. (A global bias would repeat what W says.)
        others: kind, sides, likelihood, bias_scale of :class:`~graphlore.models.base.NodeStory`.

    Raises:
        ValueError: an option outside of what is listed; a graph of another kind.
    """

    kinds = ("undirected", "directed", "bipartite")
    takes_batches = False

    def __init__(
        self,
        num_nodes: int,
        num_blocks: int = 2,
        alpha: float = 1.0,
        *,
        block_prior: tuple[float, float] | None = None,
        kind: Kind = "undirected",
        sides: tuple[int, int] | None = None,
        likelihood: Likelihood = "bernoulli",
        bias: Literal["none", "node"] = "none",
        bias_scale: tuple[float, float] = (10.0, 1.0),
    ) -> None:
        if bias == "global":
            raise ValueError(
                "an SBM needs no global bias, its block table is one: bias is 'none' or 'node'"
            )
        super().__init__(
            "sbm",
            num_nodes,
            kind=kind,
            sides=sides,
            likelihood=likelihood,
            bias=bias,
            bias_scale=bias_scale,
        )
        check_count("num_blocks", num_blocks, "the number of blocks")
        check_positive("alpha", alpha, "a positive concentration")
        block_prior = _PRIORS[likelihood] if block_prior is None else block_prior
        check_two("block_prior", block_prior)
        a, b = block_prior
        check_positive("the second number of block_prior", b)
        if likelihood != "normal":
            check_positive("the first number of block_prior", a)
        self.num_blocks = self.width = num_blocks
        self.symmetric = kind == "undirected"
        #: name of the site of the table
        self.table_site = _TABLES[likelihood]
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("block_prior", torch.tensor([float(a), float(b)]))
        self.alpha: Tensor
        self.block_prior: Tensor
        self.dims.pop("bias", None)  # the table holds the level
        self.dims |= {
            "community_weights": ("community",),
            self.table_site: ("community", "community_to"),
            "membership": ("node",),
        }
        own = {"num_blocks": num_blocks, "alpha": alpha, "block_prior": (a, b)}
        shared = ("num_nodes", "kind", "sides", "likelihood", "bias", "bias_scale")
        self.options = {**{name: self.options[name] for name in shared}, **own}

    def forward(self, graph: Graph | None = None) -> Tensor:
        """Tell the story, given the edges of ``graph``; without one, draw a graph from the prior.

        Returns:
            the adjacency matrix (N, N).
        """
        self.check_graph(graph)
        num_nodes, K = (self.num_nodes if graph is None else graph.num_nodes), self.num_blocks
        a, b = self.block_prior.expand(free_entries(K, self.symmetric), 2).unbind(-1)
        law = {"bernoulli": dist.Beta, "poisson": dist.Gamma, "normal": dist.Normal}

        pi = pyro.sample("community_weights", dist.Dirichlet(self.alpha.expand(K)))
        W = pyro.sample(self.table_site, law[self.likelihood](a, b).to_event(1))
        tau = self.sample_edge_scale()
        with pyro.plate("nodes", num_nodes, dim=-1):
            z = pyro.sample("membership", dist.Categorical(probs=pi))
            e = self.sample_node_bias(None, num_nodes)

        # an expectation over independent memberships has their probabilities, (N, K), in place of draws
        one_hot = z if z.is_floating_point() else F.one_hot(z, K).to(W.dtype)
        return pyro.sample(
            "edges",
            self._edges(graph, one_hot, self.natural_table(W), e, tau),
            obs=self.observed_edges(graph),
        )

    def table(self, entries: Tensor) -> Tensor:
        """W as a matrix: (..., P) -> (..., K, K)."""
        return pair_table(entries, self.num_blocks, self.symmetric)

    def natural_table(self, entries: Tensor) -> Tensor:
        """The natural parameters of the blocks, (..., K, K): log odds of W, its logarithm, or W."""
        info = torch.finfo(entries.dtype)
        if self.likelihood == "bernoulli":
            entries = torch.logit(entries.clamp(info.tiny, 1.0 - info.eps))
        elif self.likelihood == "poisson":
            entries = torch.log(entries.clamp(min=info.tiny))
        return self.table(entries)

    def _edges(
        self, graph: Graph | None, z: Tensor, T: Tensor, e: Tensor | None, tau: Tensor | None
    ) -> Dyadic:
        if (
            self.bias == "node" and self.likelihood != "poisson"
        ):  # no sum over blocks in place of one over dyads
            return self.dyads(graph, z, times_table(z, T), e, tau)
        z, _, e = events_of(z, None, e)
        common: dict[str, Any] = {
            "missing": None if graph is None else graph.missing,
            "directed": self.kind == "directed",
            "parts": self.parts_of(graph),
        }
        if self.likelihood == "poisson":
            return BlockPoisson(z, T, e, **common)
        if self.likelihood == "normal":
            assert tau is not None
            return BlockNormal(z, T, scale=tau, **common)
        return BlockBernoulli(z, T, **common)

    @property
    def is_conjugate(self) -> bool:
        """Whether the table has a closed conditional: not with degree-corrected Bernoulli or Normal edges."""
        return self.bias == "none" or self.likelihood == "poisson"

    def weights_given(self, memberships: Tensor) -> dist.Dirichlet:
        """p(community_weights | membership), from one-hot rows (N, K).

        From rows of probabilities it is the mean-field optimum, here and in :meth:`table_given`.
        """
        return dist.Dirichlet(self.alpha + memberships.sum(0))

    def table_given(
        self,
        graph: Graph,
        memberships: Tensor,
        node_bias: Tensor | None = None,
        edge_scale: Tensor | None = None,
    ) -> dist.TorchDistribution:
        """p(W | membership, edges, ...), the distribution of the free entries; :attr:`is_conjugate` must hold.

        Degree-corrected edges of another likelihood than counts are taken as if they had no biases.

        Arguments:
            memberships: one-hot rows, (N, K).
            node_bias: e, (..., N), of counts.
            edge_scale: tau, (..., 1), of real weights.
        """
        x = graph.weights if self.likelihood != "bernoulli" else None
        x = memberships.new_ones(graph.num_edges) if x is None else x.to(memberships.dtype)
        theta = node_bias.exp() if node_bias is not None and self.likelihood == "poisson" else None
        edges, exposure = block_sums(graph, memberships, x, theta)
        a, b = self.block_prior
        if self.likelihood == "bernoulli":
            return dist.Beta(a + edges, b + (exposure - edges).clamp(min=0.0)).to_event(1)
        if self.likelihood == "poisson":
            return dist.Gamma(a + edges, b + exposure.clamp(min=0.0)).to_event(1)
        assert edge_scale is not None
        precision = b**-2 + exposure / edge_scale**2
        return dist.Normal(
            (a / b**2 + edges / edge_scale**2) / precision, precision.rsqrt()
        ).to_event(1)

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        a, b = (f"{x:g}" for x in self.block_prior.tolist())
        K, node = self.num_blocks, " + e_n + e_m" if self.bias == "node" else ""
        which = {"undirected": "n < m", "directed": "n != m", "bipartite": "n, m of two sides"}
        entry = "W_{kl} = W_{lk}" if self.symmetric else "W_{kl}"
        prior = {
            "bernoulli": f"Beta({a}, {b})",
            "poisson": f"Gamma({a}, {b})",
            "normal": f"Normal({a}, {b}^2)",
        }
        odds = "logit(z_n^T W z_m)" + node
        edge = {
            "bernoulli": f"Bernoulli(sigma({odds}))" if node else "Bernoulli(z_n^T W z_m)",
            "poisson": "Poisson(exp(e_n + e_m) z_n^T W z_m)" if node else "Poisson(z_n^T W z_m)",
            "normal": f"Normal(z_n^T W z_m{node}, tau^2)",
        }
        lines = [
            f"pi ~ Dirichlet({self.alpha.item():g} 1_K), K = {K}   `community_weights`",
            f"{entry} ~ {prior[self.likelihood]}   `{self.table_site}`",
            "z_n ~ Categorical(pi)   `membership`",
        ]
        if node:
            lines.append(f"e_n ~ Normal(0, {self.bias_scale[1].item():g}^2)   `node_bias`")
        if self.likelihood == "normal":
            lines.append("tau ~ LogNormal(0, 1)   `edge_scale`")
        return "\n".join(
            [*lines, f"A_{{nm}} ~ {edge[self.likelihood]}, {which[self.kind]}   `edges`"]
        )
