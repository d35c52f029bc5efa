"""Draw the pictures of the gallery, docs/pictures/gallery_*.png, from what installs with the package.

    python docs/make_gallery.py [folder]

A few small fits on the karate club, planted blocks and cycles; about two minutes on one core. Seeds are fixed, so
that the pictures change only when what they show does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import graphlore as gl

DPI, LARGEST = 90, 60_000  # dots per inch, bytes a picture
HERE = Path(__file__).resolve().parent / "pictures"


def draw(folder: Path) -> None:
    """Write every picture of the gallery into a folder."""
    karate(folder)
    planted(folder)
    cycles(folder)


def karate(folder: Path) -> None:
    """The karate club under DGLFRM and, for comparison, two other stories."""
    graph = gl.data.karate()
    fit = gl.inference.fit_recipe(gl.inference.Recipe.default("dglfrm"), graph, progress=False)
    posterior = fit.posterior(draws=500)
    probabilities = fit.link_probabilities(draws=500).numpy()
    order = gl.plots.node_order(posterior)
    save(folder, "communities", gl.plots.communities(posterior, graph))
    save(folder, "strengths", gl.plots.strengths(posterior, graph))
    save(folder, "sticks", gl.plots.sticks(posterior))
    save(folder, "adjacency", gl.plots.adjacency(graph, probabilities, order))
    save(folder, "generated", gl.plots.generated(graph, fit.generate(3)))
    save(folder, "embedding", gl.plots.embedding(fit))
    save(folder, "posterior_predictive", gl.plots.posterior_predictive(posterior))
    walk = gl.data.canonical_orders(one_graph(graph), "breadth-first")[0]
    save(folder, "film_karate", gl.plots.film_strip(graph, walk))

    fits = {"DGLFRM": fit}
    for name, blocks in (("SBM, 2 blocks", 2), ("SBM, 4 blocks", 4)):
        recipe = gl.inference.Recipe.default("sbm", num_blocks=blocks, bias="node")
        recipe = recipe.override(story={"likelihood": "poisson"})
        fits[name] = gl.inference.fit_recipe(recipe, graph, progress=False)
    save(folder, "comparison", gl.plots.comparison(gl.inference.compare(fits)))


def planted(folder: Path) -> None:
    """Planted blocks: memberships, degrees, and links that were held out."""
    within = np.full((4, 4), 0.015) + np.diag([0.2, 0.22, 0.26, 0.34])
    graph = gl.data.planted_partition([60, 45, 40, 25], within, seed=0)
    split = gl.data.random_split(graph, val=0.1, test=0.2, seed=0)
    fit = gl.inference.fit_recipe(
        gl.inference.Recipe.default("sbm", num_blocks=6), split, progress=False
    )
    posterior = fit.posterior(draws=300)
    save(folder, "memberships", gl.plots.memberships(posterior, graph))
    ax = plt.figure(figsize=(6.4, 4.6), layout="constrained").add_subplot()
    save(folder, "communities_planted", gl.plots.communities(posterior, graph, ax))
    save(folder, "held_out", gl.plots.link_prediction(fit, split))
    save(folder, "degrees", gl.plots.degrees(posterior))
    vgae = gl.inference.fit_recipe(gl.inference.Recipe.default("vgae"), split, progress=False)
    save(folder, "elbo", gl.plots.elbo(vgae))


def cycles(folder: Path) -> None:
    """A set of graphs, and how one of them is built by a story that has learned it."""
    graphs = gl.data.cycles(50, range(5, 10), seed=0)
    with gl.inference.seeded(1):
        story = gl.models.SGVAE(16, 1)
        guide = gl.guides.Destructor(story)
        fit = gl.inference.fit_sequential(story, guide, graphs, epochs=120, warmup=40, seed=1)
        drawn = gl.inference.draw_graphs(story, torch.randn(200, 1))
        order = guide(graphs[:1].batch())[0]
        latents = gl.inference.encode_graphs(fit.pair, graphs)
        walk = gl.inference.steer(story, gl.inference.principal_axis(fit.pair, graphs))
    save(folder, "generated_set", gl.plots.generated_set(graphs, drawn))
    save(folder, "epochs", gl.plots.epochs(fit))
    save(folder, "graph_sizes", gl.plots.graph_sizes(graphs, drawn))
    save(folder, "latent_map", gl.plots.latent_map(latents, graphs))
    save(folder, "steering", gl.plots.steering(walk))
    save(folder, "film_cycle", gl.plots.film_strip(graphs[0], order))


def one_graph(graph: gl.Graph) -> gl.data.GraphSet:
    """A set of this graph alone."""
    return gl.data.GraphSet([graph.num_nodes], graph.edge_index, [0, graph.num_edges])


def save(folder: Path, name: str, axes: Any) -> None:
    """Write the figure of some axes, and complain if it is too heavy for a page."""
    figure = np.asarray(axes, dtype=object).ravel()[0].figure
    path = folder / f"gallery_{name}.png"
    # No date and no version in the file: the same picture is the same bytes.
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    size = path.stat().st_size
    print(f"{path.name}: {size / 1000:.0f} kB")
    if size > LARGEST:
        squeeze(path)


def squeeze(path: Path) -> None:
    """Write a picture again with a palette of 128 colours."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    size = path.stat().st_size
    print(f"  with 128 colours: {size / 1000:.0f} kB")
    if size > LARGEST:
        raise SystemExit(f"{path.name} has {size:,} bytes, more than {LARGEST:,}")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    target.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    draw(target)
