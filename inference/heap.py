"""Freed memory kept at hand, for arrays that are made and dropped in every step."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_MOST = 2**31 - 1  # bytes, what mallopt can be told


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for the next arrays, for the rest of the process.

    Left to itself glibc takes an array of more than 32 MB from the system and gives it back when it is dropped; the
    system clears its pages anew each time. Fits of large graphs (N K above eight million) feel that in every step.
    In exchange the process stays as large as it once was. The command line does this; a script may.

    Returns:
        whether it was done: there is nothing to do where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MOST)) and bool(mallopt(_TRIM_THRESHOLD, _MOST))
