"""SGGN and SGVAE on molecules: valid, unique and novel draws, as they are. Needs RDKit.

    python benchmarks/molecules.py --data ../shared/data --sets qm9 mutag --seeds 0

QM9 as heavy atoms with kekulised bonds, node types (element, formal charge); the first ``--graphs`` of its training
split, of which an eighth chooses the epoch. MUTAG has atom types only: its bonds count as single ones, so that valid
says no more than that no atom has too many neighbours. Draws are judged by RDKit as they come: one piece, sanitised,
nothing repaired. Unique and novel are shares of the valid draws; novel is against all graphs of the training split.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_seed import run_all
from graph_sets import fit_sggn, fit_sgvae

import graphlore as gl

#: atoms of MUTAG by the numbers of its file, told apart by how often they occur
MUTAG = ("Br", "Cl", "C", "F", "I", "N", "O")
SYMBOLS = {6: "C", 7: "N", 8: "O", 9: "F"}
COLUMNS = ("valid", "unique", "novel", "data_valid", "cpu_seconds")


def qm9(folder: Path) -> tuple[gl.data.GraphSet, list[Any]]:
    """The training split and its atoms."""
    file = np.load(folder / "molecules/qm9_graphs.npz")
    atoms = np.stack([file["atomic_number"], file["formal_charge"]], 1).astype(int)
    kinds, number = np.unique(atoms, axis=0, return_inverse=True)
    graphs = gl.data.GraphSet(
        file["num_nodes"],
        file["edge_index"],
        file["edge_ptr"],
        node_types=number.reshape(-1),
        edge_types=file["bond_order"],
        title="QM9",
    )
    return graphs[np.flatnonzero(file["split"] == 0)], [(SYMBOLS[z], int(c)) for z, c in kinds]


def mutag(folder: Path) -> tuple[gl.data.GraphSet, list[Any]]:
    file = folder / "graphsets/mutag.npz"
    return gl.data.read_graphset(file, node_types="node_labels"), list(MUTAG)


SETS = {"qm9": qm9, "mutag": mutag}


def run(name: str, model: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    graphs, atoms = SETS[name](options.data)
    some = graphs[: min(options.graphs, len(graphs))]
    order = np.random.default_rng(seed).permutation(len(some))
    val, train = some[order[: len(some) // 8]], some[order[len(some) // 8 :]]
    cpu = time.process_time()
    story, best = (fit_sggn if model == "sggn" else fit_sgvae)(train, val, seed, options)
    cpu = time.process_time() - cpu
    best.restore()
    with gl.inference.seeded(seed), torch.no_grad():
        drawn = gl.data.GraphSet.from_batch(story(num_graphs=options.draws))
    found = [text for text in gl.inference.smiles(drawn, atoms) if text is not None]
    known = gl.inference.smiles(graphs, atoms)
    distinct = set(found)
    return {
        "set": name,
        "model": model,
        "seed": seed,
        "fitted": len(train),
        "epoch": best.epoch,
        "validation": best.value,
        "cpu_seconds": cpu,
        "valid": len(found) / len(drawn),
        "unique": len(distinct) / max(1, len(found)),
        "novel": len(distinct - set(known)) / max(1, len(distinct)),
        "data_valid": sum(text is not None for text in known) / len(known),
        "examples": sorted(distinct, key=len)[-10:],
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"| set | story | seeds | fitted | {' | '.join(COLUMNS)} |"]
    lines.append("|---" * (len(COLUMNS) + 4) + "|")
    for name, model in dict.fromkeys((r["set"], r["model"]) for r in rows):
        mine = [r for r in rows if (r["set"], r["model"]) == (name, model)]
        cells = []
        for column in COLUMNS:
            values = [r[column] for r in mine]
            sd = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{sd}")
        lines.append(
            f"| {name} | {model} | {len(mine)} | {mine[0]['fitted']:,} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--models", nargs="+", default=["sggn", "sgvae"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="epochs between looks at validation")
    parser.add_argument("--relabelled", type=int, default=1, help="numberings of every graph")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    run_all(
        (
            partial(run, name, model, seed, options)
            for seed in options.seeds
            for name in options.sets
            for model in options.models
        ),
        table,
        options.out / f"molecules_{'_'.join(options.sets)}",
    )


if __name__ == "__main__":
    main()
