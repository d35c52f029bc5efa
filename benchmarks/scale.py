"""What large graphs cost: more processes, batches of dyads, a million nodes, and a model fitted to the measurements.

    python benchmarks/scale.py --data ../shared/data --part processes
    python benchmarks/scale.py --part steps
    python benchmarks/scale.py --part million
    python benchmarks/scale.py --data ../shared/data --part twitter

Every part measures in processes of its own and leaves ``scale_PART.json`` under ``--out``; ``--part report`` puts those
that are there together as ``scale.md``, with the cost model and its picture. Memory is the peak resident set (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cost_model import CostModel, Measured
from neighbours import SCORES
from sklearn.metrics import average_precision_score, roc_auc_score

import graphlore as gl

GIB = 2.0**30


# -- measuring ---------------------------------------------------------------------------------------


def peak_bytes() -> int:
    """The largest resident set of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if "VmHWM" in x).split()[1])


def alone(
    options: argparse.Namespace, *arguments: Any, processes: int = 1, threads: int = 1
) -> Any:
    """What ``--worker`` prints in a process of its own, or in the first of several under torchrun."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    told = ("data", "out")
    command += [__file__, *(f"--{name}={getattr(options, name)}" for name in told), "--worker"]
    command += list(map(str, arguments))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def step_seconds(
    story: Any, guide: Any, graph: gl.data.Graph, steps: int, **options: Any
) -> list[float]:
    """Seconds of every step of a fit but the first two."""
    ends: list[float] = []
    gl.inference.fit(
        story,
        guide,
        graph,
        steps=steps + 2,
        progress=False,
        callbacks=[lambda *_: ends.append(time.perf_counter())],
        **options,
    )
    return np.diff(ends)[1:].tolist()


def model_of(graph: gl.data.Graph, K: int, **options: Any) -> tuple[Any, Any]:
    """DGLFRM with degree correction, and its structured guide."""
    guide_options = options.pop("guide", {"hidden": (64,)})
    with gl.inference.seeded(0):
        story = gl.models.DGLFRM(graph.num_nodes, K, decoder=(K,), bias="node", **options)
        return story, gl.guides.StructuredMeanField(story, graph, **guide_options)


def communities(nodes: int, degree: float, size: int = 100, features: int = 0) -> gl.data.Graph:
    """Planted communities of ``size`` nodes, four edges of five inside one; features a noisy code of the community."""
    rng = torch.Generator().manual_seed(0)
    count = int(1.05 * nodes * degree / 2)
    i = torch.randint(nodes, (count,), generator=rng)
    inside = torch.rand(count, generator=rng) < 0.8
    near = i // size * size + torch.randint(size, (count,), generator=rng)
    j = torch.where(
        inside, near.clamp(max=nodes - 1), torch.randint(nodes, (count,), generator=rng)
    )
    x = None
    if features:
        codes = torch.randn(nodes // size + 1, features, generator=rng)
        x = codes[torch.arange(nodes) // size] + torch.randn(nodes, features, generator=rng)
    graph = gl.data.Graph(nodes, torch.stack((i, j)), features=x, clean=True)
    keep = torch.randperm(graph.num_edges, generator=rng)[: int(nodes * degree / 2)]
    return gl.data.Graph(nodes, graph.edge_index[:, keep], features=x, title="communities")


# -- two processes against one -----------------------------------------------------------------------


def pubmed_steps(options: argparse.Namespace, steps: str) -> list[float] | None:
    graph = gl.data.read_graph(options.data / "planetoid_npz/pubmed.npz")
    with gl.inference.seeded(0):
        story = gl.models.DGLFRM(
            graph.num_nodes, 50, 10.0, decoder=(50,), class_weight="balanced", bias="none"
        )
        guide = gl.guides.StructuredMeanField(story, graph, hidden=(64,), dropout=0.5)
    return step_seconds(story, guide, graph, int(steps), gradient="concrete")


def processes_part(options: argparse.Namespace) -> dict[str, Any]:
    """Jobs of one process and of two take turns."""
    found: dict[str, list[list[float]]] = {"1": [], "2": []}
    for _ in range(options.rounds):
        for count in (1, 2):
            found[str(count)].append(alone(options, "pubmed", 8, processes=count))
    return found


# -- steps of every mode -----------------------------------------------------------------------------

#: nodes, mean degree, K, mode: how a step of it is told of the graph
SIZES = [
    *((n, 20, 16, "sampled") for n in (10_000, 20_000, 40_000, 80_000, 160_000)),
    *((n, 20, 16, "exact") for n in (2_500, 5_000, 10_000, 20_000)),
    *((n, 20, 16, "batches") for n in (10_000, 40_000, 160_000, 640_000)),
    (20_000, 20, 64, "sampled"),
    (5_000, 20, 64, "exact"),
    (10_000, 20, 64, "batches"),
    (40_000, 80, 16, "sampled"),
    (80_000, 40, 32, "sampled"),
    (15_000, 10, 32, "exact"),
    (320_000, 20, 32, "batches"),
]
BATCH = {"batch_edges": 4096, "batch_nodes": 1024, "batch_neighbours": 5}


def one_size(
    options: argparse.Namespace, nodes: str, degree: str, K: str, mode: str
) -> dict[str, Any]:
    graph = communities(int(nodes), float(degree), features=0 if mode != "batches" else 16)
    told = {"absent_sample": graph.num_edges} if mode == "sampled" else {}
    story, guide = model_of(graph, int(K), **told)
    loaded = peak_bytes()
    seconds = step_seconds(
        story, guide, graph, 8, gradient="concrete", **(BATCH if mode == "batches" else {})
    )
    return {
        "mode": mode,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "K": int(K),
        "seconds": statistics.median(seconds),
        "loaded": loaded,
        "peak": peak_bytes(),
    }


def steps_part(options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for size in SIZES:
        found.append(alone(options, "size", *size))
        print(found[-1], flush=True)
    return found


# -- a million nodes ---------------------------------------------------------------------------------


def million(options: argparse.Namespace) -> dict[str, Any]:
    """One epoch: as many steps as it takes to draw as many edges as there are."""
    started = time.perf_counter()
    graph = communities(1_000_000, 20.0, features=16)
    made = time.perf_counter() - started
    batch = {"batch_edges": 16384, "batch_nodes": 4096, "batch_neighbours": 3}
    steps = -(-graph.num_edges // batch["batch_edges"])
    story, guide = model_of(graph, 16)
    started = time.perf_counter()
    fit = gl.inference.fit(
        story, guide, graph, steps=steps, gradient="concrete", progress=True, **batch
    )
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "made": made,
        "steps": steps,
        **batch,
        "seconds": time.perf_counter() - started,
        "peak": peak_bytes(),
        "elbo": [float(np.mean(fit.history["elbo"][k])) for k in (slice(20), slice(-20, None))],
    }


# -- the largest graph of the data -------------------------------------------------------------------

TWITTER = ("DGLFRM", "LFRM")


def twitter_split(options: argparse.Namespace) -> gl.data.Split:
    graph = gl.data.read_graph(options.data / "large/ego_twitter.npz")
    return gl.data.random_split(graph, val=0.02, test=0.05, seed=0)


def twitter(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """One fit, as the library has it by default, and its look at the test pairs."""
    split = twitter_split(options)
    started, cpu = time.perf_counter(), time.process_time()
    recipe = gl.inference.Recipe.default(name.lower(), split.full)
    fit = gl.inference.fit_recipe(recipe, split, progress=True)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "name": name,
        "steps": recipe.settings.steps,
        "communities": recipe.story["truncation"],
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak": peak_bytes(),
        "val_auc": fit.history["val_auc"],
        **fit.evaluate(split).to_dict(),
    }


def twitter_part(options: argparse.Namespace) -> dict[str, Any]:
    split = twitter_split(options)
    pairs, truth = (x.numpy() for x in split.pairs("test"))
    found: dict[str, Any] = {}
    for name, score in SCORES.items():
        s = score(split.train, pairs)
        found[name] = {
            "auc": float(roc_auc_score(truth, s)),
            "ap": float(average_precision_score(truth, s)),
        }
    for name in TWITTER:
        found[name] = alone(options, "twitter", name, threads=2)
    return found


# -- the report --------------------------------------------------------------------------------------


def slope(rows: list[dict[str, Any]]) -> float:
    """Of log seconds by log edges."""
    x, y = (np.log([r[k] for r in rows]) for k in ("edges", "seconds"))
    return float(np.polyfit(x, y, 1)[0])


def report(options: argparse.Namespace) -> None:
    def read(part: str) -> Any:
        file = options.out / f"scale_{part}.json"
        return json.loads(file.read_text()) if file.is_file() else None

    lines = ["# What large graphs cost", ""]
    if found := read("processes"):
        medians = {k: [statistics.median(x) for x in v] for k, v in found.items()}
        ratios = [a / b for a, b in zip(medians["1"], medians["2"], strict=True)]
        lines += [
            f"An exact step on PubMed: {statistics.median(medians['1']):.2f} s in one process, "
            f"{statistics.median(medians['2']):.2f} s in two: {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds).",
            "",
        ]
    if rows := read("steps"):
        doubling = [r for r in rows if r["mode"] == "sampled" and r["K"] == 16][:5]
        models = {
            mode: CostModel.fitted([Measured(**r) for r in rows if r["mode"] == mode])
            for mode in ("exact", "sampled", "batches")
        }
        lines += [
            f"Slope of log seconds by log edges, sampled absent dyads: {slope(doubling):.2f}.",
            "",
            "| mode | N | E | K | step, s | by the model without this row | memory, GiB | by the model |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for mode in models:
            measured = [Measured(**r) for r in rows if r["mode"] == mode]
            for m, left_out in zip(measured, CostModel.each_left_out(measured), strict=True):
                lines.append(
                    f"| {mode} | {m.nodes:,} | {m.edges:,} | {m.K} | {m.seconds:.3f} | {left_out.seconds(m):.3f} "
                    f"| {m.peak / GIB:.2f} | {left_out.bytes(m) / GIB:.2f} |"
                )
        lines += ["", *(model.told() for model in models.values()), ""]
        picture(rows, options.out / "scale.png")
    if found := read("million"):
        lines += [
            f"One million nodes, {found['edges']:,} edges: one epoch ({found['steps']} steps) in "
            f"{found['seconds']:.0f} s, {found['peak'] / GIB:.1f} GiB.",
            "",
        ]
    if found := read("twitter"):
        lines += ["| ego-Twitter | AUC | AP | seconds | GiB |", "|---|---|---|---|---|"]
        for name, row in found.items():
            cost = f"{row['seconds']:.0f} | {row['peak'] / GIB:.1f}" if "seconds" in row else " | "
            lines.append(f"| {name} | {row['auc']:.4f} | {row['ap']:.4f} | {cost} |")
    text = "\n".join(lines) + "\n"
    (options.out / "scale.md").write_text(text)
    print(text)


def picture(rows: list[dict[str, Any]], file: Path) -> None:
    """Seconds and memory of a step by the number of edges, measured and by the model."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    words = {"exact": "all dyads", "sampled": "sampled absent dyads", "batches": "batches of dyads"}
    for colour, (mode, word) in zip(("#1b6ca8", "#c8553d", "#588157"), words.items(), strict=True):
        here = [Measured(**r) for r in rows if r["mode"] == mode]
        model = CostModel.fitted(here)
        usual = [m for m in here if m.K == 16 and m.edges < 15 * m.nodes]
        chosen = sorted(usual, key=lambda m: m.edges)
        x = [m.edges for m in chosen]
        for ax, seen, told in (
            (axes[0], [m.seconds for m in chosen], [model.seconds(m) for m in chosen]),
            (axes[1], [m.peak / GIB for m in chosen], [model.bytes(m) / GIB for m in chosen]),
        ):
            ax.loglog(x, seen, "o", color=colour, label=f"{word}, measured")
            ax.loglog(x, told, "-", color=colour, label=f"{word}, by the model")
    axes[0].set(xlabel="edges", ylabel="seconds a step", title="Time, K = 16, mean degree 20")
    axes[1].set(xlabel="edges", ylabel="GiB", title="Peak memory, the same")
    axes[1].legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(file, dpi=110, facecolor="white")
    plt.close(figure)


WORKERS: dict[str, Callable[..., Any]] = {
    "pubmed": pubmed_steps,
    "size": one_size,
    "million": million,
    "twitter": twitter,
}
PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "processes": processes_part,
    "steps": steps_part,
    "million": lambda options: alone(options, "million", threads=2),
    "twitter": twitter_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=[*PARTS, "report"])
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    gl.inference.keep_freed_memory()  # as the command line does
    if options.worker:
        found = WORKERS[options.worker[0]](options, *options.worker[1:])
        if gl.inference.join_job("cpu").rank == 0:
            print(json.dumps(found))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part != "report":
        found = PARTS[options.part](options)
        (options.out / f"scale_{options.part}.json").write_text(json.dumps(found, indent=1))
    report(options)


if __name__ == "__main__":
    main()
