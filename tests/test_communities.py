"""Scores of communities against hand computations, enumeration and scikit-learn; matching and alignment."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from chance import LIMIT, largest
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from graphlore.inference import (
    align_draws,
    average_f1,
    disjoint_scores,
    match_communities,
    matched_auc,
    number_of_communities,
    omega_index,
    overlap_with,
    overlapping_nmi,
    relabel_draws,
)
from graphlore.inference._arviz import to_arviz

COVER_SCORES = [
    overlapping_nmi,
    lambda x, y: overlapping_nmi(x, y, "lfk"),
    omega_index,
    average_f1,
]
each_score = pytest.mark.parametrize("score", COVER_SCORES, ids=["max", "lfk", "omega", "f1"])


def cover(nodes: int, *sets: Any) -> np.ndarray:
    """Members of each community as a matrix, shape (N, K)."""
    x = np.zeros((nodes, len(sets)), dtype=bool)
    for k, members in enumerate(sets):
        x[list(members), k] = True
    return x


def random_cover(rng: np.random.Generator, nodes: int = 12, most: int = 5) -> np.ndarray:
    return rng.random((nodes, rng.integers(1, most + 1))) < rng.uniform(0.1, 0.7)


# --- covers: what every score must do -------------------------------------------------------------


@each_score
def test_equal_covers_score_one_however_they_are_numbered(score: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = random_cover(rng)
        renumbered = x[:, rng.permutation(x.shape[1])]
        padded = np.column_stack([np.zeros(12, bool), renumbered, np.zeros(12, bool)])
        assert score(x, x) == pytest.approx(1.0)
        assert score(x, padded) == pytest.approx(1.0)


@each_score
def test_scores_are_symmetric_and_ignore_the_order_of_nodes(score: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        x, y, nodes = random_cover(rng), random_cover(rng), rng.permutation(12)
        assert score(x, y) == pytest.approx(score(y, x))
        assert score(x[nodes], y[nodes]) == pytest.approx(score(x, y))
        assert score(x.astype(int), y.astype(float)) == score(x, y)
        assert score(x, y) <= 1.0 + 1e-12


@each_score
def test_covers_without_communities(score: Any) -> None:
    none, empty, some = np.zeros((6, 0)), np.zeros((6, 3)), cover(6, {0, 1, 2}, {2, 3})
    assert score(none, empty) == 1.0
    assert score(none, some) == pytest.approx(0.0)
    assert score(some, empty) == pytest.approx(0.0)


@each_score
def test_bad_covers_are_refused(score: Any) -> None:
    x = cover(4, {0, 1})
    with pytest.raises(ValueError, match="0 or 1"):
        score(x * 0.5, x)
    with pytest.raises(ValueError, match="shape"):
        score(x[:, 0], x)
    with pytest.raises(ValueError, match="4 nodes and truth of 3"):
        score(x, x[:3])
    with pytest.raises(ValueError, match="0 or 1"):
        score(x, np.full((4, 1), np.nan))


# --- overlapping NMI ------------------------------------------------------------------------------


def h(count: int, nodes: int) -> float:
    return 0.0 if count == 0 else -count / nodes * math.log2(count / nodes)


def nmi_by_loops(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Both forms as the papers write them, one pair of communities at a time."""
    n = len(x)

    def entropy(z: np.ndarray) -> float:
        return h(int(z.sum()), n) + h(int((~z).sum()), n)

    def given(z: np.ndarray, others: np.ndarray) -> float:
        best = entropy(z)
        for other in others.T:
            a, b = int((~z & ~other).sum()), int((~z & other).sum())
            c, d = int((z & ~other).sum()), int((z & other).sum())
            if h(a, n) + h(d, n) >= h(b, n) + h(c, n):
                best = min(best, h(a, n) + h(b, n) + h(c, n) + h(d, n) - entropy(other))
        return best

    hx, hy = [entropy(z) for z in x.T], [entropy(z) for z in y.T]
    hxy, hyx = [given(z, y) for z in x.T], [given(z, x) for z in y.T]
    top = 0.5 * (sum(hx) - sum(hxy) + sum(hy) - sum(hyx)) / max(sum(hx), sum(hy))
    shares = [
        np.mean([g / e for g, e in zip(*both, strict=True)]) for both in ((hxy, hx), (hyx, hy))
    ]
    return top, 1.0 - 0.5 * float(sum(shares))


