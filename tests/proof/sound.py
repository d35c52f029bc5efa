"""What holds of what a reader gives back: the invariants that its class states, and the way through a file and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from graphlore import data as room
from graphlore.data import Graph, GraphSet, karate
from graphlore.inference import Fit, FitSettings, Recipe


def _normal_pairs(pairs: torch.Tensor, n: int, directed: bool) -> None:
    assert pairs.dtype == torch.int64
    assert pairs.ndim == 2
    assert pairs.shape[0] == 2
    if pairs.numel():
        assert int(pairs.min()) >= 0
        assert int(pairs.max()) < n
        assert bool((pairs[0] != pairs[1]).all())
        assert directed or bool((pairs[0] < pairs[1]).all())
        assert bool(((pairs[0] * n + pairs[1]).diff() > 0).all())


def sound_graph(graph: Graph, folder: Path) -> None:
    """The invariants that :class:`Graph` states, and the round trip through its file."""
    n = graph.num_nodes
    assert type(n) is int
    assert n >= 2
    _normal_pairs(graph.edge_index, n, graph.directed)
    _normal_pairs(graph.missing, n, graph.directed)
    keys = [p[0] * n + p[1] for p in (graph.edge_index, graph.missing)]
    assert not bool(torch.isin(*keys).any())
    assert graph.num_dyads > 0
    assert graph.num_edges <= graph.num_dyads
    if graph.weights is not None:
        assert graph.weights.shape == (graph.num_edges,)
        assert bool((torch.isfinite(graph.weights) & (graph.weights != 0)).all())
    if graph.parts is not None:
        assert set(graph.parts.tolist()) == {0, 1}
        assert bool((graph.parts[graph.edge_index[0]] != graph.parts[graph.edge_index[1]]).all())
    if graph.features is not None:
        assert graph.features.shape[0] == n
        values = graph.features.values() if graph.features.is_sparse else graph.features
        assert values.dtype == torch.float32
        assert bool(torch.isfinite(values).all())
    if graph.labels is not None:
        assert graph.labels.shape == (n,)
        assert int(graph.labels.min()) >= -1
    if graph.names is not None:
        assert len(set(graph.names)) == n
    repr(graph)
    before = graph.fingerprint()
    path = folder / "back.npz"
    back = room.read_graph(room.write_npz(graph, path))
    path.unlink()
    assert back.fingerprint() == before
    assert back.title == graph.title
    again = Graph(
        n, graph.edge_index, missing=graph.missing, directed=graph.directed, allow_empty=True
    )
    assert torch.equal(again.edge_index, graph.edge_index)


def sound_set(graphs: GraphSet, folder: Path) -> None:
    """The invariants of a set, graph by graph, and its own constructor as a round trip."""
    again = GraphSet(
        graphs.num_nodes,
        graphs.edge_index,
        graphs.edge_ptr,
        edge_types=graphs.edge_types,
        node_types=graphs.node_types,
        labels=graphs.labels,
    )
    assert torch.equal(again.edge_index, graphs.edge_index)
    for n, lo, hi in zip(graphs.num_nodes, graphs.edge_ptr, graphs.edge_ptr[1:], strict=False):
        _normal_pairs(graphs.edge_index[:, lo:hi], int(n), False)
    if graphs.node_types is not None:
        assert graphs.node_types.shape == (int(graphs.num_nodes.sum()),)
    repr(graphs)


def sound_split(split: room.Split, folder: Path) -> None:
    hidden = torch.cat([split.val_edges, split.test_edges], 1)
    assert split.train.num_edges == split.full.num_edges - hidden.shape[1]
    for part in ("val", "test"):
        pairs, truth = split.pairs(part)
        assert pairs.shape[1] == len(truth)


def sound_pairs(pairs: torch.Tensor, folder: Path) -> None:
    assert pairs.dtype == torch.int64
    assert bool(((pairs >= 0) & (pairs < karate().num_nodes)).all())


def sound_settings(found: FitSettings, folder: Path) -> None:
    assert FitSettings.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def sound_recipe(found: Recipe, folder: Path) -> None:
    sound_settings(found.settings, folder)


def sound_fit(found: Fit, folder: Path) -> None:
    assert found.link_probabilities([[0], [1]], draws=2).shape == (1,)


def nothing(found: Any, folder: Path) -> None:
    """The property is in the way it ends."""
