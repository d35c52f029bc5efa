"""The tables of a recipe, story, guide and fit: read from a file, and held to what their classes know."""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .elbo import InferenceError

__all__ = [
    "TABLES",
    "check_known",
    "check_tables",
    "named_kinds",
    "options_of",
    "parameters_of",
    "read_tables",
    "replaced",
]

TABLES = ("story", "guide", "fit")


def read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a TOML or JSON file (settings.json of a run is one).

    Raises:
        InferenceError: the file is missing or cannot be read, has none of them, or a TOML file has others.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise InferenceError(f"there is no file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InferenceError(f"{path} is no readable recipe: {error}") from None
    found = {} if not isinstance(tables, dict) else {n: tables.get(n, {}) for n in TABLES}
    if not found or not all(isinstance(table, dict) for table in found.values()):
        raise InferenceError(f"{path} is no recipe: it needs the tables {', '.join(TABLES)}")
    if path.suffix == ".toml":  # what a run keeps has more in it
        try:
            check_known("table", tables, set(TABLES))
        except ValueError as error:
            raise InferenceError(f"{path}: {error}") from None
    return found


@contextmanager
def named_kinds() -> Iterator[None]:
    """An option of a wrong kind ("six" for 6) as a ValueError, as one out of range is."""
    try:
        yield
    except TypeError as error:
        raise ValueError(f"an option of the recipe is of the wrong kind: {error}") from None


def options_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """What a class takes of its table: all but the name, with tuples for lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k != "name"}


def parameters_of(cls: type) -> set[str]:
    """The options of a class."""
    return set(inspect.signature(cls).parameters) - {"story", "graph", "heads", "encoder", "others"}


def check_tables(recipe: Any) -> None:
    """Refuse a recipe one of whose tables is none.

    Raises:
        ValueError: it names the table.
    """
    for name in TABLES:
        if not isinstance(getattr(recipe, name), Mapping):
            raise ValueError(
                f"{name} is a table of options and their values, not {getattr(recipe, name)!r:.60}"
            )


def replaced(recipe: Any, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The tables of a recipe with some of their options replaced.

    Raises:
        ValueError: changes of something that is no table.
    """
    check_known("table", changes, set(TABLES))
    return {n: {**getattr(recipe, n), **changes.get(n, {})} for n in TABLES}


def check_known(kind: str, table: Mapping[str, Any], known: set[str]) -> None:
    """Refuse options, or tables, that nobody knows.

    Raises:
        ValueError: it names them, and those that are known.
    """
    unknown = sorted(set(table) - known)
    if unknown:
        shown = ", ".join(f"{name:.40}" for name in unknown[:10])
        raise ValueError(f"unknown {kind}(s) {shown}; known are {', '.join(sorted(known))}")
