"""The settings of a fit: one frozen object, validated when made, written beside the results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = ["FitSettings", "Gradient"]

Gradient = Literal["dyadic", "local_expectation", "reinforce", "concrete"]
Schedule = Literal["constant", "cosine"]


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
            "local_expectation": exact Bernoulli, both values of every membership priced, no score function;
            "reinforce": exact Bernoulli, every node rewarded by the whole graph (Pyro's); "concrete": the relaxation
            (temperatures below), biased for the exact story.
        concrete_temperatures: (story, guide), for gradient="concrete" alone.
        expectation_columns: other nodes (and feature columns) that a flipped membership is priced on in a step, drawn
            anew with exact weights; all of them if there are no more. For gradient="local_expectation" alone.
        num_particles: draws a gradient is averaged over.
        kl_weight: weight of the divergence from the prior; 1 is the ELBO, anything else tempers and is recorded.
        kl_warmup: steps over which that weight rises from a hundredth; 0 is off.
        kl_hold: steps at a hundredth of that weight before it rises, with kl_warmup.
        settle: steps after the others, from the chosen state, with dropout off and the encoder at rest: what dropout
            moved in the story's weights and biases settles on the posterior that is used. 0 is off.
        averaging: decay of an exponential moving average of the weights, which then is the result; 0 is off.
        validate_every: steps between validations, when there is something to validate on.
        validation_draws: posterior draws a validation averages over.
        patience: stop after so many validations without a better one; None never stops early.
        seed: of everything random in the fit.
        device: where the fit runs, as torch names it.
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
    num_particles: int = 1
    kl_weight: float = 1.0
    kl_warmup: int = 0
    kl_hold: int = 0
    settle: int = 0
    averaging: float = 0.0
    validate_every: int = 25
    validation_draws: int = 20
    patience: int | None = None
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "num_particles",
            "validate_every",
            "validation_draws",
            "checkpoint_every",
        ):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "kl_weight"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("weight_decay", "kl_warmup", "kl_hold", "settle", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "not negative")
        _require(self.clip is None or self.clip > 0, "clip", self.clip, "positive or None")
        _require(0 <= self.averaging < 1, "averaging", self.averaging, "in [0, 1)")
        _require(
            self.patience is None or self.patience >= 1,
            "patience",
            self.patience,
            "at least 1 or None",
        )
        _require(
            min(self.concrete_temperatures) > 0,
            "concrete_temperatures",
            self.concrete_temperatures,
            "positive",
        )
        _require(
            self.schedule in get_args(Schedule),
            "schedule",
            self.schedule,
            f"one of {get_args(Schedule)}",
        )
        _require(
            self.gradient in get_args(Gradient),
            "gradient",
            self.gradient,
            f"one of {get_args(Gradient)}",
        )

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
        """The inverse of :meth:`to_dict`, from JSON too (lists for tuples)."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown fit setting(s) {unknown}; known are {sorted(known)}")
        fixed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fixed)


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, not {value!r}")
