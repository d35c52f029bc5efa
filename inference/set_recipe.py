"""Everything that decides a fit to a set of graphs besides the graphs, in the words of the classes it builds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import GraphSet
from ..guides import Destructor
from ..models import SGGN, SGVAE
from .seeds import seeded
from .sequential_settings import OrderedSettings, SequentialSettings
from .tables import (
    check_known,
    check_tables,
    named_kinds,
    options_of,
    parameters_of,
    read_tables,
    replaced,
)

__all__ = ["SetRecipe"]

_SETTINGS: dict[str, type[OrderedSettings] | type[SequentialSettings]] = {
    "SGVAE": SequentialSettings,
    "SGGN": OrderedSettings,
}
_STORIES: dict[str, type[SGVAE] | type[SGGN]] = {"SGVAE": SGVAE, "SGGN": SGGN}


@dataclass(frozen=True)
class SetRecipe:
    """Options of a story of many graphs, of its guide and of the fit, as they stand in a run's settings.json.

    Attributes:
        story: options of the story; ``name`` picks it, SGVAE or SGGN.
        guide: options of :class:`~graphlore.guides.Destructor`; SGGN has none.
        fit: fields of :class:`~graphlore.inference.SequentialSettings` (SGVAE) or
            :class:`~graphlore.inference.OrderedSettings` (SGGN).

    Raises:
        ValueError: an option that the story, the guide or the fit does not know.
    """

    story: Mapping[str, Any] = field(default_factory=dict)
    guide: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tables(self)
        if self.name not in _STORIES:
            known = ", ".join(_STORIES)
            raise ValueError(
                f"there is no story {self.name!r:.60} of many graphs; known are {known}"
            )
        check_known("story option", options_of(self.story), parameters_of(_STORIES[self.name]))
        check_known(
            "guide option",
            options_of(self.guide),
            parameters_of(Destructor) if self.has_guide else set(),
        )
        check_known("fit option", options_of(self.fit), parameters_of(_SETTINGS[self.name]))
        self.settings  # noqa: B018 - validates

    @classmethod
    def default(cls, model: str, graphs: GraphSet) -> SetRecipe:
        """Where the command line starts.

        That of SGVAE is what ``docs/sequential.md`` measured on cycles: its weights ``information`` and ``marginal``
        keep z from being ignored, and make the objective something else than a bound. Epochs are such that sets of
        all sizes get about as many steps as were measured, 1,400 of 50 graphs, and 500 of SGGN.

        Arguments:
            model: sgvae or sggn.
            graphs: what will be fitted.

        Raises:
            ValueError: another model.
        """
        if model.upper() not in _STORIES:
            known = ", ".join(name.lower() for name in _STORIES)
            raise ValueError(f"there is no model {model!r:.60} of many graphs; known are {known}")
        largest = 2 * int(graphs.num_nodes.max())
        story = {"name": model.upper(), "hidden": 16, "rounds": 1, "max_nodes": max(40, largest)}
        size = 50 if model == "sgvae" or len(graphs) < 1_000 else 200
        per_epoch = math.ceil(len(graphs) / size)
        if model == "sgvae":
            epochs = min(700, math.ceil(1_400 / per_epoch))
            return cls(
                {**story, "latent": 1},
                {"name": "Destructor", "rounds": 1, "source": "last"},
                {
                    "epochs": epochs,
                    "batch_size": size,
                    "orders": 2,
                    "learning_rate": 5e-3,
                    "warmup": round(epochs * 60 / 700),
                    "information": 1.4,
                    "marginal": 2.0,
                },
            )
        epochs = min(250, math.ceil(500 / per_epoch))
        return cls(story, {}, {"epochs": epochs, "batch_size": size, "learning_rate": 1e-2})

    @classmethod
    def read(cls, path: str | Path, graphs: GraphSet, model: str | None = None) -> SetRecipe:
        """A recipe from a TOML or JSON file with the tables story, guide and fit (settings.json of a run is one).

        What the file leaves open is as :meth:`default` has it.

        Arguments:
            path: the file.
            graphs: what will be fitted.
            model: sgvae or sggn, if the file does not name the story.

        Raises:
            InferenceError: the file is missing or cannot be read.
            ValueError: it has an option that the story, the guide or the fit does not know.
        """
        path = Path(path)
        found = read_tables(path)
        name = str(found["story"].get("name", model)).lower()
        try:
            if model is not None and name != model:
                raise ValueError(f"it is a recipe for {name}, not for {model}")
            return cls.default(name, graphs).override(**found)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None

    def override(self, **changes: Mapping[str, Any]) -> SetRecipe:
        """The same recipe with some options replaced, given by table: ``override(fit={"epochs": 100})``."""
        return SetRecipe(**replaced(self, changes))

    @property
    def name(self) -> Any:
        """Of the story."""
        return self.story.get("name")

    @property
    def has_guide(self) -> bool:
        """Whether the story has latents, so that there is something to guide."""
        return self.name == "SGVAE"

    @property
    def settings(self) -> SequentialSettings | OrderedSettings:
        with named_kinds():
            return _SETTINGS[self.name](**options_of(self.fit))

    def build(self, graphs: GraphSet) -> tuple[SGVAE | SGGN, Destructor | None]:
        """(story, guide) with the types of these graphs, weights drawn under the fit's seed; no guide for SGGN."""
        types = {"edge_types": graphs.num_edge_types, "node_types": graphs.num_node_types}
        with seeded(self.settings.seed):
            return self.override(story=types).restore()

    def restore(self) -> tuple[SGVAE | SGGN, Destructor | None]:
        """(story, guide) as described, types included, for weights to be loaded into."""
        with named_kinds():
            story = _STORIES[self.name](**options_of(self.story))
            if not isinstance(story, SGVAE):
                return story, None
            return story, Destructor(story, **options_of(self.guide))
