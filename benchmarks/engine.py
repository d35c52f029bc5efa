"""What the exact dyadic likelihood costs: against dense autograd, a plain PyTorch step and bare matrix products.

    python benchmarks/engine.py --data ../shared/data

Times are ratios of medians within one process, the contestants taking turns. Memory is the peak resident set of a
process of its own (Linux: VmHWM, reset once imports, data and a small warm-up are done), above what it held then;
malloc is told to return large blocks at once, so that the warm-up hides nothing. Writes ``engine.md`` and
``engine.json`` under ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import graphlore as gl
from graphlore.models.laws import DyadicBernoulli
from graphlore.models.tiles import TILE, block_pairs

K = 50
LARGE = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes; fixes glibc's threshold, which otherwise grows
MIB = 2.0**20


# -- measuring ---------------------------------------------------------------------------------------


def take_turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contestant in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def status(field: str) -> int:
    """A memory field of this process, in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if field in x)
    return 1024 * int(line.split()[1])


def peak_above(run: Callable[[], Any]) -> int:
    """Bytes by which the resident set rises while ``run`` runs."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present size
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def alone(options: argparse.Namespace, part: str, *arguments: Any, **environment: str) -> Any:
    """What a part of this benchmark returns in a process of its own."""
    command = [sys.executable, __file__, "--data", str(options.data)]
    command += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    command += ["--part", part, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


# -- (a), (d): the likelihood alone ------------------------------------------------------------------


def synthetic(nodes: int, factors: int, degree: float = 10.0) -> tuple[Tensor, Tensor]:
    """Normal factors (N, K) that give logits around -4, and a uniform graph of that mean degree, (N, N) sparse."""
    rng = torch.Generator().manual_seed(0)
    left = 0.3 * torch.randn(nodes, factors, generator=rng)
    edges = torch.randint(nodes, (2, int(nodes * degree / 2)), generator=rng)
    edges = edges[:, edges[0] != edges[1]]
    both = torch.cat((edges, edges.flip(0)), 1)
    graph = torch.sparse_coo_tensor(both, torch.ones(both.shape[1]), (nodes, nodes)).coalesce()
    graph.values().fill_(1.0)
    return left.requires_grad_(), graph


def tiled(left: Tensor, value: Tensor) -> None:
    left.grad = None
    DyadicBernoulli(left).log_prob(value).backward()


def dense(left: Tensor, value: Tensor) -> None:
    """The cheapest dense form: log p = sum A s - softplus(s) over i < j, by symmetry half of all but the diagonal."""
    left.grad = None
    s = left @ left.T
    off_diagonal = F.softplus(s).sum() - F.softplus(torch.diagonal(s)).sum()
    i, j = value.indices()
    (0.5 * (s[i, j].sum() - off_diagonal)).backward()


def dense_bce(left: Tensor, value: Tensor) -> None:
    """The usual dense form, binary cross entropy of the N x N logits with an N x N target."""
    left.grad = None
    s = left @ left.T
    s = s - torch.diag(torch.diagonal(s) + 100.0)
    (-0.5 * F.binary_cross_entropy_with_logits(s, value.to_dense(), reduction="sum")).backward()


LIKELIHOODS = {"tiled": tiled, "dense": dense, "dense_bce": dense_bce}


def likelihood_times(options: argparse.Namespace) -> dict[str, list[float]]:
    left, value = synthetic(2708, K, 3.9)  # the size of Cora
    return take_turns(
        {name: lambda run=run: run(left, value) for name, run in LIKELIHOODS.items()},
        options.rounds,
    )


def likelihood_memory(name: str, nodes: str, factors: str) -> int:
    run = LIKELIHOODS[name]
    run(*synthetic(600, int(factors)))
    left, value = synthetic(int(nodes), int(factors))
    return peak_above(lambda: run(left, value))


# -- (b): an SVI step on Cora ------------------------------------------------------------------------


class PlainStep(nn.Module):
    """The step of the column "paper" of ``cora.py`` written out in PyTorch, with a dense N x N cross entropy.

    The same encoder (one shared graph convolution, then three heads), the same draws and divergences, the same AdamW
    and average of the weights; no Pyro, no tiles.
    """

    def __init__(self, graph: gl.data.Graph, temperatures: tuple[float, float]) -> None:
        super().__init__()
        n, hidden, alpha = graph.num_nodes, 64, 10.0
        self.n, self.alpha, (self.t_prior, self.t) = n, alpha, temperatures
        x = graph.features.to_dense()
        x = F.normalize(x * torch.log(n / (x != 0).sum(0).clamp(min=1)), dim=1)
        self.x = x.to_sparse_csr()
        self.edges = graph.edge_index
        D = x.shape[1]
        self.first = nn.Parameter(nn.init.xavier_uniform_(torch.empty(D, hidden)))
        self.first_bias = nn.Parameter(torch.zeros(hidden))
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.Linear(hidden, 3 * K, bias=False)
        self.heads_bias = nn.Parameter(torch.cat((torch.zeros(2 * K), torch.full((K,), -2.0))))
        self.decoder = nn.Linear(K, 64)
        self.c_raw = nn.Parameter(torch.full((K,), alpha))
        self.d_raw = nn.Parameter(torch.full((K,), 0.54))
        self.target = graph.adjacency.to_dense()
        present = graph.num_edges
        w0 = graph.num_dyads / (2 * (graph.num_dyads - present))
        w1 = graph.num_dyads / (2 * present)
        self.weight = torch.where(self.target > 0, w1, w0).fill_diagonal_(0.0)
        for i, j in (graph.missing, graph.missing.flip(0)):
            self.weight[i, j] = 0.0
        self.optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.0)
        self.average = [p.detach().clone() for p in self.parameters()]

    def adjacency(self) -> Tensor:
        kept = self.edges[:, torch.rand(self.edges.shape[1]) >= 0.7]
        loops = torch.arange(self.n).expand(2, -1)
        i, j = torch.cat((kept, kept.flip(0), loops), 1)
        degree = torch.bincount(i, minlength=self.n).rsqrt()
        coo = torch.sparse_coo_tensor(torch.stack((i, j)), degree[i] * degree[j], (self.n, self.n))
        return coo.coalesce().to_sparse_csr()

    def loss(self) -> Tensor:
        x = self.x
        values = F.dropout(x.values(), 0.7)
        x = torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape)
        A = self.adjacency()
        h = self.norm(F.elu(A @ (x @ self.first) + self.first_bias))
        heads = A @ self.heads(F.dropout(h, 0.5)) + self.heads_bias
        encoded, loc, log_scale = heads.chunk(3, 1)
        # sticks: Kumaraswamy(c, d) against Beta(alpha, 1)
        c, d = F.softplus(self.c_raw), F.softplus(self.d_raw)
        u = torch.rand(K).clamp(1e-7, 1 - 1e-7)
        log_v = torch.log(-torch.expm1(torch.log(u) / d)) / c
        mean_log_v = -(np.euler_gamma + torch.digamma(d) + 1 / d) / c
        kl = (torch.log(c * d / self.alpha) + (c - self.alpha) * mean_log_v - (d - 1) / d).sum()
        log_pi = log_v.cumsum(0).clamp(max=-1e-7)
        prior = log_pi - torch.log(-torch.expm1(log_pi))
        # memberships: binary Concrete, divergence by its draw
        u = torch.rand(self.n, K).clamp(1e-7, 1 - 1e-7)
        logits = encoded + prior
        y = (logits + torch.log(u) - torch.log1p(-u)) / self.t
        q, p = logits - self.t * y, prior - self.t_prior * y
        log_ratio = q - 2 * F.softplus(q) - p + 2 * F.softplus(p)
        kl = kl + log_ratio.sum() + self.n * K * np.log(self.t / self.t_prior)
        # strengths: Normal against Normal(0, 1)
        kl = kl + 0.5 * (torch.exp(2 * log_scale) + loc**2 - 1 - 2 * log_scale).sum()
        z = torch.sigmoid(y) * (loc + log_scale.exp() * torch.randn(self.n, K))
        f = self.decoder(z)
        cross_entropy = 0.5 * F.binary_cross_entropy_with_logits(
            f @ f.T, self.target, self.weight, reduction="sum"
        )
        return cross_entropy + 0.1 * kl

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        if not np.isfinite(loss.item()):
            raise RuntimeError("the plain step broke down")
        self.optimizer.step()
        with torch.no_grad():
            for average, p in zip(self.average, self.parameters(), strict=True):
                average.lerp_(p, 0.02)


def cora_step(options: argparse.Namespace) -> dict[str, list[float]]:
    """Steps of fit() and plain ones in turn: the plain step runs in fit's callback, between two of its steps."""
    from cora import paper

    graph = gl.data.read_graph(options.data / "planetoid_npz/cora.npz")
    split = gl.data.given_split(graph, options.data / "splits/cora_split0.npz")
    with gl.inference.seeded(0):
        story, guide, settings = paper(split)
        plain = PlainStep(
            split.train, gl.inference.FitSettings(gradient="concrete").concrete_temperatures
        )
    seconds: dict[str, list[float]] = {"library": [], "plain": []}
    left_at: list[float] = []

    def between(step: int, _: Any) -> None:
        entered = time.perf_counter()
        if left_at:
            seconds["library"].append(entered - left_at[-1])
        plain.step()
        left_at.append(time.perf_counter())
        seconds["plain"].append(left_at[-1] - entered)

    settings |= {"steps": options.rounds + 5}
    gl.inference.fit(story, guide, split.train, callbacks=[between], progress=False, **settings)
    return {name: times[5:] for name, times in seconds.items()}


