"""Tensors in safetensors files with a check sum, so that weights that a disk has spoilt are not taken for others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from ..data.atomic import replacing
from .elbo import InferenceError

__all__ = ["read_tensors", "save_tensors", "write_tensors"]

_SUM = "sha256"


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file, written beside its name and then moved there, with the sha256 of its content.

    Raises:
        InferenceError: the folder cannot be written to (full, read-only, a file in its place).
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            save_tensors(partial, tensors, metadata)
    except (OSError, SafetensorError) as error:
        raise InferenceError(f"cannot write {file}: {error}") from None


def save_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """The same, straight to the file. Raises OSError or SafetensorError."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    told = dict(metadata or {})
    save_file(plain, file, {**told, _SUM: _digest(plain, told)})


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; nothing in it is executed.

    Files of versions that wrote no check sum are read without one.

    Raises:
        InferenceError: the file is missing or damaged.
    """
    if not file.is_file():
        raise InferenceError(f"there is no file {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
            metadata = dict(opened.metadata() or {})
    except Exception as error:  # a header that lies makes torch raise what it likes
        raise InferenceError(f"{file} is damaged or not a safetensors file: {error}") from None
    expected = metadata.pop(_SUM, None)
    if expected is not None and expected != _digest(tensors, metadata):
        raise InferenceError(f"{file} is damaged: its content does not have the check sum in it")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        x = tensors[name]
        digest.update(f"|{name} {x.dtype} {tuple(x.shape)}|".encode())
        digest.update(x.contiguous().flatten().view(uint8).numpy().data)
    return digest.hexdigest()
