from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pgpo_jax._files import is_object_spec
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._load import is_synthetic, load_questions
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders import exact
from pgpo_jax.tasks.sources import ColumnsConfig, read_held_out

_SPLITS = ("train", "test")


@dataclass(frozen=True)
class FileTask:
    """The questions of a file, folder or data set as a `Task`.

    The held-out questions, `questions("test", seed)`, are all of `eval_spec`. Without `eval_spec`
    they come from the source. Next to a file `train.jsonl` it is the file `test.jsonl`, and the
    same for `.json` and `.parquet`. In a data set it is the split "test", else "validation". If
    there is none of these, nothing is held out.

    Args:
        spec: source of the questions, see `load_questions`.
        eval_spec: source of the held-out questions, which may be synthetic.
        columns: the names of the columns in both sources.
        grader: called with the question and the response.

    Raises:
        ValueError: `spec` is no file, folder or data set.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "sums.jsonl")
    ...     with open(path, "w") as file:
    ...         _ = file.write('{"question": "1 + 1?", "answer": 2}')
    ...     task = FileTask(path)
    ...     questions = task.questions("train", 0)
    >>> task.grade(questions[0], "<answer>2</answer>").score
    1.0

    Added in version 0.2.0.
    """

    spec: str
    eval_spec: str | None = field(default=None, kw_only=True)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig, kw_only=True)
    grader: Callable[[Question, str], Grade] = field(default=exact, kw_only=True)
    # The questions by split, read once. So a file that changes during a run does not change the
    # run.
    _read: dict[str, tuple[Question, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if is_synthetic(self.spec) or is_object_spec(self.spec):
            raise PGPOValueError(f"FileTask.spec must be a file or data set, got {self.spec!r}")
        _check_eval_spec(self.eval_spec)

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        """The questions of a split in the order of the file, which is read once.

        `seed` matters for a synthetic `eval_spec` only.
        """
        if _checked(split) == "test" and self.eval_spec and is_synthetic(self.eval_spec):
            return load_questions(self.eval_spec, split=split, seed=seed)
        if split not in self._read:
            self._read[split] = tuple(self._questions(split))
        return self._read[split]

    def _questions(self, split: str) -> Sequence[Question]:
        if split == "train":
            return load_questions(self.spec, columns=self.columns)
        if self.eval_spec is not None:
            return load_questions(self.eval_spec, split=split, columns=self.columns)
        return read_held_out(self.spec, self.columns)

    @property
    def grades_by_grader(self) -> bool:
        """True: `grade` is what the grader says, and nothing else."""
        return True

    def grade(self, question: Question, response: str) -> Grade:
        """What the grader says."""
        return self.grader(question, response)


@dataclass(frozen=True)
class SyntheticTask:
    """Synthetic questions as an endless `Task` whose splits share neither question nor fact.

    Args:
        spec: `"synthetic:DOMAIN"` or `"synthetic-open:DOMAIN"`, see `load_questions`.
        grader: called with the question and the response.
        eval_spec: source of the held-out questions, instead of the split "test".
        columns: the names of the columns of `eval_spec`.

    Raises:
        ValueError: `spec` is no synthetic source.

    >>> SyntheticTask("synthetic:physics").questions("test", 0)[0].domain
    'physics'

    Added in version 0.2.0.
    """

    spec: str
    grader: Callable[[Question, str], Grade] = exact
    eval_spec: str | None = field(default=None, kw_only=True)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig, kw_only=True)

    def __post_init__(self) -> None:
        if not is_synthetic(self.spec):
            raise PGPOValueError(
                f"SyntheticTask.spec must be a synthetic source, got {self.spec!r}"
            )
        _check_eval_spec(self.eval_spec)
        # An unknown domain is reported here, not when training begins.
        load_questions(self.spec)

    def questions(self, split: str, seed: int) -> Sequence[Question]:
        """The endless questions of a split for a seed."""
        if _checked(split) == "test" and self.eval_spec is not None:
            columns = None if is_synthetic(self.eval_spec) else self.columns
            return load_questions(self.eval_spec, split=split, seed=seed, columns=columns)
        return load_questions(self.spec, split=split, seed=seed)

    @property
    def grades_by_grader(self) -> bool:
        """True: `grade` is what the grader says, and nothing else."""
        return True

    def grade(self, question: Question, response: str) -> Grade:
        """What the grader says."""
        return self.grader(question, response)


def _checked(split: str) -> str:
    if split not in _SPLITS:
        raise PGPOValueError(f"a split must be one of {_SPLITS}, got {split!r}")
    return split


def _check_eval_spec(spec: str | None) -> None:
    if spec is not None and is_object_spec(spec):
        raise PGPOValueError(
            f"eval_spec must be a source of questions, got {spec!r}: a task of your own gives the "
            "questions of its split 'test' itself"
        )
