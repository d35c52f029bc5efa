r"""SGVAE: a graph is built node by node from a latent state, and each new node chooses its edges all at once.

.. math::
    z &\sim \mathrm{Normal}(0, I), \qquad h_0 = z, \qquad \text{and for } t = 1, 2, \dots \\
    h &\leftarrow \mathrm{prop}(h), \qquad h_G = R(h) \\
    \text{add}_t &\sim \mathrm{Bernoulli}(\sigma(f_{an}(h_G))), \quad \text{stop if it is 0} \\
    h_v &= R_{init}(h_G), \qquad
    e_{tu} \sim \mathrm{Categorical}(\mathrm{softmax}(f_{ae}(h_u, h_v, h_G))) \text{ for all } u < v \\
    \tau_v &\sim \mathrm{Categorical}(\mathrm{softmax}(f_{type}(h_v))) \text{ at the end.}

A graph with n nodes is a *sequence*: its nodes come in an order. The order in which a graph was built is not
observed; :class:`~graphlore.guides.Destructor` infers it together with z.

References:
    | Sequential Graphical Variational Autoencoders (Jing, Chi, Tang, CS 236 project, 2019)
"""

from __future__ import annotations

from typing import Protocol

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import functional as F

from ..data import GraphBatch
from .base import check_counts
from .message_passing import Arcs, GatedSum, PairScore, Propagation, mlp

__all__ = ["SGVAE", "check_types", "graphs_of_rows"]


class Typed(Protocol):
    """A story of graphs with so many types."""

    edge_types: int
    node_types: int


