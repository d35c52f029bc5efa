"""Are planted and known communities recovered, and is their number?

    python benchmarks/communities.py --polblogs polblogs.npz --seeds 3

Five tables: a degree-corrected SBM of the political blogs (normalised mutual information with the leanings); an SBM
of planted partitions beside belief propagation with the true parameters, which is the best there is on large sparse
graphs; the same by MCMC where they can barely be told; an LFRM of planted overlapping communities; and the number of
communities where it is left to the data. Truth is used for scores alone. Writes Markdown and JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import graphlore as gl
from graphlore.inference import disjoint_scores, matched_auc, number_of_communities, overlap_with

FREE = {"amortised": False}
SUMMED = {"gradient": "expectation", "steps": 300, "learning_rate": 0.1}
LEVELS = {2: (8.0, (0.15, 0.3, 0.4)), 4: (10.0, (0.08, 0.15, 0.25))}  # K: mean degree, epsilons


def political_blogs(file: Path) -> gl.data.Graph:
    """Largest component of the blogs of Adamic and Glance (2005), links without direction."""
    found = np.load(file)
    i, j = found["edge_index"]
    n = int(found["num_nodes"])
    _, part = connected_components(csr_array((np.ones(len(i)), (i, j)), shape=(n, n)), False)
    kept = part == np.bincount(part).argmax()
    number = np.cumsum(kept) - 1
    edges = number[np.stack((i, j))[:, kept[i]]]
    labels = found["labels"][kept].astype(np.int64)
    return gl.data.Graph(int(kept.sum()), edges, labels=labels, title="polblogs")


def belief_propagation(
    graph: gl.data.Graph, start: np.ndarray, inner: float, outer: float
) -> tuple[np.ndarray, float]:
    """Marginals (N, K) and Bethe free energy a node of a symmetric SBM with known parameters, equal block sizes.

    Messages over edges, all at once, damped; dyads without an edge act through a common field.

    References:
        | Asymptotic analysis of the stochastic block model for modular networks and its algorithmic applications
          (Decelle, Krzakala, Moore and Zdeborova, 2011), equations 26 to 31

    Arguments:
        start: (N, K) marginals that the first messages are.
        inner, outer: c_in and c_out; edges have probability c / N.
    """
    n, k = start.shape
    forth = graph.edge_index.numpy()
    source, target = np.concatenate((forth, forth[::-1]), axis=1)
    count = forth.shape[1]
    back = np.concatenate((np.arange(count, 2 * count), np.arange(count)))
    c = np.full((k, k), outer)
    np.fill_diagonal(c, inner)
    into = csr_array((np.ones(2 * count), (target, np.arange(2 * count))), shape=(n, 2 * count))
    message, marginal = start[source], start
    for _ in range(1000):
        arriving = np.log(message @ c)
        logits = into @ arriving - marginal.sum(0) @ c / n + marginal @ c / n
        outgoing = logits[source] - arriving[back]
        new = _softmax(outgoing)
        moved = np.abs(new - message).max()
        message = 0.5 * (message + new)
        # undamped, the common field throws all nodes from one block to the other and back
        marginal = 0.5 * (marginal + _softmax(logits))
        if moved < 1e-5:
            break
    else:
        return marginal, np.inf  # no fixed point: not compared
    arriving = np.log(message @ c)
    field = marginal.sum(0) @ c / n
    node = np.logaddexp.reduce(into @ arriving - field - np.log(k), axis=1).mean()
    pair = np.log(((message[:count] @ c) * message[count:]).sum(1)).sum() / n
    return marginal, float(-node + pair - 0.5 * marginal.mean(0) @ c @ marginal.mean(0))


def best_achievable(graph: gl.data.Graph, inner: float, outer: float, blocks: int) -> float:
    """Overlap of belief propagation with the truth: the fixed point of the lowest free energy.

    Starts at random, and at the truth: that is what no method can know, so that the peer is not handicapped.
    """
    truth = graph.labels.numpy()
    generator = np.random.default_rng(0)
    starts = [generator.dirichlet(np.ones(blocks), len(truth)) for _ in range(3)]
    starts.append(0.8 * np.eye(blocks)[truth] + 0.2 / blocks)
    found = [belief_propagation(graph, s, inner, outer) for s in starts]
    return overlap_with(min(found, key=lambda f: f[1])[0].argmax(1), truth)


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def fitted(
    graph: gl.data.Graph, story: dict[str, Any], fit: dict[str, Any], restarts: int
) -> tuple[Any, float]:
    """A fit and its seconds, all starts together."""
    started = time.perf_counter()
    plan = gl.inference.Recipe(story=story, guide=FREE, fit=fit)
    found = gl.inference.fit_recipe(plan, graph, restarts, progress=False)
    return found, time.perf_counter() - started


def blogs(file: Path, seed: int, restarts: int) -> dict[str, Any]:
    graph = political_blogs(file)
    story = {"name": "SBM", "num_blocks": 2, "likelihood": "poisson", "bias": "node"}
    found, seconds = fitted(graph, story, {**SUMMED, "seed": 100 * seed}, restarts)
    z = found.encode(graph, draws=200).memberships.argmax(1).numpy()
    return {
        "graph": f"polblogs, {graph.num_nodes} nodes",
        **disjoint_scores(z, graph.labels.numpy()),
        "seconds": seconds,
    }


def planted_blocks(seed: int, blocks: int, epsilon: float, restarts: int) -> dict[str, Any]:
    graph = partition(seed, blocks, epsilon)
    story = {"name": "SBM", "num_blocks": blocks}
    found, seconds = fitted(graph, story, {**SUMMED, "seed": 100 * seed}, restarts)
    z = found.encode(graph, draws=200).memberships.argmax(1).numpy()
    return beside_best(graph, z, blocks, epsilon) | {"seconds": seconds}


def barely_told(seed: int, blocks: int, epsilon: float) -> dict[str, Any]:
    """MCMC of a story that knows that blocks are of one size, as belief propagation does."""
    started = time.perf_counter()
    graph = partition(seed, blocks, epsilon)
    found = gl.inference.fit_mcmc(
        gl.models.SBM(400, blocks, alpha=200.0),
        graph,
        draws=500,
        warmup=500,
        chains=1,
        seed=seed,
        initial={"membership": gl.guides.spectral_blocks(graph, blocks)},
        predictive_draws=1,
        progress=False,
    )
    seconds = time.perf_counter() - started
    draws = found.posterior["membership"].values[0].astype(int)
    drawn = np.eye(blocks)[draws]
    shares = gl.inference.relabel_draws(drawn, gl.inference.align_draws(drawn)).mean(0)
    return beside_best(graph, shares.argmax(1), blocks, epsilon) | {"seconds": seconds}


def partition(seed: int, blocks: int, epsilon: float) -> gl.data.Graph:
    return gl.data.symmetric_partition(400, blocks, LEVELS[blocks][0], epsilon, seed=seed)


def beside_best(graph: gl.data.Graph, z: np.ndarray, blocks: int, epsilon: float) -> dict[str, Any]:
    """Overlap of labels with the planted partition, and that of belief propagation."""
    degree = LEVELS[blocks][0]
    inner = blocks * degree / (1 + (blocks - 1) * epsilon)
    best = best_achievable(graph, inner, epsilon * inner, blocks)
    own = overlap_with(z, graph.labels.numpy())
    ratio = gl.data.kesten_stigum(blocks, degree, epsilon)
    return {
        "graph": f"{blocks} blocks, signal to noise {ratio:.1f}",
        "overlap": own,
        "belief propagation": best,
        "short by": best - own,
    }


def planted_overlaps(
    seed: int, strength: float, share: float, bias: float, restarts: int
) -> dict[str, Any]:
    graph, truth = gl.data.planted_features(
        150, strength * np.eye(4), membership_prob=share, bias=bias, seed=seed
    )
    story = {
        "name": "LFRM",
        "truncation": 8,
        "alpha": 2.0,
        "bias": "global",
        "affinity_scale": 3.0,
    }
    fit = {"gradient": "local_expectation", "steps": 500, "learning_rate": 0.1}
    fit |= {"remove_every": 100, "seed": 100 * seed}
    found, seconds = fitted(graph, story, fit, restarts)
    number = number_of_communities(found.posterior(200, 1))
    return {
        "graph": f"4 of strength {strength:g}, share {share:g}, bias {bias:g}",
        "AUC": matched_auc(found.encode(graph, draws=200).memberships.numpy(), truth.numpy()),
        "communities": number.mean,
        "low": number.low,
        "high": number.high,
        "seconds": seconds,
    }


def number_of_blocks(seed: int, blocks: int, epsilon: float, restarts: int) -> dict[str, Any]:
    degree = LEVELS[4][0]
    graph = gl.data.symmetric_partition(100 * blocks, blocks, degree, epsilon, seed=seed)
    story = {"name": "SBM", "num_blocks": 8, "alpha": 0.1}
    fit = {**SUMMED, "remove_every": 50, "seed": 100 * seed}
    found, seconds = fitted(graph, story, fit, restarts)
    number = number_of_communities(found.posterior(200, 1))
    z = found.encode(graph, draws=200).memberships.argmax(1).numpy()
    return {
        "graph": f"{blocks} blocks, SBM of at most 8",
        "overlap": overlap_with(z, graph.labels.numpy()),
        "communities": number.mean,
        "low": number.low,
        "high": number.high,
        "seconds": seconds,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Means over the seeds of a graph, and their range."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for graph in dict.fromkeys(row["graph"] for row in rows):
        own = [row for row in rows if row["graph"] == graph]
        cells = [graph]
        for name in columns[1:]:
            x = [row[name] for row in own]
            digits = ".0f" if name in ("seconds", "low", "high") else ".3f"
            cells.append(f"{statistics.mean(x):{digits}} ({min(x):{digits}} to {max(x):{digits}})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--polblogs", type=Path, help="npz with edge_index, num_nodes, labels")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, more = range(options.seeds), options.restarts
    jobs: dict[str, list[Any]] = {
        "Planted partitions, SBM with K known": [
            (planted_blocks, (seed, k, e, more))
            for k, (_, levels) in LEVELS.items()
            for e in levels
            for seed in seeds
        ],
        "Just above the threshold, SBM of equal blocks by MCMC": [
            (barely_told, (seed, k, levels[-1]))
            for k, (_, levels) in LEVELS.items()
            for seed in seeds
        ],
        "Planted overlapping communities, LFRM with at most 8": [
            (planted_overlaps, (seed, *setting, more))
            for setting in ((4.0, 0.28, -3.5), (3.0, 0.3, -3.0), (5.0, 0.25, -4.0))
            for seed in seeds
        ],
        "K chosen by the data, SBM with a sparse Dirichlet (0.1)": [
            (number_of_blocks, (seed, k, 0.1, more)) for k in (3, 4) for seed in seeds
        ],
    }
    if options.polblogs is not None:
        name = "Political blogs, degree-corrected SBM with K = 2"
        jobs = {name: [(blogs, (options.polblogs, s, more)) for s in seeds], **jobs}
    found: dict[str, list[dict[str, Any]]] = {}
    lines: list[str] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for title, calls in jobs.items():
        found[title] = []
        for function, arguments in calls:
            found[title].append(function(*arguments))
            print(found[title][-1], flush=True)
        lines += [f"## {title}", "", *table(found[title]), ""]
        (options.out / "communities.md").write_text("\n".join(lines), encoding="utf-8")
        (options.out / "communities.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
