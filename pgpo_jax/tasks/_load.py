import functools as ft
from collections.abc import Callable, Sequence

from pgpo_jax._files import is_object_spec
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.sources import ColumnsConfig, is_source, read_questions
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


def load_questions(
    spec: str, *, split: str = "train", seed: int = 0, columns: ColumnsConfig | None = None
) -> Sequence[Question]:
    """Questions by name.

    A row of a file or data set needs a question and an answer. Which columns hold what is found by
    their usual names (`ColumnsConfig` lists them), or said by `columns`; whatever has no role goes
    into `Question.columns`. Numbers as answers become text: 3 and 3.0 are "3", 2.50 is "2.5". A row
    with tests (`tests`, `test_list` or `test`) may lack an answer, which is then empty. Files in
    SciKnowEval's layout are recognised: see `load_sciknoweval`.

    Args:
        spec: one of

            - `"synthetic:DOMAIN"` (physics, chemistry, biology, materials or all; answered by an
              option letter) or `"synthetic-open:DOMAIN"` (answered by the value itself);
            - a file: `.jsonl` or `.json` (one row a line, or one array of rows), or `.parquet`;
            - a folder that `save_to_disk` of the library `datasets` wrote;
            - a data set of the Hugging Face Hub: `"org/name"`, or `"hf:org/name:CONFIGURATION"`.

            Parquet, folders and the Hub need the extra `data`.
        split: `"train"` or `"test"`, of a source that has splits; a file, or a folder of a single
            `Dataset`, is a split of its own. A data set without `"test"` gives its `"validation"`.
        seed: the stream of a synthetic source.
        columns: which columns hold what.

    Returns:
        A sequence of questions; that of a synthetic source is endless.

    Raises:
        FileNotFoundError: if there is no such file, and no such data set can be fetched.
        ValueError: if `spec` names an unknown source, domain or split; or if rows are malformed:
            then the message lists all that is wrong, each with its line or row and its field.
        ImportError: naming the extra `data`, if it is needed and not installed.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "sums.jsonl")
    ...     with open(path, "w") as file:
    ...         _ = file.write('{"question": "1 + 1?", "answer": 2, "level": "easy"}')
    ...     question = load_questions(path)[0]
    >>> question.id, question.prompt, question.answer, question.columns
    ('sums-0', '1 + 1?', '2', {'level': 'easy'})
    """
    name, _, domain = spec.partition(":")
    if is_synthetic(spec):
        if columns is not None and columns != ColumnsConfig():
            raise PGPOValueError(
                f"columns must not be given for synthetic questions, got {columns}"
            )
        return SOURCES[name](domain, split=split, seed=seed)
    if is_object_spec(spec):
        raise PGPOValueError(f"{spec!r} is a task, not a source of questions: call load_task")
    if not is_source(spec):
        raise PGPOValueError(
            f"a task must be a file, a folder of save_to_disk, a Hugging Face data set (org/name), "
            f"FILE.py:NAME or one of {[f'{p}:DOMAIN' for p in SOURCES]}, got {spec!r}"
        )
    return read_questions(spec, split, columns)
