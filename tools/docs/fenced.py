"""Examples in docstrings as blocks of code."""

import re

# From a prompt to the next empty line, all at the indentation of the prompt.
_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.M)


def fenced(text: str) -> str:
    """A docstring whose examples stand in fences, so that Markdown does not read `>>>` as quotes.

    >>> fenced("Adds.\\n\\n>>> 1 + 1\\n2")
    'Adds.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    """

    def block(found: re.Match[str]) -> str:
        indent = found.group(1)
        return f"{indent}```pycon\n{found.group(0)}\n{indent}```"

    return _EXAMPLE.sub(block, text)
