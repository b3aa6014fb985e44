"""Value and gradient of the official SDPO loss, at numbers recorded from it (float64)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pgpo_jax import distillation

CASES = [(s, w) for s in ("full", "topk_tail") for w in (0.0, 0.5, 1.0)] + [("sampled", 1.0)]
TOLERANCE = {"float64": {"atol": 1e-10, "rtol": 0.0}, "float32": {"atol": 2e-6, "rtol": 2e-5}}


@pytest.fixture(scope="module")
def vectors():
    with np.load(Path(__file__).parent / "data" / "sdpo.npz", allow_pickle=False) as data:
        return dict(data)


def losses(vectors, dtype, support, weight, *, teacher_first=False):
    student, teacher = (jnp.asarray(vectors[f"{n}_logits"], dtype) for n in ("student", "teacher"))
    mask = jnp.asarray(vectors["response_mask"])
    signal = jnp.asarray(vectors["self_distillation_mask"])

    def loss(student):
        pair = (teacher, student) if teacher_first else (student, teacher)
        per_token = distillation.divergence(
            *pair, teacher_weight=weight, support=support, k=4, tokens=jnp.asarray(vectors["y"])
        )
        mean = distillation.aggregate(per_token, mask, signal)
        return mean, (
            per_token,
            distillation.aggregate(per_token, mask, signal, reduction="token_mean"),
        )

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(student)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("support", "weight"), CASES)
def test_value_and_gradient(x64, vectors, dtype, support, weight):
    (mean, (per_token, token_mean)), gradient = losses(vectors, dtype, support, weight)
    case = f"{support}_w{weight:g}"
    for got, name in [
        (per_token, "pt"),
        (mean, "loss_sequence_mean"),
        (token_mean, "loss_token_mean"),
        (gradient, "grad_sequence_mean"),
    ]:
        assert got.dtype == dtype
        np.testing.assert_allclose(got, vectors[f"{name}/{case}"], **TOLERANCE[dtype])


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_vectors_tell_the_two_directions_apart(x64, vectors, weight):
    """Negative control: with student and teacher exchanged nothing agrees."""
    (_, (per_token, _)), gradient = losses(vectors, "float64", "full", weight, teacher_first=True)
    assert np.abs(per_token - vectors[f"pt/full_w{weight:g}"]).max() > 1e-2
    assert not np.asarray(gradient).any()  # the second place is the teacher's: no gradient


def test_sampled_log_probabilities(x64, vectors):
    from pgpo_jax._categorical import token_log_probs

    for side in ("student", "teacher"):
        got = token_log_probs(jnp.asarray(vectors[f"{side}_logits"]), jnp.asarray(vectors["y"]))
        np.testing.assert_allclose(got, vectors[f"{side}_logp_sampled"], atol=1e-12)


def test_teacher_average_is_optax(vectors):
    """`optax.incremental_update` is the teacher update; in float32 it needs no replacement."""
    student = jnp.asarray(vectors["ema_student"], jnp.float32)
    teacher = jnp.asarray(vectors["ema_teacher0"], jnp.float32)
    for step in (1, 2, 3):
        teacher = optax.incremental_update(student, teacher, float(vectors["ema_rate"]))
        if step != 2:
            np.testing.assert_allclose(teacher, vectors[f"ema_after{step}"], rtol=2e-6)
