"""Numerical trouble on purpose: every story, guide and gradient estimator on graphs and settings that hurt."""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from graphlore import plots
from graphlore.data import Graph, Split, random_split
from graphlore.inference import InferenceError, Recipe, fit_recipe, posterior_predictive_check

from .fuzz import assert_clear

Tables = dict[str, dict[str, Any]]

SIZES = {"SBM": "num_blocks", "VGAE": "dimension", "GAE": "dimension"}
_EDGES = np.array(
    [[0, 0, 1, 2, 3, 4, 5, 6, 7, 1, 5, 0, 8], [1, 2, 2, 3, 4, 5, 6, 7, 8, 3, 7, 8, 9]]
)


def _combinations() -> dict[str, Tables]:
    """What a recipe offers: story, guide and gradient, on small networks."""
    found: dict[str, Tables] = {}
    scored = ("dyadic", "local_expectation", "reinforce", "concrete", "disarm", "straight_through")
    story = {"name": "DGLFRM", "truncation": 4, "decoder": [8], "bias": "global"}
    for guide, local in (("StructuredMeanField", {}), ("MeanField", {"sticks": "local"})):
        for gradient in scored:
            found[f"DGLFRM, {guide}, {gradient}"] = {
                "story": story | local,
                "guide": {"name": guide, "hidden": [8]},
                "fit": {"gradient": gradient},
            }
    story = {"name": "LFRM", "truncation": 4, "bias": "node"}
    for words, guide in (("free", {"amortised": False}), ("encoder", {"hidden": [8]})):
        for gradient in scored:
            found[f"LFRM, {words}, {gradient}"] = {
                "story": story,
                "guide": {"name": "StructuredMeanField", **guide},
                "fit": {"gradient": gradient},
            }
        for gradient in ("expectation", "dyadic", "local_expectation", "reinforce"):
            found[f"SBM, {words}, {gradient}"] = {
                "story": {"name": "SBM", "num_blocks": 3},
                "guide": guide,
                "fit": {"gradient": gradient},
            }
        found[f"VGAE, {words}"] = {
            "story": {"name": "VGAE", "dimension": 4, "bias": "global"},
            "guide": guide,
            "fit": {},
        }
    found["GAE, encoder"] = {
        "story": {"name": "GAE", "dimension": 4, "bias": "global"},
        "guide": {"hidden": [8]},
        "fit": {},
    }
    return found


COMBINATIONS = _combinations()
#: those that write pictures and a report each time, which takes most of the time
REPORTED = ("DGLFRM, StructuredMeanField, local_expectation", "SBM, free, expectation")


def _graph(edges: Any = _EDGES, n: int = 10, **options: Any) -> Graph:
    return Graph(n, edges, allow_empty=True, **options)


def _with(make: Callable[[], Graph | Split], **changes: dict[str, Any]) -> Any:
    return lambda tables: (make(), {t: {**tables[t], **changes.get(t, {})} for t in tables})


def _sized(size: int, n: int = 10) -> Any:
    def trouble(tables: Tables) -> tuple[Graph, Tables]:
        option = SIZES.get(tables["story"]["name"], "truncation")
        keep = _EDGES[:, (n > _EDGES).all(0)]
        return _graph(keep, n), {**tables, "story": tables["story"] | {option: size}}

    return trouble


def _featured(x: Any, generated: str | None = None) -> Any:
    """Features for the encoder, and for the story too where it generates them."""

    def trouble(tables: Tables) -> tuple[Graph, Tables] | None:
        story = dict(tables["story"])
        if generated is not None:
            if story["name"] != "DGLFRM":
                return None
            story["features"] = generated
        guide = dict(tables["guide"])
        if guide.get("amortised") is False and generated is None:
            return None
        return _graph(features=x), {**tables, "story": story, "guide": guide}

    return trouble


def _weighted(weights: Any, likelihood: str) -> Any:
    def trouble(tables: Tables) -> tuple[Graph, Tables] | None:
        story = tables["story"] | {"likelihood": likelihood}
        return _graph(weights=weights), {**tables, "story": story}

    return trouble


def _temperatures(story: float, guide: float) -> Any:
    def trouble(tables: Tables) -> tuple[Graph, Tables] | None:
        if tables["fit"].get("gradient") != "concrete":
            return None
        return _graph(), {
            **tables,
            "fit": tables["fit"] | {"concrete_temperatures": [story, guide]},
        }

    return trouble


