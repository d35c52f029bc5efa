"""The one place that knows which ArviZ is installed: 0.2x (InferenceData) or 1.x (DataTree)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np

__all__ = ["compare_posteriors", "from_netcdf", "pareto_smoothed", "to_arviz"]

#: columns of ``az.compare`` that are sums over what is left out, or their standard errors
_SUMS = ("elpd_loo", "elpd", "p_loo", "p", "elpd_diff", "se", "dse")
_V1 = int(az.__version__.split(".")[0]) >= 1


def to_arviz(
    groups: Mapping[str, Mapping[str, np.ndarray]],
    coords: Mapping[str, Sequence[Any]],
    dims: Mapping[str, Sequence[str]],
    attrs: Mapping[str, Any],
) -> Any:
    """Build the container of the installed ArviZ. Draw groups carry (chain, draw, ...), data groups do not."""
    filled = {name: dict(group) for name, group in groups.items() if group}
    options: dict[str, Any] = {
        "coords": dict(coords),
        "dims": {k: list(v) for k, v in dims.items()},
    }
    data = az.from_dict(filled, **options) if _V1 else az.from_dict(**filled, **options)
    for name in filled:  # the same draws give the same file, whenever they are made
        data[name].attrs.pop("created_at", None)
    data.attrs.pop("created_at", None)
    data.attrs.update(attrs)
    return data


def from_netcdf(path: str | Path) -> Any:
    """Read a posterior back, whichever of the two wrote it."""
    return az.from_netcdf(str(path))


def compare_posteriors(posteriors: Mapping[str, Any]) -> tuple[Any, dict[str, np.ndarray]]:
    """(table of ``az.compare``, k-hat of every unit by name), by leave-one-out of the ``edges``.

    Sums over a random sample of m of M dyads are multiplied by M / m. So are their standard errors: that of the sample
    is sqrt(m) s, and (M / m) sqrt(m) s has the variance M s^2 of the sum over all dyads and that of the choice of them.
    """
    loos = {
        name: az.loo(data, pointwise=True, var_name="edges") for name, data in posteriors.items()
    }
    table = az.compare(loos, round_to="none") if _V1 else az.compare(loos, ic="loo")
    attrs = next(iter(posteriors.values())).attrs
    if 0 < attrs["kept_dyads"] < attrs["observed_dyads"]:
        sums = [name for name in table if name in _SUMS]
        table[sums] = table[sums].astype(float) * (attrs["observed_dyads"] / attrs["kept_dyads"])
    return table, {name: np.asarray(loo.pareto_k).ravel() for name, loo in loos.items()}


def pareto_smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed log weights (S,), normalised or not as the installed ArviZ has them, and k-hat of their tail."""
    if _V1:
        from arviz_stats.base import array_stats

        smoothed, k_hat = array_stats.psislw(-log_weights)  # it takes log-likelihoods
    else:
        smoothed, k_hat = az.psislw(log_weights)
    return np.asarray(smoothed), float(k_hat)
