"""bfloat16 is for the computation: what is remembered from step to step is float32."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from pgpo_jax.models import Qwen3
from tests.training.conftest import (
    SMALL_QWEN3,
    config_state,
    config_step,
    random_experience,
    replaced,
)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [True, "dots_saveable", "dots_with_no_batch_dims_saveable"])
def test_weights_moments_and_teacher_stay_float32(small_config, remat):
    config = replaced(small_config, optimizer={"micro_batch": 2})
    model = nnx.eval_shape(
        lambda: Qwen3(SMALL_QWEN3, rngs=nnx.Rngs(0), dtype=jnp.bfloat16, remat=remat)
    )
    graphdef, params = nnx.split(model, nnx.Param)
    state = jax.eval_shape(lambda p: config_state(p, config), params)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), random_experience())
    after, metrics = jax.eval_shape(config_step(graphdef, config), state, batch)
    dtypes = lambda tree: {x.dtype for x in jax.tree.leaves(tree)}  # noqa: E731
    assert dtypes((after.params, after.teacher, metrics)) == {jnp.dtype("float32")}
    # The moments; beside them only counters.
    assert dtypes(after.opt_state) == {jnp.dtype("float32"), jnp.dtype("int32")}
    # Negative control: the computation is not.
    hidden = jax.eval_shape(
        lambda p, b: nnx.merge(graphdef, p).hidden_states(b.prompt, b.prompt_mask), params, batch
    )
    assert hidden.dtype == jnp.bfloat16
