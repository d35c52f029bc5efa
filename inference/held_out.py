"""What is held out while a fit runs, and how well the state reached predicts it: links, or labels of nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ..data import Graph
from .classify import check_truth, label_probabilities
from .metrics import classification_scores, ranking_scores
from .predict import expected_values

__all__ = ["SCORES", "HeldOut", "HeldOutLabels", "HeldOutLinks", "chosen_by"]

#: columns of a history that validation fills, those of one kind of validation; a state is chosen by their mean
SCORES = ("val_auc", "val_ap", "val_accuracy")


@dataclass(frozen=True)
class HeldOutLinks:
    """Dyads (2, P) and whether they are links (P,), ranked."""

    pairs: Tensor
    truth: Tensor

    def scores(self, story: Any, guide: Any, graph: Graph, draws: int) -> dict[str, float]:
        p = expected_values(story, guide, graph, self.pairs, draws=draws)
        auc, ap = ranking_scores(p, self.truth)
        return {"val_auc": auc, "val_ap": ap}

    def fingerprint(self) -> str:
        return _digest("links", self.pairs, self.truth)


@dataclass(frozen=True)
class HeldOutLabels:
    """Nodes (P,) and their classes (P,), classified by the label decoder."""

    nodes: Tensor
    labels: Tensor

    @classmethod
    def check(cls, story: Any, graph: Graph, nodes: Any, labels: Any) -> HeldOutLabels:
        """Of what a user gave.

        Raises:
            ValueError: as :func:`~graphlore.inference.classify.check_truth`.
        """
        return cls(*check_truth(story, graph, nodes, labels))

    def scores(self, story: Any, guide: Any, graph: Graph, draws: int) -> dict[str, float]:
        p = label_probabilities(story, guide, graph, draws)[self.nodes]
        return {"val_accuracy": classification_scores(p, self.labels)["accuracy"]}

    def fingerprint(self) -> str:
        return _digest("labels", self.nodes, self.labels)


HeldOut = HeldOutLinks | HeldOutLabels


def chosen_by(history: Mapping[str, Any], validation: int) -> float:
    """What states are compared by: AUC and AP averaged, or accuracy, of a validation of the history."""
    return fmean(history[name][validation] for name in SCORES if history.get(name))


def _digest(kind: str, *tensors: Tensor) -> str:
    digest = hashlib.sha256(kind.encode())
    for x in tensors:
        digest.update(f"|{tuple(x.shape)}|".encode())
        digest.update(x.cpu().to(torch.float64).contiguous().numpy().tobytes())
    return digest.hexdigest()
