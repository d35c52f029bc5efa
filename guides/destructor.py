r"""The destructor: a guide of SGVAE that takes a graph apart, node by node, and so infers the order and z.

.. math::
    &\text{while more than one node is left:} \quad h \leftarrow \mathrm{prop}(h) \text{ on what is left}, \\
    &\quad r_t \sim \mathrm{Categorical}(\mathrm{softmax}(f_r(h_u))) \text{ over what is left; remove } r_t, \\
    &\quad h_u \leftarrow h_u + w_{e} \text{ for the neighbours } u \text{ of } r_t, \text{ by edges of type } e, \\
    &z \sim \mathrm{Normal}(\mu(h), \sigma(h)) \text{ with } h \text{ of the last node.}

The construction order :math:`\pi` is the removal order reversed. The removals are auxiliary: the story has no site for
them, it is conditioned on the graph relabelled by :math:`\pi` (:class:`Reordered`).

The parting message :math:`w` is not in the paper. Without it a node learns that a neighbour went only from what its
state remembers of its earlier degree. An order that goes along the graph, which the constructor needs in order to know
what to join a new node to, then takes long to learn, and the entropy of the order in the bound may win before it is.

References:
    | Sequential Graphical Variational Autoencoders (Jing, Chi, Tang, CS 236 project, 2019)
"""

from __future__ import annotations

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import GraphBatch
from ..models.base import check_choice, check_count
from ..models.message_passing import GatedSum, Propagation, mlp
from ..models.sgvae import SGVAE

__all__ = ["Destructor", "Reordered", "removals"]


