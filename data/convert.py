"""Graphs from lists of pairs, and from and to NetworkX and PyTorch Geometric."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from .dyads import SAME_WEIGHT, as_pairs, dyad_keys, dyads_of, orient
from .graph import Graph
from .validation import GraphError, few, few_pairs, plural

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = [
    "from_edges",
    "from_networkx",
    "from_pyg",
    "to_networkx",
    "to_pyg",
]

_log = logging.getLogger(__name__)


# -- edge lists -------------------------------------------------------------------------------


def _pair_array(edges: Any) -> np.ndarray:
    """Pairs of ids or names -> an (E, 2) array; names of mixed types become objects."""
    if isinstance(edges, Tensor):
        edges = edges.detach().cpu().numpy()
    if isinstance(edges, np.ndarray):
        array = edges
    else:
        try:
            rows = list(edges)
        except TypeError:
            raise GraphError(
                f"Edges must be an iterable of pairs, got {type(edges).__name__}."
            ) from None
        bad = [row for row in rows if isinstance(row, str) or not _is_pair(row)]
        if bad:
            raise GraphError(
                f"{len(bad)} of {len(rows)} entries of the edge list are not pairs: "
                f"{few([repr(row) for row in bad])}."
            )
        array = np.empty((len(rows), 2), dtype=object)
        for column in (0, 1):
            array[:, column] = np.fromiter((r[column] for r in rows), dtype=object, count=len(rows))
        kinds = {type(end) for end in array.flat}
        if kinds and all(issubclass(k, int | np.integer) and k is not bool for k in kinds):
            try:
                array = array.astype(np.int64)
            except OverflowError:
                raise GraphError("Node ids must be less than 2**63.") from None
    if array.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        hint = " It looks like an edge_index: use Graph(num_nodes, edge_index)." * (
            array.ndim == 2 and array.shape[0] == 2
        )
        raise GraphError(f"Edges must be pairs, shape (E, 2), got {array.shape}.{hint}")
    return array


def _is_pair(row: Any) -> bool:
    try:
        return len(row) == 2
    except TypeError:
        return False


def _number_names(array: np.ndarray, names: Sequence[Any] | None) -> tuple[np.ndarray, list[Any]]:
    """Names -> ids: places in ``names`` if given, else in sorted order (as met, if unsortable)."""
    flat = array.ravel().tolist()
    numbers = float | complex | bool | np.inexact | np.bool_
    bad = [x for x in flat if isinstance(x, numbers) or x is None]
    if bad:
        raise GraphError(
            f"{plural(len(bad), 'end')} of an edge is neither an integer id nor a name: "
            f"{few([repr(x) for x in bad])}; convert whole numbers with .astype(int)."
        )
    try:
        order: list[Any] = list(dict.fromkeys(flat)) if names is None else list(names)
        if names is None:
            try:
                order = sorted(order)
            except TypeError:
                order = list(dict.fromkeys(flat))
        place = {name: i for i, name in enumerate(order)}
        unknown = [x for x in dict.fromkeys(flat) if x not in place]
    except TypeError as error:
        raise GraphError(f"Node names must be hashable: {error}.") from None
    if unknown:
        raise GraphError(
            f"{plural(len(unknown), 'node')} of the edges not among the names: "
            f"{few([repr(x) for x in unknown])}."
        )
    ids = np.fromiter((place[x] for x in flat), dtype=np.int64, count=len(flat))
    return ids.reshape(array.shape), order


def from_edges(
    edges: Any, num_nodes: int | None = None, *, compact: bool = False, **options: Any
) -> Graph:
    """A graph from a list of pairs.

    Args:
        edges: (E, 2) array-like or iterable of pairs. Integers are node ids, used as they are.
            Anything else hashable is a node *name*: names are numbered in sorted order (in order
            of appearance if they cannot be sorted), or by their place in ``names=`` if that is
            given, which is also how isolated named nodes come in.
        num_nodes: Number of nodes; by default the largest id plus one, or the number of names.
        compact: Number the integer ids that occur anew, 0, 1, ... in increasing order, and keep
            the old ids as names. For ids that start at 1 or have gaps.
        **options: As for :class:`Graph` (``clean``, ``directed``, ``labels``, ``weights`` with one
            number per pair, ...).

    Raises:
        GraphError: If the edges are not pairs, or for any reason :class:`Graph` has.
    """
    array = _pair_array(edges)
    if array.dtype.kind in "iu":
        if compact and array.size:
            old, new = np.unique(array, return_inverse=True)
            array = new.reshape(array.shape)
            options.setdefault("names", [str(i) for i in old.tolist()])
            num_nodes = old.size if num_nodes is None else num_nodes
        if num_nodes is None:
            if array.size == 0:
                raise GraphError("Empty graph: no edges; give num_nodes to say how many nodes.")
            num_nodes = int(array.max()) + 1
            unused = num_nodes - np.unique(array).size
            if unused:
                _log.warning(
                    "%s of 0 .. %d occur in no edge and become isolated nodes; "
                    "compact=True numbers the others anew",
                    plural(unused, "id"),
                    num_nodes - 1,
                )
        return Graph(num_nodes, array.T, **options)
    array, order = _number_names(array, options.get("names"))
    options["names"] = order
    if num_nodes is not None and num_nodes != len(order):
        raise GraphError(
            f"num_nodes={num_nodes}, but the edges name {len(order)} nodes; isolated named nodes "
            "come in through names=."
        )
    return Graph(len(order), array.T, **options)


# -- NetworkX ---------------------------------------------------------------------------------


def _encode_labels(values: Iterable[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Node attributes -> labels and their names; None is unlabelled."""
    given = list(values)
    known = [v for v in given if v is not None]
    if all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in known):
        return np.array([-1 if v is None else int(v) for v in given]), None
    words = sorted({str(v) for v in known})
    place = {word: i for i, word in enumerate(words)}
    return np.array([-1 if v is None else place[str(v)] for v in given], dtype=np.int64), words


