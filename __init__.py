"""Graphlore: deep generative models of graphs as Pyro programs.

The rooms, each importable on its own: :mod:`graphlore.data` (graphs in and out), :mod:`graphlore.models`
(generative stories), :mod:`graphlore.guides` (variational families), :mod:`graphlore.inference` (fit, posterior,
evaluation) and :mod:`graphlore.plots` (pictures, the report). They are loaded on first use, so that
``import graphlore`` is light and changes no global setting of Pyro or torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data, guides, inference, models, plots
    from .data import Graph

__version__ = "0.1.0"
__all__ = ["Graph", "__version__", "data", "guides", "inference", "models", "plots"]

_ROOMS = {"data", "guides", "inference", "models", "plots"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name == "Graph":
        return importlib.import_module(".data", __name__).Graph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
