"""``graphlore evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Part, RunFolder
from .output import print_json, print_numbers
from .runs import load_run, saved_split


def evaluate(
    run: RunFolder,
    part: Annotated[Part, typer.Option(help="Which held-out pairs.")] = Part.test,
    split: Annotated[
        Path | None, typer.Option(help="npz file of the split, if the run has none.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out pairs: AUC, AP, Hits@k, log-loss, Brier, calibration, expected edges.

    Example:

        graphlore evaluate runs/friends --part test
    """
    found = load_run(run).evaluate(saved_split(run, split), part.value, draws).to_dict()
    if as_json:
        print_json(found)
        return
    flat = {k: v for k, v in found.items() if not isinstance(v, dict)}
    flat |= {f"hits@{k}": v for k, v in found["hits"].items()}
    flat |= {f"active communities, {k}": v for k, v in (found["active"] or {}).items()}
    print_numbers(flat, f"{run}, {part.value}")
