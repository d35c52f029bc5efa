"""Gibbs draws of the discrete latents of nodes, one node after another.

A node's factors depend on its own latents (and the globals) alone. One replay of the story therefore gives the factors
of every node under every value at once; what is left for each node is one product with the factors of the others. That
loop over nodes is inherently sequential: each draw conditions on those before it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..models.cumulants import EXPONENTIAL, HALF_SQUARE, SOFTPLUS, Cumulant
from .joint import Joint, Values

__all__ = ["draw_bits", "draw_categories"]

# NumPy's: the matrices of one node are so small that torch's overhead a call would rule
_CUMULANTS: dict[Cumulant, Callable[[np.ndarray], np.ndarray]] = {
    SOFTPLUS: lambda s: np.logaddexp(0.0, s),
    EXPONENTIAL: np.exp,
    HALF_SQUARE: lambda s: 0.5 * s * s,
}


def draw_categories(joint: Joint, values: Values, name: str, power: float = 1.0) -> Tensor:
    """A draw of every node's category given everything else, node after node: (N,).

    ``power`` of the edges' likelihood: below 1 in a warm-up that anneals.
    """
    current = values[name]
    size = joint.story.width
    candidates = torch.arange(size)[:, None].expand(size, len(current))
    return _scan(joint, values, name, candidates, current, power)


def draw_bits(joint: Joint, values: Values, name: str, power: float = 1.0) -> Tensor:
    """A draw of every node's bits given everything else, column after column: (N, K)."""
    bits = values[name].clone()
    for k in range(bits.shape[-1]):
        candidates = torch.stack((bits, bits))
        candidates[0, :, k], candidates[1, :, k] = 0.0, 1.0
        now = {**values, name: bits}
        drawn = _scan(joint, now, name, candidates, bits[:, k].long(), power)
        bits[:, k] = drawn.to(bits.dtype)
    return bits


def _scan(
    joint: Joint, values: Values, name: str, candidates: Tensor, current: Tensor, power: float
) -> Tensor:
    """Which candidate (V, N, ...) every node takes, (N,), starting from the current ones."""
    with torch.no_grad():
        own, edges = joint.of_nodes(name, candidates, values)
        left, right = (
            f.expand(*own.shape[:1], *f.shape[1:]).flatten(0, -3).transpose(0, 1).numpy()
            for f in edges.factors()
        )  # (N, V, F)
        # the largest of log p plus Gumbel noise is a draw from p
        gumbel = -torch.log(torch.empty_like(own).exponential_())
        scores = (own + gumbel).T.contiguous().numpy()
        precision = torch.as_tensor(edges.precision).flatten()[0]  # the same for all candidates
        weight = power * float(precision)
    cumulant = _CUMULANTS[edges.cumulant]
    graph, x, observed = joint.graph, joint.edges.numpy(), joint.observed.double().numpy()
    taken = current.numpy().copy()
    nodes = np.arange(len(taken))
    L, R = left[nodes, taken], right[nodes, taken]  # (N, F)
    parts = None if graph.parts is None else graph.parts.tolist()
    for n in nodes:
        if parts is None or parts[n] == 0:
            s = left[n] @ R.T
            gain = s @ x[n] - cumulant(s) @ observed[n]
        else:  # a node of side 1 is the right end of its dyads
            s = right[n] @ L.T
            gain = s @ x[n] - cumulant(s) @ observed[n]
        if graph.directed:
            s = right[n] @ L.T
            gain += s @ x[:, n] - cumulant(s) @ observed[:, n]
        taken[n] = choice = (scores[n] + weight * gain).argmax()
        L[n], R[n] = left[n, choice], right[n, choice]
    return torch.from_numpy(taken)
