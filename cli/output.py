"""What commands print: tables for people, JSON for programs, one line for what went wrong."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = [
    "command",
    "destination",
    "errors",
    "fail",
    "in_shell_words",
    "print_json",
    "print_numbers",
    "print_table",
    "say",
]


def _console() -> Console:
    # in a pipe no cell is folded or cut: programs read the lines
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=10_000)


def errors() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str, code: int = 2) -> NoReturn:
    """Say in one line what went wrong, and end."""
    # one line: what Pyro appends to a message (the shapes of a trace) is for a story's author
    line = escape(in_shell_words(message.splitlines()[0]) if message else "failed without a word")
    errors().print(f"[bold red]graphlore:[/] {line}")
    sys.exit(code)


def in_shell_words(message: str) -> str:
    """A message of the library with its Python options as those of the command line: clean=True is --clean."""
    message = re.sub(r"\b(clean|weights|directed|header)=True\b", r"--\1", message)
    message = re.sub(r"\bnum_blocks=", "truncation=", message)
    return re.sub(r"\b(truncation|likelihood|bias|gradient)='?(\w+)'?", r"--\1 \2", message)


def say(text: str) -> None:
    """A line of words on standard output, of any length."""
    _console().print(text, soft_wrap=True)


def print_json(value: Any) -> None:
    """One line of JSON; numbers that JSON has no form for (NaN, infinity) are null."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def print_numbers(numbers: Mapping[str, Any], title: str) -> None:
    """Names and values, one a line."""
    print_table(None, numbers.items(), title)


def print_table(
    columns: Iterable[str] | None, rows: Iterable[Iterable[Any]], title: str | None = None
) -> None:
    """A table; numbers have five significant digits and stand on the right."""
    kept = [list(row) for row in rows]
    heads = list(columns) if columns is not None else [""] * (len(kept[0]) if kept else 2)
    table = Table(
        title=None if title is None else escape(title),
        show_header=columns is not None,
        title_justify="left",
    )
    for place, head in enumerate(heads):
        numeric = columns is not None and any(isinstance(row[place], float | int) for row in kept)
        table.add_column(head, justify="right" if numeric else "left")
    for row in kept:
        table.add_row(*(escape(_shown(value)) for value in row))
    _console().print(table)


def command() -> str:
    """The command that is running, for a report."""
    return " ".join(["graphlore", *sys.argv[1:]])


def destination(path: Path) -> Path:
    """Where a file that a user names goes: to what a link stands for, not in place of the link."""
    return path.resolve() if path.is_file() else path


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "not defined" if math.isnan(value) else f"{value:.5g}"
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
