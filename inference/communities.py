"""How many communities there are, and how well found communities agree with known ones.

A *cover* is a matrix of nodes by communities, (N, K), True where a node is a member: communities may overlap, and a
node may have none. Every measure of two covers here is symmetric but for the order of its arguments, does not care how
communities are numbered, and drops communities without members first. If then neither cover has a community, they
agree (1); if only one of them has none, they do not (0). The Omega index looks at pairs of nodes alone, so that it
cannot tell no community from communities of one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)

__all__ = [
    "NumberOfCommunities",
    "average_f1",
    "disjoint_scores",
    "number_of_communities",
    "omega_index",
    "overlapping_nmi",
]

_PAIRS_AT_ONCE = 4_000_000  # numbers of a block of the (N, N) matrices of the Omega index


@dataclass(frozen=True)
class NumberOfCommunities:
    """The posterior of the number of communities that have a member.

    Attributes:
        mean: posterior mean.
        mode: most probable number; the smallest of several.
        low, high: ends of the central 90 % credible interval, both included; it holds at least 90 %.
        probabilities: the numbers that were drawn, in rising order, and the share of the draws that has each.
    """

    mean: float
    mode: int
    low: int
    high: int
    probabilities: dict[int, float]


def number_of_communities(posterior: Any) -> NumberOfCommunities:
    """Count the communities with at least one member, draw by draw.

    Arguments:
        posterior: ArviZ data whose group ``posterior`` has ``memberships`` (chain, draw, node, community), a member
            where above 1/2, or ``membership`` (chain, draw, node), the number of the community of each node.

    Raises:
        ValueError: the posterior has neither, or no draws.
    """
    group = posterior.posterior
    if "memberships" in group:
        found = group["memberships"].transpose("chain", "draw", "node", "community").values
        used = (found > 0.5).any(axis=2).sum(axis=-1).ravel()
    elif "membership" in group:
        labels = group["membership"].transpose("chain", "draw", "node").values
        labels = np.sort(labels.reshape(-1, labels.shape[-1]), axis=1)
        used = (np.diff(labels, axis=1) != 0).sum(axis=1) + (labels.shape[1] > 0)
    else:
        raise ValueError(
            "the posterior has neither 'memberships' (node, community) nor 'membership' (node): "
            "only stories with communities can be asked how many there are"
        )
    if not used.size:
        raise ValueError("the posterior has no draws: draw some first (fit.posterior(draws=500))")
    numbers, counts = np.unique(used, return_counts=True)
    low, high = np.quantile(used, (0.05, 0.95), method="inverted_cdf")
    return NumberOfCommunities(
        mean=float(used.mean()),
        mode=int(numbers[counts.argmax()]),
        low=int(low),
        high=int(high),
        probabilities=dict(zip(numbers.tolist(), (counts / used.size).tolist(), strict=True)),
    )


def disjoint_scores(labels: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compare two partitions by scikit-learn.

    ``nmi`` is the mutual information over the *arithmetic* mean of the two entropies; ``ami`` the same corrected for
    chance (Vinh, Epps and Bailey 2010), with the arithmetic mean again; ``ari`` the adjusted Rand index (Hubert and
    Arabie 1985). NMI grows with the number of groups even for random labels: AMI and ARI do not, being 0 on average.

    Arguments:
        labels: group of each node, (N,) integers.
        truth: known group of each node, (N,) integers; -1 where not known, and such nodes are left out.

    Raises:
        ValueError: the two are not (N,) integers, or no node has a known group.
    """
    found, known = checked_labels(labels, truth)
    return {
        "nmi": float(normalized_mutual_info_score(known, found, average_method="arithmetic")),
        "ami": float(adjusted_mutual_info_score(known, found, average_method="arithmetic")),
        "ari": float(adjusted_rand_score(known, found)),
    }


