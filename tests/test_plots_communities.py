"""Pictures of communities show the posterior: slices, colours, matched columns, in either form of draws."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

import graphlore as gl
from graphlore import plots
from graphlore.inference._arviz import to_arviz
from graphlore.plots import _layout, _read
from graphlore.plots import _style as st

pytestmark = pytest.mark.usefixtures("pictures_closed")


def overlapping(b: np.ndarray) -> Any:
    """A posterior of memberships, (chain, draw, node, community)."""
    coords = {"node": np.arange(b.shape[2]), "community": np.arange(b.shape[3])}
    dims = {"memberships": ("node", "community")}
    return to_arviz({"posterior": {"memberships": b.astype(np.int8)}}, coords, dims, {})


def disjoint(z: np.ndarray, extra: dict[str, np.ndarray] | None = None) -> Any:
    """A posterior of integer labels, (chain, draw, node)."""
    coords: dict[str, Any] = {"node": np.arange(z.shape[2])}
    if extra:
        coords["community"] = [f"c{k}" for k in range(next(iter(extra.values())).shape[-1])]
    dims = {"membership": ("node",), "community_weights": ("community",)}
    return to_arviz({"posterior": {"membership": z, **(extra or {})}}, coords, dims, {})


def ring(nodes: int, **options: Any) -> gl.Graph:
    ends = np.arange(nodes)
    return gl.Graph(nodes, [ends.tolist(), np.roll(ends, -1).tolist()], **options)


def exact(means: np.ndarray, draws: int = 20) -> np.ndarray:
    """Draws whose means are these, multiples of 1/draws: (1, draws, N, K)."""
    return (np.arange(draws)[:, None, None] < np.rint(means * draws))[None]


def pies(ax: Any) -> PathCollection:
    """The collection of slices: the last one, above its plates."""
    return ax.collections[-1]


def span(path: Any) -> float:
    """Share of the circle that a slice fills, from the area of its outline."""
    (outline,) = path.to_polygons()
    x, y = outline.T
    return 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / np.pi


# --- reading --------------------------------------------------------------------------------------


def test_means_of_labels_are_those_of_their_one_hot_draws() -> None:
    z = np.random.default_rng(0).integers(0, 4, (2, 30, 7))
    means = _read.mean_memberships(disjoint(z))
    np.testing.assert_allclose(means, (z[..., None] == np.arange(4)).mean((0, 1)))
    hot = overlapping(z[..., None] == np.arange(4))
    np.testing.assert_allclose(_read.mean_memberships(hot), means)
    np.testing.assert_array_equal(plots.node_order(hot), plots.node_order(disjoint(z)))


def test_names_of_communities_come_from_the_coordinate_where_there_is_one() -> None:
    z = np.array([[[0, 2, 1]]])
    assert _read.community_names(disjoint(z)) == ["0", "1", "2"]
    weights = {"community_weights": np.full((1, 1, 5), 0.2)}
    assert _read.community_names(disjoint(z, weights)) == [f"c{k}" for k in range(5)]
    assert _read.mean_memberships(disjoint(z, weights)).shape == (3, 5)
    with pytest.raises(KeyError, match="neither"):
        _read.community_names(to_arviz({"posterior": {"bias": np.zeros((1, 3))}}, {}, {}, {}))


def test_memberships_draws_labels_too() -> None:
    z = np.array([[[0, 0, 1, 1], [0, 1, 1, 1]]])
    ax = plots.memberships(disjoint(z))
    # Most used first: 1 (2.5 members), then 0. Node 1, in both by halves, goes with the more used, and before nodes 2
    # and 3, as nodes with more communities do.
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.5, 0.5], [1, 0], [1, 0], [0, 1]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "0"]


# --- strengths ------------------------------------------------------------------------------------


def loaded(b: np.ndarray, r: np.ndarray) -> Any:
    """A posterior with strengths, (chain, draw, node, community) each."""
    coords = {"node": np.arange(b.shape[2]), "community": np.arange(b.shape[3])}
    dims = dict.fromkeys(("memberships", "strengths"), ("node", "community"))
    values = {"memberships": b.astype(np.int8), "strengths": r}
    return to_arviz({"posterior": values}, coords, dims, {})


def test_with_strengths_slices_are_loadings_by_community_and_sign() -> None:
    # all are members of both; nodes 0, 1 lie on the two sides of community 1, node 2 has three quarters in 0
    r = np.array([[0.0, 2.0], [0.0, -2.0], [1.5, 0.5], [0.0, -1.0]])
    both = np.stack([r, r])[None]
    labels = ring(4, labels=[0, 1, 0, 1], label_names=("left", "right"))
    ax = plots.communities(loaded(np.ones(both.shape), both), labels)
    # sizes: 1 − 3.0, 1 + 2.5, 0 + 1.5
    minus, plus, other = (to_rgba(color) for color in st.OKABE_ITO[:3])
    expected = [(0, plus, 1.0), (1, minus, 1.0), (2, plus, 0.25), (2, other, 0.75), (3, minus, 1.0)]
    drawn = pies(ax)
    places = np.asarray(ax.collections[1].get_offsets())
    found = {
        (int(np.flatnonzero((places == offset).all(1))[0]), tuple(color)): span(path)
        for offset, color, path in zip(
            np.asarray(drawn.get_offsets()), drawn.get_facecolors(), drawn.get_paths(), strict=True
        )
    }
    assert found == {
        (node, color): pytest.approx(share, abs=2e-3) for node, color, share in expected
    }
    first = next(a for a in ax.get_children() if getattr(a, "get_title", None) and hasattr(a, "get_texts")
                 and "sign" in a.get_title().get_text())  # fmt: skip
    assert [t.get_text() for t in first.get_texts()] == ["0 +  (1)", "1 +  (1)", "1 −  (2)"]
    rings = ax.collections[1].get_facecolors()
    np.testing.assert_allclose(
        rings[[1, 3]], [minus, minus]
    )  # the label "right" is the negative side
    assert "2 communities tell nodes apart" in ax.get_title(loc="left")


def test_memberships_that_nobody_loads_on_leave_no_slice() -> None:
    rng = np.random.default_rng(0)
    r = rng.normal(size=(1, 400, 6, 3))  # as in the prior: means about zero
    r[..., 0] = np.array([2.0, 2.0, 2.0, -2.0, -2.0, -2.0])
    ax = plots.communities(loaded(np.ones(r.shape), r), ring(6))
    key = [t.get_text() for t in ax.get_legend().get_texts()]
    assert key[:2] == ["0 +  (3)", "0 −  (3)"]
    assert all(name.startswith(("0", "others")) for name in key)


# --- the graph with pies --------------------------------------------------------------------------


def test_slices_are_posterior_shares_in_the_colours_of_the_legend() -> None:
    means = np.array([[1, 0, 0], [0.5, 0.5, 0], [1, 0.5, 0.5], [0.25, 0.25, 0], [0, 0, 0]])
    ax = plots.communities(overlapping(exact(means)), ring(5))
    blue, orange, green = (to_rgba(color) for color in st.OKABE_ITO[:3])
    # use: 2.75, 1.25 and 0.5. Node 2 is in two communities on average: its slices are divided by 2; node 3 keeps a
    # white half; node 4 has none.
    expected = [
        (0, blue, 1.0),
        (1, blue, 0.5), (1, orange, 0.5),
        (2, blue, 0.5), (2, orange, 0.25), (2, green, 0.25),
        (3, blue, 0.25), (3, orange, 0.25),
    ]  # fmt: skip
    drawn = pies(ax)
    assert len(drawn.get_paths()) == len(expected)
    places = np.asarray(ax.collections[1].get_offsets())
    offsets = np.asarray(drawn.get_offsets())
    for path, where, color, (node, shade, share) in zip(
        drawn.get_paths(), offsets, drawn.get_facecolors(), expected, strict=True
    ):
        np.testing.assert_array_equal(where, places[node])
        assert tuple(color) == shade
        assert span(path) == pytest.approx(share, abs=0.02)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["0  (2.8)", "1  (1.2)", "2  (0.5)", "none"]


def test_slices_of_a_node_do_not_overlap_and_go_clockwise_from_the_top() -> None:
    means = np.array([[0.5, 0.25, 0.25], [0, 0, 0], [0, 0, 0]])
    first, second, third = pies(plots.communities(overlapping(exact(means)), ring(3))).get_paths()
    # right half, lower left quarter, upper left quarter
    for path, (x, y) in ((first, (0.4, 0.1)), (second, (-0.4, -0.4)), (third, (-0.4, 0.4))):
        slices = (first, second, third)
        assert [p.contains_point((x, y)) for p in slices] == [p is path for p in slices]


def test_a_node_without_community_has_a_grey_ring_and_no_slice() -> None:
    means = np.array([[1.0], [0.05], [1.0]])
    ax = plots.communities(overlapping(exact(means)), ring(3))
    rims = [tuple(rim) for rim in ax.collections[1].get_edgecolors()]
    grey, white = to_rgba("#9A9A9A"), to_rgba("white")
    assert rims == [white, grey, white]


def test_nothing_in_use_is_a_picture_of_rings() -> None:
    ax = plots.communities(overlapping(np.zeros((1, 4, 6, 3))), ring(6))
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none"]
    assert ax.get_title(loc="left").startswith("0 communities in use")


def test_more_communities_than_colours_share_a_grey() -> None:
    sizes = np.arange(12, 1, -1)  # community k has 12 - k members, 11 communities
    z = np.repeat(np.arange(11), sizes)[None, None]
    ax = plots.communities(disjoint(z), ring(z.size))
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend[:7] == [f"{k}  ({12 - k}.0)" for k in range(7)]
    assert legend[7:] == [f"4 others  ({5 + 4 + 3 + 2}.0)"]
    colors = [tuple(color) for color in pies(ax).get_facecolors()]
    assert colors.count(to_rgba(st.OTHER)) == 14
    assert colors.count(to_rgba(st.OKABE_ITO[6])) == 6


def test_a_label_has_the_colour_of_the_community_that_fits_it() -> None:
    z = np.array([[[1, 1, 1, 1, 0, 0, 0]]])
    labels = [0, 0, 0, 1, 1, 1, -1]
    graph = ring(7, labels=labels, label_names=["left", "right"])
    ax = plots.communities(disjoint(z), graph)
    blue, orange = (to_rgba(color) for color in st.OKABE_ITO[:2])  # communities 1 and 0
    rings = [tuple(color) for color in ax.collections[1].get_facecolors()]
    assert rings == [blue] * 3 + [orange] * 3 + [to_rgba(st.FAINT)]
    slices = [tuple(color) for color in pies(ax).get_facecolors()]
    assert slices == [blue] * 4 + [orange] * 3  # node 3 stands out: an orange ring, a blue pie
    (words,) = [
        [text.get_text() for text in legend.get_texts()]
        for legend in ax.findobj(mpl.legend.Legend)
        if legend.get_title().get_text() == "label (ring)"
    ]
    assert words == ["left", "right", "not labelled"]


def test_pies_lie_on_the_nodes_on_paper() -> None:
    """Slices have the size of their plates in points, whatever the data limits are."""
    means = np.array([[1.0], [1.0], [1.0]])
    places = np.array([[0.0, 0.0], [1e4, 0.0], [0.0, 1e4]])
    ax = plots.communities(overlapping(exact(means)), ring(3), places=places)
    ax.figure.canvas.draw()
    assert ax.get_xlim()[1] - ax.get_xlim()[0] < 3e4
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())
    blue = np.array(to_rgba(st.OKABE_ITO[0])) * 255
    hits = (np.abs(pixels.astype(float) - blue) < 3).all(-1)
    radius = 0.5 * 21.0 * ax.figure.dpi / 72
    aside = round(0.6 * radius)  # beside the name; the chord there is 1.6 radii, less the rim
    for x, y in ax.transData.transform(places):
        row, column = round(len(pixels) - y), round(x)
        nearby = hits[max(0, row - round(2 * radius)) : row + round(2 * radius)]
        for side in (column - aside, column + aside):
            assert nearby[:, side].sum() == pytest.approx(1.6 * radius, abs=0.45 * radius)
        assert not hits[row, column + round(radius) + 3]


def test_names_are_written_up_to_eighty_nodes() -> None:
    few = plots.communities(disjoint(np.zeros((1, 2, 5), int)), ring(5, names=list("vwxyz")))
    assert [text.get_text() for text in few.texts] == list("vwxyz")
    assert not plots.communities(disjoint(np.zeros((1, 2, 81), int)), ring(81)).texts


# --- bigger graphs --------------------------------------------------------------------------------


def test_a_big_graph_is_dots_of_the_most_probable_community_in_few_artists() -> None:
    nodes = 600
    rng = np.random.default_rng(1)
    means = rng.choice([0.1, 0.9], size=(nodes, 2))
    means[means[:, 0] == means[:, 1], 0] = 0.4
    means[:10] = 0.0
    pairs = np.unique(np.sort(rng.integers(0, nodes, (2, 30_000)), axis=0), axis=1)
    pairs = pairs[:, pairs[0] < pairs[1]]
    posterior = overlapping(exact(means))
    ax = plots.communities(posterior, gl.Graph(nodes, pairs.tolist(), labels=[0, 1] * 300))
    lines, dots = ax.collections
    assert isinstance(lines, LineCollection)
    assert len(lines.get_segments()) == 20_000
    assert f"{pairs.shape[1]:,} edges (20,000 of them drawn)" in ax.get_title(loc="left")
    assert not ax.texts
    shades = dots.get_facecolors()
    assert [text.get_text()[0] for text in ax.get_legend().get_texts()[:2]] == ["0", "1"]
    rank = list(np.argsort(-means.sum(axis=0)))
    hues = np.array([to_rgba(st.OKABE_ITO[rank.index(k)]) for k in means.argmax(axis=1)])
    # greyer by uncertainty, but of the hue of the dominant community: distances from grey are proportional
    depth = (shades[10:, :3] - 0.8) / (hues[10:, :3] - 0.8)
    assert np.ptp(depth, axis=1).max() < 1e-6
    assert depth.min() > 0.2
    assert (shades[:10] == 1).all()  # none: white in a grey ring


def test_edges_that_are_thinned_are_edges_of_the_graph() -> None:
    graph = ring(500)
    places = np.random.default_rng(2).random((500, 2))
    ax = plots.communities(disjoint(np.zeros((1, 1, 500), int)), graph, places=places)
    np.testing.assert_allclose(
        np.array(ax.collections[0].get_segments()), places[np.asarray(graph.edge_index).T]
    )


def two_groups(nodes: int = 300) -> gl.Graph:
    """Two dense groups with few links between, two isolated nodes and a pair apart."""
    rng = np.random.default_rng(3)
    i, j = np.triu_indices(nodes, 1)
    same = (i < nodes // 2) == (j < nodes // 2)
    keep = (rng.random(i.size) < np.where(same, 0.1, 0.002)) & (j < nodes - 4)
    pairs = np.array([i[keep], j[keep]])
    return gl.Graph(nodes, np.hstack([pairs, [[nodes - 2], [nodes - 1]]]).tolist())


def test_the_layout_keeps_linked_groups_together_and_scraps_outside() -> None:
    places = _layout.spring_places(two_groups())
    assert np.isfinite(places).all()
    first, second = places[:150], places[150:296]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    within = max(np.linalg.norm(g - g.mean(0), axis=1).mean() for g in (first, second))
    assert between > 2 * within
    radius = np.linalg.norm(places, axis=1)
    assert radius[296:].min() > radius[:296].max()
    gap = np.linalg.norm(places[298] - places[299])
    assert gap < 0.75 * np.linalg.norm(places[296] - places[298])  # a pair stays together
    np.testing.assert_array_equal(places, _layout.spring_places(two_groups()))
    assert not np.allclose(places, _layout.spring_places(two_groups(), seed=1))


def test_the_layout_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layout, "_STEPS", 15)  # before rounding errors grow
    whole = _layout.spring_places(two_groups())
    monkeypatch.setattr(_layout, "_BLOCK", 7 * 300)
    np.testing.assert_allclose(_layout.spring_places(two_groups()), whole, atol=1e-6)


def test_a_big_graph_without_edges_has_places() -> None:
    places = _layout.spring_places(gl.Graph(200, [[], []], allow_empty=True))
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(200)
    assert gaps.min() > 0.2


# --- beside the truth -----------------------------------------------------------------------------


def test_comparison_matches_columns_and_keeps_one_order_of_nodes() -> None:
    rng = np.random.default_rng(4)
    truth = rng.random((40, 3)) < [0.3, 0.6, 0.4]
    noisy = np.where(rng.random(truth.shape) < 0.05, ~truth, truth)
    spare = np.zeros((40, 1), bool)
    spare[:21] = True
    found = np.hstack([noisy[:, [2, 0]], spare, noisy[:, [1]]])
    inferred, true = plots.membership_comparison(overlapping(found[None, None]), truth)
    by_use = [int(tick.get_text()) for tick in true.get_xticklabels()]
    assert by_use == list(np.argsort(-truth.sum(0), kind="stable"))
    of_truth = [1, 3, 0]  # where each true column stands among the found ones
    ticks = [tick.get_text() for tick in inferred.get_xticklabels()]
    assert ticks == [str(of_truth[k]) for k in by_use] + ["2"]
    left, right = (np.ma.getdata(p.images[0].get_array()) for p in (inferred, true))
    blank = np.ma.getmaskarray(true.images[0].get_array())
    assert blank[:, 3].all()
    assert not blank[:, :3].any()
    # The rows of both, side by side, are the nodes of the input.
    rows = sorted(map(tuple, np.hstack([left, right[:, :3]]).astype(int)))
    nodes = np.hstack([found[:, [int(t) for t in ticks]], truth[:, by_use]]).astype(int)
    assert rows == sorted(map(tuple, nodes))
    # Equal true memberships stand together.
    patterns = right[:, :3] @ [1, 2, 4]
    assert (np.diff(patterns) != 0).sum() + 1 == len(np.unique(patterns))


def test_comparison_with_labels_names_them_and_puts_unlabelled_nodes_last() -> None:
    labels = np.array([1, 0, -1, 1, 1, 0])
    z = np.array([[[2, 0, 0, 2, 2, 0]]])
    graph = ring(6, labels=labels.tolist(), label_names=["few", "many"], names=list("abcdef"))
    inferred, true = plots.membership_comparison(disjoint(z), labels, graph)
    assert [tick.get_text() for tick in true.get_xticklabels()] == ["many", "few"]
    assert [tick.get_text() for tick in inferred.get_xticklabels()] == ["2", "0"]
    names = [tick.get_text() for tick in inferred.get_yticklabels()]
    assert (set(names[:3]), set(names[3:5]), names[5]) == ({"a", "d", "e"}, {"b", "f"}, "c")
    mask = np.ma.getmaskarray(true.images[0].get_array())
    assert mask[5].all()
    assert not mask[:5].any()


def test_a_true_community_without_a_match_is_an_empty_column() -> None:
    truth = np.repeat([0, 1, 2], [4, 3, 2])
    z = np.where(truth == 2, 1, truth)[None, None]
    inferred, _ = plots.membership_comparison(disjoint(z), truth)
    assert [tick.get_text() for tick in inferred.get_xticklabels()] == ["0", "1", "–"]
    assert np.ma.getmaskarray(inferred.images[0].get_array())[:, 2].all()


def test_a_big_comparison_averages_rows() -> None:
    z = np.repeat([0, 1], [1500, 1500])
    inferred, true = plots.membership_comparison(disjoint(z[None, None]), z)
    for panel in (inferred, true):
        assert panel.images[0].get_array().shape == (600, 2)
    np.testing.assert_array_equal(inferred.images[0].get_array(), true.images[0].get_array())


# --- what is refused ------------------------------------------------------------------------------


def test_wrong_input_is_refused_and_given_axes_are_used() -> None:
    z = disjoint(np.array([[[0, 1, 1]]]))
    _, mine = plt.subplots(1, 3)
    assert plots.communities(z, ring(3), mine[0]) is mine[0]
    panels = plots.membership_comparison(z, [0, 1, 1], axes=mine[1:])
    assert list(panels) == list(mine[1:])
    with pytest.raises(ValueError, match="of 3 nodes, the graph of 4"):
        plots.communities(z, ring(4))
    with pytest.raises(ValueError, match="places"):
        plots.communities(z, ring(3), places=np.zeros((2, 2)))
    with pytest.raises(KeyError, match="neither"):
        plots.communities(to_arviz({"posterior": {"bias": np.zeros((1, 3))}}, {}, {}, {}), ring(3))
    with pytest.raises(ValueError, match="truth must be"):
        plots.membership_comparison(z, [0, 1])
    with pytest.raises(ValueError, match="0 or 1"):
        plots.membership_comparison(z, np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="integers"):
        plots.membership_comparison(z, [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="every node"):
        plots.membership_comparison(z, [-1, -1, -1])
    with pytest.raises(ValueError, match="2 panels"):
        plots.membership_comparison(z, [0, 1, 1], axes=mine[0])
