"""Links between the files of the repository lead somewhere, also where no site is built."""

import json
import re
from pathlib import Path

import pytest

from tools.docs.public_api import ROOT

FOLDERS = ("", "docs", "docs/api", "docs/log", "examples", ".github", ".github/ISSUE_TEMPLATE")
PAGES = sorted(
    path
    for folder in FOLDERS
    for kind in ("*.md", "*.ipynb")
    for path in (ROOT / folder).glob(kind)
)
# The site fills these; their entries have no headings in the file.
FILLED = ("flags.md", "configuration.md", "api")


def prose(path: Path) -> str:
    """The Markdown of a page or notebook, without code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", text).strip()))
    return found


def dead_links(path: Path, root: Path = ROOT) -> list[str]:
    """The relative links of a page whose file or heading is not there."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.is_relative_to(root) or not file.exists():
            dead.append(link)
        elif anchor and file.suffix == ".md":
            filled = any(file.is_relative_to(root / "docs" / name) for name in FILLED)
            if not filled and anchor not in anchors(file):
                dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert dead_links(page) == []


def test_dead_links_are_told(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "there.md").write_text("# A `name` of [one](x.md)\n\n```\n](code.md)\n```")
    links = "gone.md there.md there.md#a-name-of-one there.md#no #here #of-none ../../x https://x.y"
    page = tmp_path / "docs" / "page.md"
    page.write_text("# Here\n\n" + " ".join(f"[a]({link})" for link in links.split()))
    assert dead_links(page, tmp_path) == ["gone.md", "there.md#no", "#of-none", "../../x"]
