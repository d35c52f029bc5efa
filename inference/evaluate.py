"""Held-out evaluation: ranking on the pairs of a split, calibration on the dyads of nature."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..data import Graph, Split, sample_absent
from .draws import chunk_size, evaluation_mode, posterior_traces
from .metrics import calibration_scores, hits_at, ranking_scores
from .predict import expected_values, link_probabilities, probability_rows

__all__ = ["ActiveCommunities", "Evaluation", "active_communities", "evaluate"]

_ALL_DYADS = 500_000_000  # beyond it a sample of dyads is scored in their place
_SAMPLED = 1_000_000  # links, and as many non-links


@dataclass(frozen=True)
class ActiveCommunities:
    """Communities of a node, averaged over nodes: posterior mean and central 90 % interval; ``used`` is how many of
    the K communities have a member (posterior mean)."""

    mean: float
    low: float
    high: float
    used: float


@dataclass(frozen=True)
class Evaluation:
    """What :meth:`Fit.evaluate` measures.

    Attributes:
        auc, ap: area under the ROC curve and average precision on the held-out pairs as they come (balanced).
        hits: Hits@k on the same pairs, by k.
        log_loss, brier, ece: on the natural, unbalanced dyads: a held-out link stands for E / (held-out links) links
            of the graph, a held-out non-link for its share of the non-links (Horvitz-Thompson weights).
        log_loss_all, ece_all: over all dyads of the full graph, those of training included. Of a graph with more than
            500 million of them, these two and ``expected_edges`` are estimated from up to a million links and a million
            non-links, drawn uniformly and weighted by what they stand for.
        expected_edges, edges: posterior mean number of edges among all dyads, and the truth. (Of Normal weights, which
            are ranked by their means, calibration and expected edges are NaN.)
        active: communities of a node.
    """

    part: str
    draws: int
    auc: float
    ap: float
    hits: dict[int, float]
    log_loss: float
    brier: float
    ece: float
    log_loss_all: float
    ece_all: float
    expected_edges: float
    edges: int
    active: ActiveCommunities | None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def evaluate(
    story: Any,
    guide: Any,
    split: Split,
    part: Literal["val", "test"] = "test",
    draws: int = 100,
    hits: tuple[int, ...] = (10, 50, 100),
) -> Evaluation:
    """Evaluate a fit on the held-out pairs of a split.

    Arguments:
        split: whose training graph was fitted.
        part: "val" or "test".
        draws: posterior draws that a probability averages over.
        hits: the k of Hits@k.
    """
    device = next(story.buffers()).device
    train, full = split.train.to(device), split.full
    pairs, truth = split.pairs(part)
    if story.likelihood == "normal":  # weights can be ranked, but are no probabilities
        p = expected_values(story, guide, train, pairs, draws)
        calibration = dict.fromkeys(_CALIBRATION, math.nan)
    else:
        p = link_probabilities(story, guide, train, pairs, draws)
        calibration = calibration_scores(p, truth, natural_weights(truth, full))
        of_all = _all_dyads if full.num_dyads <= _ALL_DYADS else _sampled_dyads
        calibration |= of_all(story, guide, train, full, draws)
    auc, ap = ranking_scores(p, truth)
    return Evaluation(
        part=part,
        draws=draws,
        auc=auc,
        ap=ap,
        hits={k: hits_at(k, p, truth) for k in hits},
        **calibration,
        edges=full.num_edges,
        active=active_communities(story, guide, train, draws),
    )


_CALIBRATION = ("log_loss", "brier", "ece", "expected_edges", "log_loss_all", "ece_all")


def natural_weights(truth: Tensor, full: Graph) -> np.ndarray:
    """Weights (P,) that make held-out pairs stand for all dyads of the graph they were sampled from."""
    y = truth.cpu().numpy() > 0.5
    links, absent = full.num_edges, full.num_dyads - full.num_edges
    return np.where(y, links / max(1, y.sum()), absent / max(1, (~y).sum()))


def active_communities(
    story: Any, guide: Any, graph: Graph, draws: int = 100
) -> ActiveCommunities | None:
    """How many communities a node has under the posterior; None for a story without memberships."""
    means, used = [], []
    with evaluation_mode(story, guide):
        for trace in posterior_traces(
            story, guide, graph, draws, chunk_size(graph, story.width, draws)
        ):
            if "memberships" not in trace.nodes:
                return None
            b = trace.nodes["memberships"]["value"] > 0.5
            means.append(b.sum(-1).float().mean(-1))
            used.append(b.any(-2).sum(-1).float())
    mean = torch.cat(means).cpu()
    low, high = torch.quantile(mean, torch.tensor([0.05, 0.95])).tolist()
    return ActiveCommunities(float(mean.mean()), low, high, float(torch.cat(used).mean()))


def _all_dyads(story: Any, guide: Any, train: Graph, full: Graph, draws: int) -> dict[str, float]:
    """Expected edges, log-loss and calibration error over all dyads, accumulated in row blocks."""
    n, bins = full.num_nodes, 15
    device = train.edge_index.device
    edges = full.edge_index.to(device)
    sums = torch.zeros(3, bins, dtype=torch.float64)  # probability, links, dyads
    loss = 0.0
    for block, p in probability_rows(story, guide, train, draws):
        truth = torch.zeros_like(p)
        here = (edges[0] >= block.start) & (edges[0] < block.stop)
        truth[edges[0, here] - block.start, edges[1, here]] = 1.0
        columns = torch.arange(n, device=device)
        rows = torch.arange(block.start, block.stop, device=device)
        keep = columns != rows[:, None] if full.directed else columns > rows[:, None]
        if full.parts is not None:
            parts = full.parts.to(device)
            keep &= parts != parts[rows, None]
        q, y = p[keep].double().cpu(), truth[keep].double().cpu()
        loss -= float(
            (y * q.clamp(min=1e-12).log() + (1 - y) * (1 - q).clamp(min=1e-12).log()).sum()
        )
        which = (q * bins).long().clamp(max=bins - 1)
        for row, weight in enumerate((q, y, torch.ones_like(q))):
            sums[row].index_add_(0, which, weight)
    dyads = float(sums[2].sum())
    return {
        "expected_edges": float(sums[0].sum()),
        "log_loss_all": loss / dyads,
        "ece_all": float((sums[0] - sums[1]).abs().sum()) / dyads,
    }


def _sampled_dyads(
    story: Any, guide: Any, train: Graph, full: Graph, draws: int
) -> dict[str, float]:
    """What :func:`_all_dyads` gives, from a uniform sample of links and one of non-links."""
    links = full.edge_index
    if full.num_edges > _SAMPLED:
        chosen = np.random.default_rng(0).choice(full.num_edges, _SAMPLED, replace=False)
        links = links[:, torch.from_numpy(chosen)]
    absent = sample_absent(full, min(_SAMPLED, full.num_dyads - full.num_edges))
    truth = torch.cat((torch.ones(links.shape[1]), torch.zeros(absent.shape[1])))
    p = link_probabilities(story, guide, train, torch.cat((links, absent), 1), draws).cpu()
    weights = natural_weights(truth, full)
    scores = calibration_scores(p, truth, weights)
    return {
        "expected_edges": float((p.double().numpy() * weights).sum()),
        "log_loss_all": scores["log_loss"],
        "ece_all": scores["ece"],
    }
