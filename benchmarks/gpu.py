"""Fits on a GPU beside what the card can do at most: its copies and its products of matrices.

    python benchmarks/gpu.py --data ../shared/data --device cuda

Measures the ceilings first. Then for 100 steps of VGAE on Cora and 200 exact steps of DGLFRM on PubMed: seconds a step,
the share of the ceiling that the products of the likelihood's tiles alone come to (three of them a tile, 2 K operations
an entry), and peak memory; in float32 and with TF32. ``--million`` adds an epoch of a million nodes in batches.
``--device cpu --steps 3`` tries the script out where there is no card; the shares mean little there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scale import communities, model_of

import graphlore as gl

GIB = 2.0**30


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], Any], device: torch.device, times: int) -> float:
    """Mean seconds of a run, after one that does not count."""
    run()
    wait(device)
    started = time.perf_counter()
    for _ in range(times):
        run()
    wait(device)
    return (time.perf_counter() - started) / times


def ceilings(device: torch.device) -> dict[str, float]:
    """Bytes a second of a copy, read and written; operations a second of products in float32 and with TF32."""
    large = device.type == "cuda"
    x = torch.empty(2**30 if large else 2**26, dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    found = {"copy": 2 * x.numel() / seconds(lambda: y.copy_(x), device, 20)}
    size = 8192 if large else 1024
    a = torch.randn(size, size, device=device)
    for name in ("highest", "high"):
        torch.set_float32_matmul_precision(name)
        found[name] = 2 * size**3 / seconds(lambda: a @ a, device, 10)
    torch.set_float32_matmul_precision("highest")
    return found


def fitted(
    name: str,
    story: Any,
    guide: Any,
    graph: gl.data.Graph,
    steps: int,
    device: torch.device,
    **options: Any,
) -> dict[str, Any]:
    """Seconds of so many steps after three that do not count, and the peak of allocated memory."""
    ends: list[float] = []

    def callback(*_: Any) -> None:
        wait(device)
        ends.append(time.perf_counter())

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    gl.inference.fit(
        story,
        guide,
        graph,
        steps=steps + 3,
        device=str(device),
        callbacks=[callback],
        progress=False,
        **options,
    )
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {"name": name, "steps": steps, "seconds": ends[-1] - ends[2], "peak": peak}


def cora(data: Path, steps: int, device: torch.device) -> list[dict[str, Any]]:
    graph = gl.data.read_graph(data / "planetoid_npz/cora.npz")
    with gl.inference.seeded(0):
        story = gl.models.VGAE(graph.num_nodes, 16, class_weight="balanced")
        guide = gl.guides.AmortisedNormal(story, graph, hidden=(32,))
    return [
        {
            **fitted("Cora, VGAE", story, guide, graph, steps, device),
            "products": _products(graph, 16),
        }
    ]


def pubmed(data: Path, steps: int, device: torch.device) -> list[dict[str, Any]]:
    graph = gl.data.read_graph(data / "planetoid_npz/pubmed.npz")
    found = []
    for precision in ("highest", "high"):
        with gl.inference.seeded(0):
            story = gl.models.DGLFRM(
                graph.num_nodes, 50, 10.0, decoder=(50,), class_weight="balanced"
            )
            guide = gl.guides.StructuredMeanField(story, graph, hidden=(64,), dropout=0.5)
        options = {"gradient": "concrete", "matmul_precision": precision}
        row = fitted(f"PubMed, DGLFRM, {precision}", story, guide, graph, steps, device, **options)
        found.append({**row, "products": _products(graph, 50)})
    return found


def million(device: torch.device) -> list[dict[str, Any]]:
    graph = communities(1_000_000, 20.0, features=16)
    story, guide = model_of(graph, 16)
    batch = {"batch_edges": 65536, "batch_nodes": 8192, "batch_neighbours": 5}
    steps = -(-graph.num_edges // batch["batch_edges"])
    row = fitted(
        "1 M nodes, 10 M edges, one epoch",
        story,
        guide,
        graph,
        steps,
        device,
        gradient="concrete",
        **batch,
    )
    return [row]


def _products(graph: gl.data.Graph, K: int) -> float:
    """Operations of the three products of every tile: logits, and the derivatives by both ends."""
    return 3 * 2 * K * graph.num_nodes**2 / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, help="in place of 100 and 200")
    parser.add_argument("--million", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    limits = ceilings(device)
    rows = cora(options.data, options.steps or 100, device)
    rows += pubmed(options.data, options.steps or 200, device)
    rows += million(device) if options.million else []
    lines = [
        f"# {name}, torch {torch.__version__}",
        "",
        f"Ceilings: copy {limits['copy'] / 1e9:.0f} GB/s; products {limits['highest'] / 1e12:.2f} Tflop/s in float32, "
        f"{limits['high'] / 1e12:.2f} with TF32.",
        "",
        "| fit | steps | seconds | ms a step | products, share of the ceiling | peak, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        a_step = row["seconds"] / row["steps"]
        ceiling = limits["high" if row["name"].endswith("high") else "highest"]
        share = f"{row['products'] / a_step / ceiling:.1%}" if "products" in row else ""
        lines.append(
            f"| {row['name']} | {row['steps']} | {row['seconds']:.2f} | {1e3 * a_step:.2f} | {share} "
            f"| {row['peak'] / GIB:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(
        json.dumps({"card": name, "ceilings": limits, "rows": rows}, indent=1)
    )
    (options.out / "gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
