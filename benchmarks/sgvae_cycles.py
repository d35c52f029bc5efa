"""SGVAE on cycles: valid draws, class likelihood, and whether the latent carries and steers the length.

    python benchmarks/sgvae_cycles.py --seeds 5
    python benchmarks/sgvae_cycles.py --data sgvae_cycles.npz

Fits SGVAE and its destructor to 100 cycles with an objective that is not the ELBO (``--information`` and
``--marginal`` weigh two more terms), and judges the story alone: valid cycles in 1,000 draws from the prior; -log p
per isomorphism class of the cycles of 5 to 14 nodes, each once (uniform lengths), by IWAE and by the frequencies
among 20,000 draws; mutual information of z and x; mean length along the latent axis. And cycles of 15 to 20 nodes,
longer than any that was seen: asked for by z, which goes on along the axis past its long end until draws are that
long, and by the number of nodes, given z of that end or of the prior. No seed is dropped.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from by_seed import run_seeds
from pyro import poutine

import graphlore as gl

LENGTHS = range(5, 15)
LONGER = range(15, 21)


def length_classes(graphs: gl.data.GraphSet) -> np.ndarray:
    """The length of valid cycles, -1 for anything else."""
    return np.where(gl.inference.valid(graphs, "cycle"), graphs.num_nodes.numpy(), -1)


def evaluate(fit: gl.inference.SequentialFit, graphs: gl.data.GraphSet) -> dict[str, Any]:
    story, pair = fit.story, fit.pair
    draw, prior = gl.inference.draw_graphs, story.prior()
    valid = float(gl.inference.valid(draw(story, prior.sample((1000,))), "cycle").mean())
    many = length_classes(draw(story, prior.sample((20000,))))
    share = np.array([np.mean(many == n) for n in LENGTHS])
    rings = gl.data.GraphSet.from_networkx([nx.cycle_graph(n) for n in LENGTHS])
    bound = gl.inference.importance_log_likelihood(pair, rings, 4000)
    information = gl.inference.mutual_information(story, 500, 50, length_classes)
    axis = gl.inference.principal_axis(pair, graphs)
    steering = gl.inference.steer(story, axis)
    return {
        "valid": valid,
        "valid_of_20000": float(np.mean(many > 0)),
        "nll_iwae": -float(bound.isomorphism_class.mean()),
        "nll_frequency": float(-np.log(share).mean()),
        "effective_draws": float(bound.effective_draws.min()),
        "elbo_gap": float((bound.sequence - bound.elbo).mean()),
        "information": information.estimate,
        "information_bias": information.bias,
        "information_error": information.error,
        "entropy": information.entropy,
        "spearman": abs(steering.spearman),  # an axis has no sign
        "span": steering.span,
        "sizes": steering.sizes.round(2).tolist(),
        **longer(story, axis, steering),
    }


def forced(story: gl.models.SGVAE, z: torch.Tensor, sizes: torch.Tensor) -> gl.data.GraphSet:
    """Draws (B,) given z (B, D) and the numbers of nodes (B,)."""
    steps = range(1, int(sizes.max()) + 1)
    data = {f"add_node_{t}": (sizes > t).float() for t in steps}
    with torch.no_grad():
        batch = poutine.condition(story, data={"z": z, **data})(None, len(z))
    return gl.data.GraphSet.from_batch(batch)


def longer(
    story: gl.models.SGVAE, axis: torch.Tensor, steering: gl.inference.Steering, draws: int = 2000
) -> dict[str, float]:
    """Valid shares among cycles longer than any that was seen."""
    end = float(steering.positions[steering.sizes.argmax()])
    way = torch.linspace(end, end + np.sign(end) * 3.0, 60).repeat_interleave(100)[:, None] * axis
    drawn = gl.inference.draw_graphs(story, way)
    long = np.isin(drawn.num_nodes.numpy(), LONGER)
    sizes = torch.tensor(list(LONGER)).repeat(-(-draws // len(LONGER)))[:draws]

    def share(z: torch.Tensor) -> float:
        return float(gl.inference.valid(forced(story, z, sizes), "cycle").mean())

    return {
        "longer_by_z": float(
            (gl.inference.valid(drawn, "cycle") & long).sum() / max(1, long.sum())
        ),
        "longer_drawn": int(long.sum()),
        "longer_forced_end": share((end * axis).expand(draws, -1)),
        "longer_forced_prior": share(story.prior().sample((draws,))),
    }


def run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    if options.data is not None:
        graphs = gl.data.read_graphset(options.data)
    elif options.balanced:
        graphs = gl.data.GraphSet.from_networkx([nx.cycle_graph(n) for n in LENGTHS] * 10)
    else:
        graphs = gl.data.cycles(100, LENGTHS, seed=seed)
    with gl.inference.seeded(seed):
        story = gl.models.SGVAE(options.hidden, options.latent, rounds=options.rounds)
        guide = gl.guides.Destructor(
            story, rounds=options.rounds, source=options.source, parting=not options.no_parting
        )
    settings = gl.inference.SequentialSettings(
        epochs=options.epochs,
        batch_size=options.batch_size,
        orders=options.orders,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        information=options.information,
        marginal=options.marginal,
        seed=seed,
    )
    cpu = time.process_time()
    fit = gl.inference.fit_sequential(story, guide, graphs, settings)
    cpu = time.process_time() - cpu
    with gl.inference.seeded(seed):
        found = evaluate(fit, graphs)
    last = {
        f"guide_{name}": values[-1] for name, values in fit.history.items() if name != "seconds"
    }
    return {
        "seed": seed,
        "cpu_seconds_an_epoch": cpu / settings.epochs,
        **found,
        **last,
        "settings": asdict(settings),  # apart: its weight "information" is not the measurement
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    graphs = parser.add_mutually_exclusive_group()
    graphs.add_argument(
        "--data", type=Path, help="an .npz set of cycles; fresh ones of 5 to 14 nodes if left out"
    )
    graphs.add_argument(
        "--balanced", action="store_true", help="ten cycles of each length, not 100 random ones"
    )
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--latent", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=700)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--orders", type=int, default=2, help="sampled a graph and step")
    parser.add_argument(
        "--source", choices=("readout", "last"), default="last", help="what z is read from"
    )
    parser.add_argument(
        "--no-parting", action="store_true", help="the paper's destructor, without parting messages"
    )
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--information", type=float, default=1.4)
    parser.add_argument("--marginal", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = {
        "valid": "valid of 1,000",
        "nll_iwae": "class NLL, IWAE",
        "nll_frequency": "class NLL, frequencies",
        "information": "I(z; x), nats",
        "spearman": "Spearman",
        "span": "range of mean lengths",
        "longer_by_z": "15 to 20 nodes, by z",
        "longer_forced_end": "the same, by number",
        "cpu_seconds_an_epoch": "CPU-s an epoch",
    }
    run_seeds(lambda seed: run(seed, options), options.seeds, options.out, "sgvae_cycles", columns)


if __name__ == "__main__":
    main()
