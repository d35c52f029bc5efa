"""What a fit starts from where nothing is said of it, by model and by the size of the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..data import Graph

__all__ = ["MANY_DYADS", "MODELS", "tables_for"]

MANY_DYADS = (
    500_000_000  # of some 32,000 nodes: seconds a step of all dyads, growing with the square
)

_EXACT = {"gradient": "local_expectation", "steps": 1500, "kl_warmup": 500}
_TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "dglfrm": {
        "story": {"truncation": 10, "alpha": 2.0, "decoder": (32, 16), "bias": "global"},
        "guide": {"name": "StructuredMeanField", "hidden": (64,)},
        "fit": _EXACT,
    },
    "dglfrm-b": {
        "story": {
            "truncation": 10,
            "alpha": 2.0,
            "decoder": (32, 16),
            "bias": "global",
            "strengths": False,
        },
        "guide": {"name": "StructuredMeanField", "hidden": (64,), "membership_spread": 1.0},
        "fit": _EXACT,
    },
    "lfrm": {
        "story": {"name": "LFRM", "truncation": 10, "alpha": 2.0, "bias": "global"},
        "guide": {"name": "StructuredMeanField", "amortised": False},
        "fit": _EXACT,
    },
    "sbm": {
        "story": {"name": "SBM", "num_blocks": 4},
        "guide": {"name": "AmortisedCategorical", "amortised": False},
        "fit": {"gradient": "expectation", "steps": 500, "learning_rate": 0.05},
    },
    "vgae": {
        "story": {"name": "VGAE", "dimension": 16, "bias": "global"},
        "guide": {"name": "AmortisedNormal", "hidden": (32,)},
        "fit": {"steps": 500},
    },
    "gae": {
        "story": {"name": "GAE", "dimension": 16, "bias": "global"},
        "guide": {"name": "AmortisedPoint", "hidden": (32,)},
        "fit": {"steps": 200},
    },
}

_BATCH_EDGES = 16384
_BATCHES = {
    "gradient": "straight_through",  # relaxed memberships end with too many edges expected
    "clip": None,
    "batch_edges": _BATCH_EDGES,
    "batch_nodes": 2048,
    "validate_every": 1500,  # as long as some 30 steps
    "validation_draws": 20,
}
#: for graphs of more than ``MANY_DYADS``: as fitted to ego-Twitter (81,306 nodes) in benchmarks/scale.py
_LARGE: dict[str, dict[str, dict[str, Any]]] = {
    "dglfrm": {
        "story": {"truncation": 64, "alpha": 32.0, "decoder": (), "bias": "node"},
        "guide": {"name": "StructuredMeanField", "amortised": False, "initial": "smoothed"},
        "fit": {**_BATCHES, "learning_rate": 0.025},
    },
    "lfrm": {
        "story": {
            "name": "LFRM",
            "truncation": 128,
            "alpha": 64.0,
            "affinity_scale": 3.0,
            "bias": "node",
        },
        "guide": {"name": "StructuredMeanField", "amortised": False},
        "fit": {**_BATCHES, "learning_rate": 0.05},
    },
}
_PASSES = {"dglfrm": 110, "lfrm": 125}  # over the edges
_STEPS = (3_000, 15_000)

MODELS = tuple(_TABLES)


def tables_for(
    model: str, graph: Graph | None, story: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Options of story, guide and fit of a model.

    Arguments:
        graph: fitted in batches of dyads if it has more than ``MANY_DYADS`` and can be; its features are not read then.
        story: options of the story that are set.
    """
    if graph is None or model not in _LARGE or not _is_batched(graph, story):
        return _TABLES[model]
    found = _LARGE[model]
    steps = math.ceil(_PASSES[model] * graph.num_edges / _BATCH_EDGES)
    low, high = _STEPS
    return {**found, "fit": {**found["fit"], "steps": min(max(steps, low), high)}}


def _is_batched(graph: Graph, story: Mapping[str, Any]) -> bool:
    """Whether there are so many dyads that batches are needed, and the story can be told of them."""
    can_be = (
        graph.parts is None
        and story.get("likelihood", "bernoulli") == "bernoulli"
        and "absent_sample" not in story
    )
    return can_be and graph.num_dyads > MANY_DYADS
