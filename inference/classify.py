"""Classes of nodes under the label decoder, averaged over posterior draws, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Graph
from .draws import chunk_size, evaluation_mode, posterior_traces
from .metrics import classification_scores

__all__ = ["Classification", "check_truth", "classification", "label_probabilities"]


@dataclass(frozen=True)
class Classification:
    """What :meth:`Fit.classification` measures, on nodes whose labels were not observed.

    Attributes:
        nodes: how many nodes were classified.
        draws: posterior draws that a probability averages over.
        accuracy: share of nodes whose most probable class is the true one.
        macro_f1: F1 a class, averaged over the classes that are true or predicted somewhere.
        log_loss: mean of -log P(true class), nats a node.
    """

    nodes: int
    draws: int
    accuracy: float
    macro_f1: float
    log_loss: float


def label_probabilities(story: Any, guide: Any, graph: Graph, draws: int = 100) -> Tensor:
    """Posterior mean of P(y_n = c | z_n) for all nodes, (N, C); rows sum to one.

    Raises:
        ValueError: a story without a label decoder.
    """
    _need_decoder(story)
    total = torch.zeros(graph.num_nodes, story.num_classes, device=graph.device)
    with evaluation_mode(story, guide):
        chunk = chunk_size(graph, max(story.width, story.num_classes), draws)
        for trace in posterior_traces(story, guide, graph, draws, chunk):
            logits = story.g(trace.nodes["embedding"]["value"])  # (draws, N, C)
            total += torch.softmax(logits, -1).sum(0)
    return total / draws


def classification(
    story: Any, guide: Any, graph: Graph, nodes: Tensor, labels: Tensor, draws: int = 100
) -> Classification:
    """Classify nodes by their most probable class, and compare.

    Arguments:
        nodes: (P,) int64 ids of the nodes, whose labels ``graph`` should not hold.
        labels: (P,) int64, their true classes.
        draws: posterior draws to average over.

    Raises:
        ValueError: a story without a label decoder; ids or classes out of range.
    """
    nodes, labels = check_truth(story, graph, nodes, labels)
    p = label_probabilities(story, guide, graph, draws)[nodes]
    return Classification(nodes.numel(), draws, **classification_scores(p, labels))


def check_truth(story: Any, graph: Graph, nodes: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Held-out nodes and their classes as int64 tensors on the device of the graph, or one clear refusal.

    Raises:
        ValueError: no label decoder; nodes and labels that do not pair up; a node twice, unknown, or observed by the
            graph; a class that the story does not have.
    """
    _need_decoder(story)
    nodes, labels = (torch.as_tensor(x, device=graph.device) for x in (nodes, labels))
    for name, x in (("nodes", nodes), ("labels", labels)):
        if x.dim() != 1 or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise ValueError(
                f"{name} to classify are a vector of integers, not {tuple(x.shape)} {x.dtype}"
            )
    if not nodes.numel() or nodes.shape != labels.shape:
        raise ValueError(
            f"nodes and labels pair up and are not empty; got {nodes.numel()} and {labels.numel()}"
        )
    nodes, labels = nodes.long(), labels.long()
    if int(nodes.min()) < 0 or int(nodes.max()) >= graph.num_nodes:
        raise ValueError(f"nodes to classify are outside of 0..{graph.num_nodes - 1}")
    if torch.unique(nodes).numel() < nodes.numel():
        raise ValueError("a node to classify is given more than once")
    if int(labels.min()) < 0 or int(labels.max()) >= story.num_classes:
        raise ValueError(
            f"true classes are outside of 0..{story.num_classes - 1}, the classes of the story; leave out nodes "
            "whose class is not known"
        )
    if graph.labels is not None and bool((graph.labels[nodes] >= 0).any()):
        raise ValueError(
            "the graph holds labels of nodes to classify, so that they are no test: fit "
            "graph.keep_labels(training_nodes)"
        )
    return nodes, labels


def _need_decoder(story: Any) -> None:
    if story.num_classes is None:
        raise ValueError(
            "the story has no labels: tell it with num_classes=C (VGAE, GAE or DGLFRM) to classify nodes"
        )
