"""Runs and their parts, read back from their folders."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded by the commands, not by --help
    from ..data import Graph, Split
    from ..inference import Fit, SequentialFit

__all__ = ["load_any_run", "load_run", "names_of", "run_name", "saved_split"]


def load_any_run(folder: Path) -> Fit | SequentialFit:
    """The fit in a run's folder, to one graph or to a set of graphs."""
    from ..inference import Fit, SequentialFit
    from ..inference.run_files import holds_set

    return SequentialFit.load(folder) if holds_set(folder) else Fit.load(folder)


def load_run(folder: Path) -> Fit:
    """The fit to one graph in a run's folder."""
    from ..inference import Fit
    from ..inference.run_files import holds_set

    if holds_set(folder):
        raise ValueError(
            f"{folder} is a fit to a set of graphs, and this command asks about one graph; evaluate, generate and "
            "report take such runs"
        )
    return Fit.load(folder)


def saved_split(run: Path, file: Path | None = None) -> Split:
    """The held-out pairs of a run, or those of a file for a run that was fitted to the whole graph."""
    from .. import data

    given = file or run / "split.npz"
    if not given.exists():
        raise ValueError(
            f"{run} holds no split ({given} is not there): fit with --hold-out or --split, so that "
            "there are pairs to score"
        )
    full = run / "full.npz"
    if not full.exists():
        logging.warning(
            "the run was fitted to the whole graph: these pairs were not held out from it"
        )
        full = run / "graph.npz"
    return data.given_split(data.read_graph(full), given)


def run_name(title: str) -> str:
    """A graph's title as the name of a folder; titles stand in files, and lead nowhere else."""
    return re.sub(r"[/\\:\x00-\x1f]", "_", title).strip(" .")[:100] or "graph"


def names_of(graph: Graph) -> list[str]:
    """Names of the nodes, or their ids."""
    return list(graph.names) if graph.names else [str(i) for i in range(graph.num_nodes)]
