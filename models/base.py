r"""What the node-level stories have in common: who they are told of, biases, the law of the edges, labels.

Every dyad has a natural parameter s_ij, which a story makes of the latents of its two ends, and

============== ===================================================================================
option         adds or changes
============== ===================================================================================
bias           s_ij += c ("global") or c + e_i + e_j ("node"), c ~ Normal(0, s^2) `bias`, e_i ~ Normal(0, s_e^2)
               `node_bias`, the degree-corrected form. Without a bias an inner product cannot say "sparse".
likelihood     A_ij ~ Bernoulli(sigmoid(s_ij)), or Poisson(exp(s_ij)) for counts, or Normal(s_ij, tau^2) for weights
               with tau ~ LogNormal(0, 1) `edge_scale`; site `edges`
class_weight   tempers a Bernoulli likelihood: not the story any more, and recorded as such
num_classes    y_i ~ Categorical(softmax(g(z_i))) `labels`, g linear; unlabelled nodes are missing data
============== ===================================================================================
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..data import DyadBatch, Graph
from .dyadic import Dyadic
from .laws import DyadicBernoulli, DyadicNormal, DyadicPoisson, balanced_weights
from .subsampled import BatchDyads, SubsampledDyads

__all__ = [
    "Bias",
    "Kind",
    "Likelihood",
    "NodeStory",
    "check_choice",
    "check_count",
    "check_counts",
    "check_positive",
    "check_two",
    "graph_kind",
    "node_plate",
]

Bias = Literal["none", "global", "node"]
Likelihood = Literal["bernoulli", "poisson", "normal"]
Kind = Literal["undirected", "directed", "bipartite"]

_log = logging.getLogger(__name__)


class NodeStory(PyroModule):
    """The options common to the node-level stories, those of one graph.

    Arguments:
        name: of the Pyro module.
        num_nodes: N of a graph drawn from the prior; a graph passed to the story brings its own.
        kind: what the dyads are: unordered pairs, ordered pairs, or pairs across the two sides of a bipartite graph.
        sides: nodes of either side, for bipartite graphs drawn from the prior.
        likelihood: the law of an edge.
        bias: "none", "global" or "node".
        bias_scale: prior standard deviations (s of c, s_e of e), on the scale of s_ij.
        class_weight: None is the Bernoulli likelihood. "balanced" gives present and absent dyads equal total
            weight, a number multiplies the present ones: both temper the likelihood.
        absent_sample: number of absent dyads that the density of an observed graph is estimated from
            (:class:`~graphlore.models.SubsampledDyads`); None counts all of them.
        num_classes: classes of the label decoder; None: labels are no part of the story.
        label_weight: multiplies the log-likelihood of the labels; anything but 1 tempers the likelihood.

    Raises:
        ValueError: an option outside of what is listed.
    """

    #: dimensions of the latents beside the draws, by site, as they are named in ArviZ
    dims: dict[str, tuple[str, ...]]
    #: numbers a node carries in one draw
    width: int
    #: whether it has an embedding that a label decoder can read
    decodes_labels: ClassVar[bool] = False
    #: whether it can be told of a sample of the dyads
    takes_batches: ClassVar[bool] = True
    #: what its dyads may be
    kinds: ClassVar[tuple[Kind, ...]] = ("undirected",)

    def __init__(
        self,
        name: str,
        num_nodes: int,
        *,
        kind: Kind = "undirected",
        sides: tuple[int, int] | None = None,
        likelihood: Likelihood = "bernoulli",
        bias: Bias = "none",
        bias_scale: tuple[float, float] = (10.0, 1.0),
        class_weight: Literal["balanced"] | float | None = None,
        absent_sample: int | None = None,
        num_classes: int | None = None,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__(name)
        check_choice("kind", kind, self.kinds)
        check_choice("likelihood", likelihood, ("bernoulli", "poisson", "normal"))
        check_choice("bias", bias, ("none", "global", "node"))
        if isinstance(class_weight, str) and class_weight != "balanced":
            raise ValueError(f"class_weight is None, 'balanced' or a number, not {class_weight!r}")
        if class_weight is not None and class_weight != "balanced":
            check_positive("class_weight", class_weight)
        if absent_sample is not None and absent_sample < 1:
            raise ValueError(
                f"absent_sample is None or a number of dyads, at least 1, not {absent_sample}"
            )
        for given, option in ((class_weight, "class_weight"), (absent_sample, "absent_sample")):
            if given is not None and likelihood != "bernoulli":
                raise ValueError(f"{option} is for Bernoulli edges, not likelihood={likelihood!r}")
        told = kind == "bipartite" and sides is not None and len(sides) == 2
        if sides is not None and not (told and min(sides) >= 1 and sum(sides) == num_nodes):
            raise ValueError(
                f"sides are the nodes of either side of a bipartite graph, {num_nodes} in all and some on each, "
                f"not {sides}"
            )
        check_two("bias_scale", bias_scale, "two positive numbers")
        for scale in bias_scale:
            check_positive("bias_scale is two positive numbers: each", scale)
        if num_classes is not None and not self.decodes_labels:
            raise ValueError(
                f"{type(self).__name__} has no embedding to decode labels from: leave out num_classes"
            )
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes is None or at least 2, not {num_classes}")
        check_positive("label_weight", label_weight)
        self.num_nodes, self.kind, self.sides = num_nodes, kind, sides
        self.likelihood, self.bias = likelihood, bias
        self.class_weight, self.absent_sample = class_weight, absent_sample
        self.num_classes, self.label_weight = num_classes, label_weight
        self.register_buffer("bias_scale", torch.tensor([float(s) for s in bias_scale]))
        self.bias_scale: Tensor
        self.options: dict[str, Any] = {
            "num_nodes": num_nodes,
            "kind": kind,
            "sides": sides,
            "likelihood": likelihood,
            "bias": bias,
            "bias_scale": tuple(bias_scale),
            "class_weight": class_weight,
            "absent_sample": absent_sample,
            "num_classes": num_classes,
            "label_weight": label_weight,
        }
        self.dims = {"bias": ()} if bias != "none" else {}
        if bias == "node":
            self.dims["node_bias"] = ("node",)
        if likelihood == "normal":
            self.dims["edge_scale"] = ()
        self._checked: Callable[[], Graph | None] = lambda: None

    # -- what a story is told of --------------------------------------------------------------------------------

    def check_graph(self, graph: Graph | None) -> None:
        """Refuse a graph that this story is not told of.

        Raises:
            ValueError: dyads of another kind; counts that are not whole; labels beyond ``num_classes``.
        """
        if isinstance(graph, DyadBatch):
            self.check_batches()
            graph = graph.whole
        if graph is None or self._checked() is graph:
            return
        kind = graph_kind(graph)
        if kind != self.kind:
            undone = "read the graph with directed=False"
            if kind == "bipartite":
                undone = "make the graph without its parts"
            advice = (
                f"tell the story with kind={kind!r}"
                if kind in self.kinds
                else f"use SBM or LFRM, or {undone}"
            )
            raise ValueError(
                f"this {type(self).__name__} is a story of {self.kind} graphs; {graph.title!r} is {kind}: {advice}"
            )
        if self.likelihood == "bernoulli" and graph.weights is not None:
            _log.warning(
                "%s: the Bernoulli likelihood looks at which edges are there, not at their weights; "
                "likelihood='poisson' or 'normal' does",
                graph.title,
            )
        if self.likelihood == "poisson" and graph.weights is not None:
            w = graph.weights
            if bool((w < 0).any()) or not torch.equal(w, w.round()):
                raise ValueError(
                    f"likelihood='poisson' is for counts; {graph.title!r} has weights that are negative or not whole: "
                    "use likelihood='normal'"
                )
        if self.num_classes is not None:
            if graph.labels is None:
                raise ValueError(
                    f"the story generates labels, but graph {graph.title!r} has none: add them with "
                    "graph.with_labels(y), or tell the story with num_classes=None"
                )
            if int(graph.labels.max()) >= self.num_classes:
                raise ValueError(
                    f"labels of {graph.title!r} go up to {int(graph.labels.max())}, num_classes is {self.num_classes}"
                )
        self._checked = weakref.ref(graph)

    def check_batches(self) -> None:
        """Refuse to be told of batches of dyads where that is not possible.

        Raises:
            ValueError: a story whose sums run over blocks; edges that are not Bernoulli.
        """
        if not self.takes_batches:
            raise ValueError(
                f"{type(self).__name__} takes no batches of dyads: its sums over all of them run over blocks, at "
                "a cost that is linear in the edges"
            )
        if self.likelihood != "bernoulli":
            raise ValueError(f"batches are for Bernoulli edges, not likelihood={self.likelihood!r}")

    def start_at(self, graph: Graph) -> Self:
        """Set where the fit starts from the graph; nothing to set unless a story says so."""
        return self

    def parts_of(self, graph: Graph | None) -> Tensor | None:
        """Sides of the nodes of the graph, or of one drawn from the prior."""
        if graph is not None:
            return graph.parts
        if self.kind != "bipartite":
            return None
        if self.sides is None:
            raise ValueError(
                "a bipartite graph drawn from the prior needs the story's sides=(n0, n1)"
            )
        ones = torch.ones(self.num_nodes, dtype=torch.int64, device=self.bias_scale.device)
        ones[: self.sides[0]] = 0
        return ones

    # -- sites that stories share -------------------------------------------------------------------------------

    def sample_global_bias(self) -> Tensor | None:
        """Site `bias`, c."""
        if self.bias == "none":
            return None
        return pyro.sample("bias", dist.Normal(self.bias_scale.new_zeros(()), self.bias_scale[0]))

    def sample_node_bias(self, c: Tensor | None, num_nodes: int) -> Tensor | None:
        """Site `node_bias`, e, inside the node plate; returns what each end of a dyad adds, c / 2 + e_n: (..., N)."""
        if self.bias != "node":
            return (
                None
                if c is None
                else (0.5 * c).expand(torch.broadcast_shapes(c.shape, (num_nodes,)))
            )
        e = pyro.sample("node_bias", dist.Normal(self.bias_scale.new_zeros(()), self.bias_scale[1]))
        return e if c is None else 0.5 * c + e

    def sample_edge_scale(self) -> Tensor | None:
        """Site `edge_scale`, tau, of real weights."""
        if self.likelihood != "normal":
            return None
        zero = self.bias_scale.new_zeros(())
        return pyro.sample("edge_scale", dist.LogNormal(zero, zero + 1.0))

    def sample_labels(self, graph: Graph | None, logits: Tensor) -> None:
        """Site `labels`, inside the node plate; nodes whose label is not known take no part."""
        labelled = None if graph is None or graph.labels is None else graph.labels >= 0
        observed = None if labelled is None else graph.labels.clamp(min=0)  # type: ignore[union-attr]
        with (
            poutine.scale(scale=self.label_weight),
            poutine.mask(mask=True if labelled is None else labelled),
        ):
            pyro.sample("labels", dist.Categorical(logits=logits), obs=observed)

    def dyads(
        self,
        graph: Graph | None,
        left: Tensor,
        right: Tensor | None = None,
        node_bias: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Dyadic:
        """The law of the edges with s_ij = l_i'r_j + a_i + a_j: factors (..., N, F), biases (..., N), scale (...)."""
        left, right, node_bias = events_of(left, right, node_bias)
        if isinstance(graph, DyadBatch):
            other_bias = node_bias if self.kind == "directed" else None
            weights = self.edge_weights(graph.whole)
            return BatchDyads(left, right, node_bias, other_bias, batch=graph, weights=weights)
        common: dict[str, Any] = {
            "left_bias": node_bias,
            "missing": None if graph is None else graph.missing,
            "directed": self.kind == "directed",
            "parts": self.parts_of(graph),
        }
        if self.kind == "directed":
            common["right_bias"] = node_bias
        if self.likelihood == "poisson":
            return DyadicPoisson(left, right, **common)
        if self.likelihood == "normal":
            assert scale is not None
            return DyadicNormal(left, right, scale=scale, **common)
        common["weights"] = self.edge_weights(graph)
        if self.absent_sample is None or graph is None:
            return DyadicBernoulli(left, right, **common)
        return SubsampledDyads(left, right, num_absent=self.absent_sample, **common)

    def observed_edges(self, graph: Graph | None) -> Tensor | None:
        """The value of the site `edges`: the adjacency matrix, with weights where the likelihood has any."""
        if graph is None:
            return None
        return graph.adjacency if self.likelihood == "bernoulli" else graph.weighted_adjacency

    def edge_weights(self, graph: Graph | None) -> tuple[float, float]:
        """(w_0, w_1), the weights of absent and present dyads; (1, 1) unless the likelihood is tempered."""
        if graph is None or self.class_weight is None:
            return 1.0, 1.0
        if self.class_weight == "balanced":
            return balanced_weights(graph.num_edges, graph.num_dyads)
        return 1.0, float(self.class_weight)

    def classifier(self, inputs: int) -> nn.Module | None:
        """g of the label decoder."""
        return None if self.num_classes is None else nn.Linear(inputs, self.num_classes)

    # -- words --------------------------------------------------------------------------------------------------

    @property
    def tempered_by(self) -> list[str]:
        """Options that keep the fit from being the posterior of the story."""
        found = [] if self.class_weight is None else [f"class_weight={self.class_weight}"]
        return found + ([f"label_weight={self.label_weight}"] if self.label_weight != 1.0 else [])

    def edge_equations(self, s: str) -> list[str]:
        """Formulas of biases and edges, given the story's own part of s_nm."""
        lines = []
        if self.bias != "none":
            scales = [f"{x:g}" for x in self.bias_scale.tolist()]
            lines += [f"c ~ Normal(0, {scales[0]}^2)   `bias`"]
            lines += [f"e_n ~ Normal(0, {scales[1]}^2)   `node_bias`"] * (self.bias == "node")
            s += " + c" + " + e_n + e_m" * (self.bias == "node")
        which = {"undirected": "n < m", "directed": "n != m", "bipartite": "n, m of two sides"}
        law = {
            "bernoulli": f"Bernoulli(sigma({s}))",
            "poisson": f"Poisson(exp({s}))",
            "normal": f"Normal({s}, tau^2)",
        }[self.likelihood]
        if self.likelihood == "normal":
            lines += ["tau ~ LogNormal(0, 1)   `edge_scale`"]
        return [*lines, f"A_{{nm}} ~ {law}, {which[self.kind]}   `edges`"]

    def label_equations(self) -> list[str]:
        if self.num_classes is None:
            return []
        return [f"y_n ~ Categorical(softmax(g(z_n))), {self.num_classes} classes   `labels`"]


