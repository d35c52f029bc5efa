"""How the graphs that a story of many graphs draws compare with those it was fitted to, and what its latent means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..data import GraphSet
from ..models.base import check_count
from ..models.sgvae import SGVAE
from .graph_metrics import Statistic, family_of, isomorphism_classes, mmd, valid
from .latent_metrics import (
    Classes,
    MutualInformation,
    Steering,
    mutual_information,
    principal_axis,
    steer,
)
from .seeds import seeded
from .sequential_bounds import importance_log_likelihood
from .sequential_fit import SequentialFit

__all__ = ["SetEvaluation", "evaluate_set"]

_STATISTICS: tuple[Statistic, ...] = ("degree", "clustering", "orbit", "spectral")
_LATENTS, _EACH = 200, 50  # draws for the mutual information
_WEIGHTS = 200  # importance draws a graph
_FEW = 50  # more classes than this are too many to tell their shares


@dataclass(frozen=True)
class SetEvaluation:
    """Draws from the prior beside the observed graphs.

    Attributes:
        draws: the number of graphs drawn.
        family: the narrowest family that all observed graphs are of ("cycle", "tree", "grid", "planar"), or None.
        valid: share of the draws that are of it, None without a family.
        unique: isomorphism classes over draws.
        novel: share of the draws that are isomorphic to no observed graph.
        mmd: squared maximum mean discrepancy from the observed graphs, by statistic ("degree", "clustering",
            "orbit", "spectral"), as :func:`~graphlore.inference.mmd`.
        mmd_halves: the same between two random halves of the observed graphs: about what could be reached; NaN for
            fewer than four graphs.
        log_class: mean log p of an observed graph, however numbered, by importance sampling (in expectation too low).
            Of stories with a latent, and of cycles and grids only: elsewhere symmetries may be too many to count.
        log_class_shares: the same under the law that has exactly the shares of the observed set.
        information: I(z; x) of the story, None without a latent.
        information_of: what x stands for in it: "isomorphism class", or "number of nodes" where there are too many
            classes to tell their shares.
        steering: sizes of the draws along the principal axis of the latents, None without a latent.
    """

    draws: int
    family: str | None
    valid: float | None
    unique: float
    novel: float
    mmd: dict[str, float]
    mmd_halves: dict[str, float]
    log_class_shares: float
    log_class: float | None = None
    information: MutualInformation | None = None
    information_of: str | None = None
    steering: Steering | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        found = asdict(self)
        if self.steering is not None:
            found["steering"] = {
                k: v.tolist() if isinstance(v, np.ndarray) else v
                for k, v in found["steering"].items()
            }
        return found


def evaluate_set(
    fit: SequentialFit, draws: int = 1_000, seed: int | None = None
) -> tuple[SetEvaluation, GraphSet]:
    """Draw graphs from a fitted story, and compare them with those that were observed.

    Arguments:
        fit: with its graphs.
        draws: graphs drawn.
        seed: of the draws; that of the fit if None.

    Returns:
        (the evaluation, the graphs that were drawn, the same as ``fit.generate(draws, seed)``).

    Raises:
        ValueError: fewer than one draw; a fit that does not have its graphs.
    """
    observed = fit.graphs
    if observed is None:
        raise ValueError("there is nothing to compare draws with: the fit does not have its graphs")
    check_count("draws", draws, "the number of graphs drawn")
    drawn = fit.generate(draws, seed)
    wanted = fit.settings.seed if seed is None else seed
    family = family_of(observed)
    known, new = isomorphism_classes(observed, drawn)
    information = steering = about = log_class = None
    if isinstance(fit.story, SGVAE):
        few = len(np.unique(known)) <= _FEW
        about = "isomorphism class" if few else "number of nodes"
        classes: Classes | None = None if few else lambda graphs: graphs.num_nodes.numpy()
        with seeded(wanted, next(fit.story.parameters()).device), torch.no_grad():
            information = mutual_information(fit.story, _LATENTS, _EACH, classes)
            steering = steer(fit.story, principal_axis(fit.pair, observed))
            if family in ("cycle", "grid") and fit.pair.destructor.latent == "normal":
                told = importance_log_likelihood(fit.pair, observed, _WEIGHTS)
                log_class = float(told.isomorphism_class.mean())
    shares = np.unique(known, return_counts=True)[1] / len(known)
    found = SetEvaluation(
        draws=draws,
        family=family,
        valid=None if family is None else float(valid(drawn, family).mean()),
        unique=len(np.unique(new)) / draws,
        novel=float(1.0 - np.isin(new, known).mean()),
        mmd={name: mmd(drawn, observed, name) for name in _STATISTICS},
        mmd_halves=_halves(observed, wanted),
        log_class_shares=float((shares * np.log(shares)).sum()),
        log_class=log_class,
        information=information,
        information_of=about,
        steering=steering,
    )
    return found, drawn


def _halves(graphs: GraphSet, seed: int) -> dict[str, float]:
    if len(graphs) < 4:
        return dict.fromkeys(_STATISTICS, float("nan"))
    one, other = graphs.split((0.5, 0.5), seed)
    return {name: mmd(one, other, name) for name in _STATISTICS}
