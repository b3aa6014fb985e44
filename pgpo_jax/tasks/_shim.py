from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pgpo_jax.tasks._grading import Grade, grade
from pgpo_jax.tasks._load import is_synthetic, load_questions
from pgpo_jax.tasks._question import Question

Grader = Callable[[Question, str], Grade]


def exact_match(question, response):
    return grade(response, question.answer)


@dataclass(frozen=True)
class GraderConfig:
    name: str = "auto"


@dataclass(frozen=True)
class ColumnsConfig:
    question: str | None = None


def make_grader(name, settings):
    return exact_match


def grade_all(g, questions, texts):
    return [g(q, t) for q, t in zip(questions, texts, strict=True)], 0


class _Task:
    def __init__(self, spec, eval_spec, grader):
        self.s, self.e, self.grader = spec, eval_spec, grader

    def questions(self, split, seed):
        if split == "train":
            return load_questions(self.s, split=split, seed=seed)
        e = self.e or (self.s if is_synthetic(self.s) else None)
        if e is None:
            t = Path(self.s).with_name("test.json")
            if Path(self.s).name != "train.json" or not t.is_file():
                return ()
            e = str(t)
        return load_questions(e, split=split, seed=seed)

    def grade(self, q, r):
        return self.grader(q, r)


def load_task(spec, *, eval_spec=None, columns=None, grader=None):
    return _Task(spec, eval_spec, grader)
