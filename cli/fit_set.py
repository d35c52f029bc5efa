"""``graphlore fit`` of a story of many graphs: what it takes, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Model
from .output import command, errors, fail, print_json, print_numbers, say
from .runs import run_name

if TYPE_CHECKING:
    from ..data import GraphSet
    from ..inference import SetRecipe

__all__ = ["fit_set", "refuse_options_of_sets", "refuse_set", "tells_sets"]

_MODELS = (Model.sgvae, Model.sggn)
#: options of fit that sets alone have, and what one graph has in their place
_OF_SETS = {
    "epochs": "--steps",
    "batch_size": "--batch-edges",
    "order": "no order of nodes",
    "node_types": "labels",
    "edge_types": "--weights",
}
_SHARED = {"graph", "out", "recipe", "model", "learning_rate", "seed", "device", "draws"}
_SHARED |= {"resume", "quiet", "as_json"}


def tells_sets(model: Model | None, recipe: Path | None) -> bool:
    """Whether the story asked for is one of many graphs."""
    if model is not None or recipe is None:
        return model in _MODELS
    from ..inference.tables import read_tables

    name = read_tables(recipe)["story"].get("name")
    return isinstance(name, str) and name.lower() in _MODELS


def refuse_options_of_sets(given: Collection[str]) -> None:
    """What a story of one graph does not take.

    Raises:
        ValueError: it names the first of them.
    """
    for name in _OF_SETS:
        if name in given:
            raise ValueError(
                f"{_flag(name)} is for sets of graphs (--model sgvae or sggn); one graph has {_OF_SETS[name]}"
            )


def refuse_set(graph: str, model: str) -> None:
    """A set of graphs given to a story of one graph.

    Raises:
        ValueError: as said.
    """
    from .. import data

    if data.holds_set(graph):
        raise ValueError(
            f"{graph} is a set of graphs, and {model} tells of one graph: fit it with --model sgvae (a latent, and "
            "orders that are inferred) or --model sggn (a given order)"
        )


def fit_set(name: str, options: dict[str, Any], given: Collection[str]) -> None:
    """Fit a story of many graphs.

    Arguments:
        name: of a known set, or a file.
        options: of the command, by parameter.
        given: those that the user gave.

    Raises:
        ValueError: options that are not for sets, no set of graphs.
    """
    from .. import inference, plots

    foreign = sorted(set(given) - _SHARED - set(_OF_SETS))
    if foreign:
        raise ValueError(
            f"{_flag(foreign[0])} is for stories of one graph; of many graphs take --epochs, --batch-size, --order "
            "(sggn), --learning-rate, --seed, --device, or a --recipe for what story and guide have"
        )
    draws = 1_000 if options["draws"] is None else options["draws"]
    if draws < 1:
        raise ValueError(f"--draws is at least 1, not {draws}")
    graphs = _read(name, options)
    plan = _plan(graphs, options)
    folder = options["out"] or Path("runs") / run_name(graphs.title)
    device = options["device"] or "cpu"
    silent = options["quiet"] or options["as_json"]
    first = inference.join_job(device).rank == 0  # of torchrun's processes: it writes
    with inference.locked(folder):
        try:
            fitted = inference.fit_set(
                plan,
                graphs,
                folder=folder,
                resume=options["resume"],
                progress=first and not silent,
                device=device,
            )
        except KeyboardInterrupt:
            if inference.has_checkpoint(folder):
                fail(
                    "stopped; the same command with --resume goes on from the last checkpoint", 130
                )
            fail("stopped before the first epoch was done: there is nothing to resume", 130)
        if not first:
            return
        fitted.story.to("cpu")
        if fitted.guide is not None:
            fitted.guide.to("cpu")
        fitted.save(folder)
        if not silent:
            errors().print("fitted; draws from the prior, pictures and report follow")
        page, _ = plots.write_set_results(fitted, folder, draws=draws, reproduce=command())
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    if options["as_json"]:
        print_json({"folder": str(folder), "report": str(page), **numbers})
    else:
        print_numbers(numbers["numbers"], f"{plan.name} on {graphs.title}")
        say(f"report: [bold]{page}[/]")


def _read(name: str, options: dict[str, Any]) -> GraphSet:
    from .. import data

    if name.lower() in data.catalogue():
        raise ValueError(
            f"{name} is one graph, and sgvae and sggn tell of many: give a set ({', '.join(data.catalogue_of_sets())} "
            "or an .npz file of one), or another --model"
        )
    types = {n: options[n] for n in ("node_types", "edge_types") if options[n] is not None}
    return data.load_set(name, **types)


def _plan(graphs: GraphSet, options: dict[str, Any]) -> SetRecipe:
    from .. import inference

    model, recipe = options["model"], options["recipe"]
    if recipe is None:
        plan = inference.SetRecipe.default(model.value, graphs)
    else:
        plan = inference.SetRecipe.read(recipe, graphs, None if model is None else model.value)
    if options["order"] is not None and plan.has_guide:
        raise ValueError("--order is for sggn: of sgvae the guide infers the order")
    chosen = ("epochs", "batch_size", "order", "learning_rate", "seed")
    return plan.override(fit={n: options[n] for n in chosen if options[n] is not None})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
