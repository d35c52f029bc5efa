"""The figures and the table of the SGVAE paper, from fits to the same 100 cycles.

    python benchmarks/sgvae_figures.py --data ../shared/data/graphsets/sgvae_cycles.npz --seeds 0 1 2 3 4

Figure 1: the bound and the share of valid draws by epoch, every seed a line. Figure 2: latents of the graphs, drawn
from the guide, by t-SNE and along their principal axis, coloured by length. Figure 3: lengths of the draws along that
axis. Table 1: their mean length and its standard error, the standard deviation over the *root* of the number of draws
(the paper's notebook divides by the number). Settings are those of ``sgvae_cycles.py``.

    Sequential Graphical Variational Autoencoders (Jing, Chi, Tang, CS 236 project, 2019)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.manifold import TSNE

import graphlore as gl

POSITIONS = np.linspace(-2.0, 2.0, 9)


def fitted(
    seed: int, graphs: gl.data.GraphSet, options: argparse.Namespace
) -> tuple[gl.inference.SequentialFit, dict[str, list[float]]]:
    """The fit of a seed, and (epoch, valid share) as it went."""
    recipe = gl.inference.SetRecipe.default("sgvae", graphs).override(
        fit={"epochs": options.epochs, "seed": seed}
    )
    story, guide = recipe.build(graphs)
    valid: dict[str, list[float]] = {"epoch": [], "valid": []}

    def look(epoch: int, _: gl.inference.SequentialFit) -> None:
        if epoch % max(1, options.epochs // 35) == 0:
            state = torch.get_rng_state()
            drawn = gl.inference.draw_graphs(story, story.prior().sample((500,)))
            torch.set_rng_state(state)
            valid["epoch"].append(epoch)
            valid["valid"].append(float(gl.inference.valid(drawn, "cycle").mean()))

    fit = gl.inference.fit_sequential(story, guide, graphs, recipe.settings, callback=look)
    return fit, valid


def figure_1(runs: list[dict[str, Any]], file: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
    for run in runs:
        axes[0].plot(
            range(1, len(run["elbo"]) + 1), run["elbo"], lw=0.8, label=f"seed {run['seed']}"
        )
        axes[1].plot(run["epoch"], run["valid"], lw=1.2)
    low = min(np.quantile(run["elbo"], 0.03) for run in runs)
    axes[0].set(xlabel="epoch", ylabel="ELBO, nats a graph", ylim=(low, None))
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].set(xlabel="epoch", ylabel="valid cycles of 500 draws", ylim=(0, 1.02))
    axes[1].axhline(0.33, color="0.5", lw=0.8, ls="--")
    axes[1].text(1, 0.35, "the paper, at its best epoch", color="0.4", fontsize=8)
    save(figure, file)


def figure_2(z: np.ndarray, along: np.ndarray, lengths: np.ndarray, file: Path) -> None:
    places = TSNE(2, perplexity=30, init="random", random_state=0).fit_transform(z)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(lengths))
    for ax, x, y in ((axes[0], *places.T), (axes[1], along, lengths + jitter)):
        dots = ax.scatter(x, y, c=lengths, s=9, cmap="viridis", linewidths=0)
    axes[0].set(xlabel="t-SNE 1", ylabel="t-SNE 2", title="latents of the graphs, by t-SNE")
    axes[1].set(
        xlabel="principal axis, prior standard deviations",
        ylabel="length",
        title="the same along the principal axis",
    )
    figure.colorbar(dots, ax=axes, label="length of the cycle")
    save(figure, file)


def figure_3(sizes: np.ndarray, file: Path) -> None:
    """Shares of lengths (P, lengths) at each position, larger ones wider."""
    figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    for x, drawn in zip(POSITIONS, sizes, strict=True):
        length, count = np.unique(drawn, return_counts=True)
        share = count / count.sum()
        ax.barh(length, 0.45 * share / share.max(), left=x, height=0.8, color="#1b6ca8", alpha=0.8)
    ax.plot(POSITIONS, sizes.mean(1), "o-", color="#c8553d", ms=4, lw=1, label="mean")
    ax.set(xlabel="principal axis, prior standard deviations", ylabel="nodes of the draws")
    ax.legend(frameon=False)
    save(figure, file)


def save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=110, facecolor="white")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an .npz set of cycles")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=700)
    parser.add_argument("--draws", type=int, default=400, help="at each position along the axis")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    graphs = gl.data.read_graphset(options.data)
    runs = []
    for seed in options.seeds:
        fit, valid = fitted(seed, graphs, options)
        runs.append({"seed": seed, "elbo": fit.history["elbo"], **valid})
        print(json.dumps({"seed": seed, "valid": valid["valid"][-1]}), flush=True)
        if seed == options.seeds[0]:
            first = fit
    figure_1(runs, options.out / "sgvae_figure_1.png")

    with gl.inference.seeded(options.seeds[0]):
        z = gl.inference.encode_graphs(first.pair, graphs, draws=5)
        lengths = graphs.num_nodes.expand(len(z), -1).flatten().numpy()
        z = z.flatten(0, 1)
        axis = gl.inference.principal_axis(first.pair, graphs)
        if spearmanr((z @ axis).numpy(), lengths).statistic < 0:
            axis = -axis  # it has no sign of its own: longer to the right
        points = torch.as_tensor(POSITIONS).to(axis)[:, None] * axis
        drawn = gl.inference.draw_graphs(first.story, points.repeat_interleave(options.draws, 0))
    figure_2(z.numpy(), (z @ axis).numpy(), lengths, options.out / "sgvae_figure_2.png")
    sizes = drawn.num_nodes.numpy().reshape(len(POSITIONS), -1)
    figure_3(sizes, options.out / "sgvae_figure_3.png")
    error = sizes.std(1, ddof=1) / np.sqrt(sizes.shape[1])
    rank = spearmanr(POSITIONS, sizes.mean(1)).statistic
    lines = [
        "| position, prior standard deviations | mean length | standard error | valid cycles |",
        "|---|---|---|---|",
    ]
    good = gl.inference.valid(drawn, "cycle").reshape(len(POSITIONS), -1).mean(1)
    lines += [
        f"| {x:+.1f} | {m:.2f} | {e:.2f} | {v:.3f} |"
        for x, m, e, v in zip(POSITIONS, sizes.mean(1), error, good, strict=True)
    ]
    lines.append(f"\nSpearman correlation of position and mean length: {rank:.3f}.")
    (options.out / "sgvae_table_1.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
