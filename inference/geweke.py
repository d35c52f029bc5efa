"""Geweke's joint distribution test: does a Markov kernel leave the posterior of a story invariant?

Latents and graph are drawn jointly in two ways: from the prior and then the story, independently; and by a chain that
alternates a sweep of the kernel given the graph with a new graph given the latents. If story and kernel are right,
both have the same joint law, whatever the graph. An error in a density, a conditional draw, an acceptance or a
Jacobian makes the means of some statistic of the two differ.

References:
    | Getting it right: joint distribution tests of posterior simulators (Geweke, JASA 2004)
"""

from __future__ import annotations

import copy
from typing import Any

import arviz
import numpy as np
import pandas as pd
import pyro
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from ..models.base import NodeStory
from .joint import Joint, Values
from .kernel import GibbsNUTS
from .prior import graph_of, prior_values
from .seeds import seeded

__all__ = ["geweke_test"]


def geweke_test(
    story: NodeStory,
    num_nodes: int | None = None,
    *,
    draws: int = 2000,
    prior_draws: int = 50_000,
    missing: Any = None,
    seed: int = 0,
    kernel: GibbsNUTS | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compare what a kernel says of a story with the story itself, on graphs that the story draws.

    Arguments:
        story: without features or labels. Priors so wide that draws are all extreme make the test weak.
        num_nodes: N, small; that of the story if None.
        draws: of the chain, which starts at a draw from the joint law and needs no warm-up.
        prior_draws: independent draws from the prior.
        missing: dyads that are never observed, (2, H).
        seed: of everything random.
        kernel: what is tested; :class:`GibbsNUTS` with ``options`` if None. It must not adapt.

    Returns:
        a row a statistic: its mean from the ``prior`` and from the ``chain``, the ``ess`` of the chain, and ``z``, the
        difference in standard errors, that of the chain corrected for its autocorrelation. z is about standard
        normal if all is right, and grows with the square root of the draws if not.

    Raises:
        ValueError: a story with features or labels; numbers of draws out of range.
    """
    if getattr(story, "features", None) is not None or story.num_classes is not None:
        raise ValueError(
            "the test draws new edges only: tell the story without features and labels"
        )
    if draws < 10 or prior_draws < 10:
        raise ValueError(f"draws and prior_draws must be at least 10, not {draws}, {prior_draws}")
    story = copy.deepcopy(story).double()
    story.num_nodes = story.num_nodes if num_nodes is None else num_nodes
    with (
        seeded(seed),
        pyro.get_param_store().scope(),
        pyro.validation_enabled(False),
        torch.no_grad(),
    ):
        first, generated = prior_values(story, 1)
        graph = graph_of(story, generated["edges"][0], missing)
        joint = Joint(story, graph)
        values, generated = prior_values(story, prior_draws)
        independent = _statistics(joint, values, generated["edges"])
        kernel = kernel or GibbsNUTS(story, **{"step_size": 0.3, "adapt": False, **options})
        kernel.initial_params = {n: v[0] for n, v in first.items()}
        chain = _statistics(joint, *_successive(kernel, graph, missing, draws))
    return _compare(independent, chain)


def _successive(kernel: GibbsNUTS, graph: Graph, missing: Any, draws: int) -> tuple[Values, Tensor]:
    kernel.setup(0, graph)
    state, states, graphs = kernel.initial_params, [], []
    for _ in range(draws):
        state = kernel.sample(state)
        adjacency = kernel.joint.trace(state).nodes["edges"]["fn"].sample()
        kernel.observe(graph_of(kernel.joint.story, adjacency, missing))
        states.append(state)
        graphs.append(adjacency)
    return {n: torch.stack([s[n] for s in states]) for n in state}, torch.stack(graphs)


def _statistics(joint: Joint, values: Values, adjacency: Tensor) -> dict[str, Tensor]:
    """What is compared, (draws,) each: levels, squares and products of latents and edges."""
    story = joint.story
    # counts and weights have heavy tails, of which a mean would take for ever
    y = torch.asinh(adjacency.double()) * joint.observed
    edges = y[:, joint.once].mean(-1)
    degrees = y.sum(-1)
    found = {
        "edges": edges,
        "edges squared": edges**2,
        "variance of degrees": degrees.var(-1),
        "triangles": torch.einsum("sij,sjk,ski->s", y, y, y),
    }
    for name in joint.continuous:
        flat = joint.transforms[name].inv(values[name]).reshape(len(edges), -1)
        found |= {
            name: flat.mean(-1),
            f"{name} squared": flat.square().mean(-1),
            f"{name}, first": flat[:, 0],
            f"{name} x edges": flat.mean(-1) * edges,
        }
    for name in (*joint.categories, *joint.bits):
        z = values[name]
        b = F.one_hot(z, story.width).double() if name in joint.categories else z.double()
        sizes, together = b.sum(1), ((b @ b.mT) > 0).double()
        found |= {
            "communities": (sizes > 0).double().sum(-1),
            "sizes squared": sizes.square().mean(-1),
            "size of the first": sizes[:, 0],
            "size of the last": sizes[:, -1],
            "shared": together[:, joint.once].mean(-1),
            "shared x edges": (together * y)[:, joint.once].mean(-1),
            "node 0 x its degree": b[:, 0].sum(-1) * degrees[:, 0],
        }
        for other in ("sticks", "community_weights"):
            if other in values and values[other].shape[1:] == sizes.shape[1:]:
                found[f"sizes x {other}"] = (values[other] * sizes).sum(-1)
        for other in ("affinity", getattr(story, "table_site", "")):
            if other in values:
                table = story.table(joint.transforms[other].inv(values[other]))
                found[f"diagonal of {other} x sizes"] = (
                    table.diagonal(dim1=-2, dim2=-1) * sizes
                ).mean(-1)
                found[f"mean of {other} x sizes"] = (
                    sizes.unsqueeze(1) @ table @ sizes.unsqueeze(2)
                ).flatten()
    return found


def _compare(independent: dict[str, Tensor], chain: dict[str, Tensor]) -> pd.DataFrame:
    names = [n for n, v in independent.items() if float(v.std()) > 0]
    data = xr.Dataset({n: (("chain", "draw"), chain[n].numpy()[None]) for n in names})
    ess, mcse = arviz.ess(data, method="mean"), arviz.mcse(data, method="mean")
    rows = {}
    for name in names:
        prior, found = independent[name].numpy(), chain[name].numpy()
        error = np.hypot(float(mcse[name]), prior.std() / np.sqrt(len(prior)))
        rows[name] = {
            "prior": prior.mean(),
            "chain": found.mean(),
            "ess": float(ess[name]),
            "z": (found.mean() - prior.mean()) / error,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
