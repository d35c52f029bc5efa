"""How close is a guide to the posterior? Pareto k-hat of its importance weights, with its meaning in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from ..models.sbm import SBM
from ._arviz import pareto_smoothed
from .draws import evaluation_mode, guide_draws
from .fitted import Fit
from .importance import log_importance_weights
from .relaxation import exact_memberships
from .seeds import seeded
from .told import as_told

__all__ = ["GuideQuality", "guide_quality"]

_EQUAL = 1e-6  # nats within which log weights are equal but for rounding


@dataclass(frozen=True)
class GuideQuality:
    """What the importance weights w = p(A, latents) / q(latents) of a guide's draws say.

    Attributes:
        k_hat: shape of the generalised Pareto tail of the weights: 1 / k of their moments exist. 0 where all weights
            are equal (the guide is the posterior), infinite where a handful of draws outweighs all others.
        elbo: mean of log w, in nats; at most log p(A).
        log_evidence: log p(A) from the Pareto-smoothed weights, in nats; to be trusted if ``trusted``.
        effective_draws: how many draws of the posterior the weighted draws are worth, 1 / sum of squared weights; to
            be trusted if ``trusted``.
        meaning: all of this in words.
        threshold: what k_hat must stay below with so many draws, min(1 - 1 / log10(draws), 0.7).
        draws: S.
    """

    k_hat: float
    elbo: float
    log_evidence: float
    effective_draws: float
    meaning: str
    threshold: float
    draws: int

    @property
    def trusted(self) -> bool:
        """Whether importance weights can correct the guide: k_hat is below the threshold."""
        return self.k_hat < self.threshold


def guide_quality(fit: Fit, draws: int = 1000, seed: int | None = None) -> GuideQuality:
    r"""Weigh draws of a guide against story and graph, and say whether importance sampling can correct it.

    Of the largest weights, a generalised Pareto distribution is fitted; its shape k-hat says how heavy their tail is.
    Below the threshold for the number of draws, weighted draws stand for the posterior, and the evidence is known;
    above, they do not, and no average with these weights means anything. k-hat is of all latents at once: it grows with
    their number, and with hundreds of them it is above 1 even where every single latent is nearly right. It cannot see
    what no draw of the guide comes near: a mode that was missed makes no weight large.

    The weights are held against the story as it is told: where the fit was tempered, relaxed or on a sample of dyads,
    against the posterior without that.

    Arguments:
        fit: of a node-level story, by :func:`~graphlore.inference.fit`.
        draws: S, at least 100.
        seed: of the draws; that of the fit if None.

    Raises:
        ValueError: fewer than 100 draws; not a :class:`Fit`.
        InferenceError: a guide whose sites are not those of the story.

    References:
        | Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao and Gabry, JMLR 2024)
        | Yes, but Did It Work?: Evaluating Variational Inference (Yao, Vehtari, Simpson and Gelman, ICML 2018)
    """
    if not isinstance(fit, Fit):
        raise ValueError(
            f"guide_quality is for the Fit of a node-level story, not {type(fit).__name__}"
        )
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 100:
        raise ValueError(f"draws must be a whole number, at least 100, not {draws!r}")
    seed = fit.settings.seed if seed is None else seed
    with as_told(fit.story):
        weights = log_importance_weights(fit.story, fit.guide, fit.graph, draws, seed)
    raw = weights.double().cpu().numpy()
    if float(np.ptp(raw)) < _EQUAL * (1.0 + abs(float(raw.mean()))):
        k_hat, smoothed = 0.0, raw  # there is no tail to fit
    else:
        smoothed, k_hat = pareto_smoothed(raw.copy())
    total = float(logsumexp(smoothed))
    # ArviZ may have normalised: the smallest weight is never smoothed, and tells by how much
    least = int(raw.argmin())
    log_evidence = total + float(raw[least] - smoothed[least]) - math.log(draws)
    effective = math.exp(2.0 * total - float(logsumexp(2.0 * smoothed)))
    threshold = min(1.0 - 1.0 / math.log10(draws), 0.7)
    elbo = float(raw.mean())
    return GuideQuality(
        k_hat,
        elbo,
        log_evidence,
        effective,
        _meaning(fit, k_hat, threshold, elbo, log_evidence, effective, draws),
        threshold,
        draws,
    )


def _meaning(
    fit: Fit,
    k_hat: float,
    threshold: float,
    elbo: float,
    log_evidence: float,
    effective: float,
    draws: int,
) -> str:
    said = [f"k-hat = {k_hat:.2f} (threshold {threshold:.2f} for {draws:,} draws)."]
    if k_hat < threshold:
        ease = "easily" if k_hat < 0.5 else "with some noise"
        said.append(
            f"Importance weights correct the guide {ease}: {draws:,} weighted draws are worth about "
            f"{effective:,.0f} of the posterior, log p(A) is about {log_evidence:.1f} nats, and the ELBO is "
            f"{log_evidence - elbo:.1f} nats short of it."
        )
    elif k_hat < 1.0:
        more = 10.0 ** min(12.0, 1.0 / (1.0 - k_hat))
        advice = (
            f"about {more:,.0f} draws would do"
            if k_hat < 0.7
            else "more draws help slowly, a richer guide helps"
        )
        said.append(
            "Importance weights do not correct the guide with so many draws: do not trust the log evidence "
            f"({log_evidence:.1f} nats) or the effective draws; {advice}."
        )
    else:
        said.append(
            "Importance weights cannot correct the guide, with any number of draws: a few draws outweigh the others. "
            f"The log evidence ({log_evidence:.1f} nats) and the effective draws mean nothing; the ELBO "
            f"({elbo:.1f} nats) is still a lower bound."
        )
    if k_hat >= threshold:
        said.append(
            f"This is a verdict on all {_latents(fit):,} latent numbers at once, and errors add up: with so "
            "many, k-hat above 1 is the rule for a factorised guide. It does not say that single memberships or link "
            "probabilities are wrong. Check what you use: posterior predictive checks, calibration on held-out "
            "dyads, sbc() on small graphs, fit_mcmc() where it is affordable."
        )
    if isinstance(fit.story, SBM) and fit.story.num_blocks > 1:
        short = math.lgamma(fit.story.num_blocks + 1)
        said.append(
            "Blocks can be renumbered: a guide that keeps to one numbering sees one of K! equal modes, which no weight "
            f"tells, and log p(A) is then up to log K! = {short:.1f} nats higher."
        )
    else:
        said.append("Modes that no draw of the guide comes near do not show.")
    if fit.tempered != "no":
        said.append(
            f"The fit is tempered ({fit.tempered.removeprefix('yes: ')}); it is held against the posterior of the "
            "story without that."
        )
    return " ".join(said)


def _latents(fit: Fit) -> int:
    """Numbers in one draw of the latents."""
    with (
        seeded(0, fit.graph.device),
        evaluation_mode(fit.story, fit.guide),
        exact_memberships(fit.story, fit.guide),
    ):
        return sum(v.numel() for v in guide_draws(fit.story, fit.guide, fit.graph, 1).values())
