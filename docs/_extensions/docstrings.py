"""What of the docstrings would not render as it reads."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_COLON = "\0"


def _hide_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """A property that is described in a sentence with a colon has no type in front of that colon (napoleon)."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = lines[0].replace(":", _COLON)


def _letters(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A description that begins with "K." begins no list."""
    lines[:] = [re.sub(r"(?<=: )([A-Z]\.)(?= |$)", r"\\\1", line) for line in lines]


def _show_colons(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _public_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """What a private base only shares is not worth a name."""
    bases[:] = [
        parent
        for base in bases
        for parent in (base.__bases__ if base.__name__.startswith("_") else (base,))
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _hide_colons, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", _letters, priority=400)
    app.connect("autodoc-process-docstring", _show_colons, priority=600)
    app.connect("autodoc-process-bases", _public_bases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
