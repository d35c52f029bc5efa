"""The map of nodes and the comparison of stories show the numbers they are given."""

from __future__ import annotations

from typing import Any

import arviz as az
import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgba

import graphlore as gl
from graphlore import plots
from graphlore.inference._arviz import to_arviz
from graphlore.plots import _style as st

pytestmark = pytest.mark.usefixtures("pictures_closed")


def embedded(z: np.ndarray, **more: np.ndarray) -> Any:
    """A posterior with embedding (chain, draw, node, dimension)."""
    coords = {"node": np.arange(z.shape[2]), "dimension": np.arange(z.shape[3])}
    dims = {"embedding": ("node", "dimension"), "membership": ("node",)}
    return to_arviz({"posterior": {"embedding": z, **more}}, coords, dims, {})


def ring(nodes: int, **options: Any) -> gl.Graph:
    ends = np.arange(nodes)
    return gl.Graph(nodes, [ends.tolist(), np.roll(ends, -1).tolist()], **options)


def places(ax: Any) -> np.ndarray:
    """Where the nodes were drawn."""
    return np.asarray(next(c for c in ax.collections if hasattr(c, "get_sizes") and not isinstance(
        c, EllipseCollection)).get_offsets())  # fmt: skip


def test_pca_keeps_the_distances_of_a_plane_and_the_ellipses_are_posterior_deviations() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20, 2)) * [3.0, 1.0]
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    z = flat @ turn
    # draws at mean +- 0.1 along each axis of the five-dimensional space: variance 0.1^2 in every direction
    steps = 0.1 * np.sqrt(5) * np.concatenate([np.eye(5), -np.eye(5)])
    draws = z + steps[:, None, :]
    ax = plots.embedding(embedded(draws[None]), ring(20))
    found = places(ax)
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(found[:, None] - found[None], axis=-1), gaps, atol=1e-9
    )
    # the first axis has the larger variance, and the labels say so
    share = found.var(axis=0) / found.var(axis=0).sum()
    assert share[0] > share[1]
    assert ax.get_xlabel() == f"component 1 ({share[0]:.0%} of the variance)"
    ellipses = next(c for c in ax.collections if isinstance(c, EllipseCollection))
    np.testing.assert_allclose(
        ellipses.get_widths(), 0.2, rtol=1e-6
    )  # two s.d. wide: one to each side
    links = next(c for c in ax.collections if isinstance(c, LineCollection))
    pairs = ring(20).edge_index.numpy()
    np.testing.assert_allclose(links.get_segments(), found[pairs.T])


def test_colours_are_labels_or_else_the_most_probable_community() -> None:
    z = np.random.default_rng(0).normal(size=(1, 4, 6, 2))
    membership = np.array([[[0, 0, 1, 1, 2, 2]] * 4])
    data = embedded(z, membership=membership)
    ax = plots.embedding(data, ring(6))
    assert ax.get_legend().get_title().get_text() == "most probable community"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]
    labelled = ring(6, labels=[0, 1, 0, 1, 0, -1], label_names=("x", "y"))
    ax = plots.embedding(data, labelled)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "y", "not labelled"]
    colours = ax.collections[-1].get_facecolors()
    np.testing.assert_allclose(colours[0], to_rgba(st.BLUE))
    np.testing.assert_allclose(colours[5], to_rgba(st.OTHER))


def test_with_strengths_the_embedding_is_their_product_with_memberships() -> None:
    rng = np.random.default_rng(1)
    b = (rng.random((1, 30, 8, 3)) < 0.5).astype(np.int8)
    r = rng.normal(size=(1, 30, 8, 3))
    dims = dict.fromkeys(("memberships", "strengths"), ("node", "community"))
    coords = {"node": np.arange(8), "community": np.arange(3)}
    data = to_arviz({"posterior": {"memberships": b, "strengths": r}}, coords, dims, {})
    found = places(plots.embedding(data))
    np.testing.assert_allclose(found, places(plots.embedding(embedded(b * r))), atol=1e-9)
    alone = to_arviz(
        {"posterior": {"memberships": b}}, coords, {"memberships": dims["strengths"]}, {}
    )
    ax = plots.embedding(alone)
    assert ax.get_title(loc="left") == "Posterior mean memberships, PCA of 3 dimensions"


def test_a_fit_and_its_encoding_draw_what_encode_returns() -> None:
    graph = gl.data.karate()
    recipe = gl.inference.Recipe.default("vgae", dimension=2).override(fit={"steps": 5})
    fit = gl.inference.fit_recipe(recipe, graph, progress=False)
    nodes = fit.encode(graph, draws=200)
    means = nodes.embedding.numpy()
    found = places(plots.embedding(fit))
    gaps = np.linalg.norm(means[:, None] - means[None], axis=-1)
    np.testing.assert_allclose(
        np.linalg.norm(found[:, None] - found[None], axis=-1), gaps, atol=1e-5
    )
    np.testing.assert_allclose(places(plots.embedding(nodes, graph)), found, atol=1e-6)


