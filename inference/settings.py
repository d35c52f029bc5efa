"""The settings of a fit: one frozen object, validated when made, written beside the results."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

__all__ = ["FitSettings", "Gradient", "check_device"]

Gradient = Literal[
    "dyadic",
    "local_expectation",
    "reinforce",
    "concrete",
    "disarm",
    "straight_through",
    "expectation",
]
Schedule = Literal["constant", "cosine"]
Precision = Literal["highest", "high", "medium"]


@dataclass(frozen=True)
class FitSettings:
    """How to fit. The command line and :func:`~graphlore.inference.fit` take the same words.

    Attributes:
        steps: gradient steps.
        learning_rate: of Adam, at the start.
        schedule: "cosine" lets the learning rate fall to a hundredth along half a cosine; "constant" keeps it.
        weight_decay: decoupled weight decay (AdamW) of the weights, 0 for Adam.
        clip: largest norm of the gradient, in nats per unit; None does not clip.
        gradient: estimator for the memberships. "dyadic": exact Bernoulli, every node rewarded by its own dyads;
            "local_expectation": exact, every value of every membership (bit or block) priced, no score function;
            "expectation": block memberships summed out, where the likelihood is linear in each (SBM);
            "reinforce": exact Bernoulli, every node rewarded by the whole graph (Pyro's); "concrete": the relaxation
            (temperatures below), biased for the exact story; "disarm": exact Bernoulli, two antithetic draws a step,
            every node rewarded by the difference of its own dyads between them; "straight_through": exact Bernoulli
            in the objective, with the derivative of the probabilities in place of that of the draws, biased.
        concrete_temperatures: (story, guide), for gradient="concrete" alone.
        expectation_columns: other nodes (and feature columns) that a flipped membership is priced on in a step, drawn
            anew with exact weights; all of them if there are no more. For gradient="local_expectation" alone.
        batch_edges: present dyads that a step is told of, drawn anew with exact weights
            (:class:`~graphlore.data.DyadBatches`); 0: every step is told of the whole graph.
        batch_nodes: nodes of the block whose absent dyads, labels and divergences stand for all; with batch_edges.
        batch_neighbours: neighbours of a node that an encoder reads in a step; with batch_edges.
        num_particles: draws a gradient is averaged over; pairs of draws for gradient="disarm".
        kl_weight: weight of the divergence from the prior; 1 is the ELBO, anything else tempers and is recorded.
        kl_warmup: steps over which that weight rises from a hundredth; 0 is off.
        kl_hold: steps at a hundredth of that weight before it rises, with kl_warmup.
        settle: steps after the others, from the chosen state, with dropout off and the encoder at rest: what dropout
            moved in the story's weights and biases settles on the posterior that is used. 0 is off.
        remove_every: steps between removal moves, which empty communities that the bound does without (SBM and LFRM
            with amortised=False; see :mod:`~graphlore.inference.removal`), after the warm-up; 0 is off.
        averaging: decay of an exponential moving average of the weights, which then is the result; 0 is off.
        validate_every: steps between validations, when there is something to validate on.
        validation_draws: posterior draws a validation averages over.
        patience: stop after so many validations without a better one; None never stops early.
        seed: of everything random in the fit.
        device: where the fit runs, as torch names it.
        matmul_precision: of products of float32 matrices in training, as torch names it: "highest" is float32; "high"
            lets a GPU use TF32 (10 bits), "medium" bfloat16 (7 bits), with sums in float32. Validation and what is
            asked of the fit afterwards are always at the highest.
        checkpoint_every: steps between checkpoints, when there is a folder to write them to.

    Raises:
        ValueError: a value outside its range, naming it and what is allowed.
    """

    steps: int = 2000
    learning_rate: float = 0.01
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    clip: float | None = 100.0
    gradient: Gradient = "dyadic"
    concrete_temperatures: tuple[float, float] = (0.5, 1.0)
    expectation_columns: int = 128
    batch_edges: int = 0
    batch_nodes: int = 1024
    batch_neighbours: int = 10
    num_particles: int = 1
    kl_weight: float = 1.0
    kl_warmup: int = 0
    kl_hold: int = 0
    settle: int = 0
    remove_every: int = 0
    averaging: float = 0.0
    validate_every: int = 25
    validation_draws: int = 20
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    matmul_precision: Precision = "highest"
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        counts = "steps expectation_columns num_particles validate_every validation_draws checkpoint_every"
        for name in (*counts.split(), "batch_neighbours"):
            _require(
                _is_whole(value := getattr(self, name)) and value >= 1,
                name,
                value,
                "at least 1, a whole number",
            )
        for name in ("kl_warmup", "kl_hold", "settle", "remove_every", "seed", "batch_edges"):
            _require(
                _is_whole(value := getattr(self, name)) and value >= 0,
                name,
                value,
                "not negative, a whole number",
            )
        nodes = self.batch_nodes
        _require(
            _is_whole(nodes) and nodes >= 2, "batch_nodes", nodes, "at least 2, a whole number"
        )
        for name in ("learning_rate", "kl_weight"):
            _require(
                _is_number(value := getattr(self, name)) and value > 0,
                name,
                value,
                "positive, a number",
            )
        decay, averaging = self.weight_decay, self.averaging
        _require(_is_number(decay) and decay >= 0, "weight_decay", decay, "not negative")
        _require(_is_number(averaging) and 0 <= averaging < 1, "averaging", averaging, "in [0, 1)")
        clip, patience, temperatures = self.clip, self.patience, self.concrete_temperatures
        _require(clip is None or (_is_number(clip) and clip > 0), "clip", clip, "positive or None")
        _require(
            patience is None or (_is_whole(patience) and patience >= 1),
            "patience",
            patience,
            "at least 1 or None",
        )
        _require(
            isinstance(temperatures, tuple)
            and len(temperatures) == 2
            and all(_is_number(t) and t > 0 for t in temperatures),
            "concrete_temperatures",
            temperatures,
            "positive, two numbers: of the story, of the guide",
        )
        for name, kind in (
            ("schedule", Schedule),
            ("gradient", Gradient),
            ("matmul_precision", Precision),
        ):
            choices = get_args(kind)
            _require(
                getattr(self, name) in choices,
                name,
                getattr(self, name),
                f"one of {choices}",
            )
        check_device(self.device)

    def kl_weight_at(self, step: int) -> float:
        """Weight of the divergence in step 0, 1, ..."""
        if not self.kl_warmup:
            return self.kl_weight
        return self.kl_weight * min(1.0, max(0.01, (step + 1 - self.kl_hold) / self.kl_warmup))

    @property
    def warm_after(self) -> int:
        """Steps until the divergence has its full weight; only later states are candidates for the best one."""
        return self.kl_hold + self.kl_warmup if self.kl_warmup else 0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FitSettings:
        """The inverse of :meth:`to_dict`, from JSON too (lists for tuples).

        Raises:
            ValueError: no table of settings, one that is not known, or a value outside its range.
        """
        if not isinstance(values, dict):
            raise ValueError(f"fit settings are a table of names and values, not {values!r:.60}")
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(map(str, set(values) - known))
        if unknown:
            shown = ", ".join(f"{name:.40}" for name in unknown[:10])
            raise ValueError(
                f"unknown fit setting(s) {shown}; known are {', '.join(sorted(known))}"
            )
        fixed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fixed)


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {value!r:.60}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_device(device: object) -> None:
    """Refuse a device that is not here.

    Raises:
        ValueError: as said.
    """
    try:
        found = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(
            f"device must be one that torch knows (cpu, cuda, cuda:0, mps), not {device!r:.60}"
        ) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices"
        )
