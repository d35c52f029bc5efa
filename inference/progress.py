"""What a fit shows while it runs: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar", "counting_draws"]

_LINES = 10  # in a pipe


class ProgressBar:
    """Step, ELBO (or log joint), active communities, seconds left. Silent unless made by :meth:`choose` to speak."""

    def __init__(
        self,
        steps: int,
        console: Console | None,
        words: tuple[str, str] = ("fit", "ELBO"),
        unit: str = "step",
    ) -> None:
        self._steps, self._console, self._unit = steps, console, unit
        self._task_name, self._objective = words
        self._bar: Progress | None = None
        self._said = 0  # tenths of the way, in a pipe

    @classmethod
    def choose(
        cls,
        steps: int,
        progress: bool | None,
        words: tuple[str, str] = ("fit", "ELBO"),
        unit: str = "step",
    ) -> ProgressBar:
        """A bar, for True or on a terminal; nothing for False. ``words`` name the task and what ``elbo`` is."""
        console = Console(stderr=True)
        show = console.is_terminal if progress is None else progress
        return cls(steps, console if show else None, words, unit)

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
        """Say how far a fit is, from its history by step."""
        if self._console is None:
            return
        active = history["active_communities"][-1]
        self._say(
            int(history["step"][-1]) + 1,
            history["elbo"][-20:],
            history["seconds"][-1],
            "" if math.isnan(active) else f"active {active:.1f}",
            _validated(history),
        )

    def update_epoch(self, history: dict[str, list[float]]) -> None:
        """The same of a fit to many graphs, whose history is by epoch."""
        if self._console is None:
            return
        values = history["elbo"] if "elbo" in history else history["log_prob"]
        entropy = history.get("order_entropy")
        told = "" if entropy is None else f"order entropy {entropy[-1]:.1f}"
        self._say(len(values), values[-5:], history["seconds"][-1], told, "")

    def _say(
        self, done: int, recent: list[float], seconds: float, active: str, validation: str
    ) -> None:
        digits = 1 if self._unit == "step" else 2
        value = f"{sum(recent) / len(recent):,.{digits}f}"
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, elbo=value, active=active, validation=validation
            )
        elif done == self._steps or done * _LINES // self._steps > self._said:
            self._said = done * _LINES // self._steps
            left = seconds / done * (self._steps - done)
            told = (
                f"{self._unit} {done}/{self._steps}",
                f"{self._objective} {value}",
                active,
                validation,
                f"{left:.0f} s left",
            )
            assert self._console is not None
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


@contextmanager
def counting_draws(draws: int, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """A bar over posterior draws, for True or on a terminal, that is gone in the end; called with how many more are
    done."""
    console = Console(stderr=True)
    show = console.is_terminal if progress is None else progress
    columns = (
        TextColumn("[bold]posterior"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("draws"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True, disable=not show) as bar:
        task = bar.add_task("posterior", total=draws)
        yield lambda done: bar.advance(task, done)
