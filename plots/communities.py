"""The graph with its communities: each node a pie of its posterior memberships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import IdentityTransform

from ..inference import match_communities
from . import _read
from . import _style as st
from ._layout import spread, spring_places
from .ordering import drawing_order

if TYPE_CHECKING:
    from ..data import Graph

__all__ = ["communities"]

PIES = 400  # up to this many nodes each is a pie; above, a dot of its most probable community
_NAMED = 80  # up to this many nodes have their names
_EDGES = 20_000  # most edges that are drawn
_SLICE = 0.02  # a smaller share of a pie cannot be seen
_EXTENT = 450.0  # about how many points the picture is wide
_REST = 0.05  # less than this of a pie is not shown as none, or as rare communities
_RING = 1.36  # diameter of the ring of the label, in diameters of the pie
_NOBODY = "#9A9A9A"  # the ring of a node without community


@dataclass(frozen=True)
class _Shares:
    """What the picture shows of the memberships.

    Attributes:
        shares: Slices of each node, shape ``(N, C)``; what is missing to 1 is no community.
        colors: Colours of the slices, one a column.
        groups: Mean memberships (or loadings by sign) that the columns show, shape ``(N, C)``.
        rest: Whether the last column is all other communities together.
        key: Name and colour of every column, for a legend, in the order of the numbers.
        told: Title of the legend.
        title: What the picture shows.
    """

    shares: np.ndarray
    colors: list[str]
    groups: np.ndarray
    rest: bool
    key: list[tuple[str, str]]
    told: str
    title: str


def _shares(posterior: Any) -> _Shares:
    if _read.has(posterior, "posterior", "strengths"):
        return _signed_shares(posterior)
    means = _read.mean_memberships(posterior)
    names = _read.community_names(posterior)
    used = drawing_order(means).communities
    used = used[means[:, used].sum(axis=0) > 0]
    shown = used if len(used) <= len(st.OKABE_ITO) else used[: len(st.OKABE_ITO) - 1]
    sizes = means.sum(axis=0)
    rest = np.setdiff1d(np.flatnonzero(sizes > 0), shown)
    total = means.sum(axis=1, keepdims=True)
    weights, colors = means[:, shown], list(st.OKABE_ITO[: len(shown)])
    key = [
        (f"{names[k]}  ({sizes[k]:,.1f})", colors[shown.tolist().index(k)]) for k in sorted(shown)
    ]
    others = means[:, rest].sum(axis=1)
    grey = bool((others > _REST * np.maximum(total[:, 0], 1.0)).any())
    if grey:
        weights, colors = np.column_stack([weights, others]), [*colors, st.OTHER]
        plural = "other" if len(rest) == 1 else "others"
        key.append((f"{len(rest)} {plural}  ({others.sum():,.1f})", st.OTHER))
    # Slices fill the pie but for the probability of none; what cannot be seen is shared out.
    filled = np.where(total > 1.0 - _REST, 1.0, total)
    plural = "community" if len(used) == 1 else "communities"
    return _Shares(
        _visible(weights) * filled,
        colors,
        weights,
        grey,
        key,
        "community (expected members)",
        f"{len(used)} {plural} in use",
    )


def _visible(weights: np.ndarray) -> np.ndarray:
    """Return shares of each row, without those that are too small to be seen."""
    seen = np.where(weights < _SLICE * weights.sum(axis=1, keepdims=True), 0.0, weights)
    sums = seen.sum(axis=1, keepdims=True)
    return np.divide(seen, sums, out=np.zeros_like(seen), where=sums > 0)


def _signed_shares(posterior: Any) -> _Shares:
    """Return shares of the loadings ``|E[b r | graph]|`` by community and sign.

    With strengths, nearly all nodes may belong to a community and differ in the sign or the size
    of their strength alone. A community that no node loads on has a mean of about zero everywhere.
    """
    loadings = _read.mean_product(posterior, "memberships", "strengths").astype(float)
    names = _read.community_names(posterior)
    count = loadings.shape[1]
    signed = np.concatenate((np.maximum(loadings, 0.0), np.maximum(-loadings, 0.0)), axis=1)
    sizes = signed.sum(axis=0)
    used = [int(g) for g in np.argsort(-sizes, kind="stable") if sizes[g] > _REST * sizes.sum()]
    shown = used[: len(st.OKABE_ITO) - 1]
    rest = np.setdiff1d(np.flatnonzero(sizes > 0), shown)
    groups = np.column_stack([signed[:, shown], signed[:, rest].sum(axis=1)])
    colors = [*st.OKABE_ITO[: len(shown)], st.OTHER]
    shares = _visible(groups)
    # A node with next to no loading stays white.
    total = groups.sum(axis=1, keepdims=True)
    shares = np.where(total > _REST * np.median(total), shares, 0.0)
    most = np.bincount(shares.argmax(axis=1)[shares.any(axis=1)], minlength=len(colors))
    in_order = sorted(range(len(shown)), key=lambda g: (shown[g] % count, shown[g] >= count))
    key = [
        (f"{names[shown[g] % count]} {'+' if shown[g] < count else '−'}  ({most[g]:,})", colors[g])
        for g in in_order
    ]
    grey = bool(shares[:, -1].any())
    if grey:
        key.append((f"others  ({most[-1]:,})", st.OTHER))
    else:
        shares, groups, colors = shares[:, :-1], groups[:, :-1], colors[:-1]
    distinct = len({g % count for g in shown})
    plural = "community tells" if distinct == 1 else "communities tell"
    return _Shares(
        shares,
        colors,
        groups,
        grey,
        key,
        "community and sign of\nstrength (nodes most in it)",
        f"{distinct} {plural} nodes apart, by the sign of their strength",
    )


def communities(
    posterior: Any,
    graph: Graph,
    ax: Axes | None = None,
    *,
    places: np.ndarray | None = None,
    seed: int = 0,
) -> Axes:
    """Draw the graph with its communities: each node a pie of its posterior memberships.

    A slice is the posterior probability of a community, divided by their sum where a node belongs
    to more than one. Where the sum is below 0.95, the white rest is no community, and a node that
    most likely has none is a grey ring. Slices below 2 % are left out. Up to eight communities have
    a colour, the most used first; beyond, the seven most used have, and the others share a grey.
    The legend gives the expected number of members.

    Of a story with strengths (DGLFRM) the slices are the node's loadings ``|E[b r | graph]|``, divided
    by their sum, and a community counts twice, for positive and for negative strengths: nodes may
    all belong to a community and yet stand on its two sides. Communities and signs with less than
    5 % of all loadings share a grey. The legend gives how many nodes load most on each.

    If the graph has labels, a ring around the pie
    tells them, in the colour of the community (and sign) that fits the label best (one to one), so
    that a ring of another colour than its pie is a node put elsewhere.

    Above 400 nodes a node is a dot in the colour of its largest slice, the greyer the smaller that
    is, and labels are not drawn. At most 20,000 edges are drawn, chosen at random. Directions
    of edges are not drawn. Names are written up to 80 nodes. Nodes are placed by the edges alone,
    not by the posterior: communities that lie together do so because they are linked.

    Args:
        posterior: ArviZ result with ``memberships`` (chain, draw, node, community) or integer
            labels ``membership`` (chain, draw, node); with ``strengths`` if it has them.
        graph: The graph.
        ax: Where to draw.
        places: Places of the nodes, shape ``(N, 2)``; springs if not given.
        seed: Seed of the layout and of the choice of edges.

    Returns:
        The axes.

    Raises:
        KeyError: If the result has no communities.
        ValueError: If the graph or the places are of other nodes than the result.
    """
    found = _shares(posterior)
    count = len(found.shares)
    if graph.num_nodes != count:
        raise ValueError(f"the posterior is of {count} nodes, the graph of {graph.num_nodes}")
    pies = count <= PIES
    diameter = float(np.clip(150.0 / np.sqrt(max(1, count)), 7.0, 21.0))  # points
    if places is None:
        where = spring_places(graph, seed)
        if pies:  # names need more room than pies do
            room = 0.62 / np.sqrt(max(1, count)) if count <= _NAMED else 0.0
            where = spread(where, max(room, 1.1 * _RING * diameter / _EXTENT))
    else:
        where = _read.array(places).astype(float)
        if where.shape != (count, 2) or not np.isfinite(where).all():
            raise ValueError(
                f"places must be finite numbers of shape {(count, 2)}, not {where.shape}"
            )
    ax = ax if ax is not None else st.new_axes(8.6, 6.8)
    pairs = _read.edges(graph)
    drawn = _draw_edges(ax, pairs, where, seed)
    labels = _read.node_labels(posterior, graph) if pies else None
    rings: list[Line2D] = []
    if pies:
        if labels is not None:
            colors, rings = _label_rings(*labels, found)
            _discs(ax, where, _RING * diameter, colors, linewidths=0, zorder=2)
            _discs(ax, where, 1.13 * diameter, "white", linewidths=0, zorder=2.1)
        _draw_pies(ax, found, where, diameter, labels is None)
        if count <= _NAMED:
            _draw_names(ax, _read.node_names(posterior, graph, count), where, diameter)
    else:
        _draw_dots(ax, found, where)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.05)
    ax.autoscale_view()
    ax.set_axis_off()
    _legends(ax, found, rings, pies)
    edges = f"{pairs.shape[1]:,} edges"
    if drawn < pairs.shape[1]:
        edges += f" ({drawn:,} of them drawn)"
    st.title(ax, f"{found.title}\n{count:,} nodes, {edges}")
    return ax


def _draw_edges(ax: Axes, pairs: np.ndarray, places: np.ndarray, seed: int) -> int:
    """Draw edges as lines, thinner and fainter the more there are; return how many."""
    if pairs.shape[1] > _EDGES:
        chosen = np.random.default_rng(seed).choice(pairs.shape[1], _EDGES, replace=False)
        pairs = pairs[:, np.sort(chosen)]
    total = pairs.shape[1]
    lines = LineCollection(
        places[pairs.T],
        colors="#6E6E6E",
        linewidths=float(np.clip(20.0 / np.sqrt(max(1, total)), 0.3, 0.9)),
        alpha=float(np.clip(20.0 / np.sqrt(max(1, total)), 0.1, 0.7)),
        zorder=1,
        rasterized=total > 2_000,
    )
    ax.add_collection(lines)
    return total


def _draw_pies(
    ax: Axes, found: _Shares, places: np.ndarray, diameter: float, outlined: bool
) -> None:
    """Draw all pies as two collections: plates with their rims, and slices (sizes in points)."""
    some = found.shares.sum(axis=1) > 0.5
    rims = np.where(some[:, None], to_rgba("white" if outlined else "none"), to_rgba(_NOBODY))
    _discs(ax, places, diameter, "white", edgecolors=rims, linewidths=1.1, zorder=3)
    ends = np.cumsum(found.shares, axis=1)
    nodes, columns = np.nonzero(found.shares)
    # clockwise from twelve o'clock
    first = 90.0 - 360.0 * ends[nodes, columns]
    last = first + 360.0 * found.shares[nodes, columns]
    circle = Path.unit_circle()
    slices = [
        circle if stop - start > 359.9 else Path.wedge(start, stop)
        for start, stop in zip(first, last, strict=True)
    ]
    pies = PathCollection(
        slices,
        sizes=[(0.5 * diameter) ** 2],  # the paths have radius 1, the marker of scatter 1/2
        offsets=places[nodes],
        offset_transform=ax.transData,
        transform=IdentityTransform(),
        facecolors=[found.colors[column] for column in columns],
        edgecolors="white",
        linewidths=0.5 if diameter > 10 else 0.0,
        zorder=4,
    )
    ax.add_collection(pies, autolim=False)


def _draw_dots(ax: Axes, found: _Shares, places: np.ndarray) -> None:
    """Draw each node in the colour of its most probable community, greyer where that is not sure."""
    shares = found.shares
    palette = np.array([to_rgba(color) for color in found.colors] or [to_rgba(_NOBODY)])
    best = shares.argmax(axis=1) if shares.shape[1] else np.zeros(len(shares), int)
    sure = shares.max(axis=1, initial=0.0)[:, None]
    faces = palette[best]
    # A pale colour might be another one of the palette: towards grey, not white.
    faces[:, :3] = 0.8 + (faces[:, :3] - 0.8) * (0.2 + 0.8 * sure)
    nobody = shares.sum(axis=1) < 0.5
    faces[nobody] = to_rgba("white")
    rims = np.where(nobody[:, None], to_rgba(_NOBODY), to_rgba("white"))
    diameter = float(np.clip(190.0 / np.sqrt(len(shares)), 2.2, 7.7))
    _discs(ax, places, diameter, faces, edgecolors=rims, linewidths=0.35, zorder=3, rasterized=True)


def _discs(ax: Axes, places: np.ndarray, diameter: float, faces: Any, **options: Any) -> None:
    """Draw a disc of so many points at every place."""
    ax.scatter(places[:, 0], places[:, 1], s=diameter**2, c=faces, **options)


def _label_rings(labels: np.ndarray, names: Any, found: _Shares) -> tuple[np.ndarray, list[Line2D]]:
    """Give every label the colour of the community that it fits best.

    Returns:
        Colours of the rings, shape ``(N, 4)``, and the legend.
    """
    present = np.unique(labels[labels >= 0])
    groups = found.groups[:, :-1] if found.rest else found.groups
    order = match_communities(groups, labels[:, None] == present)[: len(present)]
    free = [color for color in st.OKABE_ITO if color not in found.colors]
    colors = np.tile(to_rgba(st.FAINT), (len(labels), 1))
    handles = []
    for label, column in zip(present, order, strict=True):
        spare = free.pop(0) if column < 0 and free else st.GREY
        color = found.colors[column] if column >= 0 else spare
        colors[labels == label] = to_rgba(color)
        known = names is not None and label < len(names)
        name = str(names[label]) if known else f"label {label}"
        handles.append(_round(name, "white", color, 2.2))
    if (labels < 0).any():
        handles.append(_round("not labelled", "white", st.FAINT, 2.2))
    return colors, handles


def _round(name: str, face: str, rim: str, width: float) -> Line2D:
    return Line2D([], [], ls="", marker="o", ms=8.5, mfc=face, mec=rim, mew=width, label=name)


def _draw_names(ax: Axes, names: list[str], places: np.ndarray, diameter: float) -> None:
    """Write short names into the nodes, longer ones below them."""
    halo = [withStroke(linewidth=1.8, foreground="white", alpha=0.85)]
    for name, place in zip(names, places, strict=True):
        short = len(name) <= 2 and diameter > 14
        ax.annotate(
            name,
            place,
            xytext=(0.0, 0.0 if short else -0.75 * diameter),
            textcoords="offset points",
            ha="center",
            va="center_baseline" if short else "top",
            fontsize=st.NAME if short else 6.5,
            color=st.INK,
            path_effects=halo,
            zorder=5,
        )


def _legends(ax: Axes, found: _Shares, rings: list[Line2D], pies: bool) -> None:
    """Set the communities, and below them the labels, to the right of the graph."""
    handles = [_round(name, color, "white", 0.0) for name, color in found.key]
    if (found.shares.sum(axis=1) < (1.0 - _REST if pies else 0.5)).any():
        handles.append(_round("none", "white", _NOBODY, 1.1))
    common: dict[str, Any] = {
        "loc": "upper left",
        "alignment": "left",
        "borderaxespad": 0.0,
        "handletextpad": 0.3,
    }
    st.legend(
        ax,
        handles=handles,
        title=found.told,
        bbox_to_anchor=(1.01, 1.0),
        **common,
    )
    if rings:
        first = ax.get_legend()
        st.legend(
            ax,
            handles=rings,
            title="label (ring)",
            **(common | {"loc": "lower left"}),
            bbox_to_anchor=(1.01, 0.0),
        )
        if first is not None:
            first.set_clip_on(False)  # else the layout leaves it no room
            ax.add_artist(first)
