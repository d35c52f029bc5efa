"""``graphlore report``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .options import AsJson, RunFolder
from .output import command, print_json, say
from .runs import load_any_run, saved_split


def report(
    run: RunFolder,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Posterior draws; of a fit to a set, graphs drawn from the prior.",
            show_default="500, on large graphs fewer; 1000 of a set",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write posterior.nc (of a fit to one graph), the pictures and report.html of a run anew.

    Example:

        graphlore report runs/karate --draws 1000
    """
    from .. import inference, plots

    inference.keep_freed_memory()
    fitted = load_any_run(run)
    if isinstance(fitted, inference.SequentialFit):
        page, _ = plots.write_set_results(
            fitted, run, draws=1_000 if draws is None else draws, reproduce=command()
        )
    else:
        split = saved_split(run) if (run / "split.npz").exists() else None
        page, _, _ = plots.write_results(
            fitted,
            run,
            split=split,
            draws=draws,
            reproduce=command(),
            progress=False if as_json else None,
        )
    if as_json:
        numbers = json.loads((run / "numbers.json").read_text(encoding="utf-8"))
        print_json({"folder": str(run), "report": str(page), **numbers})
    else:
        say(f"report: [bold]{page}[/]")
