"""Draws of a story as arrays by ArviZ group: latents, predictive graphs, log-likelihood, what was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..data import Graph, sample_dyads
from ._arviz import to_arviz
from .defaults import MANY_DYADS
from .draws import edge_distribution
from .statistics import block_adjacency, graph_statistics, weight_statistics

__all__ = ["DrawGroups", "Unit", "check_unit", "chosen_unit", "groups_to_arviz", "kept_number"]

#: what the log-likelihood is kept by: an int is a random sample of so many dyads; "none": it is not had
Unit = Literal["auto", "dyad", "node", "none"] | int

_DYAD_LIMIT = 50_000  # observed dyads up to which "auto" keeps them one by one
_NUMBERS = 250_000_000  # of a group by dyad, 1 GB, and as much again while it is put together
_ENTRIES = 4_000_000  # of the adjacency matrices that are drawn at once
_SAMPLE_SEED = 0  # one for all: two posteriors of a graph, to be compared, keep the same dyads


def check_unit(unit: object, graph: Graph, draws: int) -> None:
    """Refuse a unit that is not known or whose groups would not fit in memory.

    Raises:
        ValueError: as said.
    """
    number = isinstance(unit, int) and not isinstance(unit, bool)
    if not number and unit not in ("auto", "dyad", "node", "none"):
        raise ValueError(
            f"unit is 'auto', 'dyad', 'node', 'none' or a number of random dyads, not {unit!r}"
        )
    if number and int(unit) < 2:  # type: ignore[call-overload]
        raise ValueError(f"unit as a number of random dyads is at least 2, not {unit}")
    kept = 0 if unit == "auto" else kept_number(graph, unit)  # type: ignore[arg-type]
    if draws * kept > _NUMBERS:
        raise ValueError(
            f"the log-likelihood of {kept:,} dyads by {draws:,} draws is over {_NUMBERS:,} numbers: "
            "take fewer draws, unit='node', or a random sample of dyads (unit=20_000)"
        )


def chosen_unit(graph: Graph, unit: Unit) -> Unit:
    """What "auto" is: "dyad" up to 50,000 observed dyads, "node" up to 500 million, where a draw takes a second, and
    "none" beyond."""
    if unit != "auto":
        return unit
    if graph.num_dyads <= _DYAD_LIMIT:
        return "dyad"
    return "node" if graph.num_dyads <= MANY_DYADS else "none"


@dataclass
class DrawGroups:
    """The draws of one chain as arrays by group, one entry a chunk of them.

    Attributes:
        by_node: log-likelihoods are by node.
        pairs: the dyads that are kept one by one, sorted, (2, P), or None.
        values: of each of them: 0 or 1, a count, a weight.
        wanted: how many draws also draw a graph.
        numbering: which of the drawn communities each of those that are kept is, (K,); None keeps them as drawn.
        latents, predictive, log_likelihood: the arrays.
    """

    story: Any
    graph: Graph
    by_node: bool
    pairs: Tensor | None
    values: Tensor | None
    wanted: int
    numbering: Tensor | None = None
    latents: dict[str, list[np.ndarray]] = field(default_factory=dict)
    predictive: dict[str, list[np.ndarray]] = field(default_factory=dict)
    log_likelihood: dict[str, list[np.ndarray]] = field(default_factory=dict)
    predicted: int = 0

    @classmethod
    def of(
        cls,
        story: Any,
        graph: Graph,
        wanted: int,
        unit: Unit = "auto",
        numbering: Tensor | None = None,
    ) -> DrawGroups:
        pairs = _kept_dyads(graph, unit)
        weights = None if story.likelihood == "bernoulli" else graph.weights
        x = torch.ones(graph.num_edges) if weights is None else weights.cpu()
        first = torch.zeros(graph.num_edges, dtype=torch.int64)
        values = None
        if pairs is not None:
            values = _values(graph.num_nodes, pairs.cpu(), first, graph.edge_index.cpu(), x, 1)[0]
            values = values.to(graph.device)
        by_node = chosen_unit(graph, unit) == "node"
        return cls(story, graph, by_node, pairs, values, wanted, numbering)

    @property
    def width(self) -> int:
        """Numbers a draw holds at once, per node."""
        return 1 + (0 if self.pairs is None else self.pairs.shape[1] // self.graph.num_nodes)

    @property
    def unit(self) -> dict[str, Any]:
        """What the log-likelihood is by, as attributes."""
        total = self.graph.num_dyads
        kept = 0 if self.pairs is None else self.pairs.shape[1]
        unit = "dyad" if kept == total else "dyad, of a random sample" if kept else "none"
        unit = "node" if self.by_node else unit
        return {"log_likelihood_unit": unit, "observed_dyads": total, "kept_dyads": kept}

    def add(self, trace: Any, log_likelihood: bool = True) -> None:
        story, graph = self.story, self.graph
        for name, dims in story.dims.items():
            site = trace.nodes[name]
            value = site["value"] if "node" in dims else site["value"][:, 0]
            if "community_to" in dims:
                value = story.table(value)
            # whole numbers keep 0/1 memberships small; relaxed ones are not whole
            exact = name == "memberships" and not site["infer"].get("_deterministic")
            value = self._numbered(name, dims, value.to(torch.int8) if exact else value)
            _put(self.latents, name, value)
        edges = edge_distribution(trace)
        if log_likelihood and self.by_node:
            density = edges.node_log_prob(story.observed_edges(graph))[:, 0]
            _put(self.log_likelihood, "edges", density)
        elif log_likelihood and self.pairs is not None and self.values is not None:
            density = edges.dyad_log_prob(self.pairs, self.values)[:, 0]
            _put(self.log_likelihood, "edges", density)
        self._predict(edges, min(edges.batch_shape[0], self.wanted - self.predicted))

    def _numbered(self, name: str, dims: tuple[str, ...], value: Tensor) -> Tensor:
        """Latents with their communities in the order of the numbering."""
        if self.numbering is None:
            return value
        if name == "membership":
            return self.numbering.argsort()[value]
        for place, dim in enumerate(dims, start=1):
            if dim in ("community", "community_to"):
                value = value.index_select(place, self.numbering)
        return value

    def _predict(self, edges: Any, count: int) -> None:
        """Graphs from the predictive; dyads that were not observed are left out of both sides of the check."""
        n = self.graph.num_nodes
        missing = self.graph.missing.cpu()
        step = max(1, _ENTRIES // n**2)
        for start in range(0, count, step):
            size = min(step, count - start)
            which, pairs, x = _draw(edges, slice(start, start + size))
            seen = ~torch.isin(pairs[0] * n + pairs[1], missing[0] * n + missing[1])
            which, pairs, x = which[seen], pairs[:, seen], x[seen]
            for name, value in self._statistics(which, pairs, x, size).items():
                self.predictive.setdefault(name, []).append(value)
            if self.pairs is not None:
                drawn = _values(n, self.pairs.cpu(), which, pairs, x, size)
                _put(self.predictive, "edges", drawn.to(self._whole(drawn)))
            self.predicted += size

    def _whole(self, values: Tensor) -> torch.dtype:
        return torch.int8 if self.story.likelihood == "bernoulli" else values.dtype

    def _statistics(
        self, which: Tensor, pairs: Tensor, x: Tensor, count: int
    ) -> dict[str, np.ndarray]:
        """What is checked, of ``count`` graphs: degrees, statistics, and those of the weights where there are any."""
        graph, n = self.graph, self.graph.num_nodes
        found: dict[str, np.ndarray] = {}
        if self.story.likelihood != "normal":  # where every dyad has a weight, none is absent
            ends = (pairs + which * n).numpy()
            found = graph_statistics(
                block_adjacency(ends, n, count),
                count,
                num_dyads=graph.num_dyads,
                num_edges=torch.bincount(which, minlength=count).numpy(),
                labels=None if graph.labels is None else graph.labels.cpu().numpy(),
            )
            degrees = np.bincount(ends.ravel(), minlength=count * n)
            found["degree"] = degrees.reshape(count, n).astype(np.int32)
        if self.story.likelihood != "bernoulli":
            weights = x.double().numpy()
            found |= weight_statistics(weights, graph.num_dyads, which.numpy(), count)
        return found

    def observed(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(observed data, constant data) by name."""
        graph = self.graph
        x = torch.ones(graph.num_edges) if graph.weights is None else graph.weights.cpu()
        which = torch.zeros(graph.num_edges, dtype=torch.int64)
        found = self._statistics(which, graph.edge_index.cpu(), x, 1)
        # numbers stay float64, as those of the predictive graphs are: equal graphs are ties
        observed = {name: value[0] for name, value in found.items()}
        constant: dict[str, np.ndarray] = {}
        if self.pairs is not None and self.values is not None:
            observed["edges"] = self.values.to(self._whole(self.values)).cpu().numpy()
            constant["dyad_i"], constant["dyad_j"] = self.pairs.cpu().numpy()
        if graph.labels is not None:
            constant["labels"] = graph.labels.cpu().numpy()
        return observed, constant


