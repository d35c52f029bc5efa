"""Graph files: edge lists, NumPy archives and matrices, and what NetworkX reads. No pickles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import networkx as nx
import numpy as np
import scipy.io
import scipy.sparse as sp

from .archives import write_arrays
from .convert import from_edges, from_networkx
from .edgelists import SUFFIXES as _EDGE_LISTS
from .edgelists import graph_of_edge_list
from .graph import Graph
from .matrices import from_dense, from_scipy
from .networkx_files import SUFFIXES as _NETWORKX
from .networkx_files import read_networkx
from .numpy_files import arrays_of, read_array, scalar
from .validation import GraphError

__all__ = ["read_graph", "write_npz"]

_log = logging.getLogger(__name__)

_FORMS = "edge lists (.csv, .tsv, .txt, .edges), .npz, .npy, .mtx, .gml, .graphml and .gexf"


def read_graph(path: str | Path, *, weights: bool | str = False, **options: Any) -> Graph:
    """A graph from a file; the suffix says the form.

    - ``.csv .tsv .txt .edges``: one edge a line, see below.
    - ``.npz``: this library's own form (:func:`write_npz`; ``edge_index`` (2, E) and
      ``num_nodes``, optionally ``labels``, ``label_names``, ``names``, ``missing``, ``parts``,
      ``edge_weight`` (E,), CSR features ``x_data x_indices x_indptr x_shape`` or dense ``x``), or
      SciPy's ``save_npz``. ``directed=True`` reads ``arc_index`` (and ``arc_weight``) where the
      file has it.
    - ``.npy``: an adjacency matrix, or integers of shape (2, E) or (E, 2).
    - ``.mtx``: a Matrix Market adjacency matrix.
    - ``.gml .graphml .gexf``: through NetworkX, options as for :func:`from_networkx`.

    In an edge list, lines that start with ``#`` or ``%`` are comments, and the separator (comma,
    semicolon, tab, white space) and a header are found out, unless ``sep=`` and ``header=``
    say so. The first two columns are the ends, integer ids or names; a further one may be the weight,
    and others are ignored with a logged note. The graph is undirected unless ``directed=True``.

    Args:
        path: The file.
        weights: Whether to read weights: the third column of an edge list, ``edge_weight`` or
            ``arc_weight`` of an ``.npz``, the entries of a matrix, the edge attribute ``weight``
            of what NetworkX reads. A word instead of True names another column (of the header),
            array or attribute. Files of :func:`write_npz` give their weights in any case.
        **options: As for the converter of that form, and for :class:`Graph`.

    Raises:
        GraphError: If the file is not there, cannot be read, is malformed (with the line's
            number), or holds no valid graph.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*_EDGE_LISTS, ".npz", ".npy", ".mtx", *_NETWORKX):
        raise GraphError(f"Unknown kind of file {path.name!r}; known are {_FORMS}.")
    if path.is_dir():
        raise GraphError(f"{path} is a folder; give a file: {_FORMS}.")
    if not isinstance(weights, bool | str):
        raise GraphError(f"weights must be True, False or a word, got {type(weights).__name__}.")
    of_text = [] if suffix in _EDGE_LISTS else sorted({"sep", "header"} & options.keys())
    if of_text:
        raise GraphError(f"{' and '.join(of_text)} is for edge lists, and {path.name} is none.")
    options.setdefault("title", path.stem)
    try:
        if suffix in _EDGE_LISTS:
            return graph_of_edge_list(path, weights=weights, **options)
        if suffix == ".npz":
            return _read_npz(path, weights=weights, **options)
        if suffix == ".npy":
            return _read_npy(path, weights=weights, **options)
        if suffix == ".mtx":
            matrix = _read(_read_mtx, path)
            read = from_scipy if sp.issparse(matrix) else from_dense
            return read(matrix, **_matrix_options(weights, options))
        if weights:
            options["weight"] = "weight" if weights is True else weights
        return from_networkx(_read(read_networkx, path), **options)
    except GraphError as error:
        raise GraphError(f"{path.name}: {error}") from error.__cause__
    except FileNotFoundError:
        raise GraphError(f"No such file: {path}.") from None
    except PermissionError:
        raise GraphError(f"No permission to read {path}.") from None
    except OSError as error:
        raise GraphError(f"Could not read {path}: {error}.") from error


