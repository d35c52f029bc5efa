"""Bernoulli, Poisson and Normal dyads of every kind of graph against dense NumPy and SciPy, their draws too."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from chance import LEVEL, LIMIT, largest, smallest
from pyro.ops.provenance import get_provenance, track_provenance
from scipy import stats

from graphlore.models import DyadicBernoulli, DyadicNormal, DyadicPoisson, SubsampledDyads, laws

N, K = 11, 3
LAWS = {"bernoulli": DyadicBernoulli, "poisson": DyadicPoisson, "normal": DyadicNormal}
KINDS = ["undirected", "directed", "bipartite"]
FORMS = [
    ("poisson", "undirected"),
    ("poisson", "directed"),
    ("normal", "undirected"),
    ("normal", "directed"),
    *((law, "bipartite") for law in LAWS),
]
TAU = 0.7


def every(test):
    return pytest.mark.parametrize(("law", "kind"), FORMS)(test)


class Case:
    """Leaves of one law and kind, the distribution made of them, and the same in NumPy, from the formula."""

    def __init__(self, law, kind, *, n=N, tile=4, hidden=True, bias=True, weights=(1.0, 1.0)):
        rng = np.random.default_rng((3, n, KINDS.index(kind)))
        self.law, self.kind, self.weights, self.tile = law, kind, weights, tile
        self.directed = kind == "directed"
        # sides in no order of the ids, and of unequal sizes
        self.parts = (
            np.array([1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0])[:n] if kind == "bipartite" else None
        )
        self.numpy = {"left": 0.6 * rng.normal(size=(n, K))}
        if kind != "undirected":  # undirected: right is left
            self.numpy["right"] = 0.6 * rng.normal(size=(n, K))
        if bias:
            self.numpy["a"] = 0.5 * rng.normal(size=n)
        if bias and self.directed:
            self.numpy["b"] = 0.5 * rng.normal(size=n)
        if law == "normal":
            self.numpy["scale"] = np.array(TAU)
        i, j = np.indices((n, n))
        self.dyads = {"directed": i != j, "undirected": i < j}.get(kind)
        if kind == "bipartite":
            self.dyads = (i < j) & (self.parts[:, None] != self.parts)
        missing = self.dyads & (rng.random((n, n)) < (0.25 if hidden else 0.0))
        self.mask = self.dyads & ~missing
        x = {
            "bernoulli": rng.random((n, n)) < 0.4,
            "poisson": rng.poisson(0.9, (n, n)),
            "normal": rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.6),
        }[law].astype(float)
        self.x = np.where(self.dyads, x, 0.0)  # every dyad once
        A = self.x if self.directed else self.x + self.x.T
        self.full = torch.from_numpy(A)
        observed = self.mask if self.directed else self.mask | self.mask.T
        self.value = torch.from_numpy(A * observed)
        self.missing = torch.from_numpy(np.stack(np.nonzero(missing)))
        self.leaves = {k: torch.tensor(v, requires_grad=True) for k, v in self.numpy.items()}

    def distribution(self, leaves=None, **options):
        x = self.leaves if leaves is None else leaves
        extra = {"scale": x["scale"]} if self.law == "normal" else {}
        if self.law == "bernoulli":
            extra["weights"] = self.weights
        parts = None if self.parts is None else torch.from_numpy(self.parts)
        kind = {"missing": self.missing, "directed": self.directed, "parts": parts}
        factors = x["left"], x.get("right"), x.get("a"), x.get("b")
        return LAWS[self.law](*factors, tile=self.tile, **kind, **extra, **options)

    def logits(self, x=None):
        """s of every pair, the end with the left factor first: of a bipartite graph that of side 0."""
        x = self.numpy if x is None else x
        right, a = x.get("right", x["left"]), x.get("a", np.zeros(len(x["left"])))
        b = x.get("b", np.zeros_like(a)) if self.directed else a
        s = x["left"] @ right.T + a[:, None] + b
        if self.parts is not None:  # row of side 1: the pair is (j, i)
            s = np.where(self.parts[:, None] == 0, s, s.T)
        return s

    def densities(self, x=None):
        """Log density of every observed dyad; zero elsewhere."""
        s = self.logits(x)
        tau = float((self.numpy if x is None else x).get("scale", 1.0))
        if self.law == "poisson":
            found = stats.poisson(np.exp(s)).logpmf(self.x)
        elif self.law == "normal":
            found = stats.norm(s, tau).logpdf(self.x)
        else:
            w0, w1 = self.weights
            found = np.where(
                self.x == 1, w1 * stats.logistic.logcdf(s), w0 * stats.logistic.logsf(s)
            )
        return np.where(self.mask, found, 0.0)

    def slopes(self):
        """Derivatives of the density by s_ij, at (i, j) with i the left end."""
        s = self.logits()
        if self.law == "poisson":
            g = self.x - np.exp(s)
        elif self.law == "normal":
            g = (self.x - s) / TAU**2
        else:
            w0, w1 = self.weights
            p = stats.logistic.cdf(s)
            g = np.where(self.x == 1, w1 * (1 - p), -w0 * p)
        g = np.where(self.mask, g, 0.0)
        if self.parts is None:
            return g
        from_first = self.parts[:, None] == 0
        return np.where(from_first, g, 0.0) + np.where(~from_first, g, 0.0).T

    def gradients(self):
        x, G = self.numpy, self.slopes()
        right = x.get("right", x["left"])
        out = {"left": G @ right, "right": G.T @ x["left"]}
        if "right" not in x:
            out["left"] = out["left"] + out.pop("right")
        if "a" in x:
            out["a"] = G.sum(1) if self.directed else G.sum(1) + G.sum(0)
        if "b" in x:
            out["b"] = G.sum(0)
        if "scale" in x:
            residual = np.where(self.mask, self.x - self.logits(), 0.0)
            out["scale"] = (residual**2).sum() / TAU**3 - self.mask.sum() / TAU
        return out

    def moments(self):
        """(mean, variance) of a draw of every dyad."""
        s = self.logits()
        if self.law == "poisson":
            return np.exp(s), np.exp(s)
        if self.law == "normal":
            return s, np.full_like(s, TAU**2)
        p = stats.logistic.cdf(s)
        return p, p * (1 - p)


def assert_gradients(case, expected):
    assert set(expected) == set(case.leaves)
    for name, truth in expected.items():
        np.testing.assert_allclose(case.leaves[name].grad, truth, atol=1e-10, err_msg=name)


# -- densities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [1, 3, 4, 7, 512])
@every
def test_log_prob_and_its_gradient_are_dense_sums(law, kind, tile):
    case = Case(law, kind, tile=tile)
    found = case.distribution().log_prob(case.value)
    assert found.item() == pytest.approx(case.densities().sum(), rel=1e-12)
    found.backward()
    assert_gradients(case, case.gradients())


@pytest.mark.parametrize("weights", [(0.6, 4.5), (1.0, 4.5), (0.6, 1.0)])
def test_class_weights_of_a_bipartite_graph(weights):
    case = Case("bernoulli", "bipartite", weights=weights)
    d = case.distribution()
    found = d.log_prob(case.value)
    assert found.item() == pytest.approx(case.densities().sum(), rel=1e-12)
    assert d.node_log_prob(case.value).sum().item() == pytest.approx(found.item(), rel=1e-12)
    found.backward()
    assert_gradients(case, case.gradients())
    plain = Case("bernoulli", "bipartite").densities().sum()
    assert d.untempered().log_prob(case.value).item() == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("options", [{"hidden": False}, {"bias": False}])
@every
def test_nothing_missing_and_no_bias(law, kind, options):
    case = Case(law, kind, **options)
    found = case.distribution().log_prob(case.value)
    assert found.item() == pytest.approx(case.densities().sum(), rel=1e-12)
    found.backward()
    assert_gradients(case, case.gradients())


def halves(case):
    density = case.densities()
    return 0.5 * (density.sum(0) + density.sum(1))


@pytest.mark.parametrize("tile", [1, 4, 512])
@every
def test_nodes_have_half_of_each_dyad(law, kind, tile):
    case = Case(law, kind, tile=tile)
    d = case.distribution()
    nodes = d.node_log_prob(case.value)
    np.testing.assert_allclose(nodes.detach(), halves(case), atol=1e-11)
    assert nodes.sum().item() == pytest.approx(d.log_prob(case.value).item(), rel=1e-12)
    nodes.sum().backward()
    assert_gradients(case, case.gradients())


@every
def test_gradients_node_by_node(law, kind):
    case = Case(law, kind, n=6, tile=2)
    names, tensors = zip(*case.leaves.items(), strict=True)

    def density(*leaves):
        return case.distribution(dict(zip(names, leaves, strict=True))).node_log_prob(case.value)

    assert torch.autograd.gradcheck(density, tensors)


@pytest.mark.parametrize("kept", [False, True])
@every
def test_incident_log_prob_counts_own_dyads_whole(law, kind, kept):
    case = Case(law, kind)
    d = case.distribution()
    if kept:  # what an estimator asks for
        d.keep_nodes = True
        total = d.log_prob(case.value)
        assert total.item() == pytest.approx(case.densities().sum(), rel=1e-12)
    incident = d.incident_log_prob(case.value)
    assert not incident.requires_grad
    np.testing.assert_allclose(incident, 2 * halves(case), atol=1e-11)


@every
def test_dyads_one_by_one(law, kind):
    case = Case(law, kind)
    pairs = np.nonzero(case.mask)
    # sums over dyads come from x as 64-bit values, absent ones included
    found = case.distribution().dyad_log_prob(
        torch.from_numpy(np.stack(pairs)), torch.from_numpy(case.x[pairs])
    )
    np.testing.assert_allclose(found.detach(), case.densities()[pairs], atol=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_either_order_of_the_ends_names_a_dyad_across(law):
    case = Case(law, "bipartite")
    d = case.distribution()
    pairs = torch.from_numpy(np.stack(np.nonzero(case.dyads)))
    expected = case.logits()[case.dyads]
    np.testing.assert_allclose(d.logits(pairs).detach(), expected, atol=1e-12)
    np.testing.assert_allclose(d.logits(pairs.flip(0)).detach(), expected, atol=1e-12)
    dense = d.dense_logits().detach().numpy()
    np.testing.assert_allclose(dense[case.dyads], expected, atol=1e-12)
    np.testing.assert_allclose(dense.T[case.dyads], expected, atol=1e-12)


@every
def test_missing_entries_and_the_layout_of_the_value_do_not_matter(law, kind):
    case = Case(law, kind)
    assert not torch.equal(case.full, case.value)
    d = case.distribution()
    expected = d.log_prob(case.value).item()
    assert d.log_prob(case.full).item() == pytest.approx(expected, rel=1e-14)
    sparse = case.full.to_sparse_coo().coalesce()
    assert d.log_prob(sparse).item() == pytest.approx(expected, rel=1e-14)
    assert d.num_dyads == case.mask.sum()


@every
def test_a_batch_is_the_loop_over_its_draws(law, kind):
    case = Case(law, kind)
    batch = {
        k: torch.stack([x.detach() * f for f in (1.0, 0.5, 1.3)]) for k, x in case.leaves.items()
    }
    d = case.distribution(batch)
    pairs = torch.from_numpy(np.stack(np.nonzero(case.mask)))
    x = torch.from_numpy(case.x[case.mask])
    for draw in range(3):
        single = case.distribution({k: v[draw] for k, v in batch.items()})
        for one in (d.one(draw), single):
            assert one.batch_shape == ()
            for ask in ("log_prob", "node_log_prob", "incident_log_prob"):
                found = getattr(d, ask)(case.value)[draw]
                torch.testing.assert_close(getattr(one, ask)(case.value), found)
            torch.testing.assert_close(one.dyad_log_prob(pairs, x), d.dyad_log_prob(pairs, x)[draw])
    grown = case.distribution().expand([2, 3])
    assert grown.batch_shape == (2, 3)
    np.testing.assert_allclose(
        grown.log_prob(case.value).detach(), np.full((2, 3), case.densities().sum()), rtol=1e-12
    )
    np.testing.assert_allclose(
        grown.one(4).node_log_prob(case.value).detach(), halves(case), atol=1e-11
    )


@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
@every
def test_provenance_of_every_argument_reaches_the_density(law, kind, what):
    case = Case(law, kind)
    for name, leaf in case.leaves.items():
        carried = {**case.leaves, name: track_provenance(leaf, frozenset({name}))}
        density = getattr(case.distribution(carried), what)(torch.zeros_like(case.value))
        assert get_provenance(density) == {name}, name


@every
def test_float32(law, kind):
    case = Case(law, kind)
    low = {k: x.detach().float().requires_grad_() for k, x in case.leaves.items()}
    found = case.distribution(low).log_prob(case.value.float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(case.densities().sum(), rel=1e-5)
    found.backward()
    for name, truth in case.gradients().items():
        np.testing.assert_allclose(low[name].grad, truth, atol=2e-5 * max(1, np.abs(truth).max()))


def test_a_hand_computation_of_counts():
    # rates 1, e, 1 on the dyads 01, 02, 12; counts 2, 0, 1
    left = torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64)
    A = torch.tensor([[0, 2, 0], [2, 0, 1], [0, 1, 0]], dtype=torch.float64)
    expected = (-1 - math.log(2)) - math.e - 1
    assert DyadicPoisson(left).log_prob(A).item() == pytest.approx(expected, rel=1e-14)


def test_an_undirected_graph_of_one_side_only_has_no_dyads():
    d = DyadicBernoulli(torch.ones(3, 1), parts=torch.zeros(3, dtype=torch.int64))
    assert d.num_dyads == 0
    assert not d.sample().any()


# -- draws -------------------------------------------------------------------------------------------


def two_samplers(d, draws):
    """(draws, N, N) of `sample`, and of `sample_entries` laid out."""
    yield d.sample(torch.Size([draws])).numpy()
    laid = np.zeros((400, N, N))  # one graph a call
    for k in range(len(laid)):
        with mock.patch.object(laws, "_FEW", 0 if k % 2 else 10**6):
            (i, j), x = d.sample_entries()
        laid[k, i, j] = x
    yield laid


@pytest.mark.parametrize(("law", "kind"), FORMS)
def test_moments_of_draws(law, kind):
    case, draws = Case(law, kind, tile=6), 2000
    mean, variance = case.moments()
    both, entries = two_samplers(case.distribution(), draws)
    for drawn in (both, entries):
        draws = len(drawn)
        z = (drawn.mean(0) - mean) / np.sqrt(variance / draws)
        assert largest(z[case.dyads]) < LIMIT
        # the sample variance, by the fourth moment of the draws themselves
        centred = (drawn - mean) ** 2
        z = (centred.mean(0) - variance) / (centred.std(0) / np.sqrt(draws)).clip(min=1e-9)
        assert largest(z[case.dyads]) < LIMIT + 1.0  # skew: an approximate z
    if kind == "directed":
        assert (both != both.transpose(0, 2, 1)).any()
    else:
        np.testing.assert_array_equal(both, both.transpose(0, 2, 1))
    outside = ~case.dyads if kind == "directed" else ~(case.dyads | case.dyads.T)
    assert not both[:, outside].any()
    assert not entries[:, ~case.dyads].any()


@every
def test_entries_are_sorted_without_repeats(law, kind):
    case = Case(law, kind)
    pairs, x = case.distribution().sample_entries()
    assert ((pairs[0] * N + pairs[1]).diff() > 0).all()
    assert (x != 0).all()
    assert pairs.shape[1] == len(x)


def test_laws_of_draws():
    """Chi-square of counts, Kolmogorov-Smirnov of weights: more than their moments."""
    zero = torch.zeros(40, 1)
    upper = np.triu_indices(40, 1)
    counts = DyadicPoisson(zero, left_bias=torch.full((40,), 0.2)).sample(torch.Size([20]))
    counts = counts.numpy()[:, *upper].ravel()
    law = stats.poisson(math.exp(0.4))
    observed = [*(int((counts == k).sum()) for k in range(5)), int((counts >= 5).sum())]
    expected = len(counts) * np.array([*law.pmf(range(5)), law.sf(4)])
    assert smallest(stats.chisquare(observed, expected).pvalue) > LEVEL
    weights = DyadicNormal(zero, left_bias=torch.full((40,), 0.2), scale=torch.tensor(2.0))
    drawn = weights.sample(torch.Size([5])).numpy()[:, *upper].ravel()
    assert smallest(stats.kstest(drawn, stats.norm(0.4, 2.0).cdf).pvalue) > LEVEL


@pytest.mark.parametrize("law", ["poisson", "bernoulli"])
@pytest.mark.parametrize("kind", KINDS)
def test_row_probabilities(law, kind):
    case = Case(law, kind)
    s = case.logits()
    p = stats.logistic.cdf(s) if law == "bernoulli" else 1 - np.exp(-np.exp(s))
    rows = case.distribution().row_probabilities(slice(2, 9)).detach().numpy()
    across = ~np.eye(N, dtype=bool)
    if kind == "bipartite":
        across = case.parts[:, None] != case.parts
        assert not rows[~across[2:9]].any(), "pairs within a side have no probability"
    np.testing.assert_allclose(rows[across[2:9]], p[2:9][across[2:9]], rtol=1e-12)


def test_means_and_link_probabilities():
    s = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    left, tau = torch.zeros(2, 1, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(DyadicPoisson(left).mean(s), s.exp())
    torch.testing.assert_close(
        DyadicPoisson(left).link_probability(s), torch.tensor(stats.poisson(s.exp()).sf(0))
    )
    torch.testing.assert_close(DyadicNormal(left, scale=tau).mean(s), s)
    torch.testing.assert_close(DyadicBernoulli(left).mean(s), torch.sigmoid(s))
    with pytest.raises(ValueError, match="a Normal weight is never exactly zero"):
        DyadicNormal(left, scale=tau).link_probability(s)


def test_a_bipartite_graph_has_no_arcs():
    with pytest.raises(ValueError, match="a bipartite graph has no directed dyads"):
        DyadicPoisson(torch.zeros(3, 1), directed=True, parts=torch.tensor([0, 1, 1]))


# -- a sample of the absent dyads --------------------------------------------------------------------


def subsampled(case, num_absent):
    x, parts = case.leaves, None if case.parts is None else torch.from_numpy(case.parts)
    return SubsampledDyads(
        x["left"],
        x.get("right"),
        x["a"],
        missing=case.missing,
        weights=case.weights,
        parts=parts,
        num_absent=num_absent,
    )


def test_absent_dyads_of_a_bipartite_graph_are_drawn_uniformly():
    case, m = Case("bernoulli", "bipartite"), 20_000
    d = subsampled(case, m)
    drawn = d.absent(d.present(case.value)).numpy()
    absent = case.mask & (case.x == 0)
    counts = np.zeros((N, N))
    np.add.at(counts, tuple(drawn), 1)
    assert not counts[~absent].any()
    p = 1 / absent.sum()
    z = (counts[absent] - m * p) / math.sqrt(m * p * (1 - p))
    assert largest(z) < LIMIT


def test_the_mean_over_all_samples_of_a_bipartite_graph_is_exact():
    case = Case("bernoulli", "bipartite", weights=(0.6, 4.5))
    exact = case.distribution()
    absent = np.stack(np.nonzero(case.mask & (case.x == 0)))
    totals, nodes = [], []
    for pair in torch.from_numpy(absent).T:
        d = subsampled(case, 1)
        d._drawn = (d.present(case.value), pair[:, None])
        totals.append(d.log_prob(case.value))
        nodes.append(d.node_log_prob(case.value))
    assert torch.stack(totals).std() > 0.01
    torch.testing.assert_close(torch.stack(totals).mean(), exact.log_prob(case.value))
    torch.testing.assert_close(torch.stack(nodes).mean(0), exact.node_log_prob(case.value))


def test_a_subsampled_density_draws_graphs_of_the_exact_law():
    case = Case("bernoulli", "bipartite")
    d = subsampled(case, 5)
    p, variance = case.moments()
    drawn = d.sample(torch.Size([1500])).numpy().mean(0)
    assert largest(((drawn - p) / np.sqrt(variance / 1500))[case.dyads]) < LIMIT
    pairs, _ = d.sample_entries()
    assert case.dyads[pairs[0], pairs[1]].all()
