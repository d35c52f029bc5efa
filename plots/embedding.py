"""A map of the nodes: their posterior mean embedding in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from . import _read
from . import _style as st

if TYPE_CHECKING:
    from ..data import Graph

__all__ = ["embedding"]

HALOS = (
    150  # up to this many nodes each has its own uncertainty; above, the picture has a typical one
)
_EDGES = 3_000  # more edges than this are not drawn
_DRAWS = 200  # of a fit
_NAME = 6.5  # points


@dataclass(frozen=True)
class _Nodes:
    """Posterior of the embedding.

    Attributes:
        mean: shape ``(N, D)``.
        sd: Posterior standard deviation, shape ``(N, D)``.
        memberships: Mean memberships, shape ``(N, K)``, or ``None``.
        names: Names of the communities.
        what: What is embedded.
    """

    mean: np.ndarray
    sd: np.ndarray
    memberships: np.ndarray | None
    names: list[str]
    what: str = "embedding"


def _of_nodes(nodes: Any) -> _Nodes:
    """Of what ``fit.encode`` returns."""
    mean, sd, memberships = (
        None if part is None else _read.array(part).astype(float)
        for part in (nodes.embedding, nodes.embedding_sd, nodes.memberships)
    )
    names = [] if memberships is None else [str(k) for k in range(memberships.shape[1])]
    if mean is None:
        return _of_memberships(memberships, names)
    return _Nodes(mean, np.zeros_like(mean) if sd is None else sd, memberships, names)


def _of_memberships(means: np.ndarray | None, names: list[str]) -> _Nodes:
    if means is None:
        raise KeyError("there is neither an embedding nor a membership of nodes")
    return _Nodes(means, np.sqrt(means * (1.0 - means)), means, names, "memberships")


def _of_result(idata: Any) -> _Nodes:
    grouped = _read.community_site(idata) is not None
    memberships = _read.mean_memberships(idata) if grouped else None
    names = _read.community_names(idata) if grouped else []
    if _read.has(idata, "posterior", "embedding"):
        values = _read.draws(idata, "posterior", "embedding")
        mean, sd = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    elif _read.has(idata, "posterior", "strengths"):
        mean = _read.mean_product(idata, "memberships", "strengths").astype(float)
        square = np.zeros_like(mean)
        b, r = (_read.draws(idata, "posterior", name) for name in ("memberships", "strengths"))
        for one, two in zip(b, r, strict=True):  # one draw at a time, as in mean_product
            square += (one * two - mean) ** 2
        sd = np.sqrt(square / max(1, len(b)))
    else:
        return _of_memberships(memberships, names)
    return _Nodes(mean, sd, memberships, names)


def embedding(
    posterior: Any,
    graph: Graph | None = None,
    ax: Axes | None = None,
    *,
    method: Literal["pca", "tsne"] = "pca",
    uncertainty: bool = True,
    seed: int = 0,
) -> Axes:
    """Draw the nodes where their posterior mean embedding puts them, in two dimensions.

    PCA keeps distances as well as a plane can, and its axes say how much of the variance between
    nodes they show; t-SNE keeps neighbourhoods, and its distances and axes mean nothing (it takes
    half a minute for 3,000 nodes, PCA a second).

    Under PCA an ellipse is one posterior standard deviation of the node (dimensions taken as
    independent, as the guides have them); above 150 nodes, a cross in the corner is the typical
    one, the median over nodes. Means are over draws as they come: of Markov chains, which may turn
    the whole embedding from draw to draw, they are not a map.

    Colours are the labels, where they are known, else the most probable community. Edges are drawn
    up to 3,000 of them, names up to 60 nodes where they do not cover each other.

    Args:
        posterior: A fit (its embedding is drawn afresh), what ``fit.encode(graph)`` returned, or an
            ArviZ result with ``embedding`` (chain, draw, node, dimension), or with ``memberships``
            and ``strengths`` (chain, draw, node, community), whose product is the embedding. With
            memberships alone, those are mapped.
        graph: For edges, names and labels; that of the fit if not given.
        ax: Where to draw.
        method: ``"pca"`` or ``"tsne"``, both of scikit-learn.
        uncertainty: Whether to show the posterior standard deviation.
        seed: Of t-SNE.

    Returns:
        The axes.

    Raises:
        KeyError: If the story has neither an embedding nor memberships.
        ValueError: On an unknown method, or a graph of other nodes.
    """
    if method not in ("pca", "tsne"):
        raise ValueError(f"method is 'pca' or 'tsne', not {method!r}")
    idata = None
    if hasattr(posterior, "encode"):
        graph = posterior.graph if graph is None else graph
        found = _of_nodes(posterior.encode(posterior.graph, draws=_DRAWS))
    elif hasattr(posterior, "embedding_sd"):
        found = _of_nodes(posterior)
    else:
        idata, found = posterior, _of_result(posterior)
    count, dimensions = found.mean.shape
    if graph is not None and graph.num_nodes != count:
        raise ValueError(f"the embedding is of {count} nodes, the graph of {graph.num_nodes}")
    places, axes_sd, words = _flat(found, method, seed)
    ax = ax if ax is not None else st.new_axes(7.4, 5.6)

    colors, key, title = _colors(found, idata, graph)
    size = float(np.clip(900.0 / max(1, count), 5.0, 55.0))
    if graph is not None:
        pairs = _read.edges(graph)
        if 0 < pairs.shape[1] <= _EDGES:
            faint = float(np.clip(8.0 / np.sqrt(pairs.shape[1]), 0.12, 0.6))
            lines = LineCollection(
                places[pairs.T], colors=st.GREY, linewidths=0.6, alpha=faint, zorder=1
            )
            ax.add_collection(lines, autolim=False)
    spread = 0.25 * np.ptp(places, axis=0).max(initial=0.0)
    wide = axes_sd is not None and float(np.median(axes_sd)) > spread
    each = uncertainty and axes_sd is not None and count <= HALOS and not wide
    if each and axes_sd is not None:
        ax.add_collection(
            EllipseCollection(
                2 * axes_sd[:, 0],
                2 * axes_sd[:, 1],
                np.zeros(count),
                units="xy",
                offsets=places,
                offset_transform=ax.transData,
                facecolors=_faded(colors, 0.05),
                edgecolors=_faded(colors, 0.45),
                linewidths=0.7,
                zorder=1.5,
            ),
            autolim=False,
        )
    ax.scatter(
        places[:, 0],
        places[:, 1],
        s=size,
        c=colors,
        edgecolors="white",
        linewidths=0.8 if count <= HALOS else 0.3,
        zorder=2,
        rasterized=count > 2_000,
    )
    ax.margins(0.08)
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    what = {"pca": "PCA", "tsne": "t-SNE"}[method]
    plural = "dimension" if dimensions == 1 else "dimensions"
    st.dress(ax, f"Posterior mean {found.what}, {what} of {dimensions} {plural}", *words)
    ax.grid(color=st.FAINT, lw=0.5)
    ax.set_axisbelow(True)
    if method == "tsne":
        ax.tick_params(labelleft=False, labelbottom=False, length=0)
    if count <= st.MAX_NAMED:
        _names(ax, _read.node_names(idata, graph, count), places, size)
    if uncertainty and axes_sd is not None:
        _typical(ax, np.median(axes_sd, axis=0), each, wide)
    if key:
        handles = [_dot(name, color) for name, color in key]
        st.legend(
            ax,
            handles=handles,
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            borderaxespad=0.0,
            handletextpad=0.3,
            alignment="left",
        )
    return ax


def _flat(
    found: _Nodes, method: str, seed: int
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, str]]:
    """Return places (N, 2), standard deviations along both axes (N, 2) or ``None``, and axis labels."""
    count, dimensions = found.mean.shape
    if method == "tsne" and count > 3:
        perplexity = min(30.0, (count - 1) / 3.0)
        start = "pca" if dimensions > 1 else "random"
        angle = 0.5 if count <= 1_000 else 0.8  # coarser forces: half the time
        model = TSNE(perplexity=perplexity, init=start, angle=angle, random_state=seed)
        return model.fit_transform(found.mean), None, ("", "")
    kept = min(2, dimensions, count)
    centred = found.mean - found.mean.mean(axis=0)
    turn = np.zeros((2, dimensions))
    if centred.any():  # else all nodes stand in one place
        turn[:kept] = PCA(kept, svd_solver="full").fit(centred).components_
    places = centred @ turn.T
    share = (places**2).sum(axis=0) / max((centred**2).sum(), 1e-300)
    words = [f"component {k + 1} ({part:.0%} of the variance)" for k, part in enumerate(share)]
    return places, np.sqrt(found.sd**2 @ turn.T**2), (words[0], words[1])


def _colors(
    found: _Nodes, idata: Any, graph: Graph | None
) -> tuple[np.ndarray, list[tuple[str, str]], str]:
    """Return a colour a node, and what a legend needs: names with colours, and its title."""
    labels = _read.node_labels(idata, graph)
    if labels is not None:
        known = st.Categories(*labels)
        return known.colors, known.key, "label"
    if found.memberships is None or not found.memberships.shape[1]:
        return np.tile(to_rgba(st.BLUE), (len(found.mean), 1)), [], ""
    best = found.memberships.argmax(axis=1)
    best = np.where(found.memberships.max(axis=1) > 0, best, -1)
    groups = st.Categories(best, found.names)
    key = [("none" if name == "not labelled" else name, color) for name, color in groups.key]
    return groups.colors, key, "most probable community"


def _dot(name: str, color: str) -> Line2D:
    return Line2D([], [], ls="", marker="o", ms=7.0, mfc=color, mec="white", label=name)


def _faded(colors: np.ndarray, alpha: float) -> np.ndarray:
    faded = colors.copy()
    faded[:, 3] = alpha
    return faded


def _names(ax: Axes, names: list[str], places: np.ndarray, size: float) -> None:
    """Write names below the nodes, outer ones first; one that would cover another is left out."""
    figure = ax.get_figure(root=True)
    engine = figure.get_layout_engine()  # type: ignore[union-attr]
    if engine is not None:
        engine.execute(figure)  # type: ignore[arg-type]
    ax.apply_aspect()
    points = ax.transData.transform(places) * 72.0 / figure.dpi  # type: ignore[union-attr]
    halo = [withStroke(linewidth=1.6, foreground="white", alpha=0.8)]
    boxes = np.empty((0, 4))
    for node in np.argsort(-((places - places.mean(axis=0)) ** 2).sum(axis=1), kind="stable"):
        half = 0.28 * _NAME * len(names[node])
        x, y = points[node]
        box = np.array([x - half, y - 1.3 * _NAME, x + half, y - 0.2 * _NAME])
        apart = (boxes[:, :2] > box[2:]).any(axis=1) | (boxes[:, 2:] < box[:2]).any(axis=1)
        if not apart.all():
            continue
        boxes = np.vstack([boxes, box])
        ax.annotate(
            names[node],
            places[node],
            xytext=(0.0, -0.5 * size**0.5 - 1.0),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=_NAME,
            color=st.INK,
            path_effects=halo,
            zorder=3,
        )


def _typical(ax: Axes, sd: np.ndarray, each: bool, wide: bool) -> None:
    """Say what an ellipse is, or draw the typical one as a cross in the lower left corner."""
    told = "ellipse: posterior ± 1 s.d."
    if wide:
        told = f"posterior s.d. of the median node: {sd[0]:.2g} and {sd[1]:.2g}, wider than the map"
    elif not each:
        told = "cross: posterior ± 1 s.d., median node"
        low, high = (np.array(side) for side in zip(ax.get_xlim(), ax.get_ylim(), strict=True))
        x, y = low + 0.03 * (high - low) + sd
        arms = [[(x - sd[0], y), (x + sd[0], y)], [(x, y - sd[1]), (x, y + sd[1])]]
        ax.add_collection(
            LineCollection(arms, colors=st.INK, linewidths=1.4, zorder=4), autolim=False
        )
    ax.text(0.0, -0.16, told, transform=ax.transAxes, fontsize=st.TICK, color=st.GREY, va="top")
