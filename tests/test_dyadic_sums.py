"""Sums over all dyads that share an exponential and a logarithm: accuracy at every size of logits, and laziness."""

from __future__ import annotations

import pytest
import torch

from graphlore.models import DyadicBernoulli
from graphlore.models import tiles as module

# relative error of the sum; softplus of one logit is good to some 1e-6 in float32
BOUND = {torch.float32: 2e-6, torch.float64: 1e-12}


def factors(level, spread, dtype, n=501):
    rng = torch.Generator().manual_seed(2)
    left = spread * torch.randn(n, 4, generator=rng, dtype=torch.float64)
    return left.to(dtype), torch.full((n,), level / 2, dtype=dtype)


@pytest.mark.parametrize("dtype", list(BOUND), ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("level", [-30.0, -11.0, -7.0, -3.0, 0.0, 2.0, 8.0, 30.0])
def test_relative_accuracy_at_every_level_of_logits(level, spread, dtype):
    # equal logits are the hard case: their rounding errors do not cancel
    left, bias = factors(level, spread, dtype)
    d = DyadicBernoulli(left, left_bias=bias, tile=64)
    x, b = left.double(), bias.double()
    s = (x @ x.T + b[:, None] + b).fill_diagonal_(-torch.inf)
    expected = 0.5 * torch.logaddexp(s, torch.zeros_like(s)).sum(1)
    empty = torch.zeros(501, 501, dtype=dtype)
    total, nodes = d.log_prob(empty).double(), d.node_log_prob(empty).double()
    assert abs(total / -expected.sum() - 1) < BOUND[dtype]
    torch.testing.assert_close(nodes, -expected, rtol=5 * BOUND[dtype], atol=0.0)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 9])
def test_tiles_of_any_remainder_by_four(n):
    left, _ = factors(0.0, 1.0, torch.float64, n)
    value = torch.zeros(n, n, dtype=torch.float64)
    expected = -torch.logaddexp(left @ left.T, torch.zeros(n, n).double()).triu(1).sum()
    for tile in (2, 3, 4, 512):
        d = DyadicBernoulli(left, tile=tile)
        torch.testing.assert_close(d.log_prob(value), expected, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(d.node_log_prob(value).sum(), expected, rtol=1e-12, atol=0.0)


def count_tiles(monkeypatch):
    made = []
    tile_logits = module._tile_logits
    monkeypatch.setattr(module, "_tile_logits", lambda *args: made.append(1) or tile_logits(*args))
    return made


def test_incident_log_prob_after_log_prob_is_free_where_nodes_are_kept(monkeypatch):
    left, bias = factors(-1.0, 0.5, torch.float64, 20)
    value = torch.zeros(20, 20, dtype=torch.float64)
    plain = DyadicBernoulli(left, left_bias=bias)
    expected = plain.incident_log_prob(value)
    made = count_tiles(monkeypatch)
    d = DyadicBernoulli(left, left_bias=bias)
    d.keep_nodes = True
    total = d.log_prob(value)
    assert len(made) == 1
    torch.testing.assert_close(d.incident_log_prob(value), expected)
    assert len(made) == 1
    plain.keep_nodes = False
    assert torch.equal(total, plain.log_prob(value))  # to the last bit, as resumed fits need


def logits_and_gradients(d, leaves, pairs):
    s = d.logits(pairs)
    turn = torch.arange(1.0, s.numel() + 1, dtype=s.dtype).reshape(s.shape)
    return [s.detach(), *torch.autograd.grad((s * turn).sum(), leaves)]


@pytest.mark.parametrize("arcs", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_logits_of_a_list_are_the_same_in_pieces(monkeypatch, batch, arcs):
    leaves = [torch.randn(*batch, 9, 3).double().requires_grad_() for _ in range(1 + arcs)]
    pairs = torch.randint(9, (2, 50))  # with repeats, which must add up
    d = DyadicBernoulli(*leaves, directed=arcs)
    i, j = pairs
    plain = (leaves[0][..., i, :] * leaves[-1][..., j, :]).sum(-1)
    turn = torch.arange(1.0, plain.numel() + 1).reshape(plain.shape)
    expected = [plain.detach(), *torch.autograd.grad((plain * turn).sum(), leaves)]
    torch.testing.assert_close(logits_and_gradients(d, leaves, pairs), expected)
    monkeypatch.setattr(module, "TILE", 6)  # 36 numbers: 6 or 12 dyads at a time
    torch.testing.assert_close(logits_and_gradients(d, leaves, pairs), expected)


def test_logits_of_an_empty_list():
    left = torch.randn(2, 5, 3, requires_grad=True)
    s = DyadicBernoulli(left).logits(torch.zeros(2, 0, dtype=torch.int64))
    s.sum().backward()
    assert s.shape == (2, 0)
    assert not left.grad.any()


def test_factors_of_the_ends_of_dyads_are_not_kept():
    left = torch.randn(100, 64, requires_grad=True)
    pairs = torch.randint(100, (2, 20_000))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, id):
        DyadicBernoulli(left).logits(pairs)
    assert (
        0 < sum(saved) <= 2 * 20_000 + 6400
    )  # the dyads and the factors of the nodes, not 20,000 x 64
