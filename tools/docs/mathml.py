"""Formulas as MathML, which browsers draw without scripts and without network."""

import html
import re

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves of `$...$` and `$$...$$`.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.S
)
# The letters of these stand upright; the converter does not know them by other names.
_NAMES = {r"\lVert": r"\Vert", r"\rVert": r"\Vert"}


def with_mathml(page: str) -> str:
    """A page of HTML with each formula as MathML.

    Raises:
        ValueError: a command of LaTeX that the converter does not know.
    """

    def formula(found: re.Match[str]) -> str:
        latex = html.unescape(found["latex"])
        for name, known in _NAMES.items():
            latex = latex.replace(name, known)
        made = convert(latex, display="block" if found["tag"] == "div" else "inline")
        # A line break of LaTeX is an element; what is left with a backslash was not understood.
        if unknown := re.search(r"\\[A-Za-z]+", html.unescape(made)):
            raise ValueError(f"{unknown[0]} in the formula {latex!r} is not known to latex2mathml")
        return made

    return _FORMULA.sub(formula, page)
