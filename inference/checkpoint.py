"""Checkpoints of a running fit: one safetensors file, replaced atomically, that resumes to the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import Graph
from ..models.processes import Processes
from .elbo import InferenceError
from .held_out import HeldOut
from .job import was_restarted
from .optimizer_state import optimizer_tensors, put_optimizer, put_random, random_tensors
from .run import Run
from .settings import FitSettings
from .tensor_files import read_tensors, write_tensors

__all__ = ["CHECKPOINT", "Checkpoints", "check_same_settings", "goes_on", "has_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"

_AT_ONCE = "Nothing is learnt yet, so look for features or weights of extreme size"
_PLAIN = ("step", "settled", "best_step", "best_score", "waited", "seconds", "history")


def has_checkpoint(folder: str | Path | None) -> bool:
    """Whether a fit has left a checkpoint in the folder."""
    return folder is not None and (Path(folder) / CHECKPOINT).is_file()


def goes_on(resume: bool, folder: str | Path | None) -> bool:
    """Whether a fit goes on from its folder: when asked to, or when torchrun has started its job anew."""
    return resume or (was_restarted() and has_checkpoint(folder))


def check_same_settings(file: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint under other settings.

    Raises:
        InferenceError: it names those that differ.
    """
    changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
    if changed:
        raise InferenceError(
            f"{file} was written with other settings ({', '.join(changed)}): resume with the same ones, or fit anew"
        )


class Checkpoints:
    """Keeps the last good state of a run, in memory and in a folder's checkpoint.safetensors.

    A state is only proposed when it is reached; it counts as good, and is written, once the objective and its gradient
    have been found finite there.

    Arguments:
        folder: where the file goes; None keeps the state in memory alone.
        held_out: what validates; a run resumes with the same, or its best state would be compared to another score.
    """

    def __init__(
        self,
        run: Run,
        settings: FitSettings,
        graph: Graph,
        folder: str | Path | None,
        held_out: HeldOut | None = None,
    ) -> None:
        self.run, self.settings = run, settings
        self.file = None if folder is None else Path(folder) / CHECKPOINT
        self._writes = folder is not None and Processes.of_the_job().rank == 0
        self.identity = {
            "story": _described(run.story),
            "guide": _described(run.guide),
            "graph": graph.fingerprint(),
            "validation": None if held_out is None else held_out.fingerprint(),
        }
        self._good = {k: v.clone() for k, v in run.weights().items()}
        self._proposed: tuple[dict[str, Tensor], str] | None = None
        self._random_states: dict[str, Tensor] | None = None

    def propose(self) -> None:
        """Remember the present state; it becomes the last good one if the next step finds it sound."""
        self._proposed = self._tensors(), self._plain()

    def confirm(self) -> None:
        """The proposed state has been evaluated and is sound.

        Raises:
            InferenceError: the folder cannot be written to; the earlier checkpoint is untouched.
        """
        if self._proposed is None:
            return
        (tensors, plain), self._proposed = self._proposed, None
        self._good = {
            k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")
        }
        if self.file is not None and self._writes:
            write_tensors(self.file, tensors, {"run": plain})

    def finish(self) -> None:
        """Write what was proposed last, if its weights are numbers."""
        if self._proposed is not None:
            tensors = self._proposed[0]
            if all(
                bool(torch.isfinite(v).all()) for k, v in tensors.items() if v.is_floating_point()
            ):
                self.confirm()

    def break_down(self, step: int, reason: str) -> InferenceError:
        """Put the last good weights back; the error to raise."""
        self.run.put(self._good)
        kept = "" if self.file is None or not self.file.exists() else f", which {self.file} keeps"
        return InferenceError(
            f"step {step}: {reason}. Story and guide hold the last good state{kept}. "
            + ("A smaller learning_rate or clip usually helps" if step else _AT_ONCE)
        )

    def load(self) -> None:
        """Go back to the state in the file.

        Raises:
            InferenceError: no such file, a damaged one, or one of another story, guide, graph or settings.
        """
        assert self.file is not None
        tensors, metadata = read_tensors(self.file)
        try:
            plain = json.loads(metadata["run"])
            before = FitSettings.from_dict(plain["settings"])
            identity, values = plain["identity"], {name: plain[name] for name in _PLAIN}
            random_states = {"random": tensors.pop("random")}
            if "random_device" in tensors:
                random_states["random_device"] = tensors.pop("random_device")
        except (KeyError, TypeError, ValueError) as error:
            raise InferenceError(f"{self.file} is no checkpoint of a fit: {error}") from None
        check_same_settings(self.file, before.to_dict(), self.settings.to_dict())
        identity.setdefault("validation", self.identity["validation"])  # earlier versions kept none
        for kind, mine in json.loads(json.dumps(self.identity)).items():
            if identity.get(kind) != mine:
                raise InferenceError(
                    f"{self.file} is of another {kind}: resume with the same one, or fit anew"
                )
        self._restore(tensors)
        # columns that an earlier version did not have stay empty
        values["history"] = {**self.run.history, **values["history"]}
        for name, value in values.items():
            setattr(self.run, name, value)
        self._random_states = random_states

    def load_random_state(self) -> None:
        """Set torch's generators to where the checkpoint left them."""
        if self._random_states is not None:
            put_random(self._random_states, self.settings.device)

    def _tensors(self) -> dict[str, Tensor]:
        run = self.run
        found = {f"weights.{k}": v for k, v in run.weights().items()}
        found |= {f"average.{k}": v for k, v in run.average.items()}
        found |= {f"best.{k}": v for k, v in run.best.items()}
        found |= {f"baseline.{k}": v for k, v in run.elbo.averages.get_extra_state().items()}
        found |= {f"optimizer.{k}": v for k, v in optimizer_tensors(run.optimizer).items()}
        found |= random_tensors(self.settings.device)
        return {k: v.detach().clone() for k, v in found.items()}

    def _plain(self) -> str:
        values = {name: getattr(self.run, name) for name in _PLAIN}
        return json.dumps(
            {"settings": self.settings.to_dict(), "identity": self.identity, **values}
        )

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        run = self.run
        expected = {f"weights.{k}": v.shape for k, v in run.weights().items()}
        held = {k: v.shape for k, v in tensors.items() if k.startswith("weights.")}
        if expected != held:
            raise InferenceError(
                f"{self.file} is of another story or guide: its weights differ in name or shape"
            )
        device = next(iter(run.weights().values())).device
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor.to(device)
        run.put(parts["weights"])
        self._good = parts["weights"]
        run.average, run.best = parts.get("average", {}), parts.get("best", {})
        run.elbo.averages.set_extra_state(parts.get("baseline", {}))
        put_optimizer(run.optimizer, parts.get("optimizer", {}))


def _described(module: Any) -> dict[str, Any]:
    return {"class": type(module).__name__, "options": getattr(module, "options", {})}
