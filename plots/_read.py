"""Reading an ArviZ result and a graph into NumPy, for every picture in the same way.

Only attribute access and xarray are used (``idata.posterior["memberships"]``), which holds for the
``InferenceData`` of ArviZ 0.x and the ``DataTree`` of ArviZ 1.x alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..data import Graph


def array(values: Any) -> np.ndarray:
    """Return NumPy values of a tensor on any device, or of anything array-like."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def group(idata: Any, name: str) -> Any | None:
    """Return a group of an ArviZ result, or ``None`` where it has no such group.

    Draws from the prior stand in for those of a posterior that the result does not have.
    """
    try:
        found = getattr(idata, name, None)
    except KeyError:
        found = None
    if found is None and name in ("posterior", "posterior_predictive"):
        return group(idata, name.replace("posterior", "prior"))
    return found


def stage(idata: Any) -> str:
    """Return "posterior", or "prior" for a result of draws from the prior alone."""
    return "posterior" if getattr(idata, "posterior", None) is not None else "prior"


def has(idata: Any, where: str, name: str) -> bool:
    """Tell whether a group holds a variable."""
    found = group(idata, where)
    return found is not None and name in found


def variable(idata: Any, where: str, name: str) -> Any:
    """Return a variable as an xarray ``DataArray``.

    Raises:
        KeyError: If the result has no such group or variable.
    """
    if not has(idata, where, name):
        raise KeyError(f"the result has no '{name}' in its group '{where}'")
    return group(idata, where)[name]  # type: ignore[index]


def draws(idata: Any, where: str, name: str) -> np.ndarray:
    """Return all draws of a variable, chains laid end to end.

    Returns:
        Array of shape ``(S, ...)``, S the number of chains times the number of draws.
    """
    values = variable(idata, where, name).transpose("chain", "draw", ...).values
    return values.reshape(-1, *values.shape[2:])


def scalar(idata: Any, where: str, name: str) -> float:
    """Return a number without chain and draw; ArviZ may have given it one dimension of length 1."""
    return float(variable(idata, where, name).values.reshape(()))


def mean(idata: Any, name: str) -> np.ndarray:
    """Return the posterior mean of a variable, shape ``(...)`` without chain and draw."""
    return variable(idata, "posterior", name).mean(("chain", "draw")).values


def mean_product(idata: Any, first: str, second: str) -> np.ndarray:
    """Return the posterior mean of the product of two variables, without chain and draw."""
    one, two = draws(idata, "posterior", first), draws(idata, "posterior", second)
    product = np.zeros(one.shape[1:])
    for a, b in zip(one, two, strict=True):  # one draw at a time: all of them may not fit in memory
        product += a * b
    return product / max(1, len(one))


def community_site(idata: Any) -> str | None:
    """Return the variable that says which node is in which community, or ``None``.

    It is ``memberships`` (node, community), 0 or 1 each, or ``membership`` (node), one integer a
    node.
    """
    for name in ("memberships", "membership"):
        if has(idata, "posterior", name):
            return name
    return None


def community_names(idata: Any) -> list[str]:
    """Return the names of the communities: the coordinate ``community``, or numbers.

    With integer labels there may be no such coordinate; communities then are the numbers from 0 to
    the largest label drawn.

    Raises:
        KeyError: If the result has no communities.
    """
    site = community_site(idata)
    if site is None:
        raise KeyError("the result has neither 'memberships' nor 'membership' in its posterior")
    posterior = group(idata, "posterior")
    least = 0
    if site == "membership":
        least = int(posterior[site].max()) + 1  # type: ignore[index]
    if "community" in posterior.coords and posterior["community"].size >= least:  # type: ignore[union-attr, index]
        return [str(name) for name in posterior["community"].values]  # type: ignore[index]
    return [str(number) for number in range(least)]


