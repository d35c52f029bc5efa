"""A finished fit to many graphs: what was fitted, how, and the graphs that it draws; saved and read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from ..data import GraphSet
from ..data.fingerprint import fingerprint_of_set
from ..guides.destructor import Destructor, Reordered
from ..models.sggn import SGGN
from ..models.sgvae import SGVAE
from .draws import evaluation_mode
from .elbo import InferenceError
from .posterior import environment
from .run_files import put_weights, read_set_run, told, weights_of, write_run
from .seeds import seeded
from .sequential_settings import OrderedSettings, SequentialSettings
from .set_recipe import SetRecipe

__all__ = ["SequentialFit"]


@dataclass
class SequentialFit:
    """What came out of :func:`~graphlore.inference.fit_sequential` or :func:`~graphlore.inference.fit_ordered`.

    Attributes:
        story, guide: trained; SGGN has no guide.
        settings: as given.
        history: means over each epoch, and "seconds" since the start. Of SGVAE "elbo" (the bound itself, whatever was
            climbed), "log_likelihood", "kl_latent", "order_entropy" and "information" (of the guide, within a step's
            batch); of SGGN "log_prob".
        graphs: the data.
        environment: versions of what it was fitted with.
    """

    story: SGVAE | SGGN
    guide: Destructor | None
    settings: SequentialSettings | OrderedSettings
    history: dict[str, list[float]] = field(default_factory=dict)
    graphs: GraphSet | None = None
    environment: dict[str, str] = field(default_factory=environment)

    @property
    def pair(self) -> Reordered:
        """Story and guide as programs with one argument.

        Raises:
            ValueError: a story without a guide.
        """
        if self.guide is None or not isinstance(self.story, SGVAE):
            raise ValueError(f"{type(self.story).__name__} has no latent, and so no guide")
        return Reordered(self.story, self.guide)

    @property
    def objective_is_elbo(self) -> bool:
        """Whether what was climbed, after the warm-up, is the ELBO (of SGGN log p, of graphs in an order)."""
        s = self.settings
        return isinstance(s, OrderedSettings) or s.information == s.marginal == 0

    def attributes(self) -> dict[str, Any]:
        """The settings, and whether the objective was the ELBO."""
        return {**asdict(self.settings), "objective_is_elbo": self.objective_is_elbo}

    def generate(self, count: int = 1, seed: int | None = None) -> GraphSet:
        """Graphs from the prior, with the fitted weights; the seed of the fit if None.

        Raises:
            ValueError: fewer than one.
        """
        if count < 1:
            raise ValueError(f"count is at least 1, not {count}")
        device = next(self.story.parameters()).device
        wanted = self.settings.seed if seed is None else seed
        with seeded(wanted, device), evaluation_mode(self.story), torch.no_grad():
            return GraphSet.from_batch(self.story(num_graphs=count), title="draws")

    def save(self, folder: str | Path) -> Path:
        """Write settings.json, weights.safetensors, history.json, graphs.npz: all of them, or none.

        Raises:
            ValueError: a fit that does not have its graphs.
            InferenceError: the folder cannot be written to, or another process writes there.
        """
        if self.graphs is None:
            raise ValueError("a run keeps its graphs: give the fit graphs=, the data")
        guide = self.guide
        settings = {
            "story": {"name": type(self.story).__name__, **self.story.options},
            "guide": {} if guide is None else {"name": "Destructor", **guide.options},
            "fit": asdict(self.settings),
            "objective_is_elbo": self.objective_is_elbo,
            "graphs": {"title": self.graphs.title, "fingerprint": fingerprint_of_set(self.graphs)},
            "environment": self.environment,
        }
        parts = {"story": self.story} if guide is None else {"story": self.story, "guide": guide}
        return write_run(folder, settings, weights_of(parts), self.history, self.graphs)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read back what :meth:`save` wrote; nothing in the folder is executed or unpickled.

        Raises:
            InferenceError: a file is missing or damaged, not of the same save as the others, or of a fit to one graph.
        """
        folder = Path(folder)
        settings, tensors, history, graphs = read_set_run(folder)
        try:
            recipe = SetRecipe(**{name: settings[name] for name in ("story", "guide", "fit")})
            story, guide = recipe.restore()
            used = settings["environment"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InferenceError(
                f"{folder / 'settings.json'} does not describe a fit: {told(error)}"
            ) from None
        parts = {"story": story} if guide is None else {"story": story, "guide": guide}
        put_weights(parts, tensors, folder)
        return cls(story, guide, recipe.settings, history, graphs, used)
