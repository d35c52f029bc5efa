"""The dyadic likelihood against a dense NumPy computation, its draws against their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from chance import LIMIT, largest
from memory import LargestTensor
from pyro.ops.provenance import get_provenance, track_provenance

from graphlore.models import DyadicBernoulli, balanced_weights, laws

N, K = 12, 3
FORMS = ["symmetric", "bias", "bilinear", "bilinear-bias", "directed", "directed-free", "arcs-bias"]


class Case:
    """Leaves, the distribution made of them, and the same in NumPy (written from the formula)."""

    def __init__(self, form, *, n=N, tile=5, hidden=True, weights=(1.0, 1.0), dtype=torch.float64):
        rng = np.random.default_rng(7)
        self.directed = form.startswith(("directed", "arcs"))
        self.weights = weights
        self.numpy = {"left": rng.normal(size=(n, K))}
        if form.startswith("bilinear"):
            self.numpy["core"] = rng.normal(size=(K, K))
        if form in ("directed-free", "arcs-bias"):
            self.numpy["right"] = rng.normal(size=(n, K))
        if form.endswith("bias"):
            self.numpy["a"] = rng.normal(size=n)
        if form == "arcs-bias":
            self.numpy["b"] = rng.normal(size=n)
        order = np.ones((n, n), bool) if self.directed else np.triu(np.ones((n, n), bool))
        self.dyads = order & ~np.eye(n, dtype=bool)
        missing = self.dyads & (rng.random((n, n)) < (0.25 if hidden else 0.0))
        A = self.dyads & (rng.random((n, n)) < 0.4)
        self.mask = self.dyads & ~missing
        self.A = (A if self.directed else A | A.T).astype(float)
        self.leaves = {
            name: torch.tensor(x, dtype=dtype, requires_grad=True) for name, x in self.numpy.items()
        }
        self.missing = torch.from_numpy(np.stack(np.nonzero(missing)))
        self.value = torch.tensor(
            self.A * (self.mask if self.directed else self.mask | self.mask.T)
        )
        self.tile = tile

    def distribution(self) -> DyadicBernoulli:
        x = self.leaves
        right = x.get("right")
        if "core" in x:  # a free matrix made symmetric, as an undirected story must
            right = x["left"] @ (x["core"] + x["core"].T)
        return DyadicBernoulli(
            x["left"],
            right,
            x.get("a"),
            x.get("b"),
            missing=self.missing,
            weights=self.weights,
            directed=self.directed,
            tile=self.tile,
        )

    def dense(self):
        """(logits, log density of every dyad: zero where there is none, its derivative by the logit)."""
        x = self.numpy
        right = x.get("right", x["left"])
        if "core" in x:
            right = x["left"] @ (x["core"] + x["core"].T)
        a = x.get("a", np.zeros(len(right)))
        b = x.get("b", np.zeros(len(right)) if self.directed else a)
        s = x["left"] @ right.T + a[:, None] + b[None, :]
        w0, w1 = self.weights
        density = -w1 * self.A * np.logaddexp(0, -s) - w0 * (1 - self.A) * np.logaddexp(0, s)
        p = 1 / (1 + np.exp(-s))
        slope = w1 * self.A * (1 - p) - w0 * (1 - self.A) * p
        return s, self.mask * density, self.mask * slope

    def dense_gradients(self):
        x = self.numpy
        _, _, G = self.dense()
        out = {}
        if "core" in x:
            M = x["core"] + x["core"].T
            out["left"] = (G + G.T) @ x["left"] @ M
            H = x["left"].T @ G @ x["left"]
            out["core"] = H + H.T
        elif "right" in x:
            out["left"], out["right"] = G @ x["right"], G.T @ x["left"]
        else:
            out["left"] = (G + G.T) @ x["left"]
        if "b" in x:
            out["a"], out["b"] = G.sum(1), G.sum(0)
        elif "a" in x:
            out["a"] = G.sum(0) + G.sum(1)
        return out

    def halves(self):
        _, density, _ = self.dense()
        return 0.5 * (density.sum(0) + density.sum(1))


@pytest.mark.parametrize("tile", [1, 4, 5, 512])
@pytest.mark.parametrize("form", FORMS)
def test_log_prob_is_the_dense_sum(form, tile):
    case = Case(form, tile=tile)
    got = case.distribution().log_prob(case.value).item()
    assert got == pytest.approx(case.dense()[1].sum(), rel=1e-10)


@pytest.mark.parametrize("tile", [1, 4, 5, 512])
@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_the_dense_one(form, tile):
    case = Case(form, tile=tile)
    case.distribution().log_prob(case.value).backward()
    for name, expected in case.dense_gradients().items():
        np.testing.assert_allclose(case.leaves[name].grad, expected, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("weights", [(0.6, 4.5), (1.0, 4.5), (0.6, 1.0)])
@pytest.mark.parametrize("form", FORMS)
def test_class_weights_multiply_present_and_absent_dyads(form, weights):
    case = Case(form, weights=weights)
    got = case.distribution().log_prob(case.value)
    assert got.item() == pytest.approx(case.dense()[1].sum(), rel=1e-10)
    got.backward()
    for name, expected in case.dense_gradients().items():
        np.testing.assert_allclose(case.leaves[name].grad, expected, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_missing(form):
    case = Case(form, hidden=False)
    assert case.missing.shape == (2, 0)
    expected = pytest.approx(case.dense()[1].sum(), rel=1e-10)
    assert case.distribution().log_prob(case.value).item() == expected


@pytest.mark.parametrize("form", FORMS)
def test_float32(form):
    case = Case(form, weights=(0.6, 4.5), dtype=torch.float32)
    got = case.distribution().log_prob(case.value.float())
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(case.dense()[1].sum(), rel=1e-5)
    got.backward()
    for name, expected in case.dense_gradients().items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(case.leaves[name].grad, expected, atol=1e-5 * scale)


def test_a_hand_computation():
    # logits 2, 0, -1 on the dyads 01, 02, 12; A has 01 only
    left = torch.tensor([[1.0, 1.0], [2.0, 0.0], [-0.5, 0.5]], dtype=torch.float64)
    A = torch.zeros(3, 3)
    A[0, 1] = A[1, 0] = 1.0
    expected = -math.log1p(math.exp(-2)) - math.log(2) - math.log1p(math.exp(-1))
    assert DyadicBernoulli(left).log_prob(A).item() == pytest.approx(expected, rel=1e-12)


# -- nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [5, 512])
@pytest.mark.parametrize("form", FORMS)
def test_node_log_prob_gives_half_of_a_dyad_to_each_end(form, tile):
    case = Case(form, tile=tile, weights=(0.6, 4.5))
    nodes = case.distribution().node_log_prob(case.value).detach().numpy()
    np.testing.assert_allclose(nodes, case.halves(), atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_node_log_prob_sums_to_log_prob(form):
    case = Case(form)
    d = case.distribution()
    total = d.node_log_prob(case.value).sum()
    assert total.item() == pytest.approx(d.log_prob(case.value).item(), rel=1e-12)


@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form, what):
    case = Case(form, n=5, tile=2, weights=(0.6, 4.5))
    names, tensors = zip(*case.leaves.items(), strict=True)

    def density(*leaves):
        case.leaves = dict(zip(names, leaves, strict=True))
        return getattr(case.distribution(), what)(case.value)

    assert torch.autograd.gradcheck(density, tensors)


@pytest.mark.parametrize("after_log_prob", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_incident_log_prob_counts_own_dyads_once_each(form, after_log_prob):
    case = Case(form, weights=(0.6, 4.5))
    d = case.distribution()
    if after_log_prob:
        d.log_prob(case.value)
    incident = d.incident_log_prob(case.value)
    _, density, _ = case.dense()
    expected = [density[i, :].sum() + density[:, i].sum() for i in range(N)]  # diagonal is empty
    np.testing.assert_allclose(incident, expected, atol=1e-10)


def test_incident_log_prob_carries_no_gradient():
    case = Case("bias")
    assert not case.distribution().incident_log_prob(case.value).requires_grad


def test_incident_log_prob_is_that_of_the_value_asked_for():
    case = Case("symmetric")
    d = case.distribution()
    d.log_prob(torch.zeros_like(case.value))
    np.testing.assert_allclose(d.incident_log_prob(case.value), 2 * case.halves(), atol=1e-10)


# -- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["symmetric", "arcs-bias"])
def test_dense_and_sparse_values_agree(form):
    case = Case(form)
    d = case.distribution()
    sparse = case.value.to_sparse_coo().coalesce()
    assert d.log_prob(sparse).item() == pytest.approx(d.log_prob(case.value).item(), rel=1e-14)


@pytest.mark.parametrize("form", ["symmetric", "arcs-bias"])
def test_entries_of_missing_dyads_are_not_read_dense(form):
    case = Case(form)
    full = torch.tensor(case.A)
    assert not torch.equal(full, case.value)  # some edge does lie in a missing dyad
    d = case.distribution()
    assert d.log_prob(full).item() == pytest.approx(d.log_prob(case.value).item(), rel=1e-14)


@pytest.mark.parametrize("form", ["symmetric", "arcs-bias"])
def test_entries_of_missing_dyads_are_not_read_sparse(form):
    case = Case(form)
    d = case.distribution()
    full = torch.tensor(case.A).to_sparse_coo().coalesce()
    assert d.log_prob(full).item() == pytest.approx(d.log_prob(case.value).item(), rel=1e-14)


def test_explicit_zeros_of_a_sparse_value_are_absent_dyads():
    case = Case("symmetric", hidden=False)
    d = case.distribution()
    index = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
    entries = torch.tensor([1.0, 1.0, 0.0, 0.0])
    stored = torch.sparse_coo_tensor(index, entries, (N, N), check_invariants=True).coalesce()
    expected = d.log_prob(stored.to_dense()).item()
    assert d.log_prob(stored).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3)])
def test_a_batch_is_the_loop_over_its_draws(shape):
    rng = torch.Generator().manual_seed(3)
    left = torch.randn(*shape, N, K, generator=rng, dtype=torch.float64)
    bias = torch.randn(*shape, N, generator=rng, dtype=torch.float64)
    case = Case("bias")
    options = {"missing": case.missing, "weights": (0.6, 4.5), "tile": 5}

    def run(left, bias):
        left, bias = left.clone().requires_grad_(), bias.clone().requires_grad_()
        d = DyadicBernoulli(left, left_bias=bias, **options)
        total, nodes = d.log_prob(case.value), d.node_log_prob(case.value)
        incident = d.incident_log_prob(case.value)
        (total.sum() + (nodes * torch.arange(N)).sum()).backward()
        return total.detach(), nodes.detach(), incident, left.grad, bias.grad

    together = run(left, bias)
    assert together[0].shape == torch.Size(shape)
    single = [run(*x) for x in zip(left.reshape(-1, N, K), bias.reshape(-1, N), strict=True)]
    for batch, loop in zip(together, map(torch.stack, zip(*single, strict=True)), strict=True):
        torch.testing.assert_close(batch.reshape(loop.shape), loop, rtol=1e-12, atol=1e-12)


def test_one_picks_a_draw_of_a_batch():
    left, bias = torch.randn(2, 3, N, K), torch.randn(2, 3, N)
    value = Case("bias").value.float()
    d = DyadicBernoulli(left, left_bias=bias, weights=(0.6, 4.5))
    torch.testing.assert_close(d.one(4).log_prob(value), d.log_prob(value)[1, 1])


def test_untempered_has_unit_weights_and_the_same_dyads():
    case = Case("arcs-bias", weights=(0.6, 4.5))
    plain = Case("arcs-bias")
    expected = plain.dense()[1].sum()
    got = case.distribution().untempered().log_prob(case.value).item()
    assert got == pytest.approx(expected, rel=1e-10)


def test_expand_repeats_the_density():
    case = Case("arcs-bias", weights=(0.6, 4.5))
    d = case.distribution().expand([2, 3])
    assert d.batch_shape == (2, 3)
    got = d.log_prob(case.value).detach()
    np.testing.assert_allclose(got, np.full((2, 3), case.dense()[1].sum()), rtol=1e-10)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.6, 4.5)])
@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
def test_logits_of_ten_thousand_stay_finite_in_float32(what, weights):
    left = torch.tensor([[100.0], [-100.0], [100.0], [-100.0], [0.0], [1e-3]], requires_grad=True)
    value = torch.zeros(6, 6)
    value[0, 1] = value[1, 0] = value[0, 2] = value[2, 0] = 1.0  # logits -1e4 and 1e4
    d = DyadicBernoulli(left, missing=torch.tensor([[0, 1], [3, 3]]), weights=weights)
    density = getattr(d, what)(value)
    assert torch.isfinite(density).all()
    assert torch.isfinite(d.incident_log_prob(value)).all()
    density.sum().backward()
    assert torch.isfinite(left.grad).all()


def test_log_prob_at_logits_of_ten_thousand():
    left = torch.tensor([[100.0], [-100.0], [100.0]])
    value = torch.zeros(3, 3)
    value[0, 1] = value[1, 0] = 1.0  # -1e4; absent 02 at 1e4: -1e4; absent 12 at -1e4: 0
    assert DyadicBernoulli(left).log_prob(value).item() == pytest.approx(-2e4, rel=1e-6)


def test_num_dyads_counts_observed_ones():
    case = Case("symmetric")
    assert case.distribution().num_dyads == case.mask.sum()


@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
@pytest.mark.parametrize("carrier", ["left", "right", "a", "b"])
def test_provenance_of_every_argument_reaches_the_density(carrier, what):
    # an edge list without entries leaves only the sum over all dyads to carry it
    x = {name: t.detach() for name, t in Case("arcs-bias").leaves.items()}
    x[carrier] = track_provenance(x[carrier], frozenset({"site"}))
    d = DyadicBernoulli(x["left"], x["right"], x["a"], x["b"], directed=True)
    assert get_provenance(getattr(d, what)(torch.zeros(N, N))) == {"site"}


# -- draws ------------------------------------------------------------------------------------------


def probabilities(case):
    return 1 / (1 + np.exp(-case.dense()[0]))


def z_scores(counts, p, draws):
    return (counts - draws * p) / np.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("form", ["bilinear-bias", "arcs-bias"])
def test_frequencies_of_sample(form):
    case = Case(form)
    draws = 4000
    sample = case.distribution().sample(torch.Size([draws]))
    z = z_scores(sample.sum(0).numpy(), probabilities(case), draws)[case.dyads]
    assert largest(z) < LIMIT


@pytest.mark.parametrize("rare", [None, 1e-3, 0.5])
@pytest.mark.parametrize("tile", [5, 512])
@pytest.mark.parametrize("form", ["bilinear-bias", "arcs-bias"])
def test_frequencies_of_sample_edges(form, tile, rare, monkeypatch):
    if rare is not None:  # thinned
        monkeypatch.setattr(laws, "_FEW", 0)
        monkeypatch.setattr(laws, "_RARE", rare)
    case = Case(form, tile=tile)
    draws = 1500
    counts = np.zeros((N, N))
    d = case.distribution()
    for _ in range(draws):
        i, j = d.sample_edges().numpy()
        counts[i, j] += 1
    assert largest(z_scores(counts, probabilities(case), draws)[case.dyads]) < LIMIT


def test_sample_edges_is_sorted_without_repeats_in_normal_form():
    case = Case("symmetric")
    pairs = case.distribution().sample_edges()
    keys = pairs[0] * N + pairs[1]
    assert (keys.diff() > 0).all()
    assert (pairs[0] < pairs[1]).all()


def test_dyads_are_drawn_independently():
    # with p = 1/2 everywhere the number of edges is Binomial(66, 1/2): its variance tells of ties
    d = DyadicBernoulli(torch.zeros(N, 1))
    counts = d.sample(torch.Size([4000])).sum((-1, -2)) / 2
    variance, expected = counts.var().item(), 66 / 4
    spread = expected * math.sqrt(2 / 3999)  # a binomial's kurtosis is below the normal's
    assert largest((variance - expected) / spread) < LIMIT


def test_samples_are_zero_or_one_and_symmetric_with_an_empty_diagonal():
    sample = Case("bias").distribution().sample(torch.Size([50]))
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(sample, sample.transpose(-1, -2))
    assert not torch.diagonal(sample, dim1=-2, dim2=-1).any()


def test_arcs_are_not_symmetric_and_have_an_empty_diagonal():
    sample = Case("arcs-bias").distribution().sample(torch.Size([50]))
    assert not torch.equal(sample, sample.transpose(-1, -2))
    assert not torch.diagonal(sample, dim1=-2, dim2=-1).any()


def test_shape_of_samples_of_a_batch():
    d = DyadicBernoulli(torch.zeros(3, 1, N, K))
    assert d.sample(torch.Size([2])).shape == (2, 3, 1, N, N)


def test_a_large_graph_is_drawn_sparse_and_symmetric():
    d = DyadicBernoulli(torch.zeros(2001, 1), left_bias=torch.full((2001,), -2.5))  # logit -5
    sample = d.sample()
    assert sample.layout == torch.sparse_coo
    i, j = sample.indices()
    assert torch.equal(torch.sort(j * 2001 + i).values, i * 2001 + j)
    assert not (i == j).any()
    dyads, p = 2001 * 1000, 1 / (1 + math.exp(5))
    z = (i.numel() / 2 - dyads * p) / math.sqrt(dyads * p * (1 - p))
    assert largest(z) < LIMIT


def test_row_probabilities_are_rows_of_the_link_probabilities():
    case = Case("arcs-bias")
    rows = case.distribution().row_probabilities(slice(3, 8)).detach()
    np.testing.assert_allclose(rows, probabilities(case)[3:8], rtol=1e-12)


# -- memory -----------------------------------------------------------------------------------------


def big_graph():
    n = 4000
    left = (0.1 * torch.randn(n, 4)).requires_grad_()
    edges = torch.randint(n, (2, 10_000))
    edges = edges[:, edges[0] != edges[1]]
    both = torch.cat((edges, edges.flip(0)), 1)
    value = torch.sparse_coo_tensor(both, torch.ones(both.shape[1]), (n, n)).coalesce()
    return left, value


@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
def test_nothing_larger_than_a_tile_is_ever_made(what):
    left, value = big_graph()
    with LargestTensor() as mode:
        getattr(DyadicBernoulli(left, tile=256), what)(value).sum().backward()
    # a tile has 65,536 numbers; lists of dyads and of nodes have up to 20,000 times 4
    assert mode.largest <= 100_000
    assert mode.largest >= 256**2  # the measurement sees the tiles


@pytest.mark.parametrize("what", ["log_prob", "node_log_prob"])
def test_what_waits_for_the_backward_pass_is_linear_in_the_graph(what):
    left, value = big_graph()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, id):
        getattr(DyadicBernoulli(left), what)(value)
    assert saved
    assert sum(saved) < 500_000  # N x N is 16 million


# -- weights and errors -----------------------------------------------------------------------------


def test_balanced_weights_are_those_of_the_vgae():
    # Kipf and Welling: pos_weight = (D - A) / A on present entries, all times norm = D / (2 (D - A))
    D, A = 561, 78
    norm, pos_weight = D / (2 * (D - A)), (D - A) / A
    assert balanced_weights(A, D) == pytest.approx((norm, norm * pos_weight), rel=1e-14)


def test_balanced_weights_give_half_of_the_dyads_to_each_class():
    w0, w1 = balanced_weights(78, 561)
    assert (w1 * 78, w0 * (561 - 78)) == pytest.approx((561 / 2, 561 / 2), rel=1e-14)


@pytest.mark.parametrize("present", [0, 10])
def test_balancing_needs_both_classes(present):
    with pytest.raises(ValueError, match=rf"{present} of 10 are present"):
        balanced_weights(present, 10)


def test_factors_of_different_shapes():
    with pytest.raises(ValueError, match="left and right factors differ in shape"):
        DyadicBernoulli(torch.zeros(4, 2), torch.zeros(4, 3))


def test_two_sides_of_bias_need_arcs():
    with pytest.raises(ValueError, match="one bias per node: give left_bias only"):
        DyadicBernoulli(torch.zeros(4, 2), right_bias=torch.zeros(4))


@pytest.mark.parametrize("shape", [(4, 4), (12, 11), (2, 12, 12)])
def test_a_value_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"must be one \(12, 12\) adjacency matrix, not"):
        Case("symmetric").distribution().log_prob(torch.zeros(shape))


def test_sample_edges_of_a_batch():
    with pytest.raises(ValueError, match=r"draws one graph; the batch shape is \(3,\)"):
        DyadicBernoulli(torch.zeros(3, 4, 2)).sample_edges()
