"""SGVAE and its destructor on graphs of three and four nodes: the objective by enumeration of orders, z on a grid."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import networkx as nx
import torch
from pyro import poutine
from torch import Tensor

from graphlore.data import GraphSet
from graphlore.guides import Destructor, Reordered, removals
from graphlore.inference.sequential_bounds import story_log_prob
from graphlore.models import SGVAE

PAW = nx.Graph([(0, 1), (0, 2), (1, 2), (2, 3)])
SMALL = GraphSet.from_networkx([nx.path_graph(3), PAW])


def pair_of(
    source: str = "last", seed: int = 1, contrast: float = 1.0, **options: Any
) -> Reordered:
    """A story and its destructor; with much contrast, what goes first decides what goes next."""
    torch.manual_seed(seed)
    story = SGVAE(3, 1, rounds=1)
    guide = Destructor(story, hidden=4, rounds=1, source=source, **options)
    pair = Reordered(story, guide).double()
    with torch.no_grad():  # away from the symmetry of the start
        for parameter in pair.parameters():
            parameter.mul_(1.5)
        for parameter in pair.destructor.f_r.parameters():
            parameter.mul_(contrast)
    return pair


def exact_elbo(pair: Reordered, graphs: GraphSet, beta: float = 1.0) -> Tensor:
    """Mean over graphs of the objective, all orders enumerated, z on a grid: differentiable.

    The grid is fine because the integrand has the kinks of rectified units (Gauss-Hermite is off by 1 %).
    """
    x = torch.linspace(-6.0, 6.0, 1500, dtype=torch.float64)
    w = (-x.square() / 2).softmax(0)
    total = torch.zeros((), dtype=torch.float64)
    for g in range(len(graphs)):
        n = int(graphs.num_nodes[g])
        orders = torch.tensor(list(permutations(range(n))))
        batch = graphs.batch([g]).repeat(len(orders))
        condition = poutine.condition(pair.destructor, data=removals(orders, batch.num_nodes))
        trace = poutine.trace(condition).get_trace(batch)
        trace.compute_log_prob()
        log_q = sum(s["log_prob"] for name, s in trace.nodes.items() if name.startswith("remove_"))
        law = trace.nodes["z"]["fn"].base_dist
        z = law.loc + law.scale * x[:, None, None]  # (points, orders, 1)
        latent = (
            pair.story.prior().log_prob(z)
            - torch.distributions.Normal(law.loc, law.scale).log_prob(z)[..., 0]
        )
        log_p = story_log_prob(pair.story, batch.reorder(orders).repeat(len(x)), z.flatten(0, 1))
        inner = (w[:, None] * (log_p.view(len(x), -1) + beta * latent)).sum(0)
        total = total + (log_q.exp() * (inner - beta * log_q)).sum()
    return total / len(graphs)


def gradient(value: Tensor, pair: Reordered) -> Tensor:
    """By all parameters but those of a baseline, which has a loss of its own."""
    wanted = [p for name, p in pair.named_parameters() if "baseline" not in name]
    grads = torch.autograd.grad(value, wanted, allow_unused=True)
    parts = zip(grads, wanted, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in parts])
