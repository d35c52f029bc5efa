"""How good is the variational posterior? Beside Markov chains, on graphs small enough for both.

    python benchmarks/gold.py --data ../shared/data --out runs/benchmarks

Block models (K = the number of known groups, or 4) and LFRM (K = 5, with a global bias) are fitted to karate, Les
Misérables and Sampson's monastery by variational inference with free guides (the best ELBO of several starts) and by
Gibbs and NUTS: chains from draws of the variational posterior, which it is compared with, and annealed chains from
random starts, which say whether there is another mode. Compared is what does not depend on how communities are
numbered: link probabilities of the observed dyads, memberships that nodes share, the number of communities with a
member, and the expected log pointwise predictive density by leave-one-out. Writes gold.md and gold.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import arviz
import numpy as np
import torch
from pyro import poutine

import graphlore as gl
from graphlore.inference.restarts import final_score

GRAPHS = ("karate", "lesmis", "sampson")
STARTS = 6
VARIATIONAL_DRAWS = 1000
PLANS: dict[str, dict[str, Any]] = {
    "SBM": {
        "story": {},
        "guide": {"amortised": False},
        "fit": {"gradient": "expectation", "steps": 300, "learning_rate": 0.1},
    },
    "LFRM": {
        "story": {"truncation": 5, "bias": "global"},
        "guide": {"amortised": False},
        "fit": {"gradient": "local_expectation", "steps": 500, "learning_rate": 0.1},
    },
}


def best_fit(graph: gl.data.Graph, name: str) -> Any:
    plan = gl.inference.Recipe(**{**PLANS[name], "story": {"name": name, **PLANS[name]["story"]}})
    if name == "SBM":
        groups = 4 if graph.labels is None else int(graph.labels.max()) + 1
        plan = plan.override(story={"num_blocks": groups})
        return gl.inference.fit_recipe(plan, graph, STARTS, progress=False)
    # half of the starts from factorisations, half with memberships at random
    starts = [{"initial_seed": s} if s % 2 else {"membership_spread": 2.0} for s in range(STARTS)]
    fits = [
        gl.inference.fit_recipe(
            plan.override(guide=start, fit={"seed": seed}), graph, progress=False
        )
        for seed, start in enumerate(starts)
    ]
    return max(fits, key=final_score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--stories", nargs="+", default=list(PLANS), choices=list(PLANS))
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
    best = best_fit(graph, name)
    variational = best.posterior(VARIATIONAL_DRAWS, predictive_draws=1)
    middle = time.perf_counter()
    settings = {
        "draws": options.draws * (5 if name == "SBM" else 1),
        "warmup": options.warmup,
        "predictive_draws": 1,
        "max_tree_depth": 4,
        "progress": False,
    }
    nearby = [
        gl.inference.fit_mcmc(
            best.story,
            graph,
            chains=1,
            seed=seed,
            initial=_drawn(best, seed),
            **settings,
        )
        for seed in range(options.chains)
    ]
    chains = arviz.concat(*nearby, dim="chain")
    ended = time.perf_counter()
    random = gl.inference.fit_mcmc(best.story, graph, chains=options.chains, **settings)
    links = [_link_probabilities(p) for p in (variational, chains)]
    together = [_together(p) for p in (variational, chains)]
    off = ~np.eye(graph.num_nodes, dtype=bool)
    checked = gl.inference.mcmc_diagnostics(chains)
    elpd = [_elpd(p) for p in (variational, chains)]
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "K": best.story.width,
        "elbo": final_score(best),
        "link_mean_difference": float(np.abs(links[0] - links[1]).mean()),
        "link_max_difference": float(np.abs(links[0] - links[1]).max()),
        "together_mean_difference": float(np.abs(together[0] - together[1])[off].mean()),
        "communities": [
            dataclasses.asdict(gl.inference.number_of_communities(p)) for p in (variational, chains)
        ],
        "elpd": elpd,
        "elpd_difference": elpd[0] - elpd[1],
        "lp": [p.sample_stats["lp"].values.mean(1).tolist() for p in (chains, random)],
        "elpd_random": _elpd(random),
        "r_hat": checked["r_hat"].dropna().to_dict(),
        "ess_bulk": checked["ess_bulk"].dropna().to_dict(),
        "seconds": [middle - started, ended - middle],
    }


def _drawn(fit: Any, seed: int) -> dict[str, torch.Tensor]:
    """Latents by site, one draw from the guide."""
    with torch.no_grad(), gl.inference.seeded(seed):
        sites = poutine.trace(fit.guide).get_trace(fit.graph).nodes.items()
    drawn = {n: s["value"] for n, s in sites if s["type"] == "sample" and n != "nodes"}
    return {n: x.double() if x.is_floating_point() else x for n, x in drawn.items()}


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


def _elpd(posterior: Any) -> float:
    found = arviz.loo(posterior)
    return float(found.elpd_loo if hasattr(found, "elpd_loo") else found.elpd)


def _table(results: list[dict[str, Any]]) -> str:
    head = (
        "graph",
        "story",
        "ELBO",
        "link probability, mean / max difference",
        "shared memberships, mean difference",
        "communities, variational",
        "communities, MCMC",
        "elpd, variational",
        "elpd, MCMC",
        "elpd, from random starts",
        "largest R-hat",
        "smallest bulk ESS",
        "seconds, variational / MCMC",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in results:
        communities = [f"{c['mean']:.2f} ({c['low']} to {c['high']})" for c in r["communities"]]
        cells = (
            r["graph"],
            f"{r['story']}, K = {r['K']}",
            f"{r['elbo']:.1f}",
            f"{r['link_mean_difference']:.4f} / {r['link_max_difference']:.3f}",
            f"{r['together_mean_difference']:.3f}",
            *communities,
            *(f"{x:.1f}" for x in (*r["elpd"], r["elpd_random"])),
            f"{max(r['r_hat'].values()):.3f}",
            f"{min(r['ess_bulk'].values()):.0f}",
            " / ".join(f"{x:.0f}" for x in r["seconds"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
