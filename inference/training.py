"""The SVI loop: seeds, schedule, clipping, warm-up, validation, checkpoints, the stop at the first NaN."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ..data import DyadBatch, Graph, Split
from ..models.processes import Processes
from .batches import told_of
from .checkpoint import Checkpoints, goes_on
from .disarm import DisarmELBO
from .elbo import DyadicELBO
from .expectation import ExpectationELBO
from .fitted import Fit
from .held_out import HeldOut, HeldOutLabels, HeldOutLinks, chosen_by
from .job import average_gradients, join_job, lost_is_told, own_device, same_everywhere
from .local_expectation import LocalExpectationELBO
from .lock import locked
from .memory import check_fit_memory
from .progress import ProgressBar
from .relaxation import as_fitted, exact_memberships
from .removal import check_removals, remove_communities
from .run import Run
from .seeds import seeded
from .settings import FitSettings

__all__ = ["fit"]

Callback = Callable[[int, dict[str, list[float]]], None]

_SMALL = 500  # nodes
#: how Pyro and torch refuse a parameter that is NaN, and nothing else
_NO_NUMBER = re.compile(r"to satisfy the constraint .*\bnan\b|p_in >= 0", re.DOTALL)


def fit(
    story: nn.Module,
    guide: nn.Module,
    graph: Graph | Split,
    settings: FitSettings | None = None,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    label_validation: tuple[Any, Any] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Fit:
    """Fit a guide to a story and a graph by stochastic variational inference.

    In a job of several processes (``torchrun``) all of them call this with the same arguments: they share the sums over
    dyads, each returns the same fit, and the first alone shows progress and writes. A job that torchrun starts anew
    after a process was lost resumes from the checkpoint in ``folder``.

    Arguments:
        story: the generative story, called as ``story(graph)``.
        guide: its guide, called as ``guide(graph)``. Both are changed in place.
        graph: what is observed; of a :class:`~graphlore.data.Split` the training graph is, and its validation pairs
            choose the best state, unless labels do.
        settings: how to fit; or give its fields as ``options``.
        validation: dyads (2, P) and their truth (P,); the state with the best mean of AUC and AP is the result.
        label_validation: nodes (P,) and their classes (P,), which ``graph`` does not hold; the state that classifies
            them with the best accuracy is the result. In place of ``validation``.
        folder: where checkpoints go; none are written without it. While the fit runs, no other process may write there.
        resume: go on from the checkpoint in ``folder``, to the same result as if never interrupted.
        progress: show a bar (or, where there is no terminal, a line now and then); None: only on a terminal.
        callbacks: called after every step with the step and the history so far.

    Returns:
        a :class:`Fit`: weights, history, settings and what can be asked of the posterior.

    Raises:
        ValueError: settings that contradict each other or the story; held-out labels that the story cannot predict or
            the graph already tells.
        InferenceError: an objective or gradient that is not finite. Story and guide then hold the last good state,
            and so does the checkpoint. Or a folder that cannot be written to, or that another process writes to; or
            a fit that takes more memory than there is.
    """
    if settings is not None and options:
        raise ValueError(f"give settings or options, not both: {sorted(options)}")
    settings = FitSettings(**options) if settings is None else settings
    if validation is not None and label_validation is not None:
        raise ValueError(
            "a state is chosen by links or by labels: give validation or label_validation, not both"
        )
    if isinstance(graph, Split):
        if validation is None and label_validation is None and graph.val_edges.numel():
            validation = graph.pairs("val")
        graph = graph.train
    if resume and folder is None:
        raise ValueError("resume=True needs the folder that holds the checkpoint")
    if settings.remove_every:
        check_removals(guide)
    check_fit_memory(story, guide, graph, settings)
    processes = join_job(settings.device)
    with locked(folder):
        resume = goes_on(resume, folder)
        device = own_device(settings.device)
        graph = graph.to(device)
        story.to(device)
        guide.to(device)
        told = told_of(story, guide, graph, settings)
        held_out: HeldOut | None = None
        if validation is not None:
            held_out = HeldOutLinks(validation[0].to(device), validation[1].to(device))
        elif label_validation is not None:
            held_out = HeldOutLabels.check(story, graph, *label_validation)

        for module in (story, guide):
            same_everywhere(module.state_dict().values(), processes)
        run = Run.start(story, guide, _estimator(settings), settings)
        checkpoints = Checkpoints(run, settings, graph, folder, held_out)
        if resume:
            checkpoints.load()
        frozen = [p for m in (story, guide) for p in m.parameters() if not p.requires_grad]
        bar = ProgressBar.choose(
            settings.steps + settings.settle, False if processes.rank else progress
        )
        with (
            seeded(settings.seed, device),
            as_fitted(story, guide, settings),
            pyro.get_param_store().scope(),  # fits never meet in Pyro's global store
            _threads(graph),
            bar,
            lost_is_told(processes, checkpoints.file),
        ):
            if resume:
                checkpoints.load_random_state()
            try:
                _loop(run, graph, told, held_out, settings, checkpoints, bar, callbacks)
            finally:
                guide.requires_grad_(True)
                for parameter in frozen:
                    parameter.requires_grad_(False)
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


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Products of float32 matrices at a precision, for the length of a block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _estimator(settings: FitSettings) -> DyadicELBO:
    if settings.gradient == "local_expectation":
        return LocalExpectationELBO(
            columns=settings.expectation_columns, num_particles=settings.num_particles
        )
    if settings.gradient == "expectation":
        return ExpectationELBO(num_particles=settings.num_particles)
    if settings.gradient == "disarm":
        return DisarmELBO(num_particles=settings.num_particles)
    return DyadicELBO(local=settings.gradient != "reinforce", num_particles=settings.num_particles)


def _loop(
    run: Run,
    graph: Graph,
    told: Callable[[], Graph],
    held_out: HeldOut | None,
    settings: FitSettings,
    checkpoints: Checkpoints,
    bar: ProgressBar,
    callbacks: Sequence[Callback],
) -> None:
    started = time.perf_counter() - run.seconds

    def advance(first: bool) -> None:
        _step(run, told(), settings, checkpoints, first)
        run.seconds = time.perf_counter() - started
        run.history["seconds"].append(run.seconds)
        if held_out is not None and not run.settled and _is_due(run.step, settings):
            _validate(run, graph, held_out, settings, checkpoints)
        if not run.settled and _removes(run.step, settings):
            remove_communities(run, graph)
        bar.update(run.history)
        for callback in callbacks:
            callback(run.step - 1, run.history)
        if run.step % settings.checkpoint_every == 0:
            checkpoints.propose()

    run.story.train()
    run.guide.train()
    first = True
    while run.step < settings.steps and not run.settled and not run.is_patience_over(settings):
        advance(first)
        first = False
    if not run.settled:
        run.choose()
        run.forget_momentum()
    run.rest_encoder()
    while run.settled < settings.settle:
        run.settled += 1
        advance(first)
        first = False
    if run.step % settings.checkpoint_every and not first:
        checkpoints.propose()  # the end is a state to go on from, too: nothing is done again
    checkpoints.finish()


def _step(
    run: Run, graph: Graph, settings: FitSettings, checkpoints: Checkpoints, first: bool
) -> None:
    step = run.step
    for group in run.optimizer.param_groups:
        group["lr"] = (
            0.2 * settings.learning_rate if run.settled else _learning_rate(step, settings)
        )
    run.elbo.kl_weight = settings.kl_weight if run.settled else settings.kl_weight_at(step)
    run.optimizer.zero_grad(set_to_none=True)
    # Pyro's checks speak on the first step; after that they only cost time
    try:
        with _products(settings.matmul_precision):
            with nullcontext() if first else pyro.validation_enabled(False):
                loss = run.elbo.differentiable_loss(run.story, run.guide, graph)
            loss.backward()
    except (ValueError, RuntimeError) as error:
        if _NO_NUMBER.search(str(error)):  # found by a distribution before the objective shows it
            raise checkpoints.break_down(step, "a parameter of a site is not a number") from None
        raise
    average_gradients(run.parameters(), Processes.of_the_job())
    value, norm = loss.item(), _clip(run.optimizer, settings.clip, graph)
    if not (math.isfinite(value) and math.isfinite(norm)):
        reason = f"the objective is {-value:.4g} and the norm of its gradient {norm:.4g}"
        raise checkpoints.break_down(step, reason)
    checkpoints.confirm()
    run.optimizer.step()
    run.step += 1
    if settings.averaging and not run.settled:
        run.update_average(settings.averaging)
    run.history["step"].append(step)
    run.history["objective"].append(-value)
    run.history["elbo"].append(run.elbo.last["elbo"])
    run.history["kl"].append(run.elbo.last["kl"])
    run.history["active_communities"].append(run.elbo.last.get("active", math.nan))


def _removes(done: int, settings: FitSettings) -> bool:
    """Whether removals are tried now: not before the warm-up ends, nor at the very end, where nothing would settle."""
    every = settings.remove_every
    return (
        bool(every) and done % every == 0 and settings.warm_after <= done <= settings.steps - every
    )


def _is_due(done: int, settings: FitSettings) -> bool:
    return done % settings.validate_every == 0 or done == settings.steps


def _clip(optimizer: torch.optim.Optimizer, clip: float | None, graph: Graph) -> float:
    """Clip the gradient to ``clip`` nats a node and unit of weight; its norm before that."""
    graph = graph.whole if isinstance(graph, DyadBatch) else graph
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    limit = math.inf if clip is None else clip * graph.num_nodes
    return nn.utils.clip_grad_norm_(parameters, limit).item()


def _learning_rate(step: int, settings: FitSettings) -> float:
    if settings.schedule == "constant":
        return settings.learning_rate
    fall = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * (0.01 + 0.99 * fall)


def _validate(
    run: Run, graph: Graph, held_out: HeldOut, settings: FitSettings, checkpoints: Checkpoints
) -> None:
    """Score the current (averaged) weights with exact memberships; keep them if they are the best so far."""
    raw = {k: v.clone() for k, v in run.weights().items()}
    if run.average:
        run.put(run.average)
    try:
        with exact_memberships(run.story, run.guide), seeded(settings.seed, settings.device):
            scores = held_out.scores(run.story, run.guide, graph, settings.validation_draws)
    except ValueError as error:  # Pyro and scikit-learn refuse what is not a number
        raise checkpoints.break_down(run.step - 1, f"validation failed ({error})") from None
    run.history["val_step"].append(run.step - 1)
    for name, score in scores.items():
        run.history[name].append(score)
    if run.step >= settings.warm_after:  # before that the objective is not yet the one asked for
        run.waited += 1
        score = chosen_by(run.history, -1)
        if score > run.best_score:
            run.best_score, run.best_step, run.waited = score, run.step - 1, 0
            run.best = {k: v.clone() for k, v in run.weights().items()}
    run.put(raw)
