"""What mkdocs calls while it builds the site: generated pages, formulas, and a check at the end."""

from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from tools.docs.api_pages import api_pages
from tools.docs.check_entries import missing_entries, missing_flags
from tools.docs.command_page import command_page
from tools.docs.mathml import with_mathml
from tools.docs.notebook_pages import notebook_pages
from tools.docs.public_api import ROOT, public_modules, undocumented
from tools.docs.settings_page import settings_page


def on_config(config: Any) -> Any:
    """Puts the pages of the API into the navigation, below the entry `API`."""
    pages = ["api/index.md", *[{name: f"api/{name}.md"} for name in public_modules()]]
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    place = next(number for number, entry in enumerate(reference) if "API" in entry)
    reference[place] = {"API": pages}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made at build time, and the examples that pages link to.

    Some of them have a page in `docs/` for those who read the files without the site, so that no
    link is dead there. The site does not show it.
    """
    made: dict[str, str | bytes] = {**api_pages(), **notebook_pages()}
    made |= {"flags.md": command_page(), "configuration.md": settings_page()}
    for path, text in made.items():
        if standing := files.get_file_from_path(path):
            files.remove(standing)
        files.append(File.generated(config, path, content=text))
    for path in sorted([*(ROOT / "examples").glob("*.py"), *(ROOT / "examples").glob("*.ipynb")]):
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Makes links from `docs/` to `examples/` and back fit the folders of the site."""
    del kwargs
    if page.file.src_uri.startswith("examples/"):
        return markdown.replace("](../docs/", "](../")
    return markdown.replace("](../examples/", "](examples/")


def on_page_content(html: str, page: Any, **kwargs: Any) -> str:
    """Formulas become MathML.

    Raises:
        PluginError: naming the page, if a formula is not understood.
    """
    del kwargs
    try:
        return with_mathml(html)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def on_post_build(config: Any) -> None:
    """Checks that every public name has an entry and a docstring, and every setting its flag.

    Raises:
        PluginError: naming what is missing.
    """
    site = Path(config.site_dir)
    if missing := [*missing_entries(site), *missing_flags(site)]:
        raise PluginError(f"not in the reference: {', '.join(missing)}")
    if silent := undocumented():
        raise PluginError(f"no docstring: {', '.join(silent)}")
