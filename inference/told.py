"""A story as it is told: exact memberships, every dyad, nothing tempered, whatever the fit did about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["as_told"]

_AS_TOLD: dict[str, Any] = {
    "relaxation": None,
    "class_weight": None,
    "absent_sample": None,
    "label_weight": 1.0,
}


@contextmanager
def as_told(story: Any) -> Iterator[None]:
    """Set what relaxes, subsamples or tempers the story aside for the length of a block."""
    before = {name: getattr(story, name) for name in _AS_TOLD if hasattr(story, name)}
    try:
        for name in before:
            setattr(story, name, _AS_TOLD[name])
        yield
    finally:
        for name, value in before.items():
            setattr(story, name, value)
