"""Geweke's test: kernel and story agree on the joint law of latents and graphs, and a wrong kernel is found out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chance import LIMIT, largest

from graphlore.inference import GibbsNUTS, geweke_test, seeded
from graphlore.models import DGLFRM, LFRM, SBM

QUICK = {"max_tree_depth": 2, "step_size": 0.4, "prior_draws": 20_000}
HIDDEN = [[0, 1], [1, 3]]


@pytest.mark.parametrize(
    ("story", "options"),
    [
        (SBM(4, 2, 0.7), {"draws": 800, "missing": HIDDEN}),
        (SBM(4, 2, likelihood="poisson"), {"draws": 600}),
        (SBM(4, 2, kind="directed"), {"draws": 600}),
        (SBM(4, 2, bias="node"), {"draws": 250}),
        (LFRM(4, 2, bias="global", bias_scale=(1.0, 1.0)), {"draws": 200}),
    ],
    ids=["sbm", "counts", "directed", "degree-corrected", "lfrm"],
)
def test_kernel_and_story_agree(story, options):
    table = geweke_test(story, **QUICK, **options)
    assert len(table) >= 10
    assert list(table.columns) == ["prior", "chain", "ess", "z"]
    assert largest(table["z"]) < LIMIT, table
    assert (table["prior"] - table["chain"]).abs().max() > 0


def with_networks():
    with seeded(0):
        return DGLFRM(4, 2, decoder=(3,), bias="node", bias_scale=(1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("story", "options"),
    [
        (SBM(5, 2, kind="bipartite", sides=(2, 3)), {"draws": 2000}),
        (LFRM(4, 2, bias="global", bias_scale=(1.5, 1.0)), {"draws": 500, "seed": 1}),
        (with_networks(), {"draws": 1500}),
    ],
    ids=["bipartite", "lfrm", "dglfrm"],
)
def test_kernel_and_story_agree_at_length(story, options):
    table = geweke_test(story, **QUICK, **options)
    assert largest(table["z"]) < LIMIT, table


class WeightsFromThePrior(GibbsNUTS):
    """Wrong: the community weights do not look at the memberships."""

    def _conjugate_draw(self, name):
        if name != "community_weights":
            return super()._conjugate_draw(name)
        return torch.distributions.Dirichlet(torch.ones(2, dtype=torch.float64)).sample()


class NoJacobian(GibbsNUTS):
    """Wrong: a density over sticks, taken for one over their log odds."""

    def _potential(self, params):
        values = dict(self.values)
        values |= {n: self.joint.transforms[n](z) for n, z in params.items()}
        return -self.joint.log_density(values)


@pytest.mark.parametrize(
    ("story", "kernel", "draws"),
    [(SBM(4, 2), WeightsFromThePrior, 300), (LFRM(3, 1), NoJacobian, 400)],
)
def test_wrong_kernels_are_found_out(story, kernel, draws):
    wrong = kernel(story, step_size=0.5, adapt=False, max_tree_depth=2)
    table = geweke_test(story, draws=draws, prior_draws=20_000, kernel=wrong)
    assert table["z"].abs().max() > LIMIT


def test_the_same_seed_gives_the_same_table_and_leaves_no_trace():
    state = torch.get_rng_state()
    first, second = (geweke_test(SBM(4, 2), draws=20, prior_draws=50, seed=3) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(first["z"], second["z"])
    other = geweke_test(SBM(4, 2), 5, draws=20, prior_draws=50, seed=4)
    assert not np.array_equal(first["chain"], other["chain"])


def test_refusals():
    with pytest.raises(ValueError, match="without features and labels"):
        geweke_test(DGLFRM(4, 2, features="bernoulli", num_features=3))
    with pytest.raises(ValueError, match="at least 10"):
        geweke_test(SBM(4, 2), draws=5)
