"""The problems of the laboratory: small enough to be exact, rich enough to refute."""

from types import MappingProxyType

from sde.problems._base import Problem as Problem
from sde.problems._double_well import DoubleWell as DoubleWell
from sde.problems._logistic import Logistic as Logistic, bernoulli_entropy as bernoulli_entropy
from sde.problems._quadratic import Quadratic as Quadratic
from sde.problems._sliding_kink import SlidingKink as SlidingKink
from sde.problems._student_teacher import StudentTeacher as StudentTeacher
from sde.problems._torus import Torus as Torus

PROBLEMS = MappingProxyType(
    {
        "quadratic": Quadratic(),
        "double_well": DoubleWell(),
        "logistic": Logistic(),
        "student_teacher": StudentTeacher(),
        "torus": Torus(),
        "sliding_kink": SlidingKink(),
    }
)
"""The problems by name: losses, gradients and signals of a few examples."""
