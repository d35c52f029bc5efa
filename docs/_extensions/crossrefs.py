"""References to names without a page of their own: plain text if Python can import them, else a warning."""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def _exists(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        try:
            for part in parts[length:]:
                found = getattr(found, part)
        except AttributeError:  # a field without a default is no attribute of its class
            return parts[-1] in getattr(found, "__annotations__", {})
        return True
    return False


def _plain(app: Sphinx, env: Any, node: nodes.Element, text: nodes.Element) -> nodes.Element | None:
    if node.get("refdomain") != "py":
        return None
    target, module, cls = node["reftarget"], node.get("py:module"), node.get("py:class")
    around = [".".join(filter(None, (module, cls))), module or ""]
    if _exists(target) or any(_exists(f"{scope}.{target}") for scope in around if scope):
        return text
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", _plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