def groups_to_arviz(
    chains: Sequence[DrawGroups],
    attrs: Mapping[str, Any],
    sample_stats: Mapping[str, np.ndarray] | None = None,
    prior: DrawGroups | None = None,
) -> Any:
    """ArviZ data from the draws of one or several chains, or of the prior, or of both.

    Arguments:
        chains: one entry a chain, all of one story and graph and with as many draws.
        sample_stats: what is known of the draws, (chain, draw) each.
        prior: draws of the prior of the same story and graph, with the same dyads kept.
    """
    alone = [] if prior is None else [prior]
    first = [*chains, *alone][0]
    story, graph = first.story, first.graph
    observed, constant = first.observed()
    coords: dict[str, Any] = {
        "node": list(graph.names) if graph.names else np.arange(graph.num_nodes),
    }
    for name, named in story.dims.items():
        for dim, size in zip(named, first.latents[name][0].shape[1:], strict=True):
            coords.setdefault(dim, np.arange(size))
    per_node = ("node",)
    dims: dict[str, tuple[str, ...]] = {
        **story.dims,
        "degree": per_node,
        "labels": per_node,
        "edges": per_node if first.pairs is None else ("dyad",),
        "dyad_i": ("dyad",),
        "dyad_j": ("dyad",),
    }
    if first.pairs is not None:
        coords["dyad"] = np.arange(first.pairs.shape[1])
    return to_arviz(
        {
            "posterior": _stack([c.latents for c in chains]),
            "posterior_predictive": _stack([c.predictive for c in chains]),
            "log_likelihood": _stack([c.log_likelihood for c in chains]),
            "sample_stats": dict(sample_stats or {}),
            "prior": _stack([c.latents for c in alone]),
            "prior_predictive": _stack([c.predictive for c in alone]),
            "observed_data": observed,
            "constant_data": constant,
        },
        coords,
        dims,
        attrs,
    )


