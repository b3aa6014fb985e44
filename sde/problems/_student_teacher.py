"""P4: self-distillation in miniature; the signal really is H(student) - H(teacher)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pgpo_jax.errors import PGPOValueError
from sde.problems._base import Problem
from sde.problems._logistic import bernoulli_entropy


@dataclass(frozen=True, kw_only=True)
class StudentTeacher(Problem):
    r"""$\ell_n = KL(p_n \| q_n)$, $i_n = H(p_n) - H(q_n)$ with $p_n = \sigma(a_n\theta + d_n)$.

    Eq. 2 (the loss) and Eq. 8 (the signal) of the paper for one-token answers from two words.

    Args:
        slopes: the a_n.
        shifts: the d_n.
        teacher: the teacher's probabilities q_n, in (0, 1).

    Raises:
        ValueError: a teacher's probability is outside (0, 1); or as `Problem`.

    >>> StudentTeacher().dim
    1
    """

    slopes: tuple[float, ...] = (1.0, 1.4, -0.7, 0.9, 2.0)
    shifts: tuple[float, ...] = (0.0, -0.4, 0.3, 0.8, -0.2)
    teacher: tuple[float, ...] = (0.9, 0.85, 0.2, 0.6, 0.97)
    alpha: float = 1.5
    theta0: tuple[float, ...] = (-0.8,)

    def __post_init__(self):
        super().__post_init__()
        if not all(0.0 < q < 1.0 for q in self.teacher):
            raise PGPOValueError(f"teacher must hold probabilities in (0, 1), got {self.teacher!r}")

    def _logits(self, theta: Float[Array, " d"]) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        a, d, q = (jnp.asarray(v, theta.dtype) for v in (self.slopes, self.shifts, self.teacher))
        return a * theta[0] + d, jnp.log(q) - jnp.log1p(-q)

    def losses(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        student, teacher = self._logits(theta)
        # KL of Bernoullis: p (z_p - z_q) - softplus(z_p) + softplus(z_q).
        return (
            jax.nn.sigmoid(student) * (student - teacher)
            - jax.nn.softplus(student)
            + jax.nn.softplus(teacher)
        )

    def signals(self, theta: Float[Array, " d"]) -> Float[Array, " N"]:
        student, teacher = self._logits(theta)
        return bernoulli_entropy(student) - bernoulli_entropy(teacher)
