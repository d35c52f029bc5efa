"""What a fit shows while it runs: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar"]

_LINES = 10  # in a pipe


class ProgressBar:
    """Step, ELBO (or log joint), active communities, seconds left. Silent unless made by :meth:`choose` to speak."""

    def __init__(
        self, steps: int, console: Console | None, words: tuple[str, str] = ("fit", "ELBO")
    ) -> None:
        self._steps, self._console = steps, console
        self._task_name, self._objective = words
        self._bar: Progress | None = None
        self._said = 0  # tenths of the way, in a pipe

    @classmethod
    def choose(
        cls, steps: int, progress: bool | None, words: tuple[str, str] = ("fit", "ELBO")
    ) -> ProgressBar:
        """A bar, for True or on a terminal; nothing for False. ``words`` name the task and what ``elbo`` is."""
        console = Console(stderr=True)
        show = console.is_terminal if progress is None else progress
        return cls(steps, console if show else None, words)

    def __enter__(self) -> Self:
        if self._console is not None and self._console.is_terminal:
            self._bar = Progress(
                TextColumn(f"[bold]{self._task_name}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn(self._objective + " {task.fields[elbo]}"),
                TextColumn("{task.fields[active]}"),
                TextColumn("{task.fields[validation]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self._task_name, total=self._steps, elbo="-", active="", validation=""
            )
        return self

    def update(self, history: dict[str, list[float]]) -> None:
        if self._console is None:
            return
        done = int(history["step"][-1]) + 1
        recent = history["elbo"][-20:]
        active = history["active_communities"][-1]
        fields: dict[str, Any] = {
            "elbo": f"{sum(recent) / len(recent):,.1f}",
            "active": "" if math.isnan(active) else f"active {active:.1f}",
            "validation": _validated(history),
        }
        if self._bar is not None:
            self._bar.update(self._task, completed=done, **fields)
        elif done == self._steps or done * _LINES // self._steps > self._said:
            self._said = done * _LINES // self._steps
            left = history["seconds"][-1] / done * (self._steps - done)
            told = (
                f"step {done}/{self._steps}",
                f"{self._objective} {fields['elbo']}",
                fields["active"],
                fields["validation"],
                f"{left:.0f} s left",
            )
            self._console.print("  ".join(filter(None, told)), highlight=False, soft_wrap=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _validated(history: dict[str, list[float]]) -> str:
    for name, words in (("val_auc", "val AUC"), ("val_accuracy", "val accuracy")):
        if history.get(name):
            return f"{words} {history[name][-1]:.3f}"
    return ""
