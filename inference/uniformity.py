r"""Are ranks uniform? The test of the empirical distribution function with exact simultaneous bands.

Of M independent ranks in 0..L, the number that are at most j is Binomial(M, (j + 1) / (L + 1)) if ranks are uniform.
The statistic is the smallest two-sided binomial tail over all j, and its distribution is computed, not simulated: the
counts of the L + 1 values are independent Poissons given their sum, so that the probability of staying within given
bounds is a chain of L + 1 convolutions.

References:
    | Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and multiple sample
      comparison (Säilynoja, Bürkner and Vehtari, Statistics and Computing 2022)
"""

from __future__ import annotations

import numpy as np
from scipy import stats

__all__ = ["holm", "rank_band", "rank_shape", "uniformity_p_value"]

_LEAST = 1e-12  # differences of probabilities are not known better
_ROUNDING = 1e-9  # tails that are equal by symmetry differ by rounding


def uniformity_p_value(ranks: np.ndarray, draws: int) -> float:
    """Probability that uniform ranks leave the middle of their distribution at least as far as these do.

    Arguments:
        ranks: (M,) integers in 0..draws.
        draws: L.

    Returns:
        an exact p-value, 1e-12 at the least. As ranks are discrete, it is at most t with a probability of at most t.
    """
    counts = np.bincount(ranks, minlength=draws + 1)[:draws].cumsum()
    tails = _tails(len(ranks), draws)
    least = tails[counts, np.arange(draws)].min()
    return max(_LEAST, 1.0 - _inside(tails, least))


def rank_band(simulations: int, draws: int, level: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that the empirical distribution function of uniform ranks keeps to everywhere at once.

    Arguments:
        simulations: M.
        draws: L.
        level: probability of leaving them anywhere, at most; ranks leave them just if their p-value is at most this.

    Returns:
        (lowest, highest) share of ranks that are at most j, for j = 0..L-1: (L,) each.
    """
    tails = _tails(simulations, draws)
    low, high = 0.0, 2.0  # of the pointwise tail; at low the band is wide enough
    for _ in range(60):
        middle = 0.5 * (low + high)
        if 1.0 - _inside(tails, middle) <= level:
            low = middle
        else:
            high = middle
    kept = tails > low * (1.0 + _ROUNDING)
    first = kept.argmax(0)
    last = simulations - kept[::-1].argmax(0)
    return first / simulations, last / simulations


def rank_shape(ranks: np.ndarray, draws: int) -> tuple[float, float]:
    """(bias, spread) of ranks in standard errors, about standard normal each if ranks are uniform.

    A bias above 0: truths lie above the draws. A spread above 0: ranks gather at both ends (the U of draws that are
    too narrow); below 0: in the middle (the hump of draws that are too wide).
    """
    u = (ranks + 0.5) / (draws + 1.0) - 0.5
    grid = (np.arange(draws + 1) + 0.5) / (draws + 1.0) - 0.5
    root = np.sqrt(len(ranks))
    square = grid**2
    return (
        float(root * u.mean() / grid.std()),
        float(root * ((u**2).mean() - square.mean()) / max(square.std(), 1e-12)),
    )


def holm(p: np.ndarray) -> np.ndarray:
    """p-values for a family of tests, dependent or not (Holm 1979): the least is below t with probability t at most."""
    order = np.argsort(p)
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def _tails(simulations: int, draws: int) -> np.ndarray:
    """Two-sided binomial tails of every count at every j, (M + 1, L)."""
    counts = np.arange(simulations + 1)[:, None]
    below = np.arange(1, draws + 1) / (draws + 1.0)
    lower = stats.binom.cdf(counts, simulations, below)
    upper = stats.binom.sf(counts - 1, simulations, below)
    return 2.0 * np.minimum(lower, upper)


def _inside(tails: np.ndarray, least: float) -> float:
    """Probability that the tails of uniform ranks are above ``least`` at every j."""
    simulations, draws = tails.shape[0] - 1, tails.shape[1]
    kept = tails > least * (1.0 + _ROUNDING)
    step = stats.poisson.pmf(np.arange(simulations + 1), simulations / (draws + 1.0))
    step = step[: 1 + int(np.flatnonzero(step > 1e-30).max())]
    chance = np.zeros(simulations + 1)
    chance[0] = 1.0
    for j in range(draws):  # a Markov chain in j
        chance = np.convolve(chance, step)[: simulations + 1] * kept[:, j]
    last = np.convolve(chance, step)[simulations]
    return float(min(1.0, last / stats.poisson.pmf(simulations, simulations)))
