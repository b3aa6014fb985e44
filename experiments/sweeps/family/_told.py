"""A grader that says something: text feedback for the synthetic questions."""

from pgpo_jax.tasks import Grade, Question
from pgpo_jax.tasks.graders import exact


def told(question: Question, response: str) -> Grade:
    """`exact`, and a wrong answer is told what it was and that it is wrong."""
    grade = exact(question, response)
    if grade.score:
        return grade
    return grade._replace(feedback=f'The answer "{grade.prediction}" is wrong.')
