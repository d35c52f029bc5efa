"""``graphlore compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .options import AsJson, complete_run
from .output import destination, print_json, print_table, say
from .runs import load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of two or more runs on the same graph, with the same pairs held out.",
            show_default=False,
            autocompletion=complete_run,
        ),
    ],
    draws: Annotated[int, typer.Option(help="Posterior draws of each.")] = 500,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws.", show_default="of each fit")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for a picture, .png or .svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank runs on one graph by how well they predict its pairs: leave-one-out by ArviZ, the best first.

    `elpd` is the expected log density of what was left out (nats; higher is better), `elpd_diff` how far a run is
    behind the best one, with the standard error `dse`: a difference of less than two `dse` decides nothing.

    Example:

        graphlore compare runs/sbm runs/lfrm runs/dglfrm --out comparison.png
    """
    from .. import inference, plots
    from ..data.atomic import replacing

    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):  # folders of one name in different places
        names = [str(run) for run in runs]
    if len(set(names)) < len(names):
        raise ValueError("the same run is named twice")
    fits = {name: load_run(run) for name, run in zip(names, runs, strict=True)}
    table = inference.compare(fits, draws, seed)
    if out is not None:
        figure = cast("Figure", plots.comparison(table).figure)
        with replacing(destination(out)) as partial:
            figure.savefig(partial, dpi=150)
    if as_json:
        rows = table.rename_axis("run").reset_index().to_dict("records")
        print_json({"comparison": rows, "picture": None if out is None else str(out)})
        return
    shown = table.rename(columns={"elpd_loo": "elpd", "p_loo": "p"})
    columns = [c for c in ("rank", "elpd", "p", "elpd_diff", "dse", "weight") if c in shown]
    print_table(
        ("run", *columns),
        (
            [name, *row]
            for name, row in zip(shown.index, shown[columns].values.tolist(), strict=True)
        ),
        "leave-one-out comparison, best first",
    )
    if out is not None:
        say(f"picture: [bold]{out}[/]")
