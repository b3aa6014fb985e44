"""The notebooks of `examples/` as pages, with what they print and draw when they run."""

import os
from pathlib import Path

import nbclient
import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from traitlets.config import Config

from tools.docs.notebook_needs import missing_modules, not_run
from tools.docs.public_api import ROOT

_SECONDS = 600
# tqdm asks for widgets, which the site has no use for.
_QUIET = {"PYTHONWARNINGS": "ignore:IProgress not found"}


def notebook_pages(folder: Path = ROOT / "examples") -> dict[str, str | bytes]:
    """Path of each page and picture, below the folder of the documentation, to its content.

    A notebook that needs a module which is not installed is a page without outputs, and says so.

    Raises:
        CellExecutionError: naming the cell that failed.
    """
    exporter = MarkdownExporter()
    # What a cell prints arrives in pieces.
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    # A kernel listens on a socket of this machine, and not on the network.
    config = Config(KernelManager={"transport": "ipc"})
    made: dict[str, str | bytes] = {}
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if missing := missing_modules(notebook.metadata):
            notebook.cells[0].source += f"\n\n{not_run(missing)}"
        else:
            # From the root of the repository, as the package is imported from there.
            where = {"metadata": {"path": str(ROOT)}}
            client = nbclient.NotebookClient(
                notebook, timeout=_SECONDS, resources=where, config=config
            )
            client.execute(env={**os.environ, **_QUIET})
        names = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        text, resources = exporter.from_notebook_node(notebook, resources=names)
        made[f"examples/{path.stem}.md"] = text
        made |= {f"examples/{name}": data for name, data in resources["outputs"].items()}
    return made
