r"""SGGN, known as DGMG: a graph is built node by node and edge by edge, with message passing after every edge.

.. math::
    h &\leftarrow \mathrm{prop}(h), \quad h_G = R(h), \qquad
    \tau_v \sim \mathrm{Categorical}(\mathrm{softmax}(f_{an}(h_G))) \text{ over the types and NO NODE} \\
    h_v &= R_{init}(h_G, \tau_v), \quad \text{and edge by edge} \quad
    \text{more} \sim \mathrm{Bernoulli}(\sigma(f_{ae}(h_G, h_v))), \\
    (u, e) &\sim \mathrm{Categorical}(\mathrm{softmax}(f_s(h_u, h_v))) \text{ over nodes and edge types}, \quad
    h \leftarrow \mathrm{prop}(h), \quad h_G = R(h), \quad \text{until more is 0.}

The story has no latent. It is trained on graphs in an order: a canonical one or a fresh random one a step.

References:
    | Learning Deep Generative Models of Graphs (Li, Vinyals, Dyer, Pascanu, Battaglia, 2018)
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import GraphBatch
from .base import check_counts
from .message_passing import Arcs, GatedSum, PairScore, Propagation, mlp
from .sgvae import check_types, graphs_of_rows, spread

__all__ = ["SGGN"]


class SGGN(PyroModule):
    """The story of SGGN, told of many graphs at once.

    Sites, in the plate ``graphs`` at dimension -1, for t = 0, 1, ...: ``add_node_t`` (B,), the type of node t, or
    ``node_types`` for no more nodes; and for k = 0, 1, ...: ``add_edge_t_k`` (B,), whether node t gets one more edge,
    and ``partner_t_k`` (B,), u E + e - 1 for an edge of type e to node u, with E edge types. A site counts only for
    the graphs that reach it. The first node is always there, an edge is drawn only once, and a node that is joined to
    all others is not asked for more. In an observed graph a node's edges come in the order of its partners, so the
    density is that of a graph with its nodes *and* edges in this order.

    Arguments:
        hidden: H, length of a node state.
        rounds: rounds of message passing a step.
        edge_types: number of edge types.
        node_types: number of node types.
        max_nodes: draws stop at this many nodes.

    Attributes:
        options: the arguments, as they stand in a recipe.

    Raises:
        ValueError: a size out of range.
    """

    def __init__(
        self,
        hidden: int = 16,
        *,
        rounds: int = 2,
        edge_types: int = 1,
        node_types: int = 1,
        max_nodes: int = 40,
    ) -> None:
        super().__init__("sggn")
        check_counts(
            "a number of units, rounds, types or nodes",
            hidden=hidden,
            rounds=rounds,
            edge_types=edge_types,
            node_types=node_types,
            max_nodes=max_nodes,
        )
        self.options = {
            "hidden": hidden,
            "rounds": rounds,
            "edge_types": edge_types,
            "node_types": node_types,
            "max_nodes": max_nodes,
        }
        self.hidden, self.max_nodes = hidden, max_nodes
        self.edge_types, self.node_types = edge_types, node_types
        self.prop = Propagation(hidden, rounds, edge_types)
        self.readout = GatedSum(hidden, 2 * hidden)
        self.f_an = mlp(2 * hidden, hidden, node_types + 1)
        self.embed = nn.Embedding(node_types, hidden)
        self.r_init = mlp(3 * hidden, hidden, hidden)
        self.f_ae = mlp(3 * hidden, hidden, 1)
        self.f_s = PairScore(hidden, hidden, edge_types)

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
        prop, readout = self.prop.joined(), self.readout.joined()
        f_an, r_init, f_ae, f_s = self.f_an, self.r_init, self.f_ae, self.f_s
        embed = self.embed
        h = embed.weight.new_zeros(0, count, self.hidden)  # (t, B, H), the nodes so far
        graph = readout(h).sum(0)  # of no nodes: zero
        arcs = Arcs.none(h.device)
        exists = torch.ones(count, dtype=torch.bool, device=h.device)
        num_nodes = torch.zeros_like(exists, dtype=torch.int64)
        kinds: list[Tensor] = []
        rows: list[Tensor] = []

        def moved(h: Tensor, graph: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
            """Node and graph states after message passing in the graphs (B,) that are marked, and in no other."""
            some = which.nonzero()[:, 0]
            if len(some) == count:
                h = prop(h.flatten(0, 1), *arcs.flat(count)).view_as(h)
                return h, readout(h).sum(0)
            part = h.index_select(1, some)
            part = prop(part.flatten(0, 1), *arcs.only(some, count).flat(len(some))).view_as(part)
            return h.index_copy(1, some, part), graph.index_copy(0, some, readout(part).sum(0))

        with pyro.plate("graphs", count, dim=-1):
            # Node states persist, so a step depends on all steps before it.
            for t in pyro.markov(range(last + 1), history=last + 1):
                if batch is None and t == last:
                    break
                if t > 0:
                    h, graph = moved(h, graph, exists)
                logits = f_an(graph)
                if t == 0:  # no empty graphs
                    logits = torch.cat(
                        [logits[:, :-1], torch.full_like(logits[:, -1:], -torch.inf)], 1
                    )
                kind = pyro.sample(
                    f"add_node_{t}",
                    dist.Categorical(logits=logits).mask(exists),
                    obs=None if batch is None else self.observed_type(batch, t),
                )
                exists = exists & (kind < self.node_types)
                num_nodes = num_nodes + exists
                if not bool(exists.any()):
                    break
                kind = kind.clamp(max=self.node_types - 1)
                kinds.append(kind * exists)
                new = r_init(torch.cat([graph, embed(kind)], 1))
                h = torch.cat([h, new[None]])
                row = num_nodes.new_zeros(count, t)
                partners = None if batch is None else _partners(batch.edges[:, t, :t])
                going = exists
                for k in range(t):
                    asked = going & (row == 0).any(1)
                    if not bool(asked.any()):
                        break
                    more = pyro.sample(
                        f"add_edge_{t}_{k}",
                        dist.Bernoulli(logits=f_ae(torch.cat([graph, h[t]], 1))[:, 0]).mask(asked),
                        obs=None if partners is None else (partners[1] > k).to(h),
                    )
                    going = asked & (more > 0)
                    if not bool(going.any()):
                        break
                    which = going.nonzero()[:, 0]
                    joining = h if len(which) == count else h.index_select(1, which)
                    scores = f_s(joining[:t], joining[t]).transpose(0, 1)
                    scores = spread(scores, which, count)  # (B, t, edge types)
                    taken = (row > 0) & going[:, None]
                    scores = scores.masked_fill(taken[..., None], -torch.inf).flatten(1)
                    partner = pyro.sample(
                        f"partner_{t}_{k}",
                        dist.Categorical(logits=scores).mask(going),
                        obs=None
                        if batch is None or partners is None
                        else self.observed_partner(batch, t, partners[0][:, k]),
                    )
                    u, edge = partner // self.edge_types, partner % self.edge_types + 1
                    chosen = F.one_hot(u, t).bool() & going[:, None]
                    row = torch.where(chosen, edge[:, None], row)
                    arcs = arcs.with_edges(which, u[which], torch.full_like(which, t), edge[which])
                    h, graph = moved(h, graph, going)
                if t > 0:
                    rows.append(row)
        if batch is not None:
            return batch
        types = torch.stack(kinds, 1) if self.node_types > 1 else None
        return graphs_of_rows(rows, num_nodes, types)

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        kinds = "the types of a node" if self.node_types > 1 else "a node"
        partners = "the nodes u before v" + (" and edge types" if self.edge_types > 1 else "")
        return "\n".join(
            [
                f"For t = 0, 1, ..., draws to {self.max_nodes} nodes:",
                f"tau_t ~ Categorical(softmax(f_{{an}}(h_G))) over {kinds} and NO NODE, not the first   `add_node_t`",
                "h_v = R_{init}(h_G, tau_t), and for k = 0, 1, ...:",
                "more_{tk} ~ Bernoulli(sigma(f_{ae}(h_G, h_v))), on to the next node if it is 0   `add_edge_t_k`",
                f"u_{{tk}} ~ Categorical(softmax(f_s(h_u, h_v))) over {partners}   `partner_t_k`",
                "before every node and after every edge h = prop(h), message passing in "
                f"{self.options['rounds']} rounds, and h_G = R(h), which is 0 of no nodes; H = {self.hidden}",
            ]
        ).replace(" 1 rounds", " 1 round")

    def observed_type(self, batch: GraphBatch, t: int) -> Tensor:
        """(B,) the type of node t, or ``node_types`` where there is no such node."""
        there = batch.num_nodes > t
        if t == batch.width or batch.node_types is None:
            return torch.where(there, 0, self.node_types)
        return torch.where(there, batch.node_types[:, t], self.node_types)

    def observed_partner(self, batch: GraphBatch, t: int, u: Tensor) -> Tensor:
        """(B,) the number of the edge from node t to node u, zero where there is none."""
        edge = batch.edges[:, t].gather(1, u[:, None])[:, 0]
        return u * self.edge_types + (edge - 1).clamp(min=0)


def _partners(edges: Tensor) -> tuple[Tensor, Tensor]:
    """(B, t) neighbours among t nodes, in their order and before the others, and (B,) how many there are."""
    return (edges == 0).int().argsort(dim=1, stable=True), (edges > 0).sum(1)