# -- (c): an SVI step on Pubmed ----------------------------------------------------------------------


def pubmed_step(options: argparse.Namespace) -> dict[str, Any]:
    """Steps of fit() on the whole of Pubmed beside the three products of each tile with nothing in between."""
    graph = gl.data.read_graph(options.data / "planetoid_npz/pubmed.npz")
    with gl.inference.seeded(0):
        story = gl.models.DGLFRM(
            graph.num_nodes, K, 10.0, decoder=(K,), class_weight="balanced", bias="none"
        )
        guide = gl.guides.StructuredMeanField(story, graph, hidden=(64,), dropout=0.5)
    x = torch.randn(graph.num_nodes, K)
    out = torch.zeros(K, graph.num_nodes)

    def products() -> None:
        for rows, columns, _ in block_pairs(graph.num_nodes, graph.num_nodes, TILE, "undirected"):
            s = x[rows] @ x[columns].T
            out[:, rows].addmm_(x[columns].T, s.T)
            out[:, columns].addmm_(x[rows].T, s)
            out.zero_()

    seconds: dict[str, Any] = {"step": [], "products": []}
    left_at: list[float] = []

    def between(step: int, _: Any) -> None:
        entered = time.perf_counter()
        if left_at:
            seconds["step"].append(entered - left_at[-1])
        products()
        left_at.append(time.perf_counter())
        seconds["products"].append(left_at[-1] - entered)

    gl.inference.fit(
        story, guide, graph, gradient="concrete", steps=6, callbacks=[between], progress=False
    )
    return {**seconds, "peak": status("VmHWM")}


