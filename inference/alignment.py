"""Which community of one result is which of another: matching, and scores that need it first.

Communities have no order: two chains, or a fit and the truth, number them differently (label switching). Everything
here solves a linear assignment problem for the best one-to-one matching (the Hungarian method, by SciPy).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score
from sklearn.metrics.cluster import contingency_matrix

from .communities import checked_labels

__all__ = ["align_draws", "match_communities", "matched_auc", "overlap_with", "relabel_draws"]

_NUMBERS_AT_ONCE = 8_000_000  # of a chunk of draws
_ROUNDS = 100


def match_communities(memberships: ArrayLike, reference: ArrayLike) -> np.ndarray:
    r"""Match the communities of one result to those of another, one to one.

    The matching maximises the sum of Tanimoto coefficients
    :math:`\sum_n a_n b_n / \sum_n (a_n^2 + b_n^2 - a_n b_n)`: the shared members over all members (Jaccard) where
    memberships are 0 or 1. A community of nearly everyone so does not take the place of a small one that fits.

    Arguments:
        memberships: (N, K) memberships, or probabilities of them.
        reference: (N, L) of the same nodes.

    Returns:
        Which column of ``memberships`` stands for each of the reference: (max(K, L),) integers. The first L are the
        matches, -1 where there is none left (L > K); then come the columns that matched nothing, in rising order
        (K > L). With K >= L it is a permutation, and ``memberships[:, order]`` puts like below like.

    Raises:
        ValueError: not two matrices of numbers of the same nodes.
    """
    a, b = _weights("memberships", memberships), _weights("reference", reference)
    if len(a) != len(b):
        raise ValueError(f"memberships are of {len(a)} nodes and the reference of {len(b)}")
    shared = a.T @ b
    union = (a**2).sum(axis=0)[:, None] + (b**2).sum(axis=0)[None] - shared
    likeness = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return _completed(*linear_sum_assignment(likeness, maximize=True), *likeness.shape)


def matched_auc(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve of membership probabilities, after matching communities to the known ones.

    The mean over known communities of the chance that a member has a higher probability in the matched column than
    a node that is not. A known community without a match counts 1/2, as guessing does; one with no member, or with
    nothing but members, has no area and is left out.

    Arguments:
        probabilities: (N, K) membership probabilities.
        truth: (N, L) 0 or 1.

    Raises:
        ValueError: not two matrices of the same nodes, truth other than 0 and 1, or no known community that has both
            members and others.
    """
    p, known = _weights("probabilities", probabilities), _weights("truth", truth)
    if not ((known == 0) | (known == 1)).all():
        raise ValueError("truth must be 0 or 1, node by community")
    known = known[:, (known.min(axis=0, initial=1) == 0) & (known.max(axis=0, initial=0) == 1)]
    if not known.shape[1]:
        raise ValueError("no known community has both members and others: there is nothing to rank")
    order = match_communities(p, known)[: known.shape[1]]
    matched = order >= 0
    if not matched.any():
        return 0.5
    areas = roc_auc_score(known[:, matched], p[:, order[matched]], average=None)
    return float((np.sum(areas) + 0.5 * np.sum(~matched)) / len(order))


def overlap_with(labels: ArrayLike, truth: ArrayLike) -> float:
    """Overlap with a planted partition: nodes put right under the best renaming of the groups, beyond chance.

    (share right - chance) / (1 - chance), where chance is the share of the largest known group, what one gets by
    naming that for everyone: 1 for the truth up to names, 0 for a single group, and below 0 for labels that do worse.
    Found groups are matched one to one; those that are too many count as wrong.

    Source: Decelle, Krzakala, Moore and Zdeborová, *Asymptotic analysis of the stochastic block model for modular
    networks and its algorithmic applications*, Physical Review E 84 (2011).

    Arguments:
        labels: group of each node, (N,) integers.
        truth: known group of each node, (N,) integers; -1 where not known, and such nodes are left out.

    Raises:
        ValueError: the two are not (N,) integers, no group is known, or there is only one, so that nothing is beyond
            chance.
    """
    found, known = checked_labels(labels, truth)
    table = contingency_matrix(known, found)
    if len(table) < 2:
        raise ValueError("truth has one group only: the overlap needs two or more to tell apart")
    chance = table.sum(axis=1).max() / len(known)
    right = table[linear_sum_assignment(table, maximize=True)].sum() / len(known)
    return float((right - chance) / (1.0 - chance))


