"""Products with a sparse matrix whose transpose is at hand, so that their gradients need not find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GCNConv

from ..data.sparse import quietly

__all__ = ["Convolution", "Propagation"]


@dataclass(frozen=True, eq=False)
class Propagation:
    """What carries messages: ``propagation @ x`` is matrix @ x, with gradient transposed @ (that of the product).

    Left to itself torch sorts the entries anew in every backward pass, which takes longer than the product.

    Attributes:
        matrix: (R, C) sparse CSR.
        transposed: (C, R) sparse CSR, its transpose; the same one where it is symmetric.
    """

    matrix: Tensor
    transposed: Tensor

    @classmethod
    def symmetric(cls, matrix: Tensor) -> Propagation:
        return cls(matrix, matrix)

    @classmethod
    def of(cls, matrix: Tensor) -> Propagation:
        return cls(matrix, quietly(matrix.transpose(0, 1).to_sparse_csr))

    def to(self, dtype: torch.dtype) -> Propagation:
        if self.matrix.dtype == dtype:
            return self
        matrix = self.matrix.to(dtype)
        same = self.transposed is self.matrix
        return Propagation(matrix, matrix if same else self.transposed.to(dtype))

    def __matmul__(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.matrix, self.transposed)


class Convolution(GCNConv):
    """The graph convolution of Kipf and Welling (2017) with a normalised adjacency given as a :class:`Propagation`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, normalize=False)

    def forward(self, x: Tensor, propagation: Propagation) -> Tensor:
        """(C, inputs) -> (R, outputs)."""
        return propagation @ self.lin(x) + self.bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ grad, None, None
