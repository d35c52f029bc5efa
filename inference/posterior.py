"""The posterior as ArviZ data: latents, predictive graphs, pointwise log-likelihood, what was observed."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import arviz
import numpy as np
import pyro
import scipy.sparse as sp
import torch
from torch import Tensor

from ..data import Graph
from ._arviz import to_arviz
from .draws import chunk_size, edge_distribution, evaluation_mode, posterior_traces
from .statistics import STATISTICS, graph_statistics, p_value, weight_statistics

__all__ = [
    "Check",
    "DrawGroups",
    "environment",
    "groups_to_arviz",
    "posterior_data",
    "posterior_predictive_check",
]

_DYAD_LIMIT = (
    50_000  # observed dyads up to which log-likelihood and predictive edges are kept dyad by dyad
)


def posterior_data(
    story: Any, guide: Any, graph: Graph, draws: int, predictive_draws: int, attrs: dict[str, Any]
) -> Any:
    """Draw the posterior of a fitted story and put it into ArviZ form.

    Groups and dimensions, behind (chain = 1, draw): ``posterior`` has the latents over ``node`` and ``community``;
    ``posterior_predictive`` the degrees (node) and the statistics of graphs drawn from the predictive, and on graphs
    of up to 50,000 observed dyads their ``edges`` (dyad); ``log_likelihood`` has ``edges`` by dyad on those graphs
    and by node on larger ones (each dyad half to either end); ``observed_data`` what the predictive is held against;
    ``constant_data`` the ends of the dyads and the labels. Draws are independent: there is one chain, and R-hat says
    nothing. The log-likelihood is always the Bernoulli density, also where the fit was tempered.

    Arguments:
        draws: posterior draws.
        predictive_draws: how many of them also draw a graph.
    """
    groups = DrawGroups.of(story, graph, predictive_draws)
    with evaluation_mode(story, guide):
        chunk = chunk_size(graph, max(story.width, groups.width), draws)
        for trace in posterior_traces(story, guide, graph, draws, chunk):
            groups.add(trace)
    return groups_to_arviz([groups], attrs)


def groups_to_arviz(
    chains: Sequence[DrawGroups],
    attrs: Mapping[str, Any],
    sample_stats: Mapping[str, np.ndarray] | None = None,
) -> Any:
    """ArviZ data from the draws of one or several chains, as :func:`posterior_data` describes it.

    Arguments:
        chains: one entry a chain, all of one story and graph and with as many draws.
        sample_stats: what is known of the draws, (chain, draw) each.
    """
    first = chains[0]
    story, graph = first.story, first.graph
    observed, constant = first.observed()
    coords: dict[str, Any] = {
        "node": list(graph.names) if graph.names else np.arange(graph.num_nodes),
    }
    for name, named in story.dims.items():
        for dim, size in zip(named, first.posterior[name][0].shape[1:], strict=True):
            coords.setdefault(dim, np.arange(size))
    per_node = ("node",)
    dims: dict[str, tuple[str, ...]] = {
        **story.dims,
        "degree": per_node,
        "labels": per_node,
        "edges": ("dyad",) if first.by_dyad else per_node,
        "dyad_i": ("dyad",),
        "dyad_j": ("dyad",),
    }
    if first.by_dyad:
        coords["dyad"] = np.arange(graph.num_dyads)
    return to_arviz(
        {
            "posterior": _stack([c.posterior for c in chains]),
            "posterior_predictive": _stack([c.predictive for c in chains]),
            "log_likelihood": _stack([c.log_likelihood for c in chains]),
            "sample_stats": dict(sample_stats or {}),
            "observed_data": observed,
            "constant_data": constant,
        },
        coords,
        dims,
        {**attrs, **environment()},
    )


@dataclass(frozen=True)
class Check:
    """One row of a posterior predictive check.

    Attributes:
        statistic: its name; ``meaning`` says it in words.
        observed: of the graph.
        mean, low, high: of the predictive graphs, with a central 90 % interval.
        p_value: share of predictive graphs at or above the observed one, half of the ties counted.
    """

    statistic: str
    meaning: str
    observed: float
    mean: float
    low: float
    high: float
    p_value: float


def posterior_predictive_check(posterior: Any) -> list[Check]:
    """Compare the observed graph with graphs drawn from the posterior predictive, statistic by statistic."""
    checks = []
    for name, meaning in STATISTICS.items():
        if name not in posterior.observed_data:
            continue
        drawn = np.asarray(posterior.posterior_predictive[name]).ravel()
        observed = np.asarray(posterior.observed_data[name]).item()
        low, high = np.quantile(drawn, (0.05, 0.95))
        checks.append(
            Check(
                name,
                meaning,
                observed,
                float(drawn.mean()),
                float(low),
                float(high),
                p_value(drawn, observed),
            )
        )
    return checks


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    from .. import __version__

    return {
        "graphlore": __version__,
        "pyro": str(pyro.__version__),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "arviz": arviz.__version__,
        "python": platform.python_version(),
    }


@dataclass
class DrawGroups:
    """The draws of one chain as arrays by group, one entry a chunk of them."""

    story: Any
    graph: Graph
    by_dyad: bool
    pairs: Tensor | None
    values: Tensor | None  # of each of the pairs: 0 or 1, a count, a weight
    wanted: int
    posterior: dict[str, list[np.ndarray]]
    predictive: dict[str, list[np.ndarray]]
    log_likelihood: dict[str, list[np.ndarray]]
    predicted: int = 0

    @classmethod
    def of(cls, story: Any, graph: Graph, wanted: int) -> DrawGroups:
        by_dyad = graph.num_dyads <= _DYAD_LIMIT
        pairs = graph.observed_pairs() if by_dyad else None
        weights = None if story.likelihood == "bernoulli" else graph.weights
        values = None if pairs is None else _values(graph, pairs, graph.edge_index, weights)
        return cls(story, graph, by_dyad, pairs, values, wanted, {}, {}, {})

    @property
    def width(self) -> int:
        """Numbers a draw holds at once, per node."""
        return 1 + (0 if self.pairs is None else self.pairs.shape[1] // self.graph.num_nodes)

    def add(self, trace: Any) -> None:
        story, graph = self.story, self.graph
        for name, dims in story.dims.items():
            site = trace.nodes[name]
            value = site["value"] if "node" in dims else site["value"][:, 0]
            if "community_to" in dims:
                value = story.table(value)
            # whole numbers keep 0/1 memberships small; relaxed ones are not whole
            exact = name == "memberships" and not site["infer"].get("_deterministic")
            self._put(self.posterior, name, value.to(torch.int8) if exact else value)
        edges = edge_distribution(trace)
        if self.pairs is not None and self.values is not None:
            density = edges.dyad_log_prob(self.pairs, self.values)[:, 0]
            self._put(self.log_likelihood, "edges", density)
        else:
            value = story.observed_edges(graph)
            self._put(self.log_likelihood, "edges", edges.node_log_prob(value)[:, 0])
        for draw in range(min(edges.batch_shape[0], self.wanted - self.predicted)):
            self._predict(edges.one(draw))

    def _predict(self, edges: Any) -> None:
        """One graph from the predictive; dyads that were not observed are left out of both sides of the check."""
        graph, n = self.graph, self.graph.num_nodes
        pairs, x = edges.sample_entries()
        seen = ~torch.isin(pairs[0] * n + pairs[1], graph.missing[0] * n + graph.missing[1])
        pairs, x = pairs[:, seen], x[seen]
        for name, value in self._statistics(pairs, x).items():
            self._put(self.predictive, name, torch.as_tensor(value, dtype=torch.float64)[None])
        if self.pairs is not None:
            drawn = _values(graph, self.pairs, pairs, x)
            whole = torch.int8 if self.story.likelihood == "bernoulli" else drawn.dtype
            self._put(self.predictive, "edges", drawn.to(whole)[None])
        self.predicted += 1

    def _statistics(self, pairs: Tensor, x: Tensor) -> dict[str, Any]:
        """What is checked, of one graph: its degrees and statistics, and those of its weights where it has any."""
        graph, found = self.graph, {}
        if self.story.likelihood != "normal":  # where every dyad has a weight, none is absent
            found = graph_statistics(
                _sparse(pairs, graph.num_nodes), graph.num_dyads, pairs.shape[1]
            )
            found["degree"] = torch.bincount(pairs.flatten(), minlength=graph.num_nodes)
        if self.story.likelihood != "bernoulli":
            found |= weight_statistics(x.double().cpu().numpy(), graph.num_dyads)
        return found

    def observed(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        graph = self.graph
        x = torch.ones(graph.num_edges) if graph.weights is None else graph.weights
        found = self._statistics(graph.edge_index, x)
        # numbers stay float64, as those of the predictive graphs are: equal graphs are ties
        observed = {
            k: v.cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for k, v in found.items()
        }
        constant: dict[str, np.ndarray] = {}
        if self.pairs is not None and self.values is not None:
            whole = torch.int8 if self.story.likelihood == "bernoulli" else self.values.dtype
            observed["edges"] = self.values.to(whole).cpu().numpy()
            constant["dyad_i"], constant["dyad_j"] = self.pairs.cpu().numpy()
        if graph.labels is not None:
            constant["labels"] = graph.labels.cpu().numpy()
        return observed, constant

    @staticmethod
    def _put(group: dict[str, list[np.ndarray]], name: str, value: Tensor) -> None:
        group.setdefault(name, []).append(value.cpu().numpy())


def _values(graph: Graph, pairs: Tensor, edges: Tensor, x: Tensor | None) -> Tensor:
    """Values of listed dyads, (P,): those of the edges among them, else 0."""
    n = graph.num_nodes
    keys, order = (edges[0] * n + edges[1]).sort()
    wanted = pairs[0] * n + pairs[1]
    place = torch.searchsorted(keys, wanted).clamp(max=max(0, keys.numel() - 1))
    if not keys.numel():
        return torch.zeros(wanted.shape)
    found = torch.ones(keys.shape, device=keys.device) if x is None else x[order]
    return torch.where(keys[place] == wanted, found[place], torch.zeros_like(found[place]))


def _sparse(pairs: Tensor, n: int) -> sp.csr_matrix:
    """Symmetric 0/1 adjacency matrix; arcs count in both directions."""
    i, j = pairs.cpu().numpy()
    upper = sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    both = (upper + upper.T).tocsr()
    both.data[:] = 1.0
    return both


def _stack(chains: list[dict[str, list[np.ndarray]]]) -> dict[str, np.ndarray]:
    """(chain, draw, ...) by name, from chunks of draws by chain."""
    return {name: np.stack([np.concatenate(c[name]) for c in chains]) for name in chains[0]}


def as_attribute(value: Any) -> str | int | float:
    """A value netCDF can hold as an attribute."""
    return (
        value
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else json.dumps(value)
    )
