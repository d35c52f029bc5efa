"""Simulation-based calibration of the SBM: mean field by the expectation gradient, and Markov chains.

    python benchmarks/calibration.py --out runs/calibration

Writes the ranks (CSV), a table of what they say, and a picture.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

import graphlore as gl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--draws", type=int, default=49)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--chain", type=int, default=250, help="draws of a chain, before thinning")
    parser.add_argument("--warmup", type=int, default=60)
    options = parser.parse_args()
    story = gl.models.SBM(options.nodes, 2)
    free = partial(gl.guides.AmortisedCategorical, amortised=False)
    fits = {
        "Mean field": gl.inference.sbc_fit(
            story, free, steps=options.steps, learning_rate=0.05, gradient="expectation"
        ),
        "MCMC": gl.inference.sbc_mcmc(story, draws=options.chain, warmup=options.warmup),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    tables = {}
    for ax, (name, fit_one) in zip(axes, fits.items(), strict=True):
        started = time.perf_counter()
        found = gl.inference.sbc(
            story, fit_one, simulations=options.simulations, draws=options.draws, seed=1
        )
        seconds = time.perf_counter() - started
        found.to_dataframe().to_csv(options.out / f"{name.replace(' ', '_')}.csv")
        tables[name] = found.summary()
        print(
            f"\n{name}, {seconds:.0f} s\n{found.verdict()}\n{tables[name].to_string()}", flush=True
        )
        gl.plots.sbc(found, ax, heading=name)
    pd.concat(tables).to_csv(options.out / "summary.csv")
    figure.savefig(options.out / "sbc.png", dpi=80, facecolor="white")
    with Image.open(options.out / "sbc.png") as picture:
        picture.convert("RGB").quantize(128, kmeans=3).save(options.out / "sbc.png", optimize=True)


if __name__ == "__main__":
    main()
