"""``graphlore data`` of a set of graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .output import print_json, print_numbers, print_table

if TYPE_CHECKING:
    from ..data import GraphSet

__all__ = ["look_at_set"]

_LARGE = 100  # nodes: above this a graph takes too many decisions


def look_at_set(name: str, options: dict[str, str], as_json: bool) -> None:
    """Print what a set of graphs is, and how it is fitted."""
    from .. import data, plots

    graphs = data.load_set(name, **options)
    facts = plots.set_facts(graphs)
    given = "".join(f" --{k.replace('_', '-')} {v}" for k, v in options.items())
    stories = _stories(graphs, given)
    if as_json:
        found = {k.replace(" ", "_"): v for k, v in facts.items()}
        print_json({**found, "stories": [{"command": c, "why": w} for c, w in stories]})
        return
    print_numbers(facts, graphs.title)
    commands = [(f"graphlore fit {name} {command}", why) for command, why in stories]
    print_table(("command", "suits because"), commands, "stories of many graphs")


def _stories(graphs: GraphSet, given: str) -> list[tuple[str, str]]:
    largest = int(graphs.num_nodes.max())
    slow = f"; graphs of {largest:,} nodes take long" if largest > _LARGE else ""
    return [
        (
            f"--model sgvae{given}",
            f"a latent that steers what is built, and orders of the nodes that are inferred{slow}",
        ),
        (
            f"--model sggn{given}",
            f"no latent, nodes in breadth-first order: sharper draws where such an order suits{slow}",
        ),
    ]
