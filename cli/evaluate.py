"""``graphlore evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Part, RunFolder, options_given
from .output import print_json, print_numbers
from .runs import load_any_run, saved_split

if TYPE_CHECKING:
    from ..inference import SequentialFit


def evaluate(
    context: typer.Context,
    run: RunFolder,
    part: Annotated[Part, typer.Option(help="Which held-out pairs.")] = Part.test,
    split: Annotated[
        Path | None, typer.Option(help="npz file of the split, if the run has none.")
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Posterior draws; of a fit to a set, graphs drawn from the prior.",
            show_default="200; 1000 of a set",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on its held-out pairs: AUC, AP, Hits@k, log-loss, Brier, calibration, expected edges.

    A fit to a set of graphs is scored by the graphs that it draws: how many are valid, new and different, how far their
    statistics are from those observed, and what the latent means.

    Example:

        graphlore evaluate runs/friends --part test
    """
    from .. import inference

    fitted = load_any_run(run)
    if isinstance(fitted, inference.SequentialFit):
        if wrong := options_given(context) & {"part", "split"}:
            raise ValueError(
                f"--{min(wrong)} is of pairs held out from one graph; {run} is a fit to a set"
            )
        _set(fitted, run, 1_000 if draws is None else draws, as_json)
        return
    held_out = saved_split(run, split)
    found = fitted.evaluate(held_out, part.value, 200 if draws is None else draws).to_dict()
    if as_json:
        print_json(found)
        return
    flat = {k: v for k, v in found.items() if not isinstance(v, dict)}
    flat |= {f"hits@{k}": v for k, v in found["hits"].items()}
    flat |= {f"active communities, {k}": v for k, v in (found["active"] or {}).items()}
    print_numbers(flat, f"{run}, {part.value}")


def _set(fitted: SequentialFit, run: Path, draws: int, as_json: bool) -> None:
    from .. import inference

    found = inference.evaluate_set(fitted, draws)[0].to_dict()
    if as_json:
        print_json(found)
        return
    flat = {k: v for k, v in found.items() if not isinstance(v, dict)}
    flat |= {f"MMD, {k}": v for k, v in found["mmd"].items()}
    flat |= {f"MMD of two halves, {k}": v for k, v in found["mmd_halves"].items()}
    if found["information"] is not None:
        flat["information"] = found["information"]["estimate"]
        flat |= {f"steering, {k}": found["steering"][k] for k in ("spearman", "span")}
    print_numbers({k.replace("_", " "): v for k, v in flat.items() if v is not None}, str(run))
