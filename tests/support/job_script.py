"""A fit as one process or as several: ``python job_script.py KIND FOLDER`` or the same under torchrun."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import graphlore as gl

STEPS = 50


def planted(num_nodes: int = 420) -> gl.Graph:
    """Four blocks; more nodes than a tile has rows."""
    rng = torch.Generator().manual_seed(0)
    block = torch.arange(num_nodes) % 4
    p = torch.where(block[:, None] == block, 0.04, 0.004)
    edges = (torch.rand(num_nodes, num_nodes, generator=rng) < p).triu(1).nonzero().T
    return gl.Graph(num_nodes, edges)


def node_level(kind: str, folder: Path) -> dict[str, list[float]]:
    graph = planted()
    options = {"absent_sample": 8 * 420} if kind == "sampled" else {}
    with gl.inference.seeded(0):
        story = gl.models.DGLFRM(graph.num_nodes, 6, bias="node", decoder=(8,), **options)
        guide = gl.guides.StructuredMeanField(story, graph, hidden=(16,))
    gradient = "local_expectation" if kind == "priced" else "dyadic"
    kill_once = folder / "killed"
    rank = int(os.environ.get("RANK", "0"))

    def callback(step: int, history: object) -> None:
        if kind == "killed" and step == 25 and rank == 1 and not kill_once.exists():
            kill_once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    fit = gl.inference.fit(
        story,
        guide,
        graph,
        steps=STEPS,
        gradient=gradient,
        learning_rate=0.01,
        checkpoint_every=10,
        folder=folder / "run",
        callbacks=[callback],
    )
    weights = {k: v.clone() for m in (story, guide) for k, v in m.state_dict().items()}
    save_file(weights, folder / f"weights_{rank}.safetensors")
    return fit.history


def graph_set(folder: Path) -> dict[str, list[float]]:
    rank = int(os.environ.get("RANK", "0"))
    with gl.inference.seeded(0):
        story = gl.models.SGGN(
            hidden=8
        ).double()  # rounding, which Adam magnifies, is not what is tested
        cycles = gl.data.cycles(8, seed=0)
        history = gl.inference.fit_ordered(story, cycles, epochs=5, batch_size=4).history
    # several starts, each with a folder of its own, under one lock
    recipe = gl.inference.Recipe.default("sbm", num_blocks=2).override(fit={"steps": 3})
    gl.inference.fit_recipe(recipe, gl.data.karate(), restarts=2, folder=folder / "starts_of_two")
    save_file(dict(story.state_dict()), folder / f"weights_{rank}.safetensors")
    return history


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    history = graph_set(folder) if kind == "graphs" else node_level(kind, folder)
    if int(os.environ.get("RANK", "0")) == 0:
        (folder / "history.json").write_text(json.dumps(history))


main()
