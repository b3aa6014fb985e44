import functools as ft
from collections.abc import Callable, Sequence

from pgpo_jax._files import is_object_spec
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.sources import ColumnsConfig, is_source, read_questions
from pgpo_jax.tasks.synthetic import SyntheticQuestions

# Functions of the domain after the colon, with split and seed as keywords.
SOURCES: dict[str, Callable[..., Sequence[Question]]] = {
    "synthetic": ft.partial(SyntheticQuestions, form="letters"),
    "synthetic-open": ft.partial(SyntheticQuestions, form="open"),
}


def is_synthetic(spec: str) -> bool:
    """Whether a spec names a synthetic source, which is endless. Otherwise it is a path or an id.

    >>> is_synthetic("synthetic:physics"), is_synthetic("synthetic-data/train.json")
    (True, False)
    """
    name, colon, _ = spec.partition(":")
    return bool(colon) and name in SOURCES


def load_questions(
    spec: str, *, split: str = "train", seed: int = 0, columns: ColumnsConfig | None = None
) -> Sequence[Question]:
    """Load questions by name.

    A row of a file or data set needs a question and an answer. Columns are found by their usual
    names, which `ColumnsConfig` lists, or given by `columns`. All other columns go into
    `Question.columns`. Answers that are numbers become text: 3 and 3.0 are "3", 2.50 is "2.5". A
    row with tests (`tests`, `test_list` or `test`) may have no answer, which is then empty. Files
    in SciKnowEval's layout are recognised; see `load_sciknoweval`.

    Args:
        spec: one of

            - `"synthetic:DOMAIN"` (physics, chemistry, biology, materials or all; answered by an
              option letter) or `"synthetic-open:DOMAIN"` (answered by the value itself);
            - a file: `.jsonl` or `.json` (one row a line, or one array of rows), or `.parquet`;
            - a folder that `save_to_disk` of the library `datasets` wrote;
            - a data set of the Hugging Face Hub: `"org/name"`, or `"hf:org/name:CONFIGURATION"`.

            Parquet, folders and the Hub need the extra `data`.
        split: `"train"` or `"test"`, of a source with splits. A file, or a folder of a single
            `Dataset`, has one split only. A data set without `"test"` gives its `"validation"`.
        seed: number of the stream of a synthetic source.
        columns: the names of the columns.

    Returns:
        A sequence of questions. That of a synthetic source is endless.

    Raises:
        FileNotFoundError: there is no such file, and no such data set can be fetched.
        ValueError: `spec` names an unknown source, domain or split, or rows are malformed. For
            malformed rows the message lists every error with its line or row and its field.
        ImportError: the extra `data` is needed and not installed. The message names it.

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
