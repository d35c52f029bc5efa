"""``graphlore predict``."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Among, AsJson, RunFolder
from .output import destination, print_json, print_table, say
from .runs import load_run, names_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Graph
    from ..inference import Fit


def predict(
    run: RunFolder,
    pairs: Annotated[
        Path | None,
        typer.Argument(help="CSV file with two columns of node names.", show_default=False),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="The K most probable links instead of given pairs.", show_default="10"),
    ] = None,
    among: Annotated[
        Among | None,
        typer.Option(
            help="Of --top: pairs that were not observed, observed pairs without a link, or both.",
            show_default="missing, or absent if nothing is",
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Classes of the nodes instead (fits with --classify).")
    ] = False,
    graph: Annotated[
        str | None,
        typer.Option(
            help="Another graph file, whose nodes need not have been seen; needs an encoder of features."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws to average over.")] = 200,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws.", show_default="of the fit")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file to write the table to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Predict links (or counts, weights, classes), with the names of the nodes.

    `probability` is the posterior probability of a link; `expected` the expected count or weight, where edges have
    any; `observed` what the run was told: 1 (or the value) for a link, 0 for none, nothing for a pair it was not shown.

    Examples:

        graphlore predict runs/friends --top 5

        graphlore predict runs/friends pairs.csv --out predicted.csv
    """
    from ..data.atomic import replacing

    if pairs is not None and (top is not None or among is not None or labels):
        raise ValueError("give pairs, or --top with --among, or --labels: they exclude each other")
    if labels and (top is not None or among is not None):
        raise ValueError("--labels predicts classes of nodes; --top and --among are for links")
    fitted = load_run(run)
    if graph is not None:
        fitted = _seen_anew(fitted, graph)
    if labels:
        columns, rows = _labels(fitted, draws, seed)
        title = f"classes of {fitted.graph.title}"
    else:
        chosen = _pairs(fitted, pairs, 10 if top is None else top, among, draws, seed)
        columns, rows = _links(fitted, chosen, draws, seed)
        title = f"links of {fitted.graph.title}"
    if out is not None:
        with (
            replacing(destination(out)) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif out is not None:
        say(f"{len(rows):,} rows: [bold]{out}[/]")
    else:
        print_table(columns, rows, title)


def _seen_anew(fitted: Fit, name: str) -> Fit:
    """The same posterior, asked about another graph."""
    from ..data import load

    options = fitted.guide.options
    if not options.get("amortised") or options.get("inputs") != "features":
        raise ValueError(
            "--graph needs a guide whose encoder reads features; this one knows its own nodes only "
            "(fit a graph with features, without --free)"
        )
    asked: dict[str, Any] = {"directed": True} if fitted.graph.directed else {}
    other = load(name, **asked)
    width = None if fitted.graph.features is None else fitted.graph.features.shape[1]
    have = None if other.features is None else other.features.shape[1]
    if have != width:
        raise ValueError(
            f"the run's graph has {width} features a node, {other.title!r} has {have or 'none'}"
        )
    return dataclasses.replace(fitted, graph=other.to(fitted.settings.device))


def _pairs(
    fitted: Fit, file: Path | None, k: int, among: Among | None, draws: int, seed: int | None
) -> Tensor:
    """Given pairs, or the most probable ones, (2, P)."""
    from ..data import read_pairs

    if file is not None:
        return read_pairs(file, fitted.graph)
    if k < 1:
        raise ValueError(f"--top is at least 1, not {k}")
    if fitted.story.likelihood == "normal":
        raise ValueError(
            "weights have no link probabilities to rank pairs by: give the pairs in a file"
        )
    hidden = fitted.graph.missing.shape[1] > 0
    if among is None:
        among = Among.missing if hidden else Among.absent
    if among is Among.missing and not hidden:
        raise ValueError(
            "the run observed every pair: there is none missing; --among absent ranks pairs without a link"
        )
    return fitted.top_links(k, among.value, draws, seed)[0]


def _links(
    fitted: Fit, pairs: Tensor, draws: int, seed: int | None
) -> tuple[list[str], list[list[Any]]]:
    names, graph = names_of(fitted.graph), fitted.graph
    columns: list[str] = ["source", "target"]
    values: list[list[Any]] = []
    if fitted.story.likelihood != "normal":
        columns.append("probability")
        values.append(fitted.link_probabilities(pairs, draws, seed).tolist())
    if fitted.story.likelihood != "bernoulli":
        columns.append("expected")
        values.append(fitted.expected_values(pairs, draws, seed).tolist())
    columns.append("observed")
    values.append(_observed(graph, pairs, fitted.story.likelihood != "bernoulli"))
    ends = [[names[a], names[b]] for a, b in pairs.T.tolist()]
    return columns, [[*e, *v] for e, v in zip(ends, zip(*values, strict=True), strict=True)]


def _observed(graph: Graph, pairs: Tensor, weighted: bool) -> list[float | None]:
    """What was observed of pairs (2, P): 1 or the weight of a link, 0, or None where the pair is missing."""

    def keys(ids: Any) -> list[tuple[int, int]]:
        found = ids.T.tolist()
        return [(a, b) if graph.directed or a < b else (b, a) for a, b in found]

    edges = keys(graph.edge_index)
    values = graph.weights.tolist() if weighted and graph.weights is not None else [1] * len(edges)
    known: dict[tuple[int, int], Any] = dict(zip(edges, values, strict=True))
    known |= dict.fromkeys(keys(graph.missing))
    return [known.get(key, 0) for key in keys(pairs)]


def _labels(fitted: Fit, draws: int, seed: int | None) -> tuple[list[str], list[list[Any]]]:
    graph = fitted.graph
    if fitted.story.num_classes is None:
        raise ValueError(
            "the run has no classes to predict: fit a graph with labels with --classify"
        )
    p = fitted.label_probabilities(draws, seed)
    names = graph.label_names or [str(c) for c in range(p.shape[1])]
    words = [names[c] if c < len(names) else str(c) for c in range(p.shape[1])]
    best = p.max(-1)
    given = [-1] * graph.num_nodes if graph.labels is None else graph.labels.tolist()
    rows = zip(names_of(graph), best.indices.tolist(), best.values.tolist(), given, strict=True)
    columns = ["node", "class", "probability", "observed"]
    return columns, [[n, words[c], q, None if y < 0 else words[y]] for n, c, q, y in rows]
