"""``graphlore report``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import AsJson, RunFolder
from .output import command, print_json, say
from .runs import load_run, saved_split


def report(
    run: RunFolder,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Write posterior.nc, the pictures and report.html of a run anew.

    Example:

        graphlore report runs/karate --draws 1000
    """
    from .. import plots

    split = saved_split(run) if (run / "split.npz").exists() else None
    page, _, _ = plots.write_results(
        load_run(run), run, split=split, draws=draws, reproduce=command()
    )
    if as_json:
        numbers = json.loads((run / "numbers.json").read_text(encoding="utf-8"))
        print_json({"folder": str(run), "report": str(page), **numbers})
    else:
        say(f"report: [bold]{page}[/]")
