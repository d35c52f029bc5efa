"""The SVI loop: seeds, schedule, clipping, warm-up, validation, checkpoints, the stop at the first NaN."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ..data import Graph, Split
from ..models.concrete import Concrete
from . import checkpoint
from .elbo import DyadicELBO, InferenceError
from .fitted import Fit
from .local_expectation import LocalExpectationELBO
from .metrics import ranking_scores
from .predict import link_probabilities
from .progress import ProgressBar
from .seeds import seeded
from .settings import FitSettings

__all__ = ["fit"]

Callback = Callable[[int, dict[str, list[float]]], None]
Validation = tuple[Tensor, Tensor]

_SMALL = 500  # nodes


def fit(
    story: nn.Module,
    guide: nn.Module,
    graph: Graph | Split,
    settings: FitSettings | None = None,
    *,
    validation: Validation | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Fit:
    """Fit a guide to a story and a graph by stochastic variational inference.

    Arguments:
        story: the generative story, called as ``story(graph)``.
        guide: its guide, called as ``guide(graph)``. Both are changed in place.
        graph: what is observed; of a :class:`~graphlore.data.Split` the training graph is, and its validation pairs
            choose the best state.
        settings: how to fit; or give its fields as ``options``.
        validation: dyads (2, P) and their truth (P,); the state with the best mean of AUC and AP is the result.
        folder: where checkpoints go; none are written without it.
        resume: go on from the checkpoint in ``folder``, to the same result as if never interrupted.
        progress: show a bar (or, where there is no terminal, a line now and then); None: only on a terminal.
        callbacks: called after every step with the step and the history so far.

    Returns:
        a :class:`Fit`: weights, history, settings and what can be asked of the posterior.

    Raises:
        ValueError: settings that contradict each other or the story.
        InferenceError: an objective or gradient that is not finite. Story and guide then hold the last good state,
            and so does the checkpoint.
    """
    if settings is not None and options:
        raise ValueError(f"give settings or options, not both: {sorted(options)}")
    settings = FitSettings(**options) if settings is None else settings
    if isinstance(graph, Split):
        validation = (
            graph.pairs("val") if validation is None and graph.val_edges.numel() else validation
        )
        graph = graph.train
    if resume and folder is None:
        raise ValueError("resume=True needs the folder that holds the checkpoint")
    device = torch.device(settings.device)
    graph = graph.to(device)
    story.to(device)
    guide.to(device)
    if validation is not None:
        validation = (validation[0].to(device), validation[1].to(device))

    elbo = _estimator(settings)
    run = _Run.start(story, guide, elbo, settings)
    file = None if folder is None else Path(folder) / "checkpoint.safetensors"
    if resume:
        assert file is not None
        checkpoint.load(file, run.state(), settings)

    bar = ProgressBar.choose(settings.steps + settings.settle, progress)
    with (
        seeded(settings.seed, device),
        _relaxed(story, guide, settings),
        pyro.get_param_store().scope(),  # fits never meet in Pyro's global store
        _threads(graph),
        bar,
    ):
        if resume:
            checkpoint.load_random_state(run.random_state)
        try:
            _loop(run, graph, validation, settings, file, bar, callbacks)
        finally:
            guide.requires_grad_(True)
            story.eval()
            guide.eval()
    return Fit(
        story=story,
        guide=guide,
        graph=graph,
        settings=settings,
        history=run.history,
        best_step=run.best_step,
    )


@contextmanager
def _threads(graph: Graph) -> Iterator[None]:
    """One thread for a small graph: its operations are shorter than it takes to share them out."""
    before = torch.get_num_threads()
    try:
        if graph.num_nodes <= _SMALL:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def _estimator(settings: FitSettings) -> DyadicELBO:
    if settings.gradient == "local_expectation":
        return LocalExpectationELBO(
            columns=settings.expectation_columns, num_particles=settings.num_particles
        )
    return DyadicELBO(local=settings.gradient != "reinforce", num_particles=settings.num_particles)


@dataclass
class _Run:
    """Everything a checkpoint holds."""

    story: nn.Module
    guide: nn.Module
    elbo: DyadicELBO
    optimizer: torch.optim.Optimizer
    history: dict[str, list[float]]
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    settled: int = 0
    best_step: int | None = None
    best_score: float = -math.inf
    waited: int = 0
    seconds: float = 0.0
    random_state: Tensor | None = None

    @classmethod
    def start(
        cls, story: nn.Module, guide: nn.Module, elbo: DyadicELBO, settings: FitSettings
    ) -> _Run:
        parameters = [p for m in (story, guide) for p in m.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        names = (
            "step",
            "objective",
            "elbo",
            "kl",
            "active_communities",
            "seconds",
            "val_step",
            "val_auc",
            "val_ap",
        )
        run = cls(story, guide, elbo, optimizer, {n: [] for n in names})
        if settings.averaging:
            run.average = {k: v.detach().clone() for k, v in run.weights().items()}
        return run

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{part}.{k}": v
            for part, module in (("story", self.story), ("guide", self.guide))
            for k, v in module.state_dict().items()
        }

    def put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for k, v in self.weights().items():
                v.copy_(weights[k])

    def update_average(self, decay: float) -> None:
        # an early average would remember the initial weights for 1 / (1 - decay) steps: start with a short memory
        decay = min(decay, (1.0 + self.step) / (10.0 + self.step))
        for k, v in self.weights().items():
            self.average[k].lerp_(v.detach().to(self.average[k].dtype), 1.0 - decay)

    def choose(self) -> None:
        """Take the state that validation chose, or else the average, as the result."""
        if self.best:
            self.put(self.best)
        elif self.average:
            self.put(self.average)

    def rest_encoder(self) -> None:
        """No dropout, and no change of the encoder: what is left to train meets the posterior that is used."""
        self.guide.eval()
        for name, module in self.guide.named_children():
            if name == "encoder":
                module.requires_grad_(False)

    def forget_momentum(self) -> None:
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if key != "step":
                    value.zero_()

    def is_patience_over(self, settings: FitSettings) -> bool:
        return settings.patience is not None and self.waited >= settings.patience

    def state(self) -> checkpoint.State:
        return checkpoint.State(self)


def _loop(
    run: _Run,
    graph: Graph,
    validation: Validation | None,
    settings: FitSettings,
    file: Path | None,
    bar: ProgressBar,
    callbacks: Sequence[Callback],
) -> None:
    started = time.perf_counter() - run.seconds
    good = _LastGood(run)

    def advance(first: bool) -> None:
        _step(run, graph, settings, good, file, first)
        run.seconds = time.perf_counter() - started
        run.history["seconds"].append(run.seconds)
        if validation is not None and not run.settled and _is_due(run.step, settings):
            _validate(run, graph, validation, settings)
        bar.update(run.history)
        for callback in callbacks:
            callback(run.step - 1, run.history)
        if run.step % settings.checkpoint_every == 0:
            good.keep()
            if file is not None:
                checkpoint.save(file, run.state(), settings)

    run.story.train()
    run.guide.train()
    first = True
    while run.step < settings.steps and not run.settled and not run.is_patience_over(settings):
        advance(first)
        first = False
    if not run.settled:
        run.choose()
        run.forget_momentum()
        good.keep()
    run.rest_encoder()
    while run.settled < settings.settle:
        run.settled += 1
        advance(first)
        first = False


def _step(
    run: _Run, graph: Graph, settings: FitSettings, good: _LastGood, file: Path | None, first: bool
) -> None:
    step = run.step
    for group in run.optimizer.param_groups:
        group["lr"] = (
            0.2 * settings.learning_rate if run.settled else _learning_rate(step, settings)
        )
    run.elbo.kl_weight = settings.kl_weight if run.settled else settings.kl_weight_at(step)
    run.optimizer.zero_grad(set_to_none=True)
    # Pyro's checks speak on the first step; after that they only cost time
    with nullcontext() if first else pyro.validation_enabled(False):
        loss = run.elbo.differentiable_loss(run.story, run.guide, graph)
    loss.backward()
    value, norm = loss.item(), _clip(run.optimizer, settings.clip, graph)
    if not (math.isfinite(value) and math.isfinite(norm)):
        good.put_back()
        kept = "" if file is None or not file.exists() else f", which {file} keeps"
        raise InferenceError(
            f"step {step}: the objective is {-value:.4g} and the norm of its gradient {norm:.4g}. Story and guide "
            f"hold the last good state{kept}. A smaller learning_rate or clip usually helps"
        )
    run.optimizer.step()
    run.step += 1
    if settings.averaging and not run.settled:
        run.update_average(settings.averaging)
    run.history["step"].append(step)
    run.history["objective"].append(-value)
    run.history["elbo"].append(run.elbo.last["elbo"])
    run.history["kl"].append(run.elbo.last["kl"])
    run.history["active_communities"].append(run.elbo.last.get("active", math.nan))


class _LastGood:
    """The weights to go back to when a step breaks down."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.keep()

    def keep(self) -> None:
        self.weights = {k: v.clone() for k, v in self.run.weights().items()}

    def put_back(self) -> None:
        self.run.put(self.weights)


