"""Planted faults: are the tests of stories, guides and estimators able to fail?

Every fault changes one line of a copy of the package. The tests named with it are run on the copy, and must fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track

__all__ = ["FAULTS", "Fault", "check", "prove"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        file: of the package.
        before, after: the text that is replaced, which occurs once in the file, and what replaces it.
        what: the fault in words.
        tests: names of the test modules, without test_ and .py, that should notice.
    """

    file: str
    before: str
    after: str
    what: str
    tests: tuple[str, ...]

    def planted(self, root: Path = ROOT) -> str:
        """The file's text with the fault.

        Arguments:
            root: of the checkout.

        Raises:
            ValueError: the text to replace is not there, or there more than once.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.before) != 1:
            raise ValueError(
                f"{self.file} has the line of {self.what!r} {text.count(self.before)} times, not once: adapt the fault"
            )
        return text.replace(self.before, self.after)


def _fault(file: str, before: str, after: str, what: str, *tests: str) -> Fault:
    return Fault(file, before, after, what, tests)


FAULTS = (
    # -- stories ------------------------------------------------------------------------------------------------
    _fault(
        "models/sticks.py",
        "torch.cumsum(torch.log(sticks.clamp(min=torch.finfo(sticks.dtype).tiny)), dim=-1)",
        "torch.log(sticks.clamp(min=torch.finfo(sticks.dtype).tiny))",
        "a stick alone in place of the running product",
        "sticks",
    ),
    _fault(
        "models/sticks.py",
        "return log_pi - torch.log(-torch.expm1(log_pi))",
        "return log_pi",
        "log pi in place of its log odds",
        "sticks",
    ),
    _fault(
        "models/concrete.py",
        "return log_t + d - 2.0",
        "return d - 2.0",
        "the temperature is missing in the Concrete density",
        "concrete",
    ),
    _fault(
        "models/features.py",
        "absent = -F.softplus(logits, threshold=50.0).sum(-1)",
        "absent = F.softplus(logits, threshold=50.0).sum(-1)",
        "the wrong sign of absent features",
        "dglfrm",
    ),
    _fault(
        "models/dglfrm.py",
        'z = b * pyro.sample("strengths", standard.to_event(1))',
        'z = pyro.sample("strengths", standard.to_event(1))',
        "memberships do not switch strengths off",
        "dglfrm",
    ),
    _fault(
        "models/dglfrm.py",
        "dist.Beta(self.alpha.expand(K), self.alpha.new_ones(K))",
        "dist.Beta(self.alpha.new_ones(K), self.alpha.expand(K))",
        "DGLFRM's sticks from Beta(1, alpha)",
        "dglfrm",
    ),
    _fault(
        "models/lfrm.py",
        "dist.Normal(zero, self.affinity_scale)",
        "dist.Normal(zero, torch.ones_like(self.affinity_scale))",
        "the scale of affinities is ignored",
        "lfrm",
    ),
    _fault(
        "models/sbm.py",
        "b + (exposure - edges).clamp(min=0.0)",
        "b + exposure",
        "present dyads counted as absent ones too, in the table's posterior",
        "sbm",
        "node_guides",
    ),
    _fault(
        "models/sbm.py",
        "dist.Dirichlet(self.alpha + memberships.sum(0))",
        "dist.Dirichlet(1.0 + memberships.sum(0))",
        "the concentration of the Dirichlet is ignored in its posterior",
        "sbm",
        "node_guides",
    ),
    _fault(
        "models/base.py",
        "return e if c is None else 0.5 * c + e",
        "return e if c is None else c + e",
        "the global bias counted at both ends",
        "dglfrm",
    ),
    _fault(
        "models/base.py",
        "mask=True if labelled is None else labelled",
        "mask=True",
        "labels that are not known count as class 0",
        "vgae",
        "classify",
    ),
    _fault(
        "models/blocks.py",
        "others = u.sum(-2, keepdim=True) - u",
        "others = u.sum(-2, keepdim=True)",
        "self-dyads in the sum over blocks",
        "blocks",
    ),
    _fault(
        "models/block_sums.py",
        "exposure = _outer(total, total) - u.mT @ u ",
        "exposure = _outer(total, total) ",
        "self-dyads in the exposure of blocks",
        "sbm",
        "blocks",
    ),
    _fault(
        "models/block_sums.py",
        "edges, exposure = edges * (1.0 - 0.5 * once), exposure",
        "edges, exposure = edges, exposure",
        "edges within a block counted twice",
        "sbm",
        "blocks",
    ),
    _fault(
        "models/laws.py",
        "return x * s - torch.lgamma(x + 1.0)",
        "return x * s",
        "counts without their factorial",
        "families",
    ),
    _fault(
        "models/laws.py",
        "return -torch.log(self.scale) - 0.5",
        "return -0.5",
        "the Normal density without its scale",
        "families",
    ),
    _fault(
        "models/laws.py",
        "w0 * softplus(s) - w1 * softplus(-s)",
        "w0 * softplus(s) - w0 * softplus(-s)",
        "the weight of present dyads is ignored",
        "dyadic",
    ),
    _fault(
        "models/laws.py",
        "rate * torch.rand_like(s) < torch.sigmoid(s)",
        "torch.rand_like(s) < torch.sigmoid(s)",
        "proposed dyads kept as if they had not been proposed",
        "dyadic",
    ),
    _fault(
        "models/dyad_list.py",
        "gaps / -math.log1p(-rate)",
        "gaps / rate",
        "gaps between proposed dyads of a Poisson process",
        "dyad_list",
    ),
    _fault(
        "models/cumulants.py",
        "q = (x + y).addcmul_(x, y, value=-1.0)",
        "q = x + y",
        "a dropped product in the sum of logarithms",
        "dyadic_sums",
    ),
    _fault(
        "models/tiles.py",
        "once = 0.5 if on_diagonal and self.undirected else 1.0",
        "once = 1.0",
        "gradients of tiles on the diagonal counted twice",
        "dyadic",
        "families",
    ),
    _fault(
        "models/tiles.py",
        'once = 0.5 if on_diagonal and shape == "undirected" else 1.0',
        "once = 1.0",
        "tiles on the diagonal counted twice",
        "dyadic",
    ),
    _fault(
        "models/tiles.py",
        "* (of_rows[:, rows, None] + of_columns[:, None, columns])",
        "* of_rows[:, rows, None]",
        "a dyad's gradient for one of its ends alone",
        "dyadic",
        "families",
    ),
    _fault(
        "guides/convolution.py",
        "per_sample_weights=matrix.values()",
        "per_sample_weights=torch.ones_like(matrix.values())",
        "messages without the weights of their edges, in single precision alone",
        "guides",
    ),
    _fault(
        "models/dyadic.py",
        "keep = keep & ~torch.isin(pairs[0] * n + pairs[1], hidden)",
        "keep = keep & True",
        "held-out edges are seen",
        "dyadic",
        "dglfrm",
    ),
    _fault(
        "models/dyadic.py",
        "corrections.append((nodes.left_out, back))",
        "pass",
        "missing dyads count as absent",
        "dyadic",
    ),
    _fault(
        "models/dyadic.py",
        "return 2.0 * self._cached[1]",
        "return self._cached[1]",
        "half of each dyad in a node's own signal",
        "dyadic",
        "elbo",
    ),
    _fault(
        "models/dyadic.py",
        "self.right_bias if self.directed else self.left_bias",
        "self.right_bias",
        "the bias of one end alone",
        "dyadic",
    ),
    _fault(
        "models/dyadic.py",
        "return torch.where(self.parts[pairs[0]] == 0, pairs, pairs.flip(0))",
        "return pairs",
        "the sides of a bipartite graph mixed up",
        "families",
        "blocks",
    ),
    _fault(
        "models/subsampled.py",
        "w0 * (self.num_dyads - present.shape[1]) / self.num_absent",
        "w0 * self.num_dyads / self.num_absent",
        "the wrong weight of sampled absent dyads",
        "subsampled",
    ),
    _fault(
        "models/subsampled.py",
        "torch.searchsorted(before, rank, right=True)",
        "torch.searchsorted(before, rank)",
        "a present dyad among the sampled absent ones",
        "subsampled",
    ),
    _fault(
        "models/subsampled.py",
        "return n * (n - 1) / (b * (b - 1))",
        "return (n / b) ** 2",
        "the inclusion weight of sampling with replacement",
        "subsampled",
    ),
    _fault(
        "models/message_passing.py",
        "return gate.sigmoid() * value",
        "return value",
        "a readout without its gate",
        "sggn",
        "sgvae",
    ),
    _fault(
        "models/sggn.py",
        "scores = scores.masked_fill(taken[..., None], -torch.inf).flatten(1)",
        "scores = scores.flatten(1)",
        "SGGN joins a node twice",
        "sggn",
    ),
    _fault(
        "models/sggn.py",
        "obs=None if partners is None else (partners[1] > k).to(h)",
        "obs=None if partners is None else (partners[1] >= k).to(h)",
        "SGGN stops adding edges one too late",
        "sggn",
    ),
    _fault(
        "models/sgvae.py",
        "law = dist.Bernoulli(logits=add[t - 1]).mask(sizes >= t)",
        "law = dist.Bernoulli(logits=add[t - 1]).mask(sizes > 0)",
        "padding counts in SGVAE",
        "sgvae",
    ),
    _fault(
        "models/sgvae.py",
        "law = rows.to_event(1).mask(sizes > t)",
        "law = rows.to_event(1).mask(sizes >= t)",
        "edges of a node that is not there count in SGVAE",
        "sgvae",
    ),
    # -- guides -------------------------------------------------------------------------------------------------
    _fault(
        "inference/ordered.py",
        "return log_prob @ times.to(log_prob)",
        "return log_prob.sum()",
        "graphs that occur several times count once",
        "sggn",
    ),
    _fault(
        "guides/kumaraswamy.py",
        "        - (q.d - 1.0) / q.d\n",
        "",
        "a term of the divergence of sticks is missing",
        "guides",
    ),
    _fault(
        "guides/kumaraswamy.py",
        "(self.d - 1) * log_rest",
        "self.d * log_rest",
        "an exponent of the Kumaraswamy density is off by one",
        "guides",
    ),
    _fault(
        "guides/mean_field.py",
        "return encoded + activation_logits(v)",
        "return encoded",
        "the structured guide does not look at the sticks",
        "guides",
    ),
    _fault(
        "guides/encoder.py",
        "_normalised(graph.both_directions(), graph)",
        "_normalised(graph.edge_index, graph)",
        "messages go along an edge in one direction",
        "guides",
    ),
    _fault(
        "guides/encoder.py",
        "return Adjacency.of(matrix) if graph.directed else Adjacency.symmetric(matrix)",
        "return Adjacency.symmetric(matrix)",
        "gradients go along an edge as messages do",
        "guides",
    ),
    _fault(
        "guides/destructor.py",
        "at = sizes[:, None] - column[1 : len(steps) + 1]",
        "at = column[1 : len(steps) + 1].expand(len(sizes), -1)",
        "the construction order is not the removals reversed",
        "sgvae",
        "sequential",
    ),
    # -- estimators ---------------------------------------------------------------------------------------------
    _fault(
        "inference/elbo.py",
        'cost = -self.kl_weight * scale_and_mask(kl, site["scale"], site["mask"])',
        'cost = -scale_and_mask(kl, site["scale"], site["mask"])',
        "closed divergences are not tempered",
        "elbo",
    ),
    _fault(
        "inference/elbo.py",
        "torch.sigmoid(a) * (a - b) - F.softplus(a) + F.softplus(b)",
        "torch.sigmoid(a) * (a - b) - F.softplus(a)",
        "a term of the Bernoulli divergence is missing",
        "elbo",
    ),
    _fault(
        "inference/elbo.py",
        'charge(log_p - log_q, site["cond_indep_stack"], upstream)',
        'charge(log_p, site["cond_indep_stack"], upstream)',
        "log q is missing in the learning signal",
        "elbo",
    ),
    _fault(
        "inference/elbo.py",
        "return old\n",
        "return self._averages[site]\n",
        "a baseline that contains the signal it is subtracted from",
        "elbo",
    ),
    _fault(
        "inference/local_expectation.py",
        "(1.0 - 2.0 * value) * change.T",
        "(2.0 * value - 1.0) * change.T",
        "the wrong sign of a flip",
        "elbo",
        "local_expectation",
    ),
    _fault(
        "inference/local_expectation.py",
        "return change + _end_change(before, right, left, new_right, present, columns, reverse=True)",
        "return change",
        "a node of a directed graph is priced as a tail alone",
        "expectation",
        "local_expectation",
    ),
    _fault(
        "inference/local_expectation.py",
        "out[:, rows] = weight * (new.sum(-1) - old.sum(-1))",
        "out[:, rows] = new.sum(-1) - old.sum(-1)",
        "sampled columns without their weight",
        "elbo",
        "local_expectation",
    ),
    _fault(
        "inference/local_expectation.py",
        "change.index_add(-1, i, summed.weight * precision * back)",
        "change.index_add(-1, i, precision * back)",
        "present dyads of a block are not fully taken out of a flip's price",
        "dyad_batch",
    ),
    _fault(
        "data/dyad_batch.py",
        "weights[:b] = n / b",
        "weights[:b] = 1.0",
        "the nodes of a batch stand for themselves alone",
        "dyad_batch",
    ),
    _fault(
        "data/dyad_batch.py",
        "edge_weight=graph.num_edges / self.edges",
        "edge_weight=1.0",
        "the present dyads of a batch stand for themselves alone",
        "dyad_batch",
    ),
    _fault(
        "data/dyad_batch.py",
        "(self._hidden_starts, self._hidden),",
        "",
        "missing dyads count as absent in a batch",
        "dyad_batch",
    ),
    _fault(
        "data/dyad_batch.py",
        "ratio = degree[row] / count[row]",
        "ratio = 1.0",
        "sampled neighbours stand for themselves alone",
        "dyad_batch",
    ),
    _fault(
        "models/base.py",
        'msg["scale"] = self.weights * msg["scale"]',
        "pass",
        "divergences of a batch count for its nodes alone",
        "dyad_batch",
    ),
    _fault(
        "inference/expectation.py",
        '"value": site["fn"].probs}',
        '"value": site["fn"].probs.detach()}',
        "no gradient through the memberships that are summed out",
        "expectation",
    ),
    _fault(
        "inference/disarm.py",
        "slope = gain * torch.sigmoid(logits.abs())",
        "slope = gain * torch.sigmoid(logits)",
        "DisARM without the absolute value",
        "disarm",
    ),
    _fault(
        "inference/disarm.py",
        "return (slope * logits).sum()",
        "return (site['scale'] * (slope * logits).sum(-1)).sum()",
        "DisARM scales the score as well as the costs",
        "dyad_batch",
    ),
    _fault(
        "inference/disarm.py",
        "gain = 0.5 * (signal - other_signal)",
        "gain = (signal - other_signal)",
        "DisARM without its half",
        "disarm",
    ),
    _fault(
        "inference/sequential_terms.py",
        "spent.flip(0).cumsum(0).flip(0)",
        "spent.cumsum(0)",
        "a removal is rewarded for those before it",
        "sequential",
    ),
    _fault(
        "inference/sequential_terms.py",
        "(reward - reward.mean(-2, keepdim=True)) * (orders / (orders - 1))",
        "(reward - reward.mean(-2, keepdim=True))",
        "the baseline of other orders contains the own one",
        "sequential",
    ),
    _fault(
        "inference/sequential_bounds.py",
        "sequence = log_weights.logsumexp(0) - math.log(draws)",
        "sequence = log_weights.logsumexp(0)",
        "importance weights are summed, not averaged",
        "sequential",
    ),
    _fault(
        "inference/sequential_bounds.py",
        "return (joint - proposal).view(shape), own.view(shape)",
        "return (joint - log_latent).view(shape), own.view(shape)",
        "draws of a mixture are weighed by one of its parts",
        "sequential",
    ),
    _fault(
        "inference/importance.py",
        "found.append(density_by_draw(p) - density_by_draw(q))",
        "found.append(density_by_draw(p))",
        "importance weights without log q",
        "guide_quality",
    ),
    _fault(
        "inference/gibbs.py",
        "L[n], R[n] = left[n, choice], right[n, choice]",
        "pass",
        "a Gibbs sweep does not see what it has just drawn",
        "mcmc",
        "geweke",
    ),
    _fault(
        "inference/joint.py",
        "graph.directed else self.observed.triu(1)",
        "graph.directed else self.observed",
        "every dyad twice in the joint density of MCMC",
        "mcmc",
        "geweke",
    ),
)


@contextmanager
def _copy() -> Iterator[Path]:
    """A copy of the checkout, and beside it the folder that makes it importable as graphlore."""
    left_out = shutil.ignore_patterns(".venv", ".git", "runs", "_build", "__pycache__", ".*_cache")
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
        (Path(folder) / "path").mkdir()
        (Path(folder) / "path" / "graphlore").symlink_to(copy)
        yield copy


def _fails(copy: Path, tests: Sequence[str]) -> bool:
    """Whether tests fail on the copy.

    Raises:
        RuntimeError: they could not be run at all.
    """
    files = [f"tests/test_{name}.py" for name in tests]
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--durations=0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=copy,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(copy.parent / "path"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        },
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def check(
    faults: Sequence[Fault] = FAULTS, *, known_to_pass: bool = False
) -> list[tuple[Fault, str, float]]:
    """(fault, name of the test module that noticed or "", seconds), test modules one after another.

    Arguments:
        known_to_pass: the tests have just passed, and are not run without a fault first.

    Raises:
        ValueError: a fault that cannot be planted.
        RuntimeError: tests that fail without a fault, or do not run.
    """
    found = []
    for fault in faults:
        fault.planted()
    with _copy() as copy:
        modules = sorted({t for f in faults for t in f.tests})
        for name in track([] if known_to_pass else modules, "without a fault"):
            if _fails(copy, [name]):
                raise RuntimeError(f"tests/test_{name}.py fails without a fault: mend that first")
        for fault in track(faults, "with a fault"):
            started = time.perf_counter()
            file = copy / fault.file
            sound = file.read_text(encoding="utf-8")
            file.write_text(fault.planted(copy), encoding="utf-8")
            noticed = next((t for t in fault.tests if _fails(copy, [t])), "")
            print(f"{fault.file}: {fault.what}: {noticed or 'NOT NOTICED'}", flush=True)
            file.write_text(sound, encoding="utf-8")
            found.append((fault, noticed, time.perf_counter() - started))
    return found


def prove(docs: Path) -> bool:
    """Plant all faults; docs/proof/mutants.md says which test modules noticed."""
    return _written(check(), docs)


def _written(found: list[tuple[Fault, str, float]], docs: Path) -> bool:
    missed = [f for f, noticed, _ in found if not noticed]
    seconds = sum(s for _, _, s in found)
    lines = [
        f"{len(found)} faults, one at a time, in {len({f.file for f, _, _ in found})} files of stories, guides and "
        f"estimators. **{len(found) - len(missed)} of {len(found)} were noticed**, in {seconds:.0f} s.",
        "",
        "| file | fault | noticed by |",
        "|---|---|---|",
        *(
            f"| {f.file} | {f.what} | {f'test_{noticed}.py' if noticed else '**nothing**'} |"
            for f, noticed, _ in found
        ),
    ]
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    (docs / "proof" / "mutants.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for fault in missed:
        print(f"not noticed: {fault.file}: {fault.what}")
    return not missed
