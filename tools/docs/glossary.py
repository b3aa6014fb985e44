"""The glossary of metrics, read: docs/metrics.md."""

import re

from tools.docs.public_api import ROOT

GLOSSARY = ROOT / "docs" / "metrics.md"
# Name, unit, meaning and who logs it.
_ROW = re.compile(r"^\| `([a-z0-9_/]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.M)


def glossary(text: str) -> dict[str, str]:
    """Each metric of the page to what its last column says of who logs it.

    Raises:
        ValueError: a metric that stands in two rows.

    >>> glossary("| `loss` | nats | what is minimised | all |")
    {'loss': 'all'}
    """
    found: dict[str, str] = {}
    for name, _, _, logged_by in _ROW.findall(text):
        if name in found:
            raise ValueError(f"the metric {name!r} stands twice in the glossary")
        found[name] = logged_by
    return found
