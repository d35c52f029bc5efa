"""How noisy, how biased and how slow the gradient estimators are, on planted graphs and on Cora.

The gradient is that of the weights of the encoder's membership head, its last layer, at fixed weights: those of the
start, and those after ``--steps`` steps by local expectations, of which the first third is at a hundredth of the
divergence and the last third at all of it. Variance is the trace of its covariance over ``--draws`` draws. Bias is the
norm of the difference to the mean of the local expectations, over the norm of that mean; beside it stands what noise
alone would give, the root of the summed variances of the two means over the same norm. Decaying baselines see 20 draws
before the first one counts. Time is the
fastest of 30 steps, forward and backward, the estimators taking turns. Writes Markdown and the raw numbers under
``--out``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch

import graphlore as gl
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import Concrete, StraightThrough

REFERENCE = "local_expectation"
SETTLING = 20  # draws that a decaying baseline sees first

ESTIMATORS: dict[str, Any] = {
    "dyadic": gl.inference.DyadicELBO,
    REFERENCE: LocalExpectationELBO,
    "disarm": gl.inference.DisarmELBO,
    "reinforce": lambda: gl.inference.DyadicELBO(local=False),
    "concrete": gl.inference.DyadicELBO,
    "straight_through": gl.inference.DyadicELBO,
}

# (story, guide), the temperatures being the defaults of a fit
RELAXATIONS: dict[str, Any] = {
    "concrete": tuple(map(Concrete, gl.inference.FitSettings().concrete_temperatures)),
    "straight_through": (StraightThrough(), StraightThrough()),
}


def planted(num_nodes: int, seed: int, blocks: int = 4, degree: float = 8.0) -> gl.Graph:
    """A stochastic block model with equal blocks: nine in ten of about ``degree`` neighbours in the own block."""
    rng = np.random.default_rng((seed, num_nodes))
    block = np.arange(num_nodes) % blocks
    size = num_nodes / blocks
    inside, outside = 0.9 * degree / size, 0.1 * degree / (num_nodes - size)
    p = np.where(block[:, None] == block[None, :], min(inside, 0.95), outside)
    edges = np.argwhere(np.triu(rng.random((num_nodes, num_nodes)) < p, 1)).T
    return gl.Graph(num_nodes, edges, title=f"planted, N = {num_nodes}")


def a_pair(graph: gl.Graph, truncation: int, seed: int) -> tuple[Any, Any]:
    with gl.inference.seeded(seed):
        story = gl.models.DGLFRM(graph.num_nodes, truncation, bias="global", decoder=(32, 16))
        guide = gl.guides.StructuredMeanField(story, graph, hidden=(32,), membership_spread=2.0)
    return story, guide


@contextlib.contextmanager
def relaxed(story: Any, guide: Any, name: str) -> Any:
    story.relaxation, guide.relaxation = RELAXATIONS.get(name, (None, None))
    try:
        yield
    finally:
        story.relaxation = guide.relaxation = None


def measure(
    name: str, story: Any, guide: Any, graph: gl.Graph, draws: int, seed: int
) -> dict[str, Any]:
    """Mean and variance of the gradient."""
    head = guide.encoder.heads["membership_logits"].lin.weight
    elbo, rows = ESTIMATORS[name](), []
    with gl.inference.seeded(seed), relaxed(story, guide, name):
        for draw in range(SETTLING + draws):
            (gradient,) = torch.autograd.grad(
                _loss(elbo, story, guide, graph, first=draw == 0), [head]
            )
            if draw >= SETTLING:
                rows.append(gradient.flatten().double())
    table = torch.stack(rows)
    return {
        "mean": table.mean(0),
        "variance": float(table.var(0).sum()),
        "draws": draws,
    }


def _loss(elbo: Any, story: Any, guide: Any, graph: gl.Graph, first: bool) -> torch.Tensor:
    # as in a fit, where Pyro's checks speak on the first step alone
    with contextlib.nullcontext() if first else pyro.validation_enabled(False):
        return elbo.differentiable_loss(story, guide, graph)


def seconds_a_step(story: Any, guide: Any, graph: gl.Graph, rounds: int = 30) -> dict[str, float]:
    """The fastest step of each estimator; they take turns, so that other work on the machine meets all of them."""
    parameters = [p for m in (story, guide) for p in m.parameters()]
    elbos = {name: make() for name, make in ESTIMATORS.items()}
    fastest = dict.fromkeys(ESTIMATORS, float("inf"))
    with gl.inference.seeded(0):
        for turn in range(rounds + 1):
            for name, elbo in elbos.items():
                with relaxed(story, guide, name):
                    started = time.perf_counter()
                    loss = _loss(elbo, story, guide, graph, first=turn == 0)
                    torch.autograd.grad(loss, parameters, allow_unused=True)
                    if turn:
                        fastest[name] = min(fastest[name], time.perf_counter() - started)
    return fastest


def compare(graph: gl.Graph, options: argparse.Namespace, truncation: int, draws: int) -> list:
    story, guide = a_pair(graph, truncation, options.seed)
    rows = []
    for trained in (False, True):
        state = "start"
        if trained:
            third = (
                options.steps // 3
            )  # without a warm-up the posterior falls to the prior, where little is to be seen
            fit = gl.inference.fit(
                story,
                guide,
                graph,
                steps=options.steps,
                gradient=REFERENCE,
                learning_rate=0.02,
                kl_hold=third,
                kl_warmup=third,
                seed=options.seed,
                progress=False,
            )
            state = f"after {options.steps} steps, KL {fit.history['kl'][-1] / graph.num_nodes:.1f} nats a node"
            story.train()
            guide.train()
        found = {
            n: measure(n, story, guide, graph, draws, options.seed + 1 + i)
            for i, n in enumerate(ESTIMATORS)
        }
        seconds = seconds_a_step(story, guide, graph)
        truth = found[REFERENCE]
        size = float(truth["mean"].norm())
        for name, row in found.items():
            noise = ((row["variance"] + truth["variance"]) / draws) ** 0.5
            rows.append(
                {
                    "graph": graph.title,
                    "nodes": graph.num_nodes,
                    "state": state,
                    "gradient": name,
                    "variance": row["variance"],
                    "relative": row["variance"] / truth["variance"],
                    "norm": size,
                    "bias": float((row["mean"] - truth["mean"]).norm()) / size,
                    "noise": noise / size,
                    "seconds": seconds[name],
                    "draws": draws,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| graph | weights | gradient | variance | times local_expectation | bias (noise alone) | ms a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        bias = "" if r["gradient"] == REFERENCE else f"{r['bias']:.2f} ({r['noise']:.2f})"
        lines.append(
            f"| {r['graph']} | {r['state']} | {r['gradient']} | {r['variance']:.3g} | {r['relative']:.3g} | {bias} "
            f"| {1000 * r['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--cora", action="store_true", help="measure on Cora too")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cora-draws", type=int, default=50)
    options = parser.parse_args()

    torch.set_num_threads(
        1
    )  # the small graphs' operations are shorter than it takes to share them out
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for num_nodes in options.nodes:
        rows += compare(planted(num_nodes, options.seed), options, 8, options.draws)
    if options.cora:
        graph = gl.data.read_graph(options.data / "planetoid_npz/cora.npz")
        rows += compare(graph, options, 50, options.cora_draws)
    (options.out / "gradients.json").write_text(json.dumps(rows, indent=1))
    (options.out / "gradients.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
