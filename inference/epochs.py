"""Checkpoints of fits to many graphs, which count epochs: one safetensors file that resumes to the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import GraphSet
from ..data.fingerprint import fingerprint_of_set
from ..models.processes import Processes
from .ascent import Ascent
from .checkpoint import CHECKPOINT
from .elbo import InferenceError
from .job import was_restarted
from .lock import locked
from .optimizer_state import put_random, random_tensors
from .tensor_files import read_tensors, write_tensors

__all__ = ["EpochCheckpoints"]


class EpochCheckpoints:
    """Keeps the state after an epoch in a folder's checkpoint.safetensors.

    Arguments:
        module: what is trained.
        ascent: what trains it.
        settings: everything that decides the fit; a fit resumes with the same.
        graphs: the data.
        folder: where the file goes; None: nothing is written.
        device: of the fit.
    """

    def __init__(
        self,
        module: nn.Module,
        ascent: Ascent,
        settings: Mapping[str, Any],
        graphs: GraphSet,
        folder: str | Path | None,
        device: torch.device,
    ) -> None:
        self.module, self.ascent, self.device = module, ascent, device
        self.file = None if folder is None else Path(folder) / CHECKPOINT
        self.told = {
            "settings": json.loads(json.dumps(settings)),
            "graphs": "" if folder is None else fingerprint_of_set(graphs),
        }
        self._random: dict[str, Tensor] | None = None

    def save(self, epoch: int, history: Mapping[str, list[float]]) -> None:
        """The state after so many epochs.

        Raises:
            InferenceError: the folder cannot be written to; the earlier checkpoint is untouched.
        """
        if self.file is None or Processes.of_the_job().rank:
            return
        tensors = {f"weights.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"ascent.{k}": v for k, v in self.ascent.tensors().items()}
        tensors |= random_tensors(self.device)
        told = json.dumps({**self.told, "epoch": epoch, "history": history})
        write_tensors(self.file, tensors, {"epochs": told})

    def writing(self) -> AbstractContextManager[Any]:
        """The block in which nobody else may write to the folder."""
        return nullcontext() if self.file is None else locked(self.file.parent)

    def begin(self, resume: bool, history: dict[str, list[float]]) -> int:
        """Go on from the file, its history included, if asked to; returns how many epochs are done.

        Raises:
            ValueError: no folder to go on from.
            InferenceError: as :meth:`load`.
        """
        if not resume and not (self.file is not None and was_restarted() and self.file.is_file()):
            return 0
        if self.file is None:
            raise ValueError("resume=True needs the folder that holds the checkpoint")
        epoch, before = self.load()
        history.update(before)
        assert self._random is not None
        put_random(self._random, self.device)
        return epoch

    def load(self) -> tuple[int, dict[str, list[float]]]:
        """Go back to the state in the file: (epochs that are done, the history).

        Raises:
            InferenceError: no such file, a damaged one, or one of another story, other graphs or settings.
        """
        assert self.file is not None
        tensors, metadata = read_tensors(self.file)
        try:
            told = json.loads(metadata["epochs"])
            epoch, history = int(told["epoch"]), dict(told["history"])
            before = told["settings"]
            self._random = {k: tensors.pop(k) for k in ("random", "random_device") if k in tensors}
            parts: dict[str, dict[str, Tensor]] = {"weights": {}, "ascent": {}}
            for name, tensor in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = tensor.to(self.device)
            self._random["random"]
        except (KeyError, TypeError, ValueError) as error:
            raise InferenceError(
                f"{self.file} is no checkpoint of a fit to many graphs: {error}"
            ) from None
        if before != self.told["settings"]:
            names = sorted({*before, *self.told["settings"]})
            changed = [k for k in names if before.get(k) != self.told["settings"].get(k)]
            raise InferenceError(
                f"{self.file} was written with other settings ({', '.join(changed)}): resume with the same ones, or "
                "fit anew"
            )
        if told.get("graphs") != self.told["graphs"]:
            raise InferenceError(
                f"{self.file} is of other graphs: resume with the same, or fit anew"
            )
        mine = {k: v.shape for k, v in self.module.state_dict().items()}
        if mine != {k: v.shape for k, v in parts["weights"].items()}:
            raise InferenceError(
                f"{self.file} is of another story or guide: its weights differ in name or shape"
            )
        self.module.load_state_dict(parts["weights"])
        self.ascent.put(parts["ascent"])
        return epoch, history
