import math
from collections.abc import Sequence

from pgpo_jax.errors import PGPOValueError
from pgpo_jax.tasks._grading import Grade
from pgpo_jax.tasks._question import Question
from pgpo_jax.tasks.graders._as_grade import as_grade
from pgpo_jax.tasks.graders._base import FailedGrade, Grader
from pgpo_jax.tasks.graders._guard import grade_rows


class WeightedGrader:
    """The weighted sum of the scores of several graders.

    The prediction is that of the first grader. The feedbacks are joined, one a line.

    >>> from pgpo_jax.tasks.graders import exact
    >>> def brevity(question, response):
    ...     long = len(response) > 10
    ...     return Grade(float(not long), feedback="Too long." if long else "")
    >>> grader = WeightedGrader([(exact, 0.75), (brevity, 0.25)])
    >>> grader(Question("q", "", "", "2 * 21?", "42"), "I think it is <answer>42</answer>")
    Grade(score=0.75, prediction='42', feedback='Too long.')

    Added in version 0.2.0.
    """

    def __init__(self, parts: Sequence[tuple[Grader, float]], *, timeout: float = 10.0) -> None:
        """A grader from others.

        Args:
            parts: graders and their weights. A negative weight is a penalty. Weights are not
                normalised.
            timeout: time limit of one row in a Python function, in seconds.

        Raises:
            ValueError: there are no parts, or a weight is zero or not finite.
        """
        if not parts:
            raise PGPOValueError("a weighted grader needs at least one grader, got none")
        for _, weight in parts:
            if not math.isfinite(weight) or not weight:
                raise PGPOValueError(
                    f"the weight of a grader must be finite and not zero, got {weight!r}"
                )
        self._parts, self._timeout = list(parts), timeout

    def __call__(self, question: Question, response: str) -> Grade:
        """The grade of one response; errors of the parts are not caught."""
        return self._sum([as_grade(grader(question, response)) for grader, _ in self._parts])

    def grade_many(self, questions: Sequence[Question], responses: Sequence[str]) -> list[Grade]:
        """Grade many responses; a row that a part cannot grade is a `FailedGrade`."""
        columns = [
            grade_rows(grader, questions, responses, self._timeout) for grader, _ in self._parts
        ]
        return [self._sum(grades) for grades in zip(*columns, strict=True)]

    def _sum(self, grades: Sequence[Grade]) -> Grade:
        for grade in grades:
            if isinstance(grade, FailedGrade):
                return grade
        weights = [weight for _, weight in self._parts]
        score = math.fsum(w * grade.score for w, grade in zip(weights, grades, strict=True))
        feedback = "\n".join(grade.feedback for grade in grades if grade.feedback.strip())
        return Grade(score, grades[0].prediction, feedback)


def parse_weights(spec: str) -> dict[str, float]:
    """The weights in `NAME=WEIGHT,NAME=WEIGHT`; a name alone has the weight 1.

    Raises:
        ValueError: a name is empty or repeated, or a weight is no number, or one of several names
            has no weight.

    >>> parse_weights("exact=0.8,rewards.py:brevity=0.2")
    {'exact': 0.8, 'rewards.py:brevity': 0.2}

    Added in version 0.2.0.
    """
    parts = [part.strip() for part in spec.split(",")]
    weights: dict[str, float] = {}
    for part in parts:
        name, equals, text = part.rpartition("=")
        if not equals:
            name, text = part, "1" if len(parts) == 1 else ""
        name = name.strip()
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not name or name in weights or not math.isfinite(weight):
            raise PGPOValueError(
                "several graders must be given as NAME=WEIGHT,NAME=WEIGHT with different names "
                f"and weights that are numbers, got {part!r} in {spec!r}"
            )
        weights[name] = weight
    return weights
