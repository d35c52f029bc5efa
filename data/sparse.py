"""Sparse matrices by rows, without torch's notice at every use that their support is a beta."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["by_rows", "quietly"]


def by_rows(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The sparse CSR matrix whose row i has the entries starts[i] to starts[i + 1]."""
    return quietly(torch.sparse_csr_tensor, starts, columns, values, shape, check_invariants=False)


def quietly(function: Callable[..., Tensor], *arguments: Any, **options: Any) -> Tensor:
    """What a function returns, its warnings unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)
