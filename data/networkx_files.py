"""What NetworkX reads, read with care: no document type definitions, no bottomless nesting."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.parsers import expat

import networkx as nx

from .validation import GraphError

__all__ = ["SUFFIXES", "read_networkx"]

_READERS = {".gml": nx.read_gml, ".graphml": nx.read_graphml, ".gexf": nx.read_gexf}
SUFFIXES = tuple(_READERS)
_DEPTH = 100  # of elements in elements; a graph in either form needs ten


def read_networkx(path: Path) -> nx.Graph:
    """A NetworkX graph from a file; the suffix says the form.

    Raises:
        GraphError: If the XML declares entities or is nested without end, or the file holds no graph.
        Exception: Whatever NetworkX and the parsers raise of what is malformed.
    """
    suffix = path.suffix.lower()
    if suffix == ".gml":
        return _read_gml(path)
    _check_xml(path)
    graph = _READERS[suffix](path)
    if not isinstance(graph, nx.Graph):
        raise GraphError("the file holds no graph.")
    return graph


def _read_gml(path: Path) -> nx.Graph:
    try:
        return nx.read_gml(path)
    except nx.NetworkXError as error:
        if "label" not in str(error):
            raise
        return nx.read_gml(path, label="id")


def _check_xml(path: Path) -> None:
    """Refuse what makes a small XML file large or deep, before a tree is built of it.

    As defusedxml does: entities grow exponentially ("billion laughs"), and those of a graph need no declaration.
    """
    parser = expat.ParserCreate()
    depth = 0

    def refuse(*_: Any) -> None:
        raise GraphError(
            "the XML has a document type definition, which may declare entities without end and is not read: take "
            "the <!DOCTYPE ...> out."
        )

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH:
            raise GraphError(f"the XML has more than {_DEPTH} elements within each other.")

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = enter
    parser.EndElementHandler = leave
    with path.open("rb") as file:
        parser.ParseFile(file)