def _concentration(alpha: float) -> Any:
    def trouble(tables: Tables) -> tuple[Graph, Tables] | None:
        if tables["story"]["name"] in ("VGAE", "GAE"):
            return None
        return _graph(), {**tables, "story": tables["story"] | {"alpha": alpha}}

    return trouble


_ALL = np.stack(np.triu_indices(10, 1))
_COUNTS = np.full(_EDGES.shape[1], 1_000_000)

#: what is done to a combination: a graph and tables, or None where it does not apply
TROUBLES: dict[str, Callable[[Tables], Any]] = {
    "none": _with(_graph),
    "held-out pairs": _with(lambda: random_split(_graph(), 0.1, 0.2)),
    "learning rate 1000": _with(_graph, fit={"learning_rate": 1e3}),
    "learning rate 1000, no clipping": _with(_graph, fit={"learning_rate": 1e3, "clip": None}),
    "no edges": _with(lambda: _graph([[], []])),
    "all edges": _with(lambda: _graph(_ALL)),
    "isolated nodes": _with(lambda: _graph([[0], [1]])),
    "one community": _sized(1),
    "two nodes": _sized(3, 2),
    "one node": _sized(3, 1),
    "K > N": _sized(20, 5),
    "one dyad observed": _with(lambda: _graph([[0], [1]], missing=_ALL[:, 1:])),
    "no dyad observed": _with(lambda: _graph([[0], [1]], missing=_ALL)),
    "constant features": _featured(np.ones((10, 3))),
    "zero features": _featured(np.zeros((10, 3))),
    "duplicate features": _featured(np.repeat(np.eye(10, 3), 2, axis=1)),
    "features of 1e6": _featured(1e6 * np.eye(10, 3)),
    "features of 1e30": _featured(1e30 * np.eye(10, 3)),
    "generated features of 1e6": _featured(1e6 * np.eye(10, 3), "normal"),
    "generated constant features": _featured(np.ones((10, 3)), "bernoulli"),
    "counts of a million": _weighted(_COUNTS, "poisson"),
    "weights of 1e15": _weighted(1e9 * _COUNTS, "normal"),
    "equal weights": _weighted(np.ones(_EDGES.shape[1]), "normal"),
    "temperatures 0.01": _temperatures(0.01, 0.01),
    "temperatures 100": _temperatures(100.0, 100.0),
    "alpha 0.001": _concentration(1e-3),
    "alpha 1e6": _concentration(1e6),
    "arcs": _with(lambda: _graph(directed=True)),
    "two sides": _with(lambda: _graph([[0, 1, 2], [5, 6, 7]], parts=[0] * 5 + [1] * 5)),
    "one step, long warm-up": _with(_graph, fit={"steps": 1, "kl_warmup": 100}),
    "batches of one edge and two nodes": _with(_graph, fit={"batch_edges": 1, "batch_nodes": 2}),
    "prior a million times": _with(_graph, fit={"kl_weight": 1e6}),
}


@dataclass(frozen=True)
class Outcome:
    """Of a fit in trouble: "finite", "refused" (with the message), or "FAIL" (with what went wrong)."""

    verdict: str
    told: str = ""


def meet(
    tables: Tables, trouble: str, report: Path | None = None, steps: int = 12
) -> Outcome | None:
    """Fit in trouble and ask everything of the result; None where the trouble does not apply.

    Arguments:
        tables: story, guide and fit of a recipe.
        report: where pictures and a report go; none are made without it.
    """
    with warnings.catch_warnings(record=True) as spoken:
        warnings.simplefilter("always")
        try:
            found = TROUBLES[trouble](tables)
            if found is None:
                return None
            graph, tables = found
            recipe = Recipe(
                **{**tables, "fit": {"steps": steps, "validate_every": 5, **tables["fit"]}}
            )
            _ask(recipe, graph, report)
        except (ValueError, InferenceError) as error:
            try:
                assert_clear(error, None)
            except AssertionError as unclear:
                return Outcome("FAIL", str(unclear))
            # the first line: what Pyro appends, the shapes of a trace, is for a story's author
            return Outcome("refused", str(error).splitlines()[0])
        except Exception as error:
            return Outcome("FAIL", f"{type(error).__name__}: {error}")
        finally:
            plt.close("all")
    loud = [w for w in spoken if issubclass(w.category, RuntimeWarning)]
    if loud:
        return Outcome("FAIL", f"warned: {loud[0].message}")
    return Outcome("finite")