def test_nmi_is_that_of_the_papers_term_by_term() -> None:
    rng = np.random.default_rng(2)
    compared = 0
    while compared < 200:
        x, y = random_cover(rng), random_cover(rng)
        sums = np.concatenate([x.sum(0), y.sum(0)])
        if sums.min() == 0 or sums.max() == len(x):
            continue
        top, lfk = nmi_by_loops(x, y)
        assert overlapping_nmi(x, y) == pytest.approx(top, abs=1e-12)
        assert overlapping_nmi(x, y, "lfk") == pytest.approx(lfk, abs=1e-12)
        compared += 1


def test_nmi_by_hand() -> None:
    # 8 nodes, {0,1,2,3} against {0,1,2,4}: a = d = 3, b = c = 1. Entropies are 1 bit each, the joint one is
    # 2 (3/8) log2(8/3) + 2 (1/8) 3, and so H(X|Y) = H(Y|X) = joint - 1.
    conditional = 2 * 3 / 8 * math.log2(8 / 3) + 6 / 8 - 1
    x, y = cover(8, {0, 1, 2, 3}), cover(8, {0, 1, 2, 4})
    for form in ("max", "lfk"):
        assert overlapping_nmi(x, y, form) == pytest.approx(1 - conditional)


def test_a_community_is_not_known_by_its_complement() -> None:
    x, y = cover(10, range(4)), cover(10, range(4, 10))
    assert overlapping_nmi(x, y) == overlapping_nmi(x, y, "lfk") == 0.0


def test_lfk_gives_half_to_one_community_among_many_and_max_does_not() -> None:
    """The failure that the max form was made for (McDaid et al. 2011): all subsets hold every community."""
    n = 8
    every = [s for size in range(1, n) for s in itertools.combinations(range(n), size)]
    x, y = cover(n, range(4)), cover(n, *every)
    assert overlapping_nmi(x, y, "lfk") > 0.5
    # Of y only x itself, H = 1 bit, and what x tells of the others count: less than 1/10 of H(Y).
    top, lfk = nmi_by_loops(x, y)
    assert overlapping_nmi(x, y) == pytest.approx(top)
    assert overlapping_nmi(x, y, "lfk") == pytest.approx(lfk)
    assert top < 0.1


def test_independent_covers_score_near_zero_where_there_are_many_nodes() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((20_000, 4)) < 0.3, rng.random((20_000, 5)) < 0.4
    # mutual information of independent bits is about 1 / 2N nats a pair
    assert abs(overlapping_nmi(x, y)) < 0.001
    assert abs(overlapping_nmi(x, y, "lfk")) < 0.001


def test_communities_of_everyone() -> None:
    everyone, half = cover(6, range(6)), cover(6, range(3))
    for form in ("max", "lfk"):
        assert overlapping_nmi(everyone, everyone, form) == 1.0
        assert overlapping_nmi(everyone, half, form) == 0.0
    both = np.hstack([everyone, half])
    # half is known in both ways; everyone is known only if the other has it too
    assert overlapping_nmi(both, half, "lfk") == pytest.approx(0.75)
    assert overlapping_nmi(both, half) == pytest.approx(1.0)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'max' or 'lfk'"):
        overlapping_nmi(np.eye(2), np.eye(2), "sum")  # type: ignore[arg-type]


# --- Omega index ----------------------------------------------------------------------------------


