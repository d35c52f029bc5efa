r"""Formulas as plain HTML, without MathJax: what the report needs for a generative story.

The input is the light notation that docstrings use, ``v_k ~ Beta(alpha, 1)``, or simple LaTeX,
``v_k \sim \mathrm{Beta}(\alpha, 1)``.
"""

from __future__ import annotations

import re
from html import escape

from markupsafe import Markup

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ",
    "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_SIGNS = {
    "sim": "∼", "prod": "∏", "sum": "∑", "log": "log", "exp": "exp", "in": "∈", "cdot": "·",
    "times": "×", "odot": "⊙", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "infty": "∞",
    "mid": "|", "ldots": "…", "dots": "…", "top": "⊤", "neq": "≠", "to": "→", "quad": " ",
    "mathbb": "", "mathrm": "", "text": "", "operatorname": "", "mathbf": "", "left": "",
    "right": "", "sigmoid": "sigmoid",
}  # fmt: skip
_PLAIN = {"prod": "∏", "sum": "∑", "infinity": "∞"}
_TOKEN = re.compile(
    r"(?P<code>`[^`]+`)|(?P<command>\\[A-Za-z]+)|(?P<sub>[_^])|(?P<open>\{)|(?P<close>\})"
    r"|(?P<le><=)|(?P<ge>>=)|(?P<tilde>~)|(?P<word>[A-Za-z]+)|(?P<other>\\.|.)"
)


def _tokens(text: str) -> list[tuple[str, str]]:
    return [(str(match.lastgroup), match.group()) for match in _TOKEN.finditer(text)]


def _one(kind: str, token: str) -> str:
    """Translate one token that is not a script."""
    if kind == "code":
        return f"<code>{escape(token[1:-1])}</code>"
    if kind == "command":
        name = token[1:]
        if name in _GREEK:
            return f"<i>{_GREEK[name]}</i>"
        return _SIGNS.get(name, escape(name))
    if kind in ("le", "ge", "tilde"):
        return {"le": "≤", "ge": "≥", "tilde": "∼"}[kind]
    if kind == "word":
        if token in _GREEK:
            return f"<i>{_GREEK[token]}</i>"
        if token in _PLAIN:
            return _PLAIN[token]
        return f"<i>{token}</i>" if len(token) == 1 and token not in "aI" else token
    if token in ("\\,", "\\;", "\\ ", "\\!"):
        return " "
    if token == "'":
        return "<sup>⊤</sup>"
    if token == "*":
        return "·"
    return escape(token.lstrip("\\") if len(token) > 1 else token)


def _script(tokens: list[tuple[str, str]], start: int) -> tuple[str, int]:
    """Translate what a ``_`` or ``^`` binds: a braced or bracketed group, or one token."""
    if start >= len(tokens):
        return "", start
    kind, token = tokens[start]
    if kind == "open" or token == "(":
        depth, stop = 0, start
        while stop < len(tokens):
            depth += tokens[stop][1] in ("{", "(")
            depth -= tokens[stop][1] in ("}", ")")
            stop += 1
            if depth == 0:
                break
        inside = tokens[start + 1 : stop - 1] if depth == 0 else tokens[start + 1 : stop]
        return _walk(inside, tight=True), stop
    if kind == "word" and token not in _GREEK and len(token) <= 3:
        return f"<i>{token}</i>", start + 1
    return _one(kind, token), start + 1


def _walk(tokens: list[tuple[str, str]], *, tight: bool = False) -> str:
    parts: list[str] = []
    at = 0
    while at < len(tokens):
        kind, token = tokens[at]
        at += 1
        if kind == "sub":
            inside, at = _script(tokens, at)
            tag = "sub" if token == "_" else "sup"
            parts.append(f"<{tag}>{inside}</{tag}>")
        elif kind in ("open", "close"):
            continue
        elif tight and kind == "word" and token not in _GREEK and token not in _PLAIN:
            parts.append(f"<i>{token}</i>")
        else:
            parts.append(_one(kind, token))
    return "".join(parts)


def formula_html(text: str) -> Markup:
    r"""Turn formulas in light notation or simple LaTeX into HTML with Unicode signs.

    Everything is escaped first; ``_`` and ``^`` become sub- and superscripts, Greek names become
    letters, ``prod`` and ``sum`` become signs, single letters are set in italics, words in
    backquotes (site names) as code. ``$`` is dropped. A line becomes one formula; lines without any
    formula sign (``~ = _ ^``) are set as text.

    Args:
        text: Formulas, one a line.

    Returns:
        Safe HTML, one ``<p>`` a line.

    Example:
        >>> str(formula_html("v_k ~ Beta(alpha, 1)"))
        '<p class="formula"><i>v</i><sub><i>k</i></sub> ∼ Beta(<i>α</i>, 1)</p>'
    """
    lines = []
    for raw in text.strip().splitlines():
        line = raw.strip()
        if not line:
            continue
        if re.search(r"[~=_^\\]", line):
            body = _walk(_tokens(line.replace("$", "").replace("\\\\", "").replace("&", "")))
            lines.append(f'<p class="formula">{body}</p>')
        else:
            lines.append(f"<p>{escape(line)}</p>")
    return Markup("\n".join(lines))  # noqa: S704 - of letters, and what went through escape()
