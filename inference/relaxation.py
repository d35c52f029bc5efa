"""Which memberships story and guide have for the length of a block: exact bits, or their relaxation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from ..models.concrete import Concrete, StraightThrough
from .settings import FitSettings
from .told import attributes_set

__all__ = ["as_fitted", "exact_memberships"]

Relaxation = Concrete | StraightThrough


@contextmanager
def exact_memberships(*modules: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(attributes_set(module, relaxation=None))
        yield


def as_fitted(story: Any, guide: Any, settings: FitSettings) -> AbstractContextManager[Any]:
    """Story and guide with the memberships that the gradient estimator works on."""
    relaxed = [m for m in (story, guide) if getattr(m, "relaxation", None) is not None]
    if settings.gradient not in ("concrete", "straight_through"):
        if relaxed:
            raise ValueError(
                f"gradient={settings.gradient!r} is for exact memberships, but the story or the guide was made with "
                "a relaxation: use gradient='concrete' or 'straight_through', or make them without one"
            )
        return nullcontext()
    if not (hasattr(story, "relaxation") and hasattr(guide, "relaxation")):
        raise ValueError(
            f"gradient={settings.gradient!r} needs a story and a guide with memberships to relax"
        )
    if settings.gradient == "straight_through":
        return _both_relaxed(story, guide, StraightThrough(), StraightThrough())
    return _both_relaxed(story, guide, *map(Concrete, settings.concrete_temperatures))


@contextmanager
def _both_relaxed(
    story: Any, guide: Any, prior: Relaxation, posterior: Relaxation
) -> Iterator[None]:
    with attributes_set(story, relaxation=prior), attributes_set(guide, relaxation=posterior):
        yield
