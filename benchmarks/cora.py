"""Link prediction on Cora, split 0 of the DGLFRM reference: the paper's objective beside the exact story.

    python benchmarks/cora.py --data ../shared/data --seeds 3

Validation chooses the state of a fit; the configurations below were chosen on validation too. The test pairs are
scored once per fit. Writes a Markdown table and the raw numbers next to each other under ``--out``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import graphlore as gl

K, ALPHA = 50, 10.0


def paper(
    split: gl.data.Split, gradient: str = "concrete", dropout: float = 0.5
) -> tuple[Any, Any, dict[str, Any]]:
    """Reweighted edges, relaxed memberships, a light KL: the objective of the paper, tempered and recorded as such."""
    story = gl.models.DGLFRM(
        split.train.num_nodes, K, ALPHA, decoder=(64,), class_weight="balanced"
    )
    guide = _guide(story, split, dropout=dropout, other_dropout=0.7)
    settings = {
        "gradient": gradient,
        "kl_weight": 0.1,
        "steps": 400,
        "averaging": 0.98,
        "clip": None,
    }
    return story, guide, settings


def exact(split: gl.data.Split) -> tuple[Any, Any, dict[str, Any]]:
    """The story as it stands: Bernoulli edges with a bias, Bernoulli features, exact memberships, the plain ELBO."""
    story = gl.models.DGLFRM(
        split.train.num_nodes,
        K,
        ALPHA,
        decoder=(32,),
        bias="global",
        features="bernoulli",
        num_features=split.train.features.shape[1],
    ).start_at(split.train)
    guide = _guide(story, split, dropout=0.5, other_dropout=0.5)
    settings = {
        "gradient": "dyadic",
        "kl_hold": 150,
        "kl_warmup": 350,
        "steps": 600,
        "settle": 60,
        "averaging": 0.97,
        "clip": None,
    }
    return story, guide, settings


def _guide(
    story: Any, split: gl.data.Split, dropout: float, other_dropout: float
) -> gl.guides.StructuredMeanField:
    """The encoder of all columns; ``other_dropout`` is that of features and edges."""
    return gl.guides.StructuredMeanField(
        story,
        split.train,
        hidden=(64,),
        feature_scaling="tf-idf",
        activation="elu",
        layer_norm=True,
        dropout=dropout,
        input_dropout=other_dropout,
        edge_dropout=other_dropout,
    )


COLUMNS = {
    "paper": paper,
    # exact memberships instead of relaxed ones, as many steps; they want less noise from dropout beside their own
    "paper-dyadic": partial(paper, gradient="dyadic", dropout=0.2),
    "paper-disarm": partial(paper, gradient="disarm", dropout=0.2),
    "exact": exact,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=list(COLUMNS))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--validation-only", action="store_true", help="leave the test pairs alone")
    options = parser.parse_args()

    graph = gl.data.read_graph(options.data / "planetoid_npz/cora.npz")
    split = gl.data.given_split(graph, options.data / "splits/cora_split0.npz")
    part = "val" if options.validation_only else "test"
    results = []
    for column in options.columns:
        for seed in range(options.seeds):
            with gl.inference.seeded(seed):
                story, guide, settings = COLUMNS[column](split)
            started = time.perf_counter()
            fit = gl.inference.fit(story, guide, split, seed=seed, validate_every=50, **settings)
            seconds = time.perf_counter() - started
            row = fit.evaluate(split, part, draws=options.draws).to_dict()
            row |= {"column": column, "seed": seed, "seconds": seconds, "best_step": fit.best_step}
            row |= {"val_auc": max(fit.history["val_auc"]), "val_ap": max(fit.history["val_ap"])}
            row |= {"tempered": fit.tempered, "steps": settings["steps"]}
            row |= _training_edges(fit, options.draws)
            results.append(row)
            print(json.dumps(row, default=str), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cora.json").write_text(json.dumps(results, indent=1, default=str))
    table = _table(results, part)
    (options.out / "cora.md").write_text(table)
    print(table)


def _training_edges(fit: gl.inference.Fit, draws: int) -> dict[str, float]:
    """Expected edges among the observed dyads, beside the number observed: what the fit was shown."""
    everything = sum(
        float(p.sum())
        for _, p in gl.inference.probability_rows(fit.story, fit.guide, fit.graph, draws)
    )
    hidden = float(fit.link_probabilities(fit.graph.missing, draws).sum())
    return {
        "expected_observed": everything / 2 - hidden,
        "edges_observed": float(fit.graph.num_edges),
    }


def _table(results: list[dict[str, Any]], part: str) -> str:
    head = (
        f"| column | {part} AUC | {part} AP | Hits@50 | active of K={K} | expected / observed edges | expected / all "
        "edges | log-loss | ECE | seconds a fit |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    lines = [head]
    for column in dict.fromkeys(r["column"] for r in results):
        rows = [r for r in results if r["column"] == column]

        def cell(read: Any, digits: int, rows: list[dict[str, Any]] = rows) -> str:
            values = [read(r) for r in rows]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            return f"{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"

        lines.append(
            f"| {column} | {cell(lambda r: 100 * r['auc'], 2)} | {cell(lambda r: 100 * r['ap'], 2)} "
            f"| {cell(lambda r: 100 * r['hits'][50], 1)} | {cell(lambda r: r['active']['mean'], 1)} "
            f"| {cell(lambda r: r['expected_observed'] / r['edges_observed'], 3)} "
            f"| {cell(lambda r: r['expected_edges'] / r['edges'], 3)} | {cell(lambda r: r['log_loss'], 5)} "
            f"| {cell(lambda r: r['ece'], 5)} | {cell(lambda r: r['seconds'], 0)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
