r"""Finds the prose in Python source: docstrings, comments and messages, each with its line.

Sections of a docstring become lists, so that each argument begins a sentence. Examples, headings of
sections and the names in front of the entries are left out.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["docstring", "private", "comment", "message"]
# Functions that take a message: they raise it, log it or print it as an error.
MESSAGE_CALLS = frozenset({"require", "refuse", "error", "fail", "warn", "warning", "info", "exit"})
MESSAGE_KEYWORDS = frozenset({"help", "description", "epilog"})
_SECTION = re.compile(
    r"(Args|Arguments|Attributes|Examples?|Notes?|Raises|References|Returns|Yields):\s*$"
)
_ENTRIES = ("Args", "Arguments", "Attributes", "Raises")
_NAME = re.compile(r"\A[*\w`.,\[\] ]{1,80}?(?: \([^)]*\))?: ")
_PRAGMA = re.compile(r"#\s*(?:!|pyright:|type:|noqa|fmt:|ruff:|%%|pragma:)")
_SHORTEST_MESSAGE = 3


@dataclass(frozen=True)
class Text:
    """A piece of prose in Markdown; its first line stands on this line of the file (from 1)."""

    kind: Kind
    markdown: str
    line: int


def texts(source: str) -> list[Text]:
    """The prose of a file.

    "docstring" is that of a module, of a public name or of a public attribute, "private" that of
    any other name. A "message" is what an error, a warning, a log or a command's help says; each
    inserted value counts as one word.

    Args:
        source: a file of Python.

    Raises:
        SyntaxError: it is no Python.

    Examples:
        >>> [(t.kind, t.markdown) for t in texts('"Says."\\nexit("It ends now.")  # A rule.')]
        [('docstring', 'Says.'), ('message', 'It ends now.'), ('comment', 'A rule.')]
    """
    tree = ast.parse(source)
    return [*_docstrings(tree), *_messages(tree), *_comments(source)]


def markdown(docstring: str) -> str:
    """A docstring in Google's style as Markdown with as many lines, without its examples.

    Examples:
        >>> markdown("Adds.\\n\\nArgs:\\n    a: a number.\\n\\n>>> 1\\n1")
        'Adds.\\n\\n\\n- a number.\\n\\n\\n'
    """
    lines, section, shown = [], "", False
    for line in inspect.cleandoc(docstring).splitlines():
        bare = line.strip()
        shown = bool(bare) and (shown or bare.startswith(">>>"))
        if bare and not line.startswith(" "):
            section = ""
        if shown:
            lines.append("")
        elif heading := _SECTION.match(line):
            section = heading[1]
            lines.append("")
        elif section in _ENTRIES and bare and not line.startswith("     "):
            lines.append("- " + _NAME.sub("", bare, count=1))
        else:
            lines.append(bare if section else line)
    return "\n".join(lines)


def _docstrings(node: ast.AST, public: bool = True) -> Iterator[Text]:
    """Docstrings of a node and of what it defines; a string after a binding describes that."""
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return
    told = public
    for place, statement in enumerate(body):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            value = statement.value.value
            owned = place == 0 or isinstance(body[place - 1], ast.Assign | ast.AnnAssign)
            if isinstance(value, str) and owned:
                kind = "docstring" if told else "private"
                yield Text(kind, markdown(value), statement.lineno)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # What is defined inside a function is nobody's to call.
            inside = not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _docstrings(
                statement, public and inside and not statement.name.startswith("_")
            )
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _docstrings(statement, public)
        told = public and not any(name.startswith("_") for name in _bound(statement))


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _messages(tree: ast.Module) -> Iterator[Text]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            said = [*node.exc.args, *(keyword.value for keyword in node.exc.keywords)]
        elif isinstance(node, ast.Call):
            called = node.func
            name = getattr(called, "id", None) or getattr(called, "attr", None)
            said = list(node.args) if name in MESSAGE_CALLS else []
            said += [k.value for k in node.keywords if k.arg in MESSAGE_KEYWORDS]
        else:
            continue
        for argument in said:
            text = _shown(argument)
            if len(text.split()) >= _SHORTEST_MESSAGE:
                yield Text("message", text, argument.lineno)


def _shown(node: ast.expr) -> str:
    """A string as it is shown, each inserted value as one word; empty for what is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(value.value) if isinstance(value, ast.Constant) else "`value`"
            for value in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _shown(node.left), _shown(node.right)
        return f"{left or '`value`'}{right or '`value`'}" if left or right else ""
    if isinstance(node, ast.IfExp):
        return max(_shown(node.body), _shown(node.orelse), key=len)
    return ""


def _comments(source: str) -> Iterator[Text]:
    """Comments; lines that hold nothing else and follow each other are one."""
    run: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _PRAGMA.match(token.string):
            continue
        alone = not token.line[: token.start[1]].strip()
        follows = run and token.start == (run[-1].start[0] + 1, run[-1].start[1])
        if run and not (alone and follows):
            yield _joined(run)
            run = []
        run.append(token)
        if not alone:
            yield _joined(run)
            run = []
    if run:
        yield _joined(run)


def _joined(run: list[tokenize.TokenInfo]) -> Text:
    lines = (token.string.lstrip("#").strip() for token in run)
    return Text("comment", "\n".join(lines), run[0].start[0])
