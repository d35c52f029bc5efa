"""The files of a finished fit in its folder: written together, and read back only if they still belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..data import Graph, GraphError, read_graph, write_npz
from ..data.atomic import replacing_all
from .elbo import InferenceError
from .lock import locked
from .tensor_files import read_tensors, save_tensors

__all__ = ["read_run", "write_run"]

_SETTINGS, _WEIGHTS, _HISTORY, _GRAPH = (
    "settings.json",
    "weights.safetensors",
    "history.json",
    "graph.npz",
)
_FILES, _SUM = "files", "sha256"


def write_run(
    folder: str | Path,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    history: Mapping[str, Any],
    graph: Graph,
) -> Path:
    """Write a run; settings.json keeps the sha256 of the other files, and of itself.

    Raises:
        InferenceError: the folder cannot be written to, or another process writes there; what stood there stays.
    """
    folder = Path(folder)
    names = (_SETTINGS, _WEIGHTS, _HISTORY, _GRAPH)
    try:
        # all are written before one is replaced, settings.json last
        with locked(folder), replacing_all(*(folder / name for name in names)) as partial:
            of_settings, of_weights, of_history, of_graph = partial
            save_tensors(of_weights, weights)
            of_history.write_text(json.dumps(history), encoding="utf-8")
            write_npz(graph.to("cpu"), of_graph)
            sums = {
                name: _sum(path.read_bytes())
                for name, path in zip(names[1:], partial[1:], strict=True)
            }
            told = {**settings, _FILES: sums}
            told[_SUM] = _sum_of_settings(told)
            of_settings.write_text(json.dumps(told, indent=2), encoding="utf-8")
    except (OSError, GraphError, SafetensorError) as error:
        raise InferenceError(f"cannot write to {folder}: {error}") from None
    return folder


def read_run(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, list[float]], Graph]:
    """(settings, weights, history, graph). Runs of versions that kept no check sums are read without them.

    Raises:
        InferenceError: a file is missing or damaged, or not of the same save as settings.json.
    """
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
    try:
        graph = read_graph(folder / _GRAPH)
    except GraphError as error:
        raise InferenceError(str(error)) from None
    tensors, _ = read_tensors(folder / _WEIGHTS)
    sums = settings.get(_FILES, {})
    for name in (_WEIGHTS, _HISTORY, _GRAPH):
        if isinstance(sums, dict) and name in sums and sums[name] != _sum_of_file(folder / name):
            raise InferenceError(
                f"{folder / name} is damaged, or of another save than {_SETTINGS}: resume the fit, or save it again"
            )
    return settings, tensors, history, graph


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