def test_omega_index_by_hand() -> None:
    # Pairs 01 02 03 12 13 23. x = {0,1,2}, {1,2,3} shares 1 1 0 2 1 1; y = {0,1,2}, {3} shares 1 1 0 1 0 0.
    # Equal in 01, 02, 03: observed 3/6. x has 1, 4, 1 pairs sharing 0, 1, 2 and y 3, 3, 0: expected (3 + 12) / 36.
    x, y = cover(4, {0, 1, 2}, {1, 2, 3}), cover(4, {0, 1, 2}, {3})
    assert omega_index(x, y) == pytest.approx((1 / 2 - 15 / 36) / (1 - 15 / 36))


def test_omega_index_of_partitions_is_the_adjusted_rand_index() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        a, b = rng.integers(0, 4, 15), rng.integers(0, 3, 15)
        got = omega_index(a[:, None] == np.arange(4), b[:, None] == np.arange(3))
        assert got == pytest.approx(adjusted_rand_score(a, b))


def test_omega_index_in_blocks_is_that_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlore.inference import communities

    rng = np.random.default_rng(5)
    x, y = rng.random((30, 4)) < 0.4, rng.random((30, 6)) < 0.3
    s, t = ((z.astype(int) @ z.T)[np.triu_indices(30, 1)] for z in (x, y))
    observed = np.mean(s == t)
    expected = sum(np.mean(s == j) * np.mean(t == j) for j in range(7))
    assert omega_index(x, y) == pytest.approx((observed - expected) / (1 - expected))
    whole = omega_index(x, y)
    monkeypatch.setattr(communities, "_PAIRS_AT_ONCE", 200)  # 6 rows at once
    assert omega_index(x, y) == pytest.approx(whole, abs=1e-15)


def test_omega_index_of_independent_covers_is_zero_on_average() -> None:
    rng = np.random.default_rng(6)
    x = rng.random((40, 4)) < 0.4
    scores = [omega_index(x[rng.permutation(40)], x) for _ in range(400)]
    assert largest(np.mean(scores) / (np.std(scores) / 20)) < LIMIT


def test_omega_index_needs_pairs() -> None:
    with pytest.raises(ValueError, match="two nodes"):
        omega_index([[1]], [[1]])


# --- average F1 -----------------------------------------------------------------------------------


def test_average_f1_by_hand() -> None:
    # F1 of {0,1,2} with {0,1}: 4/5, with {2,3,4,5}: 2/7; of {3,4} with {0,1}: 0, with {2,3,4,5}: 4/6.
    x, y = cover(6, {0, 1, 2}, {3, 4}), cover(6, {0, 1}, {2, 3, 4, 5}, {5})
    found, known = (4 / 5 + 4 / 6) / 2, (4 / 5 + 4 / 6 + 0) / 3
    assert average_f1(x, y) == pytest.approx((found + known) / 2)


# --- partitions -----------------------------------------------------------------------------------


def test_disjoint_scores_by_hand_and_without_unlabelled_nodes() -> None:
    # Two groups of two, one of them split: I = log 2, H = log 2 and 1.5 log 2; NMI = 1 / 1.25.
    # Pairs: 2 of 6 together in truth, 1 in labels, 1 in both: ARI = (1 - 2/6) / (1.5 - 2/6) = 4/7.
    truth = np.array([0, 0, 1, 1, -1, -1])
    labels = np.array([5, 5, 2, 7, 5, 2])
    scores = disjoint_scores(labels, truth)
    assert scores["nmi"] == pytest.approx(0.8)
    assert scores["ari"] == pytest.approx(4 / 7)
    # Chance: of the 12 ways to place sizes 2, 1, 1 on sizes 2, 2 (labelled sets aside), a third keeps a pair together
    # (I = log 2), two thirds do not (I = log 2 / 2): E I = 2/3 log 2. AMI = (1 - 2/3) / (1.25 - 2/3) = 4/7.
    assert scores["ami"] == pytest.approx(4 / 7)
    same = disjoint_scores(np.array([3, 3, 0, 0, 1, 1]), truth)
    assert same == pytest.approx({"nmi": 1.0, "ami": 1.0, "ari": 1.0})


