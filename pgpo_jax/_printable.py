"""Makes text of unknown origin safe to show."""

import unicodedata


def printable(text: str) -> str:
    """Text of unknown origin for a terminal or a page, with its control characters escaped.

    Line breaks, tabs and spaces of all widths are kept.

    >>> print(printable("a\\x1b[2Jb"))
    a\\x1b[2Jb

    Added in version 0.2.0.
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def printable_line(text: str) -> str:
    """The same text on one line, with line breaks and tabs escaped too.

    >>> print(printable_line("a\\tb"))
    a\\tb
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _harmless(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"
