"""SGGN (DGMG) on cycles of 10 to 20 nodes and on trees: valid draws and the time of an epoch.

    python benchmarks/sggn_families.py --family cycle --seeds 0 1 2
    python benchmarks/sggn_families.py --family tree

Maximum likelihood in breadth-first order on ``--graphs`` fresh graphs a seed, then 2,000 draws, each judged by
NetworkX. The least possible -log p of a cycle in its canonical order is the log of the number of lengths. No seed is
dropped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from by_seed import run_seeds

import graphlore as gl

SIZES = range(10, 21)


def run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    make = gl.data.cycles if options.family == "cycle" else gl.data.trees
    graphs = make(options.graphs, SIZES, seed=seed)
    with gl.inference.seeded(seed):
        story = gl.models.SGGN(options.hidden, rounds=options.rounds)
    cpu = time.process_time()
    fit = gl.inference.fit_ordered(
        story,
        graphs,
        "breadth-first",
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=seed,
    )
    cpu = time.process_time() - cpu
    with gl.inference.seeded(seed), torch.no_grad():
        drawn = gl.data.GraphSet.from_batch(story(num_graphs=2000), title="draws")
    return {
        "seed": seed,
        "valid": float(gl.inference.valid(drawn, options.family).mean()),
        "nll": -fit.history["log_prob"][-1],
        "cpu_seconds_an_epoch": cpu / options.epochs,
        "cpu_seconds": cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--family", choices=("cycle", "tree"), default="cycle")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--graphs", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=3e-2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = {
        name: name.replace("_", " ")
        for name in ("valid", "nll", "cpu_seconds_an_epoch", "cpu_seconds")
    }
    run_seeds(
        lambda seed: run(seed, options),
        options.seeds,
        options.out,
        f"sggn_{options.family}",
        columns,
    )


if __name__ == "__main__":
    main()
