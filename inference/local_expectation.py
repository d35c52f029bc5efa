"""Gradients of Bernoulli memberships by local expectations: price both values of every bit, score nothing.

For q(b_nk = 1) = q_nk, independent given what is upstream, the gradient of E_q[log p(A, X | b)] is

.. math::
    \\sum_{nk} \\nabla q_{nk}\\; E[\\log p(\\cdot \\mid b_{nk} = 1, b_{-nk})
    - \\log p(\\cdot \\mid b_{nk} = 0, b_{-nk})].

A bit of node n changes the dyads (and features) of n alone, and all N K differences are had from one pass over the
flipped factors of every node. The sum of softplus terms over the other ends may be taken over a uniform sample of
them, with its exact weight; links and missing dyads are always counted exactly.

References:
    | Local Expectation Gradients for Black Box Variational Inference (Titsias and Lazaro-Gredilla, 2015)
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.ops.provenance import detach_provenance
from pyro.poutine import Trace
from torch import Tensor

from ..models.dyadic import DyadicBernoulli
from ..models.features import BernoulliFeatures
from ..models.tiles import softplus
from .elbo import DyadicELBO, Site, Structure, is_node_bits

__all__ = ["LocalExpectationELBO"]

_ELEMENTS = 2_000_000  # logits of flipped factors held at once


class LocalExpectationELBO(DyadicELBO):
    """:class:`DyadicELBO` whose Bernoulli node sites get local expectations; other discrete sites, dyadic credit.

    Arguments:
        columns: other ends (and feature columns) that a flip is priced on, drawn anew at every step; all if fewer.
    """

    def __init__(
        self, *, columns: int = 128, kl_weight: float = 1.0, num_particles: int = 1
    ) -> None:
        super().__init__(kl_weight=kl_weight, num_particles=num_particles)
        self.columns = columns
        self._call: tuple[Any, Any, Any] | None = None

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        self._call = (model, args, kwargs)
        return super()._get_trace(model, guide, args, kwargs)

    def _credit(
        self, name: str, site: Site, signal: Tensor, model_trace: Trace, guide_trace: Trace
    ) -> Tensor:
        q = site["fn"]
        # a latent that follows these bits would move with a flip, which is priced on what is observed alone
        followed = any(
            name in upstream
            for other, upstream in self._structure_of().upstream.items()
            if other != name and other in guide_trace.nodes
        )
        if not is_node_bits(site) or followed:
            return super()._credit(name, site, signal, model_trace, guide_trace)
        with torch.no_grad():
            gain = self._gain_of_ones(name, site["value"], model_trace, guide_trace)
        return (torch.sigmoid(q.base_dist.logits) * gain).sum()

    def _gain_of_ones(
        self, name: str, bits: Tensor, model_trace: Trace, guide_trace: Trace
    ) -> Tensor:
        """log p(. | b_nk = 1) - log p(. | b_nk = 0) for every bit, (N, K)."""
        bits = detach_provenance(bits)
        flips = bits.shape[-1]
        # Column k flipped for every node at once: by independence row n then is node n with bit k flipped.
        flipped = (bits - torch.eye(flips, device=bits.device, dtype=bits.dtype).unsqueeze(1)).abs()
        changed = guide_trace.copy()
        changed.nodes[name] = {**guide_trace.nodes[name], "value": flipped}
        assert self._call is not None
        model, args, kwargs = self._call
        with pyro.validation_enabled(False), pyro.plate("flips", flips, dim=-2):
            flipped_trace = poutine.trace(poutine.replay(model, changed)).get_trace(*args, **kwargs)
        change: Tensor | float = 0.0
        for site_name, site in model_trace.nodes.items():
            if (
                site["type"] != "sample"
                or not site["is_observed"]
                or site["infer"].get("_deterministic")
            ):
                continue
            before, after = site["fn"], flipped_trace.nodes[site_name]["fn"]
            if isinstance(before, DyadicBernoulli):
                difference = _dyadic_change(before, after, site["value"], self.columns)
            elif isinstance(before, BernoulliFeatures):
                difference = _feature_change(before, after, site["value"], self.columns)
            elif name in self._structure_of().upstream[site_name]:
                difference = after.log_prob(site["value"]) - before.log_prob(site["value"])
            else:
                continue
            change = change + site["scale"] * detach_provenance(difference)
        assert isinstance(change, Tensor)
        return (1.0 - 2.0 * bits) * change.T

    def _structure_of(self) -> Structure:
        assert self._structure is not None
        return self._structure


def _dyadic_change(
    before: DyadicBernoulli, after: DyadicBernoulli, value: Tensor, columns: int
) -> Tensor:
    """log p of node n's dyads with bit k flipped, minus as they are: (K, N)."""
    left, right = (detach_provenance(x) for x in before.factors())
    new_left, new_right = (detach_provenance(x).flatten(0, -3) for x in after.factors())
    present = before.present(value)
    change = _end_change(before, left, right, new_left, present, columns)
    if before.directed:  # node n is also the head of its dyads
        return change + _end_change(
            before, right, left, new_right, present.flip(0), columns, reverse=True
        )
    return change