class SGVAE(PyroModule):
    """The constructor of SGVAE, told of many graphs at once.

    Sites, in the plate ``graphs`` at dimension -1: ``z`` (B, D); ``add_node_t`` (B,) and ``edges_t`` (B, t), the
    types of the edges from the new node to nodes 0 .. t-1 (0: no edge), for t = 1, 2, ...; ``node_types`` (B, n) when
    there is more than one. A site counts only for the graphs that reach it.

    Arguments:
        hidden: H, length of a node state.
        latent: D, length of z, at most H. Where it is less, z is the first D entries of h_0 and the others are zero.
        rounds: rounds of message passing a step.
        edge_types: number of edge types.
        node_types: number of node types.
        max_nodes: draws from the prior stop at this many nodes.

    Raises:
        ValueError: a size out of range.
    """

    def __init__(
        self,
        hidden: int = 16,
        latent: int | None = None,
        *,
        rounds: int = 2,
        edge_types: int = 1,
        node_types: int = 1,
        max_nodes: int = 40,
    ) -> None:
        super().__init__("sgvae")
        latent = hidden if latent is None else latent
        check_counts(
            "a number of units, rounds, types or nodes",
            hidden=hidden,
            latent=latent,
            rounds=rounds,
            edge_types=edge_types,
            node_types=node_types,
            max_nodes=max_nodes,
        )
        if latent > hidden:
            raise ValueError(f"latent={latent} does not fit into h_0: at most hidden={hidden}")
        self.hidden, self.latent, self.max_nodes = hidden, latent, max_nodes
        self.edge_types, self.node_types = edge_types, node_types
        self.prop = Propagation(hidden, rounds, edge_types)
        self.readout = GatedSum(hidden, 2 * hidden)
        self.f_an = mlp(2 * hidden, hidden, 1)
        self.r_init = mlp(2 * hidden, hidden, hidden)
        self.f_ae = PairScore(hidden, 3 * hidden, edge_types + 1)
        self.f_type = mlp(hidden, hidden, node_types) if node_types > 1 else None
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        self.zero: Tensor

    def forward(self, batch: GraphBatch | None = None, num_graphs: int = 1) -> GraphBatch:
        """Tell the story of ``batch``, its nodes in the order in which they were built; without one, draw graphs.

        Arguments:
            batch: B graphs; node 0 was first.
            num_graphs: B when graphs are drawn.

        Returns:
            the graphs, ``batch`` itself if it was given.

        Raises:
            ValueError: a graph with types that the story does not have.
        """
        check_types(self, batch)
        count = num_graphs if batch is None else len(batch)
        last = self.max_nodes if batch is None else batch.width
        # Each look-up of a network of a PyroModule registers its parameters with Pyro: look them up once.
        prop, readout, typed = self.prop.joined(), self.readout, self.f_type is not None
        f_an, r_init, f_ae = self.f_an, self.r_init, self.f_ae
        with pyro.plate("graphs", count, dim=-1):
            z = pyro.sample("z", self.prior())
            h = F.pad(z, (0, self.hidden - self.latent))[
                None
            ]  # (t, A, H), nodes of the A graphs still built
            active = torch.arange(count, device=z.device)
            arcs = Arcs.none(z.device)
            final = z.new_zeros(
                last, count, self.hidden
            )  # states of the nodes when their graph stopped
            exists = torch.ones_like(active, dtype=torch.bool)
            num_nodes = torch.ones_like(active)
            rows: list[Tensor] = []
            # Node states persist, so a step depends on all steps before it: this is what `history` says.
            for t in pyro.markov(range(1, last + 1), history=last):
                h = prop(h.flatten(0, 1), *arcs.flat(len(active))).view_as(h)
                if typed:
                    final = torch.cat([final[:t].index_copy(1, active, h), final[t:]])
                if batch is None and t == last:
                    break
                graph = readout(h, 0)
                more = pyro.sample(
                    f"add_node_{t}",
                    dist.Bernoulli(logits=_spread(f_an(graph)[:, 0], active, count)).mask(exists),
                    obs=None if batch is None else (batch.num_nodes > t).to(h),
                )
                exists = exists & (more > 0)
                num_nodes = num_nodes + exists
                stay = exists.index_select(0, active).nonzero()[:, 0]
                if t == last or len(stay) == 0:
                    break
                if len(stay) < len(active):
                    h, graph = h.index_select(1, stay), graph.index_select(0, stay)
                    arcs, active = arcs.only(stay, len(active)), active[stay]
                new = r_init(graph)
                logits = f_ae(h, torch.cat([new, graph], -1)).transpose(0, 1)
                row = pyro.sample(
                    f"edges_{t}",
                    dist.Categorical(logits=_spread(logits, active, count))
                    .to_event(1)
                    .mask(exists),
                    obs=None if batch is None else batch.edges[:, t, :t],
                )
                if batch is None:
                    rows.append(row * exists[:, None])
                arcs = arcs.with_row(row.index_select(0, active))
                h = torch.cat([h, new[None]])
            types = self.sample_types(batch, final.transpose(0, 1), num_nodes)
        return graphs_of_rows(rows, num_nodes, types) if batch is None else batch

    def prior(self) -> dist.TorchDistribution:
        """p(z)."""
        zero = self.f_ae.out.weight.new_zeros(self.latent)
        return dist.Normal(zero, zero + 1.0).to_event(1)

    def sample_types(
        self, batch: GraphBatch | None, final: Tensor, num_nodes: Tensor
    ) -> Tensor | None:
        """(B, n) types from (B, n, H) node states, if there is more than one."""
        if self.f_type is None:
            return None
        mask = torch.arange(final.shape[1], device=final.device) < num_nodes[:, None]
        law = dist.Categorical(logits=self.f_type(final)).mask(mask).to_event(1)
        types = pyro.sample("node_types", law, obs=None if batch is None else batch.node_types)
        return types * mask


def check_types(story: Typed, batch: GraphBatch | None) -> None:
    """Refuses graphs of other types than the story's.

    Raises:
        ValueError: as said.
    """
    if batch is None:
        return
    if (kind := int(batch.edges.max())) > story.edge_types:
        raise ValueError(f"the graphs have edge type {kind}; the story has {story.edge_types}")
    if story.node_types > 1 and batch.node_types is None:
        raise ValueError(f"the story has {story.node_types} node types; the graphs have none")
    if batch.node_types is not None and (kind := int(batch.node_types.max())) >= story.node_types:
        raise ValueError(
            f"the graphs have node type {kind}; the story has {story.node_types}, from 0"
        )


def _spread(values: Tensor, active: Tensor, count: int) -> Tensor:
    """(B, ...) values from those (A, ...) of the active graphs, zero for the others, whose sites are masked."""
    if len(active) == count:
        return values
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, active, values)


def graphs_of_rows(rows: list[Tensor], num_nodes: Tensor, types: Tensor | None) -> GraphBatch:
    """Draws as a batch, from the (B, t) edges of nodes t = 1, 2, ..."""
    width = int(num_nodes.max())
    lower = [F.pad(row, (0, width - row.shape[1])) for row in rows[: width - 1]]
    edges = torch.stack([num_nodes.new_zeros(len(num_nodes), width), *lower], 1)
    return GraphBatch(edges + edges.mT, num_nodes, None if types is None else types[:, :width])
