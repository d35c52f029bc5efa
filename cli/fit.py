"""``graphlore fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .fit_set import fit_set, refuse_options_of_sets, refuse_set, tells_sets
from .options import (
    AsJson,
    EdgeTypes,
    GuideKind,
    Header,
    Likelihood,
    Model,
    NodeTypes,
    Order,
    complete_graph,
    options_given,
    words,
)
from .output import command, errors, fail, print_json, print_numbers, say
from .runs import run_name

if TYPE_CHECKING:
    from ..data import Split

_GRADIENTS = (
    "dyadic",
    "local_expectation",
    "expectation",
    "disarm",
    "reinforce",
    "concrete",
    "straight_through",
)


def fit(
    context: typer.Context,
    graph: Annotated[
        str,
        typer.Argument(
            help="A known name (karate, cora, ...; cycles, ...), a graph file, or an .npz file of a set of graphs.",
            show_default=False,
            autocompletion=complete_graph,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run.", show_default="runs/NAME")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="TOML file (or a run's settings.json) with tables story, guide, fit."),
    ] = None,
    model: Annotated[Model | None, typer.Option(help="The story.", show_default="dglfrm")] = None,
    guide: Annotated[
        GuideKind | None, typer.Option(help="The guide.", show_default="structured")
    ] = None,
    truncation: Annotated[
        str | None,
        typer.Option(
            help="Largest number of communities (blocks of sbm, dimensions of vgae), K; or auto.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Concentration of the Indian buffet process, or of sbm's Dirichlet."),
    ] = None,
    bias: Annotated[
        str | None,
        typer.Option(
            help="none, global or node (node corrects for degrees).",
            autocompletion=words("none", "global", "node"),
        ),
    ] = None,
    likelihood: Annotated[
        Likelihood | None,
        typer.Option(help="Of an edge: there or not, a count, a weight.", show_default="bernoulli"),
    ] = None,
    classify: Annotated[
        bool, typer.Option("--classify", help="Generate the labels too, and predict missing ones.")
    ] = False,
    free: Annotated[
        bool, typer.Option("--free", help="A guide with parameters for every node, no encoder.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="Generate features too: bernoulli or normal.",
            autocompletion=words("bernoulli", "normal"),
        ),
    ] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            help="dyadic, local_expectation, expectation, disarm, reinforce, concrete or straight_through.",
            autocompletion=words(*_GRADIENTS),
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over a set of graphs (sgvae, sggn).")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Graphs of a set in a step.")] = None,
    order: Annotated[
        Order | None,
        typer.Option(
            help="In which sggn is told of a graph's nodes.", show_default="breadth-first"
        ),
    ] = None,
    node_types: NodeTypes = None,
    edge_types: EdgeTypes = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam, at the start.")] = None,
    batch_edges: Annotated[
        int | None,
        typer.Option(help="Edges drawn for a step, for large graphs; all of the graph without."),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option(help="Starts from different weights; the best ELBO (or validation) is kept."),
    ] = 1,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out", help="Hide 5 % of the links for validation and 10 % for a test."
        ),
    ] = False,
    split: Annotated[Path | None, typer.Option(help="npz file with given held-out pairs.")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Posterior draws of the report; of a set, graphs drawn from the prior.",
            show_default="500, on large graphs fewer; 1000 of a set",
        ),
    ] = None,
    directed: Annotated[
        bool, typer.Option("--directed", help="Read the file as a directed graph.")
    ] = False,
    weights: Annotated[
        bool,
        typer.Option(
            "--weights", help="Read edge weights (a third column), for counts or weights."
        ),
    ] = False,
    header: Header = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Drop self-loops and repeated edges.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoints in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a story to a graph, or to a set of graphs, and write settings, weights, history, pictures and a report.

    Without a recipe: DGLFRM with K = 10, alpha = 2 and a global bias, f of widths 32 and 16, the structured guide,
    exact memberships, 1,500 steps with a KL warm-up of 500. Other models, and graphs of more than 500 million dyads,
    have defaults of their own, which the run's settings.json shows.

    Examples:

        graphlore fit karate --restarts 3

        graphlore fit karate --model sbm --truncation 2 --bias node --likelihood poisson

        graphlore fit friends.csv --truncation 8 --bias node --hold-out

        graphlore fit cora --recipe cora.toml --split cora_split0.npz

        graphlore fit cycles --model sgvae

        graphlore fit twitter.npz --hold-out
    """
    from .. import data, inference, plots

    inference.keep_freed_memory()
    given_options = options_given(context)
    if tells_sets(model, recipe):
        fit_set(graph, context.params, given_options)
        return
    refuse_options_of_sets(given_options)
    kind = model or Model.dglfrm
    refuse_set(graph, kind.value)
    chosen: dict[str, dict[str, Any]] = {
        "story": {
            _SIZES.get(kind, "truncation"): _size(truncation),
            "alpha": alpha,
            "bias": bias,
            "features": features,
            "likelihood": None if likelihood is None else likelihood.value,
            "num_classes": "auto" if classify else None,
        },
        "guide": {
            "name": None if guide is None else _GUIDES[guide],
            "amortised": False if free else None,
        },
        "fit": {
            "gradient": gradient,
            "steps": steps,
            "learning_rate": learning_rate,
            "batch_edges": batch_edges,
            "seed": seed,
            "device": device,
        },
    }
    overrides = {
        t: {k: v for k, v in values.items() if v is not None} for t, values in chosen.items()
    }
    if guide is GuideKind.mean_field and kind not in _SIZES:
        overrides["story"].setdefault("sticks", "local")
    flags = (("directed", directed), ("weights", weights), ("clean", clean))
    options: dict[str, Any] = {name: True for name, given in flags if given}
    if header is not None:
        options["header"] = header
    read = None if recipe is None else inference.Recipe.read(recipe)  # before a large graph is
    observed = data.load(graph, **options)
    plan = read or inference.Recipe.default(kind.value, observed, **overrides["story"])
    if read is not None and model is not None:
        plan = plan.override(story=_named(kind))
    plan = plan.override(**overrides)
    if (
        plan.guide.get("amortised") is False
    ):  # what the default says of an encoder has nothing to describe
        plan = plan.without("guide", "hidden")
    held_out = _held_out(observed, split, hold_out, plan.settings.seed)
    folder = out or Path("runs") / run_name(observed.title)
    first = inference.join_job(plan.settings.device).rank == 0  # of torchrun's processes: it writes
    with inference.locked(folder):
        try:
            fitted = inference.fit_recipe(
                plan,
                observed if held_out is None else held_out,
                restarts,
                folder=folder,
                resume=resume,
                progress=first and not (quiet or as_json),
            )
        except KeyboardInterrupt:
            fail("stopped; the same command with --resume goes on from the last checkpoint", 130)
        if not first:
            return
        fitted.save(folder)
        if held_out is not None:
            data.write_npz(held_out.full, folder / "full.npz")
            held_out.save(folder / "split.npz")
        if not (quiet or as_json):
            errors().print("fitted; drawing from the posterior, pictures and report follow")
        page, _, _ = plots.write_results(
            fitted,
            folder,
            split=held_out,
            draws=draws,
            reproduce=command(),
            progress=False if quiet or as_json else None,
        )
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"folder": str(folder), "report": str(page), **numbers})
    else:
        print_numbers(numbers["numbers"], f"{type(fitted.story).__name__} on {observed.title}")
        say(f"report: [bold]{page}[/]")


#: what --truncation sets
_SIZES = {Model.sbm: "num_blocks", Model.vgae: "dimension", Model.gae: "dimension"}
_GUIDES = {GuideKind.structured: "StructuredMeanField", GuideKind.mean_field: "MeanField"}


def _size(given: str | None) -> int | str | None:
    """What --truncation says: a number, or auto."""
    if given is None or given == "auto":
        return given
    try:
        return int(given)
    except ValueError:
        raise ValueError(f"--truncation is a whole number or auto, not {given!r}") from None


def _named(model: Model) -> dict[str, Any]:
    """The story of a model, over one that a recipe names."""
    if model in (Model.dglfrm, Model.dglfrm_b):
        return {"name": "DGLFRM", "strengths": model is Model.dglfrm}
    return {"name": model.value.upper()}


def _held_out(graph: Any, file: Path | None, random: bool, seed: int) -> Split | None:
    from .. import data

    if file is not None:
        return data.given_split(graph, file)
    return data.random_split(graph, seed=seed) if random else None
