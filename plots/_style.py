"""How every picture looks: colours, sizes and the few matplotlib calls they share.

Nothing here touches ``rcParams``: sizes and colours are given to each artist, so a user's own style
sheet and other figures stay as they are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

TITLE, LABEL, TICK = 11.0, 10.0, 9.0
NAME = 8.0  # node names on ticks
ROWS = 600  # most lines of a heat map
MAX_NAMED = 60  # more nodes than this are never named on ticks

# Okabe & Ito (2008), told apart with every common form of colour blindness.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION, YELLOW, BLACK = OKABE_ITO
INK, GREY, FAINT = "#333333", "#767676", "#D9D9D9"
OTHER = "#B0B0B0"  # nodes without a label, and labels beyond the palette


def _on_paper() -> LinearSegmentedColormap:
    """Turn viridis upside down and let it fade into white paper at zero.

    Luminance falls steadily from 0 to 1, in print as on screen.
    """
    t = np.linspace(0.0, 1.0, 65)
    fade = ((1.0 - t) ** 2.5)[:, None]
    colors = (1.0 - fade) * plt.colormaps["viridis_r"](t) + fade
    return LinearSegmentedColormap.from_list("graphlore_sequential", np.clip(colors, 0.0, 1.0))


SEQUENTIAL = _on_paper()
DIVERGING = plt.colormaps["RdBu_r"]


def new_grid(rows: int, columns: int, width: float, height: float, **options: Any) -> np.ndarray:
    """Make a figure with a grid of axes in constrained layout.

    Args:
        rows: Panels down.
        columns: Panels across.
        width: Width of the figure in inches.
        height: Height of the figure in inches.
        **options: Passed to :func:`matplotlib.pyplot.subplots` (``sharex``, ``height_ratios``).

    Returns:
        The axes, object array of shape ``(rows, columns)``.
    """
    _, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
    )
    return axes


def new_axes(width: float = 6.4, height: float = 4.0) -> Axes:
    """Make a figure with one axes in constrained layout (sizes in inches)."""
    return new_grid(1, 1, width, height)[0, 0]


def given_axes(axes: Any, count: int) -> np.ndarray:
    """Check axes that a caller brought.

    Args:
        axes: Axes, or any array or sequence of them.
        count: How many panels the picture has.

    Returns:
        The first ``count`` axes, object array of shape ``(count,)``.

    Raises:
        ValueError: If fewer than ``count`` axes were given.
    """
    flat = np.asarray(axes, dtype=object).ravel()
    if flat.size < count:
        raise ValueError(f"this picture has {count} panels, but {flat.size} axes were given")
    return flat[:count]


def title(ax: Axes, words: str) -> None:
    """Set a title at the left; lines too long for the axes are broken at a space."""
    width = 72.0 * ax.get_window_extent().width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    room = max(30, int(width / (0.5 * TITLE)))
    lines = [part for line in words.splitlines() for part in textwrap.wrap(line, room)]
    ax.set_title("\n".join(lines), fontsize=TITLE, loc="left", color=INK)


def dress(ax: Axes, heading: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Set the words of an axes and quieten its frame."""
    if heading:
        title(ax, heading)
    if xlabel:
        ax.set_xlabel(xlabel, fontsize=LABEL, color=INK)
    if ylabel:
        ax.set_ylabel(ylabel, fontsize=LABEL, color=INK)
    ax.tick_params(labelsize=TICK, color=GREY, labelcolor=INK)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
    return ax


def dress_matrix(ax: Axes, heading: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """Like :func:`dress` for a heat map: a thin frame on all four sides."""
    dress(ax, heading, xlabel, ylabel)
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.6)
    return ax


def legend(ax: Axes, **options: Any) -> None:
    """Draw a legend in the house sizes, on a veil of white instead of in a box."""
    settings: dict[str, Any] = {
        "fontsize": TICK,
        "title_fontsize": TICK,
        "frameon": True,
        "edgecolor": "none",
        "facecolor": "white",
        "framealpha": 0.85,
        "fancybox": False,
    }
    ax.legend(**(settings | options))


def legend_below(ax: Axes, handles: Sequence[Any], inches: float, **options: Any) -> None:
    """Draw a legend in a row, a fixed number of inches below the lower left corner of an axes."""
    down = ScaledTranslation(0.0, -inches, ax.figure.dpi_scale_trans)
    settings: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (0.0, 0.0),
        "bbox_transform": ax.transAxes + down,
        "borderaxespad": 0.0,
        "borderpad": 0.0,
        "handlelength": 1.0,
        "columnspacing": 1.2,
    }
    legend(ax, handles=handles, **(settings | options))


