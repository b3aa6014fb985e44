r"""Measures how hard the pages are to read: words a sentence and length of lines.

    python tools/prose.py                 # README.md, CONTRIBUTING.md and docs/, without docs/log
    python tools/prose.py --worst 20      # and the twenty longest sentences of all pages
    python tools/prose.py docs/theory.md  # these pages only

Headings, code blocks, tables, pictures, displayed formulas and the targets of links are left out. A
piece of inline code or an inline formula counts as one word. A list item begins a new sentence.
"""

import argparse
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_LINE = 120
ROOT = Path(__file__).parents[1]
# What is no prose: fenced code, displayed formulas, HTML comments, front matter.
_BLOCKS = re.compile(
    r"^ *(`{3,}|~{3,}).*?^ *\1[ \t]*$|^ *\$\$.*?\$\$|<!--.*?-->|\A---\n.*?^---$", re.S | re.M
)
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_NO_PROSE = re.compile(r"\s*(?:#|\||!\[|>\s*\[!|!!!|\?\?\?)")
# A full stop ends no sentence after these.
_ABBREVIATED = re.compile(r"(?:^|\W)(?:e\.g|i\.e|cf|vs|al|Eqs?|Figs?|Sec|Thm|App)\.$")
_BEGINS = re.compile(r"""[(\["'“‘]*[^\sa-z]""")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a page, and the line on which it begins (from 1)."""

    text: str
    line: int

    @property
    def words(self) -> int:
        """Pieces between white space that hold a letter or a digit."""
        return sum(any(map(str.isalnum, word)) for word in self.text.split())


@dataclass(frozen=True)
class Page:
    """What was counted on a page; `long_lines` are the numbers of the lines over the limit."""

    sentences: list[Sentence]
    long_lines: list[int]

    @property
    def median(self) -> float:
        """Median of words a sentence; 0 for a page without prose."""
        return statistics.median(s.words for s in self.sentences) if self.sentences else 0.0

    @property
    def high(self) -> int:
        """Of the sentences, 90 % have this many words or fewer."""
        words = sorted(s.words for s in self.sentences)
        return words[-(-9 * len(words) // 10) - 1] if words else 0

    @property
    def longest(self) -> Sentence:
        """The sentence with most words; the first of several."""
        return max(self.sentences, key=lambda s: s.words, default=Sentence("", 0))


def _same_lines(word: str) -> Callable[[re.Match[str]], str]:
    """Puts the word where the match was, and keeps the match's line ends behind it."""
    return lambda match: word + "\n" * match[0].count("\n")


def _plain(text: str) -> str:
    """The text without targets of links and marks of style; code and formulas are one word."""
    text = re.sub(r"`+[^`]+`+", _same_lines("Code"), text)
    text = re.sub(r"\$[^$\n]+\$", "Formula", text)
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<?https?://\S+?>?(?=[\s)]|$)", "Address", text)
    return re.sub(r"\*+|(?<!\w)_|_(?!\w)", "", text)


def _prose(text: str) -> list[str]:
    """The page's lines; those that are no prose are empty."""
    text = _BLOCKS.sub(lambda block: "\n" * block[0].count("\n"), text)
    lines, code, listed = [], False, False
    for line in text.splitlines():
        indented = line.startswith("    ") and not listed
        code = indented and (code or not lines or not lines[-1])
        if _LIST_ITEM.match(line):
            listed = True
        elif line and not line[0].isspace():
            listed = False
        lines.append("" if code or _NO_PROSE.match(line) else line.rstrip())
    return lines


def _paragraphs(lines: list[str]) -> Iterator[list[tuple[int, str]]]:
    """Runs of lines that belong together, each line with its number."""
    paragraph: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, ""], 1):
        item = _LIST_ITEM.match(line)
        if paragraph and (item or not line):
            yield paragraph
            paragraph = []
        if line:
            paragraph.append((number, line[item.end() :] if item else line))


def sentences(text: str) -> list[Sentence]:
    """The sentences of a page in Markdown.

    Examples:
        >>> [(s.words, s.line) for s in sentences("# Title\\n\\nIt runs. See [here](a.md), too.")]
        [(2, 3), (3, 3)]
    """
    found = []
    for paragraph in _paragraphs(_prose(text)):
        # The number of its line goes with each word, so that joining loses nothing.
        plain = _plain("\n".join(line for _, line in paragraph))
        numbers = [number for number, _ in paragraph]
        lines = zip(numbers, plain.split("\n"), strict=False)
        words = [(word, number) for number, line in lines for word in line.split()]
        begun: list[tuple[str, int]] = []
        for (word, number), (follower, _) in zip(words, [*words[1:], ("", 0)], strict=True):
            begun.append((word, number))
            bare = word.rstrip("\"')]”’")
            ends = bare.endswith((".", "!", "?")) and not _ABBREVIATED.search(bare)
            if not follower or (ends and _BEGINS.match(follower)):
                found.append(Sentence(" ".join(w for w, _ in begun), begun[0][1]))
                begun = []
    return [sentence for sentence in found if sentence.words]


def measure(text: str) -> Page:
    """Sentences and overlong lines of a page in Markdown.

    Examples:
        >>> page = measure("One two three. " + "Four. " * 30)
        >>> page.median, page.longest.words, page.long_lines
        (1, 3, [1])
    """
    lengths = [len(re.sub(r"\]\([^)]*\)", "]", line)) for line in _prose(text)]
    long_lines = [n for n, length in enumerate(lengths, 1) if length > LONGEST_LINE]
    return Page(sentences(text), long_lines)


def pages(root: Path = ROOT) -> list[Path]:
    """README, CONTRIBUTING and the documentation without its log."""
    front = [root / name for name in ("README.md", "CONTRIBUTING.md")]
    rest = sorted((root / "docs").rglob("*.md"))
    return [p for p in [*front, *rest] if p.exists() and root / "docs" / "log" not in p.parents]


def main(arguments: list[str] | None = None) -> None:
    """Prints the table, and the worst sentences if they are asked for."""
    parser = argparse.ArgumentParser(description="Words a sentence and length of lines, per page.")
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown files; default: all pages")
    parser.add_argument("--worst", type=int, default=0, help="print so many longest sentences")
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.pages if not path.is_file()]:
        parser.error(f"no such page: {', '.join(missing)}")
    measured = {path: measure(path.read_text("utf-8")) for path in options.pages or pages()}
    print("sentences  median  90 %  longest (line)  lines > 120  page")
    for path, page in measured.items():
        longest = f"{page.longest.words} ({page.longest.line})"
        print(
            f"{len(page.sentences):9}  {page.median:6.1f}  {page.high:4}  {longest:>14}"
            f"  {len(page.long_lines):11}  {_name(path)}"
        )
    everything = [(s, path) for path, page in measured.items() for s in page.sentences]
    for sentence, path in sorted(everything, key=lambda s: -s[0].words)[: options.worst]:
        print(f"\n{sentence.words} words, {_name(path)}:{sentence.line}\n  {sentence.text}")


def _name(path: Path) -> str:
    """The path from the root of the repository, if it lies there."""
    resolved = path.resolve()
    return str(resolved.relative_to(ROOT)) if ROOT in resolved.parents else str(path)


if __name__ == "__main__":
    main()