def kept_number(graph: Graph, unit: Unit) -> int:
    """How many dyads are kept one by one."""
    unit = chosen_unit(graph, unit)
    if unit in ("node", "none"):
        return 0
    return min(unit, graph.num_dyads) if isinstance(unit, int) else graph.num_dyads


def _kept_dyads(graph: Graph, unit: Unit) -> Tensor | None:
    """The dyads that are kept one by one, sorted; None for none."""
    if not kept_number(graph, unit):
        return None
    if isinstance(unit, int) and unit < graph.num_dyads:
        return sample_dyads(graph, unit, _SAMPLE_SEED)
    return graph.observed_pairs()


def _draw(edges: Any, draws: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Graphs of some draws: (which draw, counted from 0, (E,); the two ends, (2, E); values, (E,)), on the CPU."""
    if draws.stop - draws.start == 1:
        pairs, x = edges.one(draws.start).sample_entries()
        return torch.zeros(pairs.shape[1], dtype=torch.int64), pairs.cpu(), x.cpu()
    some = edges.some(draws)
    matrices = some.sample()
    which, i, j = (matrices if some.directed else matrices.triu(1)).nonzero().T
    return which.cpu(), torch.stack((i, j)).cpu(), matrices[which, i, j].cpu()


def _values(n: int, pairs: Tensor, which: Tensor, ends: Tensor, x: Tensor, count: int) -> Tensor:
    """Values of listed dyads (2, P) in some graphs, (count, P): those of their edges among them, else 0."""
    found = torch.zeros(count, pairs.shape[1], dtype=x.dtype)
    listed, keys = pairs[0] * n + pairs[1], ends[0] * n + ends[1]
    place = torch.searchsorted(listed, keys).clamp(max=listed.numel() - 1)
    hit = listed[place] == keys
    found[which[hit], place[hit]] = x[hit]
    return found


def _put(group: dict[str, list[np.ndarray]], name: str, value: Tensor) -> None:
    group.setdefault(name, []).append(value.cpu().numpy())


def _stack(chains: list[dict[str, list[np.ndarray]]]) -> dict[str, np.ndarray]:
    """(chain, draw, ...) by name, from chunks of draws by chain."""
    if not chains:
        return {}
    return {name: np.stack([np.concatenate(c[name]) for c in chains]) for name in chains[0]}
