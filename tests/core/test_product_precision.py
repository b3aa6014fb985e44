"""float32 products are float32 on every platform: their precision stands in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import Precision

from pgpo_jax import distillation
from pgpo_jax._precision import product_precision

EXACT = (Precision.HIGHEST, Precision.HIGHEST)


def precisions(f, *args):
    """Of every product of a program, loops and all."""
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                found.append(equation.params["precision"])
            for inner in jax.tree.leaves(
                equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
            ):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    visit(getattr(inner, "jaxpr", inner))

    visit(jax.make_jaxpr(f)(*args).jaxpr)
    return found


def gradients(hidden, head):
    """Of both fused losses, with respect to hidden states and head."""
    tokens, mask = jnp.zeros((2, 3), jnp.int32), jnp.ones((2, 3))

    def sdpo(hidden, head):
        teacher = (hidden[::-1], head[:, ::-1])
        return distillation.sdpo_head_loss(
            hidden, teacher[0], head, teacher[1], tokens, mask, k=4
        ).loss

    def policy(hidden, head):
        return distillation.policy_head_loss(hidden, head, tokens, jnp.ones(2), mask).loss

    return [jax.grad(loss, (0, 1))(hidden, head) for loss in (sdpo, policy)]


def inputs(dtype):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=size), dtype) for size in ((2, 3, 8), (8, 32)))


@pytest.mark.parametrize(
    ("dtypes", "want"),
    [(("float32",) * 2, EXACT), (("bfloat16", "float32"), EXACT), (("bfloat16",) * 2, None)],
)
def test_products_with_the_vocabulary(dtypes, want):
    hidden, head = (x.astype(d) for x, d in zip(inputs("float32"), dtypes, strict=True))
    # Student and teacher forward, and two for the gradients; then the same without a teacher.
    assert precisions(gradients, hidden, head) == [want] * 7


def test_a_cpu_computes_the_same_digits():
    """What the default would have given, to the last bit."""
    hidden, head = inputs("float32")

    def logits(precision):
        return jax.jit(
            lambda a, b: jnp.einsum(
                "...d,dv->...v", a, b, precision=precision, preferred_element_type=jnp.float32
            )
        )(hidden, head)

    np.testing.assert_array_equal(logits(product_precision(hidden.dtype)), logits(None))
    # The control: rounded operands are not the same.
    rounded = hidden.astype(jnp.bfloat16).astype(jnp.float32) @ head
    assert np.abs(rounded - logits(None)).max() > 1e-4


@pytest.mark.parametrize(
    ("dtype", "want"),
    [
        ("float64", Precision.HIGHEST),
        ("float32", Precision.HIGHEST),
        ("bfloat16", None),
        ("float16", None),
    ],
)
def test_rule(dtype, want):
    assert product_precision(jnp.dtype(dtype)) == want