def _read(parser: Callable[[Path], Any], path: Path) -> Any:
    """What a library's parser makes of a file; it raises many kinds, not all of them with words for a user."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser(path)
    except (GraphError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        if isinstance(error, KeyError):
            told = f"it lacks {told}"
        elif not isinstance(error, SyntaxError | OSError | ExpatError | nx.NetworkXException):
            told = "its content does not follow the form"
        raise GraphError(f"not a well-formed {path.suffix.lower()} file: {told}.") from error


# -- NumPy ------------------------------------------------------------------------------------


def _matrix_options(weights: bool | str, options: dict[str, Any]) -> dict[str, Any]:
    if isinstance(weights, str):
        raise GraphError(f"a matrix has no {weights!r}; its entries are the weights, weights=True.")
    return options | {"weighted": True} if weights else options


def _read_npz(
    path: Path, *, weights: bool | str, directed: bool | None = None, **options: Any
) -> Graph:
    arrays = arrays_of(path)
    if {"format", "shape", "data"} <= arrays.keys():
        matrix = _read(sp.load_npz, path)
        return from_scipy(matrix, directed=bool(directed), **_matrix_options(weights, options))
    if "edge_ptr" in arrays:
        raise GraphError("the file holds a set of graphs, not one graph.")
    if "edge_index" not in arrays or "num_nodes" not in arrays:
        raise GraphError(
            "the archive lacks edge_index (2, E) and num_nodes; it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}."
        )
    flags = {
        key: bool(scalar(arrays[key], key)) for key in ("directed", "allow_empty") if key in arrays
    }
    if directed is None:
        directed = flags.get("directed", False)
    if directed and "arc_index" not in arrays:
        raise GraphError("directed=True, but the file has no arc_index (2, A): it is undirected.")
    own = "arc_weight" if directed else "edge_weight"
    key = weights if isinstance(weights, str) else own
    if weights and key not in arrays:
        raise GraphError(
            f"the archive has no {key} to read weights from; it holds {', '.join(sorted(arrays))}."
        )
    if weights or ("weighted" in arrays and key in arrays):
        options["weights"] = arrays[key]
    elif own in arrays:
        _log.info("%s: %s is ignored; weights=True reads it", path.name, own)
    for key in ("parts", "labels", "label_names", "names", "feature_names"):
        if key in arrays:
            options.setdefault(key, arrays[key].tolist() if "names" in key else arrays[key])
    if "missing" in arrays and "observed" not in options:
        options.setdefault("missing", arrays["missing"])
    if "x" in arrays:
        options.setdefault("features", arrays["x"])
    elif "x_indptr" in arrays:
        options.setdefault("features", _csr_features(arrays))
    if "title" in arrays:
        options["title"] = str(arrays["title"])[:200]
    edges = arrays["arc_index"] if directed else arrays["edge_index"]
    options.setdefault("allow_empty", flags.get("allow_empty", False))
    return Graph(scalar(arrays["num_nodes"], "num_nodes"), edges, directed=directed, **options)


def _csr_features(arrays: dict[str, np.ndarray]) -> sp.csr_array:
    lacking = [key for key in ("x_indices", "x_shape") if key not in arrays]
    if lacking:
        raise GraphError(f"the archive has CSR features, x_indptr, without {', '.join(lacking)}.")
    indices, indptr, shape = (arrays[key] for key in ("x_indices", "x_indptr", "x_shape"))
    values = arrays.get("x_data", np.ones(indices.size, dtype=np.float32))
    try:
        if {a.dtype.kind for a in (indices, indptr, shape)} - {"i", "u"} or shape.shape != (2,):
            raise ValueError("indices, indptr and the two numbers of the shape must be integers")
        parts = (values, indices.astype(np.int64), indptr.astype(np.int64))
        return sp.csr_array(parts, shape=tuple(shape.tolist()))
    except (ValueError, TypeError) as error:
        raise GraphError(f"the CSR features do not fit together: {error}.") from None


def write_npz(graph: Graph, path: str | Path) -> Path:
    """Writes everything a graph holds; :func:`read_graph` gives the same graph back.

    Directed graphs have their arcs in ``arc_index`` and, for readers that know none, the
    undirected edges in ``edge_index``.

    Args:
        graph: The graph.
        path: The file; ``.npz`` is put in place of no suffix.

    Returns:
        The path written.

    Raises:
        GraphError: If the suffix is another one, or the file cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".npz")
    if path.suffix.lower() != ".npz":
        raise GraphError(f"write_npz writes .npz files, got {path.name!r}.")
    graph = graph.to("cpu")
    edges = graph.edge_index.numpy()
    weights = None if graph.weights is None else graph.weights.numpy()
    arrays: dict[str, Any] = {"num_nodes": graph.num_nodes, "title": graph.title}
    if graph.directed:
        arrays["directed"] = True
        arrays["arc_index"] = edges
        edges = np.unique(np.sort(edges, axis=0), axis=1)
    arrays["edge_index"] = edges
    if edges.shape[1] == 0:
        arrays["allow_empty"] = True
    if weights is not None:
        # The mark tells these weights from those of public files, which are read when asked for.
        arrays["weighted"] = True
        arrays["arc_weight" if graph.directed else "edge_weight"] = weights
    if graph.parts is not None:
        arrays["parts"] = graph.parts.numpy()
    if graph.missing.shape[1]:
        arrays["missing"] = graph.missing.numpy()
    if graph.labels is not None:
        arrays["labels"] = graph.labels.numpy()
    for key in ("names", "label_names", "feature_names"):
        if getattr(graph, key) is not None:
            arrays[key] = np.array(getattr(graph, key), dtype=np.str_)
    if graph.features is not None and graph.features.is_sparse:
        rows, cols = graph.features.indices().numpy()
        shape = tuple(graph.features.shape)
        csr = sp.csr_array((graph.features.values().numpy(), (rows, cols)), shape=shape)
        arrays |= {"x_data": csr.data, "x_indices": csr.indices, "x_indptr": csr.indptr}
        arrays["x_shape"] = np.array(shape)
    elif graph.features is not None:
        arrays["x"] = graph.features.numpy()
    return write_arrays(path, arrays)