def from_networkx(
    graph: nx.Graph,
    *,
    label_attribute: str | None = None,
    name_attribute: str | None = None,
    weight: str | None = None,
    bipartite: bool = False,
    **options: Any,
) -> Graph:
    """A graph from NetworkX, in its node order and with its direction.

    Node names are ``str(node)``, except when the nodes are 0 .. N-1 in order and the names would
    say nothing. Edge weights and sides that are there and not asked for are ignored, with a
    logged note.

    Args:
        graph: Any NetworkX graph; parallel edges and self-loops need ``clean=True``, which adds up
            the weights of parallel edges.
        label_attribute: Node attribute with the labels: integers, or words that are numbered in
            sorted order; nodes without it are unlabelled.
        name_attribute: Node attribute with the names, instead of the nodes themselves.
        weight: Edge attribute with the weights; NetworkX's own word for it is ``"weight"``.
        bipartite: Read the node attribute ``bipartite``, 0 or 1 as in NetworkX's bipartite
            module, as the sides of the graph.
        **options: As for :class:`Graph`.

    Raises:
        GraphError: For any reason :class:`Graph` has, if no node has the attribute asked for, an
            edge lacks the weight, or a node the side.
    """
    nodes = list(graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    listed = list(graph.edges(data=weight or "weight"))
    ends = [place[node] for edge in listed for node in edge[:2]]
    strengths = [edge[2] for edge in listed]
    if weight is not None:
        options["weights"] = _all_there(strengths, "edge", weight, graph.edges(data=True))
    elif any(value is not None for value in strengths):
        _log.warning("edge weights are ignored; weight='weight' reads them")
    sides = [data.get("bipartite") for _, data in graph.nodes(data=True)]
    if bipartite:
        options["parts"] = _all_there(sides, "node", "bipartite", graph.nodes(data=True))
    elif "parts" not in options and any(side is not None for side in sides):
        _log.warning("the node attribute bipartite is ignored; bipartite=True reads it")
    for attribute in (label_attribute, name_attribute):
        if attribute is not None and not any(attribute in d for _, d in graph.nodes(data=True)):
            have = sorted({str(key) for _, d in graph.nodes(data=True) for key in d})
            raise GraphError(
                f"No node has the attribute {attribute!r}; there are: {', '.join(have) or 'none'}."
            )
    if label_attribute is not None:
        values = [data.get(label_attribute) for _, data in graph.nodes(data=True)]
        labels, words = _encode_labels(values)
        options.setdefault("labels", labels)
        if words is not None:
            options.setdefault("label_names", words)
    if name_attribute is not None:
        options.setdefault("names", [d.get(name_attribute, n) for n, d in graph.nodes(data=True)])
    elif nodes != list(range(len(nodes))):
        options.setdefault("names", nodes)
    options.setdefault("directed", graph.is_directed())
    if isinstance(graph.name, str) and graph.name:
        options.setdefault("title", graph.name)
    return Graph(len(nodes), np.array(ends, dtype=np.int64).reshape(-1, 2).T, **options)


def _all_there(values: list[Any], what: str, name: str, items: Iterable[Any]) -> list[Any]:
    """The values of an attribute that every edge or node must have."""
    lacking = sum(value is None for value in values)
    if lacking:
        have = sorted({str(key) for *_, data in items for key in data})
        raise GraphError(
            f"{lacking} of {plural(len(values), what)} lack the attribute {name!r}; "
            f"there are: {', '.join(have) or 'none'}."
        )
    return values


def to_networkx(graph: Graph) -> nx.Graph:
    """An ``nx.Graph`` (or ``DiGraph``) on 0 .. N-1 with node attributes ``name`` and ``label``.

    Weights are the edge attribute ``weight``, sides the node attribute ``bipartite``. Features and
    missing dyads have no place there and are left out, the latter with a logged note.
    """
    out = nx.DiGraph() if graph.directed else nx.Graph()
    out.graph["name"] = graph.title
    out.add_nodes_from(range(graph.num_nodes))
    out.add_edges_from(graph.edge_index.T.tolist())
    if graph.weights is not None:
        ends = map(tuple, graph.edge_index.T.tolist())
        strengths = dict(zip(ends, graph.weights.tolist(), strict=True))
        nx.set_edge_attributes(out, strengths, "weight")
    if graph.parts is not None:
        nx.set_node_attributes(out, dict(enumerate(graph.parts.tolist())), "bipartite")
    if graph.names is not None:
        nx.set_node_attributes(out, dict(enumerate(graph.names)), "name")
    if graph.labels is not None:
        labels: list[Any] = graph.labels.tolist()
        if graph.label_names is not None:
            labels = [graph.label_names[i] if i >= 0 else None for i in labels]
        known = {i: label for i, label in enumerate(labels) if label is not None and label != -1}
        nx.set_node_attributes(out, known, "label")
    if graph.missing.shape[1]:
        _log.warning(
            "%s left out: NetworkX knows no missing edges",
            plural(graph.missing.shape[1], "missing dyad"),
        )
    return out


# -- PyTorch Geometric ------------------------------------------------------------------------


def from_pyg(
    data: Data,
    *,
    directed: bool | None = None,
    weight: str | None = None,
    clean: bool = False,
    **kw: Any,
) -> Graph:
    """A graph from a PyG ``Data``: ``edge_index``, ``x``, ``y``, ``missing_index`` and ``parts``.

    Edge weights and attributes that are not asked for, and a ``y`` that is not one integer per
    node, are ignored with a logged note.

    Args:
        data: A homogeneous ``Data``.
        directed: True reads arcs. False reads edges, whether listed in one direction or both.
            None decides: undirected if every arc has its reverse or the graph is bipartite
            (``parts``), else directed.
        weight: The attribute with the weights, ``"edge_weight"`` or ``"edge_attr"``, of shape (E,)
            or (E, 1). The two directions of an undirected edge must agree (up to a relative
            1e-6); they do not add up.
        clean: Drop self-loops and repeated arcs instead of refusing them; the weights of arcs
            that are repeated in the same direction add up.
        **kw: As for :class:`Graph`.

    Raises:
        GraphError: If it has no ``edge_index`` or is heterogeneous, if the weights are not there
            or are not one per edge, and for :class:`Graph`'s reasons.
    """
    edges = getattr(data, "edge_index", None)
    if type(data).__name__ == "HeteroData" or not isinstance(edges, Tensor):
        raise GraphError(
            f"from_pyg wants a homogeneous Data with a dense edge_index, got {type(data).__name__}"
            + ("." if edges is None else f" with edge_index of type {type(edges).__name__}.")
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyG, where it counts the nodes of edge_index
        try:
            num_nodes = data.num_nodes
        except Exception as error:  # PyG counts by what is there, whatever that is
            raise GraphError(f"The Data does not say how many nodes it has: {error}.") from error
    if getattr(data, "parts", None) is not None:
        kw.setdefault("parts", data.parts)
    # Validate as arcs first: a repeated arc is an error, the reverse of an arc is not.
    arcs = Graph(num_nodes, as_pairs(edges, "edge_index"), directed=True, clean=clean,
                 weights=None if weight is None else _pyg_weights(data, weight),
                 allow_empty=kw.get("allow_empty", False))  # fmt: skip
    keys = dyad_keys(arcs.edge_index, num_nodes)
    if directed is None:
        back = torch.isin(dyad_keys(arcs.edge_index.flip(0), num_nodes), keys)
        directed = kw.get("parts") is None and not bool(back.all())
    pairs, weights = (arcs.edge_index, arcs.weights) if directed else _both_ways_once(arcs)
    if getattr(data, "x", None) is not None:
        kw.setdefault("features", data.x)
    labels = getattr(data, "y", None)
    if isinstance(labels, Tensor):
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        whole = not (labels.is_floating_point() or labels.dtype == torch.bool)
        if labels.shape == (num_nodes,) and whole:
            kw.setdefault("labels", labels)
        else:
            _log.warning(
                "y of shape %s and %s is ignored: not one integer label per node",
                tuple(labels.shape),
                labels.dtype,
            )
    for key in ("edge_weight", "edge_attr"):
        if key != weight and getattr(data, key, None) is not None:
            _log.warning("%s is ignored; weight=%r reads one number per edge", key, key)
    if "observed" not in kw and getattr(data, "missing_index", None) is not None:
        kw.setdefault("missing", data.missing_index)
    return Graph(num_nodes, pairs, weights=weights, directed=directed, **kw)


def _pyg_weights(data: Data, name: str) -> Tensor:
    weights = getattr(data, name, None)
    if not isinstance(weights, Tensor):
        raise GraphError(f"The Data has no tensor {name!r} to read weights from.")
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    if weights.ndim != 1:
        raise GraphError(
            f"{name} has shape {tuple(weights.shape)}, not one number per edge; put the column "
            "meant into edge_weight."
        )
    return weights


def _both_ways_once(arcs: Graph) -> tuple[Tensor, Tensor | None]:
    """Arcs that stand for undirected edges -> each edge once, with the weight its arcs agree on."""
    n = arcs.num_nodes
    keys, place = torch.unique(dyad_keys(orient(arcs.edge_index, False), n), return_inverse=True)
    pairs = dyads_of(keys, n)
    if arcs.weights is None:
        return pairs, None
    empty = arcs.weights.new_zeros(keys.shape)
    low, high = (
        empty.scatter_reduce(0, place, arcs.weights, how, include_self=False)
        for how in ("amin", "amax")
    )
    differ = high - low > SAME_WEIGHT * torch.maximum(high.abs(), low.abs())
    if bool(differ.any()):
        raise GraphError(
            f"{plural(int(differ.sum()), 'edge')} with another weight in each direction: "
            f"{few_pairs(pairs[:, differ])}; make them agree, or directed=True for arcs."
        )
    return pairs, high


def to_pyg(graph: Graph) -> Data:
    """A PyG ``Data`` with ``edge_index`` in both directions, ``x``, ``y``, ``missing_index``.

    Weights are ``edge_weight``, one per column of ``edge_index``, and sides are ``parts``. Sparse
    features become dense, as most PyG layers want them. Names are left out.
    """
    from torch_geometric.data import Data  # slow to import, and needed only here

    out = Data(edge_index=graph.both_directions().clone(), num_nodes=graph.num_nodes)
    if graph.features is not None:
        out.x = graph.features.to_dense() if graph.features.is_sparse else graph.features.clone()
    if graph.labels is not None:
        out.y = graph.labels.clone()
    if graph.weights is not None:
        out.edge_weight = graph.weighted_adjacency.values().clone()
    if graph.parts is not None:
        out.parts = graph.parts.clone()
    if graph.missing.shape[1]:
        out.missing_index = graph.missing.clone()
    return out
