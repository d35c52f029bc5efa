"""Simulation-based calibration: does an inference give back what a story put in?

Latents and a graph are drawn from the story, an inference is run on the graph, and the true latents are ranked among
its draws. If the draws are of the posterior, truth and draws are exchangeable, and ranks are uniform on 0..L, whatever
the story. Draws that are too narrow, too wide or off to one side make them U-shaped, humped or sloped.

References:
    | Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts et al. 2018)
    | Graphical test for discrete uniformity and its applications in goodness-of-fit evaluation and multiple sample
      comparison (Säilynoja, Bürkner and Vehtari, Statistics and Computing 2022)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from ..data import Graph
from ..models.base import NodeStory
from .draws import evaluation_mode, guide_draws
from .elbo import InferenceError
from .fitted import Fit
from .joint import Values
from .mcmc import fit_mcmc
from .prior import prior_draw
from .progress import ProgressBar
from .relaxation import exact_memberships
from .sbc_statistics import Statistics, sbc_statistics
from .seeds import seeded
from .settings import FitSettings
from .training import fit
from .uniformity import holm, rank_shape, uniformity_p_value

__all__ = ["SBC", "sbc", "sbc_fit", "sbc_mcmc"]

FitOne = Callable[[Any, int], Any]
Simulate = Callable[[int], tuple[Mapping[str, Any], Any]]

_STICKY = 0.2  # lag-one autocorrelation of kept draws from which the verdict warns
_CLEAR = 2.5  # standard errors from which a shape is named


@dataclass(frozen=True)
class SBC:
    """Ranks of true latents among posterior draws.

    Attributes:
        ranks: an integer in 0..draws by statistic, dimension ``simulation``; coordinates ``seed`` and ``fit_seed`` say
            how a simulation is repeated.
        draws: L, how many draws a truth is ranked among.
        ties: by statistic, the mean share of draws that are equal to the truth; 1: it never moves and says nothing.
        autocorrelation: by statistic, of neighbouring draws, mean over simulations; near 0 if they are independent.
        failed: message by seed of simulations that failed. They are left out, so that ranks are those of simulations
            that do not fail.
    """

    ranks: xr.Dataset
    draws: int
    ties: dict[str, float]
    autocorrelation: dict[str, float]
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def simulations(self) -> int:
        return int(self.ranks.sizes["simulation"])

    def p_values(self) -> pd.DataFrame:
        """Exact p-values of uniformity by statistic.

        Returns:
            ``p``, of the statistic alone (simultaneous over its whole distribution function), and ``p_holm``, for the
            family of all statistics: if ranks are uniform, the least is below t with a probability of at most t. NaN
            for statistics that never move.
        """
        names = [str(n) for n in self.ranks.data_vars]
        moving = [n for n in names if self.ties[n] < 1.0]
        p = np.array([uniformity_p_value(self.ranks[n].values, self.draws) for n in moving])
        table = pd.DataFrame({"p": p, "p_holm": holm(p)}, index=moving)
        return table.reindex(names)

    def uniform(self, level: float = 0.05) -> bool:
        """Whether no statistic is off; a right inference is found off with a probability of at most ``level``."""
        return not bool((self.p_values()["p_holm"] <= level).any())

    def summary(self, level: float = 0.05) -> pd.DataFrame:
        """A row a statistic: p, p_holm, bias and spread of the ranks, ties, autocorrelation, and a verdict in words.

        ``bias`` and ``spread`` are in standard errors: above 0, truths lie above the draws, and ranks gather at both
        ends (draws too narrow); below 0, truths lie below the draws, and ranks gather in the middle (too wide).
        """
        table = self.p_values()
        shapes = [rank_shape(self.ranks[n].values, self.draws) for n in table.index]
        table["bias"], table["spread"] = np.array(shapes).T
        table["ties"] = [self.ties[n] for n in table.index]
        table["autocorrelation"] = [self.autocorrelation[n] for n in table.index]
        table["verdict"] = [_words(row, level) for row in table.itertuples()]
        return table

    def verdict(self, level: float = 0.05) -> str:
        """What the ranks say, in a few sentences."""
        table = self.summary(level)
        tested = table["p"].notna().sum()
        off = table[table["p_holm"] <= level].sort_values("p_holm")
        if len(off):
            told = "; ".join(f"{name}: {row.verdict}" for name, row in off.iterrows())
            said = (
                f"Not calibrated: {len(off)} of {tested} statistics are off at a family-wise level of {level:g} "
                f"in {self.simulations} simulations. {told}."
            )
        else:
            least = (
                "" if not tested else f" (smallest family-wise p-value {table['p_holm'].min():.2g})"
            )
            said = (
                f"No statistic of {tested} is off at a family-wise level of {level:g} in {self.simulations} "
                f"simulations{least}: errors small enough to hide among so few, or in what was not ranked, may remain."
            )
        sticky = table.index[table["autocorrelation"] > _STICKY]
        if len(sticky):
            said += f" Draws are autocorrelated ({', '.join(sticky)}), which alone makes ranks U-shaped: thin more."
        if self.failed:
            said += (
                f" {len(self.failed)} more simulations failed and are left out (seeds in .failed)."
            )
        return said

    def to_dataframe(self) -> pd.DataFrame:
        """Ranks, a row a simulation, with its seeds."""
        return self.ranks.to_dataframe()


def sbc(
    story: Any,
    fit_one: FitOne,
    *,
    simulations: int = 100,
    draws: int = 99,
    statistics: Statistics | None = None,
    simulate: Simulate | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> SBC:
    """Check an inference by simulation-based calibration.

    What is checked is the inference, on graphs that the story draws; whether the story fits your data is another
    question. Weights of networks are part of the story, and stay as they are.

    Arguments:
        story: a node-level story, or any Pyro program ``story(graph=None)`` with a site ``edges``; see
            :func:`prior_draw`.
        fit_one: the inference, called as ``fit_one(graph, seed)``: :func:`sbc_fit`, :func:`sbc_mcmc`, or your own. It
            returns a :class:`Fit`, ArviZ data, or latents by site, (S, ...) each, with S >= ``draws``.
        simulations: M. A hundred find gross faults; the power grows with M.
        draws: L, draws a truth is ranked among; of more, evenly spaced ones are taken. Draws of a chain should be
            thinned until they are about independent. L + 1 a divisor of M makes for even histograms.
        statistics: what is ranked: a function of latents and graph to numbers by name. Latents have truth and draws
            along dimension 0, (S, ...) float64; a number by row, (S,), is returned. None: :func:`sbc_statistics`, which
            your own function may extend.
        simulate: called as ``simulate(seed)`` for (latents, graph) in place of :func:`prior_draw`: for nodes, missing
            dyads or programs that it does not know.
        seed: of everything random: truths, fits, and how ties are broken.
        progress: show a bar; None: only on a terminal.

    Returns:
        the ranks, and what they say.

    Raises:
        ValueError: numbers out of range.
        InferenceError: the first simulation failed, naming the seeds that repeat it. Later failures are noted in
            :attr:`SBC.failed`.
    """
    for name, value, least in (("simulations", simulations, 10), ("draws", draws, 3)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, not {value!r}")
    draw_truth: Simulate = partial(prior_draw, story) if simulate is None else simulate
    rank = _Ranking(story, fit_one, draws, statistics or sbc_statistics(story), draw_truth)
    seeds = np.random.SeedSequence(seed).generate_state(2 * simulations).reshape(-1, 2).tolist()
    rows: list[_Row] = []
    failed: dict[int, str] = {}
    bar, started = (
        ProgressBar.choose(simulations, progress, ("SBC", "mean rank")),
        time.perf_counter(),
    )
    history: dict[str, list[float]] = {
        name: [] for name in ("step", "elbo", "active_communities", "seconds")
    }
    with bar:
        for index, (truth_seed, fit_seed) in enumerate(seeds):
            try:
                rows.append(rank(truth_seed, fit_seed))
            except Exception as error:  # whatever an inference of the user's own may raise
                again = "simulate" if simulate is not None else "prior_draw(story, ...)"
                told = (
                    f"simulation {index} failed: {type(error).__name__}: {error} (again: {again} with seed "
                    f"{truth_seed}, then fit_one(graph, {fit_seed}))"
                )
                if not rows:
                    raise InferenceError(told) from error
                failed[truth_seed] = told
            mean_rank = float(np.mean(list(rows[-1].ranks.values())))
            seconds = time.perf_counter() - started
            for column, number in zip(
                history.values(), (index, mean_rank, np.nan, seconds), strict=True
            ):
                column.append(float(number))
            bar.update(history)
    return _gathered(rows, draws, failed)


@dataclass(frozen=True)
class _Row:
    """One simulation: numbers by statistic."""

    seeds: tuple[int, int]
    ranks: dict[str, int]
    ties: dict[str, float]
    autocorrelation: dict[str, float]


@dataclass(frozen=True)
class _Ranking:
    story: Any
    fit_one: FitOne
    draws: int
    statistics: Statistics
    simulate: Simulate

    def __call__(self, truth_seed: int, fit_seed: int) -> _Row:
        with seeded(truth_seed):
            latents, graph = self.simulate(truth_seed)
        truth = {n: torch.as_tensor(v) for n, v in latents.items()}
        with seeded(
            fit_seed
        ):  # another stream: an inference must not repeat how the truth was drawn
            found = self.fit_one(graph, fit_seed)
            values = _draws_of(self.story, found, truth, self.draws)
        numbers = self.statistics(
            {n: torch.cat((_exact(truth[n])[None], v)) for n, v in values.items()}, graph
        )
        generator = np.random.default_rng((truth_seed, fit_seed))
        row = _Row((truth_seed, fit_seed), {}, {}, {})
        for name, value in numbers.items():
            x = np.asarray(value, dtype=float)
            if x.shape != (self.draws + 1,):
                raise ValueError(
                    f"statistic {name!r} must be a number a draw, ({self.draws + 1},), not {x.shape}"
                )
            if np.isnan(x).any():
                raise ValueError(f"statistic {name!r} is not a number for some draw")
            equal = int((x[1:] == x[0]).sum())
            row.ranks[name] = int((x[1:] < x[0]).sum() + generator.integers(equal + 1))
            row.ties[name] = equal / self.draws
            row.autocorrelation[name] = _lag_one(x[1:])
        return row


def _gathered(rows: list[_Row], draws: int, failed: dict[int, str]) -> SBC:
    names = list(rows[0].ranks)
    coords = {
        "simulation": np.arange(len(rows)),
        "seed": ("simulation", [r.seeds[0] for r in rows]),
        "fit_seed": ("simulation", [r.seeds[1] for r in rows]),
    }
    ranks = {n: ("simulation", np.array([r.ranks[n] for r in rows])) for n in names}

    def mean(of: Callable[[_Row], dict[str, float]], name: str) -> float:
        known = [x for r in rows if np.isfinite(x := of(r)[name])]
        return float(np.mean(known)) if known else float("nan")

    return SBC(
        xr.Dataset(ranks, coords=coords, attrs={"draws": draws}),
        draws,
        {n: mean(lambda r: r.ties, n) for n in names},
        {n: mean(lambda r: r.autocorrelation, n) for n in names},
        failed,
    )


def _lag_one(x: np.ndarray) -> float:
    """Autocorrelation of neighbours, corrected for the mean being their own; NaN where nothing moves."""
    if not np.isfinite(x).all() or x.std() <= 1e-12 * (1.0 + np.abs(x).max()):
        return float("nan")
    centred = x - x.mean()
    return float((centred[1:] * centred[:-1]).sum() / (centred**2).sum() + 1.0 / len(x))


def _words(row: Any, level: float) -> str:
    if not np.isfinite(row.p):
        return "never moves: says nothing"
    if row.p_holm > level:
        return "uniform, as far as can be seen"
    said = []
    if abs(row.spread) > _CLEAR:
        u = "over-confident: draws too narrow (U)"
        said.append(u if row.spread > 0 else "under-confident: draws too wide (hump)")
    if abs(row.bias) > _CLEAR:
        side = "low: truths lie above them" if row.bias > 0 else "high: truths lie below them"
        said.append(f"biased: draws too {side} (slope)")
    return " and ".join(said) or "not uniform, in no simple way: look at the picture"


# -- draws of an inference ----------------------------------------------------------------------------------------


def _draws_of(story: Any, found: Any, truth: Values, draws: int) -> Values:
    """Latents (draws, ...) in the shapes of the truth, whatever an inference gave."""
    if isinstance(found, Fit):
        found = _of_fit(found, draws)
    elif hasattr(found, "posterior"):
        found = _of_arviz(story, found.posterior, truth)
    if not isinstance(found, Mapping):
        raise ValueError(
            f"fit_one returns a Fit, ArviZ data, or latents by site, not {type(found).__name__}"
        )
    lacking = sorted(truth.keys() - found.keys())
    if lacking:
        raise ValueError(f"the draws of fit_one lack the latents {lacking}")
    values = {}
    for name, true in truth.items():
        value = torch.as_tensor(found[name]).detach().cpu()
        if value.shape[1:] != true.shape:
            raise ValueError(
                f"draws of {name!r} are {tuple(value.shape)}, not (draws, {', '.join(map(str, true.shape))})"
            )
        if len(value) < draws:
            raise ValueError(
                f"fit_one gave {len(value)} draws of {name!r}, draws={draws} are asked for"
            )
        kept = torch.arange(draws) * len(value) // draws
        values[name] = _exact(value[kept]).to(_exact(true).dtype)
    return values


def _exact(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _of_fit(fitted: Fit, draws: int) -> Values:
    story, guide = fitted.story, fitted.guide
    with evaluation_mode(story, guide), exact_memberships(story, guide):
        return guide_draws(story, guide, fitted.graph, draws)


def _of_arviz(story: Any, posterior: Any, truth: Values) -> dict[str, Tensor]:
    """Chains laid end to end; tables as the free entries that the story draws."""
    found = {}
    for name, true in truth.items():
        if name not in posterior:
            continue
        value = posterior[name].transpose("chain", "draw", ...).values
        value = torch.as_tensor(np.ascontiguousarray(value)).flatten(0, 1)
        if isinstance(story, NodeStory) and "community_to" in story.dims.get(name, ()):
            place = story.table(torch.eye(len(true))).flatten(1).argmax(1)
            value = value.flatten(1)[:, place]
        found[name] = value
    return found


# -- inferences to check ------------------------------------------------------------------------------------------


def sbc_fit(
    story: NodeStory,
    guide: Callable[[Any, Graph], Any],
    settings: FitSettings | None = None,
    **options: Any,
) -> FitOne:
    """The variational fit, as :func:`sbc` calls it: a new guide for every graph, with the seed of the simulation.

    Arguments:
        story: the story that is checked; every fit has a copy, whose weights and buffers stay as they are.
        guide: called as ``guide(story, graph)``: a class of :mod:`~graphlore.guides`, or ``functools.partial`` of one.
        settings: how to fit, but for the seed; or give its fields as ``options``.
    """
    if settings is not None and options:
        raise ValueError(f"give settings or options, not both: {sorted(options)}")
    told = (FitSettings(**options) if settings is None else settings).to_dict()

    def fit_one(graph: Graph, seed: int) -> Fit:
        copied = copy.deepcopy(story).requires_grad_(False)
        chosen = FitSettings.from_dict({**told, "seed": seed})
        return fit(copied, guide(copied, graph), graph, chosen, progress=False)

    return fit_one


def sbc_mcmc(
    story: NodeStory,
    *,
    draws: int = 500,
    warmup: int = 200,
    chains: int = 1,
    **kernel: Any,
) -> FitOne:
    """:func:`fit_mcmc`, as :func:`sbc` calls it. Several times more draws than are ranked leave room for thinning.

    Arguments:
        story: the story that is checked.
        draws, warmup, chains, kernel: of :func:`fit_mcmc`.
    """

    def fit_one(graph: Graph, seed: int) -> Any:
        return fit_mcmc(
            story,
            graph,
            draws=draws,
            warmup=warmup,
            chains=chains,
            seed=seed,
            predictive_draws=0,
            progress=False,
            **kernel,
        )

    return fit_one
