"""``graphlore data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .data_set import look_at_set
from .options import AsJson, EdgeTypes, Header, NodeTypes, complete_graph, options_given
from .output import print_json, print_numbers, print_table, say
from .runs import names_of

if TYPE_CHECKING:
    from ..data import EdgeList, Graph


def data(
    context: typer.Context,
    graph: Annotated[
        str | None,
        typer.Argument(
            help="A known name, a graph file, or an .npz file of a set; without it the known ones are listed.",
            show_default=False,
            autocompletion=complete_graph,
        ),
    ] = None,
    directed: Annotated[
        bool, typer.Option("--directed", help="Read the file as a directed graph.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Read edge weights (a third column).")
    ] = False,
    header: Header = None,
    node_types: NodeTypes = None,
    edge_types: EdgeTypes = None,
    as_json: AsJson = False,
) -> None:
    """List the known datasets, or look at a graph or a set before fitting: what was understood, which stories suit.

    Examples:

        graphlore data

        graphlore data friends.csv
    """
    from .. import data as room

    if graph is None:
        known = room.catalogue()
        if as_json:
            both = {**known, **room.catalogue_of_sets()}
            print_json([{"name": name, **facts} for name, facts in both.items()])
            return
        columns = ("name", "nodes", "edges", "features", "classes", "what it is", "needs")
        rows = (
            [name, *(f[c] for c in ("nodes", "edges", "features", "classes", "about", "needs"))]
            for name, f in known.items()
        )
        print_table(columns, rows, "known datasets; the path of a graph file does too")
        sets = (
            [name, *(f[c] for c in ("graphs", "nodes", "edges", "about"))]
            for name, f in room.catalogue_of_sets().items()
        )
        heads = ("name", "graphs", "nodes", "edges", "what it is")
        print_table(heads, sets, "known sets of graphs; an .npz file does too")
        return
    types = {"node_types": node_types, "edge_types": edge_types}
    if room.holds_set(graph):
        if wrong := options_given(context) & {"directed", "weights", "header"}:
            raise ValueError(
                f"--{min(wrong)} is for files of one graph; {graph} is a set of graphs"
            )
        look_at_set(graph, {k: v for k, v in types.items() if v is not None}, as_json)
        return
    if wrong := options_given(context) & set(types):
        raise ValueError(f"--{min(wrong).replace('_', '-')} is for sets of graphs; {graph} is none")
    flags = (("directed", directed), ("weights", weights))
    options: dict[str, Any] = {name: True for name, given in flags if given}
    if header is not None:
        options["header"] = header
    path = Path(graph)
    listed = None
    if graph.lower() not in room.catalogue():
        if path.suffix.lower() in (".csv", ".tsv", ".txt", ".edges") and path.is_file():
            try:
                listed = room.parse_edge_list(path, weights=weights, header=header)
            except room.GraphError as error:
                raise ValueError(f"{path.name}: {error}") from None
        options["clean"] = True
    found = room.load(graph, **options)
    facts = _facts(found, listed)
    notes = _notes(listed, directed, weights)
    stories = _stories(found, listed)
    if as_json:
        print_json(
            {**facts, "notes": notes, "stories": [{"command": c, "why": w} for c, w in stories]}
        )
        return
    print_numbers({k.replace("_", " "): v for k, v in facts.items()}, found.title)
    for note in notes:
        say(f"[yellow]note:[/] {note}")
    print_table(("story", "suits because"), stories, "stories that suit")


def _facts(graph: Graph, listed: EdgeList | None) -> dict[str, Any]:
    import networkx as nx

    from ..data import to_networkx

    net = to_networkx(graph)
    parts = list(
        nx.weakly_connected_components(net) if graph.directed else nx.connected_components(net)
    )
    degree = graph.degrees
    names = names_of(graph)
    top = degree.argsort(descending=True, stable=True)[:3].tolist()
    facts: dict[str, Any] = {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "directed": graph.directed,
        "bipartite": graph.parts is not None,
        "density": graph.density,
        "missing_pairs": graph.missing.shape[1],
        "components": len(parts),
        "largest_component": max(map(len, parts)),
        "mean_degree": float(degree.float().mean()),
        "largest_degrees": ", ".join(f"{names[i]} ({int(degree[i])})" for i in top),
        "weights": None,
        "features": 0 if graph.features is None else graph.features.shape[1],
        "labels": None,
        "names": graph.names is not None,
    }
    if graph.weights is not None:
        w = graph.weights
        whole = bool((w == w.round()).all() and (w > 0).all())
        facts["weights"] = (
            f"{'counts' if whole else 'real'}, {float(w.min()):.4g} to {float(w.max()):.4g}"
        )
    if graph.labels is not None:
        known = graph.labels[graph.labels >= 0]
        sizes = known.bincount().tolist()
        words = graph.label_names or [str(c) for c in range(len(sizes))]
        told = ", ".join(f"{word} ({n})" for word, n in zip(words, sizes, strict=False))
        facts["labels"] = f"{told}; {graph.num_nodes - len(known)} nodes without"
    if listed is not None:
        facts["read_as"] = listed.describe()
    return facts


def _notes(listed: EdgeList | None, directed: bool, weights: bool) -> list[str]:
    if listed is None:
        return []
    loops, repeats = listed.repeats(directed)
    notes = []
    if loops or repeats:
        merged = "their weights add up" if weights else "each edge counts once"
        notes.append(
            f"{loops} self-loops and {repeats} repeated edges are left out above ({merged}): fit with --clean"
        )
    if listed.numeric and not weights:
        notes.append("the third column holds numbers: --weights reads it as counts or weights")
    return notes


def _stories(graph: Graph, listed: EdgeList | None) -> list[tuple[str, str]]:
    """(options of fit, why they suit), the first choice first."""
    law = ""
    if graph.weights is not None:
        whole = bool((graph.weights == graph.weights.round()).all() and (graph.weights > 0).all())
        law = f" --weights --likelihood {'poisson' if whole else 'normal'}"
    skewed = float(graph.degrees.max()) > 4.0 * float(graph.degrees.float().mean())
    bias = " --bias node" if skewed else ""
    reason = "; a bias a node takes the very unequal degrees out" if skewed else ""
    found = [
        (
            f"--model sbm --truncation auto{bias}{law}",
            f"every node in one group: groups and rates between them{reason}",
        )
    ]
    if graph.directed or graph.parts is not None:
        side = "directed" if graph.directed else "bipartite"
        given = " --directed" if graph.directed else ""
        return [
            (f"--model sbm{given}{bias}{law}", f"groups, for {side} graphs{reason}"),
            (f"--model lfrm{given}{bias}{law}", f"overlapping communities, for {side} graphs"),
        ]
    found.append(
        (
            f"--model lfrm --truncation auto{bias}{law}",
            "nodes may be in several communities, how many is inferred",
        )
    )
    if graph.num_nodes <= 5_000:
        found.append(
            (
                f"--model dglfrm{bias}{law}",
                "overlapping communities with strengths, through a network",
            )
        )
    if graph.features is not None or graph.num_nodes > 1_000:
        found.append(
            (
                f"--model vgae{law}",
                "fast embeddings for link prediction, with the features as input",
            )
        )
    if graph.labels is not None:
        found.append((f"--model vgae --classify{law}", "predicts missing labels too"))
    return found
