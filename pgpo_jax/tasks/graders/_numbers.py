import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

# Longer numbers and exponents would cost time and memory, and no answer has them.
_LONGEST, _LARGEST_EXPONENT = 100, 400

_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"


def _number(name: str) -> str:
    power = rf"\s*[*×·x]\s*10\s*\^\s*(?P<{name}_power>[-+]?\d+)"
    return rf"(?P<{name}>{_DIGITS})(?:[eE](?P<{name}_exponent>[-+]?\d+)|{power})?"


_NUMBER = re.compile(
    # A number is no part of a word (CO2), of an exponent (m^2, s^-1) or of another number.
    r"(?<![\w.,^])(?<!\^[-+])(?P<sign>(?<![\w)])[-+](?=[\d.]))?"
    rf"(?:10\s*\^\s*(?P<power>[-+]?\d+)|{_number('above')}(?:\s*/\s*{_number('below')})?)"
)
# Signs that make the last number a part of an expression, a list or a date.
_BEFORE = re.compile(r"[\d)]\s*[-+*/×·^±]\s*$")
_BEFORE_SIGN = re.compile(r"[\d)]\s*$")
_BEFORE_FRACTION = re.compile(r"\d\s+$")
_AFTER = re.compile(r"[,.]?\d|\s*/\s*\d|\s*[\\^π√±]|\s*pi\b")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|operatorname|boxed|unit|si)\s*\{([^{}]*)\}")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_REPLACED = (
    *((minus, "-") for minus in ("−", "–", "‐")),
    *((times, "×") for times in ("\\times", "✕")),
    *((dot, "·") for dot in ("\\cdot", "⋅", "∙")),
    *((space, " ") for space in ("\\,", "\\;", "\\ ", "\\!", "~")),
    *((degree, "°") for degree in ("^\\circ", "^{\\circ}", "\\degree")),
    ("\\mu", "μ"),
    ("µ", "μ"),
    ("\\Omega", "Ω"),
    ("\u2126", "Ω"),
    ("\\%", "%"),
    ("\\left", ""),
    ("\\right", ""),
    ("**", "^"),
    ("$", ""),
    ("{", ""),
    ("}", ""),
    ("\\(", ""),
    ("\\)", ""),
    ("\\[", ""),
    ("\\]", ""),
)


class Quantity(NamedTuple):
    """An exact number and the text of its unit.

    Added in version 0.2.0.
    """

    value: Fraction
    unit: str
    text: str


def parse_quantity(text: str) -> Quantity | None:
    """The last number of a text and the unit after it; `None` if the number is not clear.

    Numbers are decimal (`-2.5`, `.5`) or scientific (`1e-3`, `1.2 × 10^4`, `10^5`). They may be
    fractions of two such numbers (`3/4`, `\\frac{3}{4}`) or have commas between groups of three
    digits (`12,500`). These forms are not clear: a decimal comma, a mixed number (`1 1/2`), an
    expression (`2 + 3`, `2π`, `5 ± 1`), a division by zero, more than 100 digits, an exponent
    beyond 400. The unit is the text after the number, up to the end of the clause, sentence, line
    or text.

    >>> parse_quantity("v = 1,250.5 m/s.")[:2]
    (Fraction(2501, 2), 'm/s')
    >>> parse_quantity("about 3,5 or so") is None
    True

    Added in version 0.2.0.
    """
    text = _plain(text)
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    number = found[-1]
    before, after = text[: number.start()], text[number.end() :]
    unclear = _AFTER.match(after) or _BEFORE.search(before)
    unclear = unclear or (number["sign"] and _BEFORE_SIGN.search(before))
    if unclear or (number["below"] and _BEFORE_FRACTION.search(before)):
        return None
    value = _value(number)
    if value is None:
        return None
    unit = re.split(r"[\n;]|[,.](?=\s|$)|\s*=|\s\(", after, maxsplit=1)[0]
    return Quantity(value, _unit(unit), number[0].strip())


def _plain(text: str) -> str:
    # White space may follow the sign if nothing is before it.
    text = re.sub(r"(^|[=≈:])\s*([-+])\s+", r"\1 \2", text)
    text = _LATEX_FRACTION.sub(r"(\1)/(\2)", _LATEX_TEXT.sub(r" \1", text))
    text = re.sub(r"\((\s*[-+]?[\w.^]+\s*)\)/\((\s*[\w.^]+\s*)\)", r"\1/\2", text)
    text = _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    for old, new in _REPLACED:
        text = text.replace(old, new)
    return unicodedata.normalize("NFC", text).strip()


def _value(number: re.Match[str]) -> Fraction | None:
    sign = -1 if number["sign"] == "-" else 1
    if number["power"] is not None:
        return _scaled("1", number["power"], sign)
    above = _scaled(number["above"], number["above_exponent"] or number["above_power"], sign)
    if number["below"] is None or above is None:
        return above
    below = _scaled(number["below"], number["below_exponent"] or number["below_power"], 1)
    return above / below if below else None


def _scaled(digits: str, exponent: str | None, sign: int) -> Fraction | None:
    exponent = exponent or "0"
    if len(digits) > _LONGEST or len(exponent) > 5 or abs(int(exponent)) > _LARGEST_EXPONENT:
        return None
    return sign * Fraction(digits.replace(",", "")) * Fraction(10) ** int(exponent)


def _unit(text: str) -> str:
    text = text.strip().rstrip(".,:!?")
    if text.count(")") > text.count("("):
        text = text.rstrip(")")
    text = re.sub(r"\s*[*·×]\s*", " ", text).replace("° ", "°")
    text = re.sub(r"\s*/\s*", "/", text)
    return re.sub(r"\s*\^\s*\+?", "^", " ".join(text.split()))