def minus(text: str) -> str:
    """Set minus signs as minus signs."""
    return text.replace("-", "−")


def colorbar(mappable: Any, label: str, ax: Any, **options: Any) -> Any:
    """Draw a colour bar in the house sizes and return it."""
    figure = np.asarray(ax, dtype=object).ravel()[0].figure
    bar = figure.colorbar(mappable, ax=ax, **options)
    bar.set_label(label, fontsize=LABEL, color=INK)
    bar.ax.tick_params(labelsize=TICK, color=GREY, labelcolor=INK)
    bar.outline.set_linewidth(0.6)
    bar.outline.set_edgecolor(GREY)
    return bar


def row_means(matrix: np.ndarray) -> np.ndarray:
    """Average neighbouring rows of a heat map that has more rows than a page has lines.

    Args:
        matrix: Values in drawing order, shape ``(N, C)``.

    Returns:
        Means, shape ``(min(N, 600), C)``; a mean with a NaN in it is NaN.
    """
    count = len(matrix)
    if count <= ROWS:
        return matrix
    starts = np.linspace(0, count, ROWS, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, count))
    return np.add.reduceat(matrix, starts, axis=0) / sizes[:, None]


def name_ticks(ax: Axes, names: Sequence[str] | None, axis: str = "y") -> bool:
    """Name the rows or columns of a node-by-something picture, if the names can be read.

    Names are set when there are at most 60 nodes and a line of text fits into a row.

    Args:
        ax: The heat map.
        names: One name a node, in drawing order; ``None`` leaves the axis without ticks.
        axis: ``"x"`` or ``"y"``.

    Returns:
        Whether the names were set.
    """
    target = ax.yaxis if axis == "y" else ax.xaxis
    room = 0.0
    if names is not None and 0 < len(names) <= MAX_NAMED:
        figure = ax.get_figure(root=True)
        engine = figure.get_layout_engine()  # type: ignore[union-attr]
        if engine is not None:
            engine.execute(figure)  # type: ignore[arg-type]
        ax.apply_aspect()
        box = ax.get_window_extent()
        room = 72.0 / figure.dpi * (box.height if axis == "y" else box.width) / len(names)  # type: ignore[union-attr]
    if names is None or room < 0.9 * NAME:
        return False
    target.set_ticks(np.arange(len(names)))
    target.set_ticklabels(
        [str(name) for name in names], fontsize=NAME, rotation=90 if axis == "x" else 0
    )
    target.set_tick_params(length=0)
    return True


class Categories:
    """Colours for the labels of nodes.

    At most eight labels get a colour of the Okabe-Ito palette; with more, the seven most frequent
    do and the rest share one grey. Negative labels mean "not labelled".

    Args:
        labels: Integer labels, shape ``(N,)``.
        names: Name of label ``k`` at position ``k``, if known.

    Attributes:
        colors: RGBA colours of the nodes, shape ``(N, 4)``.
        key: Pairs of name and colour for a legend.
    """

    def __init__(self, labels: Any, names: Sequence[str] | None = None) -> None:
        values = np.asarray(labels).astype(int).ravel()
        present, counts = np.unique(values[values >= 0], return_counts=True)
        chosen = [int(label) for label in present]
        if len(chosen) > len(OKABE_ITO):
            most = present[np.argsort(-counts, kind="stable")][: len(OKABE_ITO) - 1]
            chosen = sorted(int(label) for label in most)
        self.colors = np.tile(to_rgba(OTHER), (values.size, 1))
        self.key: list[tuple[str, str]] = []
        for label, color in zip(chosen, OKABE_ITO, strict=False):
            self.colors[values == label] = to_rgba(color)
            known = names is not None and label < len(names)
            self.key.append((str(names[label]) if known and names else f"label {label}", color))
        if len(chosen) < len(present):
            self.key.append((f"{len(present) - len(chosen)} other labels", OTHER))
        if (values < 0).any():
            self.key.append(("not labelled", OTHER))

    def patches(self) -> list[Patch]:
        """Return legend handles, one a label."""
        return [Patch(color=color, label=name) for name, color in self.key]
