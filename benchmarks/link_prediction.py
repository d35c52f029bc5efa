"""Link prediction with and without features: VGAE, SBM, LFRM and DGLFRM beside predictors that need no training.

    python benchmarks/link_prediction.py --data ../shared/data --seeds 3

Cora, CiteSeer, PubMed and NIPS12 come with a split, and a seed is one of initialisation and training; of the others
(Yeast, Protein230) a seed is a random split 85/5/10 as well. Configurations were chosen on validation pairs, which
choose the state of a fit too; the test pairs are scored once per fit. Writes a Markdown table and the raw numbers next
to each other under ``--out``; a run that was cut short goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import eigsh

import graphlore as gl
from graphlore.inference.evaluate import natural_weights
from graphlore.inference.metrics import calibration_scores, hits_at, ranking_scores

PLANETOID = ("cora", "citeseer", "pubmed")
FEATURELESS = ("cora", "yeast_pajek", "protein230", "nips12")
Built = tuple[Any, Any, dict[str, Any]]


def read_split(data: Path, name: str, seed: int) -> gl.data.Split:
    if name in PLANETOID:
        graph = gl.data.read_graph(data / f"planetoid_npz/{name}.npz")
        return gl.data.given_split(graph, data / f"splits/{name}_split0.npz")
    with np.load(
        data / f"nips/{name}.npz"
    ) as file:  # without the names: one of Yeast's is there twice
        graph = gl.data.from_edges(file["edge_index"].T, num_nodes=int(file["num_nodes"]))
    if name == "nips12":
        return gl.data.given_split(graph, data / "splits/nips12_split0.npz")
    return gl.data.random_split(graph, val=0.05, test=0.10, seed=seed)


# -- without training ---------------------------------------------------------------------------------------------


def training_free(split: gl.data.Split, pairs: torch.Tensor) -> Iterator[tuple[str, np.ndarray]]:
    """(name, score of every pair) from the training edges; missing dyads are taken as absent."""
    n = split.train.num_nodes
    (i, j), (u, v) = pairs.numpy(), split.train.edge_index.numpy()
    a = sp.csr_array((np.ones(len(u)), (u, v)), shape=(n, n))
    a = a + a.T
    degree = a.sum(1)
    scale = sp.diags_array((degree + degree.mean()) ** -0.5)  # regularised by the mean degree
    for k in (16, 64):
        values, x = eigsh(scale @ a @ scale, k=k, which="LA", v0=np.ones(n))
        x = x * np.sqrt(np.maximum(values, 0.0))
        yield f"spectral, K = {k}, dot", (x[i] * x[j]).sum(1)
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        yield f"spectral, K = {k}, cosine", (x[i] * x[j]).sum(1)
    beta = 0.5 / eigsh(a, k=1, which="LA", v0=np.ones(n), return_eigenvectors=False)[0]
    power, katz = a, beta * a
    for hops in range(2, 5):
        power = power @ a
        katz = katz + beta**hops * power
    yield "Katz, 4 hops", katz[i, j]
    yield "common neighbours", (a @ a)[i, j]
    yield "preferential attachment", degree[i] * degree[j]


# -- stories: what validation chose -------------------------------------------------------------------------------


def vgae(split: gl.data.Split, encoder: dict[str, Any], story: dict[str, Any], **fit: Any) -> Built:
    told = gl.models.VGAE(split.train.num_nodes, **story)
    guide = gl.guides.AmortisedNormal(told, split.train, **encoder)
    return told, guide, fit


def sbm(split: gl.data.Split, seed: int, blocks: int, **fit: Any) -> Built:
    """Degree-corrected Poisson blocks, memberships summed out, globals in closed form."""
    story = gl.models.SBM(split.train.num_nodes, blocks, bias="node", likelihood="poisson")
    guide = gl.guides.AmortisedCategorical(story, split.train, amortised=False, seed=seed)
    return story, guide, fit


def lfrm(split: gl.data.Split, seed: int, truncation: int, alpha: float, **fit: Any) -> Built:
    story = gl.models.LFRM(split.train.num_nodes, truncation, alpha, bias="node")
    return story, _at_clustering(story, split, seed), fit


def dglfrm(split: gl.data.Split, seed: int, truncation: int, alpha: float, **fit: Any) -> Built:
    """f is the identity, so that a community attracts."""
    story = gl.models.DGLFRM(split.train.num_nodes, truncation, alpha, bias="node", decoder=())
    return story, _at_clustering(story, split, seed), fit


def _at_clustering(story: Any, split: gl.data.Split, seed: int) -> gl.guides.StructuredMeanField:
    return gl.guides.StructuredMeanField(
        story, split.train, amortised=False, initial="spectral", initial_seed=seed
    )


HEAVY = {  # for word features: most of the input is dropped in a training step
    "hidden": (64,),
    "feature_scaling": "tf-idf",
    "activation": "elu",
    "layer_norm": True,
    "dropout": 0.5,
    "input_dropout": 0.7,
    "edge_dropout": 0.7,
}
HALF = {**HEAVY, "input_dropout": 0.5, "edge_dropout": 0.5}
LIGHT = {
    **HEAVY,
    "feature_scaling": None,
    "dropout": 0.3,
    "input_dropout": 0.3,
    "edge_dropout": 0.5,
}
#: an embedding of every node in place of features
TABLE = {
    "hidden": (64,),
    "inputs": "one-hot",
    "activation": "elu",
    "layer_norm": True,
    "dropout": 0.3,
    "edge_dropout": 0.3,
}
#: the objective of the papers: edges reweighted, a light divergence
PAPER: dict[str, Any] = {"kl_weight": 0.1, "averaging": 0.97, "clip": None, "validate_every": 50}
BLOCKS: dict[str, Any] = {
    "gradient": "expectation",
    "steps": 100,
    "learning_rate": 0.05,
    "validate_every": 25,
}
BITS: dict[str, Any] = {
    "gradient": "disarm",
    "steps": 160,
    "learning_rate": 0.03,
    "validate_every": 40,
}


def with_features(split: gl.data.Split, seed: int, steps: int, **o: Any) -> Built:
    encoder = o.pop("encoder", HEAVY)
    every = o.pop("validate_every", 50)
    story = {"dimension": 32, "class_weight": "balanced", **o}
    return vgae(split, encoder, story, **{**PAPER, "steps": steps, "validate_every": every})


def without_features(split: gl.data.Split, seed: int, edge_dropout: float, **story: Any) -> Built:
    story = {"dimension": 32, "class_weight": "balanced", **story}
    return vgae(split, {**TABLE, "edge_dropout": edge_dropout}, story, **PAPER, steps=200)


def paper_dglfrm(split: gl.data.Split, seed: int, **story: Any) -> Built:
    """Relaxed memberships, an encoder with an embedding of every node."""
    told = gl.models.DGLFRM(
        split.train.num_nodes, 50, 10.0, decoder=(64,), class_weight="balanced", **story
    )
    guide = gl.guides.StructuredMeanField(told, split.train, **TABLE)
    return told, guide, {**PAPER, "steps": 150, "gradient": "concrete"}


#: data set, what is fitted, starts whose posteriors are averaged, how to build one
Column = tuple[str, str, int, Callable[..., Built]]
COLUMNS: list[Column] = [
    (
        "cora",
        "VGAE, features",
        1,
        partial(with_features, steps=600, dimension=64, encoder={**HALF, "hidden": (128,)}),
    ),
    (
        "citeseer",
        "VGAE, features",
        1,
        partial(with_features, steps=150, dimension=64, encoder={**HEAVY, "hidden": (128,)}),
    ),
    (
        "pubmed",
        "VGAE, features",
        1,
        partial(with_features, steps=45, encoder=LIGHT, absent_sample=100_000, validate_every=15),
    ),
    ("cora", "VGAE", 1, partial(without_features, edge_dropout=0.5, bias="node")),
    ("cora", "SBM, K = 40", 3, partial(sbm, blocks=40, **BLOCKS)),
    ("yeast_pajek", "SBM, K = 40", 3, partial(sbm, blocks=40, **BLOCKS)),
    ("yeast_pajek", "LFRM, K = 40", 1, partial(lfrm, truncation=40, alpha=20.0, **BITS)),
    (
        "yeast_pajek",
        "DGLFRM, K = 40",
        1,
        partial(dglfrm, truncation=40, alpha=20.0, **{**BITS, "steps": 100}),
    ),
    ("protein230", "SBM, K = 20", 3, partial(sbm, blocks=20, **{**BLOCKS, "steps": 200})),
    (
        "protein230",
        "LFRM, K = 10",
        4,
        partial(lfrm, truncation=10, alpha=10.0, **{**BITS, "steps": 200}),
    ),
    ("protein230", "DGLFRM, K = 50", 1, partial(paper_dglfrm, bias="node")),
    ("nips12", "VGAE", 1, partial(without_features, edge_dropout=0.3)),
    ("nips12", "LFRM, K = 40", 1, partial(lfrm, truncation=40, alpha=20.0, **BITS)),
    ("nips12", "DGLFRM, K = 50", 1, paper_dglfrm),
]


def scores(p: torch.Tensor, truth: torch.Tensor, full: gl.data.Graph | None) -> dict[str, float]:
    """Ranking in percent; calibration too where ``full`` is given, held-out dyads standing for all of its dyads."""
    auc, ap = ranking_scores(p, truth)
    found = {"auc": 100 * auc, "ap": 100 * ap, "hits": 100 * hits_at(50, p, truth)}
    if full is not None:
        calibrated = calibration_scores(p, truth, natural_weights(truth, full))
        found |= {"log_loss": calibrated["log_loss"], "ece": calibrated["ece"]}
    return found


def run(column: Column, split: gl.data.Split, seed: int, part: Any, draws: int) -> dict[str, Any]:
    """Fit one column with one seed and score the pairs of one part once."""
    data, name, starts, build = column
    pairs, truth = split.pairs(part)
    total, started, validation = torch.zeros(pairs.shape[1]), time.perf_counter(), []
    for start in range(starts):
        own = 1000 * start + seed
        with gl.inference.seeded(own):
            story, guide, settings = build(split, own)
        fit = gl.inference.fit(story, guide, split, seed=own, **settings)
        total += fit.link_probabilities(pairs, draws)
        h = fit.history
        validation.append(
            max(0.5 * (a + b) for a, b in zip(h["val_auc"], h["val_ap"], strict=True))
        )
    exact = fit.tempered == "no"
    starts_word = f" × {starts}" if starts > 1 else ""
    found = scores(total / starts, truth, split.full if exact else None)
    return found | {
        "data": data,
        "column": name + starts_word,
        "seed": seed,
        "objective": "ELBO" if exact else "tempered",
        "seconds": time.perf_counter() - started,
        "validation": 100 * statistics.mean(validation),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted({c[0] for c in COLUMNS}), help="data")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--validation-only", action="store_true", help="leave the test pairs alone")
    options = parser.parse_args()

    part = "val" if options.validation_only else "test"
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / f"link_prediction_{part}.jsonl"  # what a run that was cut short has is kept
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    names = options.only or list(dict.fromkeys(c[0] for c in COLUMNS))

    def keep(row: dict[str, Any]) -> None:
        results.append(row)
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def is_known(data: str, column: str, seed: int) -> bool:
        return any((r["data"], r["column"], r["seed"]) == (data, column, seed) for r in results)

    for seed in range(options.seeds):
        for name in names:
            split = read_split(options.data, name, seed)
            pairs, truth = split.pairs(part)
            first = name in ("cora", "nips12") and seed > 0  # one split, and nothing random
            if name in FEATURELESS and not first:
                for column, x in training_free(split, pairs):
                    if not is_known(name, column, seed):
                        found = scores(torch.from_numpy(np.asarray(x, dtype=float)), truth, None)
                        keep(
                            found | {"data": name, "column": column, "seed": seed, "objective": "-"}
                        )
            for entry in (c for c in COLUMNS if c[0] == name):
                starts = f" × {entry[2]}" if entry[2] > 1 else ""
                if not is_known(name, entry[1] + starts, seed):
                    keep(run(entry, split, seed, part, options.draws if name != "pubmed" else 20))
    table = as_table(results, part)
    (options.out / f"link_prediction_{part}.md").write_text(table)
    print(table)


def as_table(results: list[dict[str, Any]], part: str) -> str:
    lines = [
        f"| data | | objective | {part} AUC | {part} AP | Hits@50 | log-loss | ECE | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((r["data"], r["column"]) for r in results)
    for data, column in sorted(keys, key=lambda k: k[0]):
        rows = [r for r in results if (r["data"], r["column"]) == (data, column)]
        cells = [_cell(rows, name, digits) for name, digits in _SHOWN]
        lines.append(f"| {data} | {column} | {rows[0]['objective']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_SHOWN = (("auc", 1), ("ap", 1), ("hits", 1), ("log_loss", 5), ("ece", 5), ("seconds", 0))


def _cell(rows: list[dict[str, Any]], name: str, digits: int) -> str:
    """Mean ± standard deviation over the seeds."""
    values = [r.get(name, math.nan) for r in rows]
    if any(math.isnan(x) for x in values):
        return ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