@pytest.mark.parametrize("score", [disjoint_scores, overlap_with])
def test_bad_labels_are_refused(score: Any) -> None:
    with pytest.raises(ValueError, match="every node"):
        score([0, 1], [-1, -1])
    with pytest.raises(ValueError, match="2 nodes and truth of 3"):
        score([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="overlapping_nmi"):
        score([0.5, 1.0], [0, 1])
    with pytest.raises(ValueError, match="overlapping_nmi"):
        score(np.eye(2, dtype=int), [0, 1])


def test_overlap_with_is_the_best_over_all_permutations() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        truth, labels = rng.integers(0, 4, 20), rng.integers(0, 4, 20)
        best = max(np.mean(np.array(p)[labels] == truth) for p in itertools.permutations(range(4)))
        chance = np.bincount(truth).max() / 20
        assert overlap_with(labels, truth) == pytest.approx((best - chance) / (1 - chance))


def test_overlap_with_by_hand() -> None:
    truth = [0, 0, 0, 1, 1, 1, -1]
    assert overlap_with([1, 1, 1, 0, 0, 0, 0], truth) == 1.0
    assert overlap_with([4, 4, 4, 4, 4, 4, 4], truth) == 0.0
    assert overlap_with([0, 0, 1, 1, 2, 2, 0], truth) == pytest.approx((4 / 6 - 1 / 2) / (1 / 2))
    assert overlap_with([0, 1, 2, 3, 4, 5, 6], truth) == pytest.approx((2 / 6 - 1 / 2) / (1 / 2))
    with pytest.raises(ValueError, match="one group"):
        overlap_with([0, 1], [3, 3])


# --- matching -------------------------------------------------------------------------------------


def test_matching_finds_the_renumbering() -> None:
    rng = np.random.default_rng(8)
    x = rng.random((40, 6)) < 0.3
    order = rng.permutation(6)
    np.testing.assert_array_equal(match_communities(x[:, order], x), np.argsort(order))
    noisy = np.clip(x + rng.normal(scale=0.1, size=x.shape), 0, 1)[:, order]
    np.testing.assert_array_equal(match_communities(noisy, x), np.argsort(order))


def test_matching_with_too_many_and_too_few_communities() -> None:
    a, b, c = {0, 1, 2}, {3, 4}, {5, 6, 7, 8}
    rest = cover(9, {0, 5}, c, {3}, a, b)
    np.testing.assert_array_equal(match_communities(rest, cover(9, a, b, c)), [3, 4, 1, 0, 2])
    np.testing.assert_array_equal(match_communities(cover(9, c), cover(9, a, c)), [-1, 0])
    np.testing.assert_array_equal(match_communities(np.zeros((9, 0)), cover(9, a, c)), [-1, -1])


def test_a_community_of_everyone_does_not_take_the_place_of_one_that_fits() -> None:
    found = cover(9, range(9), {0, 1, 2})
    np.testing.assert_array_equal(match_communities(found, cover(9, {0, 1, 2})), [1, 0])


def test_bad_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="3 nodes and the reference of 2"):
        match_communities(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="finite"):
        match_communities(np.full((2, 2), np.nan), np.eye(2))
    with pytest.raises(ValueError, match="shape"):
        match_communities([0, 1], np.eye(2))


def test_matched_auc_by_hand() -> None:
    truth = cover(5, {0, 1}, {2, 3, 4})
    p = np.array([[0.1, 0.9], [0.2, 0.3], [0.9, 0.4], [0.8, 0.1], [0.7, 0.2]])
    # Column 1 for {0, 1}: of 6 comparisons node 1 loses one (0.3 < 0.4). Column 0 for {2, 3, 4}: none is lost.
    assert matched_auc(p, truth) == pytest.approx((5 / 6 + 1) / 2)
    # With column 0 alone {0, 1} has no match and counts a half.
    assert matched_auc(p[:, :1], truth) == pytest.approx((1 / 2 + 1) / 2)
    assert matched_auc(p[:, :0], truth) == 0.5
    # Communities of all and of none have no area.
    more = np.hstack([truth, np.ones((5, 1)), np.zeros((5, 1))])
    assert matched_auc(p, more) == pytest.approx((5 / 6 + 1) / 2)