class Destructor(PyroModule):
    r"""q(pi, z | x) = q(pi | x) q(z | pi, x), for many graphs at once.

    Sites, in the plate ``graphs`` at dimension -1: ``remove_t`` (B,), the node that goes in step t = 1, 2, ...
    (auxiliary; counts for the graphs that have more than one node left), and ``z`` (B, D).

    Arguments:
        story: whose z is inferred.
        hidden: length of a node state; the story's if None.
        rounds: rounds of message passing a step.
        latent: "normal" is a density, and the bound is one on log p(x). "point" is the paper's: z is the state of the
            last node, and the term log q(z | pi, x) is left out, so that the objective mixes a density with a mass
            and bounds nothing.
        source: what a normal z is read from: the state of the "last" node, or a gated sum ("readout") of the node
            states after the first propagation, before anything was removed. From the latter z does not depend on pi.
        parting: a node that goes leaves its neighbours a message. The paper has none.
        soft: the soft destructor that the paper asked for: a node that goes stays in message passing, with the weight
            1 - q(r_t), its probability of surviving that step. Gradients then reach the scores through the states of
            later steps too, and a sure removal is the hard one.
        baseline: of the learning signal of each removal, as Pyro's ``TraceGraph_ELBO`` knows them and the fit's
            ``baseline="guide"`` uses: a "decaying" average, or a "neural" network on the sum of the states of what
            is left.

    Attributes:
        options: the arguments but the story, as they stand in a recipe.

    Raises:
        ValueError: an option outside of what is listed; a point that does not fit the story's z.
    """

    def __init__(
        self,
        story: SGVAE,
        *,
        hidden: int | None = None,
        rounds: int = 2,
        latent: Literal["normal", "point"] = "normal",
        source: Literal["last", "readout"] = "last",
        parting: bool = True,
        soft: bool = False,
        baseline: Literal["decaying", "neural"] | None = None,
    ) -> None:
        super().__init__("destructor")
        hidden = story.hidden if hidden is None else hidden
        check_count("hidden", hidden, "the length of a node state")
        check_count("rounds", rounds, "a number of rounds")
        check_choice("latent", latent, ("normal", "point"))
        check_choice("source", source, ("last", "readout"))
        check_choice("baseline", baseline, (None, "decaying", "neural"))
        if latent == "point" and (hidden != story.latent or source != "last"):
            raise ValueError(
                f"a point z is the state of the last node: it needs source='last' and hidden={story.latent}, "
                f"the story's latent, not source={source!r} and hidden={hidden}"
            )
        self.options = {
            "hidden": hidden,
            "rounds": rounds,
            "latent": latent,
            "source": source,
            "parting": parting,
            "soft": soft,
            "baseline": baseline,
        }
        self.latent, self.source, self.soft, self.baseline = latent, source, soft, baseline
        self.start = nn.Embedding(story.node_types, hidden)
        self.prop = Propagation(hidden, rounds, story.edge_types)
        self.parting = nn.Embedding(story.edge_types, hidden) if parting else None
        self.f_r = mlp(hidden, hidden, 1)
        self.readout = GatedSum(hidden, 2 * hidden) if source == "readout" else None
        width = 2 * hidden if source == "readout" else hidden
        self.head = mlp(width, 2 * hidden, 2 * story.latent) if latent == "normal" else None
        if baseline == "neural":
            self.baseline_network = nn.Sequential(mlp(hidden, 2 * hidden, 1), nn.Flatten(-2))
        elif baseline == "decaying":
            #: of the reward of step t = 1, 2, ...; kept by the fit
            self.register_buffer("baseline_average", torch.zeros(story.max_nodes))

    def forward(self, batch: GraphBatch) -> Tensor:
        """Take the graphs apart.

        Returns:
            pi, the construction order, (B, n) int64 as :meth:`~graphlore.data.GraphBatch.reorder` wants it: the node
            built i-th is ``order[:, i]``; the padding stays.
        """
        count, width = len(batch), batch.width
        # Each look-up of a network of a PyroModule registers its parameters with Pyro: look them up once.
        prop, f_r, readout = self.prop.joined(), self.f_r, self.readout
        parting = self.parting
        types = (
            torch.zeros_like(batch.edges[..., 0]) if batch.node_types is None else batch.node_types
        )
        # (M,) the nodes that are left, of all graphs; index_select, since the gradient of h[index] is slow
        graph, node = batch.mask.nonzero(as_tuple=True)
        h = self.start(types[graph, node])
        arcs = _arcs(batch, graph, node)
        # of a soft destructor, (M,) which nodes are not removed, and the weight of what they say
        there = torch.ones_like(graph, dtype=torch.bool) if self.soft else None
        loud = torch.ones_like(h[:, 0]) if self.soft else None
        last = h.new_zeros(count, h.shape[1])
        whole = h.new_zeros(count, 2 * h.shape[1])  # what a readout says of the whole graph
        sizes = batch.num_nodes
        occurring = set(sizes.tolist())
        steps: list[Tensor] = []
        with pyro.plate("graphs", count, dim=-1):
            # Node states persist, so a step depends on all steps before it.
            for t in pyro.markov(range(1, width + 1), history=width):
                if t in occurring:  # one node left
                    ended = (sizes == t).index_select(0, graph)
                    done = (ended if there is None else ended & there).nonzero()[:, 0]
                    ends, state = graph.index_select(0, done), h.index_select(0, done)
                    if readout is None:
                        last = last.index_copy(0, ends, state)
                    elif t == 1:
                        whole = whole.index_add(0, ends, readout(state))
                    arcs, (graph, node, h, there, loud) = _only(
                        ~ended, arcs, graph, node, h, there, loud
                    )
                if len(graph) == 0:
                    break
                h = prop(h, *arcs, loud)
                if t == 1 and readout is not None:
                    whole = whole.index_add(0, graph, readout(h))
                going = sizes > t
                score = f_r(h)[:, 0]
                if there is not None:
                    score = score.masked_fill(~there, -torch.inf)
                scores = h.new_zeros(count, width).masked_fill_(going[:, None], -torch.inf)
                scores = scores.flatten().index_copy(0, graph * width + node, score)
                law = dist.Categorical(logits=scores.view(count, width))
                removed = pyro.sample(
                    f"remove_{t}",
                    law.mask(going),
                    infer={"is_auxiliary": True, **self._baseline(count, graph, h, there)},
                )
                steps.append(removed)
                gone = node == removed.index_select(0, graph)
                chance = law.log_prob(removed).exp().index_select(0, graph) if self.soft else None
                if parting is not None:
                    left = gone.index_select(0, arcs[0]).nonzero()[:, 0]
                    source, target, kind = arcs.index_select(1, left)
                    words = parting(kind - 1)
                    if chance is not None:
                        words = words * chance.index_select(0, source)[:, None]
                    h = h.index_add(0, target, words)
                if there is None or loud is None or chance is None:
                    arcs, (graph, node, h, *_) = _only(~gone, arcs, graph, node, h)
                else:
                    loud, there = torch.where(gone, 1.0 - chance, loud), there & ~gone
            pyro.sample("z", self.law(last if readout is None else whole))
        return _order(batch, steps)

    def _baseline(
        self, count: int, graph: Tensor, h: Tensor, there: Tensor | None
    ) -> dict[str, Any]:
        """What the site of a step tells Pyro of its baseline."""
        if self.baseline is None:
            return {}
        if self.baseline == "decaying":
            return {"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.9}}
        left = h.detach() if there is None else h.detach() * there[:, None]
        state = left.new_zeros(count, left.shape[1]).index_add(0, graph, left)
        return {"baseline": {"nn_baseline": self.baseline_network, "nn_baseline_input": state}}

    def law(self, state: Tensor) -> dist.TorchDistribution:
        """q(z | pi, x) from the state of the last node or the readout, (B, ...)."""
        if self.head is None:
            return dist.Delta(state, event_dim=1)
        mean, width = self.head(state).chunk(2, -1)
        return dist.Normal(mean, F.softplus(width) + 1e-3).to_event(1)


class Reordered(PyroModule):
    """A story and its destructor as a pair of programs with the same argument, a batch, for any ELBO of Pyro.

    ``pair.model`` tells the story of the batch in the order that ``pair.guide`` took last; Pyro runs the guide first.
    The order keeps its provenance, so that ``TraceGraph_ELBO`` sees what depends on the removals.

    Arguments:
        story: the constructor.
        destructor: its guide.
    """

    def __init__(self, story: SGVAE, destructor: Destructor) -> None:
        super().__init__("reordered")
        self.story, self.destructor = story, destructor
        self.order: Tensor | None = None

    def guide(self, batch: GraphBatch) -> Tensor:
        """q(pi, z | x)."""
        self.order = self.destructor(batch)
        return self.order

    def model(self, batch: GraphBatch) -> GraphBatch:
        """p(x^pi, z).

        Raises:
            ValueError: if the guide has not run.
        """
        if self.order is None:
            raise ValueError("the guide gives the order in which the model is told: run it first")
        return self.story(batch.reorder(self.order))


def removals(order: Tensor, num_nodes: Tensor) -> dict[str, Tensor]:
    """The sites ``remove_t`` that lead to a construction order, to condition a destructor on.

    Arguments:
        order: (B, n) int64 as :class:`Destructor` returns it.
        num_nodes: (B,) int64.
    """
    steps = range(1, order.shape[1])
    place = {t: (num_nodes - t).clamp(min=0)[:, None] for t in steps}
    return {f"remove_{t}": order.gather(1, place[t])[:, 0] for t in steps}


def _order(batch: GraphBatch, steps: list[Tensor]) -> Tensor:
    """The construction order, (B, n), from the nodes (B,) that went in steps 1, 2, ..."""
    width, sizes = batch.width, batch.num_nodes
    column = torch.arange(width + 1, device=sizes.device)
    place = torch.where(column < sizes[:, None], 0, column)  # the node that is left is the first
    if steps:
        went = torch.stack(steps, 1)
        at = sizes[:, None] - column[1 : len(steps) + 1]
        place = place.scatter(1, torch.where(at > 0, went, width), at)
    return place[:, :width].argsort(1)


def _arcs(batch: GraphBatch, graph: Tensor, node: Tensor) -> Tensor:
    """(3, E) source and target as places in the list of nodes (graph, node), and type; both directions."""
    place = torch.zeros_like(batch.edges[..., 0]).index_put(
        (graph, node), torch.arange(len(graph), device=graph.device)
    )
    g, u, v = batch.edges.nonzero(as_tuple=True)
    return torch.stack([place[g, u], place[g, v], batch.edges[g, u, v]])


def _only(keep: Tensor, arcs: Tensor, *rows: Tensor | None) -> tuple[Tensor, list[Any]]:
    """The arcs among the nodes in the mask (M,), and what there is of those nodes, (M, ...) each."""
    ends = arcs[:2].flatten()
    among = keep.index_select(0, ends).view(2, -1).all(0).nonzero()[:, 0]
    place = keep.cumsum(0).sub_(1)
    place = place.index_select(0, ends).view(2, -1)
    arcs = torch.cat([place, arcs[2:]]).index_select(1, among)
    stay = keep.nonzero()[:, 0]
    return arcs, [None if x is None else x.index_select(0, stay) for x in rows]
