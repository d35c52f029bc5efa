"""One hash for the content of a graph."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Graph
    from .graphset import GraphSet

__all__ = ["fingerprint_of", "fingerprint_of_set"]


def fingerprint_of(graph: Graph) -> str:
    """sha256 (hex) of the content: everything but the title and the device.

    A field that is None adds nothing, so graphs without it keep the hash they had before the
    field existed. Dense and sparse features with the same non-zero values have the same hash.
    """
    digest = hashlib.sha256(b"graphlore.Graph.1")

    def add(tag: str, data: bytes) -> None:
        digest.update(f"|{tag}:{len(data)}|".encode())
        digest.update(data)

    add("head", f"{graph.num_nodes} {graph.directed}".encode())
    for tag, kind in (
        ("edge_index", "<i8"),
        ("missing", "<i8"),
        ("labels", "<i8"),
        ("weights", "<f4"),
        ("parts", "<i8"),
    ):
        tensor = getattr(graph, tag)
        if tensor is not None:
            add(tag, tensor.cpu().contiguous().numpy().astype(kind).tobytes())
    if graph.features is not None:
        x = graph.features.cpu()
        if x.is_sparse:
            keep = x.values() != 0
            where, values = x.indices()[:, keep], x.values()[keep]
        else:
            where = x.nonzero().T
            values = x[where[0], where[1]]
        add("features", f"{tuple(x.shape)}".encode())
        add("where", where.contiguous().numpy().astype("<i8").tobytes())
        add("values", values.numpy().astype("<f4").tobytes())
    for tag in ("names", "label_names", "feature_names"):
        words = getattr(graph, tag)
        if words is not None:
            add(tag, "\x00".join(words).encode())
    return digest.hexdigest()


def fingerprint_of_set(graphs: GraphSet) -> str:
    """sha256 (hex) of the content of a set of graphs: everything but the title."""
    digest = hashlib.sha256(b"graphlore.GraphSet.1")
    for tag in ("num_nodes", "edge_index", "edge_ptr", "edge_types", "node_types", "labels"):
        tensor = getattr(graphs, tag)
        if tensor is not None:
            data = tensor.contiguous().numpy().astype("<i8").tobytes()
            digest.update(f"|{tag}:{len(data)}|".encode())
            digest.update(data)
    return digest.hexdigest()
