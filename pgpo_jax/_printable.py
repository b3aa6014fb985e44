"""Text of unknown origin, made safe to show."""

import unicodedata


def printable(text: str) -> str:
    """Text of unknown origin for a terminal or a page: control characters are shown, not obeyed.

    Line breaks, tabs and spaces of all widths stay as they are.

    >>> print(printable("a\\x1b[2Jb"))
    a\\x1b[2Jb

    Added in version 0.2.0.
    """
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def printable_line(text: str) -> str:
    """The same on one line: line breaks and tabs are shown, too.

    >>> print(printable_line("a\\tb"))
    a\\tb
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _harmless(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"
