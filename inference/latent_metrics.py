"""What the latent of a sequential story means: mutual information with the graphs, and steering along an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pyro import poutine
from scipy.stats import spearmanr
from torch import Tensor

from ..data import GraphSet
from ..guides.destructor import Reordered
from ..models.sgvae import SGVAE
from .graph_metrics import isomorphism_classes

__all__ = [
    "MutualInformation",
    "Steering",
    "draw_graphs",
    "encode_graphs",
    "mutual_information",
    "principal_axis",
    "steer",
]

Classes = Callable[[GraphSet], np.ndarray]


@dataclass(frozen=True)
class MutualInformation:
    """I(z; x) of the story, x up to isomorphism, in nats.

    Attributes:
        estimate: with the Miller-Madow correction of both entropies.
        plug_in: from the relative frequencies as they are.
        bias: expected excess of the plug-in value to first order: plug_in - estimate.
        error: standard error of the plug-in value from the spread among the latents.
        entropy: H(x), corrected.
    """

    estimate: float
    plug_in: float
    bias: float
    error: float
    entropy: float


@dataclass(frozen=True)
class Steering:
    """What is built along a line through the latent space.

    Attributes:
        positions: (P,) coordinates along the axis, in prior standard deviations.
        sizes: (P,) mean number of nodes of the draws there.
        spread: (P,) standard error of each mean (the standard deviation over the root of the number of draws).
        spearman: rank correlation of positions and mean sizes.
        span: largest less smallest mean size.
    """

    positions: np.ndarray
    sizes: np.ndarray
    spread: np.ndarray
    spearman: float
    span: float


@torch.no_grad()
def draw_graphs(story: SGVAE, z: Tensor) -> GraphSet:
    """One graph for each row of z, (B, D)."""
    batch = poutine.condition(story, data={"z": z})(None, len(z))
    return GraphSet.from_batch(batch, title="draws")


def mutual_information(
    story: SGVAE, latents: int = 500, draws: int = 100, classes: Classes | None = None
) -> MutualInformation:
    """I(z; x) = H(x) - E H(x | z) under the story itself, z from the prior.

    Entropies are those of relative frequencies, too small by about (classes seen - 1) / (2 draws); the correction of
    Miller and Madow adds that.

    Arguments:
        story: to draw from.
        latents: draws of z.
        draws: graphs for each.
        classes: numbers the classes of a set, (G,) int64; isomorphism classes if None.
    """
    z = story.prior().sample((latents,))
    graphs = draw_graphs(story, z.repeat_interleave(draws, 0))
    number = isomorphism_classes(graphs)[0] if classes is None else classes(graphs)
    _, number = np.unique(number, return_inverse=True)
    table = np.zeros((latents, number.max() + 1))
    np.add.at(table, (np.repeat(np.arange(latents), draws), number), 1)

    def entropy(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Plug-in entropies of rows of counts, and what they lack."""
        p = counts / counts.sum(-1, keepdims=True)
        logs = np.log(p, where=p > 0, out=np.zeros_like(p))
        return -(p * logs).sum(-1), ((counts > 0).sum(-1) - 1) / (2 * counts.sum(-1))

    marginal, lack = entropy(table.sum(0))
    inside, lacks = entropy(table)
    plug_in = float(marginal - inside.mean())
    bias = float(lacks.mean() - lack)
    # one latent's part is its Kullback-Leibler divergence from the marginal
    p = table / draws
    ratio = np.log(p / p.mean(0), where=p > 0, out=np.zeros_like(p))
    error = float((p * ratio).sum(1).std() / np.sqrt(latents))
    return MutualInformation(plug_in - bias, plug_in, bias, error, float(marginal + lack))


@torch.no_grad()
def encode_graphs(pair: Reordered, graphs: GraphSet, draws: int = 20) -> Tensor:
    """(draws, G, D) latents from q(z | x) of each graph, on the CPU."""
    batch = graphs.batch().to(pair.story.prior().base_dist.loc.device).repeat(draws)
    z = poutine.trace(pair.guide).get_trace(batch).nodes["z"]["value"]
    return z.view(draws, len(graphs), -1).cpu()


@torch.no_grad()
def principal_axis(pair: Reordered, graphs: GraphSet, draws: int = 10) -> Tensor:
    """(D,) unit vector, the first principal component of latents drawn from q(z | x) for these graphs."""
    z = encode_graphs(pair, graphs, draws).flatten(0, 1)
    axis = torch.linalg.svd(z - z.mean(0), full_matrices=False)[2][0]
    return axis if axis[axis.abs().argmax()] > 0 else -axis


def steer(
    story: SGVAE, axis: Tensor, positions: np.ndarray | None = None, draws: int = 200
) -> Steering:
    """Draw graphs at points along an axis of the latent space.

    Arguments:
        story: to draw from.
        axis: (D,) direction through the origin.
        positions: (P,) in prior standard deviations; 21 points from -2 to 2 if None.
        draws: a point.
    """
    positions = np.linspace(-2.0, 2.0, 21) if positions is None else np.asarray(positions, float)
    axis = axis.to(story.prior().base_dist.loc)
    points = torch.as_tensor(positions).to(axis)[:, None] * axis / axis.norm()
    sizes = draw_graphs(story, points.repeat_interleave(draws, 0)).num_nodes.double()
    sizes = sizes.view(len(positions), draws)
    mean = sizes.mean(1).numpy()
    correlation = spearmanr(positions, mean).statistic if np.ptp(mean) > 0 else 0.0
    error = (sizes.std(1) / draws**0.5).numpy()
    return Steering(positions, mean, error, float(correlation), float(np.ptp(mean)))
