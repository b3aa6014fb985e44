"""Graders of responses: by name, by a function of your own, or a weighted sum of several."""

from pgpo_jax.tasks.graders._as_grade import as_grade as as_grade
from pgpo_jax.tasks.graders._base import (
    BatchGrader as BatchGrader,
    FailedGrade as FailedGrade,
    Grader as Grader,
    TimedOutGrade as TimedOutGrade,
)
from pgpo_jax.tasks.graders._code import CodeGrader as CodeGrader
from pgpo_jax.tasks.graders._code_tests import tests_of as tests_of
from pgpo_jax.tasks.graders._config import GraderConfig as GraderConfig
from pgpo_jax.tasks.graders._exact import exact as exact, letter as letter
from pgpo_jax.tasks.graders._function import FunctionGrader as FunctionGrader
from pgpo_jax.tasks.graders._guard import grade_all as grade_all
from pgpo_jax.tasks.graders._math import MathGrader as MathGrader
from pgpo_jax.tasks.graders._numbers import Quantity as Quantity, parse_quantity as parse_quantity
from pgpo_jax.tasks.graders._numeric import NumericGrader as NumericGrader
from pgpo_jax.tasks.graders._program import extract_program as extract_program
from pgpo_jax.tasks.graders._registry import (
    GRADERS as GRADERS,
    make_grader as make_grader,
    weighted as weighted,
)
from pgpo_jax.tasks.graders._weighted import (
    WeightedGrader as WeightedGrader,
    parse_weights as parse_weights,
)
