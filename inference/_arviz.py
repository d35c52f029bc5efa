"""The one place that knows which ArviZ is installed: 0.2x (InferenceData) or 1.x (DataTree)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np

from ..data.atomic import replacing
from .elbo import InferenceError

__all__ = ["compare_posteriors", "from_netcdf", "pareto_smoothed", "to_arviz", "to_netcdf"]

_SUM = "sha256"  # of the root's attributes
_OVERHEAD = 6_000  # bytes of a variable or group besides its numbers

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
    """Read a posterior back, whichever of the two wrote it.

    Raises:
        InferenceError: there is no such file, it is no posterior that can be read, or its numbers, names and attributes
            are not those that :func:`to_netcdf` wrote.
    """
    if not Path(path).is_file():
        raise InferenceError(f"there is no file {path}")
    try:
        found = az.from_netcdf(str(path))
        told = found.attrs.pop(_SUM, None)  # not of what is done to it from now on
        changed = told is not None and told != _sum(found)
    except Exception as error:  # HDF5, h5netcdf and xarray raise many kinds
        raise InferenceError(
            f"{path} is damaged or no netCDF file of a posterior: {type(error).__name__}: {error}"
        ) from None
    if changed:
        raise InferenceError(f"{path} is damaged: it does not have the check sum in it")
    return found


def to_netcdf(posterior: Any, path: str | Path) -> Path:
    """Write a posterior as a file that is there whole or not at all.

    Raises:
        InferenceError: the folder cannot be written to, or is full.
    """
    path = Path(path)
    posterior.attrs[_SUM] = _sum(posterior)
    try:
        with replacing(path) as partial:
            # HDF5 ends the whole process where a disk fills up while it writes: ask for the room before
            _reserve(partial, _most_bytes(posterior))
            posterior.to_netcdf(str(partial))
    except OSError as error:
        told = " ".join(str(error).split())
        raise InferenceError(f"cannot write {path}: {told}") from None
    finally:
        del posterior.attrs[_SUM]
    return path


def _groups(posterior: Any) -> dict[str, Any]:
    """Group by name, in the order of the names."""
    names = posterior.children if hasattr(posterior, "children") else posterior.groups()
    return {name: posterior[name] for name in sorted(names)}


def _sum(posterior: Any) -> str:
    """sha256 of what a posterior says, however a file lays it out."""
    digest = hashlib.sha256()

    def add(*words: Any) -> None:
        digest.update(json.dumps(words).encode())

    def add_attributes(attrs: Mapping[str, Any]) -> None:
        # a file gives numbers back as those of NumPy, and lists of one as the one
        told = {k: np.asarray(v).ravel().tolist() for k, v in attrs.items() if k != _SUM}
        add(sorted(told.items()))

    add_attributes(posterior.attrs)
    for name, group in _groups(posterior).items():
        add_attributes(group.attrs)
        for variable in sorted((*group.data_vars, *group.coords)):
            x = group[variable]
            values = np.asarray(x.values)
            add(name, variable, [str(d) for d in x.dims], list(values.shape))
            if values.dtype.kind in "OUST":
                add([str(v) for v in values.ravel()])
            else:
                add(values.dtype.kind, values.dtype.itemsize)
                digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _most_bytes(posterior: Any) -> int:
    """More than the file will have."""
    groups = list(_groups(posterior).values())
    variables = [group[name] for group in groups for name in (*group.data_vars, *group.coords)]
    return sum(int(x.nbytes) + _OVERHEAD for x in variables) + _OVERHEAD * (2 + len(groups))


def _reserve(path: Path, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        os.posix_fallocate(file, 0, size)
        os.ftruncate(file, 0)
    finally:
        os.close(file)


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
