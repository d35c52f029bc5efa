"""The files of a finished fit in its folder: written together, and read back only if they still belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch import Tensor, nn

from ..data import (
    Graph,
    GraphError,
    GraphSet,
    read_graph,
    read_graphset,
    write_graphset,
    write_npz,
)
from ..data.atomic import replacing_all
from .elbo import InferenceError
from .lock import locked
from .tensor_files import read_tensors, save_tensors

__all__ = [
    "holds_set",
    "put_weights",
    "read_run",
    "read_set_run",
    "told",
    "weights_of",
    "write_run",
]

_SETTINGS, _WEIGHTS, _HISTORY, _GRAPH, _GRAPHS = (
    "settings.json",
    "weights.safetensors",
    "history.json",
    "graph.npz",
    "graphs.npz",
)
_FILES, _SUM = "files", "sha256"
Data = TypeVar("Data", Graph, GraphSet)


def write_run(
    folder: str | Path,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    history: Mapping[str, Any],
    graph: Graph | GraphSet,
) -> Path:
    """Write a run, of one graph or of a set; settings.json keeps the sha256 of the other files, and of itself.

    Raises:
        InferenceError: the folder cannot be written to, or another process writes there; what stood there stays.
    """
    folder = Path(folder)
    many = isinstance(graph, GraphSet)
    names = (_SETTINGS, _WEIGHTS, _HISTORY, _GRAPHS if many else _GRAPH)
    try:
        # all are written before one is replaced, settings.json last
        with locked(folder), replacing_all(*(folder / name for name in names)) as partial:
            of_settings, of_weights, of_history, of_graph = partial
            save_tensors(of_weights, weights)
            of_history.write_text(json.dumps(history), encoding="utf-8")
            if isinstance(graph, GraphSet):
                write_graphset(graph, of_graph)
            else:
                write_npz(graph.to("cpu"), of_graph)
            sums = {
                name: _sum(path.read_bytes())
                for name, path in zip(names[1:], partial[1:], strict=True)
            }
            whole = {**settings, _FILES: sums}
            whole[_SUM] = _sum_of_settings(whole)
            of_settings.write_text(json.dumps(whole, indent=2), encoding="utf-8")
    except (OSError, GraphError, SafetensorError) as error:
        raise InferenceError(f"cannot write to {folder}: {error}") from None
    return folder


def read_run(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, list[float]], Graph]:
    """(settings, weights, history, graph). Runs of versions that kept no check sums are read without them.

    Raises:
        InferenceError: a file is missing or damaged, or not of the same save as settings.json; a run of many graphs.
    """
    settings, history = _plain_files(folder)
    if _is_of_set(settings):
        raise InferenceError(f"{folder} is a fit to a set of graphs: SequentialFit.load reads it")
    return settings, *_checked(folder, settings, history, _GRAPH, read_graph)


def read_set_run(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, list[float]], GraphSet]:
    """The same for a run of many graphs.

    Raises:
        InferenceError: a file is missing or damaged, or not of the same save as settings.json; a run of one graph.
    """
    settings, history = _plain_files(folder)
    if not _is_of_set(settings):
        raise InferenceError(f"{folder} is no fit to a set of graphs: Fit.load reads fits to one")
    return settings, *_checked(folder, settings, history, _GRAPHS, read_graphset)


def holds_set(folder: Path) -> bool:
    """Whether the run in a folder is of many graphs.

    Raises:
        InferenceError: there is no run, or its settings.json is damaged.
    """
    return _is_of_set(_read_json(folder / _SETTINGS))


def weights_of(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The weights of modules by their names, as a run keeps them."""
    return {
        f"{part}.{k}": v for part, module in parts.items() for k, v in module.state_dict().items()
    }


def put_weights(
    parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    """The inverse of :func:`weights_of`.

    Raises:
        InferenceError: weights of other modules than settings.json describes.
    """
    try:
        for part, module in parts.items():
            module.load_state_dict(
                {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(part + ".")}
            )
    except RuntimeError as error:
        raise InferenceError(
            f"{folder / _WEIGHTS} does not fit settings.json: {' '.join(str(error).split())}"
        ) from None


def told(error: Exception) -> str:
    """What is wrong with settings, in a line."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    words = str(error) if isinstance(error, ValueError) else "a value is of a wrong kind"
    return f"{words:.500}"


def _is_of_set(settings: Any) -> bool:
    files = settings.get(_FILES) if isinstance(settings, dict) else None
    return isinstance(files, dict) and _GRAPHS in files


def _plain_files(folder: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Settings and history."""
    settings, history = (_read_json(folder / name) for name in (_SETTINGS, _HISTORY))
    for path, found in ((folder / _SETTINGS, settings), (folder / _HISTORY, history)):
        if not isinstance(found, dict):
            raise InferenceError(f"{path} is damaged: it holds no table")
    expected = settings.get(_SUM)
    if expected is not None and expected != _sum_of_settings(settings):
        raise InferenceError(
            f"{folder / _SETTINGS} is damaged: it does not have the check sum in it. If you changed it by hand and "
            f'mean it, take its entry "{_SUM}" out'
        )
    return settings, history


def _checked(
    folder: Path,
    settings: dict[str, Any],
    history: dict[str, list[float]],
    name: str,
    read: Callable[[Path], Data],
) -> tuple[dict[str, Tensor], dict[str, list[float]], Data]:
    """Weights, history and data, if they are what settings.json says."""
    try:
        data = read(folder / name)
    except GraphError as error:
        raise InferenceError(str(error)) from None
    tensors, _ = read_tensors(folder / _WEIGHTS)
    sums = settings.get(_FILES, {})
    for file in (_WEIGHTS, _HISTORY, name):
        if isinstance(sums, dict) and file in sums and sums[file] != _sum_of_file(folder / file):
            raise InferenceError(
                f"{folder / file} is damaged, or of another save than {_SETTINGS}: resume the fit, or save it again"
            )
    if not all(
        isinstance(column, list) and all(isinstance(x, int | float) for x in column)
        for column in history.values()
    ):
        raise InferenceError(f"{folder / _HISTORY} is damaged: no lists of numbers by name")
    return tensors, history, data


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sum_of_file(path: Path) -> str:
    try:
        return _sum(path.read_bytes())
    except OSError as error:
        raise InferenceError(f"{path} cannot be read: {error}") from None


def _sum_of_settings(settings: Mapping[str, Any]) -> str:
    """Of what the file says, not of how it is laid out."""
    rest = {k: v for k, v in settings.items() if k != _SUM}
    return _sum(json.dumps(rest, sort_keys=True).encode())


def _read_json(path: Path) -> Any:
    if path.exists() and not path.is_file():
        raise InferenceError(f"{path} is damaged: it is no file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InferenceError(
            f"there is no file {path}: is {path.parent} the folder of a fit?"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InferenceError(f"{path} is damaged: {error}") from None
