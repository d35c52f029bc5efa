"""The likelihood of a graph: independent dyads whose natural parameter factorises over nodes.

For a simple graph A with observed dyads M and natural parameters ``s_ij = l_i'r_j + a_i + b_j``,

.. math::
    \\log p(A) = \\sum_{i<j,\\,ij \\in M} A_{ij} s_{ij} - \\kappa(s_{ij}) + \\log h(A_{ij}),

(over ordered pairs when directed, over pairs of one node of either side when bipartite), with the cumulant κ of
Bernoulli, Poisson or Normal edges (:mod:`~graphlore.models.cumulants`). Nothing of size N x N is kept: the sum of κ
over all dyads runs in tiles, present and missing dyads are corrections gathered along their lists, and the gradient
with respect to the factors is accumulated in the same pass, so that memory is O(N K + tile^2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pyro.distributions import TorchDistribution
from pyro.ops.provenance import detach_provenance, get_provenance, track_provenance
from torch import Tensor
from torch.distributions import constraints

from .cumulants import Cumulant
from .dyad_list import DyadList, across
from .tiles import TILE, NodeCumulant, PairLogits, Shape, TotalCumulant, tile_entries

__all__ = ["Dyadic", "SummedNodes", "pair_products"]


_DENSE_NODES = 2000


class SummedNodes(NamedTuple):
    """The dyads over which a density sums κ.

    Attributes:
        first: n; they are those of the first n nodes.
        weight: what each of them counts for.
        left_out: (2, X) int64, the dyads among them that are not in the sum, or None.
    """

    first: int
    weight: float
    left_out: Tensor | None


class Dyadic(TorchDistribution):
    r"""Independent dyads with natural parameters :math:`s_{ij} = l_i^\top r_j + a_i + b_j`; a law of edges fills it in.

    The value is the (weighted) adjacency matrix, (N, N), dense or sparse COO (coalesced), with an empty diagonal; only
    entries of observed dyads are read. :meth:`log_prob` gives one number per graph; :meth:`node_log_prob` splits it
    over nodes, every dyad half to each of its ends.

    Arguments:
        left: factors l, (..., N, K).
        right: factors r, (..., N, K). ``None`` means r = l: the symmetric inner product.
        left_bias: a, (..., N), or ``None`` for zero. Undirected graphs use it for both ends (b = a).
        right_bias: b, (..., N), directed graphs only.
        missing: dyads that are not observed, (2, H) int64; i < j unless directed. They take no part in the density.
        directed: whether (i, j) and (j, i) are two dyads. An undirected graph needs :math:`s_{ij} = s_{ji}`.
        parts: the side, 0 or 1, of every node of a bipartite graph, (N,): its dyads join a node i of side 0 and a node
            j of side 1, and only they do. Then s need not be symmetric.
        tile: rows and columns of a tile.

    Raises:
        ValueError: an undirected graph with two sides of bias, factors of different shapes, directed sides.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False
    has_enumerate_support = False
    cumulant: ClassVar[Cumulant]

    def __init__(
        self,
        left: Tensor,
        right: Tensor | None = None,
        left_bias: Tensor | None = None,
        right_bias: Tensor | None = None,
        *,
        missing: Tensor | None = None,
        directed: bool = False,
        parts: Tensor | None = None,
        tile: int = TILE,
        validate_args: bool | None = None,
    ) -> None:
        if right is not None and right.shape != left.shape:
            raise ValueError(f"left and right factors differ in shape: {left.shape}, {right.shape}")
        if right_bias is not None and not directed:
            raise ValueError("an undirected graph has one bias per node: give left_bias only")
        if parts is not None and directed:
            raise ValueError("a bipartite graph has no directed dyads: leave out directed or parts")
        self.left, self.right = left, right
        self.left_bias, self.right_bias = left_bias, right_bias
        self.missing, self.directed, self.parts, self.tile = missing, directed, parts, tile
        #: let log_prob also find the nodes' shares that incident_log_prob reads, at about a sixth of its time
        self.keep_nodes = False
        self._cached: tuple[Tensor, Tensor] | None = None  # (value, per-node log density)
        nodes = left.shape[-2]
        super().__init__(left.shape[:-2], torch.Size((nodes, nodes)), validate_args=False)

    @property
    def num_nodes(self) -> int:
        return self.event_shape[0]

    @property
    def dyads(self) -> DyadList:
        """All of them, observed or not."""
        return DyadList(self.num_nodes, self.directed, self.parts)

    @property
    def num_dyads(self) -> int:
        """Observed dyads."""
        return len(self.dyads) - (0 if self.missing is None else self.missing.shape[1])

    @constraints.dependent_property(is_discrete=True, event_dim=2)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.boolean, 2)

    def _batched(self) -> dict[str, tuple[Tensor | None, int]]:
        """What carries the batch shape: arguments, and how many event dimensions they have."""
        return {
            "left": (self.left, 2),
            "right": (self.right, 2),
            "left_bias": (self.left_bias, 1),
            "right_bias": (self.right_bias, 1),
        }

    def _options(self) -> dict[str, Any]:
        """The other arguments."""
        return {
            "missing": self.missing,
            "directed": self.directed,
            "parts": self.parts,
            "tile": self.tile,
        }

    def _each(self, change: Callable[[Tensor, int], Tensor]) -> dict[str, Any]:
        return {k: None if x is None else change(x, d) for k, (x, d) in self._batched().items()}

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Self:
        shape = torch.Size(batch_shape)
        grown = self._each(lambda x, event: x.expand(shape + x.shape[x.dim() - event :]))
        return type(self)(**grown, **self._options())

    def one(self, draw: int) -> Self:
        """The distribution of one draw of a batch over draws, as a distribution of batch shape ()."""
        return self._picked(draw)

    def some(self, draws: slice) -> Self:
        """The distribution of some draws of a batch over draws, as one of batch shape (draws,)."""
        return self._picked(draws)

    def _picked(self, draws: int | slice) -> Self:
        batch = self.batch_shape
        picked = self._each(
            lambda x, event: x.expand(batch + x.shape[x.dim() - event :]).flatten(
                0, len(batch) - 1
            )[draws]
        )
        return type(self)(**picked, **self._options())

    def untempered(self) -> Dyadic:
        """The same dyads with their exact density: no weights, no sample of the absent ones."""
        return self

    # -- the law of edges ---------------------------------------------------------------------------------------

    @property
    def precision(self) -> Tensor | float:
        """What x s - κ(s) is multiplied by in the density."""
        return 1.0

    def mean(self, s: Tensor) -> Tensor:
        """Expected value of dyads with natural parameters s."""
        return self.cumulant.mean(s)

    def link_probability(self, s: Tensor) -> Tensor:
        """Probability that a dyad with natural parameter s is an edge (its value is not zero)."""
        raise NotImplementedError

    def _draw(self, s: Tensor) -> Tensor:
        raise NotImplementedError

    def _present_gain(self, s: Tensor, x: Tensor) -> Tensor:
        """What dyads of value x add to the density, once all were counted as zero."""
        raise NotImplementedError

    def _absent_constant(self) -> Tensor | None:
        """What every observed dyad of value zero adds beside -precision κ(s); None: nothing."""
        return None

    @property
    def is_linear(self) -> bool:
        """Whether a present dyad adds precision x s and what does not depend on s."""
        return True

    def dyad_log_prob(self, pairs: Tensor, x: Tensor) -> Tensor:
        """Log density of dyads (2, P) with values (P,), each alone: (..., P)."""
        s = self.logits(pairs)
        precision = self.precision
        if isinstance(precision, Tensor):
            precision = precision.unsqueeze(-1)
        density = self._present_gain(s, x) * (x != 0) - precision * self.cumulant(s)
        constant = self._absent_constant()
        return density if constant is None else density + constant.unsqueeze(-1)

    # -- densities ---------------------------------------------------------------------------------------------

    def logits(self, pairs: Tensor) -> Tensor:
        """Natural parameters s of the given dyads. pairs: (2, P) int64 -> (..., P)."""
        i, j = pairs = self._oriented(pairs)
        s = pair_products(self.left, self.right, pairs)
        left_bias, right_bias = self._biases()
        if left_bias is not None:
            s = s + left_bias[..., i]
        if right_bias is not None:
            s = s + right_bias[..., j]
        return s

    def _oriented(self, pairs: Tensor) -> Tensor:
        """Dyads with the end that takes the left factor first: of a bipartite graph, that of side 0."""
        if self.parts is None:
            return pairs
        return torch.where(self.parts[pairs[0]] == 0, pairs, pairs.flip(0))

    def _cumulant_at(self, pairs: Tensor) -> Tensor:
        """κ(s) of the given dyads: (..., P)."""
        return self.cumulant(self.logits(pairs))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of an adjacency matrix: (..., ) from (N, N)."""
        present, x = self.entries(value)
        absent_total, absent_nodes = self._cumulant_all(split=self.keep_nodes)
        corrections = self._corrections(present, x)
        precision, constant = self.precision, self._absent_constant()
        total = sum((c.sum(-1) for _, c in corrections), start=-precision * absent_total)
        if constant is not None:
            total = total + self.num_dyads * constant
        if absent_nodes is None:
            return total
        with torch.no_grad():
            plain = [(pairs, detach_provenance(c).detach()) for pairs, c in corrections]
            self._cached = (value, self._to_nodes(absent_nodes, plain))
        return total

    def node_log_prob(self, value: Tensor) -> Tensor:
        """The log density split over nodes, half of a dyad to each end: (..., N); sums to :meth:`log_prob`."""
        return self._to_nodes(self._cumulant_nodes(), self._corrections(*self.entries(value)))

    def incident_log_prob(self, value: Tensor) -> Tensor:
        """For every node the log density of its own dyads, each whole, without gradient: (..., N).

        This is the learning signal of a node's discrete latents. Right after ``log_prob(value)`` of a distribution
        with :attr:`keep_nodes` set it costs nothing.
        """
        if self._cached is None or self._cached[0] is not value:
            self.keep_nodes = True
            with torch.no_grad():
                self.log_prob(value)
        assert self._cached is not None
        return 2.0 * self._cached[1]

    def factors(self) -> tuple[Tensor, Tensor]:
        """(l, r) with the biases as two more columns, so that s_ij = l_i'r_j alone: (..., N, K or K + 2) each."""
        left, right = _append_bias(self.left, self.right, *self._biases())
        return left, left if right is None else right

    def _biases(self) -> tuple[Tensor | None, Tensor | None]:
        return self.left_bias, self.right_bias if self.directed else self.left_bias

    def _tiled(self) -> tuple[Tensor, Tensor | None, Shape, frozenset[str]]:
        """Factors with biases (right None if it is left) without their provenance, which pairs count, provenance."""
        left, right, provenance = _untracked(*_append_bias(self.left, self.right, *self._biases()))
        if self.parts is None:
            return left, right, "directed" if self.directed else "undirected", provenance
        first, second = self.dyads.sides
        right = left if right is None else right
        return left[..., first, :], right[..., second, :], "bipartite", provenance

    def _cumulant_all(self, split: bool) -> tuple[Tensor, Tensor | None]:
        """(sum over all dyads of κ(s), the same split over nodes where asked for, without gradient)."""
        left, right, shape, provenance = self._tiled()
        total, nodes = TotalCumulant.apply(left, right, shape, self.tile, split, self.cumulant)
        return _tracked(total, provenance), nodes if nodes is None else self._by_node(nodes)

    def _cumulant_nodes(self) -> Tensor:
        """Per node, half of κ(s) of each of its dyads, with gradient: (..., N)."""
        left, right, shape, provenance = self._tiled()
        nodes = NodeCumulant.apply(left, right, shape, self.tile, self.cumulant)
        return _tracked(self._by_node(nodes), provenance)

    def _by_node(self, nodes: Tensor) -> Tensor:
        """From the nodes of side 0 and then those of side 1 to the order of the ids."""
        if self.parts is None:
            return nodes
        return nodes[..., torch.cat(self.dyads.sides).argsort()]

    def entries(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Present, observed dyads of an adjacency value, (2, E), each once, and their values, (E,)."""
        n = self.num_nodes
        if value.shape[-2:] != (n, n) or value.dim() != 2:
            raise ValueError(
                f"the value must be one ({n}, {n}) adjacency matrix, not {tuple(value.shape)}"
            )
        if value.layout == torch.sparse_coo:
            pairs, x = value._indices(), value._values()
            keep = x != 0
        else:
            dense = value.to_dense()
            pairs = dense.nonzero().T
            x = dense[pairs[0], pairs[1]]
            keep = torch.ones_like(x, dtype=torch.bool)
        if not self.directed:
            keep = keep & (pairs[0] < pairs[1])
        if self.missing is not None and self.missing.shape[1]:
            hidden = self.missing[0] * n + self.missing[1]
            keep = keep & ~torch.isin(pairs[0] * n + pairs[1], hidden)
        return pairs[:, keep], x[keep].to(self.left.dtype)

    def present(self, value: Tensor) -> Tensor:
        """Present, observed dyads of an adjacency value, (2, E), each once."""
        return self.entries(value)[0]

    def _corrections(self, present: Tensor, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(pairs, what the pairs add to the density once all dyads counted as absent)."""
        corrections = [(present, self._present_gain(self.logits(present), x))]
        nodes = self.summed_nodes
        if nodes.left_out is not None and nodes.left_out.shape[1]:
            precision = self.precision
            if isinstance(precision, Tensor):
                precision = precision.unsqueeze(-1)
            back = nodes.weight * precision * self._cumulant_at(nodes.left_out)
            corrections.append((nodes.left_out, back))
        return corrections

    @property
    def summed_nodes(self) -> SummedNodes:
        """Over which dyads κ is summed: those of all nodes, less the missing ones."""
        return SummedNodes(self.num_nodes, 1.0, self.missing)

    def _to_nodes(self, nodes: Tensor, corrections: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Densities by node from the halves of κ(s) by node and the corrections."""
        precision, constant = self.precision, self._absent_constant()
        if isinstance(precision, Tensor):
            precision = precision.unsqueeze(-1)
        nodes = -precision * nodes
        if constant is not None:
            nodes = nodes + 0.5 * constant.unsqueeze(-1) * self._dyads_of_nodes()
        for pairs, added in corrections:
            half = 0.5 * added
            nodes = nodes.index_add(-1, pairs[0], half).index_add(-1, pairs[1], half)
        return nodes

    def _dyads_of_nodes(self) -> Tensor:
        """In how many observed dyads every node takes part, (N,)."""
        n = self.num_nodes
        if self.parts is None:
            count = self.left.new_full((n,), (n - 1) * (2.0 if self.directed else 1.0))
        else:
            sizes = torch.bincount(self.parts, minlength=2)
            count = sizes[1 - self.parts].to(self.left.dtype)
        if self.missing is not None:
            count = count - torch.bincount(self.missing.flatten(), minlength=n)
        return count

    # -- draws -------------------------------------------------------------------------------------------------

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Adjacency matrices, (sample_shape, ..., N, N): dense, or sparse COO for one graph of over 2,000 nodes."""
        if not sample_shape and not self.batch_shape and self.num_nodes > _DENSE_NODES:
            pairs, x = self.sample_entries()
            if not self.directed:
                pairs, x = torch.cat((pairs, pairs.flip(0)), 1), torch.cat((x, x))
            return torch.sparse_coo_tensor(pairs, x, tuple(self.event_shape)).coalesce()
        with torch.no_grad():
            s = self.dense_logits()
            drawn = self._draw(s.expand(torch.Size(sample_shape) + s.shape))
            drawn = drawn * self._is_dyad(slice(0, self.num_nodes))
            if self.directed:
                return drawn
            upper = drawn.triu(1)
            return upper + upper.transpose(-1, -2)

    def _is_dyad(self, rows: slice) -> Tensor:
        """Whether a row's pairs are dyads, observed or not: (rows, N) bool."""
        nodes = torch.arange(self.num_nodes, device=self.left.device)
        if self.parts is not None:
            return self.parts[rows, None] != self.parts
        return nodes[rows, None] != nodes

    def _row_logits(self, rows: slice) -> Tensor:
        left, right = self.factors()
        s = left[..., rows, :] @ right.transpose(-1, -2)
        if self.parts is None:
            return s
        swapped = right[..., rows, :] @ left.transpose(-1, -2)  # rows of side 1 are the right ends
        return torch.where(self.parts[rows, None] == 0, s, swapped)

    def dense_logits(self) -> Tensor:
        """All natural parameters, (..., N, N); what is no dyad has no meaning. For small graphs and tests."""
        return self._row_logits(slice(0, self.num_nodes))

    def row_probabilities(self, rows: slice) -> Tensor:
        """Link probabilities of a block of rows, (..., rows, N); those on the diagonal have no meaning."""
        p = self.link_probability(self._row_logits(rows))
        return p if self.parts is None else p * self._is_dyad(rows)

    def sample_entries(self) -> tuple[Tensor, Tensor]:
        """One graph as a list of edges, (2, E) int64 sorted by row, and their values, (E,); never N x N at once."""
        if self.batch_shape:
            raise ValueError(
                f"sample_edges draws one graph; the batch shape is {tuple(self.batch_shape)}"
            )
        with torch.no_grad():
            pairs, x = self._drawn_entries()
        order = (pairs[0] * self.num_nodes + pairs[1]).argsort()
        return pairs[:, order], x[order]

    def _drawn_entries(self) -> tuple[Tensor, Tensor]:
        """One graph as edges in any order, and their values: every dyad is drawn."""
        drawn = [*self._entries(self._draw)]
        return torch.cat([pairs for pairs, _ in drawn], 1), torch.cat([x for _, x in drawn])

    def _entries(self, read: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Dyads (2, P) at which a function of their natural parameters is not zero, and what it is, tile by tile."""
        left, right, shape, _ = self._tiled()
        sides = None if self.parts is None else self.dyads.sides
        for pairs, x in tile_entries(
            left, left if right is None else right, shape, self.tile, read
        ):
            yield pairs if sides is None else across(sides, *pairs), x

    def sample_edges(self) -> Tensor:
        """One graph as an edge list, (2, E) int64 sorted by row, in tiles: never N x N at once."""
        return self.sample_entries()[0]


def _append_bias(
    left: Tensor, right: Tensor | None, left_bias: Tensor | None, right_bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Write s_ij = l_i'r_j + a_i + b_j as one inner product by two more columns."""
    if left_bias is None and right_bias is None:
        return left, right
    r = left if right is None else right
    one = torch.ones_like(left[..., :1])
    a = torch.zeros_like(one) if left_bias is None else left_bias.unsqueeze(-1) * one
    b = torch.zeros_like(one) if right_bias is None else right_bias.unsqueeze(-1) * one
    return torch.cat((left, a, one), -1), torch.cat((r, one, b), -1)


def pair_products(left: Tensor, right: Tensor | None, pairs: Tensor) -> Tensor:
    """l_i'r_j of listed pairs, (..., P), with the provenance of the factors."""
    left, right, provenance = _untracked(left, right)
    return _tracked(PairLogits.apply(left, right, pairs), provenance)


def _untracked(left: Tensor, right: Tensor | None) -> tuple[Tensor, Tensor | None, frozenset[str]]:
    """Both without their provenance, and that provenance."""
    provenance = get_provenance(left)
    if right is not None:
        provenance, right = provenance | get_provenance(right), detach_provenance(right)
    return detach_provenance(left), right, provenance


def _tracked(x: Tensor, provenance: frozenset[str]) -> Tensor:
    return track_provenance(x, provenance) if provenance else x
