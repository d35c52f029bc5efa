r"""The guide of the stochastic block model: memberships amortised by a GCN (or free), globals in closed form.

.. math::
    q(\pi, W, z) = \mathrm{Dirichlet}(\pi)\; q(W) \prod_i \mathrm{Categorical}(z_i \mid \mathrm{GCN}_i)

Given the q(z_i), the best Dirichlet and Beta (Gamma, Normal) factors are known: those of the conjugate model with
expected counts. The guide takes them, so that only the memberships are left to learn; where there is no conjugacy
(degree-corrected Bernoulli or Normal edges), q(W) has parameters of its own.

References:
    | A mixture model for random graphs (Daudin, Picard and Robin, Statistics and Computing 2008)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Graph
from ..models.block_sums import block_sums
from ..models.sbm import SBM
from .base import NodeGuide, positive_scale
from .free import FreeEncoder
from .spectral import spectral_blocks

__all__ = ["AmortisedCategorical"]

_IMITATION_STEPS = 100
_LEFT = 1e-6  # probability that a removed block keeps


class AmortisedCategorical(NodeGuide):
    """Guide of :class:`~graphlore.models.SBM`; sites and plates are those of the story.

    Arguments:
        story: whose latents are sampled.
        graph: what the encoder is built for.
        initial: "spectral" starts the memberships at a spectral clustering, "random" at random ones, "flat" near equal
            ones. The bound of a block model has many optima; a flat start does not leave the one without communities,
            and is for weights that are loaded later.
        confidence: probability of the initial block of a node, between 1 / K and 1. None: 0.8 for a clustering, and
            0.1 + 0.9 / K for random blocks, of which little is meant to stay.
        seed: of the spectral clustering.
        baseline: of the learning signal of sampled memberships: a decaying average, or None.
        amortised: False gives every node logits of its own in place of an encoder.
        encoder: options of :class:`~graphlore.guides.GCNEncoder`: hidden, inputs, dropout, ...

    Raises:
        ValueError: an option outside of what is listed.
    """

    @classmethod
    def restarted(cls, story: type, options: Mapping[str, Any], start: int) -> dict[str, Any]:
        """Random blocks: a clustering is much the same under every seed."""
        return {"initial": "random"}

    def __init__(
        self,
        story: SBM,
        graph: Graph,
        *,
        initial: Literal["spectral", "random", "flat"] = "spectral",
        confidence: float | None = None,
        seed: int = 0,
        baseline: Literal["decaying"] | None = "decaying",
        amortised: bool = True,
        **encoder: Any,
    ) -> None:
        K = story.num_blocks
        if confidence is None:
            confidence = 0.8 if initial == "spectral" else 0.1 + 0.9 / K
        if initial not in ("spectral", "random", "flat"):
            raise ValueError(f"initial is 'spectral', 'random' or 'flat', not {initial!r}")
        if baseline not in (None, "decaying"):
            raise ValueError(f"baseline is None or 'decaying', not {baseline!r}")
        if K > 1 and not 1.0 / K < confidence < 1.0:
            raise ValueError(f"confidence is a probability between 1 / K and 1, not {confidence}")
        super().__init__(story, graph, {"membership_logits": K}, amortised, encoder)
        self.options |= {
            "initial": initial,
            "confidence": confidence,
            "seed": seed,
            "baseline": baseline,
        }
        self.baseline = baseline
        # what is computed from the story's priors belongs to the story: no second copy of its buffers
        object.__setattr__(self, "story", story)
        self.story: SBM
        blocks = self._first_blocks(graph, initial, seed)
        if initial != "flat":
            self._imitate(graph, blocks, confidence)
        if not story.is_conjugate:
            first = F.one_hot(blocks, K).to(torch.get_default_dtype())
            q = story.table_given(graph, first, edge_scale=torch.ones(())).base_dist
            self.table_raw = nn.Parameter(self._table_start(q).clone())

    def forward(self, graph: Graph) -> None:
        """Sample the latents of ``graph``; sites and plates are those of the story."""
        story = self.story
        heads, _ = self.encoder(graph)
        logits = heads["membership_logits"]
        q = torch.softmax(logits, -1)
        pyro.sample("community_weights", story.weights_given(q))
        tau = self.sample_edge_scale()
        with pyro.plate("nodes", graph.num_nodes, dim=-1):
            infer: dict[str, Any] = {}
            if self.baseline:
                infer["baseline"] = {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}
            pyro.sample("membership", dist.Categorical(logits=logits), infer=infer)
            e = self.sample_node_bias(heads)
        pyro.sample(story.table_site, self._table(graph, q, e, tau))

    def _table(
        self, graph: Graph, q: Tensor, e: Tensor | None, tau: Tensor | None
    ) -> dist.TorchDistribution:
        story = self.story
        if not story.is_conjugate:
            first, second = self.table_raw
            if story.likelihood == "bernoulli":
                return dist.Beta(first.exp(), second.exp()).to_event(1)
            return dist.Normal(first, positive_scale(second)).to_event(1)
        # under plates further out (draws) nodes stand at dimension -1, and the entries of the table come after it
        e = e if e is None or e.dim() == 1 else e.unsqueeze(-2)
        return story.table_given(graph, q, e, None if tau is None else tau.unsqueeze(-1))

    # -- removal moves ------------------------------------------------------------------------------------------

    @property
    def can_remove(self) -> bool:
        """Whether blocks can be taken away, which needs logits of each node's own."""
        return isinstance(self.encoder, FreeEncoder)

    def removals(self, graph: Graph) -> list[tuple[int, int]]:
        """Blocks in use and others to join them to, those of the most similar rates of edges first, at most 2 K."""
        q = self._probabilities()
        size = q.sum(0)
        used = (size > 0.5).nonzero().squeeze(-1)
        if len(used) < 2:
            return []
        x = q.new_ones(graph.num_edges)
        theta = q.new_ones(graph.num_nodes)
        if self.bias == "node":  # rates beyond what degrees say
            theta = torch.bincount(graph.edge_index.flatten(), minlength=len(q)).to(q.dtype) + 0.5
        edges, exposure = block_sums(graph, q, x, theta)
        rate = self.story.table(
            (edges + 0.1) / (exposure + 0.1)
        ).sqrt()  # its noise is then about the same
        weight = theta @ q
        rows = torch.stack((rate, rate.mT))
        distance = ((rows[:, :, None] - rows[:, None]) ** 2 * weight).sum((0, -1))
        distance = distance * weight[:, None] * weight / (weight[:, None] + weight)
        i, j = torch.triu_indices(len(used), len(used), 1)
        pairs = torch.stack((used[i], used[j]), 1)
        nearest = distance[pairs[:, 0], pairs[:, 1]].argsort()[: 2 * len(size)]
        return [(a, b) if size[a] <= size[b] else (b, a) for a, b in pairs[nearest].tolist()]

    def remove(self, graph: Graph, block: int, into: int) -> None:
        """Join the nodes of a block to another, with the probabilities they had."""
        q = self._probabilities().clone()
        q[:, into] += q[:, block]
        q[:, block] = 0.0
        q = (q + _LEFT) / (1.0 + q.shape[1] * _LEFT)
        self.free_head("membership_logits").data.copy_(q.log())
        if not self.story.is_conjugate:
            first = self.story.table_given(graph, q, edge_scale=torch.ones(())).base_dist
            self.table_raw.data.copy_(self._table_start(first))

    def _probabilities(self) -> Tensor:
        return torch.softmax(self.free_head("membership_logits").detach(), -1)

    def _table_start(self, q: Any) -> Tensor:
        if self.likelihood == "bernoulli":
            return torch.stack((q.concentration1, q.concentration0)).log().detach()
        return torch.stack((q.loc, q.scale.log())).detach()

    # -- the start ----------------------------------------------------------------------------------------------

    def _first_blocks(self, graph: Graph, initial: str, seed: int) -> Tensor:
        K = self.story.num_blocks
        if initial != "spectral":
            return torch.randint(K, (graph.num_nodes,), device=graph.device)
        found = spectral_blocks(graph, K, seed, by_angle=self.bias == "node")
        return found.to(graph.device)

    def _imitate(self, graph: Graph, blocks: Tensor, confidence: float) -> None:
        """Have the encoder start near given blocks: exactly where it is free, by a short regression where not."""
        K = self.story.num_blocks
        if K == 1:
            return
        other = (1.0 - confidence) / (K - 1)
        target = torch.full((graph.num_nodes, K), other, device=blocks.device)
        target.scatter_(1, blocks[:, None], confidence)
        if isinstance(self.encoder, FreeEncoder):
            self.encoder.imitate("membership_logits", graph, target.log())
            return
        optimizer = torch.optim.Adam(self.encoder.parameters(), lr=0.02)
        for _ in range(_IMITATION_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(self.encoder(graph)[0]["membership_logits"], target).backward()
            optimizer.step()
        self.encoder.zero_grad()
