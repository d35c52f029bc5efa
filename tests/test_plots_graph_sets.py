"""Pictures of sets of graphs: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest

from graphlore import plots
from graphlore.data import cycles, trees
from graphlore.inference import Steering

pytestmark = pytest.mark.usefixtures("pictures_closed")
RINGS, TREES = cycles(40, range(3, 9), seed=0), trees(30, range(2, 12), seed=0)


def test_bars_are_the_shares_of_sizes():
    for panel, sizes in zip(
        plots.graph_sizes(RINGS, TREES),
        ((RINGS.num_nodes, TREES.num_nodes), (RINGS.edge_ptr.diff(), TREES.edge_ptr.diff())),
        strict=True,
    ):
        for bars, values, side in zip(panel.containers, sizes, (1, -1), strict=True):
            drawn = {round(b.get_x() + b.get_width() / 2): b.get_height() for b in bars}
            found = {k: side * v for k, v in drawn.items() if v}
            numbers, counts = np.unique(values.numpy(), return_counts=True)
            expected = dict(zip(numbers.tolist(), counts / len(values), strict=True))
            assert found == pytest.approx(expected)


def test_sizes_of_plain_graphs_and_of_many_sizes():
    some = list(RINGS)
    one, two = (plots.graph_sizes(graphs, TREES)[0].containers[0] for graphs in (RINGS, some))
    assert [b.get_height() for b in one] == [b.get_height() for b in two]
    wide = plots.graph_sizes(cycles(300, range(3, 200)), RINGS)[0].containers[0]
    assert len(wide) <= 41
    assert sum(b.get_height() for b in wide) == pytest.approx(1.0)


@pytest.mark.parametrize("width", [1, 3])
def test_the_map_has_a_point_a_graph_with_its_size(width):
    z = np.random.default_rng(0).normal(size=(20, len(RINGS), width))
    ax = plots.latent_map(z, RINGS)
    points = ax.collections[1]
    assert points.get_array().tolist() == RINGS.num_nodes.tolist()
    if width == 1:
        places = points.get_offsets()
        np.testing.assert_allclose(places[:, 0], z.mean(0)[:, 0])
        assert np.abs(places[:, 1] - RINGS.num_nodes.numpy()).max() < 0.3
        lines = np.array(ax.collections[0].get_segments())
        np.testing.assert_allclose(np.ptp(lines[..., 0], axis=1), 2 * z[..., 0].std(0))
    with pytest.raises(ValueError, match=r"not \(draws, 40, D\)"):
        plots.latent_map(z[:, :7], RINGS)


def test_steering_is_drawn_with_two_standard_errors():
    walk = Steering(np.arange(3.0), np.array([5.0, 7.0, 6.0]), np.array([0.5, 0.1, 0.2]), 0.5, 2.0)
    ax = plots.steering(walk)
    assert ax.lines[0].get_ydata().tolist() == [5.0, 7.0, 6.0]
    bars = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(np.ptp(bars[..., 1], axis=1), [2.0, 0.4, 0.8])
    assert "0.50" in ax.get_title(loc="left")


def test_epochs_have_parts_where_there_are_any():
    values = (-5.0 + np.arange(40) / 10).tolist()
    top, below = plots.epochs({"elbo": values, "order_entropy": values, "kl_latent": values})
    assert top.lines[0].get_ydata().tolist() == values
    assert top.lines[0].get_xdata().tolist() == list(range(1, 41))
    assert len(below.lines) == 2
    (alone,) = plots.epochs({"log_prob": values})
    assert "log p" in alone.get_title(loc="left")
    with pytest.raises(KeyError):
        plots.epochs({"seconds": values})
