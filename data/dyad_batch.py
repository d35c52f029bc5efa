"""A sample of a graph's dyads with the nodes at their ends: what one step of minibatch inference is told of.

Present dyads are drawn from the list of edges, absent ones are those within a uniform block of nodes, and what nodes
cost by themselves is counted for the block. All three have known probabilities of being drawn, whose inverses are the
weights of a batch. Nothing in a batch grows with the graph but a table of places, one number a node.

References:
    | Horvitz and Thompson, A generalization of sampling without replacement from a finite universe, JASA 1952
    | Inductive Representation Learning on Large Graphs (Hamilton, Ying and Leskovec, 2017): sampled neighbourhoods
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .graph import Graph, GraphError
from .sparse import by_rows, entries_of, ragged, starts_of

__all__ = ["DyadBatch", "DyadBatches", "Neighbourhood"]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Nodes around those of a batch, in the order of their distance, and what convolutions carry between them.

    Attributes:
        nodes: (W,) int64 ids in the whole graph; the batch's own come first.
        adjacencies: of every convolution, the first one's first, (rows, columns) sparse CSR: columns are the first
            nodes of the list, those that the convolution reads, rows the fewer ones that the next one needs.
    """

    nodes: Tensor
    adjacencies: tuple[Tensor, ...]


class DyadBatch(Graph):
    """Some of a graph's dyads, told of as a graph of the nodes at their ends.

    A story and a guide are called with it in place of the whole graph: its ``edge_index``, features, labels and number
    of nodes are those of the batch. Only :class:`DyadBatches` makes one.

    Attributes:
        whole: the graph that it is a sample of.
        nodes: (U,) int64 ids of its nodes in the whole graph; those of the block come first.
        edge_index: (2, P) int64, the present dyads drawn, places in ``nodes``; one may be there twice.
        block: B, how many of the nodes are in the block.
        taken: (2, X) int64, dyads within the block that are present or missing, places in ``nodes``.
        edge_weight: E / P, how many present dyads each of those drawn stands for.
        dyad_weight: how many absent dyads each one within the block stands for.
        node_weights: (U,) how many nodes each stands for: N / B in the block, else 0.
    """

    whole: Graph
    nodes: Tensor
    block: int
    taken: Tensor
    edge_weight: float
    dyad_weight: float
    node_weights: Tensor

    def __init__(self, batches: DyadBatches, **values: Any) -> None:
        whole = batches.graph
        nodes = values["nodes"]
        self.__dict__.update(
            dict.fromkeys(("weights", "parts", "names", "label_names", "feature_names")),
            num_nodes=len(nodes),
            missing=nodes.new_empty((2, 0)),
            labels=None if whole.labels is None else whole.labels[nodes],
            directed=whole.directed,
            title=f"a batch of {whole.title}",
            whole=whole,
            _batches=batches,
            **values,
        )

    @property
    def features(self) -> Tensor | None:
        """(U, D) those of its nodes."""
        found = self.whole.features
        return None if found is None else found.index_select(0, self.nodes)

    @property
    def adjacency(self) -> Tensor:
        """(U, U) sparse COO of the present dyads drawn, in one direction, not coalesced."""
        size = (self.num_nodes, self.num_nodes)
        ones = torch.ones(self.edge_index.shape[1], device=self.device)
        return torch.sparse_coo_tensor(self.edge_index, ones, size, check_invariants=False)

    def neighbourhood(self, depth: int) -> Neighbourhood:
        """Sampled neighbours of the batch's nodes, their neighbours and so on, ``depth`` times."""
        return self.__dict__["_batches"].around(self.nodes, depth)