def _ask(recipe: Recipe, graph: Graph | Split, report: Path | None) -> None:
    """Fit, and assert that everything in it and about it is a number."""
    done = fit_recipe(recipe, graph, progress=False)
    weights: Mapping[str, Any] = {**done.story.state_dict(), **done.guide.state_dict()}
    for name, value in weights.items():
        assert not isinstance(value, torch.Tensor) or bool(torch.isfinite(value).all()), name
    for name in ("objective", "elbo", "kl"):
        assert all(map(math.isfinite, done.history[name])), f"history of {name}"
    if done.story.likelihood != "normal":
        p = done.link_probabilities(draws=5)
        assert bool(((p >= 0) & (p <= 1)).all()), "link probabilities"
    else:
        assert bool(torch.isfinite(done.expected_values([[0], [1]], draws=5)).all()), "values"
    posterior = done.posterior(10, prior=5)
    for group in ("posterior", "posterior_predictive", "log_likelihood", "prior"):
        for name, values in posterior[group].data_vars.items():
            if values.dtype.kind == "f":
                assert bool(np.isfinite(values.values).all()), f"{group}.{name}"
    for check in posterior_predictive_check(posterior):
        assert check.p_value != check.p_value or 0 <= check.p_value <= 1, check.statistic
    split = graph if isinstance(graph, Split) else None
    if split is not None:
        assert 0 <= done.evaluate(split, draws=5).auc <= 1
    if report is not None:
        done.save(report)
        page, _, _ = plots.write_results(done, report, split=split, draws=10)
        assert page.stat().st_size > 10_000


def prove(docs: Path, steps: int = 12) -> bool:
    """Meet every trouble with every combination; a few of them write their reports. Writes docs/proof/trouble.md."""
    started = time.process_time()
    rows: dict[str, dict[str, Outcome]] = {}
    cells = [(c, t) for c in COMBINATIONS for t in TROUBLES]
    for combination, trouble in tqdm(cells, desc="trouble"):
        first = combination in REPORTED
        with tempfile.TemporaryDirectory() as folder:
            found = meet(COMBINATIONS[combination], trouble, Path(folder) if first else None, steps)
        if found is not None:
            rows.setdefault(combination, {})[trouble] = found
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    text = _report(rows, time.process_time() - started, steps)
    (docs / "proof" / "trouble.md").write_text(text, encoding="utf-8")
    return not any(o.verdict == "FAIL" for row in rows.values() for o in row.values())


def _report(rows: dict[str, dict[str, Outcome]], seconds: float, steps: int) -> str:
    """The matrix, with the numbers of the messages in it."""
    messages: dict[str, int] = {}

    def cell(outcome: Outcome | None) -> str:
        if outcome is None:
            return ""
        if outcome.verdict == "finite":
            return "+"
        told = outcome.told.replace("|", "/")
        key = f"**{told}**" if outcome.verdict == "FAIL" else told
        return f"{'**FAIL** ' * (outcome.verdict == 'FAIL')}{messages.setdefault(key, len(messages) + 1)}"

    table = [
        f"| {name} | " + " | ".join(cell(row.get(t)) for t in TROUBLES) + " |"
        for name, row in rows.items()
    ]
    found = [o.verdict for row in rows.values() for o in row.values()]
    return "\n".join([
        f"{len(rows)} combinations of a story, a guide and a gradient estimator met {len(TROUBLES)} troubles, "
        f"{len(found)} fits of {steps} steps on graphs of two to ten nodes: {found.count('finite')} ended with a "
        f"finite result (+), {found.count('refused')} were refused with the message of the number, and "
        f"{found.count('FAIL')} failed. A result is finite if the weights, the history, the link probabilities, the "
        "posterior with its predictive draws and log-likelihoods, the prior and the evaluation on held-out pairs are; "
        "no warning of NumPy or torch was let through. These also wrote their pictures and reports: "
        f"{'; '.join(REPORTED)}. An empty cell: the trouble does not apply.",
        "",
        "| | " + " | ".join(TROUBLES) + " |",
        "| --- | " + " | ".join(":-:" for _ in TROUBLES) + " |",
        *table,
        "",
        *(f"{number}. {told}" for told, number in messages.items()),
        "",
        f"{seconds:.0f} CPU-seconds.",
        "",
    ])  # fmt: skip
