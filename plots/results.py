"""Everything a run leaves behind for its reader: posterior.nc, pictures, numbers, the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Split
from ..data.atomic import write_text
from ..inference import (
    Evaluation,
    Fit,
    FitSettings,
    InferenceError,
    guide_quality,
    locked,
    posterior_predictive_check,
    to_netcdf,
    truncation_warning,
)
from ..inference.memory import default_draws
from ..models import expected_active
from . import findings
from .gallery import save_all
from .held_out import held_out_pairs
from .report import Table, write_report

__all__ = ["write_results"]

_WEIGHED_NODES = 1_000  # above this k-hat is past all thresholds anyway, and takes long
_PRIOR_NODES = 200
_PICTURE_NODES = 5_000  # above this an N x N picture says nothing and costs gigabytes


def write_results(
    fit: Fit,
    folder: str | Path,
    *,
    split: Split | None = None,
    draws: int | None = None,
    reproduce: str = "",
    progress: bool | None = None,
) -> tuple[Path, Any, Evaluation | None]:
    """Write what a fit has to say into its folder: posterior.nc, numbers.json, pictures and report.html.

    Arguments:
        fit: a finished fit, saved or not.
        split: what was held out; its test pairs are evaluated then.
        draws: posterior draws; None: 500, of large graphs fewer
            (:func:`~graphlore.inference.memory.default_draws`).
        reproduce: commands that repeat the run.
        progress: show a bar over the draws; None: on a terminal.

    Returns:
        (path of the report, the posterior as ArviZ data, the evaluation or None).

    Raises:
        InferenceError: the folder cannot be written to, or another process writes there.
    """
    with locked(folder):
        return _write(fit, Path(folder), split, draws, reproduce, progress)


def _write(
    fit: Fit,
    folder: Path,
    split: Split | None,
    draws: int | None,
    reproduce: str,
    progress: bool | None,
) -> tuple[Path, Any, Evaluation | None]:
    graph = fit.graph.to("cpu")
    draws = default_draws(fit.story, graph) if draws is None else draws
    averaged = min(draws, 200)  # of what is not kept by draw
    # draws of the prior beside it, where the dense graphs that a prior makes too are cheap to look at
    prior = draws if graph.num_nodes <= _PRIOR_NODES else 0
    posterior = fit.posterior(draws, prior=prior, progress=progress)
    evaluation = None if split is None else fit.evaluate(split, draws=averaged)
    small = graph.num_nodes <= _PICTURE_NODES
    probabilities = sample = None
    if small and fit.story.likelihood != "normal":  # weights have no link probabilities
        probabilities = fit.link_probabilities(draws=averaged).cpu().numpy()
        np.fill_diagonal(probabilities, np.nan)
        sample = fit.generate(1)[0].dense_adjacency().numpy()
    held_out = None
    if split is not None and fit.story.likelihood != "normal":
        held_out = held_out_pairs(fit, split, draws=averaged)
    try:
        to_netcdf(posterior, folder / "posterior.nc")
        files = save_all(
            posterior,
            fit,
            graph,
            probabilities,
            sample,
            folder / "pictures",
            held_out=held_out,
        )
        numbers = _numbers(fit, evaluation)
        plain = {name: value for name, value, _ in numbers}
        checks = posterior_predictive_check(posterior)
        groups = findings.communities_found(posterior, graph)
        summary = findings.summary(fit, posterior, groups, checks, evaluation)
        quality = guide_quality(fit) if graph.num_nodes <= _WEIGHED_NODES else None
        found = {
            "summary": summary,
            "numbers": plain,
            "checks": [dataclasses.asdict(c) for c in checks],
            "guide": None if quality is None else dataclasses.asdict(quality),
        }
        if evaluation is not None:
            found["evaluation"] = evaluation.to_dict()
        write_text(folder / "numbers.json", json.dumps(found, indent=1))
        report = write_report(
            folder / "report.html",
            title=f"{type(fit.story).__name__} on {graph.title}",
            subtitle=f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges; {draws:,} posterior draws",
            story=fit.story.equations(),
            settings=_settings(fit),
            data=_data(fit),
            numbers=numbers,
            checks=[
                (
                    c.statistic,
                    c.observed,
                    c.mean,
                    c.low,
                    c.high,
                    c.p_value,
                    c.draws,
                    "",
                )
                for c in checks
            ],
            pictures={name: (path, _CAPTIONS[name]) for name, path in files.items()},
            reproduce=reproduce,
            warnings=_warnings(fit, averaged),
            summary=summary,
            tables=[*_groups(findings.telling(groups, graph.num_nodes)), *_links(fit, averaged)],
            guide="" if quality is None else quality.meaning,
        )
    except OSError as error:
        raise InferenceError(f"cannot write to {folder}: {error}") from None
    return report, posterior, evaluation


_CAPTIONS = {
    "elbo": "The evidence lower bound at every step (one draw, hence the noise) and its running median, in nats.",
    "memberships": "Posterior probability that a node belongs to a community. Rows are sorted so that nodes of the "
    "same communities stand together; the strip shows known labels.",
    "communities": "The graph with its communities. A slice of a node is its posterior share of a community, white is "
    "none; a ring tells the known label, in the colour of the community it fits best. Big graphs have dots of the most "
    "probable community instead. Nodes are placed by the edges alone.",
    "strengths": "Posterior mean strength of a node in the communities it belongs to.",
    "sticks": "How common each community is: posterior intervals of pi_k, the prior mean, "
    "and the share of nodes that are members.",
    "adjacency": "The observed graph beside the posterior mean probability of every link, similar nodes side by "
    "side.",
    "generated": "The observed graph beside one drawn from the posterior predictive, nodes in the same places.",
    "posterior_predictive": "Statistics of graphs drawn from the posterior predictive; the line is the observed "
    "graph.",
    "embedding": "The nodes by their posterior mean embedding: those in the same direction are likely to be linked.",
    "held_out": "Pairs that were hidden from the fit: how well links are ranked above others, and whether a predicted "
    "probability holds what it says.",
    "degrees": "Degree distribution of the observed graph within the band of graphs drawn from the posterior.",
}


def _numbers(fit: Fit, evaluation: Evaluation | None) -> list[tuple[str, Any, str]]:
    elbo = fit.history["elbo"]
    tail = elbo[-max(1, len(elbo) // 20) :]
    rows: list[tuple[str, Any, str]] = [
        (
            "ELBO",
            round(float(np.mean(tail)), 1),
            "nats; lower bound on the log evidence, mean of the last steps",
        ),
        (
            "KL",
            round(float(np.mean(fit.history["kl"][-len(tail) :])), 1),
            "nats; what the posterior cost in prior",
        ),
        ("steps", len(elbo), "gradient steps taken"),
        ("seconds", round(fit.history["seconds"][-1], 1), "wall clock of the fit"),
    ]
    active = evaluation.active if evaluation else fit.active_communities()
    if active is not None:
        prior = expected_active(float(fit.story.alpha), fit.story.truncation)
        rows += [
            (
                "communities of a node",
                f"{active.mean:.2f} [{active.low:.2f}, {active.high:.2f}]",
                f"posterior mean and 90 % interval; the prior expects {prior:.2f}",
            ),
            (
                "communities with members",
                f"{active.used:.1f} of {fit.story.truncation}",
                "posterior mean; if nearly all are used, the truncation is too small",
            ),
        ]
    if evaluation is not None:
        rows += [
            (
                "test AUC",
                round(evaluation.auc, 4),
                "a held-out link outranks a held-out non-link this often",
            ),
            ("test AP", round(evaluation.ap, 4), "average precision on the same balanced pairs"),
            (
                "log-loss",
                round(evaluation.log_loss, 5),
                "nats a dyad, held-out pairs weighted to natural frequency",
            ),
            (
                "ECE",
                round(evaluation.ece, 5),
                "gap of predicted and true frequency on natural dyads; 0 is perfect",
            ),
            (
                "expected edges",
                f"{evaluation.expected_edges:,.0f} of {evaluation.edges:,}",
                "posterior mean over all dyads, and the truth",
            ),
        ]
    return rows


def _groups(found: list[findings.Community]) -> list[Table]:
    rows = [
        [c.name, round(c.size, 1), ", ".join(_with_share(name, p) for name, p in c.leading) or "–"]
        for c in found
    ]
    note = "Expected number of members, and the surest of them; of equally sure ones those with most links come first."
    return (
        [
            Table(
                "posterior",
                "Who is together",
                note,
                ("community", "members", "surest members"),
                rows,
            )
        ]
        if rows
        else []
    )


def _with_share(name: str, p: float) -> str:
    return name if p >= 0.95 else f"{name} ({p:.0%})"


def _links(fit: Fit, draws: int) -> list[Table]:
    among, likely = findings.likely_links(fit, draws=draws)
    if among == "missing":
        title, note = (
            "Most probable missing links",
            "Pairs that the fit was not shown, the likeliest links first.",
        )
    else:
        title, note = "Links to expect", "Pairs without a link that look most as if they had one."
    named = (
        (title, note, likely),
        (
            "Most surprising links",
            "Links that are there although the model gives them the least probability.",
            findings.surprising_edges(fit, draws=draws),
        ),
    )
    columns = (
        ("from", "to", "probability") if fit.graph.directed else ("node", "and", "probability")
    )
    return [
        Table(
            "predictions",
            head,
            words,
            columns,
            [[a.source, a.target, float(f"{a.probability:.2g}")] for a in links],
        )
        for head, words, links in named
        if links
    ]


def _settings(fit: Fit) -> dict[str, Any]:
    """What was asked for; everything at rest (no dropout, no averaging, ...) is in settings.json."""
    usual = FitSettings().to_dict()
    told = ("steps", "learning_rate", "gradient", "seed")
    chosen = {k: v for k, v in fit.settings.to_dict().items() if k in told or v != usual[k]}
    described = {"story": type(fit.story).__name__, **fit.story.options}
    described |= {"guide": type(fit.guide).__name__, **fit.guide.options, **chosen}
    described |= {
        k: v for k, v in fit.environment.items() if k in ("graphlore", "pyro", "torch", "python")
    }
    return {k: v for k, v in described.items() if v is not None and v is not False and v != 0.0}


def _data(fit: Fit) -> dict[str, Any]:
    graph = fit.graph
    return {
        "graph": graph.title,
        "nodes": graph.num_nodes,
        "observed edges": graph.num_edges,
        "observed dyads": graph.num_dyads,
        "missing dyads": graph.missing.shape[1],
        "density": graph.density,
        "features": "none" if graph.features is None else graph.features.shape[1],
        "fingerprint": graph.fingerprint()[:16],
    }


def _warnings(fit: Fit, draws: int) -> list[str]:
    found = []
    if fit.tempered != "no":
        found.append(
            f"The likelihood or prior was reweighted ({fit.tempered.removeprefix('yes: ')}): this is a tempered "
            "fit, not the posterior of the story, and its probabilities are not calibrated."
        )
    small = truncation_warning(fit, draws)
    if small is not None:
        found.append(f"{small[0].upper()}{small[1:]}.")
    if fit.settings.gradient == "concrete":
        found.append(
            "Memberships were relaxed while fitting; everything below uses exact 0/1 memberships."
        )
    return found
