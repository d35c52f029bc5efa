"""Every way into the library: what is valid there, how it is damaged, and what holds of what is read."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import scipy.io
import scipy.sparse as sp
import torch
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphlore import cli
from graphlore import data as room
from graphlore.data import Graph, GraphError, GraphSet, karate
from graphlore.guides import AmortisedCategorical
from graphlore.inference import Fit, FitSettings, InferenceError, Recipe, fit
from graphlore.models import SBM

from . import bad_input
from .sound import (
    nothing,
    sound_fit,
    sound_graph,
    sound_pairs,
    sound_recipe,
    sound_set,
    sound_settings,
    sound_split,
)

SECONDS = 5.0  # of one input; the slowest honest one takes a tenth of a second
# -- what is valid, before it is damaged ------------------------------------------------------------------

_EDGES = np.array([[0, 0, 1, 2, 4], [1, 2, 3, 4, 5]])
GRAPHS = [
    Graph(6, _EDGES),
    Graph(6, _EDGES, features=np.eye(6, 3), labels=[0, 1, -1, 2, 0, 1], names=list("abcdef"),
          label_names=["x", "y", "z"], feature_names=["p", "q", "r"], missing=[[0], [5]]),
    Graph(6, _EDGES, features=sp.csr_array(np.eye(6, 4)), weights=[1, 2, 3, 4, 0.5]),
    Graph(6, [[0, 1, 3], [1, 0, 2]], directed=True, weights=[1.0, -2.0, 3.0]),
    Graph(6, [[0, 1, 2], [3, 4, 5]], parts=[0, 0, 0, 1, 1, 1]),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {"num_nodes": 6, "edge_index": _EDGES, "weights": np.arange(1, 6) / 2, "labels": np.arange(6) % 3,
     "features": np.eye(6, 3), "names": list("abcdef"), "missing": np.array([[0], [5]]), "title": "t"},
    {"num_nodes": 6, "edge_index": _EDGES, "observed": np.ones((6, 6), bool), "clean": True, "allow_empty": True,
     "features": sp.csr_array(np.eye(6, 3)), "feature_names": list("abc"), "label_names": list("xyz"),
     "labels": np.arange(6) % 3},
    {"num_nodes": 6, "edge_index": torch.tensor([[0, 1], [3, 4]]), "parts": np.array([0, 0, 0, 1, 1, 1])},
    {"num_nodes": 6, "edge_index": [[0, 1], [1, 0]], "directed": True, "weights": [1, 2]},
]  # fmt: skip
SETS: list[dict[str, Any]] = [
    {"num_nodes": np.array([3, 4, 1]), "edge_index": np.array([[0, 1, 0, 2], [1, 2, 3, 1]]),
     "edge_ptr": np.array([0, 2, 4, 4]), "edge_types": np.array([1, 2, 1, 3]),
     "node_types": np.array([0, 1, 2, 0, 1, 2, 0, 1]), "labels": np.array([0, 1, 1])},
    {"num_nodes": [2], "edge_index": [[0], [1]], "edge_ptr": [0, 1]},
]  # fmt: skip
TEXTS = [
    "0,1\n0,2\n1,2\n2,3\n",
    "source,target,weight\n0,1,0.5\n0,2,1\n1,2,9\n",
    "# a comment\n0 1  0.5\n0 2  1\n\n1 2  9\n",
    'from\tto\tn\n"a b"\tb\t0,5\na\tc\t1\nb\tc\t9\n',
    '"Müller, Ann";Bob;1,5\n"Zoë ""Z"" K.";Bob;2\n',
]
SPLIT = room.random_split(karate(), 0.1, 0.1)


def _written(write: Callable[[Any, Any], Any], *values: Any) -> list[str]:
    """What ``write`` writes to a file, as text."""
    found = []
    for value in values:
        file = io.BytesIO()
        write(value, file)
        found.append(file.getvalue().decode())
    return found


def arrays_written(write: Callable[[Path], Any]) -> dict[str, Any]:
    """The arrays of the archive that ``write`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        write(path)
        with np.load(path) as file:
            return {name: file[name] for name in file.files}


@cache
def fit_files() -> dict[str, bytes]:
    """The files of a run's folder, by name."""
    graph = GRAPHS[0]
    story = SBM(6, 2)
    done = fit(story, AmortisedCategorical(story, graph, amortised=False), graph, steps=1)
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path.read_bytes() for path in done.save(folder).iterdir()}
    settings = json.loads(files["settings.json"])
    del (
        settings["sha256"],
        settings["files"],
    )  # as in early runs: what has a check sum gets no further than that
    return {**files, "settings.json": json.dumps(settings).encode()}


NETS = [room.to_networkx(graph) for graph in GRAPHS]
NPZ = [
    *(arrays_written(lambda path, g=g: room.write_npz(g, path)) for g in GRAPHS),
    arrays_written(
        lambda path: sp.save_npz(path, sp.csr_array(GRAPHS[0].dense_adjacency().numpy()))
    ),
    arrays_written(
        lambda path: sp.save_npz(path, sp.coo_array(GRAPHS[0].dense_adjacency().numpy()))
    ),
]
DENSE = [g.dense_adjacency().numpy() for g in GRAPHS[:2]]
SETTINGS = [FitSettings().to_dict(), FitSettings(clip=None, patience=3, kl_warmup=5).to_dict()]
RECIPES = [
    {t: dict(getattr(Recipe.default(m), t)) for t in ("story", "guide", "fit")}
    for m in ("dglfrm", "sbm", "vgae")
]
TOML = [
    '[story]\nname = "SBM"\nnum_blocks = 3\nbias = "node"\n[guide]\namortised = false\n[fit]\nsteps = 10\n',
    '[story]\ntruncation = 6\ndecoder = [32, 16]\n[fit]\nlearning_rate = 0.01\nseed = 3\nclip = 1e2\n',
]  # fmt: skip


# -- readers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A way in: inputs, how they are read, and what is asked of the result.

    Attributes:
        inputs: file names and contents (name, bytes), or whatever ``read`` takes.
        read: called with an input, or, where the input is a file, with its path.
        refuses: the documented errors.
        file: whether inputs are files, whose names messages must have.
        share: of the examples of a run.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], Any]
    sound: Callable[[Any, Path], None]
    refuses: tuple[type[Exception], ...] = (GraphError,)
    file: bool = False
    share: float = 1.0


def _files(suffixes: list[str], *contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(suffixes), st.one_of(*contents))


def _free_text(alphabet: str) -> st.SearchStrategy[bytes]:
    text = st.text(st.one_of(st.sampled_from(alphabet), st.characters(codec="utf-8")), max_size=60)
    return st.one_of(text.map(str.encode), st.binary(max_size=60))


_WEIGHTS = st.sampled_from([False, True, "weight", "n"])
_ASKED = st.fixed_dictionaries(
    {}, optional={"weights": _WEIGHTS, "directed": st.booleans(), "clean": st.booleans()}
)
_BOMBS = st.sampled_from(sorted(bad_input.XML_BOMBS.values())).map(str.encode)


def _graph_files(suffixes: list[str], *contents: st.SearchStrategy[bytes]) -> dict[str, Any]:
    return {
        "inputs": st.tuples(_files(suffixes, *contents), _ASKED),
        "read": lambda path, options: room.read_graph(path, **options),
        "sound": sound_graph,
        "file": True,
    }


def _odd_net(seed: int, valid: nx.Graph) -> nx.Graph:
    """A NetworkX graph with a few things that NetworkX lets in."""
    rng = np.random.default_rng(seed)
    kinds = [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]
    net = kinds[rng.integers(4)](valid) if rng.random() < 0.7 else kinds[rng.integers(4)]()
    odd = [v for v in bad_input.VALUES if v is not None and _is_hashable(v)]
    for _ in range(rng.integers(1, 5)):
        value = bad_input.VALUES[rng.integers(len(bad_input.VALUES))]
        a, b = (odd[i] for i in rng.integers(len(odd), size=2))
        have = list(net)
        match rng.integers(6):
            case 0:
                net.add_node(a)
            case 1:
                net.add_edge(a, b, weight=value)
            case 2 if have:
                net.nodes[have[rng.integers(len(have))]][
                    str(rng.choice(["label", "bipartite", "name", "type"]))
                ] = value
            case 3 if have:
                u = have[rng.integers(len(have))]
                net.add_edge(u, u if rng.random() < 0.3 else a, weight=1.0)
            case 4 if net.number_of_edges():
                edges = list(net.edges)
                net.edges[edges[rng.integers(len(edges))]]["weight"] = value
            case 5:
                net.graph["name"] = value
    return net


def _is_hashable(value: Any) -> bool:
    try:
        return hash(value) is not None
    except TypeError:
        return False


_NET_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "label_attribute": st.sampled_from(["label", "name", "x", None]),
        "name_attribute": st.sampled_from(["name", "label", "x", None]),
        "weight": st.sampled_from(["weight", "x", None]),
        "bipartite": st.booleans(),
        "clean": st.booleans(),
    },
)
_PYG = [
    {"edge_index": torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), "x": torch.eye(3), "y": torch.arange(3),
     "edge_weight": torch.tensor([1.0, 1.0, 2.0, 2.0]), "num_nodes": 3},
    {"edge_index": torch.tensor([[0, 1], [2, 2]]), "parts": torch.tensor([0, 0, 1]), "num_nodes": 3,
     "missing_index": torch.tensor([[0], [2]])},
]  # fmt: skip


def _odd_data(options: dict[str, Any]) -> Data:
    data = Data()
    for name, value in options.items():
        given = isinstance(value, np.ndarray) and value.dtype.kind in "iufbc"
        data[name] = torch.from_numpy(value.copy()) if given else value
    return data


def _odd_matrix(seed: int, array: Any) -> Any:
    """A SciPy matrix, perhaps with insides that no longer fit together."""
    rng = np.random.default_rng(seed)
    try:
        array = np.asarray(array)
    except ValueError:  # ragged
        return array
    if array.ndim != 2 or array.dtype.kind not in "biufc" or array.dtype == np.float16:
        return array
    kinds = [sp.csr_array, sp.csc_array, sp.coo_array, sp.lil_array, sp.dok_array, sp.csr_matrix]
    matrix = kinds[rng.integers(len(kinds))](array)
    if matrix.format in ("csr", "csc") and matrix.nnz and rng.random() < 0.5:
        inside = (matrix.indices, matrix.indptr)[rng.integers(2)]
        inside[rng.integers(len(inside))] = rng.choice([-1, 0, 3, 99, 2**30])
    return matrix


def _free_values() -> st.SearchStrategy[Any]:
    leaf = st.one_of(
        st.sampled_from(bad_input.VALUES),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.booleans(),
    )
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def _call(make: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    """Constructors and converters: what a caller leaves out is no bad input, so it is put back."""
    return lambda options: make(**{"num_nodes": 6, "edge_index": _EDGES, **options})


def _splits() -> st.SearchStrategy[Any]:
    return bad_input.damaged_options([arrays_written(SPLIT.save)])


def odd_folder(files: dict[str, bytes], name: str, content: bytes, folder: Path) -> Path:
    for other, data in files.items():
        (folder / other).write_bytes(data)
    if content == b"gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


def command(arguments: list[str]) -> None:
    """``graphlore ...`` in this process; an InferenceError with its line where it ends in exit code 2."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, warnings.showwarning, logging.getLogger().handlers[:]
    sys.argv = ["graphlore", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, warnings.showwarning = before[:2]
        logging.getLogger().handlers[:] = before[2]
    lines = [line for line in err.getvalue().splitlines() if line.startswith("graphlore: ")]
    if code == 2:
        assert len(lines) == 1, err.getvalue()
        raise InferenceError(lines[0])
    assert not code, (code, err.getvalue())
    json.loads(out.getvalue())


def readers(run: Path) -> list[Reader]:
    """All ways in. ``run`` is a folder, where a fit is put for the commands that need one."""
    files = fit_files()
    for name, content in files.items():
        (run / name).write_bytes(content)
    words = _free_text("01 ,;\t\n\r\"'#%ab.-")
    xml = r'(?<=[<"/ >])[^<>"/ =\n]+|<[^>]*>'
    gml = _written(nx.write_gml, *NETS[:4])
    seeds = st.integers(0, 2**32 - 1)
    by_file = {
        "settings.json": bad_input.damaged_json_text([json.loads(files["settings.json"])]),
        "history.json": bad_input.damaged_json_text([json.loads(files["history.json"])]),
        "graph.npz": bad_input.damaged_archive(NPZ[:1]),
        "weights.safetensors": bad_input.with_flips(files["weights.safetensors"], 1),
    }
    folders = st.one_of(*(st.tuples(st.just(n), s | st.just(b"gone")) for n, s in by_file.items()))
    fits = (InferenceError, ValueError)
    return [
        Reader(
            "edge list (.csv .tsv .txt .edges)",
            **_graph_files(
                [".csv", ".tsv", ".txt", ".edges"], bad_input.damaged_text(TEXTS), words
            ),
        ),
        Reader(
            "graph archive (.npz)",
            **_graph_files([".npz"], bad_input.damaged_archive(NPZ), st.binary(max_size=60)),
            share=1.5,
        ),
        Reader(
            "array (.npy)",
            **_graph_files([".npy"], bad_input.damaged_npy([*DENSE, _EDGES, _EDGES.T])),
        ),
        Reader(
            "Matrix Market (.mtx)",
            **_graph_files(
                [".mtx"],
                bad_input.damaged_text(
                    _written(
                        lambda m, f: scipy.io.mmwrite(f, m),
                        DENSE[0],
                        sp.coo_array(DENSE[0]),
                        sp.csr_array(NETS[0].number_of_nodes() * DENSE[0]),
                    )
                ),
                words,
            ),
        ),
        Reader(
            "GML (.gml)", **_graph_files([".gml"], bad_input.damaged_text(gml, r"[^\s]+"), words)
        ),
        Reader(
            "GraphML (.graphml)",
            **_graph_files(
                [".graphml"],
                bad_input.damaged_text(_written(nx.write_graphml, *NETS[:4]), xml),
                _BOMBS,
            ),
        ),
        Reader(
            "GEXF (.gexf)",
            **_graph_files(
                [".gexf"], bad_input.damaged_text(_written(nx.write_gexf, *NETS[:4]), xml), _BOMBS
            ),
            share=0.5,
        ),
        Reader(
            "set of graphs (.npz)",
            st.tuples(
                _files([".npz"], bad_input.damaged_archive(SETS[:1]), st.binary(max_size=40)),
                st.fixed_dictionaries(
                    {},
                    optional={
                        "node_types": st.sampled_from(["node_types", "x", "labels"]),
                        "edge_types": st.sampled_from(["edge_types", "num_nodes"]),
                    },
                ),
            ),
            lambda path, options: room.read_graphset(path, **options),
            sound_set,
            file=True,
        ),
        Reader(
            "held-out pairs (.npz)",
            st.tuples(
                _files([".npz"], bad_input.damaged_archive([arrays_written(SPLIT.save)])),
                st.just({}),
            ),
            lambda path, options: room.given_split(karate(), path),
            sound_split,
            file=True,
        ),
        Reader(
            "list of pairs",
            st.tuples(
                _files(
                    [".csv", ".txt"],
                    bad_input.damaged_text(["a,b\n0,1\n3,4\n", "0 33\n1 2"]),
                    words,
                ),
                st.just({}),
            ),
            lambda path, options: room.read_pairs(path, Graph(34, karate().edge_index)),
            sound_pairs,
            file=True,
        ),
        Reader("Graph", bad_input.damaged_options(OPTIONS), _call(Graph), sound_graph, share=1.5),
        Reader(
            "GraphSet",
            bad_input.damaged_options(SETS),
            lambda o: GraphSet(**{**SETS[1], **o}),
            sound_set,
        ),
        Reader(
            "from_edges, as_graph",
            st.one_of(bad_input.damaged_array(_EDGES.T), _free_values()),
            lambda given: (
                room.from_edges(given) if not isinstance(given, str) else room.as_graph(given)
            ),
            sound_graph,
        ),
        Reader(
            "from_networkx",
            st.tuples(st.builds(_odd_net, seeds, st.sampled_from(NETS)), _NET_OPTIONS),
            lambda given: room.from_networkx(given[0], **given[1]),
            sound_graph,
        ),
        Reader(
            "GraphSet.from_networkx",
            st.lists(st.builds(_odd_net, seeds, st.sampled_from(NETS[:3])), max_size=3),
            GraphSet.from_networkx,
            sound_set,
            share=0.5,
        ),
        Reader(
            "from_pyg",
            st.tuples(
                bad_input.damaged_options(_PYG).map(_odd_data),
                st.sampled_from(
                    [{}, {"weight": "edge_weight"}, {"directed": False}, {"clean": True}]
                ),
            ),
            lambda given: room.from_pyg(given[0], **given[1]),
            sound_graph,
        ),
        Reader(
            "from_scipy, from_dense, from_biadjacency",
            st.tuples(
                st.builds(
                    _odd_matrix, seeds, st.one_of(bad_input.damaged_array(DENSE[0]), _free_values())
                ),
                st.sampled_from([{}, {"weighted": True}, {"binarize": True}, {"clean": True}]),
                st.booleans(),
            ),
            _from_matrix,
            sound_graph,
        ),
        Reader(
            "FitSettings",
            bad_input.damaged_json(SETTINGS),
            FitSettings.from_dict,
            sound_settings,
            refuses=(ValueError,),
        ),
        Reader(
            "Recipe",
            bad_input.damaged_json(RECIPES),
            _recipe,
            sound_recipe,
            refuses=(ValueError,),
        ),
        Reader(
            "recipe (.toml .json)",
            st.tuples(
                st.one_of(
                    _files([".json"], bad_input.damaged_json_text(RECIPES)),
                    _files([".toml"], bad_input.damaged_text(TOML, r"[^\s=\[\],]+")),
                ),
                st.just({}),
            ),
            lambda path, options: Recipe.read(path),
            sound_recipe,
            refuses=fits,
            file=True,
        ),
        Reader(
            "Fit.load",
            folders,
            lambda path: Fit.load(path),
            sound_fit,
            refuses=(InferenceError,),
            file=True,
        ),
        Reader(
            "graphlore data",
            st.tuples(
                st.one_of(
                    _files([".csv", ".txt"], bad_input.damaged_text(TEXTS), words),
                    _files([".npz"], bad_input.damaged_archive(NPZ)),
                    _files([".gml"], bad_input.damaged_text(gml, r"[^\s]+")),
                ),
                st.lists(st.sampled_from(["--weights", "--directed", "--header"]), unique=True),
            ),
            lambda path, options: command(["data", str(path), *options, "--json"]),
            nothing,
            refuses=(InferenceError,),
            file=True,
            share=0.4,
        ),
        Reader(
            "graphlore predict",
            st.tuples(
                _files([".csv"], bad_input.damaged_text(["a,b\n0,1\n3,4\n", "0 5\n1 2"]), words),
                st.just([]),
            ),
            lambda path, options: command(
                ["predict", str(run), str(path), "--draws", "2", "--json"]
            ),
            nothing,
            refuses=(InferenceError,),
            file=True,
            share=0.2,
        ),
    ]


def _recipe(given: Any) -> Recipe:
    known = {"story", "guide", "fit"}
    if not isinstance(given, dict) or set(given) - known:
        return Recipe(given)
    return Recipe(**given)


def _from_matrix(given: Any) -> Graph:
    matrix, options, two_sided = given
    if two_sided:
        options = {k: v for k, v in options.items() if k != "clean"}
        return room.from_biadjacency(matrix, **options)
    return (room.from_scipy if sp.issparse(matrix) else room.from_dense)(matrix, **options)