def test_matched_auc_is_that_of_scikit_learn_and_does_not_mind_the_order() -> None:
    rng = np.random.default_rng(9)
    truth = rng.random((60, 4)) < 0.4
    p = np.clip(0.5 * truth + 0.5 * rng.random((60, 4)), 0, 1)
    expected = np.mean([roc_auc_score(truth[:, k], p[:, k]) for k in range(4)])
    assert matched_auc(p[:, rng.permutation(4)], truth) == pytest.approx(expected)


def test_matched_auc_refuses_a_truth_that_ranks_nothing() -> None:
    with pytest.raises(ValueError, match="both members and others"):
        matched_auc(np.eye(3), np.ones((3, 2)))
    with pytest.raises(ValueError, match="0 or 1"):
        matched_auc(np.eye(3), 0.5 * np.eye(3))


# --- label switching ------------------------------------------------------------------------------


@pytest.fixture
def switched() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws around one cover, (S, N, K), each renumbered; with the numbers and the draws as they were."""
    rng = np.random.default_rng(10)
    chance = np.where(rng.random((50, 5)) < 0.35, 0.9, 0.05)
    plain = (rng.random((80, 50, 5)) < chance).astype(np.int8)
    orders = np.argsort(rng.random((80, 5)), axis=1)
    return np.take_along_axis(plain, orders[:, None], axis=2), orders, plain


def test_alignment_to_a_reference_undoes_switching(switched: Any) -> None:
    draws, orders, plain = switched
    permutations = align_draws(draws, plain.mean(axis=0))
    np.testing.assert_array_equal(permutations, np.argsort(orders, axis=1))
    np.testing.assert_array_equal(relabel_draws(draws, permutations), plain)


def test_alignment_without_reference_undoes_switching_up_to_one_renumbering(switched: Any) -> None:
    draws, orders, plain = switched
    permutations = align_draws(draws)
    np.testing.assert_array_equal(permutations[0], np.arange(5))  # numbered as the first draw
    np.testing.assert_array_equal(relabel_draws(draws, permutations), plain[:, :, orders[0]])


def test_alignment_is_a_fixed_point_with_least_distance_draw_by_draw(switched: Any) -> None:
    rng = np.random.default_rng(11)
    noise = (rng.random((12, 10, 4)) < 0.5).astype(int)  # nothing in common: the hard case
    permutations = align_draws(noise)
    centre = relabel_draws(noise, permutations).mean(axis=0)
    for draw, chosen in zip(noise, permutations, strict=True):
        distances = [
            ((draw[:, list(p)] - centre) ** 2).sum() for p in itertools.permutations(range(4))
        ]
        assert ((draw[:, chosen] - centre) ** 2).sum() == pytest.approx(min(distances))


def test_alignment_of_integer_labels(switched: Any) -> None:
    rng = np.random.default_rng(12)
    truth = rng.integers(0, 4, 60)
    z = np.where(rng.random((40, 60)) < 0.9, truth, rng.integers(0, 4, (40, 60)))
    renamed = np.array([rng.permutation(4)[draw] for draw in z])
    one_hot = truth[:, None] == np.arange(4)
    permutations = align_draws(renamed, one_hot)
    np.testing.assert_array_equal(relabel_draws(renamed, permutations), z)
    # the same as memberships
    hot = (renamed[..., None] == np.arange(4)).astype(int)
    np.testing.assert_array_equal(align_draws(hot, one_hot), permutations)
    np.testing.assert_array_equal(relabel_draws(hot, permutations), z[..., None] == np.arange(4))
    # unused numbers of a wider reference are kept as permutations
    wide = align_draws(renamed, np.pad(one_hot, ((0, 0), (0, 2))))
    np.testing.assert_array_equal(np.sort(wide, axis=1), np.tile(np.arange(6), (40, 1)))
    np.testing.assert_array_equal(relabel_draws(renamed, wide), z)


def test_alignment_in_chunks_is_the_same(switched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphlore.inference import alignment

    draws, _, _ = switched
    whole = align_draws(draws)
    monkeypatch.setattr(alignment, "_NUMBERS_AT_ONCE", 7 * 50 * 5)
    np.testing.assert_array_equal(align_draws(draws), whole)


def test_relabelling_goes_along_for_other_variables(switched: Any) -> None:
    _, orders, _ = switched
    sticks = np.random.default_rng(13).random((80, 5))
    switched_sticks = np.take_along_axis(sticks, orders, axis=1)
    np.testing.assert_array_equal(
        relabel_draws(switched_sticks, np.argsort(orders, axis=1)), sticks
    )


def test_bad_draws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(S, N, K\)"):
        align_draws(np.zeros(3, int))
    with pytest.raises(ValueError, match=r"\(S, N\)"):
        align_draws(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="negative"):
        align_draws(np.array([[0, -1]]))
    with pytest.raises(ValueError, match="of 2 nodes and the draws of 3"):
        align_draws(np.zeros((2, 3, 4)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="5 communities and the draws 4"):
        align_draws(np.zeros((2, 3, 4)), np.zeros((3, 5)))
    with pytest.raises(ValueError, match="fit"):
        relabel_draws(np.zeros((2, 3, 4)), np.zeros((3, 4), int))
    with pytest.raises(ValueError, match="from 0 to 1"):
        relabel_draws(np.array([[0, 2]]), np.array([[1, 0]]))
    with pytest.raises(ValueError, match="4 communities, permutations of 2"):
        relabel_draws(np.zeros((1, 3, 4)), np.array([[1, 0]]))


# --- how many -------------------------------------------------------------------------------------


def posterior(name: str, values: np.ndarray) -> Any:
    dims = ("node", "community")[: values.ndim - 2]
    coords = {dim: np.arange(size) for dim, size in zip(dims, values.shape[2:], strict=True)}
    return to_arviz({"posterior": {name: values}}, coords, {name: dims}, {})


def test_number_of_communities_by_hand() -> None:
    # Two chains of two draws: 2, 0, 1 and 2 of three communities have a member.
    b = np.zeros((2, 2, 3, 3), np.int8)
    b[0, 0, 0, 0] = b[0, 0, 1, 0] = b[0, 0, 2, 2] = 1
    b[1, 0, :, 1] = 1
    b[1, 1, 0] = [1, 1, 0]
    found = number_of_communities(posterior("memberships", b))
    assert found.probabilities == {0: 0.25, 1: 0.25, 2: 0.5}
    assert (found.mean, found.mode, found.low, found.high) == (1.25, 2, 0, 2)


def test_number_of_blocks_by_hand() -> None:
    z = np.array([[[0, 0, 5], [1, 1, 1], [2, 0, 1], [4, 4, 0]]])
    found = number_of_communities(posterior("membership", z))
    assert found.probabilities == {1: 0.25, 2: 0.5, 3: 0.25}
    assert (found.mean, found.mode) == (2.0, 2)


def test_the_interval_is_central_and_holds_nine_in_ten() -> None:
    sizes = np.repeat(np.arange(1, 11), 10)  # 1 to 10, ten draws each
    z = np.minimum(np.arange(10), sizes[:, None] - 1)[None]
    found = number_of_communities(posterior("membership", z))
    assert (found.low, found.high) == (1, 10)
    assert found.mode == 1  # the smallest of equals
    inside = sum(p for k, p in found.probabilities.items() if found.low <= k <= found.high)
    assert inside >= 0.9
    sizes = np.repeat([1, 2, 3, 4], [4, 48, 45, 3])  # 4 % below and 3 % above may be left out
    z = np.minimum(np.arange(10), sizes[:, None] - 1)[None]
    found = number_of_communities(posterior("membership", z))
    assert (found.low, found.high) == (2, 3)


def test_a_posterior_without_communities_is_refused() -> None:
    with pytest.raises(ValueError, match="neither 'memberships'"):
        number_of_communities(posterior("bias", np.zeros((1, 4))))
