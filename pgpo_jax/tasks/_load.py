import functools as ft
from collections.abc import Callable, Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks._sciknoweval import load_sciknoweval
from pgpo_jax.tasks.synthetic import SyntheticQuestions

# Called with the domain after the colon, and with split and seed by name.
SOURCES: dict[str, Callable[..., Sequence[Question]]] = {
    "synthetic": ft.partial(SyntheticQuestions, form="letters"),
    "synthetic-open": ft.partial(SyntheticQuestions, form="open"),
}


def is_synthetic(spec: str) -> bool:
    """Whether a spec names a synthetic source, which is endless; else it is meant to be a path.

    >>> is_synthetic("synthetic:physics"), is_synthetic("synthetic-data/train.json")
    (True, False)
    """
    name, colon, _ = spec.partition(":")
    return bool(colon) and name in SOURCES


def load_questions(spec: str, *, split: str = "train", seed: int = 0) -> Sequence[Question]:
    """Questions by name.

    Args:
        spec: `"synthetic:DOMAIN"` (physics, chemistry, biology, materials or all; answered by an
            option letter), `"synthetic-open:DOMAIN"` (answered by the value itself), or the path
            of a SciKnowEval file.
        split: `"train"` or `"test"`; synthetic sources only, since a file is a split of its own.
        seed: the stream of a synthetic source.

    Returns:
        A sequence of questions; that of a synthetic source is endless.

    Raises:
        FileNotFoundError: if `spec` is a path and there is no such file.
        ValueError: if `spec` names an unknown source or domain, or the file is malformed.
    """
    name, colon, domain = spec.partition(":")
    if is_synthetic(spec):
        return SOURCES[name](domain, split=split, seed=seed)
    if colon and "/" not in name and "\\" not in name and len(name) > 1:
        raise PGPOValueError(
            f"a task must be a file or one of {[f'{p}:DOMAIN' for p in SOURCES]}, got {spec!r}"
        )
    return load_sciknoweval(spec)
