"""Mean-field and structured mean-field guides of the latent feature stories, amortised by a GCN.

.. math::
    q(v, b, r) &= \\prod_{nk} q(v_{nk})\\, q(b_{nk})\\, q(r_{nk}) \\qquad \\text{(mean field)} \\\\
    q(v, b, r) &= \\prod_k q(v_k) \\prod_{nk} q(b_{nk} \\mid v)\\, q(r_{nk}), \\quad
        q(b_{nk} = 1 \\mid v) = \\sigma(\\mathrm{GCN}_{nk} + \\mathrm{logit}\\, \\pi_k(v)) \\qquad \\text{(structured)}

with q(v) Kumaraswamy(c_k, d_k) and q(r_n) = Normal(mu_n, diag sigma_n^2); the logits, mu and sigma come from the GCN.
LFRM has no strengths, and q(Lambda_kl) = Normal.

References:
    | Stochastic Blockmodels meet Graph Neural Networks (Mehta, Carin and Rai, ICML 2019), section 4
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Graph
from ..models.affinities import pair_table
from ..models.base import node_plate
from ..models.concrete import (
    Concrete,
    LogitConcrete,
    StraightThrough,
    StraightThroughBernoulli,
)
from ..models.dglfrm import DGLFRM
from ..models.lfrm import LFRM
from ..models.sticks import activation_logits
from .base import NodeGuide, inverse_softplus, positive_scale
from .block_start import BlockStart
from .factorisation import factorised_communities
from .free import FreeEncoder
from .kumaraswamy import Kumaraswamy, matching_beta
from .smoothing import smoothed_vectors
from .spectral import spectral_blocks

__all__ = ["MeanField", "StructuredMeanField"]

_NO_MEMBER = 1e-4  # probability of a membership of a removed community

_REACH, _MEMBER = 4.0, 0.9  # of a smoothed start: norm of the strengths, chance of a membership


class MeanField(NodeGuide):
    """The fully factorised guide: memberships do not look at the sticks.

    Pairs with local sticks (the paper) and with global ones.

    Arguments:
        story: whose latents are sampled.
        graph: what the encoder is built for.
        relaxation: sample memberships as binary Concrete at this temperature, as the story must then do too; or
            exactly, with straight-through gradients.
        baseline: of the learning signal of exact memberships: a decaying average, a neural network on the last
            hidden layer, or None.
        membership_spread: standard deviation over the nodes that the initial membership logits of every community
            are given; None leaves the encoder's own small ones. A spread of 1 to 3 starts small graphs with
            distinct communities, where a flat start may never leave the prior.
        initial: "spectral" starts at a spectral clustering into K communities, with the affinities, degrees and
            shares that go with it (:mod:`~graphlore.guides.block_start`); for amortised=False and undirected graphs.
            "factorised" starts the memberships at a non-negative factorisation of the graph
            (:func:`~graphlore.guides.factorisation.factorised_communities`), where communities overlap, and the sticks
            at its sizes; "smoothed" starts the strengths of DGLFRM at random vectors smoothed over the graph
            (:func:`~graphlore.guides.smoothing.smoothed_vectors`), so that nodes that share neighbours attract each
            other from the first step on, with nearly all memberships: for large graphs, where communities are found
            much sooner; "flat" near the prior. None is "factorised" for LFRM, whose communities a flat start seldom
            finds, unless there is a ``membership_spread``; else "flat".
        initial_seed: of the clustering, factorisation or random vectors.
        confidence: probability of a membership at a factorised start, between 1/2 and 1; of no membership likewise.
        amortised: False gives every node factors of its own in place of an encoder.
        encoder: options of :class:`~graphlore.guides.GCNEncoder`: hidden, inputs, dropout, layer_norm, ...

    Raises:
        ValueError: an option outside of what is listed, or two that contradict each other.
    """

    @classmethod
    def restarted(cls, story: type, options: Mapping[str, Any], start: int) -> dict[str, Any]:
        """Other random vectors to smooth; scattered memberships where the first start is a factorisation, much the same
        under every seed."""
        if options.get("initial") == "smoothed":
            return {"initial_seed": options.get("initial_seed", 0) + start}
        factorised = issubclass(story, LFRM) and not {"initial", "membership_spread"} & set(options)
        return {"membership_spread": 1.0} if factorised else {}

    def __init__(
        self,
        story: DGLFRM | LFRM,
        graph: Graph,
        *,
        relaxation: Concrete | StraightThrough | None = None,
        baseline: Literal["decaying", "neural"] | None = "decaying",
        membership_spread: float | None = None,
        initial: Literal["spectral", "factorised", "smoothed", "flat"] | None = None,
        initial_seed: int = 0,
        confidence: float = 0.8,
        amortised: bool = True,
        **encoder: Any,
    ) -> None:
        if baseline not in (None, "decaying", "neural"):
            raise ValueError(f"baseline is None, 'decaying' or 'neural', not {baseline!r}")
        if baseline == "neural" and not amortised:
            raise ValueError(
                "a neural baseline reads the encoder's hidden layer: it needs amortised=True"
            )
        if initial not in (None, "spectral", "factorised", "smoothed", "flat"):
            raise ValueError(
                f"initial is None or 'spectral', 'factorised', 'smoothed' or 'flat', not {initial!r}"
            )
        if initial == "smoothed" and not story.has_strengths:
            raise ValueError(
                "initial='smoothed' is of strengths, which this story does not have: try 'factorised'"
            )
        if initial in ("factorised", "smoothed") and membership_spread is not None:
            raise ValueError("membership_spread is of a flat start: leave it or initial out")
        if initial == "spectral" and (
            amortised or story.kind != "undirected" or membership_spread is not None
        ):
            raise ValueError(
                "initial='spectral' is for guides without an encoder, of undirected graphs, and sets the memberships "
                "itself: give amortised=False, and no membership_spread"
            )
        if not 0.5 < confidence < 1.0:
            raise ValueError(f"confidence is a probability between 1/2 and 1, not {confidence}")
        if initial is None:
            factorised = isinstance(story, LFRM) and membership_spread is None
            initial = "factorised" if factorised else "flat"
        K = story.truncation
        heads = {"membership_logits": K}
        if story.has_strengths:
            heads |= {"strength_loc": K, "strength_log_scale": K}
        super().__init__(story, graph, heads, amortised, encoder)
        self.truncation, self.relaxation, self.baseline = K, relaxation, baseline
        self.sticks_placement, self.has_strengths = story.sticks_placement, story.has_strengths
        self.options |= {
            "baseline": baseline,
            "membership_spread": membership_spread,
            "initial": initial,
            "initial_seed": initial_seed,
            "confidence": confidence,
        }
        if membership_spread is not None:
            if not membership_spread > 0:
                raise ValueError(f"membership_spread is positive or None, not {membership_spread}")
            self.encoder.scatter("membership_logits", graph, membership_spread)
        self._alpha = float(story.alpha)
        # softplus(_raw) is the concentration; q(v) starts at the prior
        self.stick_c_raw = nn.Parameter(inverse_softplus(story.alpha.detach()).repeat(K))
        self.stick_d_raw = nn.Parameter(inverse_softplus(torch.ones(K)))
        if story.num_affinities:
            # assortative at first: communities that attract, and are indifferent to each other
            diagonal = story.table(torch.arange(float(story.num_affinities))).diagonal().long()
            loc = torch.zeros(story.num_affinities).index_fill(0, diagonal, 1.0)
            self.affinity_loc = nn.Parameter(loc)
            self.affinity_log_scale = nn.Parameter(torch.full_like(loc, -2.0))
            self._prior_log_scale = math.log(float(story.affinity_scale))
            self._is_symmetric = story.symmetric
            pairs = torch.ones(K, K)
            if story.affinity_form == "diagonal":
                pairs = torch.eye(K)
            self._pairs = (pairs.triu() if story.symmetric else pairs).nonzero().T
        if initial == "spectral":
            self._start_spectral(
                story, graph, spectral_blocks(graph, K, initial_seed, by_angle=True)
            )
        elif initial == "factorised":
            self._start_factorised(graph, confidence, initial_seed)
        elif initial == "smoothed":
            self._start_smoothed(graph, initial_seed)
        if baseline == "neural":
            self.baseline_network = nn.Sequential(
                nn.Linear(self.encoder.options["hidden"][-1], 32),
                nn.LeakyReLU(0.2),
                nn.Linear(32, 1),
                nn.Flatten(-2),
            )

    def _start_factorised(self, graph: Graph, confidence: float, seed: int) -> None:
        """Start memberships and sticks at a factorisation of the graph."""
        members = factorised_communities(graph, self.truncation, seed)
        # with many communities, at most one of those a node is not in is expected to be taken for one it is in
        doubt = min(1.0 - confidence, 1.0 / self.truncation)
        logits = torch.where(
            members, math.log(confidence / (1.0 - confidence)), math.log(doubt / (1.0 - doubt))
        )
        self._set_memberships(graph, logits, members.sum(0))

    def _start_smoothed(self, graph: Graph, seed: int) -> None:
        """Start strengths at smoothed random vectors, and nodes in nearly all communities."""
        loc = _REACH * smoothed_vectors(graph, self.truncation, seed)
        self.encoder.imitate("strength_loc", graph, loc)
        logit = math.log(_MEMBER / (1.0 - _MEMBER))
        self._set_memberships(graph, torch.full_like(loc, logit))

    def _set_memberships(self, graph: Graph, logits: Tensor, sizes: Tensor | None = None) -> None:
        """Have memberships at given log odds, and sticks about where those (or given sizes) want them."""
        n, alpha = graph.num_nodes, self._alpha
        sizes = torch.sigmoid(logits).sum(0) if sizes is None else sizes.to(logits.dtype)
        before = torch.cat((sizes.new_full((1,), float(n)), sizes[:-1]))
        # v_k given nested memberships is Beta(alpha + s_k, 1 + s_(k-1) - s_k)
        a, b = alpha + sizes, 1.0 + (before - sizes).clamp(min=0.0)
        c, d = matching_beta(a, b)
        with torch.no_grad():
            self.stick_c_raw.copy_(inverse_softplus(c))
            self.stick_d_raw.copy_(inverse_softplus(d))
        v = Kumaraswamy(c, d).mean
        offset = self.membership_logits(torch.zeros_like(logits), v)  # what the sticks add
        self.encoder.imitate("membership_logits", graph, logits - offset)

    # -- removal moves ------------------------------------------------------------------------------------------

    @property
    def can_remove(self) -> bool:
        """Whether communities can be taken away: exact ones of LFRM, with logits of each node's own."""
        exact = not isinstance(self.relaxation, Concrete)
        return exact and not self.has_strengths and isinstance(self.encoder, FreeEncoder)

    def removals(self, graph: Graph) -> list[tuple[int, None]]:
        """Communities in use, those of the smallest affinities first."""
        members = self._expected_members()
        reach = self._affinities(self.affinity_loc).abs().amax(-1)
        used = (members.sum(0) > 0.5).nonzero().squeeze(-1)
        return [(int(k), None) for k in used[reach[used].argsort()]]

    def remove(self, graph: Graph, community: int, into: None = None) -> None:
        """Empty a community: no members, affinities as in the prior, the last place in the order of the sticks."""
        members = self._expected_members()
        others = [k for k in range(self.truncation) if k != community]
        others.sort(key=lambda k: -float(members[:, k].sum()))
        order = [*others, community]
        members = members[:, order]
        members[:, -1] = _NO_MEMBER
        rows, columns = self._pairs
        for parameter, prior in (
            (self.affinity_loc, 0.0),
            (self.affinity_log_scale, self._prior_log_scale),
        ):
            table = self._affinities(parameter)[order][:, order]
            table[-1] = table[:, -1] = prior
            parameter.data.copy_(table[rows, columns])
        self._set_memberships(graph, torch.logit(members))

    def _expected_members(self) -> Tensor:
        """q(b_nk = 1) at the mean sticks, (N, K)."""
        encoded = self.free_head("membership_logits").detach()
        v = Kumaraswamy(F.softplus(self.stick_c_raw), F.softplus(self.stick_d_raw)).mean.detach()
        return torch.sigmoid(self.membership_logits(encoded, v)).clamp(1e-6, 1.0 - 1e-6)

    def _affinities(self, entries: Tensor) -> Tensor:
        """Entries laid out as a (K, K) matrix, with zeros where there is none."""
        rows, columns = self._pairs
        table = entries.new_zeros(self.truncation, self.truncation)
        table[rows, columns] = entries.detach()
        if self._is_symmetric:
            table[columns, rows] = entries.detach()
        return table

    def forward(self, graph: Graph) -> None:
        """Sample the latents of ``graph``; sites and plates are those of the story."""
        heads, h = self.encoder(graph)
        q_sticks = Kumaraswamy(F.softplus(self.stick_c_raw), F.softplus(self.stick_d_raw)).to_event(
            1
        )
        if self.sticks_placement == "global":
            v = pyro.sample("sticks", q_sticks)
        if hasattr(self, "affinity_loc"):
            scale = positive_scale(self.affinity_log_scale)
            pyro.sample("affinity", dist.Normal(self.affinity_loc, scale).to_event(1))
        self.sample_global_bias()
        self.sample_edge_scale()

        with node_plate(graph, graph.num_nodes):
            if self.sticks_placement == "local":
                v = pyro.sample("sticks", q_sticks)
            logits = self.membership_logits(heads["membership_logits"], v)
            if isinstance(self.relaxation, Concrete):
                relaxed = LogitConcrete(self.relaxation.temperature, logits)
                pyro.sample("membership_logits", relaxed.to_event(1))
            elif isinstance(self.relaxation, StraightThrough):
                passed = StraightThroughBernoulli(logits=logits)
                pyro.sample("memberships", passed.to_event(1))
            else:
                infer = {"baseline": self._baseline_options(h)} if self.baseline else {}
                pyro.sample("memberships", dist.Bernoulli(logits=logits).to_event(1), infer=infer)
            if self.has_strengths:
                q_strengths = dist.Normal(
                    heads["strength_loc"], positive_scale(heads["strength_log_scale"])
                )
                pyro.sample("strengths", q_strengths.to_event(1))
            self.sample_node_bias(heads)

    def membership_logits(self, encoded: Tensor, v: Tensor) -> Tensor:
        """Log odds of q(b | v) from the encoder's output (N, K) and the sticks."""
        return encoded

    def _start_spectral(self, story: DGLFRM | LFRM, graph: Graph, blocks: Tensor) -> None:
        start = BlockStart(graph, blocks.to(graph.device), self.truncation, self.bias == "node")
        (c, d), table = start.sticks(), start.affinities()
        median = (-torch.expm1(-math.log(2.0) / d)) ** (1.0 / c)
        with torch.no_grad():
            self.stick_c_raw.copy_(inverse_softplus(c))
            self.stick_d_raw.copy_(inverse_softplus(d))
            self.free_head("membership_logits").copy_(self._starting_logits(start, median))
            if self.bias == "node":
                self.free_head("node_bias_loc").copy_(start.node_bias[:, None])
            if story.likelihood == "normal":
                return  # affinities are log odds or log rates
            diagonal = pair_table(table, self.truncation, True).diagonal()
            if self.has_strengths:
                # an inner product of the strengths is what the block would have had as its affinity
                self.free_head("strength_loc").copy_(
                    start.one_hot * diagonal.clamp(min=0.25).sqrt()
                )
            elif story.num_affinities:
                self.affinity_loc.copy_(
                    diagonal if len(diagonal) == story.num_affinities else table
                )

    def _starting_logits(self, start: BlockStart, sticks: Tensor) -> Tensor:
        return start.membership_logits()

    def _baseline_options(self, h: Tensor) -> dict[str, Any]:
        if self.baseline == "neural":
            return {"nn_baseline": self.baseline_network, "nn_baseline_input": h}
        return {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}


class StructuredMeanField(MeanField):
    """Memberships given the sticks: logits are those of the encoder plus logit pi_k(v). Needs global sticks.

    Arguments: as for :class:`MeanField`.

    Raises:
        ValueError: a story with local sticks.
    """

    def __init__(self, story: DGLFRM | LFRM, graph: Graph, **options: Any) -> None:
        if story.sticks_placement != "global":
            raise ValueError(
                "the structured guide conditions memberships on one set of sticks: tell the story with "
                "sticks='global', or use MeanField"
            )
        super().__init__(story, graph, **options)

    def membership_logits(self, encoded: Tensor, v: Tensor) -> Tensor:
        return encoded + activation_logits(v)

    def _starting_logits(self, start: BlockStart, sticks: Tensor) -> Tensor:
        return start.membership_logits(sticks)
