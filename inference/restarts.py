"""Several fits of one recipe from different initial weights, the best of them kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Graph, Split
from .checkpoint import CHECKPOINT, has_checkpoint
from .elbo import InferenceError
from .fitted import Fit
from .held_out import chosen_by
from .job import join_job
from .lock import locked
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
        options: of :func:`~graphlore.inference.fit`: label_validation, folder, resume, progress, callbacks. Several
            fits keep their checkpoints in folders of their own, ``starts/seed_4`` or ``starts/truncation_8_seed_4``; on
            resuming, those that are done are not done again, one that was interrupted goes on, and the rest begin.

    Raises:
        ValueError: fewer than one start.
        InferenceError: as for :func:`~graphlore.inference.fit`; or nothing to resume.
    """
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, not {restarts}")
    option = automatic_size(recipe)
    observed = graph.train if isinstance(graph, Split) else graph
    folder, resume = options.pop("folder", None), options.pop("resume", False)
    starts = _Starts(folder, resume, several=restarts > 1 or option is not None)
    join_job(recipe.settings.device)
    with locked(folder):
        if option is None:
            found = _best(recipe, graph, observed, restarts, options, starts)
            told = truncation_warning(found)
        else:
            for size in sizes_to_try(observed.num_nodes):
                named = starts.named(f"{option}_{size}_")
                sized = of_size(recipe, option, size)
                found = _best(sized, graph, observed, restarts, options, named)
                told = truncation_warning(found)
                if told is None:
                    break
    if told is not None:
        _log.warning("%s: %s", observed.title, told)
    return found


@dataclass(frozen=True)
class _Starts:
    """Where the checkpoints of several fits are: in the folder itself, if there is one fit alone."""

    folder: str | Path | None
    resume: bool
    several: bool
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.several and self.resume:
            if self.folder is None:
                raise ValueError("resume=True needs the folder that holds the checkpoints")
            if not any((Path(self.folder) / "starts").glob(f"*/{CHECKPOINT}")):
                raise InferenceError(
                    f"there is no file {Path(self.folder) / 'starts'}/*/{CHECKPOINT} to go on from: fit anew"
                )

    def named(self, prefix: str) -> _Starts:
        return replace(self, prefix=prefix)

    def options(self, seed: int) -> dict[str, Any]:
        """Folder and resume of the fit with this seed."""
        if self.folder is None or not self.several:
            return {"folder": self.folder, "resume": self.resume}
        folder = Path(self.folder) / "starts" / f"{self.prefix}seed_{seed}"
        return {"folder": folder, "resume": self.resume and has_checkpoint(folder)}


def _best(
    recipe: Recipe,
    graph: Graph | Split,
    observed: Graph,
    restarts: int,
    options: dict[str, Any],
    starts: _Starts,
) -> Fit:
    best: Fit | None = None
    for start in range(restarts):
        attempt = recipe.override(
            guide=recipe.restart(start) if start else {},
            fit={"seed": recipe.settings.seed + start},
        )
        own = starts.options(attempt.settings.seed)
        story, guide = attempt.build(observed)
        found = fit(story, guide, graph, attempt.settings, **options, **own)
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
