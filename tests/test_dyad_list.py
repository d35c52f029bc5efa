"""The list of all dyads, and random members of it."""

from __future__ import annotations

import math

import pytest
import torch
from chance import LIMIT, largest

from graphlore.models import DyadicBernoulli
from graphlore.models.dyad_list import DyadList, sorted_draws, thinned

CPU = torch.device("cpu")


@pytest.mark.parametrize("form", ["undirected", "directed", "bipartite"])
def test_dyads_stand_row_by_row_and_are_found_again(form):
    n = 7
    parts = torch.tensor([1, 0, 0, 1, 0, 1, 1]) if form == "bipartite" else None
    directed = form == "directed"
    dyads = DyadList(n, directed, parts)
    pairs = dyads.at(torch.arange(len(dyads)))
    d = DyadicBernoulli(torch.zeros(n, 2), directed=directed, parts=parts)
    assert torch.equal(dyads.places(d._oriented(pairs)), torch.arange(len(dyads)))
    is_dyad = d._is_dyad(slice(0, n))
    is_dyad = is_dyad if directed else is_dyad.triu(1)
    assert set(map(tuple, pairs.T.tolist())) == set(map(tuple, is_dyad.nonzero().tolist()))


def test_uniform_draws_come_sorted():
    size, count, draws = 10, 7, 4000
    drawn = torch.stack([sorted_draws(size, count, CPU) for _ in range(draws)])
    assert (drawn.diff() >= 0).all()
    counts = torch.bincount(drawn.flatten(), minlength=size)
    assert counts.numel() == size
    total, p = count * draws, 1 / size
    assert largest((counts - total * p) / math.sqrt(total * p * (1 - p))) < LIMIT
    # the least of m uniform ones has P(least >= k) = (1 - k / size)^m
    p = (1 - torch.arange(1, 4) / size) ** count
    seen = (drawn[:, :1] >= torch.arange(1, 4)).double().mean(0)
    assert largest((seen - p) / (p * (1 - p) / draws).sqrt()) < LIMIT


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_each_number_is_there_at_the_rate_and_independently_of_the_next(rate):
    size, draws = 6, 4000
    there = torch.zeros(draws, size)
    for k in range(draws):
        found = thinned(size, rate, CPU)
        assert (found.diff() > 0).all()
        there[k, found] = 1.0
    z = (there.mean(0) - rate) / math.sqrt(rate * (1 - rate) / draws)
    assert largest(z) < LIMIT
    both = (there[:, 1:] * there[:, :-1]).mean(0)
    assert largest((both - rate**2) / math.sqrt(rate**2 * (1 - rate**2) / draws)) < LIMIT


def test_none_of_no_numbers_is_there():
    assert thinned(0, 0.5, CPU).shape == (0,)
