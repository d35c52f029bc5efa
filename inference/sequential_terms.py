r"""What one pass over sampled orders gives, and the gradient made of it.

A sequential story has a discrete site for every decision, and ``TraceGraph_ELBO`` costs O(T^2) for T of them. Here
one pass of guide and story over S orders of G graphs yields the log-probabilities of all sites, and the gradient of
the order's parameters is REINFORCE with rewards to go and a control variate: the mean of the other S - 1 orders, or the
guide's own baseline. Its expectation is that of ``TraceGraph_ELBO``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.nn.functional import huber_loss

from ..data import GraphBatch
from ..guides.destructor import Reordered

__all__ = ["STORY_SITES", "Baseline", "Terms", "site_log_probs", "surrogate", "trace_terms"]

Baseline = Literal["step", "order", "guide", "none"]
#: what names of the sites of SGVAE start with, but for z
STORY_SITES = ("add_node_", "edges_", "node_types")


@dataclass(frozen=True)
class Terms:
    """Log-probabilities of S sampled orders and latents of G graphs.

    Attributes:
        log_likelihood: (S, G) log p(x^pi | z).
        log_prior: (S, G) log p(z).
        log_latent: (S, G) log q(z | pi, x), zero for a point.
        log_removals: (T, S, G) log q of each removal, zero where there was none.
        z: (S, G, D).
        law: q(z | pi, x), batch shape (S G,).
        learned: (T, S, G) what the guide's own neural baseline expects as the reward of each removal.
        average: (T,) the guide's own decaying averages of these rewards, its buffer.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_latent: Tensor
    log_removals: Tensor
    z: Tensor
    law: dist.TorchDistribution
    learned: Tensor | None = None
    average: Tensor | None = None

    @property
    def log_order(self) -> Tensor:
        """(S, G) log q(pi | x)."""
        return self.log_removals.sum(0)

    @property
    def log_weight(self) -> Tensor:
        """(S, G) log p(x^pi, z) - log q(pi, z | x): its mean is the ELBO, log-mean-exp over S the tighter bound."""
        return self.log_likelihood + self.log_prior - self.log_latent - self.log_order

    def log_mixture(self) -> Tensor:
        """(S, G) log q(z), with q(z) the mixture of all S G components at hand.

        The mean of log q(z | pi, x) - log q(z) estimates the mutual information of z and (x, pi) under the guide. A
        component's own draw is among the S G, so the estimate is at most log(S G), and low where the true value comes
        near to it. The mean of log q(z) - log p(z) estimates how far q(z) is from the prior.
        """
        z = self.z.flatten(0, 1)
        mixture = self.law.log_prob(
            z[:, None]
        )  # (S G, S G), a row for a draw, a column for a component
        return (mixture.logsumexp(1) - math.log(len(z))).view_as(self.log_latent)


def site_log_probs(trace: poutine.Trace, *prefixes: str) -> list[Tensor]:
    """Log-probabilities, (B,) each, of the sites whose names start with one of the prefixes."""
    return [s["log_prob"] for name, s in trace.nodes.items() if name.startswith(prefixes)]


def trace_terms(pair: Reordered, batch: GraphBatch, orders: int) -> Terms:
    """Take ``batch`` apart ``orders`` times, tell the story of it in these orders, and collect the terms.

    Arguments:
        pair: story and destructor.
        batch: G graphs.
        orders: S.
    """
    many = batch.repeat(orders)
    guide = poutine.trace(pair.guide).get_trace(many)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(many)
    guide.compute_log_prob()
    model.compute_log_prob()
    shape = (orders, len(batch))
    z = guide.nodes["z"]

    removals = [x.view(shape) for x in site_log_probs(guide, "remove_")]
    empty = z["value"].new_zeros(0, *shape)
    learned = average = None
    if pair.destructor.baseline == "neural" and removals:
        sites = [site for name, site in guide.nodes.items() if name.startswith("remove_")]
        told = [site["infer"]["baseline"] for site in sites]
        states = torch.stack([x["nn_baseline_input"] for x in told])
        learned = pair.destructor.baseline_network(states).view(-1, *shape)
    elif pair.destructor.baseline == "decaying":
        average = pair.destructor.baseline_average
    return Terms(
        log_likelihood=torch.stack(site_log_probs(model, *STORY_SITES)).sum(0).view(shape),
        log_prior=model.nodes["z"]["log_prob"].view(shape),
        log_latent=z["log_prob"].view(shape),
        log_removals=torch.stack(removals) if removals else empty,
        z=z["value"].view(*shape, -1),
        law=z["fn"],
        learned=learned,
        average=average,
    )


