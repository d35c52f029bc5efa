"""Gradients of memberships by local expectations: price every value of every bit or category, score nothing.

For q(b_nk = 1) = q_nk, independent given what is upstream, the gradient of E_q[log p(A, X | b)] is

.. math::
    \\sum_{nk} \\nabla q_{nk}\\; E[\\log p(\\cdot \\mid b_{nk} = 1, b_{-nk})
    - \\log p(\\cdot \\mid b_{nk} = 0, b_{-nk})].

and, for block memberships with probabilities q_nk,

.. math::
    \\sum_{nk} \\nabla q_{nk}\\; E[\\log p(\\cdot \\mid z_n = k, z_{-n})].

A membership of node n changes the dyads (and features) of n alone, and all differences are had from one pass over the
changed factors of every node. The sum of cumulants over the other ends may be taken over a uniform sample of them, with
its exact weight; links and missing dyads are always counted exactly.

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

from ..models.cumulants import SOFTPLUS, Cumulant
from ..models.dyadic import Dyadic
from ..models.features import BernoulliFeatures
from ..models.processes import processes_for
from ..models.tiles import row_blocks
from .elbo import DyadicELBO, Site, Structure, is_node_bits
from .expectation import is_node_category

__all__ = ["LocalExpectationELBO"]

_ELEMENTS = 2_000_000  # logits of flipped factors held at once


class LocalExpectationELBO(DyadicELBO):
    """:class:`DyadicELBO` with local expectations for bits and categories of nodes; dyadic credit for other sites.

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
        if followed or not (is_node_bits(site) or is_node_category(site)):
            return super()._credit(name, site, signal, model_trace, guide_trace)
        value = detach_provenance(site["value"])
        # One change of every node at once: by independence, row n is then node n with its own change alone.
        if is_node_category(site):
            categories = torch.arange(q.probs.shape[-1], device=value.device)
            with torch.no_grad():
                gain = self._change(
                    name, categories[:, None].expand(-1, len(value)), model_trace, guide_trace
                )
            return (q.probs * gain.T).sum()
        flips = torch.eye(value.shape[-1], device=value.device, dtype=value.dtype)
        with torch.no_grad():
            change = self._change(
                name, (value - flips.unsqueeze(1)).abs(), model_trace, guide_trace
            )
        return (torch.sigmoid(q.base_dist.logits) * (1.0 - 2.0 * value) * change.T).sum()

    def _change(self, name: str, values: Tensor, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """log p of what is observed with node n's value replaced by ``values[c, n]``, minus as it is: (C, N)."""
        flips = len(values)
        changed = guide_trace.copy()
        changed.nodes[name] = {**guide_trace.nodes[name], "value": values}
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
            if isinstance(before, Dyadic):
                difference = _dyadic_change(before, after, site["value"], self.columns)
            elif isinstance(before, BernoulliFeatures):
                difference = _feature_change(before, after, site["value"], self.columns)
            elif name in self._structure_of().upstream[site_name]:
                difference = after.log_prob(site["value"]) - before.log_prob(site["value"])
            else:
                continue
            change = change + site["scale"] * detach_provenance(difference)
        assert isinstance(change, Tensor)
        return change

    def _structure_of(self) -> Structure:
        assert self._structure is not None
        return self._structure


def _dyadic_change(before: Dyadic, after: Dyadic, value: Tensor, columns: int) -> Tensor:
    """log p of node n's dyads with its value changed, minus as they are: (C, N)."""
    left, right = (detach_provenance(x) for x in before.factors())
    new_left, new_right = (detach_provenance(x).flatten(0, -3) for x in after.factors())
    present = before.entries(value)
    change = _end_change(before, left, right, new_left, present, columns)
    if before.directed:  # node n is also the head of its dyads
        return change + _end_change(before, right, left, new_right, present, columns, reverse=True)
    if before.parts is None:
        return change
    # a node of side 1 is always the right end of its dyads
    other = _end_change(before, right, left, new_right, present, columns)
    return torch.where(before.parts == 0, change, other)


def _end_change(
    before: Dyadic,
    left: Tensor,
    right: Tensor,
    new_left: Tensor,
    present: tuple[Tensor, Tensor],
    columns: int,
    reverse: bool = False,
) -> Tensor:
    """The change over the dyads s_nj = l_n'r_j of every n, when l_n alone changes."""
    summed, precision = before.summed_nodes, before.precision
    n = summed.first
    sampled = _sample(n, columns, left.device)
    itself = torch.arange(n, device=left.device)[:, None] == sampled  # no self-dyads
    if before.parts is not None:  # nor any within a side
        itself = before.parts[:, None] == before.parts[sampled]
    weight = summed.weight * n / len(sampled)
    change = new_left.new_zeros(new_left.shape[:2])
    change[:, :n] = -precision * _cumulant_change(
        before.cumulant, left[:n], new_left[:, :n], right[sampled], itself, weight
    )

    def both_ends(pairs: Tensor) -> Tensor:
        if before.directed:
            return pairs.flip(0) if reverse else pairs
        return torch.cat((pairs, pairs.flip(0)), 1)

    pairs, x = present
    i, j = both_ends(pairs)
    x = x if before.directed else torch.cat((x, x))
    if before.is_linear:  # a present dyad adds x s, which is linear in l_n
        neighbours = torch.zeros_like(left).index_add_(0, i, x.unsqueeze(-1) * right[j])
        change = change + precision * ((new_left - left) * neighbours).sum(-1)
    else:
        old, new = _pair_logits(left, new_left, right, i, j)
        change = change.index_add(
            -1, i, before._present_gain(new, x) - before._present_gain(old, x)
        )
    if summed.left_out is not None and summed.left_out.shape[1]:
        i, j = both_ends(summed.left_out)
        old, new = _pair_logits(left, new_left, right, i, j)
        back = before.cumulant(new) - before.cumulant(old)
        change = change.index_add(-1, i, summed.weight * precision * back)
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
    return ((new - old) * carried).sum(-1) - _cumulant_change(
        SOFTPLUS, old_left, new_left, right, None, weight
    )


def _cumulant_change(
    cumulant: Cumulant,
    left: Tensor,
    new_left: Tensor,
    right: Tensor,
    excluded: Tensor | None,
    weight: float,
) -> Tensor:
    """weight * sum_j κ(l'_cn r_j) - κ(l_n r_j) in row blocks: (C, N) from (N, F), (C, N, F), (M, F)."""
    flips, nodes = new_left.shape[:2]
    out = new_left.new_zeros(flips, nodes)
    moves = _common_directions(left, new_left)
    step = max(1, _ELEMENTS // (flips * right.shape[0]))
    blocks = row_blocks(nodes, step)
    processes = processes_for(len(blocks))
    for rows in processes.share(blocks):
        old = left[rows] @ right.T
        if moves is None:
            new = new_left[:, rows] @ right.T
        else:  # rank one: no product of all flipped factors
            lengths, directions = moves
            new = torch.addcmul(old, lengths[:, rows, None], (directions @ right.T)[:, None])
        old, new = cumulant(old), cumulant(new)
        if excluded is not None:
            old = old.masked_fill(excluded[rows], 0.0)
            new = new.masked_fill(excluded[rows], 0.0)
        out[:, rows] = weight * (new.sum(-1) - old.sum(-1))
    processes.add(out)
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
