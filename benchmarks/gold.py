"""How good is the variational posterior? Beside Markov chains, on graphs small enough for both.

    python benchmarks/gold.py --data ../shared/data --out runs/benchmarks

Block models (K = the number of known groups, or 4) and LFRM (K = 5, with a global bias) are fitted to karate, Les
Misérables and Sampson's monastery by variational inference with free guides (the best ELBO of three starts) and by
Gibbs and NUTS. Compared is what does not depend on how communities are numbered: link probabilities of the observed
dyads, memberships that nodes share, the number of communities with a member, and the expected log pointwise predictive
density by leave-one-out. Writes gold.md and gold.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import arviz
import numpy as np

import graphlore as gl

GRAPHS = ("karate", "lesmis", "sampson")
STARTS = 3
VARIATIONAL_DRAWS = 1000


def sbm(graph: gl.data.Graph, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    groups = 4 if graph.labels is None else int(graph.labels.max()) + 1
    story = gl.models.SBM(graph.num_nodes, groups)
    start = "spectral" if seed == 0 else "random"
    guide = gl.guides.AmortisedCategorical(story, graph, amortised=False, initial=start, seed=seed)
    return story, guide, {"gradient": "expectation", "steps": 600}


def lfrm(graph: gl.data.Graph, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    story = gl.models.LFRM(graph.num_nodes, 5, bias="global")
    guide = gl.guides.StructuredMeanField(story, graph, amortised=False, membership_spread=2.0)
    return story, guide, {"gradient": "local_expectation", "steps": 1000}


STORIES = {"SBM": sbm, "LFRM": lfrm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--stories", nargs="+", default=list(STORIES), choices=list(STORIES))
    parser.add_argument(
        "--draws", type=int, default=300, help="of each chain; SBM takes five times as many"
    )
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--chains", type=int, default=4)
    options = parser.parse_args()

    results = []
    for name in options.graphs:
        graph = gl.data.read_graph(options.data / f"classic/{name}.npz")
        for story in options.stories:
            results.append({"graph": name, "story": story, **compare(graph, story, options)})
            print(json.dumps(results[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gold.json").write_text(json.dumps(results, indent=1))
    table = _table(results)
    (options.out / "gold.md").write_text(table)
    print(table)


def compare(graph: gl.data.Graph, name: str, options: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    fits = []
    for seed in range(STARTS):
        with gl.inference.seeded(seed):
            story, guide, settings = STORIES[name](graph, seed)
        fits.append(
            gl.inference.fit(
                story, guide, graph, seed=seed, learning_rate=0.05, progress=False, **settings
            )
        )
    best = max(fits, key=lambda f: float(np.mean(f.history["elbo"][-100:])))
    variational = best.posterior(VARIATIONAL_DRAWS, predictive_draws=1)
    middle = time.perf_counter()
    chains = gl.inference.fit_mcmc(
        best.story,
        graph,
        draws=options.draws * (5 if name == "SBM" else 1),
        warmup=options.warmup,
        chains=options.chains,
        predictive_draws=1,
        max_tree_depth=4,
        progress=False,
    )
    ended = time.perf_counter()
    links = [_link_probabilities(p) for p in (variational, chains)]
    together = [_together(p) for p in (variational, chains)]
    off = ~np.eye(graph.num_nodes, dtype=bool)
    checked = gl.inference.mcmc_diagnostics(chains)
    elpd = [_elpd(p) for p in (variational, chains)]
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "K": best.story.width,
        "elbo": float(np.mean(best.history["elbo"][-100:])),
        "elbos": [float(np.mean(f.history["elbo"][-100:])) for f in fits],
        "link_mean_difference": float(np.abs(links[0] - links[1]).mean()),
        "link_max_difference": float(np.abs(links[0] - links[1]).max()),
        "together_mean_difference": float(np.abs(together[0] - together[1])[off].mean()),
        "communities": [_communities(p) for p in (variational, chains)],
        "elpd": elpd,
        "elpd_difference": elpd[0] - elpd[1],
        "r_hat": checked["r_hat"].dropna().to_dict(),
        "ess_bulk": checked["ess_bulk"].dropna().to_dict(),
        "seconds": [middle - started, ended - middle],
    }


def _link_probabilities(posterior: Any) -> np.ndarray:
    """Posterior means of the observed dyads, from the densities of what was observed there."""
    density = np.exp(posterior.log_likelihood["edges"].values.astype(float)).mean((0, 1))
    return np.where(posterior.observed_data["edges"].values == 1, density, 1.0 - density)


def _bits(posterior: Any) -> np.ndarray:
    """(draws, N, K) of 0 and 1."""
    latents = posterior.posterior
    if "memberships" in latents:
        b = latents["memberships"].values
    else:
        b = latents["membership"].values[..., None] == np.arange(latents.sizes["community"])
    return b.reshape(-1, *b.shape[2:]).astype(np.float32)


def _together(posterior: Any) -> np.ndarray:
    """Posterior probability that two nodes have a community in common, (N, N)."""
    bits = _bits(posterior)
    return np.mean([b @ b.T > 0 for b in bits], axis=0)


def _communities(posterior: Any) -> dict[str, float]:
    number = (_bits(posterior) > 0).any(1).sum(-1)
    low, high = np.quantile(number, (0.05, 0.95))
    return {"mean": float(number.mean()), "low": float(low), "high": float(high)}


def _elpd(posterior: Any) -> float:
    found = arviz.loo(posterior)
    return float(found.elpd_loo if hasattr(found, "elpd_loo") else found.elpd)


def _table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| graph | story | link probability, mean / max difference | shared memberships, mean difference "
        "| communities, variational | communities, MCMC | elpd, variational | elpd, MCMC | largest R-hat "
        "| smallest bulk ESS | seconds, variational / MCMC |\n|---|---|---|---|---|---|---|---|---|---|---|"
    ]
    for r in results:
        communities = [
            f"{c['mean']:.2f} ({c['low']:.0f} to {c['high']:.0f})" for c in r["communities"]
        ]
        lines.append(
            f"| {r['graph']} | {r['story']}, K = {r['K']} | {r['link_mean_difference']:.4f} / "
            f"{r['link_max_difference']:.3f} | {r['together_mean_difference']:.3f} | {communities[0]} "
            f"| {communities[1]} | {r['elpd'][0]:.1f} | {r['elpd'][1]:.1f} | {max(r['r_hat'].values()):.3f} "
            f"| {min(r['ess_bulk'].values()):.0f} | {r['seconds'][0]:.0f} / {r['seconds'][1]:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
