"""Everything a run on a set of graphs leaves behind for its reader: pictures, numbers, the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data import GraphSet
from ..data.atomic import write_text
from ..data.fingerprint import fingerprint_of_set
from ..inference import (
    InferenceError,
    OrderedSettings,
    SequentialFit,
    SequentialSettings,
    SetEvaluation,
    encode_graphs,
    evaluate_set,
    family_of,
    locked,
    seeded,
)
from ..models import SGVAE
from .gallery import save_pictures
from .generated import generated_set
from .graph_sets import graph_sizes, latent_map, steering
from .report import write_report
from .training import epochs

__all__ = ["set_facts", "write_set_results"]

#: what the latent may tell of a draw
_TOLD = {
    "isomorphism class": "which graph is built, however its nodes are numbered",
    "number of nodes": "how many nodes it will have",
}
#: what graphs of a family are called
_FAMILIES = {"cycle": "rings", "tree": "trees", "grid": "grids", "planar": "connected and planar"}


def write_set_results(
    fit: SequentialFit, folder: str | Path, *, draws: int = 1_000, reproduce: str = ""
) -> tuple[Path, SetEvaluation]:
    """Write what a fit to a set of graphs has to say into its folder: numbers.json, pictures and report.html.

    Arguments:
        fit: a finished fit with its graphs, saved or not.
        draws: graphs drawn from the prior, to be compared with those observed.
        reproduce: commands that repeat the run.

    Returns:
        (path of the report, the evaluation).

    Raises:
        ValueError: fewer than one draw; a fit that does not have its graphs.
        InferenceError: the folder cannot be written to, or another process writes there.
    """
    with locked(folder):
        return _write(fit, Path(folder), draws, reproduce)


def _write(
    fit: SequentialFit, folder: Path, draws: int, reproduce: str
) -> tuple[Path, SetEvaluation]:
    evaluation, drawn = evaluate_set(fit, draws)
    observed = fit.graphs
    assert observed is not None
    try:
        files = save_pictures(_pictures(fit, observed, drawn, evaluation), folder / "pictures")
        numbers = _numbers(fit, evaluation)
        summary = _summary(fit, observed, evaluation)
        found = {
            "summary": summary,
            "numbers": {name: value for name, value, _ in numbers},
            "evaluation": evaluation.to_dict(),
        }
        write_text(folder / "numbers.json", json.dumps(found, indent=1))
        report = write_report(
            folder / "report.html",
            title=f"{type(fit.story).__name__} on {observed.title}",
            subtitle=f"{len(observed):,} graphs observed, {draws:,} drawn from the prior",
            story=fit.story.equations(),
            settings=_settings(fit),
            data={**set_facts(observed), "fingerprint": fingerprint_of_set(observed)[:16]},
            numbers=numbers,
            pictures={name: (path, _CAPTIONS[name]) for name, path in files.items()},
            reproduce=reproduce,
            warnings=_warnings(fit),
            summary=summary,
            subject="the graphs",
        )
    except OSError as error:
        raise InferenceError(f"cannot write to {folder}: {error}") from None
    return report, evaluation


_CAPTIONS = {
    "epochs": "What the model gives the observed graphs after every epoch, and its running median; below, where there "
    "is a guide, what the bound is made of. In nats a graph.",
    "generated_set": "Some of the observed graphs, and below them some that the model drew; chosen at random.",
    "graph_sizes": "How many nodes and edges graphs have: those observed above the line, those drawn below. A model "
    "that draws the right sizes is its own mirror image.",
    "latent_map": "Where the guide puts every observed graph: the mean of its latent, and a standard deviation to each "
    "side.",
    "steering": "Mean number of nodes of the graphs that the model builds from points on a line through the latent "
    "space, along the direction in which the observed graphs differ most; bars are two standard errors.",
}


def set_facts(graphs: GraphSet) -> dict[str, Any]:
    """What a set of graphs is, name to value."""
    edges = graphs.edge_ptr.diff()
    family = family_of(graphs)
    return {
        "set": graphs.title,
        "graphs": len(graphs),
        "nodes of a graph": _range(graphs.num_nodes),
        "edges of a graph": _range(edges),
        "node types": graphs.num_node_types,
        "edge types": graphs.num_edge_types,
        "all graphs are": "of no known family" if family is None else _FAMILIES[family],
    }


def _range(values: Any) -> str:
    return f"{int(values.min())} to {int(values.max())}, mean {float(values.double().mean()):.3g}"


def _pictures(
    fit: SequentialFit, observed: GraphSet, drawn: GraphSet, evaluation: SetEvaluation
) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {"epochs": lambda: epochs(fit)}
    if min(int(graphs.num_nodes.max()) for graphs in (observed, drawn)) > 1:
        found["generated_set"] = lambda: generated_set(observed, drawn)
    found["graph_sizes"] = lambda: graph_sizes(observed, drawn)
    walk = evaluation.steering
    if walk is not None:
        with seeded(fit.settings.seed):
            latents = encode_graphs(fit.pair, observed)
        found["latent_map"] = lambda: latent_map(latents, observed)
        found["steering"] = lambda: steering(walk)
    return found


def _late(fit: SequentialFit, name: str) -> float:
    """The mean of the last twentieth of a column."""
    values = fit.history[name]
    return round(float(np.mean(values[-max(1, len(values) // 20) :])), 3)


def _numbers(fit: SequentialFit, found: SetEvaluation) -> list[tuple[str, Any, str]]:
    rows: list[tuple[str, Any, str]] = []
    if isinstance(fit.story, SGVAE):
        rows += [
            (
                "ELBO",
                _late(fit, "elbo"),
                "nats a graph; lower bound on log p with all orders of building it added up, so that it may be above 0",
            ),
            (
                "KL of the latent",
                _late(fit, "kl_latent"),
                "nats a graph; what the latent says of a graph, and costs",
            ),
            (
                "order entropy",
                _late(fit, "order_entropy"),
                "nats a graph; how undecided the guide is about the order of the nodes, 0 is always the same",
            ),
        ]
    else:
        assert isinstance(fit.settings, OrderedSettings)
        rows.append(
            (
                "log p",
                _late(fit, "log_prob"),
                f"nats a graph, of building it in {fit.settings.order} order, edges too",
            )
        )
    if found.log_class is not None:
        rows.append(
            (
                "log p of a graph",
                round(found.log_class, 3),
                "nats a graph, however its nodes are numbered, by importance sampling; a law with exactly the shares "
                f"of the observed set has {found.log_class_shares:.3f}".replace("-", "−"),
            )
        )
    if found.family is not None and found.valid is not None:
        error = (found.valid * (1 - found.valid) / found.draws) ** 0.5
        rows.append(
            (
                "valid",
                round(found.valid, 4),
                f"share of {found.draws:,} draws that are {_FAMILIES[found.family]}, as all observed graphs are; "
                f"standard error {error:.2g}",
            )
        )
    rows += [
        ("unique", round(found.unique, 4), "different graphs among the draws, over their number"),
        (
            "novel",
            round(found.novel, 4),
            "share of the draws that are none of the observed graphs, however numbered",
        ),
    ]
    for name, words in (
        ("degree", "degrees"),
        ("clustering", "clustering coefficients"),
        ("orbit", "numbers of small subgraphs around a node"),
        ("spectral", "spectra of the Laplacian"),
    ):
        meaning = (
            f"how far the {words} of the draws are from those observed (squared, 0 is the same)"
        )
        halves = found.mmd_halves[name]
        if np.isfinite(halves):
            meaning += f"; two random halves of the observed set are {halves:.2g} apart"
        rows.append((f"MMD, {name}", float(f"{found.mmd[name]:.3g}"), meaning))
    if found.information is not None and found.steering is not None:
        told = found.information
        rows += [
            (
                "mutual information",
                round(told.estimate, 3),
                f"nats; what the latent tells of {_TOLD[found.information_of or '']}, of {told.entropy:.3g} "
                f"that there are to tell; a bias of {told.bias:.2g} is taken off, standard error {told.error:.2g}",
            ),
            (
                "steering",
                round(found.steering.spearman, 3),
                "rank correlation of a place along the latent and the mean size of the graphs built there, 1 or −1 is "
                f"perfect; mean sizes span {found.steering.span:.3g} nodes",
            ),
        ]
    rows += [
        ("epochs", len(fit.history["seconds"]), "passes over the graphs"),
        ("seconds", round(fit.history["seconds"][-1], 1), "wall clock of the fit"),
    ]
    return rows


def _summary(fit: SequentialFit, observed: GraphSet, found: SetEvaluation) -> list[str]:
    """What a reader who does not know the model should take away, in plain sentences."""
    low, high = int(observed.num_nodes.min()), int(observed.num_nodes.max())
    kind = _FAMILIES.get(found.family or "", "graphs")
    if kind == "connected and planar":
        kind = "connected planar graphs"
    sizes = f"{low} nodes" if low == high else f"{low} to {high} nodes"
    sentence = f"Shown {len(observed):,} {kind} of {sizes}, the model builds graphs node by node"
    if found.valid is not None:
        sentence += f": of {found.draws:,} that it drew, {found.valid:.1%} are {kind}"
    sentences = [f"{sentence}."]
    fresh = f"{found.novel:.0%} of the draws are graphs that it was not shown"
    repeated = f"there are {round(found.unique * found.draws):,} different ones among them"
    sentences.append(f"{fresh}; {repeated}.")
    if found.information is not None and found.steering is not None:
        share = found.information.estimate / max(found.information.entropy, 1e-9)
        rank = abs(found.steering.spearman)
        steers = "steers" if rank > 0.9 else ("moves" if rank > 0.5 else "hardly moves")
        walk = found.steering.sizes
        sentences.append(
            f"The latent {steers} the size of what is built, from {walk.min():.3g} to {walk.max():.3g} nodes on "
            f"average; it tells {max(0.0, share):.0%} of {_TOLD[found.information_of or '']}."
        )
    return sentences


def _settings(fit: SequentialFit) -> dict[str, Any]:
    """What was asked for, and with which versions."""
    found = {"story": type(fit.story).__name__, **fit.story.options}
    if fit.guide is not None:
        found |= {"guide": type(fit.guide).__name__}
        found |= {f"guide {name}": value for name, value in fit.guide.options.items()}
    found |= {**asdict(fit.settings), "objective is a bound": fit.objective_is_elbo}
    versions = ("graphlore", "pyro", "torch", "python")
    return found | {k: v for k, v in fit.environment.items() if k in versions}


def _warnings(fit: SequentialFit) -> list[str]:
    if fit.objective_is_elbo:
        return []
    assert isinstance(fit.settings, SequentialSettings)
    return [
        "The fit did not climb a bound on the probability of the graphs: two more terms were weighed in "
        f"(information={fit.settings.information:g}, marginal={fit.settings.marginal:g}), which keep the latent from "
        "being ignored. The ELBO below is the bound itself; a fit that climbs it alone may reach a higher one."
    ]
