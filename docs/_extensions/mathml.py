"""Formulas as MathML, which a browser sets by itself: no script, no font and no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _mathml(latex: str, display: str) -> str:
    # the converter gives \\sim as a letter, which has no space around it
    relation = '<mo form="infix">&#x0223C;</mo>'
    return convert(latex, display=display).replace("<mi>&#x0007E;</mi>", relation)


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    latex = node.astext()
    if "\\\\" in latex:  # several lines, aligned at &
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(_mathml(latex, "block"))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
