"""Zachary's karate club: are the two clubs in the posterior, and where?

    python benchmarks/karate.py --seeds 5

Fits DGLFRM and DGLFRM-B by exact Bernoulli memberships (three starts a seed, the best ELBO kept; labels are never
used) and reads the clubs off posterior means with a plain logistic regression: of the memberships E[b], and of the
embedding E[b r]. In-sample accuracy stands beside leave-one-out, and beside memberships of an untrained guide: with
34 nodes and a readout of K = 10 columns, in-sample accuracy flatters.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

import graphlore as gl

STORIES = {"DGLFRM": "dglfrm", "DGLFRM-B": "dglfrm-b"}  # with strengths, without


def readout(x: np.ndarray, clubs: np.ndarray) -> tuple[int, int]:
    """Nodes of 34 that a logistic regression (C = 1) gets right: (in-sample, leave-one-out)."""
    model = LogisticRegression(max_iter=5000)
    inside = model.fit(x, clubs).predict(x)
    outside = cross_val_predict(model, x, clubs, cv=LeaveOneOut())
    return int((inside == clubs).sum()), int((outside == clubs).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    graph = gl.data.karate()
    clubs = graph.labels.numpy()
    head = "| story | ELBO (nats) | b, in-sample | b, leave-one-out | b r, in-sample | b r, leave-one-out | seconds |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name in STORIES:
        rows, untrained = [], []
        for seed in range(options.seeds):
            plan = gl.inference.Recipe.default(STORIES[name]).override(fit={"seed": 100 * seed})
            with gl.inference.seeded(seed):
                story, guide = plan.build(graph)
                start = gl.inference.Fit(story, guide, graph, plan.settings, {})
                untrained.append(readout(start.encode(graph, 1000).memberships.numpy(), clubs))
            fit = gl.inference.fit_recipe(plan, graph, options.restarts, progress=False)
            nodes = fit.encode(graph, draws=1000)
            b = readout(nodes.memberships.numpy(), clubs)
            z = readout(nodes.embedding.numpy(), clubs)
            elbo = float(np.mean(fit.history["elbo"][-100:]))
            rows.append((elbo, *b, *z, fit.history["seconds"][-1]))
            print(
                name,
                seed,
                [round(float(v), 1) for v in rows[-1]],
                "untrained",
                untrained[-1],
                flush=True,
            )
        columns = list(zip(*rows, strict=True))
        cells = [f"{statistics.mean(c):.1f} ({min(c):.0f} to {max(c):.0f})" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        inside, outside = zip(*untrained, strict=True)
        lines.append(
            f"| {name}, untrained | - | {statistics.mean(inside):.1f} ({min(inside)} to {max(inside)}) "
            f"| {statistics.mean(outside):.1f} ({min(outside)} to {max(outside)}) | - | - | - |"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    table = "\n".join(lines) + "\n"
    (options.out / "karate.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