class DyadBatches:
    """Draws batches of a graph's dyads.

    Arguments:
        graph: undirected or directed, not bipartite.
        edges: P, present dyads in a batch: one from each of P parts of the sorted list, so that they lie all over the
            graph. All of them if there are no more.
        nodes: B, nodes of the block. All of them if there are no more.
        neighbours: at most so many neighbours of a node send it messages, drawn anew each time from as many parts of
            their list; weights keep the sum over all of them as its expectation.

    Raises:
        GraphError: a bipartite graph, or one without edges.
        ValueError: a number below 1, or fewer than two nodes.
    """

    def __init__(self, graph: Graph, edges: int, nodes: int, neighbours: int = 10) -> None:
        if graph.parts is not None or not graph.num_edges:
            what = "bipartite graphs" if graph.parts is not None else "a graph without edges"
            raise GraphError(f"batches of dyads are not made of {what}: leave out batch_edges")
        for name, value, least in (
            ("edges", edges, 1),
            ("nodes", nodes, 2),
            ("neighbours", neighbours, 1),
        ):
            if value < least:
                raise ValueError(f"{name} of a batch: at least {least}, not {value}")
        self.graph, self.neighbours = graph, neighbours
        self.edges, self.nodes = min(edges, graph.num_edges), min(nodes, graph.num_nodes)
        arcs = graph.both_directions()
        self._heads = arcs[1]
        out = torch.bincount(arcs[0], minlength=graph.num_nodes)
        self._starts = starts_of(out)
        # of GCN's normalisation, loops included
        into = torch.bincount(arcs[1], minlength=graph.num_nodes)
        self._scale = (into + 1.0).rsqrt()
        hidden = graph.missing
        if not graph.directed:
            hidden = torch.cat((hidden, hidden.flip(0)), 1)
        self._hidden = hidden[1][hidden[0].argsort(stable=True)]
        self._hidden_starts = starts_of(torch.bincount(hidden[0], minlength=graph.num_nodes))

    def draw(self) -> DyadBatch:
        """A batch, from torch's random numbers."""
        device = self.graph.device
        every, some = (torch.tensor([x], device=device) for x in (self.graph.num_edges, self.edges))
        block = torch.randperm(self.graph.num_nodes, device=device)[: self.nodes]
        return self.of(_parts(every, some)[1], block)

    def of(self, drawn: Tensor, block: Tensor) -> DyadBatch:
        """The batch of given places in the list of edges, (P,), and given nodes of the block, (B,)."""
        graph, device = self.graph, self.graph.device
        n, b = graph.num_nodes, self.nodes
        present = graph.edge_index[:, drawn]
        places = torch.full((n,), -1, device=device)
        places[block] = torch.arange(b, device=device)
        nodes = _numbered(block, present.flatten(), places)
        taken = torch.cat(
            [
                self._within(block, places, starts, ends)
                for starts, ends in (
                    (self._starts, self._heads),
                    (self._hidden_starts, self._hidden),
                )
            ],
            1,
        )
        weights = torch.zeros(len(nodes), device=device)
        weights[:b] = n / b
        return DyadBatch(
            self,
            nodes=nodes,
            edge_index=places[present],
            block=b,
            taken=taken,
            edge_weight=graph.num_edges / self.edges,
            dyad_weight=n * (n - 1) / (b * (b - 1)),
            node_weights=weights,
        )

    def _within(self, block: Tensor, places: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Listed dyads with both ends in the block, each once: places, (2, X)."""
        row, entry = entries_of(starts, block)
        other = places[ends[entry]]
        inside = (other >= 0) & (other < len(block))
        if not self.graph.directed:
            inside = inside & (row < other)
        return torch.stack((row[inside], other[inside]))

    def around(self, nodes: Tensor, depth: int) -> Neighbourhood:
        """Sampled neighbourhoods of given nodes, for so many convolutions in a row."""
        places = torch.full((self.graph.num_nodes,), -1, device=nodes.device)
        places[nodes] = torch.arange(len(nodes), device=nodes.device)
        sizes, counts, columns, weights = [len(nodes)], [], [], []
        edge = nodes
        for _ in range(depth):
            first = self._starts[edge]
            degree = self._starts[edge + 1] - first
            count = degree.clamp(max=self.neighbours)
            row, drawn = _parts(degree, count)
            other = self._heads[first[row] + drawn]
            nodes = _numbered(nodes, other, places)
            ratio = degree[row] / count[row]
            sent = self._scale[edge[row]] * self._scale[other] * ratio
            columns.append(_before(places[edge], places[other], count))
            weights.append(_before(self._scale[edge] ** 2, sent, count))  # a loop of its own
            counts.append(count + 1)
            edge = nodes[sizes[-1] :]
            sizes.append(len(nodes))
        starts, column, weight = (
            starts_of(torch.cat(counts)),
            torch.cat(columns),
            torch.cat(weights),
        )
        found = []
        for rows, width in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
            last = int(starts[rows])
            found.append(by_rows(starts[: rows + 1], column[:last], weight[:last], (rows, width)))
        return Neighbourhood(nodes, tuple(found))


def _parts(sizes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Of every list, one place from each of ``counts`` equal parts: (list, place), each with chance count / size."""
    row, part = ragged(counts)
    size = sizes[row]
    # double precision: a list of millions has more places than float32 tells apart
    u = torch.rand(len(row), dtype=torch.float64, device=row.device)
    place = ((part + u) * size / counts[row]).long()
    return row, torch.minimum(place, size - 1)


def _before(firsts: Tensor, others: Tensor, counts: Tensor) -> Tensor:
    """Rows of so many others, with one more entry before them."""
    merged = torch.empty(len(firsts) + len(others), dtype=firsts.dtype, device=firsts.device)
    at_start = torch.zeros(len(merged), dtype=torch.bool, device=firsts.device)
    at_start[starts_of(counts + 1)[:-1]] = True
    merged[at_start], merged[~at_start] = firsts, others
    return merged


def _numbered(nodes: Tensor, more: Tensor, places: Tensor) -> Tensor:
    """The nodes followed by those of ``more`` that are new; ``places`` learns where they are."""
    new = more[places[more] < 0].unique()
    places[new] = torch.arange(len(nodes), len(nodes) + len(new), device=nodes.device)
    return torch.cat((nodes, new))
