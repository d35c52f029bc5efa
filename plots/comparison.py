"""Inferred memberships beside the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..inference import match_communities
from . import _read
from . import _style as st
from .ordering import drawing_order

if TYPE_CHECKING:
    from ..data import Graph

__all__ = ["membership_comparison"]


def membership_comparison(
    posterior: Any, truth: Any, graph: Graph | None = None, axes: Any = None
) -> np.ndarray:
    """Draw inferred memberships beside the true ones, in the same order of nodes.

    Inferred communities stand below the true ones that they match (one to one, the best sum of
    Tanimoto coefficients); those in use that match nothing follow on the right of a line, and a
    true community without a match is an empty grey column. Nodes are sorted by the truth, and
    within equal memberships by the posterior; nodes whose truth is not known are grey at the end.

    Args:
        posterior: ArviZ result with ``memberships`` (chain, draw, node, community) or integer
            labels ``membership`` (chain, draw, node).
        truth: True memberships of 0 and 1, shape ``(N, L)``, or labels, shape ``(N,)``, -1 where
            not known.
        graph: For names of nodes, and of labels if ``truth`` is labels.
        axes: Two axes to draw into.

    Returns:
        The two axes, shape ``(2,)``: inferred and true.

    Raises:
        KeyError: If the result has no communities.
        ValueError: If the truth is of another form or of other nodes.
    """
    means = _read.mean_memberships(posterior)
    count = len(means)
    known, names, labelled = _truth(truth, count, graph)
    order = match_communities(means[labelled], known[labelled])
    matches, spare = order[: known.shape[1]], order[known.shape[1] :]
    used = drawing_order(means).communities
    spare = used[np.isin(used, spare)]
    columns = np.append(matches, spare)
    inferred = np.where(columns >= 0, means[:, columns], np.nan)
    nodes = _by_truth(known, inferred, labelled)
    shown = np.full((count, len(columns)), np.nan)
    shown[:, : known.shape[1]] = np.where(labelled[:, None], known, np.nan)
    width = 3.4 + 0.5 * len(columns)
    height = 1.3 + 0.15 * count if count <= st.MAX_NAMED else 5.6
    panels = (
        st.new_grid(1, 2, min(10.0, max(6.4, width)), max(4.2, height), sharey=True)[0]
        if axes is None
        else st.given_axes(axes, 2)
    )
    community = _read.community_names(posterior)
    ticks = [["–" if k < 0 else community[k] for k in columns], names]
    words = [("Inferred", "community, matched to truth"), ("Truth", "true community")]
    image = None
    for panel, matrix, tick, (heading, label) in zip(
        panels, (inferred, shown), ticks, words, strict=True
    ):
        image = panel.imshow(
            np.ma.masked_invalid(st.row_means(matrix[nodes])),
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, len(columns) - 0.5, count - 0.5, -0.5),
            cmap=st.SEQUENTIAL.with_extremes(bad="#E4E4E4"),
            vmin=0.0,
            vmax=1.0,
        )
        st.dress_matrix(panel, heading, label, "")
        every = max(1, -(-len(tick) // 16))
        long = max((len(name) for name in tick), default=0) > 4
        panel.set_xticks(
            np.arange(len(tick))[::every],
            tick[::every],
            **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if long else {}),
        )
        if len(spare):
            panel.axvline(known.shape[1] - 0.5, color=st.INK, lw=0.8)
    st.colorbar(image, "P(member | graph)", list(panels), aspect=30, pad=0.02, fraction=0.06)
    node_names = _read.node_names(posterior, graph, count)
    if not st.name_ticks(panels[0], [node_names[node] for node in nodes]):
        panels[0].yaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0].set_ylabel("node, sorted by truth", fontsize=st.LABEL, color=st.INK)
    panels[1].tick_params(left=False, labelleft=False)
    return panels


def _truth(truth: Any, count: int, graph: Graph | None) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return true memberships (N, L) of 0 and 1, their names, and who is labelled (N,).

    Columns are in order of size, so that blocks lie along the diagonal.
    """
    values = _read.array(truth)
    if values.ndim not in (1, 2) or len(values) != count or values.dtype.kind not in "biuf":
        raise ValueError(
            f"truth must be labels of shape ({count},) or memberships of shape ({count}, L), "
            f"not {values.dtype} of shape {values.shape}"
        )
    if values.ndim == 2:
        if not ((values == 0) | (values == 1)).all():
            raise ValueError("true memberships must be 0 or 1")
        by_use = np.argsort(-values.sum(axis=0, dtype=float), kind="stable")
        names = [str(number) for number in by_use]
        return values[:, by_use].astype(float), names, np.ones(count, dtype=bool)
    if values.dtype.kind not in "iu":
        raise ValueError(f"true labels must be integers, not {values.dtype}")
    present, sizes = np.unique(values[values >= 0], return_counts=True)
    present = present[np.argsort(-sizes, kind="stable")]
    if not present.size:
        raise ValueError("truth is negative for every node: no label is known to compare with")
    given = None if graph is None else graph.label_names
    names = [str(given[k]) if given and k < len(given) else str(k) for k in present]
    return (values[:, None] == present).astype(float), names, values >= 0


def _by_truth(known: np.ndarray, inferred: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Order nodes by their true memberships, then by the posterior, the unknown last."""
    _, pattern = np.unique(known, axis=0, return_inverse=True)
    place = np.empty(len(known), int)
    place[drawing_order(known).nodes] = np.arange(len(known))
    first = np.full(pattern.max() + 1, len(known))
    np.minimum.at(first, pattern.ravel(), place)
    within = np.empty(len(known), int)
    within[drawing_order(np.nan_to_num(inferred)).nodes] = np.arange(len(known))
    return np.lexsort([within, first[pattern.ravel()], ~labelled])
