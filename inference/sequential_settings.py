"""How the stories of many graphs are fitted: one frozen object for each of the two ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..data.orders import NodeOrder
from ..models.base import check_count
from .sequential_terms import Baseline

__all__ = ["OrderedSettings", "SequentialSettings"]


@dataclass(frozen=True)
class SequentialSettings:
    r"""How :func:`fit_sequential` climbs.

    With ``information`` and ``marginal`` 0 and after the warm-up the objective is the ELBO; see
    :func:`~graphlore.inference.sequential_terms.surrogate`.

    Attributes:
        epochs: passes over the graphs.
        batch_size: graphs a step; None takes all of them.
        orders: sampled construction orders a graph and step.
        learning_rate: of Adam; falls to a tenth along a half cosine.
        warmup: epochs over which the weight of the KL terms (that of ``marginal`` among them) rises linearly from 0.
        information: weight :math:`\alpha` of the mutual-information term.
        marginal: further weight :math:`\lambda` of KL(q(z) || p(z)). With either the objective is not a bound.
        baseline: of the REINFORCE terms: "step" or "order", from the other orders of a graph; "guide", the
            destructor's own; or "none".
        clip: largest norm of the gradient.
        seed: of everything random.
    """

    epochs: int = 400
    batch_size: int | None = 25
    orders: int = 4
    learning_rate: float = 3e-3
    warmup: int = 100
    information: float = 0.0
    marginal: float = 0.0
    baseline: Baseline = "step"
    clip: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("orders", 1),
            ("warmup", 0),
            ("information", 0),
            ("marginal", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is at least {least}, not {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is positive, not {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is None or at least 1, not {self.batch_size}")
        if self.baseline not in ("step", "order", "guide", "none"):
            raise ValueError(
                f"baseline is 'step', 'order', 'guide' or 'none', not {self.baseline!r}"
            )
        if self.baseline in ("step", "order") and self.orders < 2:
            raise ValueError(f"baseline={self.baseline!r} needs at least two orders a graph")


@dataclass(frozen=True)
class OrderedSettings:
    """How :func:`fit_ordered` climbs.

    Attributes:
        order: of the nodes, "breadth-first", "depth-first", "given", or "random": a fresh one a graph and step.
        epochs: passes over the graphs.
        batch_size: graphs a step.
        learning_rate: of Adam; falls to a tenth along a half cosine.
        clip: largest norm of the gradient.
        seed: of batches and orders.
    """

    order: NodeOrder | Literal["random"] = "breadth-first"
    epochs: int = 100
    batch_size: int = 25
    learning_rate: float = 3e-3
    clip: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs, "the number of passes over the graphs")
        check_count("batch_size", self.batch_size, "the number of graphs a step")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is positive, not {getattr(self, name)}")
        if self.order not in ("breadth-first", "depth-first", "given", "random"):
            raise ValueError(
                f"order is breadth-first, depth-first, given or random, not {self.order!r}"
            )
