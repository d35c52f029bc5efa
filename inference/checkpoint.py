"""Checkpoints of a running fit: one safetensors file, replaced atomically, that resumes to the same result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .elbo import InferenceError
from .settings import FitSettings

if TYPE_CHECKING:
    from .training import _Run

__all__ = ["State", "load", "load_random_state", "read_tensors", "save", "write_tensors"]


class State:
    """A run as named tensors and plain values, there and back."""

    _PLAIN = ("step", "settled", "best_step", "best_score", "waited", "seconds", "history")

    def __init__(self, run: _Run) -> None:
        self.run = run

    def tensors(self) -> dict[str, Tensor]:
        run = self.run
        found = {f"weights.{k}": v for k, v in run.weights().items()}
        found |= {f"average.{k}": v for k, v in run.average.items()}
        found |= {f"best.{k}": v for k, v in run.best.items()}
        found |= {f"baseline.{k}": v for k, v in run.elbo.averages.get_extra_state().items()}
        for i, state in run.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        return found | {"random": torch.get_rng_state()}

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self.run, name) for name in self._PLAIN}

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        run = self.run
        expected = {f"weights.{k}": v.shape for k, v in run.weights().items()}
        held = {k: v.shape for k, v in tensors.items() if k.startswith("weights.")}
        if expected != held:
            raise InferenceError(
                "the checkpoint is of another story or guide: its weights differ in name or shape"
            )
        device = next(iter(run.weights().values())).device
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor if part == "random" else tensor.to(device)
        run.put(parts["weights"])
        run.average, run.best = parts.get("average", {}), parts.get("best", {})
        run.elbo.averages.set_extra_state(parts.get("baseline", {}))
        optimizer = run.optimizer.state_dict()
        for name, tensor in parts.get("optimizer", {}).items():
            i, _, key = name.partition(".")
            optimizer["state"].setdefault(int(i), {})[key] = (
                tensor.cpu() if key == "step" else tensor
            )
        run.optimizer.load_state_dict(optimizer)
        run.random_state = parts["random"][""]
        for name in self._PLAIN:
            setattr(run, name, plain[name])


def save(file: Path, state: State, settings: FitSettings) -> None:
    """Write a checkpoint; the one before it stays until this one is whole.

    Raises:
        InferenceError: the folder cannot be written to (full, read-only); the earlier checkpoint is untouched.
    """
    plain = {"settings": settings.to_dict(), **state.plain()}
    write_tensors(file, state.tensors(), {"run": json.dumps(plain)})


def load(file: Path, state: State, settings: FitSettings) -> None:
    """Put a checkpoint into a run.

    Raises:
        InferenceError: no such file, a damaged one, or one of another story, guide or settings.
    """
    tensors, metadata = read_tensors(file)
    try:
        plain = json.loads(metadata["run"])
        before = FitSettings.from_dict(plain.pop("settings"))
    except (KeyError, ValueError) as error:
        raise InferenceError(f"{file} is no checkpoint of a fit: {error}") from None
    if before != settings:
        changed = [k for k, v in settings.to_dict().items() if before.to_dict()[k] != v]
        raise InferenceError(
            f"{file} was written with other settings ({', '.join(changed)}): resume with the same ones, or fit anew"
        )
    state.restore(tensors, plain)


def load_random_state(random_state: Tensor | None) -> None:
    """Set torch's generator to where the checkpoint left it."""
    if random_state is not None:
        torch.set_rng_state(random_state.cpu())


def write_tensors(
    file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """A safetensors file, written beside its name and then moved there."""
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            partial,
            metadata,
        )
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise InferenceError(f"cannot write {file}: {error}") from None


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; nothing in it is executed.

    Raises:
        InferenceError: the file is missing or damaged.
    """
    if not file.is_file():
        raise InferenceError(f"there is no file {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            return {k: opened.get_tensor(k) for k in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InferenceError(f"{file} is damaged or not a safetensors file: {error}") from None
