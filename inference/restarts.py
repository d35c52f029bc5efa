"""Several fits of one recipe from different initial weights, the best of them kept."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..data import Graph, Split
from .fitted import Fit
from .held_out import chosen_by
from .recipe import Recipe
from .selection import automatic_size, of_size, sizes_to_try, truncation_warning
from .training import fit

_log = logging.getLogger(__name__)

__all__ = ["final_score", "fit_recipe"]


def fit_recipe(recipe: Recipe, graph: Graph | Split, restarts: int = 1, **options: Any) -> Fit:
    """Fit a recipe, from ``restarts`` initialisations: seeds seed, seed + 1, ...; the best is returned.

    Guides of an SBM start at a spectral clustering, which would be much the same every time: all but the first start at
    random blocks instead.

    Best is the highest validation score where pairs or labels are held out, else the highest final ELBO. A
    non-convex objective has many optima; which of them a start falls into is chance, and the bound tells them apart.

    A story's ``truncation="auto"`` (``num_blocks="auto"``) is found: 4, 8, ... communities, up to 64, until
    :func:`~graphlore.inference.truncation_warning` is silent. Removal moves are on where the guide can make them, and
    blocks have a sparse Dirichlet (0.1) unless ``alpha`` says otherwise. A truncation that is given and too small is
    warned of once.

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
    option = automatic_size(recipe)
    if option is not None and options.get("resume"):
        raise ValueError(f"a fit with {option}='auto' cannot be resumed; give the number")
    observed = graph.train if isinstance(graph, Split) else graph
    if option is None:
        found = _best(recipe, graph, observed, restarts, options)
        told = truncation_warning(found)
    else:
        for size in sizes_to_try(observed.num_nodes):
            found = _best(of_size(recipe, option, size), graph, observed, restarts, options)
            told = truncation_warning(found)
            if told is None:
                break
    if told is not None:
        _log.warning("%s: %s", observed.title, told)
    return found


def _best(
    recipe: Recipe, graph: Graph | Split, observed: Graph, restarts: int, options: dict[str, Any]
) -> Fit:
    best: Fit | None = None
    for start in range(restarts):
        attempt = recipe.override(
            guide=recipe.guide_class.restart if start else {},
            fit={"seed": recipe.settings.seed + start},
        )
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
