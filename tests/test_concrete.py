"""The relaxed Bernoulli: a density, the right one, and finite where memberships become hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from chance import LEVEL, smallest
from scipy import integrate, stats

from graphlore.models import Concrete, LogitConcrete

TEMPERATURES = [0.05, 0.5, 1.0, 3.0]
LOGITS = [-3.0, 0.0, 2.0]
GRID = [(t, s) for t in TEMPERATURES for s in LOGITS]


def density(temperature, logit):
    d = LogitConcrete(temperature, torch.tensor(logit, dtype=torch.float64))
    return lambda y: d.log_prob(torch.tensor(y, dtype=torch.float64)).exp().item()


def mass(temperature, logit, low, high):
    return integrate.quad(density(temperature, logit), low, high, limit=200)[0]


@pytest.mark.parametrize(("temperature", "logit"), GRID)
def test_density_integrates_to_one(temperature, logit):
    centre, far = logit / temperature, 60 / temperature  # beyond it: below e^-60 of the mass
    left = mass(temperature, logit, centre - far, centre)
    right = mass(temperature, logit, centre, centre + far)
    assert left + right == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(("temperature", "logit"), GRID)
def test_rounding_gives_back_the_bernoulli(temperature, logit):
    positive = mass(temperature, logit, 0.0, (max(logit, 0.0) + 60) / temperature)
    assert positive == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-7)


@pytest.mark.parametrize(("temperature", "logit"), GRID)
def test_sigmoid_of_it_is_the_binary_concrete_of_maddison(temperature, logit):
    # appendix B: p(x) = t a x^(-t-1) (1-x)^(-t-1) / (a x^-t + (1-x)^-t)^2 with a = exp(logit)
    x = np.array([0.01, 0.2, 0.5, 0.77, 0.999])
    t, a = temperature, math.exp(logit)
    expected = t * a * x ** (-t - 1) * (1 - x) ** (-t - 1) / (a * x**-t + (1 - x) ** -t) ** 2
    y = np.log(x) - np.log1p(-x)
    d = LogitConcrete(temperature, torch.tensor(logit, dtype=torch.float64))
    got = d.log_prob(torch.from_numpy(y)).exp().numpy() / (x * (1 - x))  # dy/dx = 1 / (x (1 - x))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
@pytest.mark.parametrize("logit", [-3.0, 2.0])
def test_draws_are_logistic(temperature, logit):
    d = LogitConcrete(temperature, torch.tensor(logit, dtype=torch.float64))
    law = stats.logistic(loc=logit / temperature, scale=1 / temperature)
    assert smallest(stats.kstest(d.rsample((20_000,)).numpy(), law.cdf).pvalue) > LEVEL


def test_draws_are_differentiable_in_the_logits():
    # y = (logits + L) / t
    logits = torch.zeros(4, requires_grad=True)
    LogitConcrete(0.25, logits).rsample().sum().backward()
    assert torch.equal(logits.grad, torch.full((4,), 4.0))


@pytest.mark.parametrize("scale", [-1e4, -50.0, 50.0, 1e4])
def test_finite_in_float32_at_a_low_temperature(scale):
    logits = torch.full((2000,), scale, requires_grad=True)
    d = LogitConcrete(0.05, logits)
    y = d.rsample()
    assert torch.isfinite(y).all()
    (d.log_prob(y).sum() + y.sum()).backward()
    assert torch.isfinite(d.log_prob(y)).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_finite_far_from_the_mode(value):
    d = LogitConcrete(0.05, torch.tensor([-1e4, 0.0, 1e4]))
    assert torch.isfinite(d.log_prob(torch.full((3,), value))).all()


def test_log_prob_far_from_the_mode():
    # d = -t y = 500: log t + d - 2 d
    got = LogitConcrete(0.5, torch.tensor(0.0)).log_prob(torch.tensor(-1000.0))
    assert got.item() == pytest.approx(math.log(0.5) - 500, rel=1e-6)


def test_expand_and_shapes():
    d = LogitConcrete(0.5, torch.zeros(3)).expand([4, 3])
    assert d.batch_shape == (4, 3)
    assert d.rsample((2,)).shape == (2, 4, 3)
    assert d.temperature == 0.5


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="a Concrete temperature is positive, not"):
        Concrete(temperature)