def _read_npy(path: Path, *, weights: bool | str, **options: Any) -> Graph:
    array = read_array(path)
    if array.ndim == 2 and array.shape[0] != array.shape[1] and array.dtype.kind in "iu":
        if 2 in array.shape and weights:
            raise GraphError("the file holds pairs without weights.")
        if array.shape[0] == 2:
            return from_edges(array.T, **options)
        if array.shape[1] == 2:
            return from_edges(array, **options)
    return from_dense(array, **_matrix_options(weights, options))


# -- Matrix Market ----------------------------------------------------------------------------


def _read_mtx(path: Path) -> Any:
    """The matrix, if the file can be as long as its header says: SciPy makes room for it first."""
    try:
        rows, cols, entries, form, *_ = scipy.io.mminfo(path)
    except ValueError as error:
        raise GraphError(f"not a well-formed .mtx file: {error!s:.200}.") from error
    size = path.stat().st_size
    # an entry of an array has two bytes, and those of a symmetric one come once; a coordinate has four
    least = rows * cols - rows if form == "array" else 4 * entries
    if least > size + 2:
        raise GraphError(
            f"the header says {rows} x {cols} with {entries} entries, too many for {size} bytes."
        )
    try:
        return scipy.io.mmread(path)
    except (ValueError, OverflowError) as error:
        raise GraphError(f"not a well-formed .mtx file: {error!s:.200}.") from error