def mean_memberships(idata: Any) -> np.ndarray:
    """Return the posterior probability that a node is in a community, whichever form it is drawn in.

    Returns:
        Array of shape ``(N, K)``; rows of integer labels add up to 1.

    Raises:
        KeyError: If the result has no communities.
    """
    count = len(community_names(idata))
    if community_site(idata) == "memberships":
        order = ("node", "community")
        return (
            variable(idata, "posterior", "memberships")
            .mean(("chain", "draw"))
            .transpose(*order)
            .values.astype(float)
        )
    labels = draws(idata, "posterior", "membership").astype(int)
    cells = labels + count * np.arange(labels.shape[1])
    counts = np.bincount(cells.ravel(), minlength=count * labels.shape[1])
    return counts.reshape(-1, count) / max(1, len(labels))


def attribute(idata: Any, name: str) -> Any | None:
    """Return an attribute of the result or of its posterior group, or ``None``."""
    for holder in (idata, group(idata, "posterior")):
        attrs = getattr(holder, "attrs", None) or {}
        if name in attrs:
            return attrs[name]
    return None


def node_names(idata: Any | None, graph: Graph | None, count: int) -> list[str]:
    """Return names for ``count`` nodes: the graph's, the result's coordinates, or numbers."""
    if graph is not None and graph.names is not None:
        return [str(name) for name in graph.names]
    site = None if idata is None else community_site(idata)
    if site is not None:
        return [str(name) for name in variable(idata, "posterior", site)["node"].values]
    return [str(node) for node in range(count)]


def node_labels(idata: Any | None, graph: Graph | None) -> tuple[np.ndarray, Any] | None:
    """Return integer labels of shape ``(N,)`` and their names (or ``None``), where known."""
    if graph is not None and graph.labels is not None:
        return array(graph.labels), graph.label_names
    if idata is not None and has(idata, "constant_data", "labels"):
        values = variable(idata, "constant_data", "labels").values
        if values.dtype.kind in "iufb":
            return values.astype(int), None
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return numbers, tuple(names)
    return None


def edges(graph: Graph) -> np.ndarray:
    """Return the edges of a graph, integer array of shape ``(2, E)``."""
    return array(graph.edge_index).astype(int).reshape(2, -1)


def missing(graph: Graph) -> np.ndarray:
    """Return the dyads that were not observed, integer array of shape ``(2, H)``."""
    held = getattr(graph, "missing", None)
    return np.empty((2, 0), int) if held is None else array(held).astype(int).reshape(2, -1)


def sides(graph: Graph) -> np.ndarray | None:
    """Return the side of every node of a bipartite graph, 0 or 1, shape ``(N,)``, else ``None``."""
    parts = getattr(graph, "parts", None)
    return None if parts is None else array(parts).astype(int)


def dyads(graph: Graph) -> int:
    """Return how many dyads there are, missing ones among them."""
    parts, count = sides(graph), graph.num_nodes
    if parts is not None:
        return int(parts.sum()) * int((1 - parts).sum())
    return count * (count - 1) // (1 if graph.directed else 2)


def observed_matrix(graph: Graph, weighted: bool = False) -> np.ndarray:
    """Return what was observed, dyad by dyad.

    Args:
        graph: The graph.
        weighted: Whether an edge is its weight instead of 1.

    Returns:
        Float array of shape ``(N, N)``: 1 (or the weight) for an edge, 0 for a pair without one,
        NaN on the diagonal, for missing dyads and within the sides of a bipartite graph. Symmetric
        unless the graph is directed.
    """
    matrix = np.zeros((graph.num_nodes, graph.num_nodes), dtype=np.float32)
    edge: Any = array(graph.weights) if weighted and graph.weights is not None else 1.0
    for pairs, value in ((edges(graph), edge), (missing(graph), np.nan)):
        matrix[pairs[0], pairs[1]] = value
        if not graph.directed:
            matrix[pairs[1], pairs[0]] = value
    np.fill_diagonal(matrix, np.nan)
    parts = sides(graph)
    if parts is not None:
        matrix[parts[:, None] == parts] = np.nan
    return matrix
