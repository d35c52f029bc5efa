"""One run a seed, told as it ends, and a table of all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, float]


def run_all(
    runs: Iterable[Callable[[], dict[str, Any]]],
    table: Callable[[list[dict[str, Any]]], str],
    file: Path,
) -> None:
    """Write ``file``.json and ``file``.md, the table, after every run: a fault loses nothing that is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for run in runs:
        rows.append(run())
        print(json.dumps(rows[-1]), flush=True)
        file.with_suffix(".json").write_text(json.dumps(rows, indent=1))
        file.with_suffix(".md").write_text(table(rows))
    print(table(rows))


def run_seeds(
    run: Callable[[int], Row],
    seeds: Iterable[int],
    out: Path,
    name: str,
    columns: Mapping[str, str],
) -> None:
    """Write ``name``.md, with a row a seed, their mean and standard deviation, and ``name``.json.

    Arguments:
        run: numbers by name, given a seed.
        columns: which of them the table has, and their headings.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in seeds:
        rows.append(run(seed))
        print(json.dumps(rows[-1]), flush=True)
    lines = [f"| seed | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row['seed']} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |" for row in rows]
    summaries = {"mean": statistics.mean}
    if len(rows) > 1:
        summaries["standard deviation"] = statistics.stdev
    for summary, of in summaries.items():
        values = [f"{of(row[c] for row in rows):.3f}" for c in columns]
        lines.append(f"| {summary} | {' | '.join(values)} |")
    (out / f"{name}.md").write_text("\n".join(lines) + "\n")
    (out / f"{name}.json").write_text(json.dumps(rows, indent=1))
    print("\n".join(lines))
