"""NumPy archives (.npz) as dictionaries of arrays: no pickles, nothing unpacked to disk, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import replacing
from .numpy_files import arrays_of
from .validation import GraphError

__all__ = ["read_arrays", "write_arrays"]


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an archive by name, with one error.

    Raises:
        GraphError: the file is missing, damaged or no archive.
    """
    try:
        return arrays_of(path)
    except FileNotFoundError:
        raise GraphError(f"There is no file {path} that can be read.") from None
    except (OSError, GraphError) as error:
        raise GraphError(f"{path} is no .npz archive that can be read: {error}") from error


def write_arrays(path: str | Path, arrays: Mapping[str, Any]) -> Path:
    """A compressed archive; ``.npz`` is put in place of no suffix. Returns the path written.

    Raises:
        GraphError: the file cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".npz")
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise GraphError(f"Could not write {path}: {error}.") from error
    return path