def _end_change(
    before: DyadicBernoulli,
    left: Tensor,
    right: Tensor,
    new_left: Tensor,
    present: Tensor,
    columns: int,
    reverse: bool = False,
) -> Tensor:
    """The change over the dyads s_nj = l_n'r_j of every n, when l_n alone changes."""
    w0, w1 = before.weights
    nodes = left.shape[-2]
    sampled = _sample(nodes, columns, left.device)
    itself = torch.arange(nodes, device=left.device)[:, None] == sampled  # no self-dyads
    change = -w0 * _softplus_change(left, new_left, right[sampled], itself, nodes / len(sampled))

    def both_ends(pairs: Tensor) -> Tensor:
        return pairs if before.directed else torch.cat((pairs, pairs.flip(0)), 1)

    i, j = both_ends(present)
    if w0 == w1 == 1.0:  # a present dyad adds its logit, which is linear in l_n
        neighbours = torch.zeros_like(left).index_add_(0, i, right[j])
        change = change + ((new_left - left) * neighbours).sum(-1)
    else:
        old, new = _pair_logits(left, new_left, right, i, j)
        added = w0 * (softplus(new) - softplus(old)) - w1 * (softplus(-new) - softplus(-old))
        change = change.index_add(-1, i, added)
    if before.missing is not None and before.missing.shape[1]:
        i, j = both_ends(before.missing.flip(0) if reverse else before.missing)
        old, new = _pair_logits(left, new_left, right, i, j)
        change = change.index_add(-1, i, w0 * (softplus(new) - softplus(old)))
    return change


def _feature_change(
    before: BernoulliFeatures, after: BernoulliFeatures, value: Tensor, columns: int
) -> Tensor:
    """log p(X_n) with bit k flipped, minus as it is: (K, N)."""
    old, new = detach_provenance(before.factors), detach_provenance(after.factors)
    carried = value @ before.weight  # sum_d x_nd w_d, (N, K)
    sampled = _sample(before.weight.shape[0], columns, old.device)
    one = torch.ones_like(old[:, :1])
    right = torch.cat((before.weight, before.bias[:, None]), 1)[sampled]
    old_left, new_left = (
        torch.cat((old, one), 1),
        torch.cat((new, one.expand(*new.shape[:-1], 1)), -1),
    )
    weight = before.weight.shape[0] / len(sampled)
    return ((new - old) * carried).sum(-1) - _softplus_change(
        old_left, new_left, right, None, weight
    )


def _softplus_change(
    left: Tensor, new_left: Tensor, right: Tensor, excluded: Tensor | None, weight: float
) -> Tensor:
    """weight * sum_j softplus(l'_kn r_j) - softplus(l_n r_j) in row blocks: (K, N) from (N, F), (K, N, F), (M, F)."""
    flips, nodes = new_left.shape[:2]
    out = new_left.new_empty(flips, nodes)
    moves = _common_directions(left, new_left)
    step = max(1, _ELEMENTS // (flips * right.shape[0]))
    for start in range(0, nodes, step):
        rows = slice(start, start + step)
        old = left[rows] @ right.T
        if moves is None:
            new = new_left[:, rows] @ right.T
        else:  # rank one: no product of all flipped factors
            lengths, directions = moves
            new = torch.addcmul(old, lengths[:, rows, None], (directions @ right.T)[:, None])
        old, new = softplus(old), softplus(new)
        if excluded is not None:
            old = old.masked_fill(excluded[rows], 0.0)
            new = new.masked_fill(excluded[rows], 0.0)
        out[:, rows] = weight * (new.sum(-1) - old.sum(-1))
    return out


def _common_directions(left: Tensor, new_left: Tensor) -> tuple[Tensor, Tensor] | None:
    """(a (K, N), d (K, F)) with l'_kn = l_n + a_kn d_k to rounding, as a linear or identity f moves; else None."""
    change = new_left - left
    furthest = change.abs().amax(-1).argmax(1)
    directions = change[torch.arange(len(change), device=change.device), furthest]
    info = torch.finfo(change.dtype)
    squared = (directions**2).sum(-1, keepdim=True).clamp(min=info.tiny)
    lengths = (change @ directions[..., None])[..., 0] / squared
    rest = (change - lengths[..., None] * directions[:, None]).abs().amax()
    rounding = 64 * info.eps * torch.maximum(left.abs().amax(), new_left.abs().amax())
    return (lengths, directions) if rest <= rounding else None


def _pair_logits(
    left: Tensor, new_left: Tensor, right: Tensor, i: Tensor, j: Tensor
) -> tuple[Tensor, Tensor]:
    ends = right[j]
    return (left[i] * ends).sum(-1), (new_left[:, i] * ends).sum(-1)


def _sample(size: int, columns: int, device: torch.device) -> Tensor:
    if size <= columns:
        return torch.arange(size, device=device)
    return torch.randperm(size, device=device)[:columns]
