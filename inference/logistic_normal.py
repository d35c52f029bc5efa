r"""Integrals of products of logistic functions under a normal law, many at once, to a stated accuracy.

.. math::
    I = \int \prod_d \sigma(y_d (x_d^\top \theta + c)) \; \mathrm{Normal}(\theta; 0, I)
        \; \mathrm{Normal}(c; 0, s_c^2) \; d\theta \, dc, \qquad y_d \in \{-1, 1\}

Only the space of the rows x_d matters, so that theta is rotated to it, and the rule chosen by its dimension r: the
trapezoidal rule on all points of a grid within a ball up to r = 4, scrambled Sobol points beyond. Both are centred at
the mode of the integrand and scaled by its curvature. The logistic function has poles at odd multiples of i pi, which
makes Gauss-Hermite rules converge slowly, while the error of the trapezoidal rule is exponentially small in its step.
c is given the trapezoidal rule too, around everything else: its prior is so wide that its law given the edges is far
from normal. Integrals are refined one by one, as long as they matter to the weighted sum that is asked for.

References:
    | The exponentially convergent trapezoidal rule (Trefethen and Weideman, SIAM Review 2014)
    | Scrambled net variance for integrals of smooth functions (Owen, Annals of Statistics 1997)
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

__all__ = ["logistic_normal_integrals"]

_ELEMENTS = 2_000_000  # natural parameters held at once
_NEWTON = 30
_GRID_RANK = 4  # largest dimension of the trapezoidal rule
_RADIUS = 7.0
_FINEST = 8  # halvings of the area of a cell, from 1
_FIRST_SOBOL, _LAST_SOBOL = 9, 17  # powers of two
_SCRAMBLES = 8
_BIAS_STEP, _BIAS_REACH = 0.5, 6.5  # of c; reach in standard deviations


def logistic_normal_integrals(
    rows: Tensor,
    signs: Tensor,
    weights: Tensor,
    bias_scale: float = 0.0,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> tuple[Tensor, float]:
    """The integrals I of the head of this file.

    Arguments:
        rows: x, (U, D, P); rows of zeros are allowed.
        signs: y, (U, D), of -1 and 1.
        weights: how much each integral matters, (U,), not negative: ``tolerance`` is of the weighted sum.
        bias_scale: s_c; 0 leaves c out.
        tolerance: relative error of the weighted sum; of Sobol points, its standard error.
        seed: of their scrambling.

    Returns:
        (I (U,) float64, estimated relative error of the weighted sum).

    Raises:
        ArithmeticError: the finest rule does not reach the tolerance.
    """
    c, c_weights = _bias_rule(bias_scale)
    B, ranks = _to_row_space(rows)
    parts = []
    for rank in ranks.unique().tolist():
        chosen = (ranks == rank).nonzero()[:, 0]
        which = chosen.repeat_interleave(len(c))
        centred = _Centred(B[which, :, :rank], signs[which].double(), c.repeat(len(chosen)))
        parts.append((which, centred, c_weights.repeat(len(chosen))))
    # what there is in all, by Laplace's approximation: only a yardstick
    size = sum(float((weights[i] * w * q.laplace()).sum()) for i, q, w in parts)
    total = torch.zeros(len(rows), dtype=torch.float64)
    variance = 0.0
    for which, centred, w in parts:
        allowed = tolerance * size / math.sqrt(len(parts))
        if centred.rank <= _GRID_RANK:
            values, error = _by_grid(centred, weights[which] * w, allowed)
        else:
            values, error = _by_sobol(centred, weights[which] * w, allowed, seed)
        total.index_add_(0, which, w * values)
        variance += error**2
    return total, math.sqrt(variance) / float((weights * total).sum())


def _bias_rule(scale: float) -> tuple[Tensor, Tensor]:
    if scale == 0.0:
        return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    step = min(_BIAS_STEP, 0.5 * scale)
    count = math.ceil(_BIAS_REACH * scale / step)
    c = step * torch.arange(-count, count + 1, dtype=torch.float64)
    return c, step / (scale * math.sqrt(2.0 * math.pi)) * torch.exp(-0.5 * (c / scale) ** 2)


def _to_row_space(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B (U, D, min(D, P)) with x_d'theta = B_d'u for u standard normal, its rank (U,)): zero columns beyond it."""
    left, singular, _ = torch.linalg.svd(rows.double(), full_matrices=False)
    kept = singular > 1e-9 * singular[:, :1].clamp(min=1e-9)
    return left * (singular * kept).unsqueeze(-2), kept.sum(-1)