def surrogate(
    terms: Terms,
    *,
    kl_weight: float = 1.0,
    information: float = 0.0,
    marginal: float = 0.0,
    baseline: Baseline = "step",
) -> Tensor:
    r"""A scalar whose gradient is, in expectation, that of the mean over graphs of

    .. math::
        E_q\big[\log p(x^\pi \mid z) + \beta \log \tfrac{p(z)}{q(z \mid \pi, x)} - \beta \log q(\pi \mid x)\big]
        + \alpha\, I_q(z; x, \pi) - \lambda\, \mathrm{KL}(q(z) \,\|\, p(z)).

    With :math:`\beta = 1` and :math:`\alpha = \lambda = 0` this is the ELBO. With :math:`\beta = 1` it is InfoVAE
    (Zhao, Song, Ermon 2019), which has the ELBO's optimum if the guide is flexible but lets z be used, and bounds
    nothing. Where z depends on :math:`\pi`, the mixture q(z) makes the baseline of other orders slightly dependent on
    the order it is subtracted from; with ``source="readout"`` it does not.

    Arguments:
        terms: of S orders.
        kl_weight: :math:`\beta`.
        information: :math:`\alpha`.
        marginal: :math:`\lambda`.
        baseline: subtracted from the reward of a removal: the mean, over the other orders of the same graph, of the
            reward from that "step" on, or of the reward of the whole "order"; that of the "guide", whose network is
            fitted to the rewards by the same gradient, and whose average takes them in; or "none".

    Raises:
        ValueError: a baseline of other orders when there is only one; one of the guide when it has none.
    """
    orders = terms.log_order.shape[0]
    if baseline in ("step", "order") and orders < 2:
        raise ValueError(f"baseline={baseline!r} needs at least two orders a graph, not {orders}")
    if baseline == "guide" and terms.learned is None and terms.average is None:
        raise ValueError("baseline='guide' needs a destructor with a baseline of its own")
    value = terms.log_likelihood + kl_weight * (terms.log_prior - terms.log_latent)
    if information or marginal:
        mixture = terms.log_mixture()
        value = (
            value
            + information * (terms.log_latent - mixture)
            + marginal * (terms.log_prior - mixture)
        )
    spent = kl_weight * terms.log_removals.detach()
    # What was removed before a step does not depend on it, so its cost is no part of that step's reward.
    to_go = spent.sum(0) if baseline == "order" else spent.flip(0).cumsum(0).flip(0)
    reward = value.detach() - to_go
    objective = value.mean()
    if baseline == "guide":
        counts = terms.log_removals != 0  # steps that a graph takes
        if terms.learned is not None:
            # its loss is bounded in slope, as the largest norm of the gradient is for all parameters together
            objective = objective - huber_loss(terms.learned[counts], reward[counts])
            reward = reward - terms.learned.detach()
        elif terms.average is not None:
            reward = _less_average(reward, counts, terms.average)
    elif baseline != "none":
        reward = (reward - reward.mean(-2, keepdim=True)) * (orders / (orders - 1))
    return objective + (reward * terms.log_removals).sum(0).mean()


@torch.no_grad()
def _less_average(reward: Tensor, counts: Tensor, average: Tensor) -> Tensor:
    """Rewards (T, S, G) less the decaying averages of their steps, into which they then go."""
    average = average[: len(reward)]
    many = counts.sum((1, 2))[: len(average)]
    mean = (reward * counts).sum((1, 2))[: len(average)] / many.clamp(min=1)
    less = reward.clone()
    less[: len(average)] -= average[:, None, None]
    average.lerp_(torch.where(many > 0, mean, average), 0.1)
    return less
