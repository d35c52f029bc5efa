"""Will it fit in memory? Asked before anything starts, so that nobody waits for a process to be ended by the kernel.

What is counted is what surely is held at one moment: the estimates are lower bounds (measured: 0.14 to 0.85 of the true
peak), and only what exceeds the memory there is is refused. Nothing N x N is held by a fit: the exact likelihood runs
over tiles of a fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Graph
from ..guides.encoder import GCNEncoder
from .elbo import InferenceError
from .groups import Unit, chosen_unit, kept_number
from .settings import FitSettings

__all__ = [
    "available_bytes",
    "check_dense_memory",
    "check_fit_memory",
    "check_posterior_memory",
    "default_draws",
    "dense_bytes",
    "draws_bytes",
    "fit_bytes",
]

_FLOAT, _INT = 4, 8  # bytes
_KEPT_DRAWS = 2 << 30  # bytes
_VISITS = 10**11  # of dyads, some minutes
_KEPT = 4  # tensors of a node's latents and factors at the least: value, derivative, factors, their derivative
_SPARE = 64 << 20  # bytes below which nothing is worth asking


def available_bytes(device: str | torch.device = "cpu") -> int | None:
    """Memory that this process may still take: of the machine, or of the group it is confined to; None: not known."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        mine = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + mine)
    if device.type != "cpu":
        return None
    known = [x for x in (_of_machine(), _of_group()) if x is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        import psutil
    except ImportError:
        psutil = None
    if psutil is not None:
        return int(psutil.virtual_memory().available)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
        return found["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _of_group(
    root: Path = Path("/sys/fs/cgroup"), told: Path = Path("/proc/self/cgroup")
) -> int | None:
    """What a control group (a container's, a job's) leaves; caches that the kernel would give up count as free."""
    try:
        lines = told.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":  # version 2
            names = ("memory.max", "memory.current", "inactive_file")
            places = [root / path.lstrip("/"), root]
        elif "memory" in kinds.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            places = [root / "memory" / path.lstrip("/"), root / "memory"]
        else:
            continue
        for place in places:
            try:
                limit, used = (int((place / name).read_text()) for name in names[:2])
                stat = dict(x.split() for x in (place / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # "max" is no limit
                continue
            found.append(max(0, limit - used + int(stat.get(names[2], 0))))
    return min(found, default=None)


def fit_bytes(story: Any, guide: Any, graph: Graph, settings: FitSettings) -> dict[str, int]:
    """What a fit holds beside the graph, story and guide at its peak, at the least: bytes by what they are for."""
    n, edges, particles = graph.num_nodes, graph.num_edges, settings.num_particles
    if settings.batch_edges:  # a step is told of some nodes alone
        n = min(n, settings.batch_nodes + 2 * settings.batch_edges)
        edges = min(edges, settings.batch_edges)
    pairs = 2 if settings.gradient == "disarm" else 1
    modules: tuple[nn.Module, ...] = (story, guide)
    trained = sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)
    every = sum(x.numel() for m in modules for x in m.state_dict().values())
    found = {
        # a gradient and two moments of each, the last good state, and perhaps the average
        "gradients and moments of the weights": _FLOAT
        * (3 * trained + every * (1 + bool(settings.averaging))),
        "latents of the nodes": _FLOAT * _KEPT * particles * pairs * n * _width(story),
    }
    encoder = getattr(guide, "encoder", None)
    if isinstance(encoder, GCNEncoder):
        options = encoder.options
        convolutions: Any = encoder.heads.values()
        heads = sum(head.out_channels for head in convolutions)
        found["the encoder's layers"] = _FLOAT * n * (2 * sum(options["hidden"]) + 2 * heads)
        # both directions of an edge and the loops, with a weight, as a list and by rows
        found["messages along edges"] = (2 * edges + n) * (2 * _INT + _FLOAT)
        if options["inputs"] != "one-hot" and graph.features is not None:
            rows, columns = graph.features.shape
            if graph.features.is_sparse or options["feature_scaling"]:
                found["features as a dense matrix"] = _FLOAT * rows * columns
    flipped = _flipped(story, settings, n)
    if flipped:
        found["prices of flipped memberships"] = flipped
    if getattr(story, "absent_sample", None) is not None:
        found["sampled absent dyads"] = 2 * _INT * story.absent_sample
    return found


def _flipped(story: Any, settings: FitSettings, n: int) -> int:
    """Factors of every node with every one of its memberships changed, (K, N, F), and what they are made of."""
    if settings.gradient != "local_expectation":
        return 0
    K = getattr(story, "num_blocks", getattr(story, "truncation", 0))
    dims = getattr(story, "dims", {})
    if "membership" in dims:
        return _FLOAT * 2 * K * n * K
    if "memberships" not in dims:
        return 0
    widths = [int(w) for w in story.options.get("decoder", ()) or ()]
    return _FLOAT * K * n * (K + max([K, *widths]))


def check_fit_memory(story: Any, guide: Any, graph: Graph, settings: FitSettings) -> None:
    """Refuse a fit that cannot fit in memory.

    Raises:
        InferenceError: it says how much it takes at the least, how much there is, and what takes less.
    """
    needs = fit_bytes(story, guide, graph, settings)
    advice = _advice(max(needs, key=needs.__getitem__), settings)
    check_memory("the fit", needs, settings.device, advice)


def _advice(largest: str, settings: FitSettings) -> str:
    """What takes less of what takes most."""
    if largest == "prices of flipped memberships":
        return "gradient='dyadic' takes nothing of it, a smaller truncation less"
    if largest == "features as a dense matrix":
        return "inputs='one-hot' reads no features; or give fewer or dense columns (a projection of them)"
    if largest == "sampled absent dyads":
        return "give a smaller absent_sample"
    if largest == "latents of the nodes" and settings.num_particles > 1:
        return "give num_particles=1"
    if largest == "messages along edges":
        return "the guide with amortised=False sends no messages; batch_edges=8192 has a step read few of them"
    if largest == "gradients and moments of the weights":
        less = (
            "averaging=0, a narrower hidden, or "
            if settings.averaging
            else "a narrower hidden, or "
        )
        return less + "an encoder with inputs='features', whose weights do not grow with the nodes"
    return "give a smaller truncation or hidden, or batch_edges=8192: steps on some of the dyads"


def draws_bytes(
    story: Any, graph: Graph, draws: int, predictive_draws: int, unit: Unit
) -> dict[str, int]:
    """What a posterior of so many draws holds at the least; ``unit``: what its log-likelihood is by.

    All groups are held twice while the chunks of draws are put together.
    """
    n = graph.num_nodes
    sizes = {"node": n}
    numbers = 0
    for name, dims in story.dims.items():
        bits = name == "memberships" and getattr(story, "relaxation", None) is None
        size = 1
        for dim in dims:
            size *= sizes.get(dim, _length(story, dim))
        numbers += draws * size * (1 if bits else _FLOAT)
    kept = kept_number(graph, unit)
    units = n if chosen_unit(graph, unit) == "node" else kept
    return {
        "latents": 2 * numbers,
        "log-likelihoods": 2 * _FLOAT * draws * units,
        "predictive graphs": 2 * predictive_draws * (kept + _FLOAT * n),
    }


def default_draws(story: Any, graph: Graph) -> int:
    """How many posterior draws to keep where nobody says: 500; fewer, but 20 at least, where they would take more than
    2 GiB, or their densities visit more than 10^11 dyads."""
    one = sum(draws_bytes(story, graph, 1, 0, "auto").values())
    visited = 0 if chosen_unit(graph, "auto") == "none" else graph.num_dyads
    return max(20, min(500, _KEPT_DRAWS // one, _VISITS // max(1, visited)))


def _length(story: Any, dim: str) -> int:
    if dim.startswith("community"):
        return int(getattr(story, "num_blocks", getattr(story, "truncation", 1)))
    return int(getattr(story, "dimension", getattr(story, "truncation", 1)))


def dense_bytes(story: Any, graph: Graph, draws: int, rows: int = 512) -> dict[str, int]:
    """What link probabilities of all dyads hold at the least: the matrix twice, while its rows are put together."""
    n = graph.num_nodes
    return {
        "the N x N matrix": 2 * _FLOAT * n * n,
        "factors of the draws": _FLOAT * draws * n * _width(story),
    }


def _width(story: Any) -> int:
    """Numbers of a node; stories of others need not say."""
    return max(1, int(getattr(story, "width", 1)))


def check_dense_memory(story: Any, graph: Graph, draws: int, device: str) -> None:
    """Refuse link probabilities of all dyads that cannot fit in memory.

    Raises:
        InferenceError: with the numbers, and what takes less.
    """
    advice = (
        "ask for some dyads (pairs=), for the most probable ones (top_links), or for a block of rows at a time "
        "(graphlore.inference.probability_rows)"
    )
    needs = dense_bytes(story, graph, draws)
    check_memory("all link probabilities", needs, device, advice)


def check_posterior_memory(
    story: Any, graph: Graph, draws: int, predictive_draws: int, unit: Unit
) -> None:
    """Refuse a posterior that cannot fit in memory; its groups are on the CPU.

    Raises:
        InferenceError: with the numbers, and how many draws would fit.
    """
    needs = draws_bytes(story, graph, draws, predictive_draws, unit)
    there = available_bytes() or 0
    fixed = needs["predictive graphs"]
    fitting = draws * max(0, there - fixed) // max(1, sum(needs.values()) - fixed)
    advice = f"take draws={fitting}" if fitting else "take fewer communities"
    advice += ", or fewer predictive_draws or unit='node'" if kept_number(graph, unit) else ""
    check_memory(f"a posterior of {draws:,} draws", needs, "cpu", advice)


def check_memory(
    what: str, needs: Mapping[str, int], device: str | torch.device, advice: str
) -> None:
    """Refuse what takes more than there is.

    Raises:
        InferenceError: with the numbers, and the advice.
    """
    total = sum(needs.values())
    if total < _SPARE:
        return
    there = available_bytes(device)
    if there is None or total <= there:
        return
    largest = max(needs, key=needs.__getitem__)
    raise InferenceError(
        f"{what} takes at least {_amount(total)} of memory on {device}, of which {_amount(needs[largest])} for "
        f"{largest}; {_amount(there)} are free: {advice}"
    )


def _amount(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
