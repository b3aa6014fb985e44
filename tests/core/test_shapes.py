"""Shapes that would broadcast to another number are refused, also without a type checker."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pgpo_jax._shapes import check_pair, check_reduced
from pgpo_jax.errors import PGPOValueError
from pgpo_jax.information import ESTIMATORS

# Tests check the annotations of every call, which users do not.
AS_USERS = """
import json
import jax.numpy as jnp
from pgpo_jax import information

student, teacher = jnp.zeros((4, 1, 8)), jnp.zeros((4, 1, 8)).at[..., 0].set(4.0)
mask, told = jnp.ones((4, 1)), []

def said(*args, estimator=information.entropy_gain):
    try:
        told.append(float(estimator(*args)))
    except ValueError as error:
        told.append(str(error))

said(student, teacher, mask)
said(student[:, 0], teacher[:, 0], mask)
said(student, teacher, mask.T)
said(student, teacher, mask[:, 0])
said(student, teacher[:1], mask)
said(student, teacher, mask, mask)
said(student[..., 0], teacher[:1, :, 0], mask, estimator=information.pointwise_gain)
for per_token in information.ESTIMATORS.values():
    said(student, teacher[:1], jnp.zeros((4, 1), int), estimator=per_token)
print(json.dumps(told))
"""
SAME = "must have the same shape"
MASK = "the mask must have the shape"


def test_a_user_is_told_the_shapes():
    run = [sys.executable, "-c", AS_USERS]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    right, *wrong = json.loads(done.stdout)
    assert right == pytest.approx(1.5043, abs=1e-3)
    parts = [MASK, MASK, MASK, SAME, "sequence_mask must", SAME, *[SAME] * len(ESTIMATORS)]
    assert len(wrong) == len(parts)
    for message, part in zip(wrong, parts, strict=True):
        assert part in message
    assert "(4,)" in wrong[0]
    assert "(4, 1)" in wrong[0]


def test_shapes_of_one_batch_pass():
    check_pair(np.zeros((4, 3, 8)), np.ones((4, 3, 8)))
    check_reduced(np.zeros((4, 3)), np.ones((4, 3)), np.ones(4))
    with pytest.raises(PGPOValueError, match=r"\[batch\] = \(4,\), got \(3,\)"):
        check_reduced(np.zeros((4, 3)), np.ones((4, 3)), np.ones(3))
