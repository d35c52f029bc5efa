"""Sparse matrices by rows, without torch's notice at every use that their support is a beta."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["by_rows", "entries_of", "quietly", "ragged", "some_rows", "starts_of"]


def by_rows(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The sparse CSR matrix whose row i has the entries starts[i] to starts[i + 1]."""
    return quietly(torch.sparse_csr_tensor, starts, columns, values, shape, check_invariants=False)


def some_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Given rows of a CSR matrix, as one."""
    starts = x.crow_indices()
    _, entry = entries_of(starts, rows)
    ends = starts_of(starts[rows + 1] - starts[rows])
    return by_rows(ends, x.col_indices()[entry], x.values()[entry], (len(rows), x.shape[1]))


def entries_of(starts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of given rows in a list of rows with these starts: (which of the rows, place in the list)."""
    first = starts[rows]
    row, place = ragged(starts[rows + 1] - first)
    return row, first[row] + place


def ragged(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of so many entries: (row, place in the row) of all entries."""
    row = torch.repeat_interleave(counts)
    return row, torch.arange(len(row), device=counts.device) - starts_of(counts)[row]


def starts_of(counts: Tensor) -> Tensor:
    """Where rows of so many entries start, and where the last one ends: (rows + 1,)."""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def quietly(function: Callable[..., Tensor], *arguments: Any, **options: Any) -> Tensor:
    """What a function returns, its warnings unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)