def test_tsne_keeps_two_clouds_apart_and_has_no_axes_to_read() -> None:
    rng = np.random.default_rng(0)
    cloud = np.repeat([0.0, 30.0], 20)[:, None] + rng.normal(size=(40, 4))
    ax = plots.embedding(embedded(cloud[None, None]), method="tsne")
    found = places(ax)
    first, second = found[:20], found[20:]
    between = np.linalg.norm(first[:, None] - second[None], axis=-1).min()
    nearest = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(20)
    assert between > 2 * np.median(nearest.min(axis=1))
    assert ax.get_xlabel() == ""
    assert not any(isinstance(c, EllipseCollection) for c in ax.collections)


def test_many_nodes_have_one_typical_uncertainty_and_few_artists() -> None:
    z = np.random.default_rng(0).normal(size=(1, 4, 3000, 3))
    ax = plots.embedding(embedded(z), ring(3000))
    assert len(ax.collections) <= 3
    assert not any(isinstance(c, EllipseCollection) for c in ax.collections)
    cross = ax.collections[-1].get_segments()
    sd = np.median(z[0].std(0), axis=0)
    assert 0.5 * sd.min() < np.ptp(cross[0][:, 0]) / 2 < 2 * sd.max()
    assert len(ax.texts) == 1  # no names


def test_embedding_refuses_what_it_cannot_draw() -> None:
    data = embedded(np.zeros((1, 2, 5, 2)))
    with pytest.raises(ValueError, match="method"):
        plots.embedding(data, method="umap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="5 nodes, the graph of 6"):
        plots.embedding(data, ring(6))
    with pytest.raises(KeyError, match="neither"):
        plots.embedding(to_arviz({"posterior": {"bias": np.zeros((1, 3))}}, {}, {}, {}))


def test_one_dimension_lies_on_a_line() -> None:
    z = np.arange(6.0)[None, None, :, None]
    found = places(plots.embedding(embedded(z)))
    np.testing.assert_allclose(np.abs(np.diff(found[:, 0])), 1.0)
    np.testing.assert_allclose(found[:, 1], 0.0)


# --- comparison -----------------------------------------------------------------------------------


def table(elpd: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rank": [0, 1, 2],
            elpd: [-200.0, -215.5, -260.0],
            "elpd_diff": [0.0, 15.5, 60.0],
            "se": [20.0, 21.0, 25.0],
            "dse": [0.0, 6.0, 14.0],
            "warning": [False, True, False],
        },
        index=["DGLFRM", "SBM", "LFRM"],
    )


@pytest.mark.parametrize("elpd", ["elpd", "elpd_loo"])
def test_comparison_draws_elpd_its_errors_and_differences(elpd: str) -> None:
    ax = plots.comparison(table(elpd).iloc[[2, 0, 1]])  # in any order of rows
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["DGLFRM", "SBM", "LFRM"]
    own, difference = (c.lines[2][0].get_segments() for c in ax.containers)
    np.testing.assert_allclose(
        [s[:, 0] for s in own], [[-220, -180], [-236.5, -194.5], [-285, -235]]
    )
    np.testing.assert_allclose([s[:, 0] for s in difference], [[-221.5, -209.5], [-274, -246]])
    assert [t.get_text() for t in ax.texts] == ["−15.5 ± 6.0", "−60.0 ± 14.0"]
    dots = next(c for c in ax.collections if len(c.get_offsets()) == 3)
    assert [tuple(f) == to_rgba("white") for f in dots.get_facecolors()] == [False, True, False]
    low, high = sorted(ax.get_ylim())
    assert low < 0
    assert high > 2


def test_comparison_of_arviz_itself() -> None:
    rng = np.random.default_rng(0)
    loos = {}
    for name, shift in (("near", 0.0), ("far", 2.0)):
        log_p = -0.5 * (rng.normal(size=(1, 200, 40)) * 0.1 + shift) ** 2
        data = to_arviz(
            {"posterior": {"mu": np.zeros((1, 200))}, "log_likelihood": {"edges": log_p}},
            {"dyad": np.arange(40)}, {"edges": ("dyad",)}, {},
        )  # fmt: skip
        loos[name] = az.loo(data, pointwise=True, var_name="edges")
    found = plots.comparison(az.compare(loos))
    assert [tick.get_text() for tick in found.get_yticklabels()] == ["near", "far"]


def test_comparison_says_what_a_table_lacks() -> None:
    with pytest.raises(KeyError, match="lacks dse"):
        plots.comparison(table("elpd").drop(columns="dse"))
    with pytest.raises(KeyError, match="lacks elpd"):
        plots.comparison(table("waic"))
    with pytest.raises(ValueError, match="log scale"):
        plots.comparison(table("elpd").assign(scale="deviance"))
    with pytest.raises(ValueError, match="no stories"):
        plots.comparison(table("elpd").iloc[:0])