def overlapping_nmi(
    memberships: ArrayLike, truth: ArrayLike, form: Literal["max", "lfk"] = "max"
) -> float:
    r"""Normalised mutual information of two covers, 1 for equal covers.

    With :math:`H(X_i | Y_j)` the conditional entropy of the indicators of two communities, set to :math:`H(X_i)` where
    :math:`h(a) + h(d) < h(b) + h(c)` (so that a community is not called known because its complement is),
    :math:`H(X_i | Y) = \min_j H(X_i | Y_j)` and sums over communities, the forms are

    - ``"max"``: :math:`\tfrac12 [H(X) - H(X|Y) + H(Y) - H(Y|X)] / \max(H(X), H(Y))`, :math:`NMI_{max}` of McDaid,
      Greene and Hurley, *Normalized Mutual Information to evaluate overlapping community finding algorithms* (2011,
      arXiv 1110.2515);
    - ``"lfk"``: :math:`1 - \tfrac12 [\mathrm{mean}_i H(X_i|Y)/H(X_i) + \mathrm{mean}_j H(Y_j|X)/H(Y_j)]`, of
      Lancichinetti, Fortunato and Kertész, *Detecting the overlapping and hierarchical community structure in complex
      networks* (2009). It gives about 1/2 to covers that hold one right community among very many.

    Neither is the NMI of partitions where communities do not overlap. A community of all nodes has no entropy; it
    counts as known (``"lfk"``) exactly if the other cover has one too.

    Arguments:
        memberships: (N, K) booleans, or 0 and 1.
        truth: (N, L) of the same nodes.
        form: normalisation.

    Raises:
        ValueError: not two matrices of 0 and 1 of the same nodes, or an unknown form.
    """
    if form not in ("max", "lfk"):
        raise ValueError(f"form must be 'max' or 'lfk', not {form!r}")
    x, y = _covers(memberships, truth)
    if not x.shape[1] or not y.shape[1]:
        return float(x.shape[1] == y.shape[1])
    n = len(x)
    both = x.T @ y  # (K, L)
    first, second = x.sum(axis=0)[:, None] - both, y.sum(axis=0)[None] - both
    neither = n - both - first - second
    same = _entropy_term(neither, n) + _entropy_term(both, n)
    different = _entropy_term(first, n) + _entropy_term(second, n)
    entropy_x, entropy_y = (
        (_entropy_term(z.sum(axis=0), n) + _entropy_term(n - z.sum(axis=0), n)) for z in (x, y)
    )
    telling = same >= different
    joint = same + different
    x_given_y = np.where(telling, joint - entropy_y[None], entropy_x[:, None]).min(axis=1)
    y_given_x = np.where(telling, joint - entropy_x[:, None], entropy_y[None]).min(axis=0)
    x_given_y, y_given_x = np.maximum(x_given_y, 0.0), np.maximum(y_given_x, 0.0)
    if form == "lfk":
        everyone = (entropy_x == 0).any() == (entropy_y == 0).any()
        shares = [
            np.divide(given, own, out=np.full_like(own, float(not everyone)), where=own > 0).mean()
            for given, own in ((x_given_y, entropy_x), (y_given_x, entropy_y))
        ]
        return float(1.0 - 0.5 * sum(shares))
    most = max(entropy_x.sum(), entropy_y.sum())
    if most == 0:  # communities of all nodes only, in both
        return 1.0
    mutual = entropy_x.sum() - x_given_y.sum() + entropy_y.sum() - y_given_x.sum()
    return float(0.5 * mutual / most)


