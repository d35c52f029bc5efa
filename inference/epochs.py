"""Checkpoints of fits to many graphs, which count epochs: one safetensors file that resumes to the same result."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ..data import GraphSet
from ..data.fingerprint import fingerprint_of_set
from ..models.base import check_count
from ..models.processes import Processes
from .ascent import Ascent
from .checkpoint import CHECKPOINT, check_same_settings, goes_on
from .elbo import InferenceError
from .job import lost_is_told, own_noise
from .lock import locked
from .optimizer_state import put_random, random_tensors
from .seeds import seeded
from .tensor_files import read_tensors, write_tensors

__all__ = ["EpochCheckpoints"]


class EpochCheckpoints:
    """Keeps the state after an epoch in a folder's checkpoint.safetensors.

    Arguments:
        module: what is trained.
        ascent: what trains it.
        settings: everything that decides the fit, "epochs" and "seed" among it; a fit resumes with the same.
        graphs: the data.
        folder: where the file goes; None: nothing is written.
        device: of the fit.
        every: epochs between checkpoints.

    Raises:
        ValueError: ``every`` below 1.
    """

    def __init__(
        self,
        module: nn.Module,
        ascent: Ascent,
        settings: Mapping[str, Any],
        graphs: GraphSet,
        folder: str | Path | None,
        device: torch.device,
        every: int,
    ) -> None:
        check_count("checkpoint_every", every, "the number of epochs between checkpoints")
        self.module, self.ascent, self.device, self.every = module, ascent, device, every
        self.file = None if folder is None else Path(folder) / CHECKPOINT
        self.told = {
            "settings": json.loads(json.dumps(settings)),
            "graphs": "" if folder is None else fingerprint_of_set(graphs),
        }
        self._random: dict[str, Tensor] | None = None

    @contextmanager
    def running(
        self, resume: bool, history: dict[str, list[float]]
    ) -> Iterator[tuple[range, float]]:
        """The block in which the epochs run, and nobody else writes to the folder: (those to do, the clock's start).

        Arguments:
            resume: go on from the file.
            history: of the fit; what the file has is put in.

        Raises:
            ValueError: no folder to go on from.
            InferenceError: as :meth:`load`; another process writes to the folder; a process of the job is lost.
        """
        processes, settings = Processes.of_the_job(), self.told["settings"]
        with (
            locked(None if self.file is None else self.file.parent),
            seeded(settings["seed"], self.device),
            # the graphs were checked before; checking every distribution again costs a quarter of a step
            pyro.validation_enabled(False),
            lost_is_told(processes, self.file),
        ):
            done = self._begin(resume, history)
            own_noise(processes, settings["seed"], done)
            start = time.perf_counter() - (history["seconds"][-1] if done else 0.0)
            yield range(done, settings["epochs"]), start

    def save_if_due(self, epoch: int, history: Mapping[str, list[float]]) -> None:
        """Keep the state after so many epochs, if it is time for it: after the first, for there to be one at all."""
        if epoch == 1 or epoch % self.every == 0 or epoch == self.told["settings"]["epochs"]:
            self.save(epoch, history)

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

    def _begin(self, resume: bool, history: dict[str, list[float]]) -> int:
        """Go on from the file, its history included, if asked to; returns how many epochs are done."""
        if not goes_on(resume, None if self.file is None else self.file.parent):
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
        check_same_settings(self.file, before, self.told["settings"])
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
