"""Pages that are made of what lies elsewhere: the notebooks, and the help of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def _notebooks(app: Sphinx) -> None:
    """Copy ../notebooks into tutorials; their links into docs are links within the pages here."""
    source, target = Path(app.srcdir).parent / "notebooks", Path(app.srcdir) / "tutorials"
    found = {path.name: path for path in source.glob("[0-9]*.ipynb")}
    for old in target.glob("*.ipynb"):
        if old.name not in found:
            old.unlink()
    for name, path in found.items():
        text = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        _write(target / name, text)


def _command_line(app: Sphinx) -> None:
    """Write the help of every command, as Typer renders it, for reference/command_line.md to include."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "graphlore.cli",
        "utils",
        "docs",
        "--name",
        "graphlore",
    ]
    text = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    _write(Path(app.srcdir) / "reference" / "_command_line.md", text)


def _write(path: Path, text: str) -> None:
    """Write what has changed only, so that Sphinx reads nothing twice."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", _notebooks)
    app.connect("builder-inited", _command_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
