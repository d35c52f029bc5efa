"""All pictures of one result, written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from . import _read
from .checks import STATISTICS, degrees, posterior_predictive
from .communities import communities
from .generated import generated
from .graphs import adjacency
from .latents import memberships, sticks, strengths
from .ordering import node_order
from .training import elbo

if TYPE_CHECKING:
    from ..data import Graph


_PLACED = 5_000  # most nodes to place: it takes half a minute, and then there is no room


def save_all(
    idata: Any,
    history: Mapping[str, Any] | None,
    graph: Graph,
    link_probabilities: Any | None,
    sample: Any | None,
    folder: str | Path,
    *,
    dpi: int = 150,
) -> dict[str, Path]:
    """Write every picture that a result supports as PNG.

    A picture whose input is missing (no strengths in DGLFRM-B, no memberships in a VGAE, no
    predictive draws) is left out and not in what is returned.

    Args:
        idata: ArviZ result.
        history: Columns of the fit, or ``None``.
        graph: The observed graph.
        link_probabilities: Posterior mean P(A_ij = 1), shape ``(N, N)``, or ``None``.
        sample: One generated adjacency matrix, shape ``(N, N)``, or ``None``.
        folder: Where to write; made if it is not there.
        dpi: Dots per inch.

    Returns:
        Name of the picture to its file: ``elbo``, ``memberships``, ``communities``,
        ``strengths``, ``sticks``, ``adjacency``, ``generated``, ``posterior_predictive``, ``degrees``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    grouped = _read.community_site(idata) is not None
    order = node_order(idata) if grouped else None
    probabilities: Any = link_probabilities
    statistic = any(
        _read.has(idata, "observed_data", name) and _read.has(idata, "posterior_predictive", name)
        for name in STATISTICS
    )
    wanted: dict[str, tuple[bool, Callable[[], Any]]] = {
        "elbo": (bool(history), lambda: elbo(history or {})),
        "memberships": (grouped, lambda: memberships(idata, graph)),
        "communities": (
            grouped and graph.num_nodes <= _PLACED,
            lambda: communities(idata, graph),
        ),
        "strengths": (
            all(_read.has(idata, "posterior", name) for name in ("memberships", "strengths")),
            lambda: strengths(idata, graph),
        ),
        "sticks": (_read.has(idata, "posterior", "sticks"), lambda: sticks(idata)),
        "adjacency": (
            probabilities is not None,
            lambda: adjacency(graph, probabilities, order),
        ),
        "generated": (sample is not None, lambda: generated(graph, sample, order=order)),
        "posterior_predictive": (statistic, lambda: posterior_predictive(idata)),
        "degrees": (
            _read.has(idata, "posterior_predictive", "degree")
            and _read.has(idata, "observed_data", "degree"),
            lambda: degrees(idata),
        ),
    }
    written: dict[str, Path] = {}
    with plt.ioff():
        for name, (possible, draw) in wanted.items():
            if not possible:
                continue
            axes = draw()
            figure = np.asarray(axes, dtype=object).ravel()[0].figure
            written[name] = folder / f"{name}.png"
            try:
                figure.savefig(written[name], dpi=dpi, facecolor="white")
            finally:
                plt.close(figure)
    return written
