"""A story as it is told: exact memberships, every dyad, nothing tempered, whatever the fit did about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

__all__ = ["as_told", "attributes_set"]

_AS_TOLD: dict[str, Any] = {
    "relaxation": None,
    "class_weight": None,
    "absent_sample": None,
    "label_weight": 1.0,
}


def as_told(story: Any) -> AbstractContextManager[None]:
    """Set what relaxes, subsamples or tempers the story aside for the length of a block."""
    return attributes_set(story, **_AS_TOLD)


@contextmanager
def attributes_set(module: Any, **values: Any) -> Iterator[None]:
    """Set those of the attributes that a module has, for the length of a block."""
    before = {name: getattr(module, name) for name in values if hasattr(module, name)}
    try:
        for name in before:
            setattr(module, name, values[name])
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
