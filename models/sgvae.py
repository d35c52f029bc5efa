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

__all__ = ["SGVAE", "check_types", "graphs_of_rows", "spread"]


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

    Attributes:
        options: the arguments, as they stand in a recipe.

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
        self.options = {
            "hidden": hidden,
            "latent": latent,
            "rounds": rounds,
            "edge_types": edge_types,
            "node_types": node_types,
            "max_nodes": max_nodes,
        }
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
        with pyro.plate("graphs", count, dim=-1):
            z = pyro.sample("z", self.prior())
            if batch is None:
                return self._draw(z)
            self._score(z, batch)
        return batch

    def _draw(self, z: Tensor) -> GraphBatch:
        """Graphs drawn from latents (B, D)."""
        count, last = len(z), self.max_nodes
        # Each look-up of a network of a PyroModule registers its parameters with Pyro: look them up once.
        prop, readout, typed = self.prop.joined(), self.readout.joined(), self.f_type is not None
        f_an, r_init, f_ae = self.f_an, self.r_init, self.f_ae
        h = F.pad(z, (0, self.hidden - self.latent))[None]  # (t, A, H), of the A graphs still built
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
            if t == last:
                break
            graph = readout(h).sum(0)
            logits = spread(f_an(graph)[:, 0], active, count)
            more = pyro.sample(f"add_node_{t}", dist.Bernoulli(logits=logits).mask(exists))
            exists = exists & (more > 0)
            num_nodes = num_nodes + exists
            stay = exists.index_select(0, active).nonzero()[:, 0]
            if len(stay) == 0:
                break
            h, graph = h.index_select(1, stay), graph.index_select(0, stay)
            arcs, active = arcs.only(stay, len(active)), active[stay]
            new = r_init(graph)
            logits = f_ae(h, torch.cat([new, graph], -1)).transpose(0, 1)
            law = dist.Categorical(logits=spread(logits, active, count))
            row = pyro.sample(f"edges_{t}", law.to_event(1).mask(exists))
            rows.append(row * exists[:, None])
            arcs = arcs.with_row(row.index_select(0, active))
            h = torch.cat([h, new[None]])
        types = self.sample_types(None, final.transpose(0, 1), num_nodes)
        return graphs_of_rows(rows, num_nodes, types)

    def _score(self, z: Tensor, batch: GraphBatch) -> None:
        """The sites of observed graphs.

        States depend on the graphs alone, not on what a network says of the next decision, so all states come first
        and the networks of the decisions run once over those of all steps.
        """
        width, sizes = batch.width, batch.num_nodes
        # The largest graphs first: those still built at any step are the first so many.
        order = sizes.argsort(descending=True, stable=True)
        built = (sizes[:, None] > torch.arange(width + 1, device=z.device)).sum(0).tolist()
        prop, readout, r_init = self.prop.joined(), self.readout.joined(), self.r_init
        graph_of, u, v = batch.edges.index_select(0, order).nonzero(as_tuple=True)
        ends, late = torch.stack([u, v]), torch.maximum(u, v)
        kinds = batch.edges.index_select(0, order)[graph_of, u, v]
        h = F.pad(z, (0, self.hidden - self.latent)).index_select(0, order)[None]
        graphs: list[Tensor] = []
        nodes: list[Tensor] = []
        news: list[Tensor] = []
        final: list[Tensor] = []  # node states of the graphs that stopped at a step
        for t in range(1, width + 1):
            here, going = built[t - 1 : t + 1]  # graphs with at least t nodes, and with more
            there = ((late < t) & (graph_of < here)).nonzero()[:, 0]
            source, target = ends.index_select(1, there) * here + graph_of.index_select(0, there)
            h = prop(h.flatten(0, 1), source, target, kinds.index_select(0, there)).view_as(h)
            graphs.append(readout(h).sum(0))
            if self.node_types > 1:
                final.append(F.pad(h[:, going:], (0, 0, 0, 0, 0, width - t)))
            if going == 0:
                break
            h = h[:, :going]
            nodes.append(h)
            news.append(r_init(graphs[-1][:going]))
            h = torch.cat([h, news[-1][None]])
        add, edges = self._logits(graphs, nodes, news, order, width)
        for t in pyro.markov(range(1, len(graphs) + 1), history=width):
            law = dist.Bernoulli(logits=add[t - 1]).mask(sizes >= t)
            pyro.sample(f"add_node_{t}", law, obs=(sizes > t).to(z))
            if t <= len(nodes):
                rows = dist.Categorical(logits=edges[t - 1].narrow(1, 0, t))
                law = rows.to_event(1).mask(sizes > t)
                pyro.sample(f"edges_{t}", law, obs=batch.edges[:, t, :t])
        if self.f_type is not None:
            states = torch.cat(final[::-1], 1).index_select(1, order.argsort())
            self.sample_types(batch, states.transpose(0, 1), sizes)

    def _logits(
        self,
        graphs: list[Tensor],
        nodes: list[Tensor],
        news: list[Tensor],
        order: Tensor,
        width: int,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """For every step, of adding a node (B,) and of the types of its edges (B, n, types), from states by step.

        Graph ``order[i]`` is the i-th in the states; steps that it does not reach get zeros.
        """
        count, counts = len(order), [len(x) for x in graphs]
        step = torch.repeat_interleave(torch.tensor(counts, device=order.device))
        row = step * count + torch.cat([order[:c] for c in counts])
        add = self.f_an(torch.cat(graphs))[:, 0]
        add = add.new_zeros(len(graphs) * count).index_copy(0, row, add).view(-1, count)
        if not nodes:
            return add.unbind(0), ()
        built = [x.shape[1] for x in nodes]
        context = torch.cat(
            [torch.cat(news), torch.cat([g[:c] for g, c in zip(graphs, built, strict=False)])], 1
        )
        which: list[Tensor] = []  # of each pair, its context,
        place: list[Tensor] = []  # and where it goes
        start = 0
        for t, c in enumerate(built, 1):
            which.append(torch.arange(start, start + c, device=order.device).repeat(t))
            old = torch.arange(t, device=order.device)
            place.append((((t - 1) * count + order[:c]) * width + old[:, None]).flatten())
            start += c
        states = torch.cat([x.flatten(0, 1) for x in nodes])
        logits = self.f_ae.pairs(states, context, torch.cat(which))
        edges = logits.new_zeros(len(nodes) * count * width, logits.shape[1])
        edges = edges.index_copy(0, torch.cat(place), logits)
        return add.unbind(0), edges.view(len(nodes), count, width, -1).unbind(0)

    def prior(self) -> dist.TorchDistribution:
        """p(z)."""
        zero = self.f_ae.out.weight.new_zeros(self.latent)
        return dist.Normal(zero, zero + 1.0).to_event(1)

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        first = (
            "h_0 = z" if self.latent == self.hidden else f"h_0 = (z, 0, ..., 0), H = {self.hidden}"
        )
        kinds = "an edge" if self.edge_types == 1 else f"an edge of {self.edge_types} types"
        lines = [
            f"z ~ Normal(0, I_D), D = {self.latent}   `z`",
            f"{first}, and for t = 1, 2, ...",
            f"h = prop(h), message passing in {self.options['rounds']} rounds; h_G = R(h)",
            "add_t ~ Bernoulli(sigma(f_{an}(h_G))), stop if it is 0 "
            f"(draws at {self.max_nodes} nodes)   `add_node_t`",
            "h_v = R_{init}(h_G)",
            "e_{tu} ~ Categorical(softmax(f_{ae}(h_u, h_v, h_G))) over no edge and "
            f"{kinds}, for all u before v   `edges_t`",
        ]
        if self.node_types > 1:
            lines += ["tau_v ~ Categorical(softmax(f_{type}(h_v))) at the end   `node_types`"]
        return "\n".join(lines).replace(" 1 rounds", " 1 round")

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


def spread(values: Tensor, active: Tensor, count: int) -> Tensor:
    """(B, ...) values from those (A, ...) of the active graphs, zero for the others, whose sites are masked.

    Arguments:
        values: of A graphs.
        active: (A,) int64 which they are, rising.
        count: B.
    """
    if len(active) == count:
        return values
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, active, values)


def graphs_of_rows(rows: list[Tensor], num_nodes: Tensor, types: Tensor | None) -> GraphBatch:
    """Draws as a batch, from the (B, t) edges of nodes t = 1, 2, ..."""
    width = int(num_nodes.max())
    lower = [F.pad(row, (0, width - row.shape[1])) for row in rows[: width - 1]]
    edges = torch.stack([num_nodes.new_zeros(len(num_nodes), width), *lower], 1)
    return GraphBatch(edges + edges.mT, num_nodes, None if types is None else types[:, :width])
