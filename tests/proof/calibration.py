"""Simulation-based calibration of the Markov chains and of every guide, on small graphs.

Ranks of finished cases are kept in runs/proof, so that a stopped proof goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from PIL import Image

import graphlore as gl
from graphlore.inference import SBC

__all__ = ["CASES", "Case", "prove", "ranks"]

SIMULATIONS, DRAWS, SEED = 500, 49, 1
KEPT = Path(__file__).resolve().parents[2] / "runs" / "proof"


@dataclass(frozen=True, eq=False)
class Case:
    """An inference and a story to calibrate it on.

    Attributes:
        inference, story_name: for the table.
        story: makes the story.
        guide: makes the guide from story and graph; None: Markov chains.
        options: of :func:`graphlore.inference.sbc_fit` or :func:`graphlore.inference.sbc_mcmc`.
        parts: processes that share the simulations, each with a seed of its own.
    """

    inference: str
    story_name: str
    story: Callable[[], Any]
    guide: Callable[..., Any] | None
    options: dict[str, Any] = field(default_factory=dict)
    parts: int = 1

    @property
    def exact(self) -> bool:
        """Whether the inference claims to draw from the posterior."""
        return self.guide is None

    @property
    def title(self) -> str:
        return f"{self.inference}, {self.story_name}"


def _sbm() -> Any:
    return gl.models.SBM(8, 2)


def _lfrm() -> Any:
    return gl.models.LFRM(6, truncation=2, alpha=1.0, bias="global", bias_scale=(1.0, 1.0))


def _dglfrm(sticks: str = "global") -> Any:
    return gl.models.DGLFRM(
        6, truncation=2, alpha=1.0, decoder=(), sticks=sticks, bias="global", bias_scale=(1.0, 1.0)
    )


def _vgae() -> Any:
    return gl.models.VGAE(6, 2, bias="global", bias_scale=(1.0, 1.0))


_structured, _mean_field = gl.guides.StructuredMeanField, gl.guides.MeanField
_blocks, _normal = gl.guides.AmortisedCategorical, gl.guides.AmortisedNormal
_FIT = {"steps": 120, "learning_rate": 0.1}
_SUMMED = {**_FIT, "gradient": "expectation"}
_PRICED = {**_FIT, "gradient": "local_expectation"}


def _free(guide: Callable[..., Any]) -> Callable[..., Any]:
    return partial(guide, amortised=False)


CASES = (
    Case("Markov chains", "SBM", _sbm, None, {"draws": 196, "warmup": 60}),
    Case(
        "Markov chains",
        "LFRM",
        _lfrm,
        None,
        # memberships and sticks follow each other slowly: one draw in ten, and short trees, which mix no worse here
        {"draws": 490, "warmup": 100, "max_tree_depth": 2},
        parts=2,
    ),
    Case("AmortisedCategorical, free", "SBM", _sbm, _free(_blocks), _SUMMED),
    Case("AmortisedCategorical, GCN", "SBM", _sbm, _blocks, _SUMMED),
    Case("StructuredMeanField, free", "LFRM", _lfrm, _free(_structured), _PRICED),
    Case("StructuredMeanField, free", "DGLFRM", _dglfrm, _free(_structured), _PRICED),
    Case("MeanField, free", "DGLFRM", partial(_dglfrm, "local"), _free(_mean_field), _PRICED),
    Case("AmortisedNormal, free", "VGAE", _vgae, _free(_normal), _FIT),
    Case(
        "StructuredMeanField, Concrete",
        "DGLFRM",
        _dglfrm,
        _free(_structured),
        {**_FIT, "gradient": "concrete"},
    ),
    Case("StructuredMeanField, GCN", "DGLFRM", _dglfrm, _structured, _PRICED),
)


def ranks(case: Case, simulations: int, draws: int = DRAWS, progress: bool | None = None) -> SBC:
    """Simulate, infer and rank."""
    if case.parts == 1:
        return _part(case, simulations, draws, SEED, progress)
    one = partial(_part_of, CASES.index(case), simulations // case.parts, draws)
    with ProcessPoolExecutor(case.parts) as pool:
        found = list(pool.map(one, range(SEED, SEED + case.parts)))
    return SBC(
        xr.concat([f.ranks for f in found], "simulation"),
        draws,
        {n: fmean(f.ties[n] for f in found) for n in found[0].ties},
        {n: fmean(f.autocorrelation[n] for f in found) for n in found[0].autocorrelation},
        {seed: told for f in found for seed, told in f.failed.items()},
    )


def _part_of(case: int, simulations: int, draws: int, seed: int) -> SBC:
    return _part(CASES[case], simulations, draws, seed, None)


def _part(case: Case, simulations: int, draws: int, seed: int, progress: bool | None) -> SBC:
    story = case.story()
    if case.guide is None:
        fit_one = gl.inference.sbc_mcmc(story, **case.options)
    else:
        fit_one = gl.inference.sbc_fit(story, case.guide, **case.options)
    return gl.inference.sbc(
        story, fit_one, simulations=simulations, draws=draws, seed=seed, progress=progress
    )


def _file(case: Case) -> Path:
    return KEPT / f"{case.title.replace(', ', '_').replace(' ', '_')}.nc"


def _settings(case: Case) -> str:
    told = [case.options, SIMULATIONS, DRAWS, SEED, case.story().options]
    told += [case.parts] * (case.parts > 1)
    return json.dumps(told, default=str)


def _kept(case: Case) -> tuple[SBC, float] | None:
    """The ranks of a case and the CPU seconds they took, where a file has them with the same settings."""
    if not _file(case).is_file():
        return None
    found = xr.load_dataset(_file(case))
    if found.attrs["settings"] != _settings(case):
        return None
    notes = json.loads(found.attrs["notes"])
    return SBC(found, DRAWS, *notes[:3]), notes[3]


def _run(case: Case) -> None:
    """Rank and keep, unless that is done."""
    if _kept(case) is not None:
        return
    started = sum(os.times()[:4])
    found = ranks(case, SIMULATIONS)
    # of this process and of those that it waited for
    spent = sum(os.times()[:4]) - started
    notes = [found.ties, found.autocorrelation, found.failed, spent]
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = found.ranks.assign_attrs(settings=_settings(case), notes=json.dumps(notes))
    kept.to_netcdf(_file(case), engine="h5netcdf")


def prove(docs: Path) -> bool:
    """Rank 500 truths a case; docs/proof/calibration.md holds what the ranks say. Markov chains have to hold."""
    for case in CASES:
        _run(case)
        record(docs)
    found = {case: _kept(case) for case in CASES}
    return all(f is not None and f[0].uniform() for c, f in found.items() if c.exact)


def record(docs: Path) -> None:
    """Write what is done."""
    kept = {case: _kept(case) for case in CASES}
    found = {case: f for case, f in kept.items() if f is not None}
    lacking = [case.title for case, f in kept.items() if f is None]
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    _picture({c: f for c, (f, _) in found.items()}, docs)
    told = _told(found)
    if lacking:
        told += f"\nNot yet in this record: {'; '.join(lacking)}.\n"
    (docs / "proof" / "calibration.md").write_text(told, encoding="utf-8")


def _told(found: dict[Case, tuple[SBC, float]]) -> str:
    seconds = sum(s for _, s in found.values())
    lines = [
        f"{SIMULATIONS} graphs of 6 to 8 nodes from the prior a row, {DRAWS} draws ranked, seed {SEED} "
        f"(LFRM's chains, in two processes: half of them seed {SEED + 1}); "
        f"{seconds / 60:.0f} CPU-minutes in all. *Off* counts the statistics whose ranks are not uniform at a "
        "family-wise level of 0.05 (exact p-values, Holm). *Spread* and *bias* are those of the worst statistic in "
        "standard errors: a positive spread says that draws are too narrow, a positive bias that they lie too low.",
        "",
        "| inference | story | off | worst statistic | p, family-wise | spread | bias | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, (sbc, _) in found.items():
        table = sbc.summary()
        tested = table[table["p"].notna()].sort_values("p_holm")
        worst = tested.iloc[0]
        off = int((tested["p_holm"] <= 0.05).sum())
        p = f"{worst['p_holm']:.2g}"
        lines.append(
            f"| {case.inference} | {case.story_name} | {off} of {len(tested)} | {tested.index[0]} | {p} | "
            f"{worst['spread']:+.1f} | {worst['bias']:+.1f} | {len(sbc.failed)} |"
        )
    return "\n".join(lines) + "\n"


def _picture(found: dict[Case, SBC], docs: Path) -> None:
    rows = -(-len(found) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12.6, 4.4 * rows), layout="constrained")
    for ax, (case, sbc) in zip(axes.flat, found.items(), strict=False):
        gl.plots.sbc(sbc, ax, heading=case.title)
    for ax in axes.flat[len(found) :]:
        ax.set_axis_off()
    file = docs / "pictures" / "proof_calibration.png"
    figure.savefig(file, dpi=70, facecolor="white")
    plt.close(figure)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(128, kmeans=3).save(file, optimize=True)
