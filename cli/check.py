"""``graphlore check``."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import typer

from .options import AsJson, RunFolder
from .output import print_json, print_numbers, print_table, say
from .runs import load_run, saved_split


def check(
    run: RunFolder,
    draws: Annotated[int, typer.Option(help="Posterior draws.")] = 500,
    seed: Annotated[
        int | None, typer.Option(help="Of the draws.", show_default="of the fit")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a run against its data: predictive checks, calibration of held-out pairs, quality of the guide, in words.

    Graphs are drawn from the posterior predictive. `p` is the share of them in which a statistic is larger than in the
    observed graph (ties count half): near 0 the model understates it, near 1 it overstates it.

    Example:

        graphlore check runs/karate
    """
    from .. import inference, plots

    fitted = load_run(run)
    posterior = fitted.posterior(draws, seed=seed)
    rows = [
        {**dataclasses.asdict(c), "verdict": plots.verdict(c.p_value, c.statistic, c.draws)}
        for c in inference.posterior_predictive_check(posterior)
    ]
    held_out = None
    if (run / "split.npz").exists():
        told = fitted.evaluate(saved_split(run), "test", min(draws, 200), seed)
        held_out = {name: getattr(told, name) for name in ("auc", "ap", "log_loss", "brier", "ece")}
        held_out["meaning"] = _calibration(told.ece, told.log_loss)
    warnings = [w for w in (inference.truncation_warning(fitted), _tempered(fitted)) if w]
    quality = dataclasses.asdict(inference.guide_quality(fitted, draws=max(draws, 1000), seed=seed))
    if as_json:
        print_json({"checks": rows, "held_out": held_out, "guide": quality, "warnings": warnings})
        return
    columns = ("statistic", "observed", "model", "90 % interval", "p", "verdict")
    print_table(
        columns,
        (
            (
                plots.STATISTICS.get(c["statistic"], (c["statistic"],))[0],
                c["observed"],
                c["mean"],
                f"{c['low']:.4g} to {c['high']:.4g}",
                c["p_value"],
                c["verdict"],
            )
            for c in rows
        ),
        f"{run}: graphs drawn from the posterior beside the observed one",
    )
    if held_out is None:
        say(
            "held-out pairs: none (fit with --hold-out to see whether probabilities hold what they say)"
        )
    else:
        meaning = held_out.pop("meaning")
        print_numbers(held_out, "held-out pairs of the test")
        say(f"calibration: {meaning}")
    say(f"guide: {quality['meaning']}")
    for warning in warnings:
        say(f"[yellow]note:[/] {warning}")


def _calibration(ece: float, log_loss: float) -> str:
    if math.isnan(ece):
        return "weights are ranked by their means and have no calibration"
    return f"predicted and true frequencies of links differ by {ece:.2g} on average; a pair costs {log_loss:.3g} nats"


def _tempered(fitted: Any) -> str | None:
    if fitted.tempered == "no":
        return None
    return f"a tempered fit ({fitted.tempered.removeprefix('yes: ')}): its probabilities are not calibrated"
