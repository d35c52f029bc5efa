"""What each option of SGVAE and its fit does, on the cycles: one change at a time, z read from all nodes at the start.

    python benchmarks/sgvae_options.py --data sgvae_cycles.npz --seeds 0 1 2

Control variates of the removals, the soft destructor, parting messages, where z is read from, the two terms that make
z speak, and the paper's own point. Of every fit: valid cycles of 4,000 draws, -log p per isomorphism class from the
frequencies among them, mutual information of z and the length, steering, and the entropy of the order in the end.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_seed import run_all
from sgvae_cycles import LENGTHS, length_classes

import graphlore as gl

STORY = {"hidden": 16, "latent": 1, "rounds": 1}
GUIDE = {"rounds": 1, "source": "readout"}
FIT = {
    "batch_size": 50,
    "orders": 2,
    "learning_rate": 5e-3,
    "warmup": 60,
    "information": 1.4,
    "marginal": 2.0,
}
#: changes of the story, the guide and the fit
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nothing changed": ({}, {}, {}),
    "control variate: none": ({}, {}, {"baseline": "none"}),
    "control variate: other orders, whole reward": ({}, {}, {"baseline": "order"}),
    "control variate: decaying average": ({}, {"baseline": "decaying"}, {"baseline": "guide"}),
    "control variate: neural": ({}, {"baseline": "neural"}, {"baseline": "guide"}),
    "soft destructor": ({}, {"soft": True}, {}),
    "no parting messages": ({}, {"parting": False}, {}),
    "no parting messages, soft": ({}, {"parting": False, "soft": True}, {}),
    "z from the last node": ({}, {"source": "last"}, {}),
    "z from the last node, soft": ({}, {"source": "last", "soft": True}, {}),
    "information 0": ({}, {}, {"information": 0.0}),
    "information 0, marginal 0: the ELBO": ({}, {}, {"information": 0.0, "marginal": 0.0}),
    "the paper's: a point, no parting": (
        {"latent": 16},
        {"source": "last", "latent": "point", "parting": False},
        {"information": 0.0, "marginal": 0.0},
    ),
}
COLUMNS = {
    "valid": "valid of 4,000",
    "nll": "-log p of a class",
    "information": "I(z; x), nats",
    "span": "range of mean lengths",
    "order_entropy": "order entropy, nats",
    "cpu_seconds_an_epoch": "CPU-s an epoch",
}


def run(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    of_story, of_guide, of_fit = VARIANTS[name]
    graphs = gl.data.read_graphset(options.data)
    with gl.inference.seeded(seed):
        story = gl.models.SGVAE(**{**STORY, **of_story})
        guide = gl.guides.Destructor(story, **{**GUIDE, **of_guide})
    found: dict[str, Any] = {"variant": name, "seed": seed}
    cpu = time.process_time()
    fit = gl.inference.fit_sequential(
        story, guide, graphs, epochs=options.epochs, seed=seed, **{**FIT, **of_fit}
    )
    found["cpu_seconds_an_epoch"] = (time.process_time() - cpu) / options.epochs
    with gl.inference.seeded(seed):
        lengths = length_classes(
            gl.inference.draw_graphs(story, story.prior().sample((options.draws,)))
        )
        share = np.array([np.mean(lengths == n) for n in LENGTHS])
        steering = gl.inference.steer(story, gl.inference.principal_axis(fit.pair, graphs))
        found |= {
            "valid": float(np.mean(lengths > 0)),
            # a length that was never drawn counts as one draw
            "nll": float(-np.log(np.maximum(share, 1 / options.draws)).mean()),
            "information": gl.inference.mutual_information(story, 300, 50, length_classes).estimate,
            "span": steering.span,
            "order_entropy": fit.history["order_entropy"][-1],
        }
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and range over the seeds."""
    lines = [
        f"| what | seeds | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in VARIANTS:
        mine = [row for row in rows if row["variant"] == name]
        if not mine:
            continue
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in mine]
            ends = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3g}{ends}")
        lines.append(f"| {name} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an .npz set of cycles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=350)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    run_all(
        (partial(run, name, seed, options) for seed in options.seeds for name in options.variants),
        table,
        options.out / "sgvae_options",
    )


if __name__ == "__main__":
    main()
