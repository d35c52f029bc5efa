"""Several fits of one recipe from different initial weights, the best of them kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Graph, Split
from .fitted import Fit
from .held_out import chosen_by
from .recipe import Recipe
from .training import fit

__all__ = ["final_score", "fit_recipe"]


def fit_recipe(recipe: Recipe, graph: Graph | Split, restarts: int = 1, **options: Any) -> Fit:
    """Fit a recipe, from ``restarts`` initialisations: seeds seed, seed + 1, ...; the best is returned.

    Best is the highest validation score where pairs or labels are held out, else the highest final ELBO. A
    non-convex objective has many optima; which of them a start falls into is chance, and the bound tells them apart.

    Arguments:
        options: of :func:`~graphlore.inference.fit`: label_validation, folder, resume, progress, callbacks.
            Checkpoints are kept for a single start only.

    Raises:
        ValueError: fewer than one start, or resuming with several.
    """
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, not {restarts}")
    if restarts > 1 and options.get("resume"):
        raise ValueError("a fit with several starts cannot be resumed; give restarts=1")
    if restarts > 1:
        options["folder"] = None
    observed = graph.train if isinstance(graph, Split) else graph
    best: Fit | None = None
    for start in range(restarts):
        attempt = recipe.override(fit={"seed": recipe.settings.seed + start})
        found = fit(*attempt.build(observed), graph, attempt.settings, **options)
        if best is None or final_score(found) > final_score(best):
            best = found
    assert best is not None
    return best


def final_score(fitted: Fit) -> float:
    """What restarts are compared by: the best validation, else the mean ELBO of the last steps."""
    history = fitted.history
    if fitted.best_step is not None:
        best = history["val_step"].index(fitted.best_step)
        return chosen_by(history, best)
    return float(np.mean(history["elbo"][-max(1, len(history["elbo"]) // 20) :]))