def _is_due(done: int, settings: FitSettings) -> bool:
    return done % settings.validate_every == 0 or done == settings.steps


def _clip(optimizer: torch.optim.Optimizer, clip: float | None, graph: Graph) -> float:
    """Clip the gradient to ``clip`` nats a node and unit of weight; its norm before that."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    limit = math.inf if clip is None else clip * graph.num_nodes
    return nn.utils.clip_grad_norm_(parameters, limit).item()


def _learning_rate(step: int, settings: FitSettings) -> float:
    if settings.schedule == "constant":
        return settings.learning_rate
    fall = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * (0.01 + 0.99 * fall)


def _validate(run: _Run, graph: Graph, validation: Validation, settings: FitSettings) -> None:
    """Score the current (averaged) weights with exact memberships; keep them if they are the best so far."""
    pairs, truth = validation
    raw = {k: v.clone() for k, v in run.weights().items()}
    if run.average:
        run.put(run.average)
    with _exact(run.story, run.guide), seeded(settings.seed, settings.device):
        p = link_probabilities(run.story, run.guide, graph, pairs, draws=settings.validation_draws)
    auc, ap = ranking_scores(p, truth)
    run.history["val_step"].append(run.step - 1)
    run.history["val_auc"].append(auc)
    run.history["val_ap"].append(ap)
    if run.step >= settings.warm_after:  # before that the objective is not yet the one asked for
        run.waited += 1
        if 0.5 * (auc + ap) > run.best_score:
            run.best_score, run.best_step, run.waited = 0.5 * (auc + ap), run.step - 1, 0
            run.best = {k: v.clone() for k, v in run.weights().items()}
    run.put(raw)


@contextmanager
def _exact(story: Any, guide: Any) -> Iterator[None]:
    with _set_relaxation(story, None), _set_relaxation(guide, None):
        yield


@contextmanager
def _set_relaxation(module: Any, relaxation: Concrete | None) -> Iterator[None]:
    if not hasattr(module, "relaxation"):
        yield
        return
    before = module.relaxation
    module.relaxation = relaxation
    try:
        yield
    finally:
        module.relaxation = before


def _relaxed(story: Any, guide: Any, settings: FitSettings) -> AbstractContextManager[Any]:
    """Story and guide with the memberships that the gradient estimator works on."""
    relaxed = [m for m in (story, guide) if getattr(m, "relaxation", None) is not None]
    if settings.gradient != "concrete":
        if relaxed:
            raise ValueError(
                f"gradient={settings.gradient!r} is for exact memberships, but the story or the guide was made with "
                "a relaxation: use gradient='concrete', or make them without one"
            )
        return nullcontext()
    if not (hasattr(story, "relaxation") and hasattr(guide, "relaxation")):
        raise ValueError("gradient='concrete' needs a story and a guide with memberships to relax")
    return _both_relaxed(story, guide, *map(Concrete, settings.concrete_temperatures))


@contextmanager
def _both_relaxed(story: Any, guide: Any, prior: Concrete, posterior: Concrete) -> Iterator[None]:
    with _set_relaxation(story, prior), _set_relaxation(guide, posterior):
        yield
