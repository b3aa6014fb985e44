"""A teacher that is to stay as it is, while its student is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx


@pytest.mark.parametrize("cloned", [True, False])
def test_a_teacher_stays_only_if_it_is_cloned(build, tiny_config, cloned):
    student = build(tiny_config)
    graphdef, params = nnx.split(student, nnx.Param)
    # The control: merged from the student's parameters, it is the student.
    teacher = nnx.clone(student) if cloned else nnx.merge(graphdef, params)
    before = np.asarray(student.embedding[...])
    optimizer = nnx.Optimizer(student, optax.sgd(0.1), wrt=nnx.Param)
    optimizer.update(student, jax.tree.map(jnp.ones_like, params))
    assert not np.array_equal(student.embedding[...], before)
    assert np.array_equal(teacher.embedding[...], before) is cloned
