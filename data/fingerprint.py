"""One hash for the content of a graph."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from .graph import Graph
    from .graphset import GraphSet

__all__ = ["fingerprint_of", "fingerprint_of_set"]

_ELEMENTS = 1_000_000  # of a dense matrix that are looked at at once


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
        add("features", f"{tuple(x.shape)}".encode())
        if x.is_sparse:
            keep = x.values() != 0
            add("where", x.indices()[:, keep].contiguous().numpy().astype("<i8").tobytes())
            add("values", x.values()[keep].numpy().astype("<f4").tobytes())
        else:
            _add_dense(digest, x)
    for tag in ("names", "label_names", "feature_names"):
        words = getattr(graph, tag)
        if words is not None:
            add(tag, "\x00".join(words).encode())
    return digest.hexdigest()


def _add_dense(digest: Any, x: Tensor) -> None:
    """Rows, columns and values of what is not zero, some rows at a time: as a list they take many times the matrix."""
    blocks = x.split(max(1, _ELEMENTS // max(1, x.shape[1])))
    count = sum(int(block.count_nonzero()) for block in blocks)
    digest.update(f"|where:{16 * count}|".encode())
    start = 0
    for block in blocks:
        digest.update((block.nonzero()[:, 0] + start).numpy().astype("<i8").tobytes())
        start += len(block)
    for block in blocks:
        digest.update(block.nonzero()[:, 1].numpy().astype("<i8").tobytes())
    digest.update(f"|values:{4 * count}|".encode())
    for block in blocks:
        digest.update(block[block != 0].numpy().astype("<f4").tobytes())


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
