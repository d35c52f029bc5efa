"""The posterior as ArviZ data: latents, predictive graphs, pointwise log-likelihood, what was observed."""

from __future__ import annotations

import json
import platform
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
from .statistics import STATISTICS, graph_statistics, p_value

__all__ = ["Check", "environment", "posterior_data", "posterior_predictive_check"]

LATENTS = ("sticks", "memberships", "strengths", "bias", "node_bias")
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
    groups = _Groups.of(graph, predictive_draws)
    with evaluation_mode(story, guide):
        chunk = chunk_size(graph, max(story.truncation, groups.width), draws)
        for trace in posterior_traces(story, guide, graph, draws, chunk):
            groups.add(trace)
    observed, constant = groups.observed()
    coords: dict[str, Any] = {
        "node": list(graph.names) if graph.names else np.arange(graph.num_nodes),
        "community": np.arange(story.truncation),
    }
    per_node = ("node",)
    dims: dict[str, tuple[str, ...]] = {
        "sticks": ("node", "community")
        if groups.posterior["sticks"][0].ndim == 3
        else ("community",),
        "memberships": ("node", "community"),
        "strengths": ("node", "community"),
        "node_bias": per_node,
        "degree": per_node,
        "labels": per_node,
        "edges": ("dyad",) if groups.by_dyad else per_node,
        "dyad_i": ("dyad",),
        "dyad_j": ("dyad",),
    }
    if groups.by_dyad:
        coords["dyad"] = np.arange(graph.num_dyads)
    return to_arviz(
        {
            "posterior": _stack(groups.posterior),
            "posterior_predictive": _stack(groups.predictive),
            "log_likelihood": _stack(groups.log_likelihood),
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
class _Groups:
    """Arrays by group, one entry a chunk of draws."""

    graph: Graph
    by_dyad: bool
    pairs: Tensor | None
    present: Tensor | None  # 0 or 1 for each of the pairs
    wanted: int
    posterior: dict[str, list[np.ndarray]]
    predictive: dict[str, list[np.ndarray]]
    log_likelihood: dict[str, list[np.ndarray]]
    predicted: int = 0

    @classmethod
    def of(cls, graph: Graph, wanted: int) -> _Groups:
        by_dyad = graph.num_dyads <= _DYAD_LIMIT
        pairs = graph.observed_pairs() if by_dyad else None
        present = None if pairs is None else _present(graph, pairs)
        return cls(graph, by_dyad, pairs, present, wanted, {}, {}, {})

    @property
    def width(self) -> int:
        """Numbers a draw holds at once, per node."""
        return 1 + (0 if self.pairs is None else self.pairs.shape[1] // self.graph.num_nodes)

    def add(self, trace: Any) -> None:
        graph = self.graph
        for name in LATENTS:
            if name in trace.nodes:
                value = _flat_draws(name, trace.nodes[name]["value"])
                # whole numbers keep 0/1 memberships small; relaxed ones are not whole
                exact = name == "memberships" and not trace.nodes[name]["infer"].get(
                    "_deterministic"
                )
                self._put(self.posterior, name, value.to(torch.int8) if exact else value)
        edges = edge_distribution(trace)
        if self.pairs is not None and self.present is not None:
            s = edges.logits(self.pairs)[:, 0]
            self._put(
                self.log_likelihood, "edges", s * self.present - torch.nn.functional.softplus(s)
            )
        else:
            self._put(self.log_likelihood, "edges", edges.node_log_prob(graph.adjacency)[:, 0])
        for draw in range(min(edges.batch_shape[0], self.wanted - self.predicted)):
            self._predict(edges.one(draw))

    def _predict(self, edges: Any) -> None:
        """One graph from the predictive; dyads that were not observed are left out of both sides of the check."""
        graph, n = self.graph, self.graph.num_nodes
        pairs = edges.sample_edges()
        keys = pairs[0] * n + pairs[1]
        pairs = pairs[:, ~torch.isin(keys, graph.missing[0] * n + graph.missing[1])]
        adjacency = _sparse(pairs, n)
        for name, value in graph_statistics(adjacency, graph.num_dyads).items():
            self._put(self.predictive, name, torch.tensor([value], dtype=torch.float64))
        self._put(self.predictive, "degree", torch.as_tensor(adjacency.sum(1)).reshape(1, n))
        if self.pairs is not None:
            keys = pairs[0] * n + pairs[1]
            drawn = torch.isin(self.pairs[0] * n + self.pairs[1], keys)
            self._put(self.predictive, "edges", drawn.to(torch.int8)[None])
        self.predicted += 1

    def observed(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        graph = self.graph
        adjacency = _sparse(graph.edge_index, graph.num_nodes)
        observed = {
            k: np.asarray(v) for k, v in graph_statistics(adjacency, graph.num_dyads).items()
        }
        observed["degree"] = graph.degrees.cpu().numpy()
        constant: dict[str, np.ndarray] = {}
        if self.pairs is not None and self.present is not None:
            observed["edges"] = self.present.to(torch.int8).cpu().numpy()
            constant["dyad_i"], constant["dyad_j"] = self.pairs.cpu().numpy()
        if graph.labels is not None:
            constant["labels"] = graph.labels.cpu().numpy()
        return observed, constant

    @staticmethod
    def _put(group: dict[str, list[np.ndarray]], name: str, value: Tensor) -> None:
        group.setdefault(name, []).append(value.cpu().numpy())


def _flat_draws(name: str, value: Tensor) -> Tensor:
    """(draws, ...) from what a plate over draws at -2 and a node plate at -1 leave behind."""
    if name == "bias":
        return value.reshape(-1)
    if name == "sticks" and value.shape[1] == 1:  # global
        return value[:, 0]
    return value


def _present(graph: Graph, pairs: Tensor) -> Tensor:
    n = graph.num_nodes
    edges = graph.edge_index[0] * n + graph.edge_index[1]
    return torch.isin(pairs[0] * n + pairs[1], edges).float()


def _sparse(pairs: Tensor, n: int) -> sp.csr_matrix:
    i, j = pairs.cpu().numpy()
    upper = sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    return (upper + upper.T).tocsr()


def _stack(group: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate(chunks)[None] for name, chunks in group.items()}


def as_attribute(value: Any) -> str | int | float:
    """A value netCDF can hold as an attribute."""
    return (
        value
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else json.dumps(value)
    )
