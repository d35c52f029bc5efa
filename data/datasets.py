"""Graphs by name."""

from __future__ import annotations

import difflib
import inspect
import json
import os
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from .convert import from_pyg
from .files import read_graph
from .graph import Graph
from .validation import GraphError

__all__ = ["catalogue", "karate", "load", "planetoid"]

_PLANETOID = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}


def karate() -> Graph:
    """Zachary's karate club: who met whom outside the club, before it split in two.

    Labels are the club each member joined after the split (0 ``Mr. Hi``, 1 ``Officer``). Node 0
    is the instructor, node 33 the officer. Member 9 (node 8) stood with the officer and yet
    joined Mr. Hi's club; papers that use the *faction* have him on the other side.

    **STATS:**

    ====== ====== ======== ======= ======
    #nodes #edges #classes density sizes
    ====== ====== ======== ======= ======
    34     78     2        0.139   17, 17
    ====== ====== ======== ======= ======

    Source: W. W. Zachary, *An information flow model for conflict and fission in small groups*,
    Journal of Anthropological Research 33 (1977) 452-473; edges and clubs as in NetworkX's
    ``karate_club_graph``, without the weights.

    Returns:
        An undirected graph with labels, label names and node names.
    """
    data = json.loads(resources.files(__package__).joinpath("karate.json").read_text("utf-8"))
    return Graph(
        data["num_nodes"],
        list(zip(*data["edges"], strict=True)),
        labels=data["labels"],
        label_names=data["label_names"],
        names=data["names"],
        title="karate",
    )


def planetoid(name: str, root: str | Path | None = None) -> Graph:
    """A citation network of the Planetoid collection, through PyTorch Geometric.

    The raw files are Python pickles, which PyG downloads (to ``root``) and unpickles: use a
    ``root`` you trust. If ``root`` already holds ``<Name>/raw``, nothing is downloaded, but
    PyG writes a ``processed`` folder beside it. Self-loops and repeats are dropped by PyG.

    **STATS:**

    ======== ====== ====== ========= ========
    name     #nodes #edges #features #classes
    ======== ====== ====== ========= ========
    cora     2708   5278   1433      7
    citeseer 3327   4552   3703      6
    pubmed   19717  44324  500       3
    ======== ====== ====== ========= ========

    Source: Yang, Cohen, Salakhutdinov, *Revisiting semi-supervised learning with graph
    embeddings*, ICML 2016.

    Args:
        name: ``cora``, ``citeseer`` or ``pubmed``, in any case.
        root: Folder for the files; ``graphlore/planetoid`` in the user's cache folder if None.

    Returns:
        An undirected graph with labels and sparse features.

    Raises:
        GraphError: On an unknown name, or if the files can be neither read nor downloaded.
    """
    if name.lower() not in _PLANETOID:
        raise _unknown(name, list(_PLANETOID))
    if root is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(cache) / "graphlore" / "planetoid"
    from torch_geometric.datasets import Planetoid  # slow to import, and needed only here

    try:
        data = Planetoid(root=str(root), name=_PLANETOID[name.lower()])[0]
    except Exception as error:  # PyG raises whatever the network or the disk raised
        raise GraphError(
            f"Could not read or download {name!r} (folder {root}): {type(error).__name__}: "
            f"{error}. Put the eight raw files in <root>/{_PLANETOID[name.lower()]}/raw, or give "
            "another root."
        ) from error
    graph = from_pyg(data, directed=False, title=name.lower())
    assert graph.features is not None
    return graph.with_features(graph.features.to_sparse())


def catalogue() -> dict[str, dict[str, Any]]:
    """The datasets that :func:`load` knows by name: what they are about, their sizes, and what reading them needs."""
    return json.loads(resources.files(__package__).joinpath("catalogue.json").read_text("utf-8"))


def _known() -> dict[str, Any]:
    return {"karate": karate, **{name: partial(planetoid, name) for name in _PLANETOID}}


def _unknown(name: str, known: list[str]) -> GraphError:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return GraphError(
        f"Unknown dataset {name!r}; known: {', '.join(known)}, or the path of a file.{hint}"
    )


def load(name_or_path: str | Path, **options: Any) -> Graph:
    """A dataset by its name, or a graph file by its path.

    Args:
        name_or_path: ``karate``, ``cora``, ``citeseer``, ``pubmed`` (the last three may download,
            see :func:`planetoid`), or a path that :func:`read_graph` can read.
        **options: Passed on to the dataset's function or to :func:`read_graph`.

    Raises:
        GraphError: If it is neither; the message lists the names and guesses what was meant.
    """
    known = _known()
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text.lower() in known:
        make = known[text.lower()]
        unknown = sorted(set(options) - set(inspect.signature(make).parameters))
        if unknown:
            raise GraphError(
                f"{', '.join(unknown)} is for reading files; {text!r} is a known dataset and takes no such option."
            )
        return make(**options)
    path = Path(name_or_path)
    looks_like_path = isinstance(name_or_path, Path) or path.suffix or len(path.parts) > 1
    if not looks_like_path and not path.exists():
        raise _unknown(text, list(known))
    return read_graph(path, **options)
