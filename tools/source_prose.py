"""Measures how hard the source is to read: words a sentence in docstrings, comments and messages.

    python -m tools.source_prose                      # one row a package and kind of text
    python -m tools.source_prose --worst 20           # and the twenty longest sentences of all
    python -m tools.source_prose sde --kind message   # these folders or files, this kind only

What a text is, `tools.source_texts` says; where a sentence ends, `tools.prose`.
"""

import argparse
import dataclasses
import statistics
from collections import defaultdict
from pathlib import Path
from typing import get_args

from tools.prose import ROOT, Sentence, sentences
from tools.source_texts import Kind, texts

FOLDERS = ("pgpo_jax", "sde", "experiments", "benchmarks", "examples", "tools")
LONG = 30


@dataclasses.dataclass(frozen=True)
class Found:
    """A sentence of a file, with the kind of text that it stands in."""

    path: Path
    kind: Kind
    sentence: Sentence


def files(folder: Path) -> list[Path]:
    """The Python files of a folder, or the file itself."""
    return [folder] if folder.is_file() else sorted(folder.rglob("*.py"))


def found(path: Path) -> list[Found]:
    """The sentences of a file; their lines are those of the file."""
    return [
        Found(path, text.kind, dataclasses.replace(s, line=text.line + s.line - 1))
        for text in texts(path.read_text("utf-8"))
        for s in sentences(text.markdown)
    ]


def package(path: Path, root: Path = ROOT) -> str:
    """The package that a file is counted with: its folder, at most two levels deep."""
    resolved = path.resolve()
    folder = resolved.relative_to(root).parent if root in resolved.parents else resolved.parent
    return "/".join(folder.parts[:2]) if root in resolved.parents else str(folder)


def statistics_of(words: list[int]) -> tuple[int, float, int, int, int]:
    """Sentences, median, 90 % quantile, longest, and how many are longer than `LONG`, in words.

    Examples:
        >>> statistics_of([3, 4, 40])
        (3, 4, 40, 40, 1)
    """
    ordered = sorted(words)
    high = ordered[-(-9 * len(ordered) // 10) - 1]
    long = sum(count > LONG for count in ordered)
    return len(ordered), statistics.median(ordered), high, ordered[-1], long


def main(arguments: list[str] | None = None) -> None:
    """Prints the table, and the worst sentences if they are asked for."""
    parser = argparse.ArgumentParser(description="Words a sentence in the source, per package.")
    parser.add_argument("paths", nargs="*", type=Path, help="folders or files; default: all code")
    parser.add_argument("--kind", choices=get_args(Kind), help="count texts of this kind only")
    parser.add_argument("--worst", type=int, default=0, help="print so many longest sentences")
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.paths if not path.exists()]:
        parser.error(f"no such folder or file: {', '.join(missing)}")
    folders = options.paths or [ROOT / name for name in FOLDERS]
    everything = [
        one
        for folder in folders
        for path in files(folder)
        for one in found(path)
        if options.kind in (None, one.kind)
    ]
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in everything:
        rows[package(one.path), one.kind].append(one.sentence.words)
    print(f"sentences  median  90 %  longest  over {LONG}  kind       package")
    for (name, kind), words in sorted(rows.items()):
        count, median, high, longest, long = statistics_of(words)
        print(f"{count:9}  {median:6.1f}  {high:4}  {longest:7}  {long:7}  {kind:9}  {name}")
    for one in sorted(everything, key=lambda one: -one.sentence.words)[: options.worst]:
        place = f"{one.path.resolve()}:{one.sentence.line}".removeprefix(f"{ROOT}/")
        print(f"\n{one.sentence.words} words, {one.kind}, {place}\n  {one.sentence.text}")


if __name__ == "__main__":
    main()
