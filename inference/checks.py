"""Posterior (or prior) predictive checks as a table: the observed graph against those a story draws."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .statistics import STATISTICS, p_value

__all__ = ["Check", "Checks", "posterior_predictive_check"]


@dataclass(frozen=True)
class Check:
    """One row of a predictive check.

    Attributes:
        statistic: its name; ``meaning`` says it in words.
        observed: of the graph.
        mean, low, high: of the predictive graphs, with a central 90 % interval.
        p_value: share of predictive graphs at or above the observed one, half of the ties counted.
        draws: how many predictive graphs that is a share of: those that have the statistic.
    """

    statistic: str
    meaning: str
    observed: float
    mean: float
    low: float
    high: float
    p_value: float
    draws: int


class Checks(list[Check]):
    """The rows of a predictive check: a list, that a notebook shows as a table."""

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a table, by statistic."""
        rows = [dataclasses.asdict(check) for check in self]
        columns = [f.name for f in dataclasses.fields(Check)]
        found = pd.DataFrame(rows, columns=columns).set_index("statistic")
        return found[[*(c for c in found if c != "meaning"), "meaning"]]

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format="{:.3g}".format)


def posterior_predictive_check(posterior: Any) -> Checks:
    """Compare the observed graph with graphs drawn from the posterior predictive, statistic by statistic.

    A p-value near 0 says that the story understates the statistic, one near 1 that it overstates it. Data without a
    posterior, of :func:`~graphlore.inference.prior_predictive`, are checked against the prior predictive.

    ArviZ draws the same: ``az.plot_bpv(posterior, var_names=["triangles"], kind="t_stat", t_stat="mean")`` and
    ``az.plot_ppc(posterior, var_names=["degree"])`` in 0.2x, ``az.plot_ppc_tstat(posterior, var_names=["triangles"])``
    and ``az.plot_ppc_dist(posterior, var_names=["degree"])`` in 1.x. (A statistic is one number a graph: pictures of a
    distribution over observations, ``plot_ppc`` and ``plot_ppc_dist``, are for the degrees.)

    Arguments:
        posterior: ArviZ data with ``observed_data`` and ``posterior_predictive`` or ``prior_predictive``.
    """
    drawn = getattr(posterior, "posterior_predictive", None)
    drawn = posterior.prior_predictive if drawn is None else drawn
    checks = Checks()
    for name, meaning in STATISTICS.items():
        if name not in posterior.observed_data:
            continue
        values = np.asarray(drawn[name]).ravel()
        observed = np.asarray(posterior.observed_data[name]).item()
        low, high = np.quantile(values, (0.05, 0.95))
        checks.append(
            Check(
                name,
                meaning,
                observed,
                float(values.mean()),
                float(low),
                float(high),
                p_value(values, observed),
                int(np.isfinite(values).sum()),
            )
        )
    return checks
