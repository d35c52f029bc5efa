"""Have the chains converged? R-hat and effective sample sizes of what no renumbering of communities changes."""

from __future__ import annotations

from typing import Any

import arviz
import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["mcmc_diagnostics"]


def mcmc_diagnostics(posterior: Any) -> pd.DataFrame:
    """Summarise the chains of :func:`fit_mcmc` by quantities that are the same for every numbering of communities.

    Rows: ``lp``, the log joint density; ``log_likelihood`` of the edges; ``communities``, how many have a member;
    ``memberships`` of a node, on average; ``size_1``, ``size_2``, ...: sizes of communities, the largest first (up to
    five that are not constant); ``shared``, the share of pairs of nodes that have a community in common; and every
    latent without community or node dimension. R-hat is ArviZ's rank-normalised one; above 1.01 (Vehtari and others
    2021) the chains do not agree yet. Quantities that are constant over all draws have NaN there.

    Arguments:
        posterior: ArviZ data with the groups ``posterior`` and ``log_likelihood``.

    Returns:
        a table with the columns mean, sd, r_hat, ess_bulk, ess_tail, a row a quantity.

    Raises:
        ValueError: fewer than four draws a chain.
    """
    quantities = _quantities(posterior)
    if quantities.sizes["draw"] < 4:
        raise ValueError("R-hat and effective sample sizes need at least four draws a chain")
    moving = [n for n, q in quantities.items() if float(q.std()) > 1e-12]
    chosen = quantities[moving]
    columns = {
        "r_hat": arviz.rhat(chosen),
        "ess_bulk": arviz.ess(chosen, method="bulk"),
        "ess_tail": arviz.ess(chosen, method="tail"),
    }
    rows = {}
    for name, quantity in quantities.items():
        row = {"mean": float(quantity.mean()), "sd": float(quantity.std(ddof=1))}
        for column, table in columns.items():
            row[column] = float(table[name]) if name in moving else float("nan")
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _quantities(posterior: Any) -> xr.Dataset:
    """Scalars by draw, (chain, draw) each."""
    latents = posterior.posterior
    found: dict[str, Any] = {}
    if "sample_stats" in _groups(posterior):
        found["lp"] = posterior.sample_stats["lp"].values
    pointwise = posterior.log_likelihood["edges"].values
    found["log_likelihood"] = pointwise.sum(axis=tuple(range(2, pointwise.ndim)))
    bits = _bits(latents)
    if bits is not None:
        sizes = bits.sum(axis=2)
        found["communities"] = (sizes > 0).sum(axis=-1)
        if "memberships" in latents:
            found["memberships"] = bits.sum(axis=-1).mean(axis=-1)
        for k, size in enumerate(np.moveaxis(-np.sort(-sizes, axis=-1), -1, 0)[:5]):
            if size.std() > 0:
                found[f"size_{k + 1}"] = size
        found["shared"] = _shared(bits)
    for name, latent in latents.data_vars.items():
        if latent.dims == ("chain", "draw"):
            found[str(name)] = latent.values
    dims = ("chain", "draw")
    return xr.Dataset({name: (dims, np.asarray(v, dtype=float)) for name, v in found.items()})


def _bits(latents: Any) -> np.ndarray | None:
    """Memberships as 0 and 1, (chain, draw, node, community)."""
    if "memberships" in latents:
        return (latents["memberships"].values > 0.5).astype(np.int64)
    if "membership" in latents:
        z = latents["membership"].values
        return (z[..., None] == np.arange(latents.sizes["community"])).astype(np.int64)
    return None


def _shared(bits: np.ndarray) -> np.ndarray:
    n = bits.shape[2]
    together = np.empty(bits.shape[:2])
    for chain, chain_bits in enumerate(bits.astype(np.float32)):
        for draw, b in enumerate(chain_bits):  # (N, N) a draw, never all of them at once
            together[chain, draw] = ((b @ b.T > 0).sum() - (b.any(-1)).sum()) / (n * (n - 1))
    return together


def _groups(posterior: Any) -> set[str]:
    groups = posterior.groups() if callable(posterior.groups) else posterior.groups
    return {g.strip("/") for g in groups}
