r"""Exact evidence and posterior of tiny graphs: every configuration of the memberships is visited.

Given the memberships the globals are integrated: in closed form where they are conjugate (Dirichlet-multinomial,
Beta-Bernoulli, Gamma-Poisson, Normal), by a polynomial in the sticks' moments for p(b) of the Indian buffet process,
and by quadrature for the affinities of LFRM. What is approximate in any inference can be held against the result.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from ..models.block_sums import block_sums
from ..models.lfrm import LFRM
from ..models.sbm import SBM
from .logistic_normal import logistic_normal_integrals

__all__ = ["Enumeration", "enumerate_posterior"]

_MOST = 1_000_000
_CHUNK = 16_384  # configurations at once


@dataclass(frozen=True)
class Enumeration:
    """The exact posterior over memberships.

    Attributes:
        log_evidence: log p(A), in nats.
        configurations: every configuration, (C, N, K) int64: one-hot rows of a block model, or bits.
        probabilities: posterior of the configurations, (C,) float64.
        memberships: P(z_n = k | A) or P(b_nk = 1 | A), (N, K).
        co_memberships: expected number of communities that two nodes share, (N, N); of a block model the probability
            that they share theirs.
        num_communities: posterior of the number of communities with a member, (K + 1,).
        relative_error: what the last refinement of the quadrature changed p(A) by, relatively; 0 in closed form.
    """

    log_evidence: float
    configurations: Tensor
    probabilities: Tensor
    memberships: Tensor
    co_memberships: Tensor
    num_communities: Tensor
    relative_error: float = 0.0

    @classmethod
    def of(
        cls, configurations: Tensor, log_joint: Tensor, relative_error: float = 0.0
    ) -> Enumeration:
        """From log p(A, configuration), (C,)."""
        log_evidence = torch.logsumexp(log_joint, 0)
        p = (log_joint - log_evidence).exp()
        z = configurations.double()
        K = z.shape[-1]
        number = configurations.any(1).sum(-1)
        return cls(
            float(log_evidence),
            configurations,
            p,
            torch.einsum("c,cnk->nk", p, z),
            torch.einsum("cnk,cmk->nm", p[:, None, None] * z, z),
            torch.zeros(K + 1, dtype=p.dtype).index_add_(0, number, p),
            relative_error,
        )


def enumerate_posterior(story: SBM | LFRM, graph: Graph, tolerance: float = 1e-6) -> Enumeration:
    """Compute log p(A) and the posterior of the memberships of a tiny graph, in float64.

    SBM: undirected, directed or bipartite, with Bernoulli edges, counts or real weights (whose scale tau is integrated
    by the trapezoidal rule on log tau), without biases of nodes. LFRM: Bernoulli edges, with or without a global bias;
    the wide prior of the bias makes it some thirty times slower.

    Arguments:
        story: its options; networks and weights it does not have.
        graph: what is observed; missing dyads take no part.
        tolerance: of p(A), relative, for the quadrature of LFRM.

    Raises:
        ValueError: more than a million configurations; a story whose globals are not integrated here.
    """
    if not isinstance(story, SBM | LFRM):
        raise ValueError(
            f"enumerate_posterior is for SBM and LFRM, not {type(story).__name__}: use fit_mcmc"
        )
    story.check_graph(graph)
    if story.bias == "node":
        raise ValueError(
            "biases of nodes have no closed integral: tell the story with another bias, or use fit_mcmc"
        )
    K = story.width
    values = K if isinstance(story, SBM) else 2**K
    if values**graph.num_nodes > _MOST:
        raise ValueError(
            f"{graph.num_nodes} nodes and K = {K} have {values}^{graph.num_nodes} configurations, more than a "
            "million: use fit_mcmc"
        )
    graph = graph.to("cpu")
    return _sbm(story, graph) if isinstance(story, SBM) else _lfrm(story, graph, tolerance)


# -- SBM ----------------------------------------------------------------------------------------------------------


def _sbm(story: SBM, graph: Graph) -> Enumeration:
    K, N = story.num_blocks, graph.num_nodes
    z = F.one_hot(torch.cartesian_prod(*[torch.arange(K)] * N), K)
    x = graph.weights if story.likelihood != "bernoulli" else None
    x = torch.ones(graph.num_edges, dtype=torch.float64) if x is None else x.double()
    sums = torch.func.vmap(lambda one: block_sums(graph, one, x))
    log_joint = torch.cat(
        [_log_table(story, graph, x, *sums(part)) for part in z.double().split(_CHUNK)]
    )
    sizes, alpha = z.sum(1).double(), story.alpha.double()
    log_prior = (torch.lgamma(alpha + sizes) - torch.lgamma(alpha)).sum(-1)
    log_prior = log_prior + torch.lgamma(K * alpha) - torch.lgamma(K * alpha + N)
    return Enumeration.of(z, log_prior + log_joint)


def _log_table(story: SBM, graph: Graph, x: Tensor, edges: Tensor, exposure: Tensor) -> Tensor:
    """log p(A | z) with the table integrated, (C,), from the sums over blocks, (C, P)."""
    a, b = story.block_prior.double()
    if story.likelihood == "bernoulli":
        absent = exposure - edges
        return (_log_beta(a + edges, b + absent) - _log_beta(a, b)).sum(-1)
    if story.likelihood == "poisson":
        counts = torch.lgamma(a + edges) - torch.lgamma(a) + a * b.log()
        counts = counts - (a + edges) * (b + exposure).log()
        return counts.sum(-1) - torch.lgamma(x + 1.0).sum()
    # log tau ~ Normal(0, 1); given tau the means are conjugate
    step = 0.02
    log_tau = step * torch.arange(-450, 451, dtype=torch.float64)[:, None, None]
    precision = torch.exp(-2.0 * log_tau)
    found = b**-2 + precision * exposure
    means = 0.5 * (a / b**2 + precision * edges) ** 2 / found - 0.5 * (a / b) ** 2
    means = (means - 0.5 * (b**2 * found).log()).sum(-1)
    weights = (
        -graph.num_dyads * (log_tau + 0.5 * math.log(2.0 * math.pi))
        - 0.5 * precision * (x**2).sum()
    )
    log_prior = math.log(step / math.sqrt(2.0 * math.pi)) - 0.5 * log_tau**2
    return torch.logsumexp(means + (weights + log_prior).squeeze(-1), 0)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


# -- LFRM ---------------------------------------------------------------------------------------------------------


def _lfrm(story: LFRM, graph: Graph, tolerance: float) -> Enumeration:
    if story.likelihood != "bernoulli" or story.tempered_by or story.relaxation is not None:
        raise ValueError(
            "the affinities of LFRM are integrated for exact memberships and Bernoulli edges as they are: leave out "
            "likelihood, class_weight and relaxation"
        )
    N, K = graph.num_nodes, story.truncation
    bits = torch.cartesian_prod(*[torch.arange(2)] * (N * K)).reshape(-1, N, K)
    prior = _prior_of_bits(bits, float(story.alpha), story.sticks_placement == "local")
    designs = _Designs(story, graph)
    keys = np.concatenate([designs.keys(part) for part in bits.split(_CHUNK)])
    unique, place = np.unique(keys, axis=0, return_inverse=True)
    at = torch.from_numpy(place.reshape(-1))
    mass = torch.zeros(len(unique), dtype=torch.float64).index_add_(0, at, prior)
    rows, signs = designs.decode(unique)
    bias_scale = float(story.bias_scale[0]) if story.bias == "global" else 0.0
    scale = float(story.affinity_scale)
    integrals, error = logistic_normal_integrals(scale * rows, signs, mass, bias_scale, tolerance)
    return Enumeration.of(bits, prior.log() + integrals[at].log(), error)


def _prior_of_bits(bits: Tensor, alpha: float, local: bool) -> Tensor:
    r"""p(b) with the sticks integrated, (C,), by exact rational arithmetic.

    With m_k members of community k, (1 - pi_k)^{N - m_k} is expanded, and
    E[prod_k pi_k^{a_k}] = prod_j alpha / (alpha + sum_{k >= j} a_k).
    """
    if local:  # every node has sticks of its own
        of_node = _prior_of_bits(bits.reshape(-1, 1, bits.shape[-1]), alpha, False)
        return of_node.reshape(bits.shape[:2]).prod(-1)
    N = bits.shape[1]
    members, place = bits.sum(1).unique(dim=0, return_inverse=True)
    exact = Fraction(alpha)

    def moment(powers: tuple[int, ...]) -> Fraction:
        value, total = Fraction(1), 0
        for power in reversed(powers):
            total += power
            value *= exact / (exact + total)
        return value

    found = []
    for sizes in members.tolist():
        expanded = itertools.product(*(range(N - m + 1) for m in sizes))
        terms = (
            math.prod((-1) ** j * math.comb(N - m, j) for j, m in zip(js, sizes, strict=True))
            * moment(tuple(m + j for j, m in zip(js, sizes, strict=True)))
            for js in expanded
        )
        found.append(float(sum(terms, Fraction(0))))
    return torch.tensor(found, dtype=torch.float64)[place]


class _Designs:
    """What p(A | b) depends on: the rows x_d with s_d = x_d'Lambda, and the edges, in one order for all that agree.

    Communities may be renumbered, the affinities have a prior symmetric around zero (edges and non-edges may be
    exchanged), and the order of the dyads does not matter.
    """

    def __init__(self, story: LFRM, graph: Graph) -> None:
        pairs = graph.observed_pairs()
        if graph.parts is not None:
            pairs = torch.where(graph.parts[pairs[0]] == 0, pairs, pairs.flip(0))
        self.pairs, self.with_bias = pairs, story.bias == "global"
        P, K = story.num_affinities, story.truncation
        self.basis = story.table(torch.eye(P, dtype=torch.float64))  # (P, K, K)
        dense = graph.dense_adjacency()
        self.present = dense[pairs[0], pairs[1]].long()
        entry = self.basis.argmax(0)  # (K, K): which free entry stands there
        place = self.basis.flatten(1).argmax(1)
        first, second = place // K, place % K
        orders = [torch.tensor(o) for o in itertools.permutations(range(K))]
        self.orders = [entry[o[first], o[second]] for o in orders]
        self.powers = 3 ** torch.arange(P)

    def keys(self, bits: Tensor) -> np.ndarray:
        """(C, D) int64, equal for configurations of equal likelihood (found so): codes of (x_d, A_d)."""
        first, second = (bits[:, i].double() for i in self.pairs)
        rows = torch.einsum("cdk,pkl,cdl->cdp", first, self.basis, second).long()
        smallest: np.ndarray | None = None
        for order in self.orders:
            code = rows @ self.powers[order]
            for flip in (0, 1):
                edge = self.present ^ flip
                code_with = 2 * code + (edge if self.with_bias else edge * (code > 0))
                key = code_with.sort(-1).values.numpy()
                smallest = key if smallest is None else _smaller(smallest, key)
        assert smallest is not None
        return smallest

    def decode(self, keys: np.ndarray) -> tuple[Tensor, Tensor]:
        """(x (U, D, P) float64, signs (U, D) of -1 and 1)."""
        code = torch.from_numpy(keys)
        rows = (code // 2).unsqueeze(-1) // self.powers % 3
        return rows.double(), 2.0 * (code % 2).double() - 1.0


def _smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row the one that comes first in the order of the alphabet."""
    first = (a != b).argmax(1)[:, None]
    before = np.take_along_axis(b, first, 1) < np.take_along_axis(a, first, 1)
    return np.where(before, b, a)
