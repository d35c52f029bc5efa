"""Nodes and links at given places, for every picture that draws a graph as such."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from . import _style as st

NAMED = 40  # up to this many nodes short names stand in the nodes
_LINK = "#8A8A8A"


def links(ax: Axes, pairs: np.ndarray, places: np.ndarray, directed: bool, **options: Any) -> None:
    """Draw links of shape ``(2, E)`` between places of shape ``(N, 2)``; arcs have heads."""
    settings: dict[str, Any] = {"colors": _LINK, "linewidths": 0.8, "zorder": 1}
    settings |= options
    if not pairs.shape[1]:
        return
    lines = LineCollection(places[pairs.T], **settings)
    ax.add_collection(lines)
    if directed:
        tails, heads = places[pairs[0]], places[pairs[1]]
        way = heads - tails
        # A short arrow without a shaft, a little before the node that it points to.
        ax.quiver(
            *(tails + 0.62 * way).T,
            *(0.12 * way).T,
            angles="xy",
            scale_units="xy",
            scale=1.0,
            units="dots",
            width=1.0,
            headwidth=6.0,
            headlength=7.0,
            headaxislength=6.0,
            minlength=0.0,
            color=settings["colors"],
            zorder=settings["zorder"],
        )


def node_link(
    ax: Axes,
    pairs: np.ndarray,
    places: np.ndarray,
    colours: np.ndarray,
    names: list[str] | None,
    directed: bool = False,
    size: float | None = None,
) -> None:
    """Draw a graph as nodes and links.

    Args:
        ax: Where to draw.
        pairs: Edges, shape ``(2, E)``.
        places: Places, shape ``(N, 2)``.
        colours: RGBA of the nodes, shape ``(N, 4)``.
        names: One a node; written into the nodes if they are short and at most 40.
        directed: Whether edges have heads.
        size: Area of a node in square points; by their number if not given.
    """
    count = len(places)
    links(ax, pairs, places, directed)
    longest = max((len(name) for name in names or ()), default=99)
    short = size is None and count <= NAMED and longest <= 3
    if size is None:
        size = 210 if short else max(14, 2400 / max(count, 1))
    ax.scatter(
        places[:, 0], places[:, 1], s=size, c=colours, edgecolors="white", linewidths=0.9, zorder=2
    )
    if short and names is not None:
        dark = colours[:, :3] @ np.array([0.299, 0.587, 0.114]) < 0.55
        for place, name, pale in zip(places, names, dark, strict=True):
            ax.text(
                place[0],
                place[1],
                name,
                fontsize=st.NAME,
                ha="center",
                va="center_baseline",
                color="white" if pale else "black",
                zorder=3,
            )
    ax.margins(0.06)
    ax.set_axis_off()