# -- the report --------------------------------------------------------------------------------------


def spread(seconds: list[float]) -> str:
    low, mid, high = np.percentile(seconds, [25, 50, 75])
    return f"{1e3 * mid:.1f} ms ({1e3 * low:.1f} to {1e3 * high:.1f})"


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(a) / statistics.median(b)


def report(found: dict[str, Any], threads: int) -> str:
    times, memory = found["likelihood"], found["memory"]
    lines = [
        f"# The exact dyadic likelihood ({threads} thread(s), float32, torch {torch.__version__})",
        "",
        "Times: median (quartiles) of turns within one process. Memory: peak resident set above the loaded process.",
        "",
        f"## One forward and backward pass, N = 2708, K = {K}",
        "",
        "| likelihood | time | tiled / this | memory | tiled / this |",
        "|---|---|---|---|---|",
    ]
    for name in LIKELIHOODS:
        lines.append(
            f"| {name} | {spread(times[name])} | {ratio(times['tiled'], times[name]):.3f} "
            f"| {memory[name] / MIB:.1f} MiB | 1/{memory[name] / memory['tiled']:.1f} |"
        )
    cora, pubmed = found["cora"], found["pubmed"]
    lines += [
        "",
        f"## One SVI step on Cora, K = {K}, Concrete",
        "",
        "| step | time | library / this |",
        "|---|---|---|",
        f"| library | {spread(cora['library'])} | 1 |",
        f"| plain PyTorch, dense | {spread(cora['plain'])} | {ratio(cora['library'], cora['plain']):.3f} |",
        "",
        f"## One exact full-graph SVI step on Pubmed, K = {K}, Concrete",
        "",
        "| | |",
        "|---|---|",
        f"| step | {spread(pubmed['step'])} |",
        f"| the matrix products of its tiles alone | {spread(pubmed['products'])} |",
        f"| step / products | {ratio(pubmed['step'], pubmed['products']):.2f} |",
        f"| peak resident set, everything included | {pubmed['peak'] / MIB:.0f} MiB |",
        "",
        "## Memory of the likelihood, K = 16, mean degree 10",
        "",
        "| N | memory | memory a node |",
        "|---|---|---|",
        *(
            f"| {n} | {b / MIB:.1f} MiB | {b / int(n):.0f} bytes |"
            for n, b in found["sizes"].items()
        ),
        "",
        f"Slope of log memory by log N: {found['slope']:.2f} (1 is linear, N x N is 2).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2000, 5000, 10_000, 20_000, 40_000]
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.sparse.check_sparse_tensor_invariants.disable()

    parts: dict[str, Callable[..., Any]] = {
        "likelihood": lambda: likelihood_times(options),
        "memory": likelihood_memory,
        "cora": lambda: cora_step(options),
        "pubmed": lambda: pubmed_step(options),
    }
    if options.part:
        print(json.dumps(parts[options.part[0]](*options.part[1:])))
        return
    found: dict[str, Any] = {
        "likelihood": alone(options, "likelihood"),
        "memory": {x: alone(options, "memory", x, 2708, K, **LARGE) for x in LIKELIHOODS},
        "cora": alone(options, "cora"),
        "pubmed": alone(options, "pubmed"),
        "sizes": {n: alone(options, "memory", "tiled", n, 16, **LARGE) for n in options.sizes},
    }
    sizes = found["sizes"]
    found["slope"] = float(np.polyfit(np.log(list(sizes)), np.log(list(sizes.values())), 1)[0])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "engine.json").write_text(json.dumps(found, indent=1))
    text = report(found, options.threads)
    (options.out / "engine.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
