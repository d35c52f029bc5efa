"""All pictures of one result, written to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ..data.atomic import replacing
from . import _read
from .checks import STATISTICS, degrees, posterior_predictive
from .communities import communities
from .embedding import embedding
from .generated import generated
from .graphs import adjacency
from .held_out import held_out as draw_held_out
from .latents import memberships, sticks, strengths
from .ordering import node_order
from .training import columns, elbo

if TYPE_CHECKING:
    from ..data import Graph


_PLACED = 5_000  # most nodes to place: it takes half a minute, and then there is no room


def save_all(
    idata: Any,
    history: Any | None,
    graph: Graph,
    link_probabilities: Any | None,
    sample: Any | None,
    folder: str | Path,
    *,
    held_out: Sequence[Any] | None = None,
    weighted: bool = False,
    dpi: int = 150,
) -> dict[str, Path]:
    """Write every picture that a result supports as PNG.

    A picture whose input is missing (no strengths in DGLFRM-B, no memberships in a VGAE, no
    predictive draws, nothing held out) is left out and not in what is returned.

    Args:
        idata: ArviZ result.
        history: The fit (for its ``best_step`` too), or columns of it, or ``None``.
        graph: The observed graph.
        link_probabilities: Posterior mean P(A_ij = 1), shape ``(N, N)``, or ``None``.
        sample: One generated graph or several, as :func:`generated` takes them, or ``None``.
        folder: Where to write; made if it is not there.
        held_out: Targets, probabilities and weights of held-out pairs, shape ``(P,)`` each, as
            :func:`held_out_pairs` returns them; or ``None``. Weights may be ``None``.
        weighted: Whether ``link_probabilities`` are posterior mean weights, as :func:`adjacency`
            takes it.
        dpi: Dots per inch.

    Returns:
        Name of the picture to its file: ``elbo``, ``memberships``, ``communities``, ``strengths``,
        ``sticks``, ``embedding``, ``adjacency``, ``generated``, ``posterior_predictive``,
        ``degrees``, ``held_out``.
    """
    grouped = _read.community_site(idata) is not None
    order = node_order(idata) if grouped else None
    probabilities: Any = link_probabilities
    told = {} if history is None else columns(history)
    # A curve of all edges, or of none, says nothing.
    ranked = held_out is not None and len(np.unique(np.asarray(held_out[0]))) == 2
    statistic = any(
        _read.has(idata, "observed_data", name) and _read.has(idata, "posterior_predictive", name)
        for name in STATISTICS
    )
    wanted: dict[str, tuple[bool, Callable[[], Any]]] = {
        "elbo": (bool(told), lambda: elbo(told)),
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
        "embedding": (
            any(_read.has(idata, "posterior", name) for name in ("embedding", "strengths")),
            lambda: embedding(idata, graph),
        ),
        "adjacency": (
            probabilities is not None,
            lambda: adjacency(graph, probabilities, order, weighted=weighted),
        ),
        "generated": (sample is not None, lambda: generated(graph, sample, order=order)),
        "posterior_predictive": (statistic, lambda: posterior_predictive(idata)),
        "degrees": (
            _read.has(idata, "posterior_predictive", "degree")
            and _read.has(idata, "observed_data", "degree"),
            lambda: degrees(idata),
        ),
        "held_out": (ranked, lambda: draw_held_out(*(held_out or ()))),
    }
    return save_pictures(
        {name: draw for name, (possible, draw) in wanted.items() if possible}, folder, dpi
    )


def save_pictures(
    wanted: Mapping[str, Callable[[], Any]], folder: str | Path, dpi: int = 150
) -> dict[str, Path]:
    """Draw pictures and write them as PNG: name to file, for what each name's function draws into."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    with plt.ioff():
        for name, draw in wanted.items():
            axes = draw()
            figure = np.asarray(axes, dtype=object).ravel()[0].figure
            written[name] = folder / f"{name}.png"
            try:
                with replacing(written[name]) as partial:
                    figure.savefig(partial, dpi=dpi, facecolor="white")
            finally:
                plt.close(figure)
    return written
