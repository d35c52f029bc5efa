"""What a fit says in words and small tables: who groups with whom, which links surprise, which are likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference import Check, Evaluation, Fit, number_of_communities
from . import _read
from .checks import STATISTICS

__all__ = [
    "Community",
    "Link",
    "communities_found",
    "likely_links",
    "summary",
    "surprising_edges",
    "telling",
]

_LEADING = 6  # members that are named
_ALL_PAIRS = 5_000  # most nodes whose absent pairs are all ranked


@dataclass(frozen=True)
class Community:
    """A community and who belongs to it.

    Attributes:
        name: of the community.
        size: expected number of members.
        leading: the surest members, of equally sure ones those with most links, and their probability.
    """

    name: str
    size: float
    leading: list[tuple[str, float]]


@dataclass(frozen=True)
class Link:
    """A pair of nodes and the posterior probability of a link between them."""

    source: str
    target: str
    probability: float


def communities_found(posterior: Any, graph: Any) -> list[Community]:
    """Communities with members, the largest first; empty for stories without."""
    if _read.community_site(posterior) is None:
        return []
    means = _read.mean_memberships(posterior)  # (N, K)
    names = _read.node_names(posterior, graph, len(means))
    degrees = _read.array(graph.degrees)
    sizes = means.sum(0)
    found = []
    for k in np.argsort(-sizes, kind="stable"):
        if sizes[k] < 0.5:
            continue
        sure = np.where(means[:, k] >= 0.95, 1.0, means[:, k])
        order = np.lexsort((-degrees, -sure))[:_LEADING]
        leading = [(names[i], float(means[i, k])) for i in order if means[i, k] >= 0.25]
        found.append(Community(_read.community_names(posterior)[k], float(sizes[k]), leading))
    return found


def telling(found: Sequence[Community], nodes: int) -> list[Community]:
    """Communities that tell nodes apart: several of nearly all nodes, over 95 %, are left out."""
    few = [c for c in found if not _is_of_nearly_all(c, nodes)]
    return few if len(found) - len(few) > 1 else [*found]


def _is_of_nearly_all(community: Community, nodes: int) -> bool:
    return community.size > 0.95 * nodes


def surprising_edges(fit: Fit, count: int = 8, draws: int = 200) -> list[Link]:
    """Observed links that the posterior finds least probable, the strangest first; none where edges are weights."""
    if fit.story.likelihood == "normal" or not fit.graph.num_edges:
        return []
    p = fit.link_probabilities(fit.graph.edge_index, draws)
    order = p.argsort(stable=True)[:count]
    return _links(fit, fit.graph.edge_index[:, order], p[order])


def likely_links(fit: Fit, count: int = 8, draws: int = 200) -> tuple[str, list[Link]]:
    """("missing" or "absent", the most probable links among such pairs).

    Missing pairs were not observed. Where there are none, pairs that were observed to have no link are ranked.
    """
    among = "missing" if fit.graph.missing.shape[1] else "absent"
    large = among == "absent" and fit.graph.num_nodes > _ALL_PAIRS
    if fit.story.likelihood == "normal" or large:
        return among, []
    return among, _links(fit, *fit.top_links(count, among, draws))


def _links(fit: Fit, pairs: Any, probabilities: Any) -> list[Link]:
    names = _read.node_names(None, fit.graph, fit.graph.num_nodes)
    return [
        Link(names[a], names[b], p)
        for (a, b), p in zip(pairs.T.tolist(), probabilities.tolist(), strict=True)
    ]


def summary(
    fit: Fit,
    posterior: Any,
    found: Sequence[Community],
    checks: Sequence[Check],
    evaluation: Evaluation | None,
) -> list[str]:
    """Two sentences for a reader who does not know the model: what was found, and how far to trust it."""
    return [_structure(fit, posterior, found), _trust(checks, evaluation)]


def _structure(fit: Fit, posterior: Any, found: Sequence[Community]) -> str:
    n = fit.graph.num_nodes
    if _read.community_site(posterior) is None:
        width = fit.story.options.get("dimension", fit.story.width)
        return (
            f"The model places the {n:,} nodes of {fit.graph.title} in a space of {width} dimensions, in which nodes "
            "that point the same way are likely to be linked; it does not sort them into groups."
        )
    if not found:
        return (
            f"The model finds no communities among the {n:,} nodes of {fit.graph.title}: beyond how many links there "
            "are, it sees no pattern in who is linked to whom."
        )
    used = number_of_communities(posterior)
    overlap = _read.community_site(posterior) == "memberships"
    kind = "communities" if overlap else "groups"
    if used.mode == 1:
        kind = "community" if overlap else "group"
    may = ", which may overlap" if overlap and used.mode > 1 else ""
    interval = "" if used.low == used.high else f" (90 % interval {used.low} to {used.high})"
    rest = telling(found, n)
    told = [f"{len(found) - len(rest)} of nearly all nodes"] if len(rest) < len(found) else []
    named = [_sized(c, n) for c in rest[: 4 - len(told)] if c.leading]
    told += named
    if told and len(rest) > len(named):
        told.append(f"{len(rest) - len(named)} more")
    sizes = f": {_listed(told)}" if told else ""
    means = _read.mean_memberships(posterior)
    unsure = float(((means > 0.2) & (means < 0.8)).any(-1).mean())
    doubt = "; of most nodes it is not sure where they belong" if unsure > 0.5 else ""
    found_so_many = f"the model finds {used.mode} {kind}{interval}{may}"
    return f"Among the {n:,} nodes of {fit.graph.title} {found_so_many}{sizes}{doubt}."


def _sized(community: Community, nodes: int) -> str:
    if _is_of_nearly_all(community, nodes):
        return "one of nearly all nodes"
    size = round(community.size)
    about = "about " if abs(community.size - size) > 0.1 else ""
    return f"{about}{size} around {' and '.join(name for name, _ in community.leading[:2])}"


def _trust(checks: Sequence[Check], evaluation: Evaluation | None) -> str:
    if evaluation is None:
        tested = "It was not tested on pairs hidden from it"
    else:
        tested = (
            "Shown a linked and an unlinked pair that were both hidden from it, it finds the linked one "
            f"{_share(evaluation.auc)} of the time"
        )
    judged = [c for c in checks if np.isfinite(c.p_value)]
    missed = [c for c in judged if not 0.05 < c.p_value < 0.95]
    missed.sort(key=lambda c: -abs(c.p_value - 0.5))
    if not judged:
        return f"{tested}."
    if not missed:
        return f"{tested}, and graphs that it generates look like the real one in all {len(judged)} respects checked."
    worst = _directions(missed[:2])
    return (
        f"{tested}; graphs that it generates look like the real one in {len(judged) - len(missed)} of {len(judged)} "
        f"respects checked, but {worst}."
    )


def _share(x: float) -> str:
    return "over 99%" if 0.995 <= x < 1.0 else f"{x:.0%}"


def _directions(missed: Sequence[Check]) -> str:
    """What generated graphs have too little and too much of."""
    found: dict[str, list[str]] = {}
    for check in missed:
        phrase = STATISTICS.get(check.statistic, ("", f"the {check.meaning}"))[1]
        verb = "understate" if check.p_value < 0.5 else "overstate"
        found.setdefault(verb, []).append(phrase)
    return " and ".join(f"{verb} {_listed(phrases)}" for verb, phrases in found.items())


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