class _StandingFor(Messenger):
    """Have every node of a batch count for those that it stands for."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def _pyro_sample(self, msg: Any) -> None:
        msg["scale"] = self.weights * msg["scale"]


@contextmanager
def node_plate(graph: Graph | None, num_nodes: int) -> Iterator[None]:
    """The plate ``nodes`` at dimension -1, of a graph, a batch of one, or a graph to be drawn from the prior."""
    weights = _StandingFor(graph.node_weights) if isinstance(graph, DyadBatch) else nullcontext()
    with pyro.plate("nodes", num_nodes, dim=-1), weights:
        yield


def graph_kind(graph: Graph) -> Kind:
    """What the dyads of a graph are."""
    if graph.parts is not None:
        return "bipartite"
    return "directed" if graph.directed else "undirected"


def events_of(
    left: Tensor, right: Tensor | None, node_bias: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Under plates further out (draws, particles) the node plate becomes part of the event."""
    if left.dim() <= 2:
        return left, right, node_bias
    return (
        left.unsqueeze(-3),
        None if right is None else right.unsqueeze(-3),
        None if node_bias is None else node_bias.unsqueeze(-2),
    )


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not {value!r}")


def check_positive(name: str, value: object, meaning: str = "a positive number") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} is {meaning}, not {value}")


def check_two(name: str, value: Any, meaning: str = "two numbers") -> None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name} is {meaning}, not {value!r}")


def check_counts(meaning: str, **values: object) -> None:
    for name, value in values.items():
        check_count(name, value, meaning)


def check_count(name: str, value: object, meaning: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {meaning}, at least 1, not {value}")