class _Centred:
    """Integrands of one dimension r in the variable t, u = mode + C t.

    C C' is the inverse of I + B'WB / 2: wider than Laplace's approximation, as the tails of logistic functions are.
    """

    def __init__(self, B: Tensor, signs: Tensor, shifts: Tensor) -> None:
        self.signs, self.rank = signs, B.shape[-1]
        shifts = shifts.unsqueeze(-1)
        u = B.new_zeros(len(B), self.rank)
        eye = torch.eye(self.rank, dtype=B.dtype)
        for step in range(_NEWTON + 1):
            s = (B @ u.unsqueeze(-1)).squeeze(-1) + shifts
            p = torch.sigmoid(-signs * s)
            information = B.mT @ ((p * (1.0 - p)).unsqueeze(-1) * B)
            if step == _NEWTON:
                break
            gradient = (B.mT @ (signs * p).unsqueeze(-1)).squeeze(-1) - u
            # a centre that is not quite the mode costs accuracy, not truth: plain steps, none too long
            u = u + torch.linalg.solve(information + eye, gradient).clamp(-1.0, 1.0)
        self.mode, self.s = u, s
        self.peak = _product(signs * s) * torch.exp(-0.5 * u.square().sum(-1))
        self.log_det = torch.linalg.slogdet(information + eye).logabsdet
        root = torch.linalg.cholesky(0.5 * information + eye)
        self.C = torch.linalg.inv(root).mT
        self.volume = root.diagonal(dim1=-2, dim2=-1).prod(-1).reciprocal()
        self.directions = B @ self.C

    def laplace(self) -> Tensor:
        return self.peak * torch.exp(-0.5 * self.log_det)

    def sums(self, points: Tensor, log_weights: Tensor, chosen: Tensor) -> Tensor:
        """Weighted sums over points t (M, r) of the density over t, for chosen integrals: (chosen,)."""
        out = self.s.new_empty(len(chosen))
        step = max(1, _ELEMENTS // (len(points) * self.s.shape[-1]))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            s = self.s[part].unsqueeze(-2) + points @ self.directions[part].mT
            u = self.mode[part].unsqueeze(-2) + points @ self.C[part].mT
            density = _product(self.signs[part].unsqueeze(-2) * s)
            density = density * torch.exp(log_weights - 0.5 * u.square().sum(-1))
            out[start : start + step] = self.volume[part] * density.sum(-1)
        return out


def _product(s: Tensor) -> Tensor:
    """prod_d sigma(s_d)."""
    return torch.exp(-s).add_(1.0).prod(-1).reciprocal()


def _by_grid(problem: _Centred, weights: Tensor, allowed: float) -> tuple[Tensor, float]:
    """(integrals, what the last refinements changed the weighted sum by, at most)."""
    rank, count = problem.rank, len(weights)
    values = problem.laplace()
    if rank == 0:
        return values, 0.0
    last = torch.zeros_like(values)
    active = _those_that_matter(weights * values, allowed)
    for level in range(_FINEST + 1):
        points, log_weights = _grid(rank, level)
        found = problem.sums(points, log_weights, active)
        last[active] = weights[active] * (found - values[active]).abs()
        values[active] = found
        if float(last.sum()) <= allowed:
            return values, float(last.sum())
        active = active[last[active] > 0.5 * allowed / count]
    raise ArithmeticError(
        f"integrals over {rank} dimensions have not converged: ask for a larger tolerance"
    )


def _those_that_matter(contributions: Tensor, allowed: float) -> Tensor:
    """Ids of the integrals that are not negligible by Laplace's approximation: it is not off by a thousand."""
    return (contributions > 1e-3 * allowed / len(contributions)).nonzero()[:, 0]


@cache
def _grid(rank: int, level: int) -> tuple[Tensor, Tensor]:
    """Points of a cubic grid within a ball, (M, rank), and the logarithms of their weights for Normal densities."""
    step = 2.0 ** (-0.5 * level)
    count = math.floor(_RADIUS / step)
    axis = step * torch.arange(-count, count + 1, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * rank).reshape(-1, rank)
    points = points[points.square().sum(-1) <= _RADIUS**2]
    weight = rank * math.log(step / math.sqrt(2.0 * math.pi))
    return points, points.new_tensor(weight)


def _by_sobol(
    problem: _Centred, weights: Tensor, allowed: float, seed: int
) -> tuple[Tensor, float]:
    """(integrals, standard error of the weighted sum), from independent scrambles of Sobol's points."""
    count = len(weights)
    values = problem.laplace()
    variance = torch.zeros_like(values)
    active = _those_that_matter(weights * values, allowed)
    for power in range(_FIRST_SOBOL, _LAST_SOBOL + 1, 2):
        # scrambles of their own for every block of integrals: errors then do not add up
        for block in active.split(64):
            found = torch.stack(
                [
                    problem.sums(
                        *_sobol(problem.rank, power, seed + 1000 * int(block[0]) + i), block
                    )
                    for i in range(_SCRAMBLES)
                ]
            )
            values[block], variance[block] = found.mean(0), found.var(0) / _SCRAMBLES
        squared = weights.square() * variance
        if float(squared.sum()) <= allowed**2:
            return values, math.sqrt(float(squared.sum()))
        active = (squared > 0.5 * allowed**2 / count).nonzero()[:, 0]
    raise ArithmeticError(
        f"integrals over {problem.rank} dimensions have not converged: ask for a larger tolerance"
    )


def _sobol(rank: int, power: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scrambled Sobol points mapped to the normal law, (2^power, rank), and the logarithms of their weights."""
    uniform = SobolEngine(rank, scramble=True, seed=seed).draw_base2(power, dtype=torch.float64)
    points = torch.special.ndtri(uniform.clamp(1e-12, 1.0 - 1e-12))
    return points, 0.5 * points.square().sum(-1) - power * math.log(2.0)
