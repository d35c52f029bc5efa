"""``graphlore generate``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, RunFolder, words
from .output import print_json, print_table
from .runs import load_run, names_of


def generate(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the graphs.")] = Path("generated"),
    count: Annotated[int, typer.Option(help="How many graphs.")] = 10,
    source: Annotated[
        str,
        typer.Option(
            "--from", help="posterior or prior.", autocompletion=words("posterior", "prior")
        ),
    ] = "posterior",
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw graphs from the posterior predictive (or the prior) of a run, one edge list a file.

    Example:

        graphlore generate runs/karate --count 5 --from posterior
    """
    from ..data.atomic import replacing

    graphs = load_run(run).generate(count, source, seed)
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
            weights = [] if graph.weights is None else graph.weights.tolist()
            lines.writerow(["source", "target", *(["weight"] if weights else [])])
            for e, (a, b) in enumerate(graph.edge_index.T.tolist()):
                lines.writerow([names[a], names[b], *weights[e : e + 1]])
        files.append({"file": str(path), "nodes": graph.num_nodes, "edges": graph.num_edges})
    if as_json:
        print_json(files)
    else:
        print_table(("file", "nodes", "edges"), (row.values() for row in files))
