"""A recipe: everything that decides a fit besides the graph, in the words of the classes it builds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import guides, models
from ..data import Graph
from ..models.base import graph_kind
from .defaults import MODELS, tables_for
from .seeds import seeded
from .settings import FitSettings
from .tables import (
    TABLES,
    check_known,
    check_tables,
    named_kinds,
    options_of,
    parameters_of,
    read_tables,
    replaced,
)

__all__ = ["Recipe"]

_FEATURE_GUIDES = ("StructuredMeanField", "MeanField")
#: stories and the guides that pair with them, the first one where none is named
_GUIDES = {
    "DGLFRM": _FEATURE_GUIDES,
    "LFRM": _FEATURE_GUIDES,
    "SBM": ("AmortisedCategorical",),
    "VGAE": ("AmortisedNormal",),
    "GAE": ("AmortisedPoint",),
}


@dataclass(frozen=True)
class Recipe:
    """Options of a story, of its guide and of the fit, as they stand in a TOML file or a run's settings.json.

    Attributes:
        story: options of the story; ``name`` picks it (DGLFRM, LFRM, SBM, VGAE or GAE).
        guide: options of the guide; ``name`` picks it among those that pair with the story.
        fit: fields of :class:`~graphlore.inference.FitSettings`.

    Raises:
        ValueError: an option that the story, the guide or the fit does not know.
    """

    story: Mapping[str, Any] = field(default_factory=dict)
    guide: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tables(self)
        story, guide = self._classes()
        check_known("story option", options_of(self.story), parameters_of(story) | _told(story))
        family = guides.MeanField if issubclass(guide, guides.MeanField) else guide
        check_known(
            "guide option",
            options_of(self.guide),
            parameters_of(family) | parameters_of(guides.GCNEncoder),
        )
        self.settings  # noqa: B018 - validates

    @classmethod
    def default(cls, model: str = "dglfrm", graph: Graph | None = None, **story: Any) -> Recipe:
        """Where the command line starts.

        Sparse graphs need a bias, and block models a start that is not flat; the prior is phased in where memberships
        overlap. A block model has its memberships summed out where that is exact.

        Arguments:
            model: dglfrm, dglfrm-b, lfrm, sbm, vgae or gae.
            graph: what is to be fitted: one of more than 500 million dyads, whose edges are there or not, is told of in
                batches by dglfrm and lfrm, with more communities and other starts, and without an encoder that reads
                features. None: a graph of which nothing is known.
            story: options of the story that are set.

        Raises:
            ValueError: another model, or an option that its story does not know.
        """
        if model not in MODELS:
            raise ValueError(f"there is no model {model!r}; known are {', '.join(MODELS)}")
        found = cls(**tables_for(model, graph, story)).override(story=story)
        options = found.story
        if (
            model == "sbm"
            and options.get("bias") == "node"
            and options.get("likelihood") != "poisson"
        ):
            return found.override(fit={"gradient": "local_expectation"})
        return found

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """A recipe from a TOML or JSON file with the tables story, guide and fit (settings.json of a run is one).

        Raises:
            InferenceError: the file is missing or cannot be read.
            ValueError: it has an option that the story, the guide or the fit does not know.
        """
        path = Path(path)
        found = read_tables(path)
        try:
            return cls(**found)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None

    def override(self, **changes: Mapping[str, Any]) -> Recipe:
        """The same recipe with some options replaced, given by table: ``override(fit={"steps": 100})``."""
        return Recipe(**replaced(self, changes))

    def without(self, table: str, *names: str) -> Recipe:
        """The same recipe with some options of a table left to their defaults."""
        kept = {k: v for k, v in getattr(self, table).items() if k not in names}
        return Recipe(**{n: kept if n == table else getattr(self, n) for n in TABLES})

    @property
    def settings(self) -> FitSettings:
        return FitSettings.from_dict(dict(self.fit))

    def restart(self, start: int) -> dict[str, Any]:
        """Options of the guide for another start of the same fit, counted from 1."""
        story, guide = self._classes()
        return dict(guide.restarted(story, options_of(self.guide), start))

    def build(self, graph: Graph) -> tuple[Any, Any]:
        """(story, guide) for a graph, weights drawn under the fit's seed."""
        story_class, guide_class = self._classes()
        options = options_of(self.story)
        if options.get("features") is not None and graph.features is not None:
            options.setdefault("num_features", graph.features.shape[1])
        if "kind" in parameters_of(story_class):
            options.setdefault("kind", graph_kind(graph))
            # as with num_nodes: those of this graph, so that the prior can draw others like it
            options["sides"] = None
            if options["kind"] == "bipartite" and graph.parts is not None:
                ones = int(graph.parts.sum())
                options["sides"] = (graph.num_nodes - ones, ones)
        if options.get("num_classes") == "auto":
            options["num_classes"] = _classes_of(graph)
        options.pop("num_nodes", None)
        with seeded(self.settings.seed), named_kinds():
            story = story_class(graph.num_nodes, **options).start_at(graph)
            return story, guide_class(story, graph, **options_of(self.guide))

    def restore(self, graph: Graph) -> tuple[Any, Any]:
        """(story, guide) as described, number of nodes included, for weights to be loaded into."""
        story_class, guide_class = self._classes()
        if "num_nodes" not in self.story:
            raise ValueError("the story does not say num_nodes")
        with named_kinds():
            story = story_class(**options_of(self.story))
            given = options_of(self.guide)
            if "initial" not in given:
                return story, guide_class(story, graph, **given)
            # where the guide started does not matter any more, and a clustering of the graph takes a while
            guide = guide_class(story, graph, **{**given, "initial": "flat"})
            guide.options["initial"] = given["initial"]
            return story, guide

    def _classes(self) -> tuple[Any, Any]:
        story = self.story.get("name", "DGLFRM")
        if not isinstance(story, str) or story not in _GUIDES:
            raise ValueError(f"there is no story {story!r:.60}; known are {', '.join(_GUIDES)}")
        guide = self.guide.get("name", _GUIDES[story][0])
        if guide not in _GUIDES[story]:
            known = ", ".join(_GUIDES[story])
            raise ValueError(f"there is no guide {guide!r:.60}; known are {known} for {story}")
        return getattr(models, story), getattr(guides, guide)


def _told(story: type) -> set[str]:
    """Options that a story passes on to :class:`~graphlore.models.NodeStory`."""
    takes_others = "others" in inspect.signature(story).parameters
    return parameters_of(models.NodeStory) - {"name"} if takes_others else set()


def _classes_of(graph: Graph) -> int:
    if graph.labels is None:
        raise ValueError(f"num_classes='auto' needs labels, and graph {graph.title!r} has none")
    known = 0 if graph.label_names is None else len(graph.label_names)
    return max(known, int(graph.labels.max()) + 1)
