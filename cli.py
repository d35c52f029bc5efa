"""The command line: ``graphlore fit | evaluate | generate | report``."""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # torch and Pyro are loaded by the commands, not by --help
    from .data import Split
    from .inference import Fit

app = typer.Typer(
    name="graphlore",
    help="Deep generative models of graphs: fit a story to a graph, look at its posterior, predict with it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)


class Model(StrEnum):
    dglfrm = "dglfrm"
    dglfrm_b = "dglfrm-b"
    lfrm = "lfrm"
    sbm = "sbm"
    vgae = "vgae"
    gae = "gae"


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


RunFolder = Annotated[
    Path, typer.Argument(help="Folder that `graphlore fit` wrote.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def fit(
    graph: Annotated[
        str,
        typer.Argument(
            help="A known name (karate, cora, ...) or a graph file.", show_default=False
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
        str | None, typer.Option(help="none, global or node (node corrects for degrees).")
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
        str | None, typer.Option(help="Generate features too: bernoulli or normal.")
    ] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            help="dyadic, local_expectation, expectation, disarm, reinforce, concrete or straight_through."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam, at the start.")] = None,
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
    draws: Annotated[int, typer.Option(help="Posterior draws of the report.")] = 500,
    directed: Annotated[
        bool, typer.Option("--directed", help="Read the file as a directed graph.")
    ] = False,
    weights: Annotated[
        bool,
        typer.Option(
            "--weights", help="Read edge weights (a third column), for counts or weights."
        ),
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Drop self-loops and repeated edges.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a story to a graph and write settings, weights, history, posterior, pictures and a report.

    Without a recipe: DGLFRM with K = 10, alpha = 2 and a global bias, f of widths 32 and 16, the structured guide,
    exact memberships, 1,500 steps with a KL warm-up of 500. Other models have defaults of their own, which the run's
    settings.json shows.

    Examples:

        graphlore fit karate --restarts 3

        graphlore fit karate --model sbm --truncation 2 --bias node --likelihood poisson

        graphlore fit friends.csv --truncation 8 --bias node --hold-out

        graphlore fit cora --recipe cora.toml --split cora_split0.npz
    """
    from . import data, inference, plots

    kind = model or Model.dglfrm
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
            "seed": seed,
            "device": device,
        },
    }
    overrides = {
        t: {k: v for k, v in values.items() if v is not None} for t, values in chosen.items()
    }
    if guide is GuideKind.mean_field and kind not in _SIZES:
        overrides["story"].setdefault("sticks", "local")
    if recipe is None:
        plan = inference.Recipe.default(kind.value, **overrides["story"])
    else:
        plan = inference.Recipe.read(recipe)
        if model is not None:
            plan = plan.override(story=_named(kind))
    plan = plan.override(**overrides)
    if (
        plan.guide.get("amortised") is False
    ):  # what the default says of an encoder has nothing to describe
        plan = plan.without("guide", "hidden")

    flags = (("directed", directed), ("weights", weights), ("clean", clean))
    options = {name: True for name, given in flags if given}
    observed = data.load(graph, **options)
    held_out = _held_out(observed, split, hold_out, plan.settings.seed)
    folder = out or Path("runs") / observed.title
    try:
        fitted = inference.fit_recipe(
            plan,
            observed if held_out is None else held_out,
            restarts,
            folder=folder,
            resume=resume,
            progress=not (quiet or as_json),
        )
    except KeyboardInterrupt:
        _fail("stopped; a run with one start goes on from its last checkpoint with --resume", 130)
    fitted.save(folder)
    if held_out is not None:
        data.write_npz(held_out.full, folder / "full.npz")
        held_out.save(folder / "split.npz")
    page, _, _ = plots.write_results(
        fitted, folder, split=held_out, draws=draws, reproduce=_command()
    )
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"folder": str(folder), "report": str(page), **numbers}))
    else:
        _print_numbers(numbers["numbers"], f"{type(fitted.story).__name__} on {observed.title}")
        console.print(f"report: [bold]{page}[/]")


@app.command()
def evaluate(
    run: RunFolder,
    part: Annotated[Part, typer.Option(help="Which held-out pairs.")] = Part.test,
    split: Annotated[
        Path | None, typer.Option(help="npz file of the split, if the run has none.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out pairs: AUC, AP, Hits@k, log-loss, Brier, calibration, expected edges.

    Example:

        graphlore evaluate runs/friends --part test
    """
    fitted = _load(run)
    found = fitted.evaluate(_saved_split(run, split), part.value, draws).to_dict()
    if as_json:
        print(json.dumps(found))
        return
    flat = {k: v for k, v in found.items() if not isinstance(v, dict)}
    flat |= {f"hits@{k}": v for k, v in found["hits"].items()}
    flat |= {f"active communities, {k}": v for k, v in (found["active"] or {}).items()}
    _print_numbers(flat, f"{run}, {part.value}")


@app.command()
def generate(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the graphs.")] = Path("generated"),
    count: Annotated[int, typer.Option(help="How many graphs.")] = 10,
    source: Annotated[str, typer.Option("--from", help="posterior or prior.")] = "posterior",
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw graphs from the posterior predictive (or the prior) of a run, one edge list a file.

    Example:

        graphlore generate runs/karate --count 5 --from posterior
    """
    from .data import to_networkx

    graphs = _load(run).generate(count, source, seed)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for i, graph in enumerate(graphs):
        path = out / f"graph_{i:04d}.csv"
        lines = [f"{a},{b}" for a, b in to_networkx(graph).edges()]
        path.write_text("\n".join(["source,target", *lines]) + "\n", encoding="utf-8")
        files.append({"file": str(path), "nodes": graph.num_nodes, "edges": graph.num_edges})
    if as_json:
        print(json.dumps(files))
        return
    table = Table("file", "nodes", "edges")
    for row in files:
        table.add_row(*map(str, row.values()))
    console.print(table)


@app.command()
def report(
    run: RunFolder,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 500,
) -> None:
    """Write posterior.nc, the pictures and report.html of a run anew.

    Example:

        graphlore report runs/karate --draws 1000
    """
    from . import plots

    split = _saved_split(run, None) if (run / "split.npz").exists() else None
    page, _, _ = plots.write_results(
        _load(run), run, split=split, draws=draws, reproduce=_command()
    )
    console.print(f"report: [bold]{page}[/]")


def main() -> None:
    """Run the command line; what a user can mend ends in one line on standard error and exit code 2."""
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(show_path=False)]
    )
    try:
        app()
    except (ValueError, OSError) as error:
        _fail(str(error))
    except RuntimeError as error:
        if type(error).__name__ != "InferenceError":
            raise
        _fail(str(error))


#: what --truncation sets
_SIZES = {Model.sbm: "num_blocks", Model.vgae: "dimension", Model.gae: "dimension"}
_GUIDES = {GuideKind.structured: "StructuredMeanField", GuideKind.mean_field: "MeanField"}


def _fail(message: str, code: int = 2) -> NoReturn:
    # one line: what Pyro appends to a message (the shapes of a trace) is for a story's author
    line = escape(message.splitlines()[0] if message else "failed without a word")
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]graphlore:[/] {line}")
    sys.exit(code)


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
    from . import data

    if file is not None:
        return data.given_split(graph, file)
    return data.random_split(graph, seed=seed) if random else None


def _saved_split(run: Path, file: Path | None) -> Split:
    from . import data

    given = file or run / "split.npz"
    if not given.exists():
        raise ValueError(
            f"{run} holds no split ({given} is not there): fit with --hold-out or --split, so that "
            "there are pairs to score"
        )
    full = run / "full.npz"
    if not full.exists():
        logging.warning(
            "the run was fitted to the whole graph: these pairs were not held out from it"
        )
        full = run / "graph.npz"
    return data.given_split(data.read_graph(full), given)


def _load(run: Path) -> Fit:
    from .inference import Fit

    return Fit.load(run)


def _command() -> str:
    return " ".join(["graphlore", *sys.argv[1:]])


def _print_numbers(numbers: dict[str, Any], title: str) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in numbers.items():
        table.add_row(name, f"{value:.5g}" if isinstance(value, float) else str(value))
    console.print(table)


if __name__ == "__main__":
    main()
