"""Seconds and memory of a step as a sum of terms of the graph's and the model's size, fitted to measurements.

============ =======================================================================================
mode         what a step's cost is a combination of, with coefficients that are not negative
============ =======================================================================================
exact        1, N K, E K, N^2 (K + c)
sampled      1, N K, E K
batches      1, N (places and, with one-hot inputs, the optimiser), a constant times K
============ =======================================================================================

Coefficients minimise the squared *relative* error (non-negative least squares).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

__all__ = ["CostModel", "Measured"]

_BESIDE = 40  # passes over a tile that do not grow with K, in units of K


@dataclass(frozen=True)
class Measured:
    """A step: its mode and sizes, seconds, resident bytes before the fit and at its peak."""

    mode: str
    nodes: int
    edges: int
    K: int
    seconds: float = 0.0
    loaded: int = 0
    peak: int = 0


Term = Callable[[Measured], float]
_COMMON: dict[str, Term] = {"1": lambda m: 1.0}
_TIME: dict[str, dict[str, Term]] = {
    "exact": {
        **_COMMON,
        "N K": lambda m: m.nodes * m.K,
        "E K": lambda m: m.edges * m.K,
        f"N^2 (K + {_BESIDE})": lambda m: m.nodes**2 * (m.K + _BESIDE),
    },
    "sampled": {
        **_COMMON,
        "N K": lambda m: m.nodes * m.K,
        "E K": lambda m: m.edges * m.K,
        "E": lambda m: m.edges,
    },
    "batches": {**_COMMON, "N": lambda m: m.nodes, "K": lambda m: m.K},
}
_MEMORY: dict[str, Term] = {
    **_COMMON,
    "N": lambda m: m.nodes,
    "E": lambda m: m.edges,
    "N K": lambda m: m.nodes * m.K,
}


@dataclass(frozen=True)
class CostModel:
    """Coefficients by term, of seconds and of bytes."""

    mode: str
    time: dict[str, float]
    memory: dict[str, float]

    @classmethod
    def fitted(cls, rows: Sequence[Measured]) -> CostModel:
        mode = rows[0].mode
        return cls(
            mode,
            _least_squares(_TIME[mode], rows, [r.seconds for r in rows]),
            _least_squares(_MEMORY, rows, [float(r.peak) for r in rows]),
        )

    @classmethod
    def each_left_out(cls, rows: Sequence[Measured]) -> list[CostModel]:
        """For each row the model of the others."""
        return [cls.fitted([r for r in rows if r is not out]) for out in rows]

    def seconds(self, m: Measured) -> float:
        return sum(c * _TIME[self.mode][t](m) for t, c in self.time.items())

    def bytes(self, m: Measured) -> float:
        return sum(c * _MEMORY[t](m) for t, c in self.memory.items())

    def told(self) -> str:
        def words(found: dict[str, float]) -> str:
            return " + ".join(f"{c:.2e} {t}" for t, c in found.items() if c) or "0"

        return f"- {self.mode}: {words(self.time)} seconds; {words(self.memory)} bytes"


def _least_squares(
    terms: dict[str, Term], rows: Sequence[Measured], y: Sequence[float]
) -> dict[str, float]:
    x = np.array([[term(r) for term in terms.values()] for r in rows]) / np.array(y)[:, None]
    scale = x.max(0)
    found, _ = nnls(x / scale, np.ones(len(rows)))
    return dict(zip(terms, (found / scale).tolist(), strict=True))