def align_draws(draws: ArrayLike, reference: ArrayLike | None = None) -> np.ndarray:
    """Undo label switching: renumber the communities of every draw so that they mean the same in all.

    The permutations minimise the squared distance of the renumbered memberships to the reference. Without one, the
    reference is the mean of the renumbered draws, and both are improved in turn until no draw changes; the distance
    falls in every round (the scheme of Stephens, *Dealing with label switching in mixture models*, JRSS B 62 (2000),
    with squared loss). It starts at the first draw and ends in a local optimum, like any such scheme.

    Arguments:
        draws: (S, N, K) memberships of 0 and 1, or (S, N) integers from 0, the community of each node. Lay chains end
            to end to align them all.
        reference: (N, K) memberships or probabilities to align to.

    Returns:
        (S, K) permutations: entry [s, k] is the number that community k has in draw s. :func:`relabel_draws` applies
        them, to other variables over communities also.

    Raises:
        ValueError: draws of another form, or a reference of another shape.
    """
    z = np.asarray(draws)
    if z.ndim not in (2, 3) or z.dtype.kind not in ("iub" if z.ndim == 2 else "biuf") or not z.size:
        raise ValueError(
            "draws must be memberships, shape (S, N, K), or integer labels, shape (S, N), "
            f"not {z.dtype} of shape {z.shape}"
        )
    if z.ndim == 2 and z.min() < 0:
        raise ValueError(
            "labels must be numbers of communities, 0 or more; a draw has a negative one"
        )
    target = None if reference is None else _weights("reference", reference)
    if target is not None and len(target) != z.shape[1]:
        raise ValueError(f"the reference is of {len(target)} nodes and the draws of {z.shape[1]}")
    least = 0 if target is None else target.shape[1]
    count = z.shape[2] if z.ndim == 3 else max(int(z.max()) + 1, least)
    if target is not None:
        if target.shape[1] > count or (z.ndim == 3 and target.shape[1] < count):
            raise ValueError(
                f"the reference has {target.shape[1]} communities and the draws {count}"
            )
        target = np.pad(target, ((0, 0), (0, count - target.shape[1])))
        return _assigned(z, target)
    permutations = np.tile(np.arange(count), (len(z), 1))
    target = _one_hot(z[:1], count)[0].astype(np.float64)
    for _ in range(_ROUNDS):
        before = permutations
        permutations = _assigned(z, target)
        if np.array_equal(before, permutations):
            break
        target = _mean(z, permutations)
    return permutations


def relabel_draws(draws: ArrayLike, permutations: ArrayLike) -> np.ndarray:
    """Renumber the communities of every draw.

    Arguments:
        draws: (S, N) integer labels, or (S, ..., K) of anything that is listed by community in its last dimension, as
            memberships, strengths and sticks are.
        permutations: (S, K) as :func:`align_draws` returns them.

    Returns:
        Renumbered draws, of the same shape and type.

    Raises:
        ValueError: shapes that do not go together.
    """
    z, order = np.asarray(draws), np.asarray(permutations)
    if order.ndim != 2 or z.ndim < 2 or len(order) != len(z):
        raise ValueError(f"permutations of shape {order.shape} do not fit draws of {z.shape}")
    if z.ndim == 2 and z.dtype.kind in "iu":
        if z.min(initial=0) < 0 or z.max(initial=0) >= order.shape[1]:
            raise ValueError(f"labels must lie from 0 to {order.shape[1] - 1}, as the permutations")
        return np.take_along_axis(np.argsort(order, axis=1), z, axis=1).astype(z.dtype)
    if z.shape[-1] != order.shape[1]:
        raise ValueError(f"draws of {z.shape[-1]} communities, permutations of {order.shape[1]}")
    return np.take_along_axis(z, order.reshape(len(z), *[1] * (z.ndim - 2), -1), axis=-1)


def _assigned(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Best permutation of each draw, (S, K), for a target of shape (N, K).

    All columns are used, so the squared distance is a constant less twice the overlap that is maximised here.
    """
    n, count = target.shape
    found = np.empty((len(z), count), dtype=np.int64)
    chunk = max(1, _NUMBERS_AT_ONCE // max(1, n * count))
    for start in range(0, len(z), chunk):
        part = _one_hot(z[start : start + chunk], count).astype(np.float64)
        overlap = np.einsum("nl,snk->slk", target, part, optimize=True)
        for offset, matrix in enumerate(overlap):  # SciPy solves one assignment at a time
            found[start + offset] = linear_sum_assignment(matrix, maximize=True)[1]
    return found


def _mean(z: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Mean of the renumbered draws, (N, K), in chunks of draws."""
    count = permutations.shape[1]
    total = np.zeros((z.shape[1], count))
    chunk = max(1, _NUMBERS_AT_ONCE // max(1, z.shape[1] * count))
    for start in range(0, len(z), chunk):
        part = slice(start, start + chunk)
        total += relabel_draws(_one_hot(z[part], count), permutations[part]).sum(axis=0)
    return total / len(z)


def _one_hot(z: np.ndarray, count: int) -> np.ndarray:
    return z if z.ndim == 3 else z[..., None] == np.arange(count)


def _completed(rows: np.ndarray, columns: np.ndarray, found: int, known: int) -> np.ndarray:
    """From pairs of an assignment to one number a column: see :func:`match_communities`."""
    order = np.full(max(found, known), -1, dtype=np.int64)
    order[columns] = rows
    order[known:] = np.setdiff1d(np.arange(found), rows)
    return order


def _weights(name: str, values: ArrayLike) -> np.ndarray:
    weights = np.asarray(values)
    if weights.ndim != 2 or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be nodes by communities, shape (N, K), not {weights.dtype} of shape {weights.shape}"
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"{name} holds values that are not finite numbers")
    return weights.astype(np.float64)
