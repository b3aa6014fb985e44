"""Escapes text for an HTML page."""

from html import escape

from pgpo_jax._printable import printable


def safe(text: str) -> str:
    """Any text for a page: markup is escaped, control characters are shown.

    >>> print(safe("<b>\\x1b"))
    &lt;b&gt;\\x1b
    """
    return escape(printable(text))
