r"""DGLFRM: the deep generative latent feature relational model.

A node belongs to any number of communities, and with a strength to each. With v the sticks of an Indian buffet
process truncated at K,

.. math::
    v_k &\sim \mathrm{Beta}(\alpha, 1), \quad \pi_k = \textstyle\prod_{j \le k} v_j \\
    b_{nk} &\sim \mathrm{Bernoulli}(\pi_k), \quad r_n \sim \mathrm{Normal}(0, I_K), \quad z_n = b_n \odot r_n \\
    A_{nm} &\sim \mathrm{Bernoulli}(\sigma(f(z_n)^\top f(z_m))), \quad n < m \\
    X_n &\sim p(X \mid z_n) \quad \text{when the story is told with features}

and f a multi-layer perceptron.

References:
    | Stochastic Blockmodels meet Graph Neural Networks (Mehta, Carin and Rai, ICML 2019), section 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..data import Graph
from .base import NodeStory, check_choice, check_count, check_positive, node_plate
from .concrete import Concrete, LogitConcrete, StraightThrough
from .features import BernoulliFeatures
from .sticks import activation_logits

__all__ = ["DGLFRM"]


class DGLFRM(NodeStory):
    """The story of DGLFRM, and of DGLFRM-B (``strengths=False``: z = b).

    Sites: ``sticks`` (K,) or (N, K) when local; ``memberships`` (N, K) in {0, 1}; ``strengths`` (N, K); ``embedding``
    (N, K), deterministic; ``bias`` (), ``node_bias`` (N,), ``edge_scale`` () when asked for; ``edges`` (N, N), the
    adjacency matrix; ``features`` (N, D); ``labels`` (N,) with ``num_classes``. The plate ``nodes`` is at dimension -1.
    The weights of f are parameters.

    Arguments:
        num_nodes: N of a graph drawn from the prior; a graph passed to the story brings its own.
        truncation: K, the largest number of communities.
        alpha: concentration of the IBP; a node has about sum_k (alpha / (alpha + 1))^k communities.
        decoder: widths of the layers of f, the last one being the length of f(z); empty for the identity.
        strengths: False tells DGLFRM-B.
        sticks: "global", one v for all nodes; "local", v_nk per node (what the mean-field guide pairs with).
        features: how X is generated from z: "bernoulli" (binary columns), "normal" (real columns, learned scale),
            or None: features are no part of the story.
        num_features: D, needed when ``features`` is given.
        relaxation: relax memberships to binary Concrete at this temperature; StraightThrough() leaves them exact.
        others: likelihood, bias, bias_scale, class_weight, absent_sample, num_classes and label_weight of
            :class:`~graphlore.models.base.NodeStory`.

    Raises:
        ValueError: an option outside of what is listed; a graph without features for a story with features.
    """

    decodes_labels = True

    def __init__(
        self,
        num_nodes: int,
        truncation: int = 20,
        alpha: float = 2.0,
        *,
        decoder: Sequence[int] = (32, 16),
        strengths: bool = True,
        sticks: Literal["global", "local"] = "global",
        features: Literal["bernoulli", "normal"] | None = None,
        num_features: int | None = None,
        relaxation: Concrete | StraightThrough | None = None,
        **others: Any,
    ) -> None:
        super().__init__("dglfrm", num_nodes, **others)
        check_choice("sticks", sticks, ("global", "local"))
        check_choice("features", features, (None, "bernoulli", "normal"))
        check_count("truncation", truncation, "the number of communities")
        check_positive("alpha", alpha, "a positive concentration")
        if (features is None) != (num_features is None):
            raise ValueError("features and num_features are given together, or neither")
        own = {
            "truncation": truncation,
            "alpha": alpha,
            "decoder": tuple(decoder),
            "strengths": strengths,
            "sticks": sticks,
            "features": features,
            "num_features": num_features,
        }
        self.options = {k: v for k, v in self.options.items() if k not in ("kind", "sides")} | own
        self.truncation = self.width = truncation
        self.has_strengths, self.sticks_placement = strengths, sticks
        self.num_affinities = 0
        self.features, self.relaxation = features, relaxation
        placed = ("community",) if sticks == "global" else ("node", "community")
        self.dims |= {"sticks": placed, "memberships": ("node", "community")}
        if strengths:
            self.dims["strengths"] = ("node", "community")
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.alpha: Tensor
        self.f = _multi_layer_perceptron(truncation, decoder)
        if features is not None:
            assert num_features is not None
            self.feature_decoder = nn.Linear(truncation, num_features)
            if features == "normal":
                self.feature_log_scale = nn.Parameter(torch.zeros(num_features))
        self.g = self.classifier(truncation)

    def forward(self, graph: Graph | None = None) -> Tensor:
        """Tell the story, given the edges (and features) of ``graph``; without one, draw a graph from the prior.

        Returns:
            the adjacency matrix (N, N).
        """
        self.check_graph(graph)
        num_nodes, K = (self.num_nodes if graph is None else graph.num_nodes), self.truncation
        stick_prior = dist.Beta(self.alpha.expand(K), self.alpha.new_ones(K)).to_event(1)

        if self.sticks_placement == "global":
            v = pyro.sample("sticks", stick_prior)
        c = self.sample_global_bias()
        tau = self.sample_edge_scale()

        with node_plate(graph, num_nodes):
            if self.sticks_placement == "local":
                v = pyro.sample("sticks", stick_prior)
            logit_pi = activation_logits(v)
            if isinstance(self.relaxation, Concrete):
                relaxed = LogitConcrete(self.relaxation.temperature, logit_pi)
                y = pyro.sample("membership_logits", relaxed.to_event(1))
                b = pyro.deterministic("memberships", torch.sigmoid(y), event_dim=1)
            else:
                b = pyro.sample("memberships", dist.Bernoulli(logits=logit_pi).to_event(1))
            z = b
            if self.has_strengths:
                standard = dist.Normal(self.alpha.new_zeros(K), self.alpha.new_ones(K))
                z = b * pyro.sample("strengths", standard.to_event(1))
            z = pyro.deterministic("embedding", z, event_dim=1)

            node_bias = self.sample_node_bias(c, num_nodes)
            if self.features is not None:
                pyro.sample(
                    "features", self.feature_distribution(z), obs=self._observed_features(graph)
                )
            if self.g is not None:
                self.sample_labels(graph, self.g(z))

        edges = self.dyads(graph, self.f(z), node_bias=node_bias, scale=tau)
        return pyro.sample("edges", edges, obs=self.observed_edges(graph))

    def equations(self) -> str:
        """The story as told with these options, a formula a line, site names in backquotes."""
        node = "n" if self.sticks_placement == "local" else ""
        k = f"_{node}k" if not node else "_{nk}"
        lines = [
            f"v{k} ~ Beta({self.alpha.item():g}, 1)   `sticks`, k = 1..{self.truncation}",
            f"pi{k} = prod_{{j <= k}} v_{node or ''}j"
            if not node
            else "pi_{nk} = prod_{j <= k} v_{nj}",
            f"b_{{nk}} ~ Bernoulli(pi{k})   `memberships`",
        ]
        lines += ["r_{nk} ~ Normal(0, 1)   `strengths`"] if self.has_strengths else []
        lines += [f"z_{{nk}} = b_{{nk}}{' r_{nk}' if self.has_strengths else ''}   `embedding`"]
        lines += self.edge_equations("f(z_n)^T f(z_m)")
        if self.features is not None:
            family = "Bernoulli(sigma(w_d^T z_n + w_{d0}))"
            family = family if self.features == "bernoulli" else "Normal(w_d^T z_n + w_{d0}, s_d^2)"
            lines += [f"X_{{nd}} ~ {family}   `features`"]
        lines += self.label_equations()
        widths = " → ".join(str(w) for w in (self.truncation, *self.options["decoder"]))
        lines += [f"f is a network {widths}" if self.options["decoder"] else "f is the identity"]
        return "\n".join(lines)

    def start_at(self, graph: Graph) -> Self:
        """Set where the fit starts from the graph: the features' intercepts to the columns' means (log odds)."""
        if self.features is not None and graph.features is not None:
            mean = torch.as_tensor(graph.features.to_dense().mean(0), device=self.alpha.device)
            with torch.no_grad():
                odds = (
                    torch.logit(mean.clamp(1e-4, 1 - 1e-4))
                    if self.features == "bernoulli"
                    else mean
                )
                self.feature_decoder.bias.copy_(odds)
        return self

    def feature_distribution(self, z: Tensor) -> dist.TorchDistribution:
        """p(X | z): (..., N, K) -> a distribution of batch shape (..., N) and event shape (D,)."""
        decoder = self.feature_decoder
        if self.features == "bernoulli":
            return BernoulliFeatures(z, decoder.weight, decoder.bias)
        return dist.Normal(decoder(z), self.feature_log_scale.exp()).to_event(1)

    def _observed_features(self, graph: Graph | None) -> Tensor | None:
        if graph is None:
            return None
        if graph.features is None:
            raise ValueError(
                f"the story generates features, but graph {graph.title!r} has none: "
                "add them with graph.with_features(X) or tell the story with features=None"
            )
        return graph.features if self.features == "bernoulli" else graph.features.to_dense()


def _multi_layer_perceptron(inputs: int, widths: Sequence[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.LeakyReLU(0.2)] if layers else []
        layers.append(nn.Linear(inputs, width))
        inputs = width
    return nn.Sequential(*layers)
