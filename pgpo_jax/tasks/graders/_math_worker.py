"""The process that compares mathematical answers: a script that imports math-verify only.

Each line of standard input is a request `{"gold": ..., "text": ..., "seconds": ...}`. Each line of
standard output is a reply `{"status": ..., "prediction": ...}`. The first line says "ready".
"""

import contextlib
import json
import logging
import os
import re
import signal
import sys

# A short expression may have a huge value.
_MEMORY = 2 * 2**30
_MATHS = re.compile(r"\$|\\\(|\\\[|\\boxed|\\begin")
_WORD = re.compile(r"\b(?!pi\b|sqrt|sin|cos|tan|log|exp)[A-Za-z]{3,}")
_PLAIN = re.compile(r"[-+(]*[\d.][\d.,\s+\-*/^()%]*")
_REPLACED = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<=[\d.])[eE]([-+]?\d+)\b"), r" \\cdot 10^{\1}"),
    (re.compile(r"(?<![\\A-Za-z])(pi|sqrt|sin|cos|tan|log|ln|exp)(?![A-Za-z])"), r"\\\1"),
    (re.compile(r"\\sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
)


def as_latex(text: str) -> str:
    """The text with its formula between dollars, for the parser of LaTeX.

    math-verify's other parser, for plain text, is not used because it evaluates text as Python.
    """
    if _MATHS.search(text):
        return text
    text = text.strip().rstrip(".").strip()
    # A word of at least three letters makes it a sentence. Its last number or sum then counts.
    if "\\" not in text and _WORD.search(text):
        found = _PLAIN.findall(text)
        if not found:
            return ""
        text = found[-1].strip().rstrip(".,").strip()
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return f"${text}$"


def compare(gold: str, text: str) -> dict[str, str]:
    from math_verify import LatexExtractionConfig, parse, verify

    def expressions(source: str):
        return parse(
            as_latex(source),
            extraction_config=[LatexExtractionConfig()],
            fallback_mode="no_fallback",
            parsing_timeout=None,  # pyright: ignore[reportArgumentType]
        )

    right = expressions(gold)
    if not right:
        return {"status": "bad answer", "prediction": ""}
    prediction = expressions(text)
    if not prediction:
        return {"status": "nothing", "prediction": ""}
    same = verify(right, prediction, timeout_seconds=None)
    return {"status": "right" if same else "wrong", "prediction": str(prediction[0])[:1000]}


def main() -> None:
    import resource

    # Not every system has this limit. The time limit holds on all systems.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    # Only replies may appear on standard output, so other output goes elsewhere.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import math_verify  # noqa: F401

    # It warns that it has no time limit. Our limit is that this process is killed.
    logging.disable(logging.CRITICAL)
    replies.write('"ready"\n')
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        # If no parent is left to kill this process, the alarm ends it.
        signal.alarm(int(request["seconds"]) + 5)
        try:
            reply = compare(request["gold"], request["text"])
        except (Exception, RecursionError) as error:
            reply = {"status": "error", "prediction": "", "error": type(error).__name__}
        signal.alarm(0)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
