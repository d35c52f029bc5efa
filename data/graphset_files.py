"""Sets of graphs in files: npz archives, read without pickles, and the families that are known by name."""

from __future__ import annotations

import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .archives import read_arrays, write_arrays
from .graphfamilies import cycles, grids, trees
from .graphset import GraphSet
from .validation import GraphError, few

__all__ = ["catalogue_of_sets", "holds_set", "load_set", "read_graphset", "write_graphset"]

_NEEDED = ("num_nodes", "edge_index", "edge_ptr")
_KNOWN = {
    "cycles": lambda: cycles(100, range(5, 15), seed=0),
    "trees": lambda: trees(100, range(5, 15), seed=0),
    "grids": lambda: grids(range(2, 6), range(2, 6)),
}


def read_graphset(
    path: str | Path, *, node_types: str | None = None, edge_types: str | None = None
) -> GraphSet:
    """A set of graphs from an ``.npz`` archive (read without pickles).

    The archive holds ``num_nodes`` (G,), ``edge_index`` (2, sum of E) and ``edge_ptr`` (G + 1,) as in
    :class:`GraphSet`, and perhaps ``graph_labels`` (G,). What :func:`write_graphset` wrote is read back as it was.

    Args:
        path: The file.
        node_types: Name of the array (sum of N,) with the node types. Its distinct values, sorted, become 0, 1, ...
            Without it the types are those of an array ``node_types``, as they are, or none.
        edge_types: Name of the array (sum of E,) with the edge types. Its distinct values become 1, 2, ... Without it
            the types are those of an array ``edge_types``, as they are, or none.

    Raises:
        GraphError: If the file cannot be read or lacks an array.
    """
    path = Path(path)
    arrays = read_arrays(path)
    wanted = [*_NEEDED, *(n for n in (node_types, edge_types) if n)]
    if lacking := [name for name in wanted if name not in arrays]:
        none = "" if set(_NEEDED) <= set(arrays) else f" A set of graphs has {', '.join(_NEEDED)}."
        raise GraphError(
            f"{path.name} lacks {few(lacking)}; it holds {', '.join(sorted(arrays)) or 'nothing'}.{none}"
        )

    def numbered(name: str | None, usual: str, first: int) -> np.ndarray | None:
        if name is None:
            return arrays.get(usual)
        return np.unique(arrays[name], return_inverse=True)[1] + first

    try:
        return GraphSet(
            *(arrays[name] for name in _NEEDED),
            node_types=numbered(node_types, "node_types", 0),
            edge_types=numbered(edge_types, "edge_types", 1),
            labels=arrays.get("graph_labels"),
            title=str(arrays["title"])[:200] if "title" in arrays else path.stem,
        )
    except GraphError as error:
        raise GraphError(f"{path.name}: {error}") from None


def write_graphset(graphs: GraphSet, path: str | Path) -> Path:
    """Write a set as an ``.npz`` archive that :func:`read_graphset` reads back. Returns the path written.

    Raises:
        GraphError: The file cannot be written.
    """
    arrays: dict[str, Any] = {name: getattr(graphs, name).numpy() for name in _NEEDED}
    for name, tensor in (
        ("node_types", graphs.node_types),
        ("edge_types", graphs.edge_types),
        ("graph_labels", graphs.labels),
    ):
        if tensor is not None:
            arrays[name] = tensor.numpy()
    return write_arrays(path, {**arrays, "title": graphs.title})


def catalogue_of_sets() -> dict[str, dict[str, Any]]:
    """The sets of graphs that :func:`load_set` knows by name: what they are about, and their sizes."""
    return json.loads(resources.files(__package__).joinpath("families.json").read_text("utf-8"))


def holds_set(name_or_path: str | Path) -> bool:
    """Whether this is the name of a known set, or a file that holds a set of graphs rather than one graph."""
    if isinstance(name_or_path, str) and name_or_path.lower() in _KNOWN:
        return True
    path = Path(name_or_path)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        return set(_NEEDED) <= set(read_arrays(path))
    except GraphError:  # whoever reads it says what is wrong with it
        return False


def load_set(name_or_path: str | Path, **options: Any) -> GraphSet:
    """A set of graphs by its name, or from a file.

    Args:
        name_or_path: ``cycles`` or ``trees`` (100 graphs of 5 to 14 nodes), ``grids`` (2 to 5 rows and columns), or
            the path of an ``.npz`` archive.
        **options: Passed on to :func:`read_graphset`; known sets take none.

    Raises:
        GraphError: If it is neither; the message lists the names and guesses what was meant.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text.lower() in _KNOWN:
        if options:
            raise GraphError(
                f"{', '.join(options)} is for reading files; {text!r} is a known set and takes no such option."
            )
        return _KNOWN[text.lower()]()
    path = Path(name_or_path)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        near = difflib.get_close_matches(text.lower(), _KNOWN, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise GraphError(
            f"Unknown set of graphs {text!r}; known: {', '.join(_KNOWN)}, or the path of an .npz file.{hint}"
        )
    if path.is_file() and path.suffix.lower() != ".npz":
        raise GraphError(
            f"{path.name} is no .npz file: sets of graphs are read from archives with {', '.join(_NEEDED)}."
        )
    return read_graphset(path, **options)
