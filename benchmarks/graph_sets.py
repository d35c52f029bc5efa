"""SGGN and SGVAE on sets of graphs: distances of drawn graphs to held-out ones, beside those of the training graphs.

    python benchmarks/graph_sets.py --data ../shared/data/graphsets --sets community_small ego_small --seeds 0 1 2

The first fifth of a set is the test set (as in the code of GDSS, whose sets these are); an eighth of the others
chooses the epoch, by log p (SGGN) or the bound (SGVAE). SGGN is told of every graph in breadth-first order from
``--relabelled`` random numberings. Squared MMDs with the kernels of GRAN ("tv") and of GraphRNN ("emd"), as many draws
as there are graphs to fit, mean over ten such sets of draws; the ratio is to the distance of the fitted graphs
themselves. No seed is dropped.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from by_seed import run_all

import graphlore as gl
from graphlore.data.orders import canonical_orders, random_orders
from graphlore.inference.ordered import log_prob_ordered
from graphlore.inference.sequential_terms import trace_terms

STATISTICS = ("degree", "clustering", "orbit", "spectral")
KERNELS = ("tv", "emd")
SETS = 10  # of draws


class Best:
    """Keeps the weights of the epoch that is best on the validation graphs."""

    def __init__(self, module: torch.nn.Module, score: Any, every: int) -> None:
        self.module, self.score, self.every = module, score, every
        self.value, self.epoch = -float("inf"), 0
        self.weights = copy.deepcopy(module.state_dict())

    def __call__(self, epoch: int, *_: Any) -> None:
        if epoch % self.every:
            return
        state = torch.get_rng_state()
        with torch.no_grad(), gl.inference.seeded(0):
            value = float(self.score())
        torch.set_rng_state(state)
        if value > self.value:
            self.value, self.epoch = value, epoch
            self.weights = copy.deepcopy(self.module.state_dict())

    def restore(self) -> None:
        self.module.load_state_dict(self.weights)


def relabelled(graphs: gl.data.GraphSet, times: int) -> gl.data.GraphSet:
    """Every graph under so many random numberings of its nodes."""
    many = graphs.batch().repeat(times)
    return gl.data.GraphSet.from_batch(many.reorder(random_orders(many)))


def sizes(graphs: gl.data.GraphSet) -> dict[str, int]:
    """Options of a story of such graphs."""
    return {
        "node_types": graphs.num_node_types,
        "edge_types": graphs.num_edge_types,
        "max_nodes": int(1.5 * int(graphs.num_nodes.max())),
    }


def fit_sggn(
    train: gl.data.GraphSet, val: gl.data.GraphSet, seed: int, options: argparse.Namespace
) -> tuple[Any, Best]:
    with gl.inference.seeded(seed):
        story = gl.models.SGGN(options.hidden, rounds=options.rounds, **sizes(train))
        train, val = (relabelled(g, options.relabelled) for g in (train, val))
    checked = val.batch().reorder(canonical_orders(val))
    best = Best(story, lambda: log_prob_ordered(story, checked).mean(), options.every)
    gl.inference.fit_ordered(
        story,
        train,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=seed,
        callback=best,
    )
    return story, best


def fit_sgvae(
    train: gl.data.GraphSet, val: gl.data.GraphSet, seed: int, options: argparse.Namespace
) -> tuple[Any, Best]:
    with gl.inference.seeded(seed):
        story = gl.models.SGVAE(options.hidden, 4, rounds=options.rounds, **sizes(train))
        guide = gl.guides.Destructor(story, rounds=options.rounds, source="readout")
    pair = gl.guides.Reordered(story, guide)
    checked = val.batch()
    best = Best(pair, lambda: trace_terms(pair, checked, 20).log_weight.mean(), options.every)
    epochs = options.epochs * options.relabelled  # as many passes over the graphs themselves
    best.every *= options.relabelled
    gl.inference.fit_sequential(
        story,
        guide,
        train,
        epochs=epochs,
        batch_size=options.batch_size,
        orders=2,
        learning_rate=options.learning_rate,
        warmup=epochs // 5,
        seed=seed,
        callback=best,
    )
    return story, best


def run(name: str, model: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    graphs = gl.data.read_graphset(options.data / f"{name}.npz")
    test = graphs[: len(graphs) // 5]
    rest = torch.randperm(len(graphs) - len(test), generator=torch.Generator().manual_seed(seed))
    rest = (rest + len(test)).tolist()
    val, train = graphs[sorted(rest[: len(rest) // 8])], graphs[sorted(rest[len(rest) // 8 :])]
    cpu = time.process_time()
    story, best = (fit_sggn if model == "sggn" else fit_sgvae)(train, val, seed, options)
    cpu = time.process_time() - cpu
    best.restore()
    fitted = graphs[len(test) :]
    with gl.inference.seeded(seed), torch.no_grad():
        count = SETS * len(fitted)
        drawn = gl.data.GraphSet.from_batch(story(num_graphs=count))
    row: dict[str, Any] = {
        "set": name,
        "model": model,
        "seed": seed,
        "epoch": best.epoch,
        "validation": best.value,
        "cpu_seconds": cpu,
        "unique": gl.inference.uniqueness(drawn[: len(fitted)]),
        "novel": gl.inference.novelty(drawn[: len(fitted)], fitted),
    }
    for kernel in KERNELS:
        for statistic in STATISTICS:
            values = [
                gl.inference.mmd(drawn[k : k + len(fitted)], test, statistic, kernel)
                for k in range(0, count, len(fitted))
            ]
            row[f"{statistic}_{kernel}"] = statistics.mean(values)
            row[f"{statistic}_{kernel}_train"] = gl.inference.mmd(fitted, test, statistic, kernel)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for kernel in KERNELS:
        lines += [
            f"Kernel {kernel}: squared MMD to the test graphs, mean and standard deviation over seeds (ratio to the "
            "fitted graphs' own)",
            "",
            f"| set | story | seeds | {' | '.join(STATISTICS)} | novel | CPU-s a fit |",
            "|---" * (len(STATISTICS) + 5) + "|",
        ]
        for name, model in dict.fromkeys((r["set"], r["model"]) for r in rows):
            mine = [r for r in rows if (r["set"], r["model"]) == (name, model)]
            cells = []
            for statistic in STATISTICS:
                values = [r[f"{statistic}_{kernel}"] for r in mine]
                ratio = statistics.mean(values) / mine[0][f"{statistic}_{kernel}_train"]
                sd = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.4f}{sd} ({ratio:.1f})")
            cells += [
                f"{statistics.mean(r[c] for r in mine):.3g}" for c in ("novel", "cpu_seconds")
            ]
            lines.append(f"| {name} | {model} | {len(mine)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/graphsets"))
    parser.add_argument("--sets", nargs="+", default=["community_small", "ego_small"])
    parser.add_argument("--models", nargs="+", default=["sggn", "sgvae"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="epochs between looks at validation")
    parser.add_argument("--relabelled", type=int, default=80, help="numberings of every graph")
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    run_all(
        (
            partial(run, name, model, seed, options)
            for seed in options.seeds
            for name in options.sets
            for model in options.models
        ),
        table,
        options.out / "graph_sets",
    )


if __name__ == "__main__":
    main()
