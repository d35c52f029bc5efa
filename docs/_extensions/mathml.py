"""Formulas as MathML, which a browser sets by itself: no script, no font and no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import wrap_displaymath


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    latex = node.astext()
    if "\\\\" in latex:  # several lines, aligned at &
        latex = wrap_displaymath(latex, None, False).strip().removeprefix("\\[").removesuffix("\\]")
        latex = latex.replace("{split}", "{align}")
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(convert(latex, display="block"))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
