"""``graphlore generate``."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, RunFolder, words
from .output import destination, print_json, print_table, say
from .runs import load_any_run, names_of

if TYPE_CHECKING:
    from ..data import Graph, GraphSet

    #: nodes, the two ends of every edge, and perhaps a value of each
    _Rows = tuple[int, Sequence[Sequence[Any]], Sequence[Any] | None]


def generate(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(help="Folder for the graphs; of a fit to a set also one file, .npz."),
    ] = Path("generated"),
    count: Annotated[int, typer.Option(help="How many graphs.")] = 10,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="posterior or prior.",
            show_default="posterior; prior of a fit to a set",
            autocompletion=words("posterior", "prior"),
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw graphs from the posterior predictive (or the prior) of a run, one edge list a file.

    An edge list does not know of nodes without edges, nor of their types; an .npz file of a set does.

    Examples:

        graphlore generate runs/karate --count 5 --from posterior

        graphlore generate runs/cycles --count 100 --out rings.npz
    """
    from .. import data, inference

    fitted = load_any_run(run)
    if isinstance(fitted, inference.SequentialFit):
        if source not in (None, "prior"):
            raise ValueError(
                f"a fit to a set of graphs draws from the 'prior', not from {source!r}"
            )
        drawn = fitted.generate(count, seed)
        if out.suffix.lower() == ".npz":
            path = data.write_graphset(drawn, destination(out))
            sizes = {"file": str(path), "graphs": len(drawn), "nodes": int(drawn.num_nodes.sum())}
            told = {**sizes, "edges": drawn.edge_index.shape[1]}
            if as_json:
                print_json(told)
            else:
                say(f"{len(drawn):,} graphs: [bold]{path}[/]")
            return
        third, rows = "type", _of_set(drawn)
    else:
        third, rows = "weight", _of_graphs(fitted.generate(count, source or "posterior", seed))
    files = _edge_lists(rows, out, third)
    if as_json:
        print_json(files)
    else:
        print_table(("file", "nodes", "edges"), (row.values() for row in files))


def _of_graphs(graphs: Iterable[Graph]) -> Iterator[_Rows]:
    for graph in graphs:
        names = names_of(graph)
        ends = [(names[a], names[b]) for a, b in graph.edge_index.T.tolist()]
        yield graph.num_nodes, ends, None if graph.weights is None else graph.weights.tolist()


def _of_set(graphs: GraphSet) -> Iterator[_Rows]:
    """Straight from the set, whose graphs may have one node."""
    pairs, bounds = graphs.edge_index.T.tolist(), itertools.pairwise(graphs.edge_ptr.tolist())
    types = None if graphs.edge_types is None else graphs.edge_types.tolist()
    for nodes, (a, b) in zip(graphs.num_nodes.tolist(), bounds, strict=True):
        yield nodes, pairs[a:b], None if types is None else types[a:b]


def _edge_lists(rows: Iterable[_Rows], out: Path, third: str) -> list[dict[str, Any]]:
    """One CSV file a graph, with a third column where edges have a value."""
    from ..data.atomic import replacing

    out.mkdir(parents=True, exist_ok=True)
    files = []
    for i, (nodes, ends, values) in enumerate(rows):
        path = out / f"graph_{i:04d}.csv"
        with (
            replacing(path) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["source", "target", *([] if values is None else [third])])
            for e, pair in enumerate(ends):
                lines.writerow([*pair, *([] if values is None else [values[e]])])
        files.append({"file": str(path), "nodes": nodes, "edges": len(ends)})
    return files
