"""Options that commands share, their choices, and what the tab key offers for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Among",
    "AsJson",
    "EdgeTypes",
    "GuideKind",
    "Header",
    "Likelihood",
    "Model",
    "NodeTypes",
    "Order",
    "Part",
    "RunFolder",
    "complete_graph",
    "complete_run",
    "dataset_names",
    "options_given",
    "words",
]


class Model(StrEnum):
    dglfrm = "dglfrm"
    dglfrm_b = "dglfrm-b"
    lfrm = "lfrm"
    sbm = "sbm"
    vgae = "vgae"
    gae = "gae"
    sgvae = "sgvae"
    sggn = "sggn"


class Part(StrEnum):
    val = "val"
    test = "test"


class GuideKind(StrEnum):
    structured = "structured"
    mean_field = "mean-field"


class Likelihood(StrEnum):
    bernoulli = "bernoulli"
    poisson = "poisson"
    normal = "normal"


class Among(StrEnum):
    missing = "missing"
    absent = "absent"
    all = "all"


class Order(StrEnum):
    breadth_first = "breadth-first"
    depth_first = "depth-first"
    given = "given"
    random = "random"


def dataset_names() -> list[str]:
    """Names of the known graphs and sets of graphs, read without loading torch."""
    room = resources.files(__package__.rpartition(".")[0]) / "data"
    lists = (room / "catalogue.json", room / "families.json")
    return [name for listed in lists for name in json.loads(listed.read_text("utf-8"))]


def options_given(context: typer.Context) -> set[str]:
    """The parameters that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    # by its name: typer brings a click of its own, whose enumeration is not click's
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def complete_graph(incomplete: str) -> list[str]:
    """Known datasets; where none fits, the shell goes on with files."""
    return [name for name in dataset_names() if name.startswith(incomplete.lower())]


def complete_run(incomplete: str) -> list[str]:
    """Folders of runs that begin with what is typed, those under ./runs too before anything is."""
    given = Path(incomplete)
    places = [given if incomplete.endswith("/") else given.parent]
    if not incomplete or (places[0] == Path() and "runs".startswith(incomplete)):
        places.append(Path("runs"))
    inside = [Path(incomplete)] if Path(incomplete).is_dir() else []
    found = {str(run) for place in [*places, *inside] for run in _runs(place)}
    return sorted(run for run in found if run.startswith(incomplete.removeprefix("./")))


def _runs(place: Path) -> Iterator[Path]:
    try:
        yield from (folder.parent for folder in place.glob("*/settings.json"))
    except OSError:  # a folder that may not be read has nothing to offer
        return


def words(*choices: str) -> Callable[[str], list[str]]:
    """Completion of an option that takes one of some words."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


RunFolder = Annotated[
    Path,
    typer.Argument(
        help="Folder that `graphlore fit` wrote.", show_default=False, autocompletion=complete_run
    ),
]
NodeTypes = Annotated[
    str | None,
    typer.Option(help="Of a set's .npz file: the array with the types of the nodes."),
]
EdgeTypes = Annotated[
    str | None,
    typer.Option(help="Of a set's .npz file: the array with the types of the edges."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of an edge list is a header; found out if not said.",
        show_default=False,
    ),
]
