"""How often right code fails a test by chance: limits of z-scores and p-values, and an account of what they add up to.

Every comparison of a random number with its law goes through :func:`largest` or :func:`smallest`. Both count, and
``conftest.py`` sums up over the suite: by Bonferroni, it fails by chance for at most a share :data:`FAMILY` of seeds
(which are fixed, so that this is about how they were chosen). z-scores are taken as standard normal: they are means
of hundreds of draws or more, or Student's t where ``draws`` says how few there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import stats

__all__ = ["FAMILY", "LEVEL", "LIMIT", "Account", "account", "largest", "smallest"]

#: of |z|: beyond it two in a billion
LIMIT = 6.0
#: of a p-value
LEVEL = 1e-6
#: of the suite
FAMILY = 1e-4


class Account:
    """What has been compared so far: z-scores, p-values."""

    def __init__(self, scores: int = 0, p_values: int = 0) -> None:
        self.scores, self.p_values = scores, p_values

    def add(self, scores: int, p_values: int) -> None:
        self.scores += scores
        self.p_values += p_values

    @property
    def chance(self) -> float:
        """Bound on the probability that any of them fails though all is right."""
        return self.scores * 2.0 * float(stats.norm.sf(LIMIT)) + self.p_values * LEVEL

    def __str__(self) -> str:
        return (
            f"{self.scores:,} z-scores (limit {LIMIT:g}) and {self.p_values:,} p-values (limit {LEVEL:g}): right code "
            f"fails with a probability of at most {self.chance:.1e}"
        )


account = Account()


def largest(z: Any, draws: int | None = None) -> float:
    """The largest |z|, to be below :data:`LIMIT`; NaN if one is.

    Arguments:
        z: any number of z-scores.
        draws: how many draws their standard errors were estimated from, where those are few: normal scores of the
            same probability are compared.
    """
    scores = np.abs(_numbers(z))
    account.add(len(scores), 0)
    if draws is not None:
        scores = np.where(np.isnan(scores), np.nan, stats.norm.isf(stats.t.sf(scores, draws - 1)))
    return float(scores.max())


def smallest(p: Any) -> float:
    """The smallest p-value, to be above :data:`LEVEL`. Of a table of family-wise ones, give the least."""
    values = _numbers(p)
    account.add(0, len(values))
    return float(values.min())


def _numbers(x: Any) -> np.ndarray:
    return np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, dtype=float).ravel()
