"""``graphlore generate``."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, RunFolder, words
from .output import destination, print_json, print_table, say
from .runs import load_any_run, names_of

if TYPE_CHECKING:
    from ..data import Graph


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
        ends = drawn.edge_ptr.tolist()
        kinds = None if drawn.edge_types is None else drawn.edge_types.tolist()
        third = None
        if kinds is not None:
            third = [kinds[a:b] for a, b in itertools.pairwise(ends)]
        files = _edge_lists(list(drawn), out, "type", third)
    else:
        graphs = fitted.generate(count, "posterior" if source is None else source, seed)
        weights = [g.weights.tolist() for g in graphs if g.weights is not None]
        files = _edge_lists(graphs, out, "weight", weights or None)
    if as_json:
        print_json(files)
    else:
        print_table(("file", "nodes", "edges"), (row.values() for row in files))


def _edge_lists(
    graphs: Sequence[Graph], out: Path, third: str, values: Sequence[Sequence[Any]] | None
) -> list[dict[str, Any]]:
    """One CSV file a graph, with a third column where there are values a graph and edge."""
    from ..data.atomic import replacing

    out.mkdir(parents=True, exist_ok=True)
    files = []
    for i, graph in enumerate(graphs):
        path = out / f"graph_{i:04d}.csv"
        names = names_of(graph)
        with (
            replacing(path) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["source", "target", *([] if values is None else [third])])
            for e, (a, b) in enumerate(graph.edge_index.T.tolist()):
                lines.writerow([names[a], names[b], *([] if values is None else [values[i][e]])])
        files.append({"file": str(path), "nodes": graph.num_nodes, "edges": graph.num_edges})
    return files
