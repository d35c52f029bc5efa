"""One call from a recipe and a set of graphs to a fit."""

from __future__ import annotations

from pathlib import Path

from ..data import GraphSet
from ..models.sgvae import SGVAE
from .job import join_job, own_device
from .ordered import fit_ordered
from .progress import ProgressBar
from .sequential import fit_sequential
from .sequential_fit import SequentialFit
from .sequential_settings import OrderedSettings, SequentialSettings
from .set_recipe import SetRecipe
from .settings import check_device

__all__ = ["fit_set"]


def fit_set(
    recipe: SetRecipe,
    graphs: GraphSet,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
    device: str = "cpu",
) -> SequentialFit:
    """Build what a recipe describes for a set of graphs, and fit it.

    Arguments:
        recipe: options of story, guide and fit.
        graphs: the data.
        folder: where checkpoints go; none is written without it.
        resume: go on from the checkpoint in ``folder``, to the same result as if never interrupted.
        progress: show a bar; None: on a terminal.
        device: where the fit runs.

    Returns:
        the fit, its modules on ``device``.

    Raises:
        ValueError: a device that is not here, a setting out of range, graphs that do not fit the story.
        InferenceError: as for :func:`~graphlore.inference.fit_sequential` and
            :func:`~graphlore.inference.fit_ordered`.
    """
    check_device(device)
    join_job(device)
    place = own_device(device)
    settings = recipe.settings
    story, guide = recipe.build(graphs)
    story.to(place)
    ordered = isinstance(settings, OrderedSettings)
    words = ("fit", "log p" if ordered else "ELBO")
    with ProgressBar.choose(settings.epochs, progress, words, "epoch") as bar:

        def show(_: int, fit: SequentialFit) -> None:
            bar.update_epoch(fit.history)

        if isinstance(story, SGVAE):
            assert guide is not None
            assert isinstance(settings, SequentialSettings)
            return fit_sequential(
                story,
                guide.to(place),
                graphs,
                settings,
                folder=folder,
                resume=resume,
                callback=show,
            )
        assert isinstance(settings, OrderedSettings)
        return fit_ordered(
            story, graphs, settings=settings, folder=folder, resume=resume, callback=show
        )