def omega_index(memberships: ArrayLike, truth: ArrayLike) -> float:
    """Omega index of two covers: how often pairs of nodes share the same number of communities, beyond chance.

    (observed - expected) / (1 - expected), where *observed* is the share of pairs of nodes that are together in exactly
    as many communities of one cover as of the other, and *expected* the same if the pairs of one cover were shuffled.
    The adjusted Rand index if no communities overlap. 1 if both covers put all pairs together equally often.
    Costs O(N^2 (K + L)).

    Source: Collins and Dent, *Omega: a general formulation of the Rand index of cluster recovery suitable for
    non-disjoint solutions*, Multivariate Behavioral Research 23 (1988).

    Arguments:
        memberships: (N, K) booleans, or 0 and 1.
        truth: (N, L) of the same nodes.

    Raises:
        ValueError: not two matrices of 0 and 1 of the same nodes, or fewer than two nodes.
    """
    x, y = _covers(memberships, truth)
    n = len(x)
    if n < 2:
        raise ValueError("the Omega index compares pairs of nodes: it needs two nodes or more")
    # float32 counts exactly far beyond any number of communities, and multiplies fast
    x, y = x.astype(np.float32), y.astype(np.float32)
    height, width = int(x.sum(axis=1).max()) + 1, int(y.sum(axis=1).max()) + 1
    table = np.zeros(height * width, dtype=np.int64)  # ordered pairs by the two numbers shared
    rows = max(1, _PAIRS_AT_ONCE // n)
    for start in range(0, n, rows):  # blocks of nodes: N x N may not fit into memory
        part = slice(start, start + rows)
        code = (x[part] @ x.T).astype(np.int64) * width + (y[part] @ y.T).astype(np.int64)
        table += np.bincount(code.ravel(), minlength=table.size)
    own = x.sum(axis=1).astype(np.int64) * width + y.sum(axis=1).astype(np.int64)
    table -= np.bincount(own, minlength=table.size)  # a node is no pair
    shares = table.reshape(height, width) / (n * (n - 1))
    observed = np.trace(shares)
    least = min(height, width)
    expected = shares.sum(axis=1)[:least] @ shares.sum(axis=0)[:least]
    if np.isclose(expected, 1.0, rtol=0.0, atol=1e-12):
        return 1.0
    return float((observed - expected) / (1.0 - expected))


def average_f1(memberships: ArrayLike, truth: ArrayLike) -> float:
    """Average F1 score of two covers: of each community with the best match in the other, averaged both ways.

    Half the mean over known communities plus half the mean over found ones (Yang and Leskovec, *Overlapping community
    detection at scale*, WSDM 2013). It is not corrected for chance: large random communities score well above 0.

    Arguments:
        memberships: (N, K) booleans, or 0 and 1.
        truth: (N, L) of the same nodes.

    Raises:
        ValueError: not two matrices of 0 and 1 of the same nodes.
    """
    x, y = _covers(memberships, truth)
    if not x.shape[1] or not y.shape[1]:
        return float(x.shape[1] == y.shape[1])
    f1 = 2.0 * (x.T @ y) / (x.sum(axis=0)[:, None] + y.sum(axis=0)[None])
    return float(0.5 * (f1.max(axis=1).mean() + f1.max(axis=0).mean()))


def checked_labels(labels: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as integers, of the nodes whose truth is known (not -1)."""
    found, known = np.asarray(labels), np.asarray(truth)
    for name, values in (("labels", found), ("truth", known)):
        if values.ndim != 1 or values.dtype.kind not in "iub":
            raise ValueError(
                f"{name} must be one integer a node, shape (N,), not {values.dtype} of shape {values.shape}; "
                "for memberships that overlap there are overlapping_nmi, omega_index and average_f1"
            )
    if len(found) != len(known):
        raise ValueError(f"labels are of {len(found)} nodes and truth of {len(known)}")
    labelled = known != -1
    if not labelled.any():
        raise ValueError("truth is -1 for every node: no group is known to compare with")
    return found[labelled].astype(np.int64), known[labelled].astype(np.int64)


def _covers(memberships: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both covers as 0.0 and 1.0, communities without members dropped."""
    pair = []
    for name, cover in (("memberships", memberships), ("truth", truth)):
        values = np.asarray(cover)
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} must be nodes by communities, shape (N, K), not {values.dtype} of shape {values.shape}"
            )
        if not ((values == 0) | (values == 1)).all():
            raise ValueError(
                f"{name} must be 0 or 1: cut probabilities first (memberships > 0.5), or use matched_auc"
            )
        pair.append(values[:, values.any(axis=0)].astype(np.float64))
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"memberships are of {len(pair[0])} nodes and truth of {len(pair[1])}")
    if not len(pair[0]):
        raise ValueError("there are no nodes to compare")
    return pair[0], pair[1]


def _entropy_term(count: np.ndarray, total: int) -> np.ndarray:
    """-p log p of the shares, in nats (the unit cancels)."""
    share = count / total
    return -xlogy(share, share)
