"""An extension of griffe: examples in docstrings become blocks of code."""

from typing import Any

import griffe

from tools.docs.fenced import fenced


class DoctestFences(griffe.Extension):
    """Rewrites the docstring of each object that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
