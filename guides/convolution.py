"""Products with a sparse matrix whose transpose is at hand, so that their gradients need not find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from ..data.sparse import quietly

__all__ = ["Adjacency", "Convolution", "normalised"]


def normalised(arcs: Tensor, num_nodes: int, loops: bool = True) -> Tensor:
    """D^-1/2 A D^-1/2 of arcs (2, E), (N, N) sparse CSR; with loops A + I for A (Kipf and Welling 2017)."""
    index, weight = gcn_norm(arcs, num_nodes=num_nodes, add_self_loops=loops)
    coo = quietly(torch.sparse_coo_tensor, index, weight, (num_nodes, num_nodes))
    return quietly(coo.coalesce().to_sparse_csr)


@dataclass(frozen=True, eq=False)
class Adjacency:
    """What carries messages: ``adjacency @ x`` is matrix @ x, with gradient transposed @ (that of the product).

    Left to itself torch sorts the entries anew in every backward pass, which takes longer than the product.

    Attributes:
        matrix: (R, C) sparse CSR.
        transposed: (C, R) sparse CSR, its transpose; the same one where it is symmetric.
    """

    matrix: Tensor
    transposed: Tensor

    @classmethod
    def symmetric(cls, matrix: Tensor) -> Adjacency:
        return cls(matrix, matrix)

    @classmethod
    def of(cls, matrix: Tensor) -> Adjacency:
        return cls(matrix, quietly(matrix.transpose(0, 1).to_sparse_csr))

    def to(self, dtype: torch.dtype) -> Adjacency:
        if self.matrix.dtype == dtype:
            return self
        matrix = self.matrix.to(dtype)
        same = self.transposed is self.matrix
        return Adjacency(matrix, matrix if same else self.transposed.to(dtype))

    def __matmul__(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.matrix, self.transposed)


class Convolution(GCNConv):
    """The graph convolution of Kipf and Welling (2017), its adjacency normalised before."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, normalize=False)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """(C, inputs) -> (R, outputs)."""
        return adjacency @ self.lin(x) + self.bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return _product(matrix, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _product(ctx.transposed, grad), None, None


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ x; on a CPU by sums of weighted rows of x, whose kernel fetches rows ahead of their use.

    That takes a third of the time of ``@`` where x exceeds the cache. There is no such kernel of double precision.
    """
    if x.device.type != "cpu" or x.dtype == torch.float64:
        return matrix @ x
    return embedding_bag(
        matrix.col_indices(),
        x.detach().contiguous(),  # else it keeps what a gradient of its own would need
        matrix.crow_indices(),
        mode="sum",
        per_sample_weights=matrix.values(),
        include_last_offset=True,
    )
