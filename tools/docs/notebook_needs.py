"""What a notebook needs beside the packages that build the site.

Its metadata names modules: `"needs": ["tunix"]`. Where one is not installed the notebook is shown
and not run.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def missing_modules(metadata: Mapping[str, Any]) -> list[str]:
    """The modules that a notebook needs and this environment lacks.

    >>> missing_modules({"needs": ["json", "no_such_module"]})
    ['no_such_module']
    """
    return [name for name in metadata.get("needs", ()) if find_spec(name) is None]


def not_run(missing: list[str]) -> str:
    """What the page says of a notebook that was not run.

    >>> not_run(["tunix"]).splitlines()[1]
    '    This page was built without `tunix`, so the cells were not run. They show no outputs.'
    """
    named = ", ".join(f"`{name}`" for name in missing)
    return (
        "!!! note\n"
        f"    This page was built without {named}, so the cells were not run. They show no outputs."
    )
