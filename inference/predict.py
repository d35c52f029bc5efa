"""Posterior link probabilities and expected counts, averaged over draws, in tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..data import Graph
from ..models.dyadic import Dyadic
from .draws import chunk_size, edge_distribution, evaluation_mode, posterior_traces

__all__ = ["expected_values", "link_probabilities", "probability_rows", "top_links"]

_PROBABILITIES = 50_000_000  # of a block of rows in every draw of a chunk, 200 MB
_PAIRS = 4_000_000  # link probabilities held at once


def link_probabilities(
    story: Any, guide: Any, graph: Graph, pairs: Tensor, draws: int = 100
) -> Tensor:
    """Posterior mean of the link probability of given dyads.

    Arguments:
        pairs: (2, P) int64, any dyads of the graph, observed or missing.
        draws: posterior draws to average over.

    Returns:
        (P,) probabilities.
    """
    return _averaged(story, guide, graph, pairs, draws, lambda edges, s: edges.link_probability(s))


def expected_values(
    story: Any, guide: Any, graph: Graph, pairs: Tensor, draws: int = 100
) -> Tensor:
    """Posterior mean of the value of given dyads: link probability, expected count or mean weight, (P,).

    Arguments: as for :func:`link_probabilities`.
    """
    return _averaged(story, guide, graph, pairs, draws, lambda edges, s: edges.mean(s))


def _averaged(
    story: Any,
    guide: Any,
    graph: Graph,
    pairs: Tensor,
    draws: int,
    read: Callable[[Dyadic, Tensor], Tensor],
) -> Tensor:
    if pairs.dim() != 2 or pairs.shape[0] != 2:
        raise ValueError(f"pairs are two rows of node ids, (2, P), not {tuple(pairs.shape)}")
    if pairs.numel() and not (int(pairs.min()) >= 0 and int(pairs.max()) < graph.num_nodes):
        raise ValueError(f"pairs name nodes outside of 0..{graph.num_nodes - 1}")
    pairs = pairs.to(graph.edge_index.device)
    if graph.parts is not None and bool((graph.parts[pairs[0]] == graph.parts[pairs[1]]).any()):
        raise ValueError("pairs of a bipartite graph join its two sides; some are within one")
    total = torch.zeros(pairs.shape[1], device=pairs.device)
    if not pairs.shape[1]:
        return total
    per_pass = max(1, _PAIRS // max(1, pairs.shape[1]))
    with evaluation_mode(story, guide):
        chunk = min(per_pass, chunk_size(graph, story.width, draws))
        for trace in posterior_traces(story, guide, graph, draws, chunk):
            edges = edge_distribution(trace)
            total += read(edges, edges.logits(pairs)).reshape(-1, pairs.shape[1]).sum(0)
    return total / draws


def probability_rows(
    story: Any, guide: Any, graph: Graph, draws: int = 100, rows: int = 512
) -> Iterator[tuple[slice, Tensor]]:
    """Posterior mean link probabilities of all dyads, a block of rows at a time: (rows, (rows, N)).

    The diagonal is zero. Holds the factors of all draws, O(draws N K), and one block of every draw, whose rows are
    fewer than ``rows`` where those would not be small.
    """
    with evaluation_mode(story, guide):
        chunk = chunk_size(graph, story.width, draws)
        found = [edge_distribution(t) for t in posterior_traces(story, guide, graph, draws, chunk)]
        rows = max(1, min(rows, _PROBABILITIES // (min(chunk, draws) * graph.num_nodes)))
        for start in range(0, graph.num_nodes, rows):
            block = slice(start, min(start + rows, graph.num_nodes))
            total = sum(d.row_probabilities(block).flatten(0, -3).sum(0) for d in found) / draws
            assert isinstance(total, Tensor)
            total[torch.arange(total.shape[0]), torch.arange(block.start, block.stop)] = 0.0
            yield block, total


def top_links(
    story: Any, guide: Any, graph: Graph, k: int, draws: int = 100, *, among: str = "missing"
) -> tuple[Tensor, Tensor]:
    """The k most probable dyads: (pairs (2, k), probabilities (k,)), best first.

    Arguments:
        among: "missing": dyads that were not observed; "absent": observed non-edges; "all": both.
    """
    if among not in ("missing", "absent", "all"):
        raise ValueError(f"among is 'missing', 'absent' or 'all', not {among!r}")
    if among == "missing":
        p = link_probabilities(story, guide, graph, graph.missing, draws)
        best = torch.topk(p, min(k, p.numel()))
        return graph.missing[:, best.indices], best.values
    n = graph.num_nodes
    excluded = [graph.edge_index] if among == "all" else [graph.edge_index, graph.missing]
    taken = torch.cat([e[0] * n + e[1] for e in excluded])
    best_p = torch.empty(0, device=taken.device)
    best_keys = torch.empty(0, dtype=torch.int64, device=taken.device)
    for block, p in probability_rows(story, guide, graph, draws):
        i = torch.arange(block.start, block.stop, device=p.device)[:, None]
        j = torch.arange(n, device=p.device)[None]
        keys = i * n + j
        usable = (i != j) if graph.directed else (i < j)
        if graph.parts is not None:
            usable = usable & (graph.parts[i] != graph.parts[j])
        p = p.masked_fill(~usable | torch.isin(keys, taken), -1.0)
        candidates = torch.topk(p.flatten(), min(k, p.numel()))
        best_p = torch.cat((best_p, candidates.values))
        best_keys = torch.cat((best_keys, keys.flatten()[candidates.indices]))
        kept = torch.topk(best_p, min(k, best_p.numel()))
        best_p, best_keys = kept.values, best_keys[kept.indices]
    real = best_p >= 0
    best_p, best_keys = best_p[real], best_keys[real]
    return torch.stack((best_keys // n, best_keys % n)), best_p
