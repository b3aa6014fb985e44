import re

_FENCE = re.compile(
    r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE
)
_NAMES = ("python", "py", "python3")


def extract_program(response: str) -> str:
    """The program in a response.

    Only the text after the last `<answer>` counts, up to the first `</answer>`; without a tag, the
    whole response counts. The program is the last fenced block marked as Python, else the last
    block without a mark. Without fences, it is the text between the tags. A response with neither
    fences nor tags gives an empty string.

    >>> extract_program("First:\\n```python\\nx = 1\\n```\\nBetter:\\n```python\\nx = 2\\n```")
    'x = 2\\n'
    >>> extract_program("<answer>x = 3</answer>"), extract_program("I cannot.")
    ('x = 3', '')

    Added in version 0.2.0.
    """
    _, tag, answer = response.rpartition("<answer>")
    text = answer.partition("</answer>")[0]
    blocks = _FENCE.findall(text)
    for names in (_NAMES, ("",)):
        programs = [program for name, program in blocks if name.lower() in names]
        if programs:
            return programs[-1]
    return text.strip() if tag and not blocks else ""
